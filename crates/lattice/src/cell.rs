//! The cell: L × F × C, joined component by component, and the deltas that clients' operations become.
//!
//! N (counters) is a reserved tag of the codec and has no value yet.

use crate::{Body, Context, Dots, Join, Live, Lww, OpId};
use bytes::Bytes;
use kula_types::{ColumnId, Dot, Key, Timestamp};

/// Which cell of a row.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CellId {
    pub column: ColumnId,
    /// Empty for a simple column; else an element of a collection.
    pub path: Bytes,
}

/// Bottom is the default; an absent part costs no byte in the codec.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cell {
    pub lww: Option<Lww>,
    pub floor: Option<Key>,
    pub dots: Option<Box<Dots>>,
}

/// The value of a causal put.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewSibling {
    pub hlc: Timestamp,
    /// The hash of the client's Idempotency-Key, if it gave one.
    pub op_id: Option<OpId>,
    pub exp: Option<Timestamp>,
    pub body: Bytes,
}

impl CellId {
    /// A column that is not a collection.
    pub const fn simple(column: ColumnId) -> Self {
        CellId { column, path: Bytes::new() }
    }

    pub const fn element(column: ColumnId, path: Bytes) -> Self {
        CellId { column, path }
    }
}

impl Cell {
    /// LWW put: { L }.
    pub fn put(key: Key, exp: Option<Timestamp>, body: Bytes) -> Self {
        Cell { lww: Some(Lww { key, exp, body: Body::Full(body) }), ..Cell::default() }
    }

    /// Delete at `ts`: { F }, above every write at `ts`. Siblings are not its business.
    pub fn delete(ts: Timestamp) -> Self {
        Cell { floor: Some(Key::delete_at(ts)), ..Cell::default() }
    }

    /// Causal put: { live: its dot; seen: the context's dots and its own; F: the key of the L the context saw }.
    ///
    /// `prev` is the last sequence the dot's actor minted for this key as far as it remembers, else seq − 1.
    pub fn causal_put(context: &Context, dot: Dot, prev: u64, value: NewSibling) -> Self {
        let NewSibling { hlc, op_id, exp, body } = value;
        let mut dots = Dots::one(dot, Live { hlc, op_id, exp, body: Body::Full(body), prev });
        for (seen, seen_prev) in &context.dots {
            dots.seen.insert(*seen, *seen_prev);
        }
        Cell { floor: context.lww, dots: Some(Box::new(dots)), lww: None }
    }

    /// Causal delete: a causal put without live.
    pub fn causal_delete(context: &Context, dot: Dot, prev: u64) -> Self {
        let mut dots = Dots::default();
        dots.seen.insert(dot, prev);
        for (seen, seen_prev) in &context.dots {
            dots.seen.insert(*seen, *seen_prev);
        }
        Cell { floor: context.lww, dots: Some(Box::new(dots)), lww: None }
    }

    /// Nothing at all.
    pub fn is_bottom(&self) -> bool {
        self.lww.is_none() && self.floor.is_none() && self.dots.as_ref().is_none_or(|dots| dots.is_empty())
    }
}

impl Join for Cell {
    fn join(&mut self, other: Self) {
        self.lww.join(other.lww);
        self.floor.join(other.floor);
        self.dots.join(other.dots);
    }
}
