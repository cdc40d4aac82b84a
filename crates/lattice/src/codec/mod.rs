#![doc = include_str!("../../../../docs/format/mutation.md")]
//!
//! # In this module
//! `parts` has keys, registers, cells and rows; `dots` the dot store; this file partitions and mutations; `input` the
//! checked reader. Nothing here may panic on bytes from outside, and nothing is reserved on the word of a count.

mod dots;
mod error;
mod input;
mod parts;

pub use error::DecodeError;
pub use input::{Input, put_bytes, put_varint};

use crate::{Mutation, Partition, RangeFloors, Row, SortedMap, limits::STEP_BYTES_MAX, ranges::Step};
use bytes::Bytes;
use kula_types::{
    Actor, ClusteringKey, Dot, PartitionKey, TableId, Token,
    limits::{KEY_BYTES_MAX, MUTATION_BYTES_MAX},
};
use parts::{KEY_TAG_MASK, Keys, decode_row_with, encode_row_with};

/// The version of the mutation format, its first byte.
pub const MUTATION_VERSION: u8 = 1;

const PARTITION_FLOOR: u8 = 1;
const PARTITION_STATICS: u8 = 1 << 1;
const PARTITION_RANGES: u8 = 1 << 2;
const PARTITION_ROWS: u8 = 1 << 3;
const PARTITION_ALL: u8 = PARTITION_FLOOR | PARTITION_STATICS | PARTITION_RANGES | PARTITION_ROWS;

/// In a step's byte: there is no floor from here on.
const STEP_NO_FLOOR: u8 = KEY_TAG_MASK + 1;

/// The fewest bytes an entry takes: what a count is checked against before anything is read.
const STEP_BYTES_MIN: usize = 2;
const ROW_BYTES_MIN: usize = 2;

/// Version, table, token, actor, and the numbers around them.
const MUTATION_HEAD_HINT: usize = 64;

impl Mutation {
    /// The bytes of `docs/format/mutation.md`. Bottom entries of the delta are not written.
    ///
    /// Sizes are not judged here: `decode` refuses what is over `MUTATION_BYTES_MAX` or `KEY_BYTES_MAX`, so whoever
    /// mints a mutation from a client's data checks that first.
    pub fn encode(&self) -> Bytes {
        assert!(self.previous < self.mid.seq(), "previous {} of {:?}", self.previous, self.mid);
        let mut out = Vec::with_capacity(MUTATION_HEAD_HINT + self.key.0.len() + partition_hint(&self.delta));
        out.push(MUTATION_VERSION);
        out.extend_from_slice(&self.table.0);
        out.extend_from_slice(&self.token.to_ordered_bytes());
        put_bytes(&self.key.0, &mut out);
        out.extend_from_slice(&self.mid.actor().0.to_le_bytes());
        put_varint(u64::from(self.mid.epoch()), &mut out);
        put_varint(self.mid.seq(), &mut out);
        put_varint(self.mid.seq() - self.previous, &mut out);
        encode_partition(&self.delta, &mut out);
        Bytes::from(out)
    }

    /// The whole input must be one mutation. Keys, paths and bodies are slices of it and keep it alive.
    pub fn decode(bytes: &Bytes) -> Result<Mutation, DecodeError> {
        if bytes.len() > MUTATION_BYTES_MAX {
            return Err(DecodeError::TooLong { part: "mutation", len: bytes.len(), max: MUTATION_BYTES_MAX });
        }
        let mut input = Input::new(bytes);
        match input.byte()? {
            MUTATION_VERSION => {}
            found => return Err(DecodeError::Version { found }),
        }
        let table = TableId(input.array()?);
        let token = Token::from_ordered_bytes(input.array()?);
        let key = PartitionKey(input.bytes("partition key", KEY_BYTES_MAX)?);
        let at = input.position();
        let actor = Actor(u64::from_le_bytes(input.array()?));
        let epoch = decode_epoch(&mut input)?;
        let seq = input.varint()?;
        let mid = Dot::new(actor, epoch, seq).map_err(|source| DecodeError::Dot { at, source })?;
        let previous = decode_below(seq, &mut input)?;
        let delta = decode_partition(&mut input)?;
        input.finish()?;
        Ok(Mutation { table, token, key, mid, previous, delta })
    }
}

/// Appends a whole partition.
pub fn encode_partition(partition: &Partition, out: &mut Vec<u8>) {
    let row_count = partition.rows.values().filter(|row| !row.is_bottom()).count();
    encode_head(partition, row_count > 0, out);
    if row_count > 0 {
        put_varint(row_count as u64, out);
        for (clustering, row) in partition.rows.iter().filter(|(_, row)| !row.is_bottom()) {
            put_bytes(&clustering.0, out);
            encode_row(row, out);
        }
    }
}

/// Appends a partition without its rows: its floor, static row and range floors. `decode_partition` reads it.
pub fn encode_partition_head(partition: &Partition, out: &mut Vec<u8>) {
    encode_head(partition, false, out);
}

fn encode_head(partition: &Partition, rows: bool, out: &mut Vec<u8>) {
    let statics = partition.statics.as_ref().filter(|statics| !statics.is_bottom());
    let mut flags = 0;
    for (flag, present) in [
        (PARTITION_FLOOR, partition.floor.is_some()),
        (PARTITION_STATICS, statics.is_some()),
        (PARTITION_RANGES, !partition.ranges.is_empty()),
        (PARTITION_ROWS, rows),
    ] {
        flags |= if present { flag } else { 0 };
    }
    out.push(flags);
    let mut keys = Keys::default();
    if let Some(floor) = partition.floor {
        keys.put(floor, 0, out);
    }
    if let Some(statics) = statics {
        encode_row(statics, out);
    }
    if !partition.ranges.is_empty() {
        put_varint(partition.ranges.iter().len() as u64, out);
        for (start, floor) in partition.ranges.iter() {
            put_bytes(start, out);
            match floor {
                Some(floor) => keys.put(floor, 0, out),
                None => out.push(STEP_NO_FLOOR),
            }
        }
    }
}

/// Reads what `encode_partition` or `encode_partition_head` wrote.
pub fn decode_partition(input: &mut Input<'_>) -> Result<Partition, DecodeError> {
    let at = input.position();
    let flags = input.byte()?;
    if flags & !PARTITION_ALL != 0 {
        return Err(DecodeError::Tag { part: "partition", found: flags, at });
    }
    let mut partition = Partition::default();
    let mut keys = Keys::default();
    if flags & PARTITION_FLOOR != 0 {
        partition.floor = Some(keys.take_floor(input)?);
    }
    if flags & PARTITION_STATICS != 0 {
        partition.statics = Some(Box::new(decode_some_row(input)?));
    }
    if flags & PARTITION_RANGES != 0 {
        partition.ranges = decode_ranges(&mut keys, input)?;
    }
    if flags & PARTITION_ROWS != 0 {
        partition.rows = decode_rows(input)?;
    }
    Ok(partition)
}

fn decode_ranges(keys: &mut Keys, input: &mut Input<'_>) -> Result<RangeFloors, DecodeError> {
    let at = input.position();
    let count = input.count(STEP_BYTES_MIN)?;
    if count == 0 {
        return Err(DecodeError::Form { part: "list of range floors", at });
    }
    let steps = decode_entries(count, input, |input| {
        let start = input.bytes("range bound", STEP_BYTES_MAX)?;
        let tag_at = input.position();
        let floor = match input.byte()? {
            STEP_NO_FLOOR => None,
            tag if tag & !KEY_TAG_MASK == 0 => Some(keys.take(tag, input)?),
            found => return Err(DecodeError::Tag { part: "range floor", found, at: tag_at }),
        };
        Ok(Step { start, floor })
    })?;
    RangeFloors::from_steps(steps).ok_or(DecodeError::Order { part: "range floors", at })
}

fn decode_rows(input: &mut Input<'_>) -> Result<SortedMap<ClusteringKey, Row>, DecodeError> {
    let at = input.position();
    let count = input.count(ROW_BYTES_MIN)?;
    if count == 0 {
        return Err(DecodeError::Form { part: "list of rows", at });
    }
    let rows = decode_entries(count, input, |input| {
        let clustering = ClusteringKey(input.bytes("clustering key", KEY_BYTES_MAX)?);
        Ok((clustering, decode_some_row(input)?))
    })?;
    SortedMap::from_sorted(rows).ok_or(DecodeError::Order { part: "rows", at })
}

/// Appends a row, without its clustering key. It stands alone: no reference to what was written before it.
pub fn encode_row(row: &Row, out: &mut Vec<u8>) {
    encode_row_with(&mut Keys::default(), row, out);
}

/// Reads what `encode_row` wrote.
pub fn decode_row(input: &mut Input<'_>) -> Result<Row, DecodeError> {
    decode_row_with(&mut Keys::default(), input)
}

/// A row that says something: an absent one is not written.
fn decode_some_row(input: &mut Input<'_>) -> Result<Row, DecodeError> {
    let at = input.position();
    let row = decode_row(input)?;
    if row.is_bottom() { Err(DecodeError::Form { part: "empty row", at }) } else { Ok(row) }
}

/// Reads `count` entries. On the word of the count alone no more memory is reserved than the input has bytes left; the
/// vector ends up exactly as large as its entries.
fn decode_entries<T>(
    count: usize,
    input: &mut Input<'_>,
    mut entry: impl FnMut(&mut Input<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let affordable = input.remaining() / size_of::<T>() + 1;
    let mut entries = Vec::with_capacity(count.min(affordable));
    for _ in 0..count {
        entries.push(entry(input)?);
    }
    entries.shrink_to_fit();
    Ok(entries)
}

pub(crate) fn decode_epoch(input: &mut Input<'_>) -> Result<u32, DecodeError> {
    let at = input.position();
    u32::try_from(input.varint()?).map_err(|_| DecodeError::Number { at })
}

/// A number below `above`, written as the distance to it.
pub(crate) fn decode_below(above: u64, input: &mut Input<'_>) -> Result<u64, DecodeError> {
    let at = input.position();
    match input.varint()? {
        0 => Err(DecodeError::Number { at }),
        distance => above.checked_sub(distance).ok_or(DecodeError::Number { at }),
    }
}

/// About how many bytes a partition takes: rather too many than a second allocation.
fn partition_hint(partition: &Partition) -> usize {
    let statics = partition.statics.as_ref().map_or(0, |statics| parts::row_hint(statics));
    let ranges = partition.ranges.iter().map(|(start, _)| start.len() + 32).sum::<usize>();
    let rows = partition.rows.iter().map(|(clustering, row)| clustering.0.len() + 4 + parts::row_hint(row));
    32 + statics + ranges + rows.sum::<usize>()
}
