//! Logs and deliveries of all targets, joined: what a machine asks of its log is done here, what is left is for the shell.
//!
//! Synchronous over `Disk`, free of threads, actix and clocks, so that a model may run it through crashes and lost answers.

use crate::{
    error::HandoffError,
    machine::{Delivery, Window},
    record::Hint,
    step::{Effect, Event, Saying, Ticket},
    store::HintStore,
    target_log::{Finding, Owed, Trouble},
};
use kula_types::{Mono, NodeId};
use std::{
    collections::{BTreeMap, VecDeque},
    mem,
};

pub struct Courier {
    store: HintStore,
    deliveries: BTreeMap<NodeId, Delivery>,
    /// To be written anew with the next `settle`: bounded by what is on its way.
    requeues: Vec<(NodeId, Ticket, Hint)>,
    window: Window,
    rate: u64,
}

/// What the shell does.
#[derive(Debug)]
pub enum Order {
    /// Answered by `Event::Answered`.
    Send {
        target: NodeId,
        ticket: Ticket,
        hint: Hint,
    },
    /// So many hints need nothing more.
    Delivered {
        count: u64,
        bytes: u64,
    },
    GaveUp {
        target: NodeId,
        hint: Hint,
        why: &'static str,
    },
    /// They could not be read back.
    Lost {
        target: NodeId,
        lost: Owed,
    },
    Say {
        target: NodeId,
        saying: Saying,
    },
    Found {
        target: NodeId,
        finding: Finding,
    },
}

/// What became of each hint of a batch, in its order.
pub type Kept = Vec<Result<(), HandoffError>>;

impl Courier {
    pub fn new(store: HintStore, window: Window, rate: u64) -> Self {
        Courier { store, deliveries: BTreeMap::new(), requeues: Vec::new(), window, rate }
    }

    /// What earlier lives kept is taken up.
    pub fn start(&mut self, now: Mono, orders: &mut Vec<Order>) -> Result<(), Trouble> {
        let owed: Vec<(NodeId, u64)> = self.owed().map(|(target, owed)| (target, owed.count)).collect();
        for (target, count) in owed {
            // One at least: a log whose hints could not be counted is looked through all the same.
            self.drive(now, target, Event::Kept { count: count.max(1) }, orders)?;
        }
        Ok(())
    }

    /// Makes hints durable. Their delivery is another step, so that nobody waits for it: `Event::Kept`.
    pub fn keep(&mut self, hints: Vec<(NodeId, Hint)>) -> Result<Kept, Trouble> {
        self.store.keep(hints)
    }

    /// One event of one target, and all that follows from it now.
    pub fn drive(&mut self, now: Mono, target: NodeId, event: Event, orders: &mut Vec<Order>) -> Result<(), Trouble> {
        let mut events = VecDeque::from([event]);
        let mut effects = Vec::new();
        while let Some(event) = events.pop_front() {
            let (window, rate) = (self.window, self.rate);
            let delivery = self.deliveries.entry(target).or_insert_with(|| Delivery::new(window, rate, now));
            delivery.step(now, event, &mut effects);
            for effect in mem::take(&mut effects) {
                events.extend(self.perform(target, effect, orders)?);
            }
        }
        Ok(())
    }

    /// Writes hints that cannot be applied yet to the end of their logs: one sync a target.
    pub fn settle(&mut self, now: Mono, orders: &mut Vec<Order>) -> Result<(), Trouble> {
        let mut batches: BTreeMap<NodeId, (Vec<Ticket>, Vec<Hint>)> = BTreeMap::new();
        for (target, ticket, hint) in mem::take(&mut self.requeues) {
            let (tickets, hints) = batches.entry(target).or_default();
            tickets.push(ticket);
            hints.push(hint);
        }
        for (target, (tickets, hints)) in batches {
            let Some(log) = self.store.target(target) else { continue };
            let is_kept = passing(log.append(&hints).and_then(|()| log.sync()))?.is_some();
            for ticket in tickets {
                self.drive(now, target, Event::Requeued { ticket, is_kept }, orders)?;
            }
        }
        Ok(())
    }

    /// For idle moments: the logs note that their last batches are durable.
    pub fn seal(&mut self) -> Result<(), Trouble> {
        self.store.targets_mut().try_for_each(|(_, log)| passing(log.settle()).map(drop))
    }

    /// The next moment at which somebody wants `wake`.
    pub fn wake_at(&mut self, now: Mono) -> Option<Mono> {
        self.deliveries.values_mut().filter_map(|delivery| delivery.wake_at(now)).min()
    }

    pub fn wake(&mut self, now: Mono, orders: &mut Vec<Order>) -> Result<(), Trouble> {
        self.targets().into_iter().try_for_each(|target| self.drive(now, target, Event::Wake, orders))
    }

    /// Everybody that hints were ever kept for.
    pub fn targets(&self) -> Vec<NodeId> {
        self.deliveries.keys().copied().collect()
    }

    pub fn is_known(&self, target: NodeId) -> bool {
        self.deliveries.contains_key(&target)
    }

    pub fn owed(&self) -> impl Iterator<Item = (NodeId, Owed)> {
        self.store.targets().map(|(target, log)| (target, log.owed()))
    }

    pub fn owed_to(&mut self, target: NodeId) -> Owed {
        self.store.target(target).map(|log| log.owed()).unwrap_or_default()
    }

    #[cfg(test)]
    pub fn delivery(&self, target: NodeId) -> Option<&Delivery> {
        self.deliveries.get(&target)
    }

    fn perform(&mut self, target: NodeId, effect: Effect, orders: &mut Vec<Order>) -> Result<Option<Event>, Trouble> {
        let Some(log) = self.store.target(target) else { unreachable!("who is delivered to has a log") };
        let mut answer = None;
        match effect {
            Effect::Begin => {
                let begun = passing(log.begin_round())?;
                answer = Some(Event::Begun(begun.map(|from| (from, log.owed().count))));
            }
            Effect::Read { from, count_max, bytes_max } => {
                answer = Some(Event::Read(passing(log.read(from, count_max, bytes_max))?));
            }
            Effect::Requeue { ticket, hint } => self.requeues.push((target, ticket, hint)),
            Effect::Passed { before, count, bytes, newest } => {
                log.acknowledged(before, count, bytes, newest)?;
                orders.push(Order::Delivered { count, bytes });
            }
            Effect::Finish => {
                let lost = log.finish_round()?;
                if lost.count > 0 {
                    orders.push(Order::Lost { target, lost });
                }
            }
            Effect::Pause { before } => log.pause(before)?,
            Effect::Send { ticket, hint } => orders.push(Order::Send { target, ticket, hint }),
            Effect::GiveUp { hint, why } => orders.push(Order::GaveUp { target, hint, why }),
            Effect::Say(saying) => orders.push(Order::Say { target, saying }),
        }
        if let Some(log) = self.store.target(target) {
            orders.extend(log.take_findings().into_iter().map(|finding| Order::Found { target, finding }));
        }
        Ok(answer)
    }
}

/// What a lack of room stopped comes again.
fn passing<T>(done: Result<T, Trouble>) -> Result<Option<T>, Trouble> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(Trouble::NoRoom) => Ok(None),
        Err(broken) => Err(broken),
    }
}
