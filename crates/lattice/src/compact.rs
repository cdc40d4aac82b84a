//! What may be dropped at any time, and the normal form that digests are made of (`cell.md`).
//!
//! Dropped: L ≤ f; siblings ≤ fs, whose dots stay in seen; a floor ≤ an enclosing floor; the body of a value that has
//! been expired for ten minutes on the slowest replica clock. Safe because floors only rise: what is dropped here would
//! be dropped after any later join too. **No compaction creates a floor.** Floors, stubs and dead dots go only under a
//! seal; until seals exist: never.

use crate::{Body, Cell, Lww, Partition, RangeFloors, Row, limits::STUB_AFTER};
use kula_fault::{Mutant, planted};
use kula_types::{Key, Timestamp};

/// The number of the last seal of a ring partition. Replies name it beside a digest; if two differ, the reader asks
/// again at the higher.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Seal(pub u64);

impl Seal {
    /// No seal yet: nothing may be dropped.
    pub const NONE: Seal = Seal(0);
}

impl Partition {
    /// Drops what may be dropped at any time.
    ///
    /// `lowest_clock` is the lowest replica clock gossiped (a node without peers: its own); `None` keeps all bodies.
    /// `table_floor` must be durable, and so must the floors in `self`, in this output or in another live table.
    pub fn compact(&mut self, lowest_clock: Option<Timestamp>, table_floor: Option<Key>) {
        self.floor = self.floor.filter(|floor| Some(*floor) > table_floor);
        let over_all = self.floor_over_all(table_floor);
        self.ranges = std::mem::take(&mut self.ranges).above(over_all);
        if planted(Mutant::RangeHidesPartition) && self.ranges.iter().any(|(_, floor)| floor >= self.floor) {
            self.floor = None;
        }
        if let Some(statics) = &mut self.statics {
            statics.compact(lowest_clock, over_all);
        }
        self.statics = self.statics.take().filter(|statics| !statics.is_bottom());
        let ranges: &RangeFloors = &self.ranges;
        self.rows.retain(|clustering, row| {
            row.compact(lowest_clock, over_all.max(ranges.at(clustering)));
            !row.is_bottom()
        });
    }

    /// The normal form as far as `seal` covers: the same for all states that differ only in what may be dropped.
    ///
    /// Seals are not built yet: whatever its number, nothing is dropped for it.
    #[must_use]
    pub fn normal(mut self, table_floor: Option<Key>, _seal: Seal) -> Partition {
        self.compact(None, table_floor);
        if planted(Mutant::EarlyPurgeInNormal) {
            self.floor = None;
        }
        self
    }
}

impl Row {
    /// `enclosing` is the highest floor of range, partition and table over this row.
    pub fn compact(&mut self, lowest_clock: Option<Timestamp>, enclosing: Option<Key>) {
        self.floor = self.floor.filter(|floor| Some(*floor) > enclosing);
        let here = self.floor_here(enclosing);
        self.marker = self.marker.take().filter(|marker| Some(marker.key) > here);
        if let Some(marker) = &mut self.marker {
            marker.stub(lowest_clock);
        }
        self.collections.retain(|_, floor| Some(*floor) > here);
        let collections = &self.collections;
        self.cells.retain(|id, cell| {
            cell.compact(lowest_clock, here.max(collections.get(&id.column).copied()));
            !cell.is_bottom()
        });
    }
}

impl Cell {
    /// `enclosing` is the highest floor of collection, row, range, partition and table over this cell.
    pub fn compact(&mut self, lowest_clock: Option<Timestamp>, enclosing: Option<Key>) {
        self.floor = self.floor.filter(|floor| Some(*floor) > enclosing);
        let floor = self.floor.max(enclosing);
        let spares = |lww: &Lww| match floor {
            Some(floor) if planted(Mutant::FloorWithoutMid) => lww.key.ts() > floor.ts(),
            floor => Some(lww.key) > floor,
        };
        self.lww = self.lww.take().filter(spares);
        if planted(Mutant::ExpiryIntoFloor)
            && let Some(ended) = self.lww.take_if(|lww| lww.exp.is_some())
        {
            self.floor = Some(ended.key);
        }
        if let Some(lww) = &mut self.lww {
            lww.stub(lowest_clock);
        }
        if let Some(dots) = &mut self.dots {
            dots.live.retain(|dot, live| {
                if is_stub_time(live.exp, lowest_clock) {
                    live.body = Body::Stub;
                }
                Some(live.key(*dot)) > enclosing
            });
        }
        self.dots = self.dots.take().filter(|dots| !dots.is_empty());
    }
}

impl Lww {
    fn stub(&mut self, lowest_clock: Option<Timestamp>) {
        if is_stub_time(self.exp, lowest_clock) {
            self.body = Body::Stub;
        }
    }
}

/// exp + 10 min ≤ the lowest clock. An expiry so late that the sum leaves the range of time never comes.
fn is_stub_time(exp: Option<Timestamp>, lowest_clock: Option<Timestamp>) -> bool {
    match (exp, lowest_clock) {
        (Some(exp), Some(lowest)) => {
            let after = i128::from(exp.micros()) + i128::try_from(STUB_AFTER.as_micros()).unwrap_or(i128::MAX / 2);
            after <= i128::from(lowest.micros())
        }
        (None, _) | (_, None) => false,
    }
}
