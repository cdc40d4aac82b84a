//! Blind writes to a bucket, for the tests that count what they leave behind.

use crate::workload::mutation;
use bytes::Bytes;
use kula_lattice::{Cell, CellId, Context, Mutation, NewSibling, Partition};
use kula_types::{Actor, ClusteringKey, ColumnId, Dot, Timestamp};

/// A causal put without context: one more sibling of the key.
pub fn sibling_of(key: u8, sequence: u64, bytes: usize) -> (Mutation, Bytes) {
    let dot = Dot::new(Actor(7), 0, sequence).unwrap();
    let value = NewSibling {
        hlc: Timestamp::from_micros(5).unwrap(),
        op_id: None,
        exp: None,
        body: Bytes::from(vec![b'x'; bytes]),
    };
    let nothing = Context { dots: Vec::new(), lww: None };
    let cell = Cell::causal_put(&nothing, dot, sequence - 1, value);
    let delta = Partition::of_cell(ClusteringKey::default(), CellId::simple(ColumnId(1)), cell);
    mutation(0, key, sequence, delta)
}
