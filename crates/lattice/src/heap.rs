//! How much memory a value holds, for whoever budgets it (the memtable).
//!
//! Counted: vectors by capacity, boxes, and the bytes that keys, paths and bodies refer to. Those are slices of the
//! message they were decoded from and keep all of it alive, so each body is counted with `SLICE_OVERHEAD_BYTES` for
//! what lies around it there. The caller counts its own copy of `Partition` and of the partition key.

use crate::{Body, Cell, CellId, Dots, Live, Lww, Partition, Row, Run};
use bytes::Bytes;
use kula_types::{ClusteringKey, ColumnId, Dot, Key};
use std::mem::size_of;

/// Of a small mutation around its body: ids, key, token, the parts' own bytes, the shared counter, the allocator's
/// rounding.
const SLICE_OVERHEAD_BYTES: usize = 96;

// What every row and cell costs before it says anything; rare parts are boxed.
const _: () = assert!(size_of::<Cell>() <= 120 && size_of::<Row>() <= 160 && size_of::<Partition>() <= 96);

impl Partition {
    /// Bytes on the heap, without `size_of::<Partition>()`.
    pub fn heap_bytes(&self) -> usize {
        let statics = self.statics.as_ref().map_or(0, |row| size_of::<Row>() + row.heap_bytes());
        let (step_capacity, steps) = self.ranges.heap_parts();
        let ranges =
            step_capacity * size_of::<crate::ranges::Step>() + steps.iter().map(|s| s.start.len()).sum::<usize>();
        let rows = self.rows.capacity() * size_of::<(ClusteringKey, Row)>();
        let inside = self.rows.iter().map(|(clustering, row)| clustering.0.len() + row.heap_bytes());
        statics + ranges + rows + inside.sum::<usize>()
    }
}

impl Row {
    /// Bytes on the heap, without `size_of::<Row>()`.
    pub fn heap_bytes(&self) -> usize {
        let marker = self.marker.as_ref().map_or(0, Lww::heap_bytes);
        let collections = self.collections.capacity() * size_of::<(ColumnId, Key)>();
        let cells = self.cells.capacity() * size_of::<(CellId, Cell)>();
        let inside = self.cells.iter().map(|(id, cell)| id.path.len() + cell.heap_bytes());
        marker + collections + cells + inside.sum::<usize>()
    }
}

impl Cell {
    /// Bytes on the heap, without `size_of::<Cell>()`.
    pub fn heap_bytes(&self) -> usize {
        let lww = self.lww.as_ref().map_or(0, Lww::heap_bytes);
        lww + self.dots.as_ref().map_or(0, |dots| size_of::<Dots>() + dots.heap_bytes())
    }
}

impl Dots {
    fn heap_bytes(&self) -> usize {
        let live = self.live.capacity() * size_of::<(Dot, Live)>();
        let bodies = self.live.values().map(|live| body_bytes(&live.body)).sum::<usize>();
        live + bodies + self.seen.capacity() * size_of::<Run>()
    }
}

impl Lww {
    fn heap_bytes(&self) -> usize {
        body_bytes(&self.body)
    }
}

fn body_bytes(body: &Body) -> usize {
    body.bytes().map(Bytes::len).filter(|len| *len > 0).map_or(0, |len| len + SLICE_OVERHEAD_BYTES)
}
