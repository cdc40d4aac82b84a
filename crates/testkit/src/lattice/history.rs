//! What coordinators would mint for one partition: each mutation with its own dot, dots chained per actor, contexts
//! that name dots minted before.

use super::values::{bound, cell_id, clustering, expiry, timestamp};
use bytes::Bytes;
use kula_lattice::{Cell, CellId, Context, Join, NewSibling, OpId, Partition, Row, SortedMap};
use kula_types::{Actor, ClusteringKey, ColumnId, Dot, Key, Timestamp};
use proptest::{collection::vec, option, prelude::*};
use std::{collections::BTreeMap, ops::Bound};

/// What a client asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    Put(ClusteringKey, CellId),
    /// CQL's INSERT: a marker and a cell.
    Insert(ClusteringKey, CellId),
    DeleteCell(ClusteringKey, CellId),
    /// A collection becomes exactly these elements.
    Replace(ClusteringKey, ColumnId, Vec<u8>),
    DeleteRow(ClusteringKey),
    DeleteRange(Bound<ClusteringKey>, Bound<ClusteringKey>),
    DeletePartition,
    PutStatic(CellId),
    DeleteStatic(CellId),
    /// With an idempotency key, perhaps.
    CausalPut(ClusteringKey, CellId, Option<u8>),
    CausalDelete(ClusteringKey, CellId),
}

/// A request: `context` says which of the cell's earlier dots it saw (bit i: the i-th), bit 31 whether it saw the L.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    pub ts: Timestamp,
    pub exp: Option<Timestamp>,
    pub change: Change,
    pub actor: u64,
    /// Sequences the actor used for other keys in between.
    pub elsewhere: u64,
    /// The actor no longer remembers its last dot of this key.
    pub forgets: bool,
    pub context: u32,
}

/// Requests with the dot each was given and the delta it became.
#[derive(Clone, Debug)]
pub struct History {
    pub minted: Vec<(Operation, Dot, Partition)>,
}

impl History {
    pub fn deltas(&self) -> impl Iterator<Item = &Partition> {
        self.minted.iter().map(|(_, _, delta)| delta)
    }

    /// The join of all deltas.
    pub fn whole(&self) -> Partition {
        let mut whole = Partition::default();
        for delta in self.deltas() {
            whole.join(delta.clone());
        }
        whole
    }

    /// The body that the operation at this place writes.
    pub fn body(at: usize) -> Bytes {
        Bytes::from(vec![u8::try_from(at + 1).unwrap_or(u8::MAX)])
    }

    pub fn mint(operations: Vec<Operation>) -> History {
        let mut minter = Minter::default();
        History { minted: operations.into_iter().map(|operation| minter.mint(operation)).collect() }
    }
}

/// Any operations.
pub fn history(most: usize) -> BoxedStrategy<History> {
    let any = prop_oneof![2 => operation(lww_change()), 1 => operation(causal_change())];
    vec(any, 1..=most).prop_map(History::mint).boxed()
}

/// Only those of LWW tables.
pub fn lww_history(most: usize) -> BoxedStrategy<History> {
    vec(operation(lww_change()), 1..=most).prop_map(History::mint).boxed()
}

fn operation(change: impl Strategy<Value = Change>) -> impl Strategy<Value = Operation> {
    (timestamp(), expiry(), change, 1u64..4, 0u64..3, any::<bool>(), any::<u32>()).prop_map(
        |(ts, exp, change, actor, elsewhere, forgets, context)| Operation {
            ts,
            exp,
            change,
            actor,
            elsewhere,
            forgets,
            context,
        },
    )
}

fn lww_change() -> impl Strategy<Value = Change> {
    let place = || (clustering(), cell_id());
    let elements = vec(0u8..3, 0..3);
    prop_oneof![
        4 => place().prop_map(|(row, id)| Change::Put(row, id)),
        2 => place().prop_map(|(row, id)| Change::Insert(row, id)),
        2 => place().prop_map(|(row, id)| Change::DeleteCell(row, id)),
        2 => (clustering(), 1u64..4, elements).prop_map(|(row, column, elements)| {
            Change::Replace(row, ColumnId(column), elements)
        }),
        1 => clustering().prop_map(Change::DeleteRow),
        1 => (bound(), bound()).prop_map(|(from, to)| Change::DeleteRange(from, to)),
        1 => Just(Change::DeletePartition),
        1 => cell_id().prop_map(Change::PutStatic),
        1 => cell_id().prop_map(Change::DeleteStatic),
    ]
}

fn causal_change() -> impl Strategy<Value = Change> {
    // Few cells, so that contexts have something to name.
    let place = || (clustering(), Just(CellId::simple(ColumnId(1))));
    prop_oneof![
        3 => (place(), option::weighted(0.3, 0u8..2)).prop_map(|((row, id), op)| Change::CausalPut(row, id, op)),
        1 => place().prop_map(|(row, id)| Change::CausalDelete(row, id)),
    ]
}

#[derive(Default)]
struct Minter {
    seqs: BTreeMap<u64, u64>,
    /// What each cell was given so far.
    dots: BTreeMap<(ClusteringKey, CellId), Vec<(Dot, u64)>>,
    values: BTreeMap<(ClusteringKey, CellId), Key>,
    count: usize,
}

impl Minter {
    fn mint(&mut self, operation: Operation) -> (Operation, Dot, Partition) {
        let before = self.seqs.get(&operation.actor).copied().unwrap_or_default();
        let seq = before + 1 + operation.elsewhere;
        self.seqs.insert(operation.actor, seq);
        let prev = if operation.forgets { seq - 1 } else { before };
        let Ok(dot) = Dot::new(Actor(operation.actor), 0, seq) else { unreachable!("short histories") };
        let body = History::body(self.count);
        self.count += 1;
        let delta = self.delta(&operation, dot, prev, body);
        (operation, dot, delta)
    }

    fn delta(&mut self, operation: &Operation, dot: Dot, prev: u64, body: Bytes) -> Partition {
        let Operation { ts, exp, .. } = *operation;
        let key = Key::of(ts, dot);
        let put = || Cell::put(key, exp, body.clone());
        let one_row = |row: &ClusteringKey, delta: Row| Partition::of_row(row.clone(), delta);
        let statics = |id: &CellId, cell| Partition {
            statics: Some(Box::new(Row::of_cell(id.clone(), cell))),
            ..Partition::default()
        };
        match &operation.change {
            Change::Put(row, id) => {
                self.saw_value(row, id, key);
                Partition::of_cell(row.clone(), id.clone(), put())
            }
            Change::Insert(row, id) => {
                self.saw_value(row, id, key);
                let marker = Cell::put(key, exp, Bytes::new()).lww;
                one_row(row, Row { marker, ..Row::of_cell(id.clone(), put()) })
            }
            Change::DeleteCell(row, id) => Partition::of_cell(row.clone(), id.clone(), Cell::delete(ts)),
            Change::Replace(row, column, elements) => {
                let element = |element: &u8| CellId::element(*column, Bytes::copy_from_slice(&[b'a' + element]));
                let cells = elements.iter().map(|path| (element(path), put())).collect();
                let collections = SortedMap::one(*column, Key::before(ts, dot));
                one_row(row, Row { collections, cells, ..Row::default() })
            }
            Change::DeleteRow(row) => one_row(row, Row { floor: Some(Key::delete_at(ts)), ..Row::default() }),
            Change::DeleteRange(from, to) => {
                let mut delta = Partition::default();
                delta.ranges.cover(from.clone(), to.clone(), Key::delete_at(ts));
                delta
            }
            Change::DeletePartition => Partition { floor: Some(Key::delete_at(ts)), ..Partition::default() },
            Change::PutStatic(id) => statics(id, put()),
            Change::DeleteStatic(id) => statics(id, Cell::delete(ts)),
            Change::CausalPut(row, id, op) => {
                let context = self.context(row, id, operation.context, (dot, prev));
                let op_id = op.map(|op| OpId([op; 16]));
                let value = NewSibling { hlc: ts, op_id, exp, body };
                Partition::of_cell(row.clone(), id.clone(), Cell::causal_put(&context, dot, prev, value))
            }
            Change::CausalDelete(row, id) => {
                let context = self.context(row, id, operation.context, (dot, prev));
                Partition::of_cell(row.clone(), id.clone(), Cell::causal_delete(&context, dot, prev))
            }
        }
    }

    fn saw_value(&mut self, row: &ClusteringKey, id: &CellId, key: Key) {
        let highest = self.values.entry((row.clone(), id.clone())).or_insert(key);
        *highest = key.max(*highest);
    }

    fn context(&mut self, row: &ClusteringKey, id: &CellId, mask: u32, minted: (Dot, u64)) -> Context {
        let place = (row.clone(), id.clone());
        let known = self.dots.entry(place.clone()).or_default();
        let saw = known.iter().enumerate().filter(|(at, _)| mask >> (at % 31) & 1 == 1);
        let dots = saw.map(|(_, dot)| *dot).collect();
        known.push(minted);
        let lww = self.values.get(&place).copied().filter(|_| mask >> 31 == 1);
        Context { dots, lww }
    }
}
