//! From what a client wants to the delta that does it (`cell.md`, "Deltas").

use crate::{envelope, error::CoordinatorError, messages::Change, mint::Minted};
use bytes::Bytes;
use kula_lattice::{Body, Cell, CellId, Context, Lww, NewSibling, OpId, Partition, Row, SortedMap};
use kula_schema::{Table, TableKind};
use kula_types::{
    ClusteringKey, Key, Timestamp,
    limits::{CONTENT_TYPE_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX, VALUE_BYTES_MAX},
};
use std::time::Duration;

/// A checked write.
pub(super) struct Intent {
    pub change: Change,
    pub context: Option<Context>,
    pub timestamp: Option<Timestamp>,
    pub ttl: Option<Duration>,
    pub op_id: Option<OpId>,
}

/// Sizes: what storage and frames were dimensioned for.
pub(super) fn check(change: &Change, idempotency_key: Option<&Bytes>) -> Result<(), CoordinatorError> {
    if let Some(bytes) =
        idempotency_key.map(Bytes::len).filter(|bytes| !(1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(bytes))
    {
        return Err(CoordinatorError::IdempotencyKeyLength { bytes, max: IDEMPOTENCY_KEY_BYTES_MAX });
    }
    match change {
        Change::Put { value, .. } if value.len() > VALUE_BYTES_MAX => {
            Err(CoordinatorError::ValueTooLarge { bytes: value.len(), max: VALUE_BYTES_MAX })
        }
        Change::Put { content_type: Some(text), .. } if text.len() > CONTENT_TYPE_BYTES_MAX => {
            Err(CoordinatorError::ContentTypeTooLong { bytes: text.len(), max: CONTENT_TYPE_BYTES_MAX })
        }
        Change::Put { .. } | Change::Delete => Ok(()),
    }
}

/// The same on every node, so that a retry through another one is the same operation.
pub(super) fn op_id(idempotency_key: &[u8]) -> OpId {
    OpId(xxhash_rust::xxh3::xxh3_128(idempotency_key).to_be_bytes())
}

/// `stamp` is the client's timestamp or the clock's; `wall` is what lifetimes are counted from.
pub(super) fn of(table: &Table, intent: Intent, stamp: Timestamp, wall: Timestamp, minted: Minted) -> Partition {
    let expires = intent.ttl.map(|ttl| wall.saturating_add(ttl));
    match table.kind {
        TableKind::Lww => {
            // A write that follows what it saw lies above it, whatever the clocks say.
            let seen = intent.context.and_then(|context| context.lww).map(|key| key.ts().next());
            let ts = seen.map_or(stamp, |above| stamp.max(above));
            match intent.change {
                Change::Put { value, content_type } => {
                    put_row(table, Key::of(ts, minted.mid), expires, value, content_type)
                }
                // A key's partition is its one row: one floor over all of it, above every write at its own time.
                Change::Delete => Partition { floor: Some(Key::delete_at(ts)), ..Partition::default() },
            }
        }
        TableKind::Causal => {
            let context = intent.context.unwrap_or_default();
            let cell = match intent.change {
                Change::Put { value, content_type } => {
                    let body = envelope::seal(content_type.as_deref().unwrap_or_default(), &value);
                    let sibling = NewSibling { hlc: stamp, op_id: intent.op_id, exp: expires, body };
                    Cell::causal_put(&context, minted.mid, minted.key_previous, sibling)
                }
                Change::Delete => Cell::causal_delete(&context, minted.mid, minted.key_previous),
            };
            Partition::of_cell(ClusteringKey::default(), CellId::simple(table.value_column()), cell)
        }
    }
}

/// Value, content type and marker under one key: readers see all of one write or nothing of it.
fn put_row(table: &Table, key: Key, exp: Option<Timestamp>, value: Bytes, content_type: Option<String>) -> Partition {
    let cell = |column, body| (CellId::simple(column), Cell::put(key, exp, body));
    let content_type = Bytes::from(content_type.unwrap_or_default());
    let (id, value) = cell(table.value_column(), value);
    let mut cells = SortedMap::one(id, value);
    if let Some((id, content_type)) = table.content_type_column().map(|column| cell(column, content_type)) {
        cells.insert(id, content_type);
    }
    let marker = Some(Lww { key, exp, body: Body::Full(Bytes::new()) });
    Partition::of_row(ClusteringKey::default(), Row { marker, cells, ..Row::default() })
}
