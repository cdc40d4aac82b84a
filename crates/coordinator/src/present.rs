//! What a key shows, and the context of exactly that (`cell.md`, "Context token" and "View").
//!
//! Shared by a coordinator's answer and by an operator's look at one node's own cell: both have the same shape.

use crate::{
    envelope::{self, EnvelopeError},
    messages::{Found, Sibling, Value},
};
use kula_lattice::{Body, CellId, CellView, Context, ContextKey, Lww, Partition, RowView, SiblingView};
use kula_placement::{Ring, RingContextKey};
use kula_schema::{Table, TableKind};
use kula_types::{ClusteringKey, Dot, PartitionKey, TableId, Timestamp, limits::SIBLINGS_SHOWN_MAX};

/// A partition as one answer shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Presented {
    pub found: Found,
    /// Of what is shown, and of expired stubs; empty where there is nothing to cover.
    pub context: Context,
    /// Values that the key has now, shown here or not.
    pub values: u64,
}

/// What is stored is not a value of this table: damage, never "not found".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresentError {
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    #[error("a register's key is no mutation's")]
    Key,
    #[error("its content type is not text")]
    ContentType,
}

impl Presented {
    /// The context as it is handed out, sealed under the cluster's key in force; none where there is nothing to cover.
    pub fn seal(&self, ring: &Ring, table: TableId, key: &PartitionKey) -> Option<String> {
        seal(&self.context, ring, table, key)
    }
}

/// As `Presented::seal`, of any context.
pub(crate) fn seal(context: &Context, ring: &Ring, table: TableId, key: &PartitionKey) -> Option<String> {
    let covers = !context.dots.is_empty() || context.lww.is_some();
    covers.then(|| context.seal(table, key, &key_of(ring.context_key())))
}

pub(crate) fn key_of(key: &RingContextKey) -> ContextKey {
    ContextKey { id: key.id, secret: *key.secret.expose() }
}

/// The one row of a simple table at `now`. With `resolve_lww` the newest value stands for all of them, and the context
/// covers all.
pub fn present(
    partition: &Partition,
    table: &Table,
    now: Timestamp,
    resolve_lww: bool,
) -> Result<Presented, PresentError> {
    match table.kind {
        TableKind::Lww => present_row(partition, table, now),
        TableKind::Causal => {
            let cell = CellId::simple(table.value_column());
            let view = partition.view_cell(&ClusteringKey::default(), &cell, now, None);
            if resolve_lww { resolve_newest(&view) } else { present_siblings(&view) }
        }
    }
}

/// An LWW table: the columns of one mutation carry one key.
fn present_row(partition: &Partition, table: &Table, now: Timestamp) -> Result<Presented, PresentError> {
    let view = partition.view(now, None);
    let row = view.rows.iter().find(|(clustering, _)| *clustering == ClusteringKey::default()).map(|(_, row)| row);
    let Some(row) = row else { return Ok(nothing(Context::default())) };
    let content_type = match table.content_type_column().and_then(|column| shown(row, &CellId::simple(column))) {
        Some(lww) => content_type_of(lww)?,
        None => None,
    };
    let Some(value) = shown(row, &CellId::simple(table.value_column())) else {
        return Ok(nothing(Context { dots: Vec::new(), lww: newest_key(row) }));
    };
    let value = Value { value: full(value), content_type, written: value.key.ts(), expires: value.exp };
    Ok(Presented { found: Found::One(value), context: Context { dots: Vec::new(), lww: newest_key(row) }, values: 1 })
}

fn shown<'a>(row: &'a RowView, cell: &CellId) -> Option<&'a Lww> {
    row.cell(cell).and_then(|view| view.lww.as_ref())
}

/// The key a following write must lie above: of whatever the row shows.
fn newest_key(row: &RowView) -> Option<kula_types::Key> {
    let cells = row.cells.iter().filter_map(|(_, cell)| cell.lww.as_ref());
    row.marker.iter().chain(cells).map(|lww| lww.key).max()
}

fn content_type_of(lww: &Lww) -> Result<Option<String>, PresentError> {
    let text = String::from_utf8(full(lww).to_vec()).map_err(|_| PresentError::ContentType)?;
    Ok((!text.is_empty()).then_some(text))
}

fn present_siblings(view: &CellView) -> Result<Presented, PresentError> {
    let register = view.lww.as_ref().map(from_register).transpose()?;
    let count = view.siblings.len() + usize::from(register.is_some());
    // A register is one more sibling, in its place in dot order.
    let below = |register: &Sibling| view.siblings.partition_point(|sibling| sibling.dot < register.dot);
    let register_at = register.as_ref().map(below).filter(|at| *at < SIBLINGS_SHOWN_MAX);
    let shown = view.siblings.len().min(SIBLINGS_SHOWN_MAX - usize::from(register_at.is_some()));
    let mut siblings = Vec::with_capacity(shown + 1);
    for sibling in view.siblings.iter().take(shown) {
        siblings.push(from_sibling(sibling)?);
    }
    let mut context = view.context(shown);
    match register_at.zip(register) {
        Some((at, register)) => siblings.insert(at, register),
        None => context.lww = None,
    }
    let more = (count - siblings.len()) as u64;
    let found = match siblings.len() {
        0 => Found::Nothing,
        1 if more == 0 => siblings.pop().map_or(Found::Nothing, |only| Found::One(only.value)),
        _ => Found::Siblings { siblings, more },
    };
    Ok(Presented { found, context, values: count as u64 })
}

/// The newest by (hlc, dot) stands for all.
fn resolve_newest(view: &CellView) -> Result<Presented, PresentError> {
    let register = view.lww.as_ref().map(from_register).transpose()?;
    let newest = view.siblings.iter().max_by_key(|sibling| (sibling.hlc, sibling.dot)).map(from_sibling).transpose()?;
    let values = (view.siblings.len() + usize::from(register.is_some())) as u64;
    let newest = newest.into_iter().chain(register).max_by_key(|sibling| (sibling.value.written, sibling.dot));
    let found = newest.map_or(Found::Nothing, |sibling| Found::One(sibling.value));
    Ok(Presented { found, context: view.context(usize::MAX), values })
}

fn from_sibling(sibling: &SiblingView) -> Result<Sibling, PresentError> {
    let (content_type, value) = envelope::open(&sibling.body)?;
    let value = Value { value, content_type, written: sibling.hlc, expires: sibling.exp };
    Ok(Sibling { value, dot: sibling.dot })
}

/// A value that was written blindly, by timestamp, beside the siblings.
fn from_register(lww: &Lww) -> Result<Sibling, PresentError> {
    let (ts, mid) = lww.key.parts();
    let (actor, epoch, seq) = mid.ok_or(PresentError::Key)?;
    let dot = Dot::new(actor, epoch, seq).map_err(|_| PresentError::Key)?;
    let (content_type, value) = envelope::open(&full(lww))?;
    Ok(Sibling { value: Value { value, content_type, written: ts, expires: lww.exp }, dot })
}

/// A shown register has its body.
fn full(lww: &Lww) -> bytes::Bytes {
    match &lww.body {
        Body::Full(bytes) => bytes.clone(),
        Body::Stub => bytes::Bytes::new(),
    }
}

fn nothing(context: Context) -> Presented {
    Presented { found: Found::Nothing, context, values: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{envelope, fixture};
    use bytes::Bytes;
    use kula_lattice::{Cell, Join, NewSibling, OpId};
    use kula_types::{Actor, Key};

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros).unwrap()
    }

    fn bucket() -> std::sync::Arc<Table> {
        fixture::schema().resolve("kv", "default").unwrap()
    }

    fn dot(seq: u64) -> Dot {
        Dot::new(Actor(5), 0, seq).unwrap()
    }

    /// A bucket's partition with one cell.
    fn partition(cell: Cell) -> Partition {
        Partition::of_cell(ClusteringKey::default(), CellId::simple(bucket().value_column()), cell)
    }

    fn sibling(seq: u64, hlc: i64, op_id: Option<OpId>) -> Cell {
        let body = envelope::seal("", format!("v{seq}").as_bytes());
        Cell::causal_put(&Context::default(), dot(seq), seq - 1, NewSibling { hlc: at(hlc), op_id, exp: None, body })
    }

    fn joined(cells: impl IntoIterator<Item = Cell>) -> Partition {
        let mut joined = Partition::default();
        cells.into_iter().for_each(|cell| joined.join(partition(cell)));
        joined
    }

    #[test]
    fn one_answer_shows_sixty_four_siblings_and_its_context_covers_only_those_and_their_twins() {
        let twin = |seq| (seq == 1 || seq == 2).then_some(OpId([1; 16]));
        let all = joined((1..=70).map(|seq| sibling(seq, 1, twin(seq))));
        let presented = present(&all, &bucket(), at(2), false).unwrap();
        let Found::Siblings { siblings, more } = &presented.found else { panic!("{presented:?}") };
        // 69 values: two dots are one operation, shown by the higher.
        assert_eq!((siblings.len(), *more, presented.values), (64, 5, 69));
        assert_eq!((siblings[0].dot, siblings[63].dot), (dot(2), dot(65)));
        let mut covered: Vec<u64> = presented.context.dots.iter().map(|(dot, _)| dot.seq()).collect();
        covered.sort_unstable();
        assert_eq!(covered, (1..=65).collect::<Vec<_>>());

        let newest = present(&all, &bucket(), at(2), true).unwrap();
        assert_eq!(newest.context.dots.len(), 70);
    }

    #[test]
    fn a_blind_register_is_one_more_sibling_in_its_place() {
        let register = |seq| Cell::put(Key::of(at(9), dot(seq)), None, envelope::seal("", b"blind"));
        let between = joined([sibling(1, 1, None), register(2), sibling(3, 1, None)]);
        let presented = present(&between, &bucket(), at(10), false).unwrap();
        let Found::Siblings { siblings, more: 0 } = &presented.found else { panic!("{presented:?}") };
        assert_eq!(siblings.iter().map(|sibling| sibling.dot.seq()).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(presented.context.lww, Some(Key::of(at(9), dot(2))));

        // Where it is not shown its key is not covered.
        let last = joined((1..=64).map(|seq| sibling(seq, 1, None)).chain([register(65)]));
        let presented = present(&last, &bucket(), at(10), false).unwrap();
        assert!(matches!(presented.found, Found::Siblings { more: 1, .. }));
        assert_eq!((presented.context.lww, presented.context.dots.len()), (None, 64));

        // The newest by date, whatever kind it is.
        let Found::One(newest) = present(&between, &bucket(), at(10), true).unwrap().found else { panic!() };
        assert_eq!((newest.value, newest.written), (Bytes::from_static(b"blind"), at(9)));
    }

    #[test]
    fn what_is_no_value_is_damage_and_not_absence() {
        let value = NewSibling { hlc: at(1), op_id: None, exp: None, body: Bytes::from_static(b"\x05ab") };
        let broken = joined([Cell::causal_put(&Context::default(), dot(1), 0, value)]);
        assert_eq!(present(&broken, &bucket(), at(2), false), Err(PresentError::Envelope(EnvelopeError::Short)));
    }
}
