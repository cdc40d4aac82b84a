//! Checking every byte of a table (scrub), and every decoder against bytes of any kind (fuzzing).

use super::{
    block::Block,
    component::ComponentReader,
    error::{SstableError, Why},
    filter::Filter,
    frame::{Extent, FILE_HEADER_BYTES},
    index::{IndexBlock, IndexCursor},
    name::Component,
    position::{put_partition, put_row},
    reader::{Sstable, decode_rows, read_header},
    statistics::{ComponentDigest, Statistics, Tally},
    walk::Walk,
};
use bytes::Bytes;
use crc32c::crc32c_append;
use kula_disk::Disk;
use kula_lattice::SortedMap;
use kula_types::{PartitionKey, Token};

/// Bytes read at a time where only a checksum is wanted.
const READ_BYTES: u64 = 1 << 20;

impl Sstable {
    /// Reads every byte, past the cache, and compares everything with everything: whole-file checksums, frames, order,
    /// separators, restarts, the filter, counts. The first damage is the answer; the table stays as it is. `disk` and
    /// `prefix` as at `open`: the filter's file is not held open.
    pub fn verify(&self, disk: &dyn Disk, prefix: &str) -> Result<(), SstableError> {
        if let Some(damage) = self.filter_damage() {
            return Err(damage.clone());
        }
        self.verify_entries()?;
        self.verify_restarts()?;
        let filter_file = ComponentReader::open(disk, prefix, &self.meta, Component::Filter, self.meta.filter_bytes)?;
        let Statistics { data, index, filter, .. } = self.statistics();
        verify_digest(&self.data, *data)?;
        verify_digest(&self.index, *index)?;
        verify_digest(&filter_file, *filter)
    }

    fn verify_entries(&self) -> Result<(), SstableError> {
        let mut walk = Walk::first(self)?;
        let mut seen = Seen::default();
        loop {
            if seen.end.unwrap_or(FILE_HEADER_BYTES as u64) != walk.extent().offset {
                return Err(walk.damaged(Why::Contradiction));
            }
            seen.end = Some(walk.extent().end());
            seen.blocks += 1;
            let block = walk.block_uncached()?;
            seen.plain_bytes += block.len() as u64;
            self.verify_block(&walk, &block, &mut seen).map_err(|why| walk.damaged(why))?;
            if !walk.advance()? {
                break;
            }
        }
        let found = (seen.end, seen.blocks, seen.plain_bytes, seen.partition_open, &seen.tally, seen.last.as_ref());
        let statistics = self.statistics();
        let expected = Tally {
            partitions: statistics.partitions,
            rows: statistics.rows,
            cells: statistics.cells,
            values: statistics.values,
            floors: statistics.floors,
            has_causal: statistics.has_causal,
        };
        let last = Some(&statistics.last);
        if found == (Some(statistics.data.bytes), statistics.blocks, statistics.plain_bytes, false, &expected, last) {
            Ok(())
        } else {
            Err(self.data.damaged(0, self.data.tokens, Why::Contradiction))
        }
    }

    fn verify_restarts(&self) -> Result<(), SstableError> {
        let top_damaged = |why| self.top_damaged(why);
        self.top.check_restarts().map_err(top_damaged)?;
        let mut top = IndexCursor::first(self.top.clone()).map_err(top_damaged)?;
        loop {
            let (extent, tokens) = (top.extent(), top.tokens(self.meta.last));
            let block = self.index.read_index(extent, tokens)?;
            block.check_restarts().map_err(|why| self.index.damaged(extent.offset, tokens, why))?;
            if !top.advance().map_err(top_damaged)? {
                return Ok(());
            }
        }
    }

    fn verify_block(&self, walk: &Walk, block: &Bytes, seen: &mut Seen) -> Result<(), Why> {
        for segment in Block::parse(block)?.segments() {
            let segment = segment?;
            let here = (segment.token, PartitionKey::copy_from(segment.key));
            let continues = seen.partition_open && seen.last.as_ref() == Some(&here);
            if continues == segment.start || seen.partition_open != continues {
                return Err(Why::Order);
            }
            let mut position = Vec::new();
            put_partition(&mut position, here.0, segment.key);
            if segment.start {
                seen.moved_to(&position, walk)?;
                if !self.may_contain(here.0, &here.1) {
                    return Err(Why::Contradiction);
                }
            }
            let length = position.len();
            for row in segment.rows() {
                put_row(&mut position, row?.clustering);
                seen.moved_to(&position, walk)?;
                position.truncate(length);
            }
            let mut partition = read_header(block, &segment)?;
            let mut rows = Vec::new();
            decode_rows(&block.slice(segment.rows_place()), &mut rows)?;
            partition.rows = SortedMap::from_sorted(rows).ok_or(Why::Order)?;
            seen.tally.observe(&partition, segment.start);
            if seen.tally.partitions == 1 && here != self.statistics().first {
                return Err(Why::Contradiction);
            }
            seen.partition_open = segment.continues;
            seen.last = Some(here);
        }
        Ok(())
    }
}

/// What a verification has passed.
#[derive(Default)]
struct Seen {
    end: Option<u64>,
    blocks: u64,
    plain_bytes: u64,
    position: Vec<u8>,
    last: Option<(Token, PartitionKey)>,
    /// The last partition goes on in the next block.
    partition_open: bool,
    tally: Tally,
}

impl Seen {
    /// Positions ascend and lie between their block's separators.
    fn moved_to(&mut self, position: &[u8], walk: &Walk) -> Result<(), Why> {
        let ascends = self.position.as_slice() < position || self.tally.partitions == 0 && self.position.is_empty();
        let between = walk.separator() <= position && walk.below().is_none_or(|below| position < below);
        if !ascends || !between {
            return Err(Why::Order);
        }
        self.position.clear();
        self.position.extend_from_slice(position);
        Ok(())
    }
}

fn verify_digest(file: &ComponentReader, expected: ComponentDigest) -> Result<(), SstableError> {
    let (mut crc, mut offset) = (0, 0);
    while offset < file.bytes {
        let extent = Extent { offset, bytes: READ_BYTES.min(file.bytes - offset) };
        crc = crc32c_append(crc, &file.raw(extent, file.tokens)?);
        offset = extent.end();
    }
    if (crc, offset) == (expected.crc, expected.bytes) {
        Ok(())
    } else {
        Err(file.damaged(0, file.tokens, Why::Checksum))
    }
}

/// Reads `body` as the plain bytes of one block of a component, down to the last entry: what a fuzzer calls, and what
/// proves that no decoder panics or allocates beyond its bounds. Answers the number of entries.
pub fn probe(component: Component, body: &Bytes) -> Result<usize, Why> {
    match component {
        Component::Data => {
            let mut entries = 0;
            for segment in Block::parse(body)?.segments() {
                let segment = segment?;
                entries += 1;
                for row in segment.rows() {
                    row?;
                    entries += 1;
                }
            }
            Ok(entries)
        }
        Component::Index => {
            let block = IndexBlock::parse(body.clone())?;
            block.check_restarts()?;
            let mut cursor = IndexCursor::first(block)?;
            let mut entries = 1;
            while cursor.advance()? {
                entries += 1;
            }
            Ok(entries)
        }
        Component::Filter => Filter::default().push(body).map(|()| 1),
        Component::Statistics => Statistics::decode(body).map(|_| 1),
    }
}
