//! Runs `testdata/*.txt`: events in, every effect out, blessed snapshots beside. The ring obeys: a line `committed ok`
//! makes the change that was asked of it.
//!
//! A line is `ask ID create|alter KEYSPACE [rf=N] [mode=M]`, `ask ID drop KEYSPACE`, `ask ID table KEYSPACE.TABLE lww|causal`,
//! `ask ID drop-table KEYSPACE.TABLE`, `committed ok|full|broken|differs`, or `stored ok|full|files|unsynced|broken`;
//! `at MS`, `live nN...` and `announces nN same|other` set the scene; `tick`, `woken`; `told nN same|other [ring=V]` and
//! `answered nN same|other`: a node says what it has; `differs nN`; `pulled nN nothing|junk|KEYSPACE.TABLE...`: its
//! schema, which has these causal tables.

use crate::{CatalogError, Change, Changed, Effect, Event, Machine, OperationId, Peer, Scene};
use kula_disk::{DiskError, Operation};
use kula_lattice::Join;
use kula_placement::{KeyspaceSettings, Partitioner, Ring, RingContextKey, RingFacts, RingNode, Secret};
use kula_ring::{RingChange, RingError};
use kula_schema::{Schema, SchemaDigest, TableDefinition, TableKind, TableOptions, form};
use kula_types::{ClusterId, Mono, NodeId, Timestamp};
use kula_wire::verbs::catalog::SchemaIs;
use std::{collections::BTreeMap, fmt::Write, sync::Arc};

pub(crate) fn node_id(number: u8) -> NodeId {
    NodeId(format!("00000000-0000-0000-0000-0000000000{number:02}").parse().unwrap())
}

/// Ring 1 of nodes 1 to `members`.
pub(crate) fn ring_of(members: u8) -> Ring {
    let node = |number| RingNode {
        id: node_id(number),
        name: format!("n{number}"),
        address: format!("127.0.0.{number}:7000"),
        dc: "dc1".into(),
        rack: "a".into(),
        weight: 1,
    };
    let cluster = ClusterId("00000000-0000-0000-0000-00000000000c".parse().unwrap());
    let key = RingContextKey { id: 1, secret: Secret::new([7; 32]), retired: None };
    let nodes = (1..=members).map(node).collect();
    let ring = Ring::first(cluster, "test".into(), Partitioner::Murmur3, 8, nodes, key).unwrap();
    let mut facts = ring.facts().clone();
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
        RingChange::CreateKeyspace { name, settings, instead_of } => {
            let over = instead_of.as_ref().map(|old| format!(" instead of rf={}", old.rf)).unwrap_or_default();
            format!("set {name} rf={} {}, new{over}", settings.rf, settings.mode)
        }
        RingChange::DropKeyspace { name } => format!("forget {name}"),
        RingChange::MyFacts { .. } => panic!("the ring's own"),
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
        Effect::Tell { to, is } => {
            format!("{} <- mine is {}, ring {}", name(to), shown_digest(is.digest), is.ring_version)
        }
        Effect::Pull { from, digest } => format!("{} <- pull unless {}", name(from), shown_digest(digest.0)),
        Effect::PullRing { from } => format!("pull the ring of {}", name(from)),
        Effect::Wake { after } => format!("wake after {} ms", after.as_millis()),
        Effect::Notice { notice } => format!("notice: {notice}"),
        Effect::Fence { cause } => format!("fence: {cause}"),
    }
}

fn name(id: &NodeId) -> String {
    let id = id.to_string();
    format!("n{}", id[34..].trim_start_matches('0'))
}

fn shown_digest(digest: u128) -> String {
    format!("{digest:032x}")[..6].to_owned()
}

fn id(word: &str) -> NodeId {
    node_id(word[1..].parse().unwrap())
}

/// The first schema with these tables, made after everything a script makes.
fn schema_with(tables: &[&str]) -> Schema {
    let (mut schema, now) = (Schema::first(), Timestamp::from_micros(1_000).unwrap());
    for table in tables {
        let (keyspace, name) = table.split_once('.').unwrap();
        let (keyspace, name) = (keyspace.parse().unwrap(), name.parse().unwrap());
        if let Ok((delta, _)) = schema.create_keyspace(&keyspace, now) {
            schema.join(delta);
        }
        let definition = TableDefinition { name, kind: TableKind::Causal, options: TableOptions::default() };
        let (delta, _) = schema.create_table(&keyspace, &definition, now).unwrap();
        schema.join(delta);
    }
    schema
}

fn run(script: &str, mut ring: Ring) -> String {
    let mut machine = Machine::new(Arc::new(Schema::first()));
    let (mut asked_of_ring, mut out) = (None, String::new());
    let (mut mono, mut live) = (Mono::default(), BTreeMap::new());
    for (now, line) in (1i64..).zip(script.lines()) {
        writeln!(out, "{line}").unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let now = Timestamp::from_micros(now).unwrap();
        let digest = |what: &str| if what == "same" { machine.digest().0 } else { 1 };
        let version = || words.last().and_then(|word| word.strip_prefix("ring=")).map(|word| word.parse().unwrap());
        let told = |from: &str, what: &str, asked| {
            let is = SchemaIs { digest: digest(what), ring_version: version().unwrap_or(ring.version) };
            Event::Told { from: id(from), is, asked }
        };
        let event = match words[..] {
            [] | ["#", ..] => continue,
            ["at", ms] => {
                mono = Mono::from_millis(ms.parse().unwrap());
                continue;
            }
            ["live", ref nodes @ ..] => {
                let peer = |word: &&str| (id(word), Peer { name: (*word).into(), digest: None });
                live = nodes.iter().map(peer).collect();
                continue;
            }
            ["announces", who, what] => {
                live.get_mut(&id(who)).unwrap().digest = Some(SchemaDigest(digest(what)));
                continue;
            }
            ["ask", id, ..] => Event::Asked { id: OperationId(id.parse().unwrap()), now, change: change(&words[2..]) },
            ["committed", "ok"] => {
                ring = changed(&ring, asked_of_ring.take().unwrap());
                Event::Committed { outcome: Ok(()) }
            }
            ["committed", "full"] => Event::Committed { outcome: Err(RingError::DiskFull) },
            ["committed", "broken"] => Event::Committed { outcome: Err(RingError::Disk(broken())) },
            ["committed", "differs"] => {
                let error = RingError::KeyspaceDiffers { keyspace: "shop".parse().unwrap() };
                Event::Committed { outcome: Err(error) }
            }
            ["stored", "ok"] => Event::Stored { outcome: Ok(()) },
            ["stored", "full"] => Event::Stored { outcome: Err(CatalogError::DiskFull) },
            ["stored", "files"] => Event::Stored { outcome: Err(out_of_files(Operation::Create)) },
            ["stored", "unsynced"] => Event::Stored { outcome: Err(out_of_files(Operation::SyncDir)) },
            ["stored", "broken"] => Event::Stored { outcome: Err(CatalogError::Disk(broken())) },
            ["tick"] => Event::Tick,
            ["woken"] => Event::Woken,
            ["told", from, what, ..] => told(from, what, false),
            ["answered", from, what, ..] => told(from, what, true),
            ["differs", from] => Event::Differs { from: id(from) },
            ["pulled", from, "nothing"] => Event::Pulled { from: id(from), schema: None },
            ["pulled", from, "junk"] => Event::Pulled { from: id(from), schema: Some("junk".into()) },
            ["pulled", from, ref tables @ ..] => {
                let schema = form::encode(&schema_with(tables)).unwrap();
                Event::Pulled { from: id(from), schema: Some(schema.into()) }
            }
            _ => panic!("no such line: {line}"),
        };
        let mut effects = Vec::new();
        machine.step(&Scene { now: mono, ring: &ring, live: &live }, event, &mut effects);
        for effect in effects {
            writeln!(out, "    {}", effect_line(&effect)).unwrap();
            if let Effect::Commit { change } = effect {
                asked_of_ring = Some(change);
            }
        }
    }
    out
}

fn out_of_files(operation: Operation) -> CatalogError {
    DiskError::TooManyFiles { operation, name: "schema.state".into(), errno: 24 }.into()
}

/// What the ring makes of a change that is agreed on.
pub(crate) fn changed(ring: &Ring, change: RingChange) -> Ring {
    let mut facts = RingFacts { version: ring.version + 1, ..ring.facts().clone() };
    match change {
        RingChange::SetKeyspace { name, settings } | RingChange::CreateKeyspace { name, settings, .. } => {
            facts.keyspaces.extend([(name, settings)]);
        }
        RingChange::DropKeyspace { name } => facts.keyspaces.retain(|known, _| *known != name),
        RingChange::MyFacts { .. } => panic!("the ring's own"),
    }
    Ring::new(facts).unwrap()
}

#[test]
fn keyspaces_live_in_the_ring_and_in_the_schema_in_step() {
    insta::assert_snapshot!("keyspaces", run(include_str!("../testdata/keyspaces.txt"), ring_of(1)));
}

#[test]
fn tables_are_made_dropped_and_made_anew() {
    insta::assert_snapshot!("tables", run(include_str!("../testdata/tables.txt"), ring_of(1)));
}

#[test]
fn trouble_leaves_what_was_and_says_so() {
    insta::assert_snapshot!("trouble", run(include_str!("../testdata/trouble.txt"), ring_of(1)));
}

#[test]
fn a_change_is_answered_when_every_live_node_has_it() {
    insta::assert_snapshot!("agreement", run(include_str!("../testdata/agreement.txt"), ring_of(3)));
}

#[test]
fn what_others_have_is_joined() {
    insta::assert_snapshot!("hearing", run(include_str!("../testdata/hearing.txt"), ring_of(3)));
}

#[test]
fn without_a_ring_nothing_is_made_or_heard() {
    let none = Ring::none("test".into(), Partitioner::Murmur3);
    insta::assert_snapshot!("no_ring", run(include_str!("../testdata/no_ring.txt"), none));
}
