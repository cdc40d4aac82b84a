//! Runs `testdata/*.txt`: requests in, what storage is asked and what is refused out, blessed snapshots beside.
//!
//! The replica knows ring 3, the built-in bucket `kv.default`, an LWW table `kv.lww`, and one that was dropped, `kv.gone`;
//! its clocks stand at 10 s. It is shard 0 of two; keys that begin with `z` belong to the other. A line is one request:
//! ```text
//! write TABLE KEY [from=client|blind|hint|repair|stream] [ahead=MS] [floor=MS] [ring=N] [phase=N] [deadline=MS] [token] [garbage] [peer] [now=MS]
//! read TABLE KEY [digest] [ring=N] [phase=N] [deadline=MS] [peer] [now=MS]
//! range TABLE KEY [..as read]        a page behind KEY
//! ```
//! `ahead` dates the value, `floor` a delete beside it; `token` claims another key's token, `garbage` cuts the bytes; `peer`: another node asks.

use crate::{
    Answer, Fence, Op, Origin, ReplicaBatch, ReplicaError, Request,
    machine::{Effects, Machine, View},
};
use bytes::Bytes;
use kula_actor::Reply;
use kula_lattice::{Cell, CellId, Join, Mutation, Partition, Slice};
use kula_placement::{Partitioner, Ring, RingContextKey, RingNode, Secret};
use kula_schema::{Schema, TableDefinition, TableKind, TableOptions};
use kula_types::{
    Actor, ClusterId, ClusteringKey, ColumnId, Dot, Key, Mono, NodeId, PartitionKey, TableId, Timestamp, Token,
};
use std::{fmt::Write as _, sync::Arc};

const WALL: i64 = 10_000_000;

fn ring() -> Ring {
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
    let alone = Ring::alone(cluster, "test".into(), Partitioner::Murmur3, 8, me, key).unwrap();
    let mut facts = alone.facts().clone();
    facts.version = 3;
    Ring::new(facts).unwrap()
}

/// The schema, and the table that it knows as dropped.
fn schema() -> (Schema, TableId) {
    let mut schema = Schema::first();
    let keyspace = "kv".parse().unwrap();
    let [_, gone] = ["lww", "gone"].map(|name| {
        let definition =
            TableDefinition { name: name.parse().unwrap(), kind: TableKind::Lww, options: TableOptions::default() };
        let (delta, table) = schema.create_table(&keyspace, &definition, Timestamp::from_micros(1).unwrap()).unwrap();
        schema.join(delta);
        table.id
    });
    schema.join(schema.drop_table(&keyspace, &"gone".parse().unwrap()).unwrap());
    (schema, gone)
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_micros(WALL + millis * 1_000).unwrap()
}

/// One request as a line says it.
struct Line<'a> {
    words: Vec<&'a str>,
}

impl<'a> Line<'a> {
    fn option(&self, name: &str) -> Option<&'a str> {
        self.words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.option(name).map(|text| text.parse().unwrap())
    }

    fn has(&self, word: &str) -> bool {
        self.words.contains(&word)
    }

    fn op(&self, ring: &Ring, (schema, gone): &(Schema, TableId)) -> Op {
        let nobodys = if self.words[1] == "gone" { *gone } else { TableId([0; 16]) };
        let table = schema.resolve("kv", self.words[1]).map_or(nobodys, |table| table.id);
        let key = PartitionKey::copy_from(self.words[2].as_bytes());
        if self.words[0] == "read" {
            let answer = if self.has("digest") { Answer::Digest } else { Answer::Data };
            return Op::Read { table, key, slice: Slice::all(), answer, now: at(0) };
        }
        if self.words[0] == "range" {
            let after = (ring.token(&key), key);
            return Op::ReadRange { table, after, through: Token::MAX, partitions_max: 10, bytes_max: 1_000 };
        }
        let dot = Dot::new(Actor(1), 0, 1).unwrap();
        let cell = Cell::put(Key::of(at(self.number("ahead").unwrap_or(0)), dot), None, Bytes::from_static(b"v"));
        let mut delta = Partition::of_cell(ClusteringKey::default(), CellId::simple(ColumnId(9)), cell);
        delta.floor = self.number("floor").map(|millis| Key::delete_at(at(millis)));
        let token = if self.has("token") { Token(7) } else { ring.token(&key) };
        let mut mutation = Mutation { table, token, key, mid: dot, previous: 0, delta }.encode();
        if self.has("garbage") {
            mutation.truncate(mutation.len() - 1);
        }
        let origin = match self.option("from").unwrap_or("client") {
            "client" => Origin::Client { contextless: false },
            "blind" => Origin::Client { contextless: true },
            "hint" => Origin::Hint,
            "repair" => Origin::Repair,
            "stream" => Origin::Stream,
            other => panic!("no such origin: {other}"),
        };
        Op::Apply { mutation, origin }
    }
}

fn check(script: &str, text: &str) {
    let (ring, schema) = (ring(), schema());
    let other_shard = ring.token(&PartitionKey::copy_from(b"z"));
    let shard_of = Arc::new(move |token: Token| usize::from(token == other_shard));
    let mut machine = Machine::new("replica/0".into(), 0, shard_of);
    let mut out = String::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        writeln!(out, "{line}").unwrap();
        if line.starts_with('#') {
            continue;
        }
        let line = Line { words: line.split_whitespace().collect() };
        let unsigned = |name, default: u64| line.number(name).map_or(default, |number| u64::try_from(number).unwrap());
        let fence = Fence { ring_version: unsigned("ring", 3), phase: u8::try_from(unsigned("phase", 0)).unwrap() };
        let deadline = Mono::from_millis(unsigned("deadline", 11_000));
        let from = line.has("peer").then(|| NodeId("00000000-0000-0000-0000-000000000002".parse().unwrap()));
        let request = Request { from, fence, deadline, op: line.op(&ring, &schema), reply: Reply::ignored() };
        let now = Mono::from_millis(unsigned("now", 10_000));
        let view = View { now, latest: at(0), ring: &ring, schema: &schema.0 };
        let mut effects = Effects::default();
        machine.step(view, ReplicaBatch { requests: vec![request] }, &mut effects);
        show(&effects, &mut out);
    }
    insta::assert_snapshot!(script, out);
}

fn show(effects: &Effects, out: &mut String) {
    for op in &effects.apply {
        let cap = if op.sibling_cap { " with sibling cap" } else { "" };
        writeln!(out, "  apply {:?}{cap}", op.mutation.key).unwrap();
    }
    for op in &effects.read {
        writeln!(out, "  read {:?}", op.key).unwrap();
    }
    for op in &effects.ranges {
        writeln!(out, "  page behind {:?}", op.range.after.1).unwrap();
    }
    for _ in &effects.settled {
        writeln!(out, "  answered as applied, nothing is stored").unwrap();
    }
    if effects.pull_ring.is_some() {
        writeln!(out, "  pull the ring").unwrap();
    }
    if effects.pull_schema.is_some() {
        writeln!(out, "  pull the schema").unwrap();
    }
    for (_, refusal) in &effects.refused {
        let stored = if refusal.refused_before_applying() { "" } else { ", perhaps stored" };
        writeln!(out, "  refused: {refusal}{stored}").unwrap();
    }
}

#[test]
fn what_passes_and_what_is_refused() {
    check("checks", include_str!("../testdata/checks.txt"));
}

#[test]
fn a_page_passes_the_same_checks_wherever_it_begins() {
    check("ranges", include_str!("../testdata/ranges.txt"));
}

#[test]
fn from_whom_a_ring_or_a_schema_is_fetched() {
    check("pulls", include_str!("../testdata/pulls.txt"));
}

#[test]
fn a_batch_past_its_bound_is_refused_from_there_on() {
    let (ring, schema) = (ring(), schema());
    let mut machine = Machine::new("replica/0".into(), 0, Arc::new(|_| 0));
    let line = Line { words: vec!["read", "default", "k"] };
    let request = || Request {
        from: None,
        fence: Fence { ring_version: 3, phase: 0 },
        deadline: Mono::from_millis(1),
        op: line.op(&ring, &schema),
        reply: Reply::ignored(),
    };
    let requests: Vec<Request> = (0..crate::limits::BATCH_REQUESTS_MAX + 3).map(|_| request()).collect();
    let view = View { now: Mono::default(), latest: at(0), ring: &ring, schema: &schema.0 };
    let mut effects = Effects::default();
    machine.step(view, ReplicaBatch { requests }, &mut effects);
    assert_eq!((effects.read.len(), effects.refused.len()), (crate::limits::BATCH_REQUESTS_MAX, 3));
    assert!(effects.refused.iter().all(|(_, refusal)| matches!(refusal, ReplicaError::Overloaded { .. })));
}
