//! Property 3: the view of LWW mutations is their serial application in Key order, deletes last at equal timestamps.

use bytes::Bytes;
use kula_lattice::{CellId, PartitionView, RowView};
use kula_testkit::{
    lattice::{Change, History, lww_history, timestamp},
    property,
};
use kula_types::{ClusteringKey, Timestamp};
use proptest::prelude::*;
use std::{collections::BTreeMap, ops::Bound};

type Expiring = (Bytes, Option<Timestamp>);

/// A table as a single-threaded program would keep it.
#[derive(Default)]
struct Serial {
    markers: BTreeMap<ClusteringKey, Expiring>,
    cells: BTreeMap<(ClusteringKey, CellId), Expiring>,
    statics: BTreeMap<CellId, Expiring>,
}

impl Serial {
    fn apply(&mut self, at: usize, change: &Change, exp: Option<Timestamp>) {
        let value = || (History::body(at), exp);
        match change {
            Change::Put(row, id) => {
                self.cells.insert((row.clone(), id.clone()), value());
            }
            Change::Insert(row, id) => {
                self.markers.insert(row.clone(), (Bytes::new(), exp));
                self.cells.insert((row.clone(), id.clone()), value());
            }
            Change::DeleteCell(row, id) => {
                self.cells.remove(&(row.clone(), id.clone()));
            }
            Change::Replace(row, column, elements) => {
                self.cells.retain(|(mine, id), _| mine != row || id.column != *column);
                for element in elements {
                    let path = Bytes::from(vec![b'a' + element]);
                    self.cells.insert((row.clone(), CellId::element(*column, path)), value());
                }
            }
            Change::DeleteRow(row) => self.remove_rows(|mine| mine == row),
            Change::DeleteRange(from, to) => self.remove_rows(|mine| in_range(mine, from, to)),
            Change::DeletePartition => *self = Serial::default(),
            Change::PutStatic(id) => {
                self.statics.insert(id.clone(), value());
            }
            Change::DeleteStatic(id) => {
                self.statics.remove(id);
            }
            Change::CausalPut(..) | Change::CausalDelete(..) => unreachable!("not of an LWW table"),
        }
    }

    fn remove_rows(&mut self, gone: impl Fn(&ClusteringKey) -> bool) {
        self.markers.retain(|row, _| !gone(row));
        self.cells.retain(|(row, _), _| !gone(row));
    }

    /// Rows with their cells' values, and whether the marker is shown; rows that do not exist are left out.
    fn view(&self, now: Timestamp) -> Seen {
        let shown = |(_, exp): &Expiring| exp.is_none_or(|exp| exp > now);
        let mut seen = Seen::default();
        for (row, _) in self.markers.iter().filter(|(_, marker)| shown(marker)) {
            seen.rows.entry(row.clone()).or_default().0 = true;
        }
        for ((row, id), value) in self.cells.iter().filter(|(_, value)| shown(value)) {
            seen.rows.entry(row.clone()).or_default().1.insert(id.clone(), value.0.clone());
        }
        let statics = self.statics.iter().filter(|(_, value)| shown(value));
        seen.statics = statics.map(|(id, value)| (id.clone(), value.0.clone())).collect();
        seen
    }
}

#[derive(Default, PartialEq, Debug)]
struct Seen {
    rows: BTreeMap<ClusteringKey, (bool, BTreeMap<CellId, Bytes>)>,
    statics: BTreeMap<CellId, Bytes>,
}

impl From<PartitionView> for Seen {
    fn from(view: PartitionView) -> Seen {
        let cells = |row: &RowView| {
            let values = row.cells.iter().filter_map(|(id, cell)| Some((id.clone(), cell.lww.clone()?)));
            values.filter_map(|(id, lww)| Some((id, lww.body.bytes()?.clone()))).collect()
        };
        let row = |(key, row): &(ClusteringKey, RowView)| (key.clone(), (row.marker.is_some(), cells(row)));
        Seen { rows: view.rows.iter().map(row).collect(), statics: cells(&view.statics) }
    }
}

fn in_range(row: &ClusteringKey, from: &Bound<ClusteringKey>, to: &Bound<ClusteringKey>) -> bool {
    let above = match from {
        Bound::Unbounded => true,
        Bound::Included(from) => row >= from,
        Bound::Excluded(from) => row > from,
    };
    let below = match to {
        Bound::Unbounded => true,
        Bound::Included(to) => row <= to,
        Bound::Excluded(to) => row < to,
    };
    above && below
}

fn is_delete(change: &Change) -> bool {
    match change {
        Change::Put(..) | Change::Insert(..) | Change::Replace(..) | Change::PutStatic(_) => false,
        Change::DeleteCell(..)
        | Change::DeleteRow(_)
        | Change::DeleteRange(..)
        | Change::DeletePartition
        | Change::DeleteStatic(_) => true,
        Change::CausalPut(..) | Change::CausalDelete(..) => unreachable!("not of an LWW table"),
    }
}

proptest! {
    #![proptest_config(property())]

    // Promise: P5, R7, R8, R9
    #[test]
    fn lww_mutations_read_as_if_applied_one_after_the_other(history in lww_history(14), now in timestamp()) {
        let mut order: Vec<usize> = (0..history.minted.len()).collect();
        order.sort_by_key(|at| {
            let (operation, dot, _) = &history.minted[*at];
            (operation.ts, is_delete(&operation.change), *dot)
        });
        let mut serial = Serial::default();
        for at in order {
            let (operation, _, _) = &history.minted[at];
            serial.apply(at, &operation.change, operation.exp);
        }
        prop_assert_eq!(Seen::from(history.whole().view(now, None)), serial.view(now));
    }
}
