//! What a reader sees of a partition at `now`, which the coordinator sends: replicas never use their own clock.
//!
//! ```text
//! f  = the highest floor of the cell and of every enclosing level        fs = the same without the cell's own
//! L shown iff key > f, full, exp > now
//! sibling shown iff (hlc, dot) > fs, full, exp > now; one per op-id, the highest dot
//! row exists iff its marker or any regular cell is shown
//! ```
//!
//! The view states facts; how a blind LWW value beside siblings is presented, and how many siblings one answer shows,
//! is the coordinator's business.

use crate::{Body, Cell, CellId, Context, Dots, Lww, OpId, Partition, Row, limits::GROUP_BY_SCAN_MAX};
use bytes::Bytes;
use kula_types::{ClusteringKey, Dot, Key, Map, Timestamp};

/// Rows in clustering order, only those that exist.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PartitionView {
    pub statics: RowView,
    pub rows: Vec<(ClusteringKey, RowView)>,
}

/// Cells that show something or have something to cover.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RowView {
    /// The marker, if it is shown.
    pub marker: Option<Lww>,
    pub cells: Vec<(CellId, CellView)>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CellView {
    /// The register's value, if it is shown.
    pub lww: Option<Lww>,
    /// One per op-id, in dot order.
    pub siblings: Vec<SiblingView>,
    /// Exactly the dots, with prev, that the siblings stand for: theirs and their twins'. In dot order.
    pub covers: Vec<(Dot, u64)>,
    /// Expired siblings above the floors, with prev: not shown, but a context should cover them. In dot order.
    pub stubs: Vec<(Dot, u64)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SiblingView {
    pub dot: Dot,
    pub prev: u64,
    pub hlc: Timestamp,
    pub exp: Option<Timestamp>,
    pub body: Bytes,
    /// Lower dots of the same op-id, with prev: the same operation, retried through another coordinator.
    pub twins: Vec<(Dot, u64)>,
}

impl Partition {
    /// Everything a reader at `now` sees. `table_floor` is the table's own (a truncate).
    pub fn view(&self, now: Timestamp, table_floor: Option<Key>) -> PartitionView {
        let over_all = self.floor_over_all(table_floor);
        let statics = self.statics.as_ref().map(|row| row.view(now, over_all)).unwrap_or_default();
        let rows = self.rows.iter().filter_map(|(clustering, row)| {
            let view = row.view(now, self.floor_over(clustering, over_all));
            view.exists().then(|| (clustering.clone(), view))
        });
        PartitionView { statics, rows: rows.collect() }
    }

    /// One cell, also of a row that does not exist: there may still be stubs to cover. All that a bucket asks for.
    pub fn view_cell(
        &self,
        clustering: &ClusteringKey,
        id: &CellId,
        now: Timestamp,
        table_floor: Option<Key>,
    ) -> CellView {
        let Some(row) = self.rows.get(clustering) else { return CellView::default() };
        let Some(cell) = row.cells.get(id) else { return CellView::default() };
        let here = row.floor_here(self.floor_over(clustering, self.floor_over_all(table_floor)));
        cell.view(now, row.floor_over(id.column, here))
    }
}

impl Row {
    /// `enclosing` is the highest floor of range, partition and table over this row.
    pub fn view(&self, now: Timestamp, enclosing: Option<Key>) -> RowView {
        let here = self.floor_here(enclosing);
        let marker = self.marker.as_ref().filter(|marker| marker.shown(now, here)).cloned();
        let cells = self.cells.iter().filter_map(|(id, cell)| {
            let view = cell.view(now, self.floor_over(id.column, here));
            (view.is_shown() || !view.stubs.is_empty()).then(|| (id.clone(), view))
        });
        RowView { marker, cells: cells.collect() }
    }
}

impl Lww {
    fn shown(&self, now: Timestamp, floor: Option<Key>) -> bool {
        Some(self.key) > floor && self.body.shown_at(self.exp, now)
    }
}

impl Cell {
    /// `enclosing` is the highest floor of collection, row, range, partition and table over this cell.
    pub fn view(&self, now: Timestamp, enclosing: Option<Key>) -> CellView {
        let floor = self.floor.max(enclosing);
        let mut view = self.dots.as_ref().map(|dots| dots.view(now, enclosing)).unwrap_or_default();
        view.lww = self.lww.as_ref().filter(|lww| lww.shown(now, floor)).cloned();
        view
    }
}

impl Dots {
    fn view(&self, now: Timestamp, enclosing: Option<Key>) -> CellView {
        let mut view = CellView::default();
        let mut operations = Operations::default();
        // From the highest dot down: the first dot of an op-id is the sibling, those after it are its twins.
        for (dot, live) in self.live.iter().rev() {
            let above_floors = Some(live.key(*dot)) > enclosing;
            match &live.body {
                _ if !above_floors => {}
                Body::Full(body) if live.body.shown_at(live.exp, now) => {
                    view.covers.push((*dot, live.prev));
                    match operations.sibling_of(live.op_id, view.siblings.len()) {
                        Some(at) => view.siblings[at].twins.push((*dot, live.prev)),
                        None => view.siblings.push(SiblingView {
                            dot: *dot,
                            prev: live.prev,
                            hlc: live.hlc,
                            exp: live.exp,
                            body: body.clone(),
                            twins: Vec::new(),
                        }),
                    }
                }
                Body::Full(_) | Body::Stub => view.stubs.push((*dot, live.prev)),
            }
        }
        view.siblings.reverse();
        view.covers.reverse();
        view.stubs.reverse();
        view
    }
}

/// Which sibling stands for an op-id: a scan while they are few, a map when they are many.
#[derive(Default)]
struct Operations {
    few: Vec<(OpId, usize)>,
    many: Map<OpId, usize>,
}

impl Operations {
    /// The sibling that already stands for `op_id`; else `next` does from now on.
    fn sibling_of(&mut self, op_id: Option<OpId>, next: usize) -> Option<usize> {
        let op_id = op_id?;
        if let Some((_, at)) = self.few.iter().find(|(known, _)| *known == op_id) {
            return Some(*at);
        }
        if self.few.len() < GROUP_BY_SCAN_MAX {
            self.few.push((op_id, next));
            return None;
        }
        match self.many.get(&op_id) {
            Some(at) => Some(*at),
            None => {
                self.many.insert(op_id, next);
                None
            }
        }
    }
}

impl RowView {
    /// Whether a regular row with this view exists.
    pub fn exists(&self) -> bool {
        self.marker.is_some() || self.cells.iter().any(|(_, cell)| cell.is_shown())
    }

    pub fn cell(&self, id: &CellId) -> Option<&CellView> {
        let at = self.cells.binary_search_by(|(mine, _)| mine.cmp(id)).ok()?;
        self.cells.get(at).map(|(_, cell)| cell)
    }
}

impl CellView {
    /// A value or a sibling is there to be read.
    pub fn is_shown(&self) -> bool {
        self.lww.is_some() || !self.siblings.is_empty()
    }

    /// The context of an answer that stands for the first `shown` siblings: their dots and their twins', then the
    /// stubs (last: what does not fit a token is left out from the end), and the key of a shown L.
    pub fn context(&self, shown: usize) -> Context {
        let mut dots = Vec::with_capacity(self.covers.len() + self.stubs.len());
        for sibling in self.siblings.iter().take(shown) {
            dots.push((sibling.dot, sibling.prev));
            dots.extend_from_slice(&sibling.twins);
        }
        dots.extend_from_slice(&self.stubs);
        Context { dots, lww: self.lww.as_ref().map(|lww| lww.key) }
    }
}
