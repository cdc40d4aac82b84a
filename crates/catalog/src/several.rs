//! Several catalogues that change their schemas at once, over a network that loses and delays: they end with one schema,
//! and what was answered is in it.

use crate::{
    CatalogError, Change, Changed, Effect, Event, Machine, OperationId, Peer, Scene,
    scripts::{changed, node_id, ring_of},
};
use kula_placement::{KeyspaceSettings, Ring};
use kula_ring::{RingChange, RingError};
use kula_schema::{Schema, SchemaDigest, TableDefinition, TableKind, TableOptions, form};
use kula_testkit::Random;
use kula_types::{Mono, Name, NodeId, TableId, Timestamp};
use kula_wire::verbs::catalog::SchemaIs;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

const MEMBERS: u8 = 3;

/// On its way to a node.
enum Parcel {
    Tell { from: NodeId, is: SchemaIs },
    Pull { from: NodeId, digest: SchemaDigest },
    Hear(Event),
}

struct World {
    random: Random,
    now: Mono,
    ring: Ring,
    machines: BTreeMap<NodeId, Machine>,
    mail: BTreeMap<(Mono, u64), (NodeId, Parcel)>,
    posted: u64,
    loss_percent: u64,
    answers: BTreeMap<OperationId, Result<Changed, CatalogError>>,
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn create_table(keyspace: &str, table: &str, kind: TableKind) -> Change {
    let definition = TableDefinition { name: name(table), kind, options: TableOptions::default() };
    Change::CreateTable { keyspace: name(keyspace), definition }
}

fn create_keyspace(keyspace: &str, rf: u32) -> Change {
    let settings = KeyspaceSettings { rf, ..KeyspaceSettings::default() };
    Change::CreateKeyspace { name: name(keyspace), settings }
}

impl World {
    fn new(seed: u64, loss_percent: u64) -> World {
        let machine = |number| (node_id(number), Machine::new(Arc::new(Schema::first())));
        let mut world = World {
            random: Random::new(seed),
            now: Mono::default(),
            ring: ring_of(MEMBERS),
            machines: (1..=MEMBERS).map(machine).collect(),
            mail: BTreeMap::new(),
            posted: 0,
            loss_percent,
            answers: BTreeMap::new(),
        };
        let nodes: Vec<NodeId> = world.machines.keys().copied().collect();
        for node in nodes {
            world.post(node, Duration::ZERO, Parcel::Hear(Event::Tick));
        }
        world
    }

    fn post(&mut self, to: NodeId, after: Duration, parcel: Parcel) {
        self.posted += 1;
        self.mail.insert((self.now.after(after), self.posted), (to, parcel));
    }

    fn send(&mut self, to: NodeId, parcel: Parcel) {
        if !self.random.percent(self.loss_percent) {
            let after = Duration::from_millis(self.random.below(20) as u64);
            self.post(to, after, parcel);
        }
    }

    fn ask(&mut self, id: u64, node: u8, created: i64, change: Change) {
        let now = Timestamp::from_micros(created).unwrap();
        self.step(node_id(node), Event::Asked { id: OperationId(id), now, change });
    }

    fn step(&mut self, at: NodeId, event: Event) {
        let others = self.machines.iter().filter(|(id, _)| **id != at);
        let peer = |machine: &Machine| Peer { name: "peer".into(), digest: Some(machine.digest()) };
        let live = others.map(|(id, machine)| (*id, peer(machine))).collect();
        let mut effects = Vec::new();
        let scene = Scene { now: self.now, ring: &self.ring, live: &live };
        self.machines.get_mut(&at).unwrap().step(&scene, event, &mut effects);
        let mut stored = false;
        for effect in effects {
            match effect {
                Effect::Store { .. } => stored = true,
                Effect::Publish { .. } | Effect::Notice { .. } | Effect::PullRing { .. } => (),
                Effect::Answer { id, answer } => drop(self.answers.insert(id, answer)),
                Effect::Tell { to, is } => self.send(to, Parcel::Tell { from: at, is }),
                Effect::Pull { from, digest } => {
                    self.send(from, Parcel::Pull { from: at, digest });
                    // What transport says at the deadline, if no answer came: harmless after one.
                    self.post(at, crate::limits::ASK_WITHIN, Parcel::Hear(Event::Pulled { from, schema: None }));
                }
                Effect::Wake { after } => self.post(at, after, Parcel::Hear(Event::Woken)),
                Effect::Commit { change } => {
                    let outcome = self.commit(change);
                    let after = Duration::from_millis(5 + self.random.below(20) as u64);
                    self.post(at, after, Parcel::Hear(Event::Committed { outcome }));
                }
                Effect::Fence { cause } => panic!("{cause}"),
            }
        }
        if stored {
            self.step(at, Event::Stored { outcome: Ok(()) });
        }
    }

    /// The ring takes one change after the other.
    fn commit(&mut self, change: RingChange) -> Result<(), RingError> {
        if let RingChange::CreateKeyspace { name, settings, instead_of } = &change {
            let found = self.ring.settings(name);
            if found != instead_of.as_ref() && found != Some(settings) {
                return Err(RingError::KeyspaceDiffers { keyspace: name.clone() });
            }
        }
        self.ring = changed(&self.ring, change);
        Ok(())
    }

    fn deliver(&mut self, at: NodeId, parcel: Parcel) {
        let mine = self.machines[&at].digest();
        match parcel {
            Parcel::Tell { from, is } => {
                let answer = SchemaIs { digest: mine.0, ring_version: self.ring.version };
                self.send(from, Parcel::Hear(Event::Told { from: at, is: answer, asked: true }));
                self.step(at, Event::Told { from, is, asked: false });
            }
            Parcel::Pull { from, digest } => {
                let schema = form::encode(self.machines[&at].schema()).unwrap();
                let schema = (digest != mine).then(|| schema.into());
                self.send(from, Parcel::Hear(Event::Pulled { from: at, schema }));
            }
            Parcel::Hear(event) => {
                if matches!(event, Event::Tick) {
                    self.post(at, crate::limits::TICK, Parcel::Hear(Event::Tick));
                }
                self.step(at, event);
            }
        }
    }

    fn run_for(&mut self, span: Duration) {
        let end = self.now.after(span);
        while let Some(entry) = self.mail.first_entry()
            && entry.key().0 <= end
        {
            let ((time, _), (at, parcel)) = entry.remove_entry();
            self.now = time;
            self.deliver(at, parcel);
        }
        self.now = end;
    }

    fn schema(&self) -> &Schema {
        let mut schemas = self.machines.values().map(Machine::schema);
        let first = schemas.next().unwrap();
        assert!(schemas.all(|other| other == first), "nodes have different schemas");
        first
    }

    fn table(&self, id: u64) -> TableId {
        match &self.answers[&OperationId(id)] {
            Ok(Changed::Table(table)) => table.id,
            Err(CatalogError::TableExists { existing }) => existing.id,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_keyspace_and_a_table_made_at_once_are_one_everywhere() {
    for seed in 0..100 {
        let mut world = World::new(seed, 0);
        (1..=MEMBERS).for_each(|node| world.ask(node.into(), node, node.into(), create_keyspace("shop", 2)));
        world.run_for(Duration::from_secs(1));
        (1..=MEMBERS).for_each(|node| {
            world.ask(
                10 + u64::from(node),
                node,
                10 + i64::from(node),
                create_table("shop", "carts", TableKind::Causal),
            );
        });
        world.run_for(Duration::from_secs(1));
        let made = |id: u64| {
            matches!(
                world.answers[&OperationId(id)],
                Ok(Changed::Keyspace(_)) | Err(CatalogError::KeyspaceExists { .. })
            )
        };
        assert!((1..=3).all(made), "seed {seed}: {:?}", world.answers);
        let table = world.schema().resolve("shop", "carts").unwrap();
        assert!((11..=13).all(|id| world.table(id) == table.id), "seed {seed}");
        assert_eq!(world.schema().twins().count(), 0);
    }
}

#[test]
fn made_at_once_and_otherwise_one_wins_everywhere_and_the_others_are_told() {
    for seed in 0..100 {
        let mut world = World::new(seed, 0);
        world.ask(1, 1, 1, create_keyspace("shop", 1));
        world.ask(2, 2, 1, create_keyspace("shop", 3));
        world.ask(3, 1, 5, create_table("kv", "t", TableKind::Lww));
        world.ask(4, 3, 6, create_table("kv", "t", TableKind::Causal));
        world.run_for(Duration::from_secs(2));
        let settings = world.ring.settings(&name("shop")).unwrap().rf;
        for (id, rf) in [(1, 1), (2, 3)] {
            match &world.answers[&OperationId(id)] {
                Ok(Changed::Keyspace(_)) => assert_eq!(settings, rf, "seed {seed}"),
                Err(CatalogError::KeyspaceConflict { .. }) => assert_ne!(settings, rf, "seed {seed}"),
                other => panic!("seed {seed}: {other:?}"),
            }
        }
        let winner = world.schema().resolve("kv", "t").unwrap();
        for (id, kind) in [(3, TableKind::Lww), (4, TableKind::Causal)] {
            match &world.answers[&OperationId(id)] {
                Ok(Changed::Table(_)) => assert_eq!(winner.kind, kind, "seed {seed}"),
                Err(CatalogError::TableConflict { existing }) => assert_eq!(existing.id, winner.id, "seed {seed}"),
                other => panic!("seed {seed}: {other:?}"),
            }
        }
    }
}

#[test]
fn over_a_network_that_loses_what_is_answered_is_everywhere() {
    for seed in 0..100 {
        let mut world = World::new(seed, 30);
        for id in 1..=12u64 {
            let node = 1 + u8::try_from(world.random.below(MEMBERS.into())).unwrap();
            let table = format!("t{}", world.random.below(6));
            let change = match world.random.below(3) {
                0 => Change::DropTable { keyspace: name("kv"), name: name(&table) },
                _ => create_table("kv", &table, TableKind::Causal),
            };
            world.ask(id, node, i64::try_from(id).unwrap(), change);
            world.run_for(Duration::from_millis(300));
        }
        world.run_for(Duration::from_secs(15));
        assert_eq!(world.answers.len(), 12, "seed {seed}");
        let late = |answer: &&Result<_, CatalogError>| matches!(answer, Err(CatalogError::NotEverywhere { .. }));
        assert_eq!(world.answers.values().filter(late).count(), 0, "seed {seed}: 10 s are enough at 30 % loss");
        world.schema();
    }
}
