//! The catalogue machine: one operation at a time, in two steps where a keyspace is concerned.
//!
//! A keyspace is a name in the schema and settings in the ring. Creating commits the settings first and the name after;
//! dropping goes the other way. So a crash in between leaves settings without a keyspace, which nobody sees and the next
//! creation overwrites, and never a keyspace without settings, whose quorum nobody could count.

use crate::{CatalogError, limits};
use kula_lattice::Join;
use kula_placement::{KeyspaceSettings, Mode, Ring};
use kula_ring::{RingChange, RingError};
use kula_schema::{ChangeError, Keyspace, Schema, Table, TableDefinition};
use kula_types::{Name, Timestamp};
use std::{collections::VecDeque, sync::Arc};

/// What somebody asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    CreateKeyspace { name: Name, settings: KeyspaceSettings },
    AlterKeyspace { name: Name, settings: KeyspaceSettings },
    DropKeyspace { name: Name },
    CreateTable { keyspace: Name, definition: TableDefinition },
    DropTable { keyspace: Name, name: Name },
}

/// What became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Changed {
    Keyspace(Keyspace),
    Table(Arc<Table>),
    Dropped,
}

/// Names an operation between the machine and its shell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OperationId(pub u64);

#[derive(Debug)]
pub enum Event {
    /// `now`: the stamp of a creation.
    Asked { id: OperationId, now: Timestamp, change: Change },
    /// The ring answered the last `Effect::Commit`.
    Committed { outcome: Result<(), RingError> },
    /// The schema of the last `Effect::Store` is durable, or not.
    Stored { outcome: Result<(), CatalogError> },
}

#[derive(Debug)]
pub enum Effect {
    /// Have the ring agree, then say `Event::Committed`.
    Commit {
        change: RingChange,
    },
    /// Make this durable, then say `Event::Stored`.
    Store {
        schema: Arc<Schema>,
    },
    /// This schema is in force.
    Publish {
        schema: Arc<Schema>,
    },
    Answer {
        id: OperationId,
        answer: Result<Changed, CatalogError>,
    },
    /// The disk failed beside data: stop the node.
    Fence {
        cause: CatalogError,
    },
}

pub struct Machine {
    /// In force. Invariant: durable, and the last one published.
    schema: Arc<Schema>,
    under_way: Option<UnderWay>,
    waiting: VecDeque<(OperationId, Timestamp, Change)>,
    /// The disk failed: nothing is changed any more, the node is about to stop.
    fenced: bool,
}

/// An operation and what is left to do for it.
struct UnderWay {
    id: OperationId,
    /// The first one is being done.
    actions: VecDeque<Action>,
    /// The answer if all goes well.
    done: Changed,
}

enum Action {
    /// Settings change in the ring before the schema does, or alone.
    Commit(RingChange),
    /// Settings that no keyspace uses any more. If the ring cannot take it, they lie there unseen until a keyspace of
    /// this name is created again, so it never fails the operation.
    Tidy(RingChange),
    Store(Arc<Schema>),
}

impl Machine {
    pub fn new(schema: Arc<Schema>) -> Machine {
        Machine { schema, under_way: None, waiting: VecDeque::new(), fenced: false }
    }

    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// `ring` is the ring in force as this node knows it.
    pub fn step(&mut self, ring: &Ring, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Asked { id, now, change } if self.waiting.len() < limits::OPERATIONS_WAITING_MAX => {
                self.waiting.push_back((id, now, change));
            }
            Event::Asked { id, .. } => {
                let answer = Err(CatalogError::Busy { waiting: self.waiting.len() });
                effects.push(Effect::Answer { id, answer });
            }
            Event::Committed { outcome } => self.committed(outcome, effects),
            Event::Stored { outcome } => self.stored(outcome, effects),
        }
        while self.under_way.is_none()
            && let Some((id, now, change)) = self.waiting.pop_front()
        {
            match self.plan(ring, now, change) {
                Ok((actions, done)) => self.go_on(UnderWay { id, actions: actions.into(), done }, effects),
                Err(error) => effects.push(Effect::Answer { id, answer: Err(error) }),
            }
        }
    }

    /// What a change takes, and its answer.
    fn plan(&self, ring: &Ring, now: Timestamp, change: Change) -> Result<(Vec<Action>, Changed), CatalogError> {
        if self.fenced {
            return Err(CatalogError::Fenced);
        }
        match change {
            Change::CreateKeyspace { name, settings } => {
                offered(&settings)?;
                let (delta, keyspace) = match self.schema.create_keyspace(&name, now) {
                    Err(ChangeError::KeyspaceExists { keyspace }) if ring.settings(&name) != Some(&settings) => {
                        return Err(CatalogError::KeyspaceConflict { keyspace });
                    }
                    made => made?,
                };
                let set = Action::Commit(RingChange::SetKeyspace { name, settings });
                Ok((vec![set, self.store(delta)], Changed::Keyspace(keyspace)))
            }
            Change::AlterKeyspace { name, settings } => {
                offered(&settings)?;
                let Some(keyspace) = self.schema.keyspace(name.as_str()).cloned() else {
                    return Err(CatalogError::UnknownKeyspace { keyspace: name });
                };
                let set = Action::Commit(RingChange::SetKeyspace { name, settings });
                Ok((vec![set], Changed::Keyspace(keyspace)))
            }
            Change::DropKeyspace { name } => {
                let store = self.store(self.schema.drop_keyspace(&name)?);
                Ok((vec![store, Action::Tidy(RingChange::DropKeyspace { name })], Changed::Dropped))
            }
            Change::CreateTable { keyspace, definition } => {
                let (delta, table) = self.schema.create_table(&keyspace, &definition, now)?;
                Ok((vec![self.store(delta)], Changed::Table(table)))
            }
            Change::DropTable { keyspace, name } => {
                Ok((vec![self.store(self.schema.drop_table(&keyspace, &name)?)], Changed::Dropped))
            }
        }
    }

    /// The schema in force joined with a change.
    fn store(&self, delta: Schema) -> Action {
        let mut next = Schema::clone(&self.schema);
        next.join(delta);
        Action::Store(Arc::new(next))
    }

    /// Begins the next action, or answers.
    fn go_on(&mut self, under_way: UnderWay, effects: &mut Vec<Effect>) {
        match under_way.actions.front() {
            Some(Action::Commit(change) | Action::Tidy(change)) => {
                effects.push(Effect::Commit { change: change.clone() });
            }
            Some(Action::Store(schema)) => effects.push(Effect::Store { schema: schema.clone() }),
            None => {
                effects.push(Effect::Answer { id: under_way.id, answer: Ok(under_way.done) });
                return;
            }
        }
        self.under_way = Some(under_way);
    }

    fn committed(&mut self, outcome: Result<(), RingError>, effects: &mut Vec<Effect>) {
        let (under_way, action) = self.done();
        match (action, outcome) {
            (Action::Commit(_), Ok(())) | (Action::Tidy(_), _) => self.go_on(under_way, effects),
            (Action::Commit(_), Err(error)) => {
                effects.push(Effect::Answer { id: under_way.id, answer: Err(error.into()) });
            }
            (Action::Store(_), _) => panic!("the ring answered what the disk was asked"),
        }
    }

    fn stored(&mut self, outcome: Result<(), CatalogError>, effects: &mut Vec<Effect>) {
        let (under_way, action) = self.done();
        let Action::Store(schema) = action else { panic!("the disk answered what the ring was asked") };
        match outcome {
            Ok(()) => {
                self.schema = schema.clone();
                effects.push(Effect::Publish { schema });
                self.go_on(under_way, effects);
            }
            Err(error) => {
                if error.may_have_changed() {
                    self.fenced = true;
                    effects.push(Effect::Fence { cause: error.clone() });
                }
                effects.push(Effect::Answer { id: under_way.id, answer: Err(error) });
            }
        }
    }

    /// Takes the operation under way, and the action that was being done.
    fn done(&mut self) -> (UnderWay, Action) {
        let Some(mut under_way) = self.under_way.take() else { panic!("nothing was asked") };
        let Some(action) = under_way.actions.pop_front() else { panic!("an operation under way has an action") };
        (under_way, action)
    }
}

/// Refuses settings that this version does not keep its word on.
fn offered(settings: &KeyspaceSettings) -> Result<(), CatalogError> {
    settings.check()?;
    match settings.mode {
        Mode::Strict => Ok(()),
        Mode::Sloppy => Err(CatalogError::NotThereYet { what: "sloppy mode" }),
    }
}
