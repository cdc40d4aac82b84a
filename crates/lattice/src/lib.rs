//! The cell and its join: the one way data of Kula changes (`cell.md`, the normative page).
//!
//! All stored state is a join-semilattice `cell = L × F × C × N` (last-writer-wins register, floor, dots, and a tag
//! reserved for counters) under rows and partitions. A put, a hint, a repair, a memtable insert, a replay, a compaction
//! and a read over several tables are the same operation, `Join::join`; so duplicates, retries and reordering are
//! harmless. Nothing here knows a schema, a clock, a disk or a peer: time comes in as an argument, and visibility is
//! judged only in `view`.

mod cell;
pub mod codec;
mod compact;
pub mod context;
mod digest;
mod dots;
mod extent;
mod heap;
mod join;
pub mod limits;
mod mutation;
mod partition;
mod ranges;
mod register;
mod row;
mod seen;
mod slice;
mod sorted_map;
mod view;

pub use cell::{Cell, CellId, NewSibling};
pub use codec::DecodeError;
pub use compact::Seal;
pub use context::{Context, ContextError, ContextKey};
pub use digest::Digest;
pub use dots::{Dots, Live, OpId};
pub use extent::Extent;
pub use join::Join;
pub use mutation::Mutation;
pub use partition::Partition;
pub use ranges::RangeFloors;
pub use register::{Body, Lww};
pub use row::Row;
pub use seen::{Run, Seen};
pub use slice::Slice;
pub use sorted_map::SortedMap;
pub use view::{CellView, PartitionView, RowView, SiblingView};
