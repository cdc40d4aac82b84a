//! Hand-off's actor (`handoff/src/actor.rs`).

use super::{Message, Out, Process, Seen, Step, Timer, fence};
use crate::{refused, time::micros};
use kula_actor::{Lost, Reply};
use kula_handoff::{
    StoreHint, Trouble,
    courier::{Courier, Order},
    limits, outcome,
    record::Hint,
    step::{Event, Outcome, Ticket},
};
use kula_transport::{LinkState, TransportError};
use kula_types::{Mono, NodeId};
use kula_wire::{
    Lane, Verb, encode,
    verbs::replica::{Apply, Fence, Origin},
};
use std::{mem, time::Duration};

pub struct HandoffRoom {
    pub courier: Courier,
    waiting: Vec<StoreHint>,
    scan_at: Mono,
    seal_at: Mono,
}

impl HandoffRoom {
    pub fn new(courier: Courier) -> HandoffRoom {
        let (scan_at, seal_at) = (Mono::default(), Mono::default());
        HandoffRoom { courier, waiting: Vec::new(), scan_at, seal_at }
    }

    /// Hints not acknowledged yet.
    pub fn owed(&self) -> u64 {
        self.courier.owed().map(|(_, owed)| owed.count).sum()
    }
}

impl Process {
    pub(super) fn start_handoff(&mut self, step: &mut Step) {
        self.attempt(step, |courier, now, orders| courier.start(now, orders));
        self.hints_tick(step);
    }

    fn attempt(
        &mut self,
        step: &mut Step,
        act: impl FnOnce(&mut Courier, Mono, &mut Vec<Order>) -> Result<(), Trouble>,
    ) {
        let now = self.now();
        let mut orders = Vec::new();
        let done = act(&mut self.handoff.courier, now, &mut orders);
        for order in orders {
            self.obey(order, step);
        }
        if let Err(trouble) = done {
            fence(step, trouble);
        }
    }

    pub(super) fn store_hints(&mut self, mut hints: Vec<StoreHint>, step: &mut Step) {
        self.handoff.waiting.append(&mut hints);
        self.settle_hints(step);
    }

    fn settle_hints(&mut self, step: &mut Step) {
        self.commit_hints(step);
        self.attempt(step, |courier, now, orders| courier.settle(now, orders));
        self.arm_hints(step);
    }

    fn commit_hints(&mut self, step: &mut Step) {
        if self.handoff.waiting.is_empty() {
            return;
        }
        let stored = self.wall();
        let (mut owed, mut replies) = (Vec::new(), Vec::new());
        for StoreHint { target, token, mutation, reply } in mem::take(&mut self.handoff.waiting) {
            replies.push((target, mutation.clone(), reply));
            owed.push((target, Hint { token, stored, mutation }));
        }
        let answers = match self.handoff.courier.keep(owed) {
            Ok(answers) => answers,
            // The replies are dropped: what was written is unknown.
            Err(trouble) => return fence(step, trouble),
        };
        let mut kept = std::collections::BTreeMap::<NodeId, u64>::new();
        for ((target, mutation, reply), answer) in replies.into_iter().zip(answers) {
            match &answer {
                Ok(()) => {
                    // Said here, before a round that begins at once finds that the disk lost it.
                    step.outs.push(Out::Seen(Seen::HintKept { target, mutation }));
                    *kept.entry(target).or_default() += 1;
                }
                Err(error) => step.outs.push(Out::Seen(Seen::Refused { what: refused::handoff(error) })),
            }
            reply.send(answer);
        }
        for (target, count) in kept {
            self.attempt(step, |courier, now, orders| courier.drive(now, target, Event::Kept { count }, orders));
            self.look_at(target, step);
        }
    }

    fn obey(&mut self, order: Order, step: &mut Step) {
        match order {
            Order::Send { target, ticket, hint } => self.send_hint(target, ticket, hint, step),
            Order::Delivered { count, .. } => step.outs.push(Out::Seen(Seen::HintDelivered { count })),
            Order::GaveUp { why, .. } => step.outs.push(Out::Seen(Seen::HintGivenUp { why })),
            Order::Lost { lost, .. } => step.outs.push(Out::Seen(Seen::HintLost { count: lost.count })),
            Order::Found { finding, .. } => {
                step.outs.push(Out::Seen(Seen::HintsDamaged { what: format!("{finding:?}") }));
            }
            Order::Say { .. } => {}
        }
    }

    fn send_hint(&mut self, target: NodeId, ticket: Ticket, hint: Hint, step: &mut Step) {
        let post = self.post.clone();
        let reply = Reply::new(move |answer: Result<Result<_, TransportError>, Lost>| {
            let outcome = outcome::of_answer(answer.unwrap_or(Err(TransportError::Lost)));
            post.message(Message::HintAnswered { target, ticket, outcome });
        });
        let fence = Fence { ring_version: self.ring.version, phase: 0 };
        let apply = Apply { fence, token: hint.token, mutation: hint.mutation.into(), origin: Origin::Hint };
        match encode(&apply) {
            Ok(body) => {
                let bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
                let within = limits::DELIVER_WITHIN + Duration::from_secs(1) * bytes / limits::DELIVER_RATE_MIN;
                let deadline = self.now().after(within);
                self.request(target, Lane::Bulk, Apply::CODE, body, Some(deadline), Some(reply), step);
            }
            Err(_) => reply.send(Err(TransportError::TooLarge { bytes: 0, max: kula_wire::limits::BODY_BYTES_MAX })),
        }
    }

    fn look_at(&mut self, target: NodeId, step: &mut Step) {
        let is_up = matches!(self.peers.link_state(target), Some(LinkState::Up { .. }));
        let is_suspected = self.membership.get(target).is_some_and(|view| view.suspected_here);
        let event = Event::Reachable(is_up && !is_suspected);
        self.attempt(step, |courier, now, orders| courier.drive(now, target, event, orders));
    }

    pub(super) fn hint_answered(&mut self, target: NodeId, ticket: Ticket, outcome: Outcome, step: &mut Step) {
        let event = Event::Answered { ticket, outcome };
        self.attempt(step, |courier, now, orders| courier.drive(now, target, event, orders));
        self.settle_hints(step);
    }

    pub(super) fn hints_look(&mut self, target: NodeId, step: &mut Step) {
        if self.handoff.courier.is_known(target) {
            self.look_at(target, step);
            self.settle_hints(step);
        }
    }

    pub(super) fn hints_tick(&mut self, step: &mut Step) {
        let now = self.now();
        if now >= self.handoff.seal_at {
            self.handoff.seal_at = now.after(limits::SETTLE_EVERY);
            self.attempt(step, |courier, _, _| courier.seal());
        }
        if now >= self.handoff.scan_at {
            self.handoff.scan_at = now.after(limits::SCAN_EVERY + limits::SCAN_SPREAD / 2);
            for target in self.handoff.courier.targets() {
                self.look_at(target, step);
            }
        }
        self.settle_hints(step);
        step.later.push((micros(limits::COUNTS_EVERY), Message::HintsTick));
    }

    fn arm_hints(&mut self, step: &mut Step) {
        let now = self.now();
        if let Some(at) = self.handoff.courier.wake_at(now) {
            self.arm(Timer::Handoff, at, step);
        }
    }

    pub(super) fn hints_wake(&mut self, step: &mut Step) {
        self.attempt(step, |courier, now, orders| courier.wake(now, orders));
        self.settle_hints(step);
    }
}
