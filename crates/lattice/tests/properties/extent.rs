//! What a table remembers of its contents: no place is forgotten, or a read would skip a table that matters.

use bytes::Bytes;
use kula_lattice::{Cell, CellId, Context, Extent, NewSibling, Partition, RangeFloors, Row, SortedMap};
use kula_types::{Actor, ClusteringKey, ColumnId, Dot, Key, Timestamp};
use std::ops::Bound;

fn ts(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).expect("a timestamp")
}

fn row(row: Row) -> Partition {
    Partition::of_row(ClusteringKey::default(), row)
}

fn cell(cell: Cell) -> Partition {
    row(Row::of_cell(CellId::simple(ColumnId(1)), cell))
}

/// A floor or a value that never expires, in each place there is.
fn lasting() -> Vec<Partition> {
    let floor = Key::delete_at(ts(5));
    let value = Cell::put(floor, None, Bytes::new());
    let mut ranges = RangeFloors::new();
    ranges.cover(Bound::Unbounded, Bound::Unbounded, floor);
    vec![
        Partition { floor: Some(floor), ..Partition::default() },
        Partition { ranges, ..Partition::default() },
        Partition {
            statics: Some(Box::new(Row::of_cell(CellId::simple(ColumnId(1)), value.clone()))),
            ..Partition::default()
        },
        row(Row { floor: Some(floor), ..Row::default() }),
        row(Row { marker: value.lww.clone(), ..Row::default() }),
        row(Row { collections: SortedMap::one(ColumnId(1), floor), ..Row::default() }),
        cell(Cell::delete(ts(5))),
        cell(value),
    ]
}

#[test]
fn every_place_counts() {
    let expected = Extent { lowest: Some(ts(5)), highest: Some(ts(5)), expiry: None, lasting: true, dots: false };
    for partition in lasting() {
        assert_eq!(partition.extent(), expected, "{partition:?}");
        assert_eq!(partition.highest_timestamp(), Some(ts(5)));
    }
    assert_eq!(Partition::default().extent(), Extent::default());
}

#[test]
fn siblings_count_with_their_time_and_dots_always() {
    let dot = Dot::new(Actor(1), 0, 9).expect("a dot");
    let value = NewSibling { hlc: ts(3), op_id: None, exp: Some(ts(4)), body: Bytes::new() };
    let put = cell(Cell::causal_put(&Context::default(), dot, 8, value));
    let times = Extent { lowest: Some(ts(3)), highest: Some(ts(3)), expiry: Some(ts(4)), lasting: false, dots: true };
    assert_eq!(put.extent(), times);
    let delete = cell(Cell::causal_delete(&Context::default(), dot, 8));
    assert_eq!(delete.extent(), Extent { dots: true, ..Extent::default() });
    assert!(delete.has_dots());
}

#[test]
fn lowest_and_highest_come_from_different_places() {
    let both = Row {
        marker: Cell::put(Key::delete_at(ts(9)), Some(ts(20)), Bytes::new()).lww,
        ..Row::of_cell(CellId::simple(ColumnId(1)), Cell::put(Key::delete_at(ts(-2)), Some(ts(10)), Bytes::new()))
    };
    let expected =
        Extent { lowest: Some(ts(-2)), highest: Some(ts(9)), expiry: Some(ts(20)), lasting: false, dots: false };
    assert_eq!(both.extent(), expected);
}
