//! Property 4: digest(compact(x)) = digest(x); digests equal ⇔ normal forms equal.

use bytes::Bytes;
use kula_lattice::{Body, Cell, CellId, Context, Join, NewSibling, Partition, RangeFloors, Row, Seal, SortedMap};
use kula_testkit::{
    lattice::{history, partition, table_floor, timestamp},
    property,
};
use kula_types::{Actor, ClusteringKey, ColumnId, Dot, Key, Timestamp};
use proptest::prelude::*;
use std::ops::Bound;

/// What a digest is about: the normal form without bodies and without what follows from a dot.
fn facts(partition: Partition, table_floor: Option<Key>) -> Partition {
    let mut normal = partition.normal(table_floor, Seal::NONE);
    if let Some(statics) = &mut normal.statics {
        bare_row(statics);
    }
    for (_, row) in normal.rows.iter_mut() {
        bare_row(row);
    }
    normal
}

fn bare_row(row: &mut Row) {
    if let Some(marker) = &mut row.marker {
        marker.body = Body::Stub;
    }
    for (_, cell) in row.cells.iter_mut() {
        bare_cell(cell);
    }
}

fn bare_cell(cell: &mut Cell) {
    if let Some(lww) = &mut cell.lww {
        lww.body = Body::Stub;
    }
    if let Some(dots) = &mut cell.dots {
        for (_, live) in dots.live.iter_mut() {
            (live.hlc, live.op_id, live.prev, live.body) = (Timestamp::MIN, None, 0, Body::Stub);
        }
    }
}

fn digests_agree_with_facts(
    left: &Partition,
    right: &Partition,
    table_floor: Option<Key>,
) -> Result<(), TestCaseError> {
    let equal = left.digest(table_floor, Seal::NONE) == right.digest(table_floor, Seal::NONE);
    prop_assert_eq!(equal, facts(left.clone(), table_floor) == facts(right.clone(), table_floor));
    Ok(())
}

proptest! {
    #![proptest_config(property())]

    // Promise: R27
    #[test]
    fn a_digest_is_that_of_the_normal_form(
        partition in partition(), table_floor in table_floor(), clock in timestamp(),
    ) {
        let digest = partition.digest(table_floor, Seal::NONE);
        let mut compacted = partition.clone();
        compacted.compact(Some(clock), table_floor);
        prop_assert_eq!(compacted.digest(table_floor, Seal::NONE), digest);
        let normal = partition.clone().normal(table_floor, Seal::NONE);
        prop_assert_eq!(normal.digest(table_floor, Seal::NONE), digest);
        prop_assert_eq!(normal.clone().normal(table_floor, Seal::NONE), normal);
    }

    // Promise: P3, R27
    #[test]
    fn digests_are_equal_iff_normal_forms_are(
        left in partition(), right in partition(), table_floor in table_floor(), clock in timestamp(),
    ) {
        let mut joined = left.clone();
        joined.join(right.clone());
        let mut compacted = joined.clone();
        compacted.compact(Some(clock), table_floor);
        for (a, b) in [(&left, &right), (&left, &joined), (&joined, &compacted), (&right, &compacted)] {
            digests_agree_with_facts(a, b, table_floor)?;
        }
    }

    /// Two states of one history that differ by one delta, or by nothing that counts.
    #[test]
    fn digests_see_every_delta_that_counts(
        history in history(8), missing in any::<prop::sample::Index>(), table_floor in table_floor(),
    ) {
        let missing = missing.index(history.minted.len());
        let mut without = Partition::default();
        for (_, delta) in history.deltas().enumerate().filter(|(at, _)| *at != missing) {
            without.join(delta.clone());
        }
        digests_agree_with_facts(&without, &history.whole(), table_floor)?;
    }

    #[test]
    fn bodies_do_not_count(partition in partition(), table_floor in table_floor()) {
        let mut rewritten = partition.clone();
        for (_, row) in rewritten.rows.iter_mut() {
            for (_, cell) in row.cells.iter_mut() {
                if let Some(lww) = &mut cell.lww {
                    lww.body = Body::Full(Bytes::from_static(b"another"));
                }
            }
        }
        prop_assert_eq!(rewritten.digest(table_floor, Seal::NONE), partition.digest(table_floor, Seal::NONE));
    }
}

fn ts(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).expect("a timestamp")
}

fn dot(actor: u64, epoch: u32, seq: u64) -> Dot {
    Dot::new(Actor(actor), epoch, seq).expect("a dot")
}

/// Cells that differ from another in one fact.
fn cells() -> Vec<Cell> {
    let mut cells: Vec<Cell> = Vec::new();
    for key in [
        Key::of(ts(1), dot(1, 0, 2)),
        Key::of(ts(2), dot(1, 0, 2)),
        Key::of(ts(1), dot(2, 0, 2)),
        Key::of(ts(1), dot(1, 1, 2)),
        Key::of(ts(1), dot(1, 0, 3)),
        Key::delete_at(ts(1)),
    ] {
        cells.push(Cell { floor: Some(key), ..Cell::default() });
        cells.extend([None, Some(ts(1)), Some(ts(2))].map(|exp| Cell::put(key, exp, Bytes::new())));
    }
    let none = Context::default();
    for (dot, prev) in [(dot(1, 0, 4), 3), (dot(1, 0, 4), 2), (dot(1, 0, 5), 3), (dot(2, 0, 4), 3), (dot(1, 1, 4), 3)] {
        cells.push(Cell::causal_delete(&none, dot, prev));
        for exp in [None, Some(ts(1)), Some(ts(2))] {
            let value = NewSibling { hlc: ts(1), op_id: None, exp, body: Bytes::new() };
            cells.push(Cell::causal_put(&none, dot, prev, value));
        }
    }
    cells
}

/// Partitions that differ from another in one fact.
fn near_misses() -> Vec<Partition> {
    let at = |bytes: &'static [u8]| ClusteringKey(Bytes::from_static(bytes));
    let id = |column, path: &'static [u8]| CellId::element(ColumnId(column), Bytes::from_static(path));
    let floor = Key::delete_at(ts(7));
    let some = || Cell::delete(ts(7));
    let statics = |row| Partition { statics: Some(Box::new(row)), ..Partition::default() };
    let mut partitions = vec![Partition::default(), Partition { floor: Some(floor), ..Partition::default() }];
    partitions.extend(cells().into_iter().map(|cell| Partition::of_cell(at(b""), id(1, b""), cell)));
    for clustering in [b"a", b"b"] {
        let rows = [
            Row { floor: Some(floor), ..Row::default() },
            Row { marker: Cell::put(floor, None, Bytes::new()).lww, ..Row::default() },
            Row { marker: Cell::put(floor, Some(ts(1)), Bytes::new()).lww, ..Row::default() },
            Row { collections: SortedMap::one(ColumnId(1), floor), ..Row::default() },
            Row { collections: SortedMap::one(ColumnId(2), floor), ..Row::default() },
            Row::of_cell(id(1, b""), some()),
            Row::of_cell(id(2, b""), some()),
            Row::of_cell(id(1, b"a"), some()),
            Row::of_cell(id(1, b"b"), some()),
            Row { cells: [(id(1, b"a"), some()), (id(1, b"b"), some())].into_iter().collect(), ..Row::default() },
        ];
        partitions.extend(rows.map(|row| Partition::of_row(at(clustering), row)));
    }
    partitions.push(statics(Row::of_cell(id(1, b""), some())));
    partitions.push(statics(Row { floor: Some(floor), ..Row::default() }));
    for (from, to, ts_of) in [(b"a", b"c", 7), (b"a", b"d", 7), (b"b", b"c", 7), (b"a", b"c", 8)] {
        let mut ranges = RangeFloors::new();
        ranges.cover(Bound::Included(at(from)), Bound::Included(at(to)), Key::delete_at(ts(ts_of)));
        partitions.push(Partition { ranges, ..Partition::default() });
    }
    partitions
}

#[test]
fn every_single_fact_counts() {
    let digests: Vec<_> = near_misses().iter().map(|partition| partition.digest(None, Seal::NONE)).collect();
    let distinct: std::collections::BTreeSet<_> = digests.iter().collect();
    assert_eq!(distinct.len(), digests.len());
}
