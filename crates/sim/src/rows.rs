//! Rows, range deletes, static cells, collections and pages, at the replicas' own interface: what CQL will send.
//!
//! No coordinator speaks these yet, so a client mints by itself and applies to the owners that it reaches. Dates are few, so
//! that many are equal. Reads are checked against the ledger of the one machine that answers.

use crate::{
    oracle::{KeyId, normal},
    process::{Message, Process},
    time::{SECOND, WALL_START, stamp},
    world::World,
};
use bytes::Bytes;
use kula_actor::{Lost, Reply};
use kula_clock::Random;
use kula_lattice::{Cell, CellId, Join, Mutation, Partition, Row, Slice};
use kula_replica::{Answer, Fence, Op, Origin, Outcome, ReplicaBatch, ReplicaError, Request};
use kula_schema::Table;
use kula_storage::RangePage;
use kula_types::{Actor, ClusteringKey, ColumnId, Dot, Key, PartitionKey, TableId, Token};
use std::{ops::Bound, sync::Arc, time::Duration};

/// What a machine answered.
pub type Served = Result<Result<Outcome, ReplicaError>, Lost>;

/// One row operation, drawn from a die when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowWish {
    Write,
    Read,
    Pages,
}

/// A question to one machine, and what its ledger held then.
pub struct Question {
    pub machine: usize,
    slice: Slice,
    /// Of one key; of a page: of all keys behind `after`.
    ledgers: Vec<(KeyId, Partition)>,
    after: (Token, PartitionKey),
}

const ROWS: [&str; 5] = ["", "a", "aa", "b", "c"];

/// Partitions that row operations choose from.
const PARTITIONS: usize = 4;

pub fn key(random: &mut Random) -> PartitionKey {
    PartitionKey::copy_from(format!("w{}", random.below(PARTITIONS)).as_bytes())
}

/// A mutation as a coordinator of rows would mint it.
pub fn mint(table: TableId, operation: usize, seq: u64, random: &mut Random) -> Option<Mutation> {
    let key = key(random);
    let token = kula_placement::Partitioner::Murmur3.token(&key);
    let mid = Dot::new(Actor(0x0072_6f77), 0, seq).ok()?;
    let delta = delta(mid, operation, random);
    Some(Mutation { table, token, key, mid, previous: seq - 1, delta })
}

fn row_key(random: &mut Random) -> ClusteringKey {
    ClusteringKey::copy_from(random.pick(&ROWS).as_bytes())
}

fn bound(random: &mut Random) -> Bound<ClusteringKey> {
    match random.below(5) {
        0 => Bound::Unbounded,
        1 | 2 => Bound::Included(row_key(random)),
        _ => Bound::Excluded(row_key(random)),
    }
}

fn delta(mid: Dot, operation: usize, random: &mut Random) -> Partition {
    let ts = stamp(WALL_START + i64::try_from(random.below(12)).unwrap_or(0));
    let (at, floor) = (Key::of(ts, mid), Key::delete_at(ts));
    let exp = random.percent(15).then(|| stamp(WALL_START + 200_000_000));
    let column = ColumnId(1 + random.next() % 3);
    let body = Bytes::from(format!("op{operation:06}:{}", "y".repeat(random.below(80))));
    let put = Cell::put(at, exp, body);
    let row = row_key(random);
    match random.below(12) {
        0..4 => Partition::of_cell(row, CellId::simple(column), put),
        4 | 5 => {
            let marker = Cell::put(at, exp, Bytes::new()).lww;
            Partition::of_row(row, Row { marker, ..Row::of_cell(CellId::simple(column), put) })
        }
        6 => Partition::of_cell(row, CellId::simple(column), Cell::delete(ts)),
        7 => {
            // A collection is replaced by one of its elements.
            let element = CellId::element(column, Bytes::from_static(b"e"));
            let collections = kula_lattice::SortedMap::one(column, Key::before(ts, mid));
            Partition::of_row(row, Row { collections, ..Row::of_cell(element, put) })
        }
        8 => Partition::of_row(row, Row { floor: Some(floor), ..Row::default() }),
        9 => {
            let mut delta = Partition::default();
            delta.ranges.cover(bound(random), bound(random), floor);
            delta
        }
        10 => {
            let statics = Row::of_cell(CellId::simple(column), put);
            Partition { statics: Some(Box::new(statics)), ..Partition::default() }
        }
        _ if random.percent(30) => Partition { floor: Some(floor), ..Partition::default() },
        _ => Partition::of_cell(row, CellId::simple(column), put),
    }
}

/// Hands a question to the replica of a machine that it belongs to.
fn ask(world: &mut World, machine: usize, token: Token, op: Op, reply: impl FnOnce(Served) + Send + 'static) {
    world.step(machine, |process: &mut Process, step| {
        let fence = Fence { ring_version: process.ring.version, phase: 0 };
        let deadline = process.now().after(Duration::from_micros(5 * SECOND));
        let request = Request { from: None, fence, deadline, op, reply: Reply::new(reply) };
        let shard = usize::from(process.sharding.shard_of(token));
        process.handle(Message::Replica { shard, batch: ReplicaBatch { requests: vec![request] } }, step);
    });
}

fn listens(world: &World, machine: usize) -> bool {
    let of = &world.machines[machine];
    of.process.is_some() && of.parked.is_none() && !of.is_outcast
}

/// Applies to the owners that are reached.
pub fn write(world: &mut World, machine: usize, mutation: &Mutation, operation: usize, random: &mut Random) {
    world.oracle.mutation_sent(Some((machine, None)), operation, mutation);
    world.trace.count("row writes");
    let bytes = mutation.encode();
    for owner in world.owners(machine, mutation.table, &mutation.key) {
        if listens(world, owner) && random.percent(80) {
            let op = Op::Apply { mutation: bytes.clone(), origin: Origin::Stream };
            ask(world, owner, mutation.token, op, drop);
        }
    }
}

/// Reads a slice of one machine's partition.
pub fn read(
    world: &mut World,
    machine: usize,
    table: TableId,
    random: &mut Random,
    reply: impl FnOnce(Served) + Send + 'static,
) -> Option<Question> {
    let key = key(random);
    if !listens(world, machine) || !world.owners(machine, table, &key).contains(&machine) {
        return None;
    }
    world.trace.count("row reads");
    let slice = Slice { from: bound(random), to: bound(random) };
    let token = kula_placement::Partitioner::Murmur3.token(&key);
    let id: KeyId = (table, key.clone());
    let ledgers = vec![(id.clone(), world.oracle.ledger(machine, &id))];
    let op = Op::Read { table, key, slice: slice.clone(), answer: Answer::Data, now: stamp(WALL_START) };
    ask(world, machine, token, op, reply);
    Some(Question { machine, slice, ledgers, after: (Token::MIN, PartitionKey::copy_from(b"")) })
}

/// A page of one machine's partitions.
pub fn page(
    world: &mut World,
    machine: usize,
    table: &Arc<Table>,
    random: &mut Random,
    reply: impl FnOnce(Served) + Send + 'static,
) -> Option<Question> {
    if !listens(world, machine) {
        return None;
    }
    world.trace.count("row pages");
    let from = random.next().to_le_bytes();
    let after = (Token(i64::from_le_bytes(from)), PartitionKey::copy_from(b""));
    let keys: Vec<KeyId> = world.oracle.keys.keys().filter(|(of, _)| *of == table.id).cloned().collect();
    let ledgers = keys.into_iter().map(|id| (id.clone(), world.oracle.ledger(machine, &id))).collect();
    let (partitions_max, bytes_max) = (1 + random.below(6), 200 << random.below(8));
    let op = Op::ReadRange { table: table.id, after: after.clone(), through: Token::MAX, partitions_max, bytes_max };
    ask(world, machine, after.0, op, reply);
    Some(Question { machine, slice: Slice::all(), ledgers, after })
}

/// What is wrong with an answer, if something is.
pub fn judge(world: &World, question: &Question, outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Data(partition) => {
            let (id, ledger) = question.ledgers.first()?;
            judge_one(world, id, ledger.clone().clip(&question.slice), partition, &question.slice)
        }
        Outcome::Range(page) => judge_page(world, question, page),
        Outcome::Applied | Outcome::Digest { .. } => Some("it answers something else than it was asked".into()),
    }
}

fn judge_one(world: &World, id: &KeyId, ledger: Partition, found: &Partition, slice: &Slice) -> Option<String> {
    let mut both = found.clone();
    both.join(ledger.clone());
    if normal(&both) != normal(found) {
        return Some(format!(
            "it lacks what is durable there:\n  it has  {:?}\n  durable {:?}",
            normal(found),
            normal(&ledger)
        ));
    }
    let sent = world.oracle.keys.get(id).map(|state| state.sent.clone()).unwrap_or_default().clip(slice);
    let mut all = sent.clone();
    all.join(found.clone());
    (normal(&all) != normal(&sent)).then(|| format!("it has what nobody sent: {:?}", normal(found)))
}

fn judge_page(world: &World, question: &Question, page: &RangePage) -> Option<String> {
    let places: Vec<(Token, &PartitionKey)> = page.rows.iter().map(|(token, key, _)| (*token, key)).collect();
    if !places.is_sorted_by(|one, other| one < other) {
        return Some("its rows are out of order".into());
    }
    for (id, ledger) in &question.ledgers {
        let place = (kula_placement::Partitioner::Murmur3.token(&id.1), &id.1);
        let is_within = place > (question.after.0, &question.after.1)
            && page.resume.as_ref().is_none_or(|(token, key)| place <= (*token, key));
        if !is_within || ledger.is_empty() {
            continue;
        }
        let none = Partition::default();
        let found = page.rows.iter().find(|(_, key, _)| *key == id.1).map_or(&none, |(_, _, partition)| partition);
        if let Some(why) = judge_one(world, id, ledger.clone(), found, &Slice::all()) {
            return Some(why);
        }
    }
    None
}
