//! How far a value reaches in time: what a table must remember of its contents so that reads may skip it.
//!
//! A read may skip an older table only if the table's highest timestamp, values *and* floors, is strictly below what
//! was found, and the column has no dots (`cell.md`).

use crate::{Cell, Join, Partition, Row};
use kula_types::{Key, Timestamp};

/// Joined over all that a table holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Extent {
    /// Of all values, markers, floors and live siblings.
    pub lowest: Option<Timestamp>,
    pub highest: Option<Timestamp>,
    /// The last moment at which something expires; `None` if nothing does.
    pub expiry: Option<Timestamp>,
    /// There is something that never expires: a floor or a value without expiry.
    pub lasting: bool,
    /// There are dots, live or only seen: such a table is never skipped for its timestamps.
    pub dots: bool,
}

impl Extent {
    fn floor(&mut self, floor: Option<Key>) {
        if let Some(floor) = floor {
            self.value(floor.ts(), None);
        }
    }

    fn value(&mut self, ts: Timestamp, exp: Option<Timestamp>) {
        self.join(Extent { lowest: Some(ts), highest: Some(ts), expiry: exp, lasting: exp.is_none(), dots: false });
    }

    fn cell(&mut self, cell: &Cell) {
        self.floor(cell.floor);
        if let Some(lww) = &cell.lww {
            self.value(lww.key.ts(), lww.exp);
        }
        if let Some(dots) = &cell.dots {
            self.dots |= !dots.is_empty();
            for live in dots.live.values() {
                self.value(live.hlc, live.exp);
            }
        }
    }

    fn row(&mut self, row: &Row) {
        self.floor(row.floor);
        if let Some(marker) = &row.marker {
            self.value(marker.key.ts(), marker.exp);
        }
        for floor in row.collections.values() {
            self.floor(Some(*floor));
        }
        for cell in row.cells.values() {
            self.cell(cell);
        }
    }
}

impl Join for Extent {
    fn join(&mut self, other: Self) {
        self.lowest = match (self.lowest, other.lowest) {
            (Some(mine), Some(theirs)) => Some(mine.min(theirs)),
            (mine, theirs) => mine.or(theirs),
        };
        self.highest = self.highest.max(other.highest);
        self.expiry = self.expiry.max(other.expiry);
        self.lasting |= other.lasting;
        self.dots |= other.dots;
    }
}

impl Cell {
    pub fn extent(&self) -> Extent {
        let mut extent = Extent::default();
        extent.cell(self);
        extent
    }
}

impl Row {
    pub fn extent(&self) -> Extent {
        let mut extent = Extent::default();
        extent.row(self);
        extent
    }
}

impl Partition {
    pub fn extent(&self) -> Extent {
        let mut extent = Extent::default();
        extent.floor(self.floor);
        if let Some(statics) = &self.statics {
            extent.row(statics);
        }
        for (_, floor) in self.ranges.iter() {
            extent.floor(floor);
        }
        for row in self.rows.values() {
            extent.row(row);
        }
        extent
    }

    /// The highest timestamp of all values, markers, floors and live siblings; `None` if there are none.
    pub fn highest_timestamp(&self) -> Option<Timestamp> {
        self.extent().highest
    }

    /// Whether any cell holds dots, live or only seen.
    pub fn has_dots(&self) -> bool {
        self.extent().dots
    }
}
