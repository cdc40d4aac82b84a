//! A partition: rows in clustering order, the static row, and the floors over ranges and over all.

use crate::{Cell, CellId, Join, RangeFloors, Row, Slice, SortedMap};
use kula_fault::{Mutant, planted};
use kula_types::{ClusteringKey, Key};

/// Bottom is the default.
///
/// Floors enclose each other: table ⊇ partition ⊇ range of rows ⊇ row ⊇ collection ⊇ cell. The table's floor lives
/// with the schema and is an argument wherever visibility or dropping is decided. Ranges do not enclose the static row.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Partition {
    /// A delete of the whole partition, static row included.
    pub floor: Option<Key>,
    pub statics: Option<Box<Row>>,
    pub ranges: RangeFloors,
    pub rows: SortedMap<ClusteringKey, Row>,
}

impl Partition {
    pub fn of_row(clustering: ClusteringKey, row: Row) -> Self {
        Partition { rows: SortedMap::one(clustering, row), ..Partition::default() }
    }

    /// One cell of one row: all that a bucket's partition ever has.
    pub fn of_cell(clustering: ClusteringKey, id: CellId, cell: Cell) -> Self {
        Partition::of_row(clustering, Row::of_cell(id, cell))
    }

    /// No entry at all: nothing was ever written here.
    pub fn is_empty(&self) -> bool {
        self.floor.is_none() && self.statics.is_none() && self.ranges.is_empty() && self.rows.is_empty()
    }

    pub fn cell(&self, clustering: &ClusteringKey, id: &CellId) -> Option<&Cell> {
        self.rows.get(clustering)?.cells.get(id)
    }

    /// Only what belongs to the slice: its rows, range floors cut to it, and always the static row and the partition's
    /// floor. Slices that cover a partition join to it.
    #[must_use]
    pub fn clip(mut self, slice: &Slice) -> Self {
        if !slice.is_all() {
            if planted(Mutant::ClipLosesFloor) {
                self.floor = None;
            }
            self.ranges = self.ranges.clip(slice);
            self.rows.retain(|clustering, _| slice.contains(clustering));
        }
        self
    }

    /// Without bottom entries, which the codec does not write.
    #[must_use]
    pub fn pruned(mut self) -> Self {
        self.prune();
        self
    }

    pub(crate) fn prune(&mut self) {
        if let Some(statics) = &mut self.statics {
            statics.prune();
        }
        self.statics = self.statics.take().filter(|statics| !statics.is_bottom());
        self.rows.retain(|_, row| {
            row.prune();
            !row.is_bottom()
        });
    }

    /// The highest floor over the rows as a whole.
    pub(crate) fn floor_over_all(&self, table_floor: Option<Key>) -> Option<Key> {
        self.floor.max(table_floor)
    }

    /// The highest floor that encloses a row.
    pub(crate) fn floor_over(&self, clustering: &ClusteringKey, over_all: Option<Key>) -> Option<Key> {
        over_all.max(self.ranges.at(clustering))
    }
}

impl Row {
    pub(crate) fn prune(&mut self) {
        self.cells.retain(|_, cell| {
            cell.dots = cell.dots.take().filter(|dots| !dots.is_empty());
            !cell.is_bottom()
        });
    }
}

impl Join for Partition {
    fn join(&mut self, other: Self) {
        self.floor.join(other.floor);
        self.statics.join(other.statics);
        self.ranges.join(other.ranges);
        self.rows.join(other.rows);
    }
}
