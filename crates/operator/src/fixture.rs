//! Small clusters for the tests of what operators see.

use crate::survey::{Heard, Survey};
use kula_placement::{KeyspaceSettings, Partitioner, Ring, RingContextKey, RingFacts, RingNode, Secret, limits};
use kula_types::{ClusterId, NodeId, Timestamp};
use kula_wire::verbs::status::{Health, NodeView, Sight, Stage};
use std::collections::BTreeMap;

/// Node n1 is 1.
pub fn id(number: u128) -> NodeId {
    let text = format!("\"{:08x}-0000-4000-8000-000000000000\"", number);
    serde_json::from_str(&text).unwrap()
}

fn node(number: u128) -> RingNode {
    RingNode {
        id: id(number),
        name: format!("n{number}"),
        address: format!("127.0.0.{number}:7000"),
        dc: "dc1".into(),
        rack: format!("r{number}"),
        weight: 1,
    }
}

/// Nodes n1 to n`count` and the keyspace kv with three copies.
pub fn ring(count: u128) -> Ring {
    let cluster: ClusterId = serde_json::from_str("\"0000000c-0000-4000-8000-000000000000\"").unwrap();
    let key = RingContextKey { id: 1, secret: Secret::new([7; 32]), retired: None };
    let partitions = limits::PARTITIONS_DEFAULT;
    let alone = Ring::alone(cluster, "test".into(), Partitioner::Murmur3, partitions, node(1), key).unwrap();
    let ring = if count == 1 { alone } else { alone.with_nodes((1..=count).map(node).collect()).unwrap() };
    with_keyspace(&ring, "kv", 3)
}

pub fn with_keyspace(ring: &Ring, name: &str, rf: u32) -> Ring {
    let mut facts: RingFacts = ring.facts().clone();
    facts.keyspaces.insert(name.parse().unwrap(), KeyspaceSettings { rf, ..KeyspaceSettings::default() });
    Ring::new(facts).unwrap()
}

/// How things look from n`number` while all of n1 to n`count` are well.
pub fn view(number: u128, count: u128) -> NodeView {
    let others = (1..=count).filter(|&other| other != number);
    NodeView {
        node: id(number),
        name: format!("n{number}"),
        stage: Stage::Ready,
        load_bytes: Some(182 << 20),
        shards_silent: 0,
        hints: Vec::new(),
        schema: 0x1f2e_3d4c << 96,
        ring_version: 1,
        clock: Timestamp::from_micros(1_000_000_000).unwrap(),
        stamps_ahead_ms: 5_000,
        lease_lost: false,
        free_bytes: Some(10 << 30),
        slowest: None,
        stuck: Vec::new(),
        cut_off: false,
        sees: others.map(|other| sight(other, Health::Up, 60_000)).collect(),
        refused: Vec::new(),
    }
}

pub fn sight(number: u128, health: Health, since_ms: u64) -> Sight {
    Sight { node: id(number), name: format!("n{number}"), health, since_ms }
}

pub fn heard(view: NodeView) -> Heard {
    let at = |micros: i64| Timestamp::from_micros(1_000_000_000 + micros).unwrap();
    Heard::View { view, asked: at(-2_000), came: at(2_000) }
}

/// What n1 finds when everybody is well and answers.
pub fn survey(ring: &Ring) -> Survey<'_> {
    let count = u128::try_from(ring.nodes.len()).unwrap();
    Survey {
        ring,
        mine: view(1, count),
        running_ms: 60_000,
        waits_for: None,
        others: (2..=count).map(|number| (id(number), heard(view(number, count)))).collect(),
        sources: BTreeMap::new(),
        places: BTreeMap::new(),
        twins: Vec::new(),
    }
}
