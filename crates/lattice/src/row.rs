//! A row: its cells, its marker, and the floors of its collections and of itself.

use crate::{Cell, CellId, Join, Lww, SortedMap};
use kula_types::{ColumnId, Key};

/// Bottom is the default. A partition's static cells are such a row too, without ranges above it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Row {
    /// A delete of the whole row.
    pub floor: Option<Key>,
    /// The row was written as such (CQL's INSERT): it exists even if no cell of it is shown.
    pub marker: Option<Lww>,
    /// Deletes and replacements of whole collections.
    pub collections: SortedMap<ColumnId, Key>,
    pub cells: SortedMap<CellId, Cell>,
}

impl Row {
    pub fn of_cell(id: CellId, cell: Cell) -> Self {
        Row { cells: SortedMap::one(id, cell), ..Row::default() }
    }

    pub fn is_bottom(&self) -> bool {
        self.floor.is_none()
            && self.marker.is_none()
            && self.collections.is_empty()
            && self.cells.values().all(Cell::is_bottom)
    }

    /// The highest floor over the row as a whole, its own and those that enclose it.
    pub(crate) fn floor_here(&self, enclosing: Option<Key>) -> Option<Key> {
        self.floor.max(enclosing)
    }

    /// The highest floor that encloses the cells of `column`: fs of `cell.md`.
    pub(crate) fn floor_over(&self, column: ColumnId, here: Option<Key>) -> Option<Key> {
        if self.collections.is_empty() { here } else { here.max(self.collections.get(&column).copied()) }
    }
}

impl Join for Row {
    fn join(&mut self, other: Self) {
        self.floor.join(other.floor);
        self.marker.join(other.marker);
        self.collections.join(other.collections);
        self.cells.join(other.cells);
    }
}
