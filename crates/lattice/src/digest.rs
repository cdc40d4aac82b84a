//! Digest: XXH3-128 over a canonical walk of the normal form (`cell.md`). Never bodies, clocks or layout.
//!
//! The walk applies the rules of `compact` on the fly instead of building the normal form; a property test holds the
//! two together. The hashed stream is records `tag, position or fact`, each of fixed length or with its length in
//! front, so that no two normal forms give one stream. It never leaves the process except as a hash, and the hash is
//! compared only between nodes of one protocol version: its layout may change with the version.

use crate::{Cell, CellId, Dots, Lww, Partition, RangeFloors, Row, Seal};
use kula_fault::{Mutant, planted};
use kula_types::{ClusteringKey, ColumnId, Key, Timestamp};
use std::fmt;
use xxhash_rust::xxh3::Xxh3;

/// Equal digests mean equal normal forms, up to a collision of 128 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub u128);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a record of the stream says.
#[derive(Clone, Copy)]
enum Tag {
    PartitionFloor = 1,
    Statics,
    RangeStart,
    RangeEnd,
    Row,
    RowFloor,
    Marker,
    Collection,
    Cell,
    Value,
    CellFloor,
    Live,
    Seen,
}

impl Partition {
    /// The digest of `normal(table_floor, seal)`. Seals are not built yet: whatever its number, nothing is dropped for
    /// it.
    pub fn digest(&self, table_floor: Option<Key>, _seal: Seal) -> Digest {
        let mut walk = Walk { hash: Xxh3::new(), position: Position::Nowhere };
        if self.floor > table_floor {
            walk.floor(Tag::PartitionFloor, self.floor);
        }
        let over_all = self.floor_over_all(table_floor);
        if let Some(statics) = &self.statics {
            walk.position = Position::Statics;
            walk.row(statics, over_all);
        }
        walk.position = Position::Nowhere;
        walk.ranges(&self.ranges, over_all);
        for (clustering, row) in self.rows.iter() {
            walk.position = Position::Row(clustering);
            walk.row(row, self.floor_over(clustering, over_all));
        }
        Digest(walk.hash.digest128())
    }
}

/// A position enters the stream only with its first fact, so that what the normal form leaves empty leaves no trace.
enum Position<'a> {
    Nowhere,
    Statics,
    Row(&'a ClusteringKey),
}

struct Walk<'a> {
    hash: Xxh3,
    position: Position<'a>,
}

impl Walk<'_> {
    fn ranges(&mut self, ranges: &RangeFloors, enclosing: Option<Key>) {
        let mut last = None;
        for (start, floor) in ranges.iter() {
            let floor = floor.filter(|floor| Some(*floor) > enclosing);
            if floor != last {
                match floor {
                    Some(_) => self.floor(Tag::RangeStart, floor),
                    None => self.tag(Tag::RangeEnd),
                }
                self.bytes(start);
                last = floor;
            }
        }
    }

    fn row(&mut self, row: &Row, enclosing: Option<Key>) {
        if row.floor > enclosing {
            self.floor(Tag::RowFloor, row.floor);
        }
        let here = row.floor_here(enclosing);
        if let Some(marker) = row.marker.as_ref().filter(|marker| Some(marker.key) > here) {
            self.value(Tag::Marker, marker);
        }
        for (column, floor) in row.collections.iter().filter(|(_, floor)| Some(**floor) > here) {
            self.floor(Tag::Collection, Some(*floor));
            self.column(*column);
        }
        for (id, cell) in row.cells.iter() {
            self.cell(id, cell, row.floor_over(id.column, here));
        }
    }

    fn cell(&mut self, id: &CellId, cell: &Cell, enclosing: Option<Key>) {
        let is_raw = planted(Mutant::DigestUncompacted);
        let own_floor = cell.floor.filter(|floor| Some(*floor) > enclosing || is_raw);
        let floor = own_floor.max(enclosing);
        let value = cell.lww.as_ref().filter(|lww| Some(lww.key) > floor || is_raw);
        let dots = cell.dots.as_ref().filter(|dots| !dots.is_empty());
        if own_floor.is_none() && value.is_none() && dots.is_none() {
            return;
        }
        self.tag(Tag::Cell);
        self.column(id.column);
        self.bytes(&id.path);
        if let Some(value) = value {
            self.value(Tag::Value, value);
        }
        if own_floor.is_some() {
            self.floor(Tag::CellFloor, own_floor);
        }
        if let Some(dots) = dots {
            self.dots(dots, enclosing);
        }
    }

    fn dots(&mut self, dots: &Dots, enclosing: Option<Key>) {
        for (dot, live) in dots.live.iter().filter(|(dot, live)| Some(live.key(**dot)) > enclosing) {
            self.tag(Tag::Live);
            self.number(dot.actor().0);
            self.number(u64::from(dot.epoch()));
            self.number(dot.seq());
            self.expiry(live.exp);
        }
        for run in dots.seen.iter() {
            self.tag(Tag::Seen);
            self.number(run.actor.0);
            self.number(u64::from(run.epoch));
            self.number(run.prev);
            self.number(run.seq);
        }
    }

    fn value(&mut self, tag: Tag, value: &Lww) {
        self.tag(tag);
        self.key(value.key);
        self.expiry(value.exp);
    }

    fn floor(&mut self, tag: Tag, floor: Option<Key>) {
        if let Some(floor) = floor.filter(|_| !planted(Mutant::DigestOfVisible)) {
            self.tag(tag);
            self.key(floor);
        }
    }

    /// Every record begins here, so here the position it belongs to goes first.
    fn tag(&mut self, tag: Tag) {
        match std::mem::replace(&mut self.position, Position::Nowhere) {
            Position::Nowhere => {}
            Position::Statics => self.hash.update(&[Tag::Statics as u8]),
            Position::Row(clustering) => {
                self.hash.update(&[Tag::Row as u8]);
                self.bytes(&clustering.0);
            }
        }
        self.hash.update(&[tag as u8]);
    }

    fn key(&mut self, key: Key) {
        let (ts, mid) = key.parts();
        self.hash.update(&ts.micros().to_le_bytes());
        match mid {
            None => self.hash.update(&[1]),
            Some((actor, epoch, seq)) => {
                self.hash.update(&[0]);
                self.number(actor.0);
                self.number(u64::from(epoch));
                self.number(seq);
            }
        }
    }

    fn expiry(&mut self, exp: Option<Timestamp>) {
        // i64::MIN is no timestamp, so it can stand for none.
        self.hash.update(&exp.map_or(i64::MIN, Timestamp::micros).to_le_bytes());
    }

    fn column(&mut self, column: ColumnId) {
        self.number(column.0);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.hash.update(&(bytes.len() as u64).to_le_bytes());
        self.hash.update(bytes);
    }

    fn number(&mut self, number: u64) {
        self.hash.update(&number.to_le_bytes());
    }
}
