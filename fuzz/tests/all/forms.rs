//! The stored forms of the ring and the schema: JSON of people's names, so a person may have edited it.
//!
//! Promise: P19

use crate::{input::Input, meter::Meter, target};
use bytes::Bytes;
use kula_placement::{
    KeyspaceSettings, Partitioner, Ring, RingContextKey, RingFacts, RingNode, Secret, form::RingForm,
};
use kula_schema::{Schema, TableDefinition, TableKind, TableOptions, form};
use kula_types::{ClusterId, Name, NodeId, Timestamp, Token};

/// Names and numbers take about as much in memory as in JSON; the densest, `[0,0,..]`, becomes indexes of two bytes, kept
/// twice with what lookups need.
const FACTOR: usize = 4;

fn node(number: u128, dc: &str, weight: u32) -> RingNode {
    let name = format!("n{number}");
    let address = format!("10.0.0.{number}:7400");
    RingNode { id: NodeId(uuid::Uuid::from_u128(number)), name, address, dc: dc.into(), rack: "r1".into(), weight }
}

fn named(name: &str) -> Name {
    name.parse().unwrap()
}

fn stored(ring: &Ring) -> Bytes {
    Bytes::from(serde_json::to_vec(&RingForm::from(ring)).unwrap())
}

fn rings() -> Vec<Bytes> {
    let alone = |partitions| {
        let key = RingContextKey { id: 1, secret: Secret::new([5; 32]), retired: None };
        let cluster = ClusterId(uuid::Uuid::from_u128(99));
        let ring = Ring::alone(cluster, "shop".into(), Partitioner::Murmur3, partitions, node(1, "dc1", 1), key);
        let mut facts: RingFacts = ring.unwrap().facts().clone();
        facts.keyspaces.insert(named("kv"), KeyspaceSettings::default());
        let retired = Some(Timestamp::from_micros(1_000).unwrap());
        facts.context_keys.insert(0, RingContextKey { id: 0, secret: Secret::new([4; 32]), retired });
        Ring::new(facts).unwrap()
    };
    let (least, many) = (alone(1), alone(4_096));
    let two = alone(8).with_nodes(vec![node(1, "dc1", 1), node(2, "dc1", 2), node(3, "dc1", 0)]).unwrap();
    let apart = two.with_nodes(vec![node(1, "dc1", 1), node(2, "dc1", 2), node(4, "dc2", 1)]).unwrap();
    [least, many, two, apart].iter().map(stored).collect()
}

fn parsed(bytes: &[u8]) -> Option<Ring> {
    let form: RingForm = serde_json::from_slice(bytes).ok()?;
    Ring::try_from(form).ok()
}

fn ring(input: &Input, meter: &Meter) -> bool {
    let Some(ring) = meter.bounded(input.bytes.len(), FACTOR, || parsed(&input.bytes)) else { return false };
    let written = stored(&ring);
    let again = parsed(&written).unwrap();
    assert_eq!(again, ring);
    assert_eq!(stored(&again), written);
    // A ring that was accepted answers.
    for settings in ring.keyspaces.values() {
        for token in [Token::MIN, Token(-1), Token(0), Token::MAX] {
            let list = ring.preference_list(settings, token);
            assert_eq!(list.owners.len(), ring.rf_effective(settings) as usize);
        }
    }
    std::hint::black_box((ring.context_key(), ring.nodes.iter().map(|node| ring.load(node.id)).sum::<f64>()));
    true
}

fn schemas() -> Vec<Bytes> {
    let at = |micros| Timestamp::from_micros(micros).unwrap();
    let joined = |schema: &Schema, delta: Schema| {
        let mut next = schema.clone();
        kula_lattice::Join::join(&mut next, delta);
        next
    };
    let first = Schema::first();
    let mut shop = joined(&first, first.create_keyspace(&named("shop"), at(7)).unwrap().0);
    for (name, kind) in [("carts", TableKind::Causal), ("prices", TableKind::Lww), ("gone", TableKind::Lww)] {
        let definition = TableDefinition { name: named(name), kind, options: TableOptions::default() };
        let (delta, _) = shop.create_table(&named("shop"), &definition, at(9)).unwrap();
        shop = joined(&shop, delta);
    }
    let mut long = shop.clone();
    for number in 0..60 {
        let definition = TableDefinition {
            name: named(&format!("t{number}")),
            kind: TableKind::Lww,
            options: TableOptions::default(),
        };
        let (delta, _) = long.create_table(&named("shop"), &definition, at(9)).unwrap();
        long = joined(&long, delta);
    }
    let dropped = joined(&shop, shop.drop_table(&named("shop"), &named("gone")).unwrap());
    let empty = joined(&dropped, dropped.drop_keyspace(&named("shop")).unwrap());
    [Schema::default(), first, shop, long, dropped, empty].iter().map(encoded).collect()
}

fn encoded(schema: &Schema) -> Bytes {
    Bytes::from(form::encode(schema).unwrap())
}

fn schema(input: &Input, meter: &Meter) -> bool {
    let Ok(schema) = meter.bounded(input.bytes.len(), FACTOR, || form::decode(&input.bytes)) else { return false };
    let written = encoded(&schema);
    let again = form::decode(&written).unwrap();
    assert_eq!(again.digest(), schema.digest());
    assert_eq!(encoded(&again), written);
    true
}

target!(a_ring_of_any_bytes, 1, rings(), ring);
target!(a_schema_of_any_bytes, 1, schemas(), schema);
