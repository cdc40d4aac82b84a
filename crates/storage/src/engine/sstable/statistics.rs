//! What a table holds, in numbers: read at open, decides what a read may skip and what a file must be.
#![doc = include_str!("../../../../../docs/format/sstable-statistics.md")]

use super::{cursor::Cursor, error::Why, frame::FILE_HEADER_BYTES, name::FileId};
use kula_disk::log::Position;
use kula_lattice::{Cell, Lww, Partition, Row, codec::put_varint};
use kula_types::{Key, PartitionKey, TableId, Timestamp, Token, limits::KEY_BYTES_MAX};

/// Tokens are Cassandra's murmur3, 64 bits: the only partitioner of format version 1.
const PARTITIONER_MURMUR3: u8 = 1;
const FLAG_CAUSAL: u8 = 1;
const FLAG_COUNTERS: u8 = 2;
const FLAG_LOG: u8 = 4;
/// Stands for "no timestamp": i64::MIN is not one.
const NO_TIMESTAMP: i64 = i64::MIN;

/// From the lowest to the highest, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimestampSpan {
    pub lowest: Timestamp,
    pub highest: Timestamp,
}

/// The commit log positions whose records a table took in: the first and the last of them. Records in between may
/// belong to other shards or tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogSpan {
    pub first: Position,
    pub last: Position,
}

/// The length of a component's file and the CRC-32C of all of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ComponentDigest {
    pub bytes: u64,
    pub crc: u32,
}

/// A table's bounds and counts, as `Statistics.db` holds them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Statistics {
    pub table: TableId,
    pub partitions: u64,
    pub rows: u64,
    pub cells: u64,
    /// Data blocks.
    pub blocks: u64,
    /// Data bytes before compression.
    pub plain_bytes: u64,
    /// Timestamps of registers, markers and siblings. `None`: there are none.
    pub values: Option<TimestampSpan>,
    /// Timestamps of floors of every level. `None`: there are none.
    pub floors: Option<TimestampSpan>,
    /// A cell of this table has dots (C): no read may skip the table for its timestamps (`cell.md`).
    pub has_causal: bool,
    /// A cell of this table is a counter (N). Version 1 never writes one.
    pub has_counters: bool,
    pub log: Option<LogSpan>,
    pub first: (Token, PartitionKey),
    pub last: (Token, PartitionKey),
    pub data: ComponentDigest,
    pub index: ComponentDigest,
    pub filter: ComponentDigest,
    /// Where in `Index.db` its top block begins.
    pub index_top: u64,
}

/// What a manifest must remember of a table: enough to tell its files from stale or swapped ones. The statistics'
/// checksum closes the chain: statistics hold the lengths and checksums of the other components.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SstableMeta {
    pub file: FileId,
    pub generation: u64,
    pub table: TableId,
    pub data_bytes: u64,
    pub index_bytes: u64,
    pub filter_bytes: u64,
    pub statistics_bytes: u64,
    /// CRC-32C of the whole of `Statistics.db`.
    pub statistics_crc: u32,
    pub first: Token,
    pub last: Token,
}

impl Statistics {
    /// The highest timestamp of anything in the table, values and floors. `None`: it holds neither.
    pub fn highest_timestamp(&self) -> Option<Timestamp> {
        let highest = |span: &Option<TimestampSpan>| span.map(|span| span.highest);
        highest(&self.values).max(highest(&self.floors))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(&self.table.0);
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = flag(self.has_causal, FLAG_CAUSAL)
            | flag(self.has_counters, FLAG_COUNTERS)
            | flag(self.log.is_some(), FLAG_LOG);
        out.extend_from_slice(&[PARTITIONER_MURMUR3, flags]);
        for count in [self.partitions, self.rows, self.cells, self.blocks, self.plain_bytes] {
            out.extend_from_slice(&count.to_le_bytes());
        }
        for span in [self.values, self.floors] {
            let (lowest, highest) =
                span.map_or((NO_TIMESTAMP, NO_TIMESTAMP), |span| (span.lowest.micros(), span.highest.micros()));
            out.extend_from_slice(&lowest.to_le_bytes());
            out.extend_from_slice(&highest.to_le_bytes());
        }
        for position in self.log.iter().flat_map(|log| [log.first, log.last]) {
            out.extend_from_slice(&position.segment.to_le_bytes());
            out.extend_from_slice(&position.offset.to_le_bytes());
        }
        for (token, key) in [&self.first, &self.last] {
            out.extend_from_slice(&token.to_ordered_bytes());
            put_varint(key.as_bytes().len() as u64, &mut out);
            out.extend_from_slice(key.as_bytes());
        }
        for digest in [self.data, self.index, self.filter] {
            out.extend_from_slice(&digest.bytes.to_le_bytes());
            out.extend_from_slice(&digest.crc.to_le_bytes());
        }
        out.extend_from_slice(&self.index_top.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Why> {
        let mut fields = Cursor::new(bytes);
        let table = TableId(fields.array()?);
        let (partitioner, flags) = (fields.u8()?, fields.u8()?);
        if partitioner != PARTITIONER_MURMUR3 || flags & !(FLAG_CAUSAL | FLAG_COUNTERS | FLAG_LOG) != 0 {
            return Err(Why::Unsupported);
        }
        let statistics = Statistics {
            table,
            partitions: fields.u64()?,
            rows: fields.u64()?,
            cells: fields.u64()?,
            blocks: fields.u64()?,
            plain_bytes: fields.u64()?,
            values: timestamp_span(&mut fields)?,
            floors: timestamp_span(&mut fields)?,
            has_causal: flags & FLAG_CAUSAL != 0,
            has_counters: flags & FLAG_COUNTERS != 0,
            log: if flags & FLAG_LOG != 0 { Some(log_span(&mut fields)?) } else { None },
            first: partition_bound(&mut fields)?,
            last: partition_bound(&mut fields)?,
            data: component_digest(&mut fields)?,
            index: component_digest(&mut fields)?,
            filter: component_digest(&mut fields)?,
            index_top: fields.u64()?,
        };
        if !fields.is_at_end() {
            return Err(Why::LeftOver);
        }
        let header = FILE_HEADER_BYTES as u64;
        let tops = header < statistics.index_top && statistics.index_top < statistics.index.bytes;
        let bounds = statistics.first <= statistics.last
            && (statistics.partitions == 1) == (statistics.first == statistics.last);
        let counts = statistics.partitions > 0 && statistics.blocks > 0 && statistics.data.bytes > header;
        if tops && bounds && counts { Ok(statistics) } else { Err(Why::Contradiction) }
    }
}

fn timestamp_span(fields: &mut Cursor) -> Result<Option<TimestampSpan>, Why> {
    let (lowest, highest) = (fields.i64()?, fields.i64()?);
    match (Timestamp::from_micros(lowest), Timestamp::from_micros(highest)) {
        (Err(_), Err(_)) => Ok(None),
        (Ok(lowest), Ok(highest)) if lowest <= highest => Ok(Some(TimestampSpan { lowest, highest })),
        (Ok(_) | Err(_), Ok(_) | Err(_)) => Err(Why::Contradiction),
    }
}

fn log_span(fields: &mut Cursor) -> Result<LogSpan, Why> {
    let first = Position { segment: fields.u64()?, offset: fields.u32()? };
    let last = Position { segment: fields.u64()?, offset: fields.u32()? };
    if first <= last { Ok(LogSpan { first, last }) } else { Err(Why::Contradiction) }
}

fn partition_bound(fields: &mut Cursor) -> Result<(Token, PartitionKey), Why> {
    let token = Token::from_ordered_bytes(fields.array()?);
    let length = fields.length()?;
    if length > KEY_BYTES_MAX {
        return Err(Why::Truncated);
    }
    Ok((token, PartitionKey::copy_from(fields.take(length)?)))
}

fn component_digest(fields: &mut Cursor) -> Result<ComponentDigest, Why> {
    Ok(ComponentDigest { bytes: fields.u64()?, crc: fields.u32()? })
}

impl SstableMeta {
    pub const ENCODED_BYTES: usize = 92;

    /// The fixed form for a manifest: little-endian fields in the order of the struct, tokens as ordered bytes.
    pub fn to_bytes(&self) -> [u8; Self::ENCODED_BYTES] {
        let mut out = [0; Self::ENCODED_BYTES];
        out[..16].copy_from_slice(&self.file.0);
        out[16..24].copy_from_slice(&self.generation.to_le_bytes());
        out[24..40].copy_from_slice(&self.table.0);
        let lengths = [self.data_bytes, self.index_bytes, self.filter_bytes, self.statistics_bytes];
        for (field, length) in out[40..72].chunks_exact_mut(8).zip(lengths) {
            field.copy_from_slice(&length.to_le_bytes());
        }
        out[72..76].copy_from_slice(&self.statistics_crc.to_le_bytes());
        out[76..84].copy_from_slice(&self.first.to_ordered_bytes());
        out[84..].copy_from_slice(&self.last.to_ordered_bytes());
        out
    }

    /// `None` if the bytes are none of `to_bytes`' making. Whether they are true, opening the table tells.
    pub fn from_bytes(bytes: &[u8; Self::ENCODED_BYTES]) -> Option<Self> {
        let mut fields = Cursor::new(bytes);
        let mut read = || -> Result<Self, Why> {
            Ok(SstableMeta {
                file: FileId(fields.array()?),
                generation: fields.u64()?,
                table: TableId(fields.array()?),
                data_bytes: fields.u64()?,
                index_bytes: fields.u64()?,
                filter_bytes: fields.u64()?,
                statistics_bytes: fields.u64()?,
                statistics_crc: fields.u32()?,
                first: Token::from_ordered_bytes(fields.array()?),
                last: Token::from_ordered_bytes(fields.array()?),
            })
        };
        read().ok().filter(|meta| meta.first <= meta.last)
    }

    /// Bytes of all components on disk.
    pub fn bytes(&self) -> u64 {
        [self.data_bytes, self.index_bytes, self.filter_bytes, self.statistics_bytes]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

/// Counts what goes into a table.
#[derive(Default, Clone, PartialEq, Eq, Debug)]
pub(super) struct Tally {
    pub partitions: u64,
    pub rows: u64,
    pub cells: u64,
    pub values: Option<TimestampSpan>,
    pub floors: Option<TimestampSpan>,
    pub has_causal: bool,
}

impl Tally {
    /// The partition as given, which may be a later piece of one already begun.
    pub fn observe(&mut self, partition: &Partition, begins: bool) {
        self.partitions += u64::from(begins);
        self.floor(partition.floor);
        for (_, floor) in partition.ranges.iter() {
            self.floor(floor);
        }
        if let Some(statics) = &partition.statics {
            self.row(statics);
        }
        for row in partition.rows.values().filter(|row| !row.is_bottom()) {
            self.rows += 1;
            self.row(row);
        }
    }

    fn row(&mut self, row: &Row) {
        self.floor(row.floor);
        row.collections.values().for_each(|floor| self.floor(Some(*floor)));
        self.register(&row.marker);
        for cell in row.cells.values().filter(|cell| !cell.is_bottom()) {
            self.cells += 1;
            self.cell(cell);
        }
    }

    fn cell(&mut self, cell: &Cell) {
        self.floor(cell.floor);
        self.register(&cell.lww);
        if let Some(dots) = &cell.dots {
            self.has_causal = true;
            dots.live.values().for_each(|live| widen(&mut self.values, live.hlc));
        }
    }

    fn register(&mut self, register: &Option<Lww>) {
        if let Some(register) = register {
            widen(&mut self.values, register.key.ts());
        }
    }

    fn floor(&mut self, floor: Option<Key>) {
        if let Some(floor) = floor {
            widen(&mut self.floors, floor.ts());
        }
    }
}

fn widen(span: &mut Option<TimestampSpan>, with: Timestamp) {
    let span = span.get_or_insert(TimestampSpan { lowest: with, highest: with });
    span.lowest = span.lowest.min(with);
    span.highest = span.highest.max(with);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, option, prelude::*};

    fn span() -> impl Strategy<Value = Option<TimestampSpan>> {
        option::of((any::<i64>(), any::<i64>()).prop_filter_map("no timestamp", |(a, b)| {
            let (lowest, highest) = (Timestamp::from_micros(a.min(b)).ok()?, Timestamp::from_micros(a.max(b)).ok()?);
            Some(TimestampSpan { lowest, highest })
        }))
    }

    fn digest() -> impl Strategy<Value = ComponentDigest> {
        (100u64.., any::<u32>()).prop_map(|(bytes, crc)| ComponentDigest { bytes, crc })
    }

    fn statistics() -> impl Strategy<Value = Statistics> {
        let counts = (2u64.., any::<u64>(), any::<u64>(), 1u64.., any::<u64>());
        let position = || (any::<u64>(), any::<u32>()).prop_map(|(segment, offset)| Position { segment, offset });
        let log = option::of((position(), position()).prop_map(|(a, b)| LogSpan { first: a.min(b), last: a.max(b) }));
        let key = || {
            (any::<i64>(), vec(any::<u8>(), 0..20)).prop_map(|(token, key)| (Token(token), PartitionKey(key.into())))
        };
        let flags = (any::<[u8; 16]>(), any::<bool>(), any::<bool>());
        (counts, span(), span(), log, (key(), key()), (digest(), digest(), digest()), flags).prop_map(
            |(counts, values, floors, log, (a, mut b), (data, index, filter), (table, has_causal, has_counters))| {
                if a == b {
                    b.0 = Token(b.0.0 ^ 1);
                }
                let (first, last) = if a < b { (a, b) } else { (b, a) };
                let (partitions, rows, cells, blocks, plain_bytes) = counts;
                let (table, index_top) = (TableId(table), index.bytes - 20);
                Statistics {
                    table,
                    partitions,
                    rows,
                    cells,
                    blocks,
                    plain_bytes,
                    values,
                    floors,
                    has_causal,
                    has_counters,
                    log,
                    first,
                    last,
                    data,
                    index,
                    filter,
                    index_top,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn statistics_read_back(statistics in statistics()) {
            prop_assert_eq!(Statistics::decode(&statistics.encode()), Ok(statistics));
        }

        #[test]
        fn statistics_have_one_form(statistics in statistics(), at: usize, bits in 1u8.., cut: usize) {
            let encoded = statistics.encode();
            let mut flipped = encoded.clone();
            flipped[at % encoded.len()] ^= bits;
            if let Ok(other) = Statistics::decode(&flipped) {
                prop_assert_eq!(other.encode(), flipped);
            }
            prop_assert!(Statistics::decode(&encoded[..cut % encoded.len()]).is_err());
        }

        #[test]
        fn any_bytes_do_not_panic(bytes in vec(any::<u8>(), 0..300)) {
            prop_assert!(Statistics::decode(&bytes).is_ok_and(|found| found.encode() == bytes) || Statistics::decode(&bytes).is_err());
        }

        #[test]
        fn a_meta_reads_back(bytes: [u8; 32], numbers: [u64; 5], crc: u32, tokens: [i64; 2]) {
            let (file, table) = bytes.split_at(16);
            let [generation, data_bytes, index_bytes, filter_bytes, statistics_bytes] = numbers;
            let meta = SstableMeta {
                file: FileId(file.try_into().unwrap()), table: TableId(table.try_into().unwrap()), generation, data_bytes, index_bytes, filter_bytes,
                statistics_bytes, statistics_crc: crc, first: Token(tokens[0].min(tokens[1])), last: Token(tokens[0].max(tokens[1])),
            };
            prop_assert_eq!(SstableMeta::from_bytes(&meta.to_bytes()), Some(meta));
        }
    }
}
