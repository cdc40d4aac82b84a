//! What clients asked and were told, call by call, and what the replicas held in the end: the observer's notes.
//!
//! It decides nothing and the oracle does not read it; what people want to know of a run (`account`) is counted from it.

use crate::{
    client::{Answer, operation_of},
    oracle::KeyId,
    plan::Wish,
    time::Micros,
    world::World,
};
use kula_coordinator::{Applied, CoordinatorError, Found};
use kula_lattice::{Join, Partition};
use kula_types::Consistency;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Put,
    Delete,
    Get,
    List,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answered,
    /// Nothing was done, and the client knows it.
    Refused,
    /// Of a write: it may have been done.
    Unknown,
    /// The node that was asked does not run.
    NobodyThere,
}

/// One request of one client.
pub struct Call {
    pub action: Action,
    /// `None`: the checker's own, in the end.
    pub client: Option<usize>,
    pub machine: usize,
    pub key: Option<KeyId>,
    pub level: Consistency,
    pub began: Micros,
    pub ended: Micros,
    pub outcome: Outcome,
    /// The operations whose values it showed.
    pub shown: Vec<usize>,
    /// Siblings that it did not show.
    pub more: u64,
}

#[derive(Default)]
pub struct History {
    /// By operation. One that is tried again is one call, to its last answer.
    pub calls: BTreeMap<usize, Call>,
    /// What the owners held in the end, joined.
    pub in_the_end: BTreeMap<KeyId, Partition>,
}

impl History {
    pub fn nobody_there(&mut self, world: &World, index: usize) {
        if let Some(operation) = world.plan.operations.get(index) {
            let (machine, client, level) = (operation.machine, operation.client, operation.level);
            self.asked(world, index, machine, client, level, None);
            self.calls.entry(index).and_modify(|call| call.outcome = Outcome::NobodyThere);
        }
    }

    pub fn asked(
        &mut self,
        world: &World,
        index: usize,
        machine: usize,
        client: usize,
        level: Consistency,
        key: Option<KeyId>,
    ) {
        let action = match world.plan.operations.get(index).map(|operation| &operation.wish) {
            Some(Wish::Add { .. } | Wish::Put { .. } | Wish::CausalPut { .. }) => Action::Put,
            Some(Wish::Delete { .. } | Wish::CausalDelete { .. }) => Action::Delete,
            Some(Wish::ReadAdded { .. } | Wish::Get { .. } | Wish::CausalGet { .. }) | None => Action::Get,
            Some(Wish::Scan { .. }) => Action::List,
            Some(
                Wish::CreateTable { .. } | Wish::DropTable | Wish::Alter { .. } | Wish::Rows { .. } | Wish::Made { .. },
            ) => return,
        };
        let client = (client != usize::MAX).then_some(client);
        let (began, ended, outcome) = (world.now, world.now, Outcome::Unknown);
        let call = Call { action, client, machine, key, level, began, ended, outcome, shown: Vec::new(), more: 0 };
        self.calls.entry(index).or_insert(call);
    }

    pub fn answered(&mut self, now: Micros, index: usize, answer: &Answer) {
        let Some(call) = self.calls.get_mut(&index) else { return };
        call.ended = now;
        call.outcome = match answer {
            Answer::Write(Ok(_)) | Answer::Scan(Ok(_)) => Outcome::Answered,
            Answer::Read(Ok(told)) => {
                (call.shown, call.more) = shown(&told.found);
                Outcome::Answered
            }
            Answer::Write(Err(error)) | Answer::Read(Err(error)) | Answer::Scan(Err(error)) => of(error.as_ref()),
            Answer::Schema(_) | Answer::Rows(_) => return,
        };
    }

    /// What an owner holds of a key when all is over.
    pub fn holds(&mut self, key: &KeyId, partition: &Partition) {
        self.in_the_end.entry(key.clone()).or_default().join(partition.clone());
    }
}

fn of(error: Option<&CoordinatorError>) -> Outcome {
    match error.map(CoordinatorError::applied) {
        Some(Applied::No) => Outcome::Refused,
        Some(Applied::Unknown) | None => Outcome::Unknown,
    }
}

fn shown(found: &Found) -> (Vec<usize>, u64) {
    match found {
        Found::Nothing => (Vec::new(), 0),
        Found::One(value) => (operation_of(&value.value).into_iter().collect(), 0),
        Found::Siblings { siblings, more } => {
            (siblings.iter().filter_map(|sibling| operation_of(&sibling.value.value)).collect(), *more)
        }
    }
}
