//! Runs `testdata/*.txt`: events in, every effect out, blessed snapshots beside. The ring obeys: a line `committed ok`
//! makes the change that was asked of it.
//!
//! A line is `ask ID create|alter KEYSPACE [rf=N] [mode=M]`, `ask ID drop KEYSPACE`, `ask ID table KEYSPACE.TABLE lww|causal`,
//! `ask ID drop-table KEYSPACE.TABLE`, `committed ok|full|broken`, or `stored ok|full|broken`.

use crate::{CatalogError, Change, Changed, Effect, Event, Machine, OperationId};
use kula_disk::{DiskError, Operation};
use kula_placement::{KeyspaceSettings, Partitioner, Ring, RingContextKey, RingFacts, RingNode, Secret};
use kula_ring::{RingChange, RingError};
use kula_schema::{Schema, TableDefinition, TableOptions};
use kula_types::{ClusterId, NodeId, Timestamp};
use std::{fmt::Write, sync::Arc};

pub(crate) fn ring_of_one() -> Ring {
    let me = RingNode {
        id: NodeId("00000000-0000-0000-0000-000000000001".parse().unwrap()),
        name: "n1".into(),
        address: "127.0.0.1:7000".into(),
        dc: "dc1".into(),
        rack: "a".into(),
        weight: 1,
    };
    let cluster = ClusterId("00000000-0000-0000-0000-00000000000c".parse().unwrap());
    let key = RingContextKey { id: 1, secret: Secret::new([7; 32]), retired: None };
    let mut facts = Ring::alone(cluster, "test".into(), Partitioner::Murmur3, 8, me, key).unwrap().facts().clone();
    facts.keyspaces.insert("kv".parse().unwrap(), KeyspaceSettings::default());
    Ring::new(facts).unwrap()
}

fn settings(words: &[&str]) -> KeyspaceSettings {
    let mut settings = KeyspaceSettings::default();
    for word in words {
        match word.split_once('=').unwrap() {
            ("rf", rf) => settings.rf = rf.parse().unwrap(),
            ("mode", mode) => settings.mode = mode.parse().unwrap(),
            _ => panic!("no such setting: {word}"),
        }
    }
    settings
}

fn change(words: &[&str]) -> Change {
    let table = |word: &str| {
        let (keyspace, name) = word.split_once('.').unwrap();
        (keyspace.parse().unwrap(), name.parse().unwrap())
    };
    match words {
        ["create", name, rest @ ..] => Change::CreateKeyspace { name: name.parse().unwrap(), settings: settings(rest) },
        ["alter", name, rest @ ..] => Change::AlterKeyspace { name: name.parse().unwrap(), settings: settings(rest) },
        ["drop", name] => Change::DropKeyspace { name: name.parse().unwrap() },
        ["table", word, kind] => {
            let (keyspace, name) = table(word);
            let definition = TableDefinition { name, kind: kind.parse().unwrap(), options: TableOptions::default() };
            Change::CreateTable { keyspace, definition }
        }
        ["drop-table", word] => {
            let (keyspace, name) = table(word);
            Change::DropTable { keyspace, name }
        }
        _ => panic!("no such change: {words:?}"),
    }
}

fn broken() -> DiskError {
    DiskError::Io { operation: Operation::SyncAll, name: "state".into(), errno: 5 }
}

fn shown_schema(schema: &Schema) -> String {
    let keyspace = |name: &str| {
        let tables: Vec<String> = schema.tables_of(name).map(|(table, of)| format!("{table}:{}", of.kind)).collect();
        format!("{name}({})", tables.join(" "))
    };
    schema.keyspaces().map(|(name, _)| keyspace(name)).collect::<Vec<_>>().join(" ")
}

fn shown_change(change: &RingChange) -> String {
    match change {
        RingChange::SetKeyspace { name, settings } => format!("set {name} rf={} {}", settings.rf, settings.mode),
        RingChange::DropKeyspace { name } => format!("forget {name}"),
    }
}

fn effect_line(effect: &Effect) -> String {
    match effect {
        Effect::Commit { change } => format!("commit to the ring: {}", shown_change(change)),
        Effect::Store { schema } => format!("store {}", shown_schema(schema)),
        Effect::Publish { schema } => format!("publish {}", shown_schema(schema)),
        Effect::Answer { id, answer } => match answer {
            Ok(Changed::Keyspace(keyspace)) => {
                format!("answer {}: keyspace {} generation {}", id.0, keyspace.name, keyspace.generation)
            }
            Ok(Changed::Table(table)) => {
                format!("answer {}: table {} generation {}", id.0, table.name, table.generation)
            }
            Ok(Changed::Dropped) => format!("answer {}: dropped", id.0),
            Err(error) => format!("answer {}: error: {error}", id.0),
        },
        Effect::Fence { cause } => format!("fence: {cause}"),
    }
}

fn run(script: &str) -> String {
    let mut machine = Machine::new(Arc::new(Schema::first()));
    let mut ring = ring_of_one();
    let (mut asked_of_ring, mut out) = (None, String::new());
    for (now, line) in (1i64..).zip(script.lines()) {
        writeln!(out, "{line}").unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let event = match words[..] {
            [] | ["#", ..] => continue,
            ["ask", id, ..] => Event::Asked {
                id: OperationId(id.parse().unwrap()),
                now: Timestamp::from_micros(now).unwrap(),
                change: change(&words[2..]),
            },
            ["committed", "ok"] => {
                ring = changed(&ring, asked_of_ring.take().unwrap());
                Event::Committed { outcome: Ok(()) }
            }
            ["committed", "full"] => Event::Committed { outcome: Err(RingError::DiskFull) },
            ["committed", "broken"] => Event::Committed { outcome: Err(RingError::Disk(broken())) },
            ["stored", "ok"] => Event::Stored { outcome: Ok(()) },
            ["stored", "full"] => Event::Stored { outcome: Err(CatalogError::DiskFull) },
            ["stored", "broken"] => Event::Stored { outcome: Err(CatalogError::Disk(broken())) },
            _ => panic!("no such line: {line}"),
        };
        let mut effects = Vec::new();
        machine.step(&ring, event, &mut effects);
        for effect in effects {
            writeln!(out, "    {}", effect_line(&effect)).unwrap();
            if let Effect::Commit { change } = effect {
                asked_of_ring = Some(change);
            }
        }
    }
    out
}

fn changed(ring: &Ring, change: RingChange) -> Ring {
    let mut facts = RingFacts { version: ring.version + 1, ..ring.facts().clone() };
    match change {
        RingChange::SetKeyspace { name, settings } => facts.keyspaces.extend([(name, settings)]),
        RingChange::DropKeyspace { name } => facts.keyspaces.retain(|known, _| *known != name),
    }
    Ring::new(facts).unwrap()
}

#[test]
fn keyspaces_live_in_the_ring_and_in_the_schema_in_step() {
    insta::assert_snapshot!("keyspaces", run(include_str!("../testdata/keyspaces.txt")));
}

#[test]
fn tables_are_made_dropped_and_made_anew() {
    insta::assert_snapshot!("tables", run(include_str!("../testdata/tables.txt")));
}

#[test]
fn trouble_leaves_what_was_and_says_so() {
    insta::assert_snapshot!("trouble", run(include_str!("../testdata/trouble.txt")));
}
