//! Keys, registers, cells and rows.

use super::{DecodeError, Input, decode_entries, decode_epoch, dots, put_bytes, put_varint};
use crate::{Body, Cell, CellId, Lww, Row, SortedMap};
use kula_types::{
    Actor, ColumnId, Key,
    limits::{KEY_BYTES_MAX, MUTATION_BYTES_MAX},
};

const ROW_FLOOR: u8 = 1;
const ROW_MARKER: u8 = 1 << 1;
const ROW_COLLECTIONS: u8 = 1 << 2;
const ROW_CELLS: u8 = 1 << 3;
const ROW_ALL: u8 = ROW_FLOOR | ROW_MARKER | ROW_COLLECTIONS | ROW_CELLS;

const CELL_VALUE: u8 = 1;
const CELL_FLOOR: u8 = 1 << 1;
const CELL_DOTS: u8 = 1 << 2;
/// N: reserved until counters are built.
const CELL_COUNTER: u8 = 1 << 3;
const CELL_PATH: u8 = 1 << 4;
const CELL_SAME_COLUMN: u8 = 1 << 5;
const CELL_PARTS: u8 = CELL_VALUE | CELL_FLOOR | CELL_DOTS;
const CELL_ALL: u8 = CELL_PARTS | CELL_PATH | CELL_SAME_COLUMN;

const KEY_SAME: u8 = 0;
const KEY_DOT: u8 = 1;
const KEY_DOT_WITH_EPOCH: u8 = 2;
const KEY_DELETE: u8 = 3;
pub(super) const KEY_TAG_MASK: u8 = 3;

const VALUE_STUB: u8 = 1 << 2;
const VALUE_EXPIRES: u8 = 1 << 3;
const VALUE_ALL: u8 = KEY_TAG_MASK | VALUE_STUB | VALUE_EXPIRES;

const COLLECTION_BYTES_MIN: usize = 9;
const CELL_BYTES_MIN: usize = 4;

/// Keys refer to the key before them in the same row: a put of ten columns writes its key once.
#[derive(Default)]
pub(super) struct Keys {
    last: Option<Key>,
}

impl Keys {
    /// Writes one byte of the key's tag and `flags`, then the key.
    pub(super) fn put(&mut self, key: Key, flags: u8, out: &mut Vec<u8>) {
        if self.last == Some(key) {
            out.push(KEY_SAME | flags);
            return;
        }
        self.last = Some(key);
        let (ts, mid) = key.parts();
        let tag = match mid {
            None => KEY_DELETE,
            Some((_, 0, _)) => KEY_DOT,
            Some(_) => KEY_DOT_WITH_EPOCH,
        };
        out.push(tag | flags);
        out.extend_from_slice(&ts.micros().to_le_bytes());
        if let Some((actor, epoch, seq)) = mid {
            out.extend_from_slice(&actor.0.to_le_bytes());
            if epoch != 0 {
                put_varint(u64::from(epoch), out);
            }
            put_varint(seq, out);
        }
    }

    /// Reads a key whose byte was read already.
    pub(super) fn take(&mut self, tag: u8, input: &mut Input<'_>) -> Result<Key, DecodeError> {
        let at = input.position();
        let form = || DecodeError::Form { part: "key", at };
        if tag & KEY_TAG_MASK == KEY_SAME {
            return self.last.ok_or_else(form);
        }
        let ts = input.timestamp()?;
        let mid = match tag & KEY_TAG_MASK {
            KEY_DELETE => None,
            tag => {
                let actor = Actor(u64::from_le_bytes(input.array()?));
                let epoch = if tag == KEY_DOT_WITH_EPOCH { decode_epoch(input)? } else { 0 };
                if tag == KEY_DOT_WITH_EPOCH && epoch == 0 {
                    return Err(form());
                }
                Some((actor, epoch, input.varint()?))
            }
        };
        let key = Key::from_parts(ts, mid).map_err(|source| DecodeError::Dot { at, source })?;
        if self.last.replace(key) == Some(key) { Err(form()) } else { Ok(key) }
    }

    pub(super) fn take_floor(&mut self, input: &mut Input<'_>) -> Result<Key, DecodeError> {
        let at = input.position();
        match input.byte()? {
            tag if tag & !KEY_TAG_MASK == 0 => self.take(tag, input),
            found => Err(DecodeError::Tag { part: "floor", found, at }),
        }
    }
}

pub(super) fn encode_row_with(keys: &mut Keys, row: &Row, out: &mut Vec<u8>) {
    let cell_count = row.cells.values().filter(|cell| !cell.is_bottom()).count();
    let mut flags = 0;
    for (flag, present) in [
        (ROW_FLOOR, row.floor.is_some()),
        (ROW_MARKER, row.marker.is_some()),
        (ROW_COLLECTIONS, !row.collections.is_empty()),
        (ROW_CELLS, cell_count > 0),
    ] {
        flags |= if present { flag } else { 0 };
    }
    out.push(flags);
    if let Some(floor) = row.floor {
        keys.put(floor, 0, out);
    }
    if let Some(marker) = &row.marker {
        encode_value(keys, marker, out);
    }
    if !row.collections.is_empty() {
        put_varint(row.collections.len() as u64, out);
        for (column, floor) in row.collections.iter() {
            out.extend_from_slice(&column.0.to_le_bytes());
            keys.put(*floor, 0, out);
        }
    }
    if cell_count > 0 {
        put_varint(cell_count as u64, out);
        let mut column = None;
        for (id, cell) in row.cells.iter().filter(|(_, cell)| !cell.is_bottom()) {
            encode_cell(keys, column, id, cell, out);
            column = Some(id.column);
        }
    }
}

pub(super) fn decode_row_with(keys: &mut Keys, input: &mut Input<'_>) -> Result<Row, DecodeError> {
    let at = input.position();
    let flags = input.byte()?;
    if flags & !ROW_ALL != 0 {
        return Err(DecodeError::Tag { part: "row", found: flags, at });
    }
    let mut row = Row::default();
    if flags & ROW_FLOOR != 0 {
        row.floor = Some(keys.take_floor(input)?);
    }
    if flags & ROW_MARKER != 0 {
        row.marker = Some(decode_value(keys, input)?);
    }
    if flags & ROW_COLLECTIONS != 0 {
        row.collections = decode_map("collections", COLLECTION_BYTES_MIN, input, |input| {
            let column = ColumnId(u64::from_le_bytes(input.array()?));
            Ok((column, keys.take_floor(input)?))
        })?;
    }
    if flags & ROW_CELLS != 0 {
        let mut column = None;
        row.cells = decode_map("cells", CELL_BYTES_MIN, input, |input| {
            let (id, cell) = decode_cell(keys, column, input)?;
            column = Some(id.column);
            Ok((id, cell))
        })?;
    }
    Ok(row)
}

/// At least one entry, in ascending order.
fn decode_map<K: Ord, V>(
    part: &'static str,
    each: usize,
    input: &mut Input<'_>,
    entry: impl FnMut(&mut Input<'_>) -> Result<(K, V), DecodeError>,
) -> Result<SortedMap<K, V>, DecodeError> {
    let at = input.position();
    let count = input.count(each)?;
    if count == 0 {
        return Err(DecodeError::Form { part, at });
    }
    let entries = decode_entries(count, input, entry)?;
    SortedMap::from_sorted(entries).ok_or(DecodeError::Order { part, at })
}

fn encode_cell(keys: &mut Keys, last: Option<ColumnId>, id: &CellId, cell: &Cell, out: &mut Vec<u8>) {
    let dots = cell.dots.as_ref().filter(|dots| !dots.is_empty());
    let mut flags = 0;
    for (flag, present) in [
        (CELL_VALUE, cell.lww.is_some()),
        (CELL_FLOOR, cell.floor.is_some()),
        (CELL_DOTS, dots.is_some()),
        (CELL_PATH, !id.path.is_empty()),
        (CELL_SAME_COLUMN, last == Some(id.column)),
    ] {
        flags |= if present { flag } else { 0 };
    }
    out.push(flags);
    if last != Some(id.column) {
        out.extend_from_slice(&id.column.0.to_le_bytes());
    }
    if !id.path.is_empty() {
        put_bytes(&id.path, out);
    }
    if let Some(value) = &cell.lww {
        encode_value(keys, value, out);
    }
    if let Some(floor) = cell.floor {
        keys.put(floor, 0, out);
    }
    if let Some(dots) = dots {
        dots::encode(dots, out);
    }
}

fn decode_cell(keys: &mut Keys, last: Option<ColumnId>, input: &mut Input<'_>) -> Result<(CellId, Cell), DecodeError> {
    let at = input.position();
    let flags = input.byte()?;
    if flags & CELL_COUNTER != 0 {
        return Err(DecodeError::Counter { at });
    }
    if flags & !CELL_ALL != 0 {
        return Err(DecodeError::Tag { part: "cell", found: flags, at });
    }
    let form = || DecodeError::Form { part: "cell", at };
    if flags & CELL_PARTS == 0 {
        return Err(form());
    }
    let column = if flags & CELL_SAME_COLUMN != 0 {
        last.ok_or_else(form)?
    } else {
        let column = ColumnId(u64::from_le_bytes(input.array()?));
        if last == Some(column) {
            return Err(form());
        }
        column
    };
    let mut id = CellId::simple(column);
    if flags & CELL_PATH != 0 {
        id.path = input.bytes("path", KEY_BYTES_MAX)?;
        if id.path.is_empty() {
            return Err(form());
        }
    }
    let mut cell = Cell::default();
    if flags & CELL_VALUE != 0 {
        cell.lww = Some(decode_value(keys, input)?);
    }
    if flags & CELL_FLOOR != 0 {
        cell.floor = Some(keys.take_floor(input)?);
    }
    if flags & CELL_DOTS != 0 {
        cell.dots = Some(Box::new(dots::decode(input)?));
    }
    Ok((id, cell))
}

fn encode_value(keys: &mut Keys, value: &Lww, out: &mut Vec<u8>) {
    let stub = if value.body == Body::Stub { VALUE_STUB } else { 0 };
    let expires = if value.exp.is_some() { VALUE_EXPIRES } else { 0 };
    keys.put(value.key, stub | expires, out);
    if let Some(exp) = value.exp {
        out.extend_from_slice(&exp.micros().to_le_bytes());
    }
    if let Body::Full(bytes) = &value.body {
        put_bytes(bytes, out);
    }
}

fn decode_value(keys: &mut Keys, input: &mut Input<'_>) -> Result<Lww, DecodeError> {
    let at = input.position();
    let flags = input.byte()?;
    if flags & !VALUE_ALL != 0 {
        return Err(DecodeError::Tag { part: "value", found: flags, at });
    }
    let key = keys.take(flags, input)?;
    let exp = if flags & VALUE_EXPIRES != 0 { Some(input.timestamp()?) } else { None };
    let body = decode_body(flags & VALUE_STUB != 0, input)?;
    Ok(Lww { key, exp, body })
}

pub(super) fn decode_body(stub: bool, input: &mut Input<'_>) -> Result<Body, DecodeError> {
    Ok(if stub { Body::Stub } else { Body::Full(input.bytes("body", MUTATION_BYTES_MAX)?) })
}

pub(super) fn row_hint(row: &Row) -> usize {
    let value = |value: &Lww| 40 + value.body.bytes().map_or(0, |bytes| bytes.len());
    let cells = row.cells.iter().map(|(id, cell)| {
        let dots = cell.dots.as_ref().map_or(0, |dots| dots::hint(dots));
        16 + id.path.len() + cell.lww.as_ref().map_or(0, value) + cell.floor.map_or(0, |_| 32) + dots
    });
    40 + row.marker.as_ref().map_or(0, value) + row.collections.len() * 40 + cells.sum::<usize>()
}
