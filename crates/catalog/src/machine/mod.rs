//! The catalogue machine: one operation at a time, in two steps where a keyspace is concerned.
//!
//! A keyspace is a name in the schema and settings in the ring. Creating commits the settings first and the name after;
//! dropping goes the other way. So a crash in between leaves settings without a keyspace, which nobody sees and the next
//! creation overwrites, and never a keyspace without settings, whose quorum nobody could count.
//!
//! What is done here waits beside the next operation until the other nodes have it: `agreement`. After `Effect::Store` its
//! outcome is the next event.

mod agreement;

use crate::{CatalogError, limits};
use agreement::{Agreement, Known};
use bytes::Bytes;
use kula_lattice::Join;
use kula_placement::{KeyspaceSettings, Mode, Ring};
use kula_ring::{RingChange, RingError};
use kula_schema::{ChangeError, Keyspace, Schema, SchemaDigest, Table, TableDefinition, form};
use kula_types::{Mono, Name, NodeId, Timestamp};
use kula_wire::verbs::catalog::SchemaIs;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

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
    /// Every `limits::TICK`: compare what nodes announce.
    Tick,
    /// After `Effect::Wake`.
    Woken,
    /// A node says what it has; `asked`: in answer to what it was told.
    Told { from: NodeId, is: SchemaIs, asked: bool },
    /// A node announces another schema, or uses a table that is not known here.
    Differs { from: NodeId },
    /// The answer to `Effect::Pull`: the stored form of a schema, unless there is none or it is the same.
    Pulled { from: NodeId, schema: Option<Bytes> },
}

/// The other members that are up.
pub type Live = BTreeMap<NodeId, Peer>;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    pub name: String,
    /// What it announces by gossip.
    pub digest: Option<SchemaDigest>,
}

/// What is so around the catalogue at a step.
pub struct Scene<'a> {
    pub now: Mono,
    /// The ring in force as this node knows it.
    pub ring: &'a Ring,
    pub live: &'a Live,
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
    /// Say to a node what is in force here; its answer is an `Event::Told`.
    Tell {
        to: NodeId,
        is: SchemaIs,
    },
    /// Ask a node for its schema unless it has this one, then say `Event::Pulled`.
    Pull {
        from: NodeId,
        digest: SchemaDigest,
    },
    /// This node has a newer ring.
    PullRing {
        from: NodeId,
    },
    /// Say `Event::Woken` then.
    Wake {
        after: Duration,
    },
    Notice {
        notice: Notice,
    },
    /// The disk failed beside data: stop the node.
    Fence {
        cause: CatalogError,
    },
}

/// What an operator should find in the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Notice {
    #[error("the schema of node {from} is not joined: {why}")]
    NotJoined { from: NodeId, why: CatalogError },
}

pub struct Machine {
    /// In force. Invariant: durable, and the last one published.
    schema: Arc<Schema>,
    /// Of `schema`: it is compared often.
    digest: SchemaDigest,
    under_way: Option<UnderWay>,
    waiting: VecDeque<Waiting>,
    /// A creation that waits to see whose the settings under its name are, and until when.
    settling: Option<(Waiting, Mono)>,
    storing: Option<Storing>,
    /// Done here, not yet everywhere.
    agreeing: Vec<Agreement>,
    known: Known,
    /// The disk failed: nothing is changed any more, the node is about to stop.
    fenced: bool,
}

struct Waiting {
    id: OperationId,
    /// Stamps a creation.
    now: Timestamp,
    change: Change,
    /// It has settled, or need not.
    settled: bool,
}

/// An operation and what is left to do for it.
struct UnderWay {
    id: OperationId,
    /// The first one is being done.
    actions: VecDeque<Action>,
    /// The answer if all goes well.
    done: Changed,
}

/// What the disk works on.
enum Storing {
    /// For the operation under way.
    Operation(Arc<Schema>),
    /// Joined with what another node has.
    Joined { from: NodeId, schema: Arc<Schema> },
}

enum Action {
    /// Settings change in the ring before the schema does, or alone.
    Commit(RingChange),
    /// Settings that no keyspace uses any more. If the ring cannot take it, they lie there unseen until a keyspace of
    /// this name is created again, so it never fails the operation.
    Tidy(RingChange),
    /// The name of a keyspace whose settings are committed. What is there by then counts: nodes were heard meanwhile.
    Name(Name, Timestamp),
    /// A delta to join.
    Store(Schema),
}

impl Machine {
    pub fn new(schema: Arc<Schema>) -> Machine {
        Machine {
            digest: schema.digest(),
            schema,
            under_way: None,
            waiting: VecDeque::new(),
            settling: None,
            storing: None,
            agreeing: Vec::new(),
            known: Known::default(),
            fenced: false,
        }
    }

    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    pub fn digest(&self) -> SchemaDigest {
        self.digest
    }

    pub fn step(&mut self, scene: &Scene, event: Event, effects: &mut Vec<Effect>) {
        let awaited = matches!(event, Event::Stored { .. } | Event::Asked { .. });
        assert!(awaited || self.storing.is_none(), "the disk's outcome comes before other events");
        match event {
            Event::Asked { id, now, change } => self.enqueue(id, now, change, effects),
            Event::Committed { outcome } => self.committed(scene, outcome, effects),
            Event::Stored { outcome } => self.stored(scene, outcome, effects),
            Event::Tick => {
                self.compare(scene, effects);
                self.tell_again(scene, effects);
            }
            Event::Woken => self.tell_again(scene, effects),
            Event::Told { from, is, asked } => self.told(scene, from, is, asked, effects),
            Event::Differs { from } => self.pull(scene, from, effects),
            Event::Pulled { from, schema } => self.pulled(scene, from, schema, effects),
        }
        if self.settling.as_ref().is_some_and(|(_, until)| scene.now >= *until)
            && let Some((settled, _)) = self.settling.take()
        {
            self.waiting.push_front(Waiting { settled: true, ..settled });
        }
        while self.under_way.is_none()
            && self.settling.is_none()
            && self.storing.is_none()
            && let Some(next) = self.waiting.pop_front()
        {
            self.begin(scene, next, effects);
        }
        self.check_agreements(scene, effects);
    }

    fn begin(&mut self, scene: &Scene, next: Waiting, effects: &mut Vec<Effect>) {
        if !next.settled && self.is_half_made(scene, &next.change) {
            self.settling = Some((next, scene.now.after(limits::SETTLE)));
            effects.push(Effect::Wake { after: limits::SETTLE });
            scene.live.keys().for_each(|node| self.pull(scene, *node, effects));
            return;
        }
        let Waiting { id, now, change, .. } = next;
        match self.plan(scene.ring, now, change) {
            Ok((actions, done)) => self.go_on(scene, UnderWay { id, actions: actions.into(), done }, effects),
            Err(error) => effects.push(Effect::Answer { id, answer: Err(error) }),
        }
    }

    /// The ring holds other settings under this name and there is no keyspace: they are left over from one that was
    /// dropped, or another node is just creating it.
    fn is_half_made(&self, scene: &Scene, change: &Change) -> bool {
        let Change::CreateKeyspace { name, settings } = change else { return false };
        let others = scene.ring.settings(name).is_some_and(|found| found != settings);
        others && self.schema.keyspace(name.as_str()).is_none() && !scene.live.is_empty()
    }

    fn enqueue(&mut self, id: OperationId, now: Timestamp, change: Change, effects: &mut Vec<Effect>) {
        let waiting = self.waiting.len().max(self.agreeing.len());
        match waiting < limits::OPERATIONS_WAITING_MAX.min(limits::AGREEING_MAX) {
            true => self.waiting.push_back(Waiting { id, now, change, settled: false }),
            false => effects.push(Effect::Answer { id, answer: Err(CatalogError::Busy { waiting }) }),
        }
    }

    /// What a change takes, and its answer.
    fn plan(&self, ring: &Ring, now: Timestamp, change: Change) -> Result<(Vec<Action>, Changed), CatalogError> {
        if self.fenced {
            return Err(CatalogError::Fenced);
        }
        if ring.is_none() {
            return Err(RingError::NoRing.into());
        }
        match change {
            Change::CreateKeyspace { name, settings } => {
                offered(&settings)?;
                let keyspace = match self.schema.create_keyspace(&name, now) {
                    Err(ChangeError::KeyspaceExists { keyspace }) if ring.settings(&name) != Some(&settings) => {
                        return Err(CatalogError::KeyspaceConflict { keyspace });
                    }
                    made => made?.1,
                };
                let instead_of = ring.settings(&name).cloned();
                let set = RingChange::CreateKeyspace { name: name.clone(), settings, instead_of };
                Ok((vec![Action::Commit(set), Action::Name(name, now)], Changed::Keyspace(keyspace)))
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
                let store = Action::Store(self.schema.drop_keyspace(&name)?);
                Ok((vec![store, Action::Tidy(RingChange::DropKeyspace { name })], Changed::Dropped))
            }
            Change::CreateTable { keyspace, definition } => {
                let (delta, table) = self.schema.create_table(&keyspace, &definition, now)?;
                check_size(&self.joined(delta.clone()))?;
                Ok((vec![Action::Store(delta)], Changed::Table(table)))
            }
            Change::DropTable { keyspace, name } => {
                Ok((vec![Action::Store(self.schema.drop_table(&keyspace, &name)?)], Changed::Dropped))
            }
        }
    }

    /// The schema in force joined with a change.
    fn joined(&self, delta: Schema) -> Schema {
        let mut next = Schema::clone(&self.schema);
        next.join(delta);
        next
    }

    /// Begins the next action, or waits for the others to have what was done.
    fn go_on(&mut self, scene: &Scene, mut under_way: UnderWay, effects: &mut Vec<Effect>) {
        let delta = match under_way.actions.front() {
            Some(Action::Commit(change) | Action::Tidy(change)) => {
                effects.push(Effect::Commit { change: change.clone() });
                self.under_way = Some(under_way);
                return;
            }
            Some(Action::Name(name, now)) => match self.schema.create_keyspace(name, *now) {
                Ok((delta, keyspace)) => {
                    under_way.done = Changed::Keyspace(keyspace);
                    Ok(delta)
                }
                // Another node made the same one meanwhile: its settings were agreed on, so both are right.
                Err(ChangeError::KeyspaceExists { .. }) => Ok(Schema::default()),
                Err(error) => Err(error.into()),
            },
            Some(Action::Store(delta)) => Ok(delta.clone()),
            None => return self.agree(scene, under_way.id, under_way.done, effects),
        };
        match delta {
            Ok(delta) => {
                let schema = Arc::new(self.joined(delta));
                self.storing = Some(Storing::Operation(schema.clone()));
                effects.push(Effect::Store { schema });
                self.under_way = Some(under_way);
            }
            Err(error) => effects.push(Effect::Answer { id: under_way.id, answer: Err(error) }),
        }
    }

    fn committed(&mut self, scene: &Scene, outcome: Result<(), RingError>, effects: &mut Vec<Effect>) {
        let (under_way, action) = self.done();
        let id = under_way.id;
        match (action, outcome) {
            (Action::Commit(_), Ok(())) | (Action::Tidy(_), _) => self.go_on(scene, under_way, effects),
            (Action::Commit(_), Err(RingError::KeyspaceDiffers { keyspace })) => {
                effects.push(Effect::Answer { id, answer: Err(CatalogError::KeyspaceConflict { keyspace }) });
            }
            (Action::Commit(_), Err(error)) => effects.push(Effect::Answer { id, answer: Err(error.into()) }),
            (Action::Name(..) | Action::Store(_), _) => panic!("the ring answered what the disk was asked"),
        }
    }

    fn stored(&mut self, scene: &Scene, outcome: Result<(), CatalogError>, effects: &mut Vec<Effect>) {
        let Some(storing) = self.storing.take() else { panic!("only what was to be stored is reported as stored") };
        if let Err(cause) = &outcome
            && cause.fences()
        {
            self.fenced = true;
            effects.push(Effect::Fence { cause: cause.clone() });
        }
        match (storing, outcome) {
            (Storing::Operation(schema), Ok(())) => {
                self.publish(scene, schema, effects);
                let (under_way, _) = self.done();
                self.go_on(scene, under_way, effects);
            }
            (Storing::Operation(_), Err(error)) => {
                let (UnderWay { id, .. }, _) = self.done();
                effects.push(Effect::Answer { id, answer: Err(error) });
            }
            (Storing::Joined { schema, .. }, Ok(())) => self.publish(scene, schema, effects),
            // The next tick asks again.
            (Storing::Joined { from, .. }, Err(why)) => {
                effects.push(Effect::Notice { notice: Notice::NotJoined { from, why } });
            }
        }
    }

    /// A schema is durable: it is in force, and the others are told at once.
    fn publish(&mut self, scene: &Scene, schema: Arc<Schema>, effects: &mut Vec<Effect>) {
        if *schema == *self.schema {
            return;
        }
        (self.schema, self.digest) = (schema.clone(), schema.digest());
        effects.push(Effect::Publish { schema });
        self.tell(scene, scene.live.keys().copied(), effects);
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

/// Refuses what could not be sent to the other nodes.
fn check_size(schema: &Schema) -> Result<(), CatalogError> {
    match form::encode(schema)?.len() {
        ..=limits::SCHEMA_BYTES_MAX => Ok(()),
        _ => Err(CatalogError::Limit { what: "bytes of definitions", max: limits::SCHEMA_BYTES_MAX }),
    }
}
