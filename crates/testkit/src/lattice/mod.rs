//! Lattice values for property tests.
//!
//! `values` makes any valid value out of a small universe, so that keys, dots and timestamps collide: for laws and
//! codecs. `history` makes what coordinators would mint, chained and with contexts that name earlier dots: for
//! properties of views. Every generated value is valid for the codec and free of bottom entries.

mod history;
mod values;

pub use history::{Change, History, Operation, history, lww_history};
pub use values::{
    actor, bound, cell, cell_id, clustering, context, dot, dots, expiry, floor, key, live, lww, mutation, partition,
    ranges, row, seen, slice, table_floor, timestamp,
};
