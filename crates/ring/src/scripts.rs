//! Runs `testdata/*.txt`: events in, every effect out, blessed snapshots beside.
//!
//! A line is `commit ID set KEYSPACE [rf=N]`, `commit ID drop KEYSPACE`, or `stored ok|full|broken`.

use crate::{CommitId, Effect, Event, Machine, RingChange, RingError, state};
use kula_disk::{DiskError, Operation};
use kula_placement::{KeyspaceSettings, Partitioner, Ring, RingFacts, RingNode, Secret};
use kula_types::{ClusterId, NodeId};
use std::{fmt::Write, sync::Arc};

pub(crate) fn node(number: u128) -> RingNode {
    RingNode {
        id: NodeId(uuid::Uuid::from_u128(number)),
        name: format!("n{number}"),
        address: format!("127.0.0.{number}:7000"),
        dc: "dc1".into(),
        rack: "a".into(),
        weight: 1,
    }
}

pub(crate) fn opening(number: u128) -> state::Opening {
    state::Opening {
        me: node(number),
        cluster_name: "test".into(),
        partitioner: Partitioner::Murmur3,
        bound: None,
        drawn: state::Drawn {
            cluster: ClusterId(uuid::Uuid::from_u128(0xc)),
            context_secret: Secret::new(*b"0123456789abcdef0123456789abcdef"),
        },
    }
}

fn event(line: &str) -> Event {
    let words: Vec<&str> = line.split_whitespace().collect();
    let id = || CommitId(words[1].parse().unwrap());
    match words[..] {
        ["commit", _, "set", name] => {
            let settings = KeyspaceSettings::default();
            Event::Commit { id: id(), change: RingChange::SetKeyspace { name: name.parse().unwrap(), settings } }
        }
        ["commit", _, "set", name, rf] => {
            let rf = rf.strip_prefix("rf=").unwrap().parse().unwrap();
            let settings = KeyspaceSettings { rf, ..KeyspaceSettings::default() };
            Event::Commit { id: id(), change: RingChange::SetKeyspace { name: name.parse().unwrap(), settings } }
        }
        ["commit", _, "drop", name] => {
            Event::Commit { id: id(), change: RingChange::DropKeyspace { name: name.parse().unwrap() } }
        }
        ["stored", "ok"] => Event::Stored { outcome: Ok(()) },
        ["stored", "full"] => Event::Stored { outcome: Err(RingError::DiskFull) },
        ["stored", "broken"] => {
            let error = DiskError::Io { operation: Operation::SyncAll, name: "ring.state".into(), errno: 5 };
            Event::Stored { outcome: Err(RingError::Disk(error)) }
        }
        _ => panic!("no such line: {line}"),
    }
}

fn shown(ring: &Ring) -> String {
    let keyspaces = ring.keyspaces.iter().map(|(name, settings)| format!("{name} rf={}", settings.rf));
    format!("ring {} [{}]", ring.version, keyspaces.collect::<Vec<_>>().join(", "))
}

fn effect_line(effect: &Effect) -> String {
    match effect {
        Effect::Store { ring } => format!("store {}", shown(ring)),
        Effect::Publish { ring } => format!("publish {}", shown(ring)),
        Effect::Answer { id, answer: Ok(ring) } => format!("answer {}: {}", id.0, shown(ring)),
        Effect::Answer { id, answer: Err(error) } => format!("answer {}: error: {error}", id.0),
        Effect::Fence { cause } => format!("fence: {cause}"),
    }
}

fn run(script: &str, ring: Ring) -> String {
    let mut machine = Machine::new(Arc::new(ring));
    let mut out = String::new();
    for line in script.lines() {
        writeln!(out, "{line}").unwrap();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut effects = Vec::new();
        machine.step(event(line), &mut effects);
        for effect in &effects {
            writeln!(out, "    {}", effect_line(effect)).unwrap();
        }
    }
    out
}

fn alone() -> Ring {
    state::open(&kula_disk::SimDisk::new(1), opening(1)).unwrap()
}

/// A ring that this version does not form: two members.
fn of_two() -> Ring {
    let mut facts: RingFacts = alone().facts().clone();
    facts.nodes.push(node(2));
    for (partition, owner) in facts.datacentres[0].owners.iter_mut().enumerate() {
        *owner = u16::from(partition % 2 == 1);
    }
    Ring::new(facts).unwrap()
}

#[test]
fn changes_become_durable_then_public_one_by_one() {
    insta::assert_snapshot!("changes_one_by_one", run(include_str!("../testdata/changes_one_by_one.txt"), alone()));
}

#[test]
fn a_disk_that_fails_fences_and_a_full_one_refuses() {
    insta::assert_snapshot!("disk_trouble", run(include_str!("../testdata/disk_trouble.txt"), alone()));
}

#[test]
fn with_two_members_nothing_is_committed_by_one() {
    insta::assert_snapshot!("two_members", run(include_str!("../testdata/two_members.txt"), of_two()));
}

#[test]
fn past_the_bound_a_commit_is_refused_and_none_is_lost() {
    let mut machine = Machine::new(Arc::new(alone()));
    let asked = crate::limits::COMMITS_WAITING_MAX as u64 + 3;
    let mut effects = Vec::new();
    for id in 0..asked {
        let change = RingChange::SetKeyspace { name: format!("k{id}").parse().unwrap(), settings: Default::default() };
        machine.step(Event::Commit { id: CommitId(id), change }, &mut effects);
    }
    while let Some(at) = effects.iter().position(|effect| matches!(effect, Effect::Store { .. })) {
        effects.remove(at);
        machine.step(Event::Stored { outcome: Ok(()) }, &mut effects);
    }
    let busy = |effect: &&Effect| matches!(effect, Effect::Answer { answer: Err(RingError::Busy { .. }), .. });
    let done = |effect: &&Effect| matches!(effect, Effect::Answer { answer: Ok(_), .. });
    // One is being stored, the bound waits, two are refused.
    assert_eq!((effects.iter().filter(busy).count(), effects.iter().filter(done).count() as u64), (2, asked - 2));
    assert_eq!(machine.ring().version, 1 + asked - 2);
}
