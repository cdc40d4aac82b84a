//! The coordinator's actor (`coordinator/src/actor.rs`) and its way to other nodes (`remote.rs`).

use crate::refused;

use super::{Message, Out, Process, Seen, Step, Timer};
use kula_actor::{Lost, Reply};
use kula_coordinator::machine::{Answered, Effect, Event, HintAnswer, Tag, View};
use kula_handoff::{HandoffError, StoreHint};
use kula_replica::{
    Op, Origin, Outcome, ReplicaError, Request,
    verbs::{self, Outbound},
};
use kula_types::{Actor, NodeId, Token};
use std::sync::Arc;

impl Process {
    pub(super) fn coordinator(&mut self, index: usize, event: Event, step: &mut Step) {
        let (now, wall, me) = (self.now(), self.wall(), self.node);
        let (ring, schema) = (Arc::clone(&self.ring), Arc::clone(&self.schema));
        let mut effects = Vec::new();
        // Taken out: the machine asks this process whom it reaches.
        let mut machine = self.coordinators.swap_remove(index);
        let reaches = |node| node == me || self.reaches(node);
        let view = View { now, wall, me, ring: &ring, schema: &schema, reaches: &reaches };
        machine.step(&view, event, &mut effects);
        if machine.is_spent() {
            machine.renew(Actor(step.random.next()));
        }
        let wake_at = machine.wake_at();
        self.coordinators.push(machine);
        let last = self.coordinators.len() - 1;
        self.coordinators.swap(index, last);
        for effect in effects {
            self.coordinate(index, effect, step);
        }
        if let Some(at) = wake_at {
            self.arm(Timer::Coordinator(index), at, step);
        }
    }

    fn coordinate(&mut self, index: usize, effect: Effect, step: &mut Step) {
        match effect {
            Effect::Send { to, token, tag, fence, deadline, op } => {
                step.outs.push(Out::Seen(seen(index, tag, &op)));
                let reply = self.reply(index, tag);
                let request = Request { from: None, fence, deadline, op, reply };
                if to == self.node {
                    step.later.push((0, self.request_for_shard(token, request)));
                } else {
                    self.send_remote(to, token, request, step);
                }
            }
            Effect::StoreHint { request, target, token, mutation } => {
                let post = self.post.clone();
                let reply = Reply::new(move |answer: Result<Result<(), HandoffError>, Lost>| {
                    let answer = match answer {
                        Ok(Ok(())) => HintAnswer::Kept,
                        Ok(Err(error @ HandoffError::Overloaded { .. })) => {
                            post.seen(Seen::Refused { what: refused::handoff(&error) });
                            HintAnswer::Busy
                        }
                        Ok(Err(_)) | Err(Lost) => HintAnswer::NotKept,
                    };
                    let event = Box::new(Event::Hinted { request, target, answer });
                    post.message(Message::Coordinator { index, event });
                });
                step.later.push((0, Message::StoreHints { hints: vec![StoreHint { target, token, mutation, reply }] }));
            }
            Effect::PullRing { from } => step.later.push((0, Message::RingPull { from })),
            Effect::AnswerWrite { reply, answer, .. } => reply.send(answer),
            Effect::AnswerRead { reply, answer, .. } => reply.send(answer),
            Effect::AnswerScan { reply, answer, .. } => reply.send(answer),
            Effect::Hedged => step.outs.push(Out::Seen(Seen::Hedged)),
            Effect::ManySiblings { .. }
            | Effect::Hinted(_)
            | Effect::OtherRing
            | Effect::CrowdedOut
            | Effect::Repaired
            | Effect::Late => {}
        }
    }

    fn reply(&self, index: usize, tag: Tag) -> Reply<Result<Outcome, ReplicaError>> {
        let post = self.post.clone();
        Reply::new(move |answer: Result<Result<Outcome, ReplicaError>, Lost>| {
            let answer = match answer {
                Ok(Ok(outcome)) => Answered::Served(outcome),
                Ok(Err(error)) => {
                    post.seen(Seen::Refused { what: refused::replica(&error) });
                    Answered::Refused(error)
                }
                Err(Lost) => Answered::Lost,
            };
            post.message(Message::Coordinator { index, event: Box::new(Event::Replied { tag, answer }) });
        })
    }

    fn send_remote(&mut self, to: NodeId, token: Token, request: Request, step: &mut Step) {
        let name = self.membership.name_of(to).into();
        if let Some(Outbound { encoded, deadline, reply }) = verbs::outbound(request, token, name, self.now()) {
            self.request(to, encoded.lane, encoded.verb, encoded.body, Some(deadline), Some(reply), step);
        }
    }
}

fn seen(coordinator: usize, tag: Tag, op: &Op) -> Seen {
    let request = tag.request;
    match op {
        Op::Apply { mutation, origin: Origin::Client { .. } } => {
            Seen::Sent { coordinator, request, mutation: Some(mutation.clone()) }
        }
        Op::Apply { mutation, origin: Origin::Hint | Origin::Repair | Origin::Stream } => {
            Seen::Repaired { mutation: mutation.clone() }
        }
        Op::Read { .. } | Op::ReadRange { .. } => Seen::Sent { coordinator, request, mutation: None },
    }
}
