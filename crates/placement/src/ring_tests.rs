//! The ring value: what makes one, who holds a key in it, and that its stored form says the same.

use crate::{
    Datacentre, KeyspaceSettings, Partitioner, Ring, RingContextKey, RingFacts, RingNode, RingValueError, Secret,
    form::RingForm, limits,
};
use kula_types::{ClusterId, NodeId, PartitionKey, Token};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn id(number: u128) -> NodeId {
    NodeId(uuid::Uuid::from_u128(number))
}

fn node(number: u128, dc: &str, rack: &str) -> RingNode {
    let (name, address) = (format!("n{number}"), format!("127.0.0.{number}:7000"));
    RingNode { id: id(number), name, address, dc: dc.into(), rack: rack.into(), weight: 1 }
}

fn facts(nodes: Vec<RingNode>, datacentres: Vec<Datacentre>, partitions: u32) -> RingFacts {
    RingFacts {
        version: 1,
        cluster: ClusterId(uuid::Uuid::from_u128(0xc)),
        name: "test".into(),
        partitioner: Partitioner::Murmur3,
        partitions,
        rf_balanced: 3,
        nodes,
        datacentres,
        keyspaces: BTreeMap::from([("kv".parse().unwrap(), KeyspaceSettings::default())]),
        context_keys: vec![RingContextKey { id: 1, secret: Secret::new([0xab; 32]), retired: None }],
    }
}

fn alone() -> RingFacts {
    facts(vec![node(1, "dc1", "a")], vec![Datacentre { name: "dc1".into(), owners: vec![0; 4] }], 4)
}

fn with_rf(rf: u32) -> KeyspaceSettings {
    KeyspaceSettings { rf, ..KeyspaceSettings::default() }
}

/// Rings of up to three data centres, owners at random, but every node owns something.
fn rings() -> impl Strategy<Value = Ring> {
    let node_of = (0usize..3, 0u8..4);
    (prop::collection::vec(node_of, 1..12), 4u32..=5, any::<u64>()).prop_map(|(places, log2, seed)| {
        let dcs = ["dc1", "dc2", "dc3"];
        let numbered = (1u128..).zip(&places);
        let nodes: Vec<RingNode> = numbered.map(|(n, (dc, rack))| node(n, dcs[*dc], &format!("r{rack}"))).collect();
        let mut state = seed;
        let mut roll = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        let datacentre = |dc: &&str| {
            let here: Vec<u16> =
                (0..places.len()).filter(|&n| nodes[n].dc == **dc).map(|n| u16::try_from(n).unwrap()).collect();
            let owner = |p: usize| here.get(p).copied().unwrap_or_else(|| here[roll(here.len())]);
            let owners = if here.is_empty() { Vec::new() } else { (0..1 << log2).map(owner).collect() };
            Datacentre { name: (*dc).into(), owners }
        };
        let datacentres = dcs.iter().map(datacentre).collect();
        Ring::new(facts(nodes, datacentres, 1 << log2)).unwrap()
    })
}

/// As a token-aware driver does it: from the tokens that a data centre publishes, sorted, the first one at or after the
/// key's; then node by node, rack by rack.
fn as_a_driver(ring: &Ring, ordinal: usize, rf: usize, token: Token) -> Vec<NodeId> {
    let owners = &ring.datacentres[ordinal].owners;
    let mut published: Vec<(Token, u16)> =
        (0..).zip(owners).map(|(p, &owner)| (ring.range_in(ordinal, p).through, owner)).collect();
    published.sort_unstable();
    let start = published.iter().position(|(end, _)| *end >= token).unwrap_or(0);
    let racks: std::collections::BTreeSet<&str> =
        owners.iter().map(|&n| ring.nodes[usize::from(n)].rack.as_str()).collect();
    let (mut replicas, mut skipped): (Vec<NodeId>, Vec<NodeId>) = (Vec::new(), Vec::new());
    let mut seen = std::collections::BTreeSet::new();
    for step in 0..published.len() {
        let node = &ring.nodes[usize::from(published[(start + step) % published.len()].1)];
        if replicas.contains(&node.id) || skipped.contains(&node.id) || replicas.len() >= rf {
            continue;
        }
        if seen.contains(node.rack.as_str()) && seen.len() < racks.len() {
            skipped.push(node.id);
            continue;
        }
        replicas.push(node.id);
        seen.insert(node.rack.as_str());
        if seen.len() == racks.len() {
            replicas.append(&mut skipped);
        }
    }
    replicas.truncate(rf);
    replicas
}

proptest! {
    #[test]
    fn owners_are_those_that_a_token_aware_driver_computes(ring in rings(), rf in 1u32..6, tokens in prop::collection::vec(any::<i64>(), 8)) {
        let settings = with_rf(rf);
        let ends = (0..ring.partitions).flat_map(|p| (0..3).map(move |dc| (dc, p))).map(|(dc, p)| ring.range_in(dc, p).through.0);
        let around = ends.flat_map(|end| [end.wrapping_sub(1), end, end.wrapping_add(1)]).filter(|t| *t != i64::MIN);
        for token in tokens.into_iter().filter(|t| *t != i64::MIN).chain(around).map(Token) {
            let list = ring.preference_list(&settings, token);
            let expected: Vec<NodeId> = (0..3).flat_map(|dc| as_a_driver(&ring, dc, rf as usize, token)).collect();
            prop_assert_eq!(&list.owners, &expected);
            prop_assert_eq!(list.owners.len(), ring.rf_effective(&settings) as usize);
            let mut everybody: Vec<NodeId> = list.owners.iter().chain(&list.fallbacks).copied().collect();
            everybody.sort_unstable();
            prop_assert_eq!(everybody, ring.nodes.iter().map(|node| node.id).collect::<Vec<_>>());
        }
    }

    #[test]
    fn doubling_q_moves_nothing_and_keeps_every_order(ring in rings(), rf in 1u32..6, tokens in prop::collection::vec(any::<i64>(), 32)) {
        let mut doubled = ring.facts().clone();
        doubled.partitions *= 2;
        for dc in &mut doubled.datacentres {
            dc.owners = dc.owners.iter().flat_map(|&owner| [owner, owner]).collect();
        }
        let doubled = Ring::new(doubled).unwrap();
        for token in tokens.into_iter().map(Token) {
            let settings = with_rf(rf);
            prop_assert_eq!(doubled.preference_list(&settings, token), ring.preference_list(&settings, token));
        }
    }

    #[test]
    fn the_stored_form_is_the_same_ring(ring in rings()) {
        let stored = serde_json::to_string(&RingForm::from(&ring)).unwrap();
        let read = Ring::try_from(serde_json::from_str::<RingForm>(&stored).unwrap()).unwrap();
        prop_assert_eq!(&read, &ring);
        let total: f64 = ring.nodes.iter().map(|node| ring.load(node.id)).sum();
        let owning = ring.datacentres.iter().filter(|dc| !dc.owners.is_empty()).count();
        prop_assert!((total - f64::from(u32::try_from(owning).unwrap())).abs() < 1e-9);
    }
}

#[test]
fn members_come_and_go_and_only_their_data_centre_is_placed_anew() {
    let big = facts(vec![node(1, "dc1", "a")], vec![Datacentre { name: "dc1".into(), owners: vec![0; 64] }], 64);
    let one = Ring::new(big).unwrap();
    // Node 0 sorts before node 1: owners are indexes, and must follow.
    let members = [node(0, "dc1", "b"), node(1, "dc1", "a"), node(2, "dc1", "c"), node(3, "dc2", "a")];
    let four = one.with_nodes(members.iter().rev().cloned().collect()).unwrap();
    assert_eq!((four.version, four.nodes.as_slice()), (2, members.as_slice()));
    assert_eq!(four.rf_effective(&with_rf(3)), 3 + 1);
    let share = |ring: &Ring, n| (ring.load(id(n)) * 64.0).round();
    assert!((0..3).all(|n| (20.0..=23.0).contains(&share(&four, n))) && share(&four, 3) == 64.0);

    // Another address or name moves nothing, nor does what happens in the other data centre.
    let mut renamed = members.to_vec();
    renamed[1].address = "10.0.0.1:7000".into();
    renamed.push(node(4, "dc2", "b"));
    let five = four.with_nodes(renamed).unwrap();
    assert_eq!(five.datacentres[0], four.datacentres[0]);
    assert!(share(&five, 3) < 64.0 && share(&five, 4) > 0.0);

    // The last node of a data centre leaves it: it keeps its ordinal.
    let alone = five.with_nodes(vec![node(3, "dc2", "a")]).unwrap();
    let owning: Vec<_> = alone.datacentres.iter().map(|dc| (dc.name.as_str(), dc.owners.len())).collect();
    assert_eq!((owning, share(&alone, 3)), (vec![("dc1", 0), ("dc2", 64)], 64.0));
}

#[test]
fn one_node_owns_everything() {
    let ring = Ring::new(alone()).unwrap();
    let token = ring.token(&PartitionKey::copy_from(b"123"));
    let list = ring.preference_list(&KeyspaceSettings::default(), token);
    assert_eq!((list.owners, list.fallbacks), (vec![id(1)], vec![]));
    assert_eq!((ring.rf_effective(&with_rf(3)), ring.load(id(1)), ring.load(id(2))), (1, 1.0, 0.0));
    assert_eq!((ring.partition(token), ring.partition(Token::MAX)), (0, 3));
}

#[test]
fn the_form_on_disk_is_as_its_page_says() {
    let stored = serde_json::to_string_pretty(&RingForm::from(&Ring::new(alone()).unwrap())).unwrap();
    assert_eq!(stored, include_str!("../testdata/ring_1.json").trim_end());
    let unknown_field = stored.replacen("\"version\"", "\"colour\": 1, \"version\"", 1);
    assert!(serde_json::from_str::<RingForm>(&unknown_field).is_err());
    for bad in ["ab".to_string(), "zz".repeat(32), "AB".repeat(32), "ab".repeat(33)] {
        let bad = stored.replace(&"ab".repeat(32), &bad);
        assert!(Ring::try_from(serde_json::from_str::<RingForm>(&bad).unwrap()).is_err());
    }
}

#[test]
fn facts_that_make_no_ring_are_refused_each_for_its_reason() {
    type Spoil = fn(&mut RingFacts);
    let cases: [(Spoil, &str); 19] = [
        (|f| f.version = 0, "VersionZero"),
        (|f| f.partitions = 3, "Partitions"),
        (|f| f.partitions = 8, "Owners"),
        (|f| f.rf_balanced = 0, "Balanced"),
        (|f| f.name = String::new(), "Count"),
        (|f| f.nodes[0].rack = "x".repeat(limits::TEXT_BYTES_MAX + 1), "Count"),
        (|f| f.nodes.clear(), "Count"),
        (|f| f.nodes[0].weight = limits::WEIGHT_MAX + 1, "Weight"),
        (|f| f.nodes.push(f.nodes[0].clone()), "NodeOrder"),
        (|f| f.nodes.push(RingNode { name: "n1".into(), ..node(2, "dc1", "a") }), "NodeName"),
        (|f| f.nodes[0].dc = "dc9".into(), "UnknownDatacentre"),
        (|f| f.datacentres.push(f.datacentres[0].clone()), "DatacentreTwice"),
        (|f| f.datacentres[0].owners[0] = 7, "Owner"),
        (|f| f.nodes[0].weight = 0, "Owner"),
        (|f| f.nodes.push(node(2, "dc1", "a")), "OwnsNothing"),
        (|f| f.context_keys.clear(), "ContextKeys"),
        (|f| f.context_keys.push(f.context_keys[0].clone()), "ContextKeys"),
        (|f| f.keyspaces.values_mut().for_each(|settings| settings.rf = 0), "Settings"),
        (|f| f.context_keys[0].retired = Some(kula_types::Timestamp::MIN), "ContextKeys"),
    ];
    Ring::new(alone()).unwrap();
    for (spoil, reason) in cases {
        let mut facts = alone();
        spoil(&mut facts);
        let refused: RingValueError = Ring::new(facts).unwrap_err();
        let shown = format!("{refused:?}");
        let variant = shown.split([' ', '(', '{']).next().unwrap();
        assert_eq!(variant, reason, "{refused}");
    }
}

#[test]
fn ring_0_answers_everything_with_nothing_and_has_no_stored_form() {
    let none = Ring::none("test".into(), Partitioner::Murmur3);
    let (token, settings) = (none.token(&PartitionKey::copy_from(b"k")), with_rf(3));
    assert_eq!(none.preference_list(&settings, token), crate::PreferenceList { owners: vec![], fallbacks: vec![] });
    assert_eq!((none.rf_effective(&settings), none.load(id(1)), none.node(id(1))), (0, 0.0, None));
    assert_eq!((none.version, none.settings(&"kv".parse().unwrap()), none.context_keys.len()), (0, None, 0));
    assert!(none.is_none() && none.partition(token) < none.partitions && none.context_key().id == 0);
    assert!(none.range_in(0, none.partition(token)).contains(token));
    assert_eq!(Ring::try_from(RingForm::from(&none)).unwrap_err().to_string(), "ring versions begin with 1");
}

#[test]
fn the_first_ring_of_several_is_number_1_and_everybody_owns_a_share() {
    let key = RingContextKey { id: 1, secret: Secret::new([1; 32]), retired: None };
    let nodes = vec![node(3, "dc1", "c"), node(1, "dc1", "a"), node(2, "dc1", "b")];
    let cluster = ClusterId(uuid::Uuid::from_u128(0xc));
    let ring = Ring::first(cluster, "test".into(), Partitioner::Murmur3, 256, nodes, key).unwrap();
    assert_eq!((ring.version, ring.nodes.len(), ring.rf_effective(&with_rf(3))), (1, 3, 3));
    assert!((1..=3).all(|n| (ring.load(id(n)) - 1.0 / 3.0).abs() < 0.01), "{:?}", [1, 2, 3].map(|n| ring.load(id(n))));
    let again = Ring::first(
        cluster,
        "test".into(),
        Partitioner::Murmur3,
        256,
        ring.nodes.clone(),
        ring.context_keys[0].clone(),
    );
    assert_eq!(again.unwrap(), ring);
}
