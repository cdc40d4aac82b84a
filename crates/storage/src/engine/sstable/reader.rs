//! Reading a table: what is held in memory once it is open, and how a point or a slice of a partition is found.
//!
//! Held: the statistics, the filter (nine bits a partition), the index's top block (some ten bytes for each index block,
//! that is for 6 MiB of data). Index and data blocks are read as they are needed, through the cache if there is one.
//!
//! Open files: data and index. Statistics and filter are closed once they are in memory.
//!
//! What leaves the block: rows are slices of the block they came from, without a copy, only if they are at least half of
//! it; smaller results are copied out first. So an answer keeps at most twice its own bytes alive, whatever a slow
//! client does with it, and a 1 KiB copy costs less than the memory it frees.

use super::{
    block::{Block, Rows, Segment},
    cache::BlockCache,
    component::ComponentReader,
    error::{SstableError, TokenSpan, Why},
    filter::Filter,
    frame::{Extent, FILE_HEADER_BYTES},
    index::IndexBlock,
    limits::STATISTICS_BYTES_MAX,
    name::Component,
    position::{put_partition, put_slice_start},
    statistics::{SstableMeta, Statistics},
    walk::Walk,
};
use bytes::Bytes;
use crc32c::crc32c;
use kula_disk::Disk;
use kula_lattice::{Partition, Row, Slice, SortedMap, codec};
use kula_types::{ClusteringKey, PartitionKey, Timestamp, Token};
use std::{
    cmp::Ordering,
    ops::{Bound, Range},
    sync::Arc,
};

/// An open table. Immutable: it may be shared and read from several threads.
#[derive(Debug)]
pub struct Sstable {
    pub(super) meta: SstableMeta,
    pub(super) statistics: Statistics,
    pub(super) data: ComponentReader,
    pub(super) index: ComponentReader,
    pub(super) top: IndexBlock,
    /// `None`: the filter is damaged, and any key may be there.
    filter: Option<Filter>,
    filter_damage: Option<SstableError>,
    cache: Option<Arc<BlockCache>>,
}

impl Sstable {
    /// Opens the table that `meta` describes in the directory `prefix`. Damage to the statistics or to the index's top
    /// makes all its tokens unknown; a damaged filter does not (`filter_damage`), reads then go without.
    pub fn open(disk: &dyn Disk, prefix: &str, meta: &SstableMeta) -> Result<Self, SstableError> {
        let open = |component, bytes| ComponentReader::open(disk, prefix, meta, component, bytes);
        let statistics = read_statistics(&open(Component::Statistics, meta.statistics_bytes)?, meta)?;
        let data = open(Component::Data, meta.data_bytes)?;
        let index = open(Component::Index, meta.index_bytes)?;
        let filter_file = open(Component::Filter, meta.filter_bytes)?;
        let extent =
            Extent { offset: statistics.index_top, bytes: meta.index_bytes.saturating_sub(statistics.index_top) };
        let top = index.read_index(extent, index.tokens)?;
        let expected = Extent {
            offset: FILE_HEADER_BYTES as u64,
            bytes: statistics.index_top.saturating_sub(FILE_HEADER_BYTES as u64),
        };
        if top.covers() != expected {
            return Err(index.damaged(extent.offset, index.tokens, Why::Contradiction));
        }
        let (filter, filter_damage) = match read_filter(&filter_file, &statistics) {
            Ok(filter) => (Some(filter), None),
            Err(damage @ SstableError::Damaged { .. }) => (None, Some(damage)),
            Err(error) => return Err(error),
        };
        Ok(Sstable { meta: *meta, statistics, data, index, top, filter, filter_damage, cache: None })
    }

    /// Reads blocks through `cache`, which tables may share.
    #[must_use]
    pub fn with_cache(mut self, cache: Arc<BlockCache>) -> Self {
        self.cache = Some(cache);
        self
    }

    pub fn meta(&self) -> &SstableMeta {
        &self.meta
    }

    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// The filter is damaged: nothing is lost but speed, and a rewrite of the table heals it.
    pub fn filter_damage(&self) -> Option<&SstableError> {
        self.filter_damage.as_ref()
    }

    /// Bytes an open table holds in memory, the cache apart.
    pub fn heap_bytes(&self) -> usize {
        self.filter.as_ref().map_or(0, Filter::heap_bytes) + self.top.heap_bytes()
    }

    /// The highest timestamp in the table, values and floors. With `has_causal` the skip rule of `cell.md`: a read may
    /// skip this table only if this is strictly below what it found and the table has no causal cell.
    pub fn highest_timestamp(&self) -> Option<Timestamp> {
        self.statistics.highest_timestamp()
    }

    pub fn has_causal(&self) -> bool {
        self.statistics.has_causal || self.statistics.has_counters
    }

    /// False only if the table does not hold the key.
    pub fn may_contain(&self, token: Token, key: &PartitionKey) -> bool {
        self.may_hold(token, key) && self.filter.as_ref().is_none_or(|filter| filter.may_contain(token, key.as_bytes()))
    }

    fn may_hold(&self, token: Token, key: &PartitionKey) -> bool {
        let Statistics { first, last, .. } = &self.statistics;
        (first.0, &first.1) <= (token, key) && (token, key) <= (last.0, &last.1)
    }

    /// The slice of a partition, or `None` if the table does not hold the partition. A partition of which only the
    /// header or nothing lies in the slice is `Some`.
    pub fn get(&self, token: Token, key: &PartitionKey, slice: &Slice) -> Result<Option<Partition>, SstableError> {
        if !self.may_contain(token, key) {
            return Ok(None);
        }
        let mut position = Vec::with_capacity(key.as_bytes().len() + 10);
        put_partition(&mut position, token, key.as_bytes());
        let mut walk = Walk::seek(self, &position)?;
        let mut block = walk.block()?;
        let segment = Block::parse(&block).and_then(|block| block.find(token, key.as_bytes()));
        let Some(segment) = segment.map_err(|why| walk.damaged(why))? else { return Ok(None) };
        if !segment.start {
            // The seek led to the block that may hold the header: a partition that began before cannot be here.
            return Err(walk.damaged(Why::Order));
        }
        let mut partition = read_header(&block, &segment).map_err(|why| walk.damaged(why))?;
        let mut rows = Vec::new();
        let mut more = take_rows(&block, &segment, slice, &mut rows).map_err(|why| walk.damaged(why))?;
        if more && slice.from != Bound::Unbounded {
            let mut start = Vec::new();
            put_slice_start(&mut start, &position, &slice.from);
            // The header's block lies before the slice: go straight to where the slice begins.
            if walk.below().is_some_and(|below| below <= start.as_slice()) {
                walk = Walk::seek(self, &start)?;
                block = walk.block()?;
                more = take_continued(&block, token, key, slice, &mut rows).map_err(|why| walk.damaged(why))?;
            }
        }
        while more {
            walk.advance_within_partition()?;
            block = walk.block()?;
            more = take_continued(&block, token, key, slice, &mut rows).map_err(|why| walk.damaged(why))?;
        }
        partition.rows = SortedMap::from_sorted(rows).ok_or_else(|| walk.damaged(Why::Order))?;
        partition.ranges = partition.ranges.clip(slice);
        Ok(Some(partition))
    }
}

/// A partition without its rows.
pub(super) fn read_header(block: &Bytes, segment: &Segment) -> Result<Partition, Why> {
    let Some(header) = segment.header.clone() else { return Ok(Partition::default()) };
    let bytes = own(block, header);
    let mut input = codec::Input::new(&bytes);
    let partition = codec::decode_partition(&mut input).map_err(|_| Why::Entry)?;
    input.finish().map_err(|_| Why::Entry)?;
    if partition.rows.is_empty() { Ok(partition) } else { Err(Why::Contradiction) }
}

/// Adds the segment's rows that lie in the slice. True: the partition goes on in the next block, and the slice too.
fn take_rows(
    block: &Bytes,
    segment: &Segment,
    slice: &Slice,
    rows: &mut Vec<(ClusteringKey, Row)>,
) -> Result<bool, Why> {
    let (mut taken, mut past_end) = (None::<Range<usize>>, false);
    for row in segment.rows() {
        let row = row?;
        match side(slice, row.clustering) {
            Ordering::Less => {}
            Ordering::Equal => taken = Some(taken.map_or(row.whole.start, |taken| taken.start)..row.whole.end),
            Ordering::Greater => {
                past_end = true;
                break;
            }
        }
    }
    if let Some(taken) = taken {
        decode_rows(&own(block, taken), rows)?;
    }
    Ok(segment.continues && !past_end)
}

/// As `take_rows`, of a block that must begin with a later part of the partition.
fn take_continued(
    block: &Bytes,
    token: Token,
    key: &PartitionKey,
    slice: &Slice,
    rows: &mut Vec<(ClusteringKey, Row)>,
) -> Result<bool, Why> {
    let segment = Block::parse(block)?.segment(0)?;
    if (segment.token, segment.key, segment.start) != (token, key.as_bytes(), false) {
        return Err(Why::Order);
    }
    take_rows(block, &segment, slice, rows)
}

/// Decodes rows that follow one another in `bytes`; what they hold are slices of it.
pub(super) fn decode_rows(bytes: &Bytes, rows: &mut Vec<(ClusteringKey, Row)>) -> Result<(), Why> {
    for place in Rows::of(bytes) {
        let place = place?;
        let encoded = bytes.slice(place.row);
        let mut input = codec::Input::new(&encoded);
        let row = codec::decode_row(&mut input).map_err(|_| Why::Entry)?;
        input.finish().map_err(|_| Why::Entry)?;
        rows.push((ClusteringKey(bytes.slice(place.clustering_place)), row));
    }
    Ok(())
}

/// Where a clustering key lies beside a slice: `Equal` is inside.
fn side(slice: &Slice, clustering: &[u8]) -> Ordering {
    let before = match &slice.from {
        Bound::Unbounded => false,
        Bound::Included(from) => clustering < from.as_bytes(),
        Bound::Excluded(from) => clustering <= from.as_bytes(),
    };
    let after = match &slice.to {
        Bound::Unbounded => false,
        Bound::Included(to) => clustering > to.as_bytes(),
        Bound::Excluded(to) => clustering >= to.as_bytes(),
    };
    match (before, after) {
        (true, _) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => Ordering::Equal,
    }
}

/// A part of a block that may outlive it: shared if it is at least half of the block, else copied.
fn own(block: &Bytes, part: Range<usize>) -> Bytes {
    if part.len() * 2 >= block.len() { block.slice(part) } else { Bytes::copy_from_slice(&block[part]) }
}

impl Sstable {
    pub(super) fn top_damaged(&self, why: Why) -> SstableError {
        self.index.damaged(self.statistics.index_top, self.index.tokens, why)
    }

    pub(super) fn data_block(&self, extent: Extent, tokens: TokenSpan) -> Result<Bytes, SstableError> {
        self.cached(&self.data, extent, tokens)
    }

    pub(super) fn index_block(&self, extent: Extent, tokens: TokenSpan) -> Result<IndexBlock, SstableError> {
        let bytes = self.cached(&self.index, extent, tokens)?;
        let block = IndexBlock::parse(bytes).map_err(|why| self.index.damaged(extent.offset, tokens, why))?;
        let data = Extent { offset: FILE_HEADER_BYTES as u64, bytes: self.meta.data_bytes - FILE_HEADER_BYTES as u64 };
        if block.covers().offset < data.offset || block.covers().end() > data.end() {
            return Err(self.index.damaged(extent.offset, tokens, Why::Contradiction));
        }
        Ok(block)
    }

    fn cached(&self, from: &ComponentReader, extent: Extent, tokens: TokenSpan) -> Result<Bytes, SstableError> {
        let Some(cache) = &self.cache else { return from.read(extent, tokens) };
        let key = (self.meta.file, from.component, extent.offset);
        if let Some(block) = cache.get(&key) {
            return Ok(block);
        }
        let block = from.read(extent, tokens)?;
        cache.insert(key, block.clone());
        Ok(block)
    }
}

fn read_statistics(file: &ComponentReader, meta: &SstableMeta) -> Result<Statistics, SstableError> {
    let damaged = |why| file.damaged(0, file.tokens, why);
    if file.bytes > STATISTICS_BYTES_MAX {
        return Err(damaged(Why::FileLength { expected: STATISTICS_BYTES_MAX, actual: file.bytes }));
    }
    let whole = Bytes::from(file.raw(Extent { offset: 0, bytes: file.bytes }, file.tokens)?);
    if crc32c(&whole) != meta.statistics_crc {
        return Err(damaged(Why::Checksum));
    }
    let plain = file.open_run(FILE_HEADER_BYTES as u64, whole.slice(FILE_HEADER_BYTES..)).map_err(damaged)?;
    let statistics = Statistics::decode(&plain).map_err(damaged)?;
    let lengths = [statistics.data.bytes, statistics.index.bytes, statistics.filter.bytes];
    let agrees = statistics.table == meta.table
        && lengths == [meta.data_bytes, meta.index_bytes, meta.filter_bytes]
        && (statistics.first.0, statistics.last.0) == (meta.first, meta.last);
    if agrees { Ok(statistics) } else { Err(damaged(Why::Contradiction)) }
}

fn read_filter(file: &ComponentReader, statistics: &Statistics) -> Result<Filter, SstableError> {
    let body = file.body();
    let stored = Bytes::from(file.raw(body, file.tokens)?);
    let mut filter = Filter::default();
    for part in file.runs(body.offset, stored) {
        part.and_then(|part| filter.push(&part)).map_err(|why| file.damaged(body.offset, file.tokens, why))?;
    }
    if filter.last() != Some(statistics.last.0) {
        return Err(file.damaged(body.offset, file.tokens, Why::Contradiction));
    }
    Ok(filter)
}
