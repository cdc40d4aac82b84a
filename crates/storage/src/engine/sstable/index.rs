//! Index blocks: separator → where the block of the level below lies; two levels of the same form.
#![doc = include_str!("../../../../../docs/format/sstable-index.md")]

use super::{
    cursor::Cursor,
    error::{TokenSpan, Why},
    frame::Extent,
    limits::INDEX_RESTART_ENTRIES,
    position::{highest_token_below, lowest_token},
};
use bytes::Bytes;
use kula_lattice::codec::put_varint;
use kula_types::{Token, limits::KEY_BYTES_MAX};

/// Base and end offsets: what precedes the entries.
const HEAD_BYTES: usize = 16;
/// The longest position: token, a key of nothing but zeros, a clustering key.
const SEPARATOR_BYTES_MAX: usize = 8 + 2 * KEY_BYTES_MAX + 2 + KEY_BYTES_MAX;

/// Builds one index block after another in the same buffers.
#[derive(Default)]
pub(super) struct IndexBuilder {
    entries: Vec<u8>,
    restarts: Vec<u32>,
    last: Vec<u8>,
    count: usize,
    base: u64,
    end: u64,
}

impl IndexBuilder {
    /// Adds the block at `extent`, everything in which is at or above `separator`. Extents follow one another.
    pub fn add(&mut self, separator: &[u8], extent: Extent) {
        if self.count == 0 {
            self.base = extent.offset;
        } else {
            assert!(self.last.as_slice() < separator && extent.offset == self.end, "entries ascend without gaps");
        }
        let shared = if self.count.is_multiple_of(INDEX_RESTART_ENTRIES) {
            // A block is a few KiB, or one entry past that: its places fit 32 bits by far.
            self.restarts.push(u32::try_from(self.entries.len()).unwrap_or(u32::MAX));
            0
        } else {
            self.last.iter().zip(separator).take_while(|(a, b)| a == b).count()
        };
        put_varint(shared as u64, &mut self.entries);
        put_varint((separator.len() - shared) as u64, &mut self.entries);
        self.entries.extend_from_slice(&separator[shared..]);
        put_varint(extent.offset - self.base, &mut self.entries);
        self.last.clear();
        self.last.extend_from_slice(separator);
        self.count += 1;
        self.end = extent.end();
    }

    pub fn len(&self) -> usize {
        self.entries.len() + 4 * self.restarts.len() + HEAD_BYTES + 4
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The finished block; the builder is empty again.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        out.extend_from_slice(&self.base.to_le_bytes());
        out.extend_from_slice(&self.end.to_le_bytes());
        out.append(&mut self.entries);
        for restart in &self.restarts {
            out.extend_from_slice(&restart.to_le_bytes());
        }
        out.extend_from_slice(&u32::try_from(self.restarts.len()).unwrap_or(u32::MAX).to_le_bytes());
        *self = IndexBuilder::default();
        out
    }
}

/// A block of the index whose outline was checked; its entries are checked as they are read.
#[derive(Clone, Debug)]
pub(super) struct IndexBlock {
    bytes: Bytes,
    base: u64,
    end: u64,
    entries_end: usize,
    restarts: usize,
}

impl IndexBlock {
    pub fn parse(bytes: Bytes) -> Result<Self, Why> {
        let mut head = Cursor::new(&bytes);
        let (base, end) = (head.u64()?, head.u64()?);
        let tail = bytes.len().checked_sub(4).filter(|tail| *tail >= HEAD_BYTES).ok_or(Why::Truncated)?;
        let restarts = Cursor::starting(&bytes, tail).u32().map(usize::try_from)?.map_err(|_| Why::Truncated)?;
        let entries_end = restarts
            .checked_mul(4)
            .and_then(|bytes| tail.checked_sub(bytes))
            .filter(|entries_end| *entries_end > HEAD_BYTES)
            .ok_or(Why::Truncated)?;
        if restarts == 0 || base >= end {
            return Err(Why::Contradiction);
        }
        Ok(IndexBlock { bytes, base, end, entries_end, restarts })
    }

    /// Everything the block points to.
    pub fn covers(&self) -> Extent {
        Extent { offset: self.base, bytes: self.end - self.base }
    }

    pub fn heap_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Each restart is the start of an entry that shares nothing, in order, the first entry's among them. Else a seek,
    /// which follows them, would see other entries than a walk.
    pub fn check_restarts(&self) -> Result<(), Why> {
        if self.restart(0)? != HEAD_BYTES {
            return Err(Why::Contradiction);
        }
        let mut fields = Cursor::starting(&self.bytes[..self.entries_end], HEAD_BYTES);
        let mut met = 0;
        while !fields.is_at_end() {
            let begin = fields.position();
            let (shared, unshared) = (fields.length()?, fields.length()?);
            fields.take(unshared)?;
            fields.varint()?;
            if met < self.restarts && self.restart(met)? == begin {
                if shared != 0 {
                    return Err(Why::Contradiction);
                }
                met += 1;
            }
        }
        if met == self.restarts { Ok(()) } else { Err(Why::Contradiction) }
    }

    fn restart(&self, number: usize) -> Result<usize, Why> {
        let at = self.entries_end + 4 * number;
        let place = usize::try_from(Cursor::starting(&self.bytes, at).u32()?).map_err(|_| Why::Truncated)?;
        place.checked_add(HEAD_BYTES).filter(|at| *at < self.entries_end).ok_or(Why::Contradiction)
    }

    /// The separator at a restart, which shares nothing with the entry before.
    fn restart_separator(&self, number: usize) -> Result<&[u8], Why> {
        let mut fields = Cursor::starting(&self.bytes[..self.entries_end], self.restart(number)?);
        if fields.varint()? != 0 {
            return Err(Why::Contradiction);
        }
        let length = fields.length()?;
        fields.take(length)
    }
}

/// A place in an index block: the current entry, and the next one, where the current one's block ends.
pub(super) struct IndexCursor {
    block: IndexBlock,
    /// Where the entry after `next` is read.
    at: usize,
    current: Entry,
    next: Option<Entry>,
    spare: Vec<u8>,
}

#[derive(Default)]
struct Entry {
    separator: Vec<u8>,
    offset: u64,
}

impl IndexCursor {
    /// At the block's first entry.
    pub fn first(block: IndexBlock) -> Result<Self, Why> {
        IndexCursor::at_restart(block, 0)
    }

    /// At the last entry whose separator is at or below `target`; at the first if there is none.
    pub fn seek(block: IndexBlock, target: &[u8]) -> Result<Self, Why> {
        let (mut low, mut high) = (0, block.restarts);
        // Invariant: restarts below `low` are at or below the target, those from `high` on are above it.
        while low < high {
            let middle = usize::midpoint(low, high);
            if block.restart_separator(middle)? <= target { low = middle + 1 } else { high = middle }
        }
        let mut cursor = IndexCursor::at_restart(block, low.saturating_sub(1))?;
        while cursor.next.as_ref().is_some_and(|next| next.separator.as_slice() <= target) {
            cursor.advance()?;
        }
        Ok(cursor)
    }

    fn at_restart(block: IndexBlock, number: usize) -> Result<Self, Why> {
        let at = block.restart(number)?;
        let mut cursor = IndexCursor { block, at, current: Entry::default(), next: None, spare: Vec::new() };
        cursor.next = cursor.read()?;
        if number == 0 && cursor.next.as_ref().is_some_and(|entry| entry.offset != cursor.block.base) {
            return Err(Why::Contradiction);
        }
        if cursor.advance()? { Ok(cursor) } else { Err(Why::Contradiction) }
    }

    /// Goes to the next entry. False: there is none, and the cursor stays.
    pub fn advance(&mut self) -> Result<bool, Why> {
        let Some(next) = self.next.take() else { return Ok(false) };
        let before = std::mem::replace(&mut self.current, next);
        self.spare = before.separator;
        self.next = self.read()?;
        if let Some(next) = &self.next
            && (next.separator <= self.current.separator || next.offset <= self.current.offset)
        {
            return Err(Why::Order);
        }
        Ok(true)
    }

    /// The entry at `at`, whose separator shares a prefix with that of `current`.
    fn read(&mut self) -> Result<Option<Entry>, Why> {
        if self.at == self.block.entries_end {
            return Ok(None);
        }
        let mut fields = Cursor::starting(&self.block.bytes[..self.block.entries_end], self.at);
        let (shared, unshared) = (fields.length()?, fields.length()?);
        let suffix = fields.take(unshared)?;
        let prefix = self.current.separator.get(..shared).ok_or(Why::Truncated)?;
        if shared + unshared > SEPARATOR_BYTES_MAX {
            return Err(Why::Truncated);
        }
        let mut separator = std::mem::take(&mut self.spare);
        separator.clear();
        separator.extend_from_slice(prefix);
        separator.extend_from_slice(suffix);
        let offset = self.block.base.checked_add(fields.varint()?).ok_or(Why::Contradiction)?;
        if offset >= self.block.end {
            return Err(Why::Contradiction);
        }
        self.at = fields.position();
        Ok(Some(Entry { separator, offset }))
    }

    /// Where the current entry's block lies.
    pub fn extent(&self) -> Extent {
        let end = self.next.as_ref().map_or(self.block.end, |next| next.offset);
        Extent { offset: self.current.offset, bytes: end - self.current.offset }
    }

    /// The current entry's separator: nothing in its block is below.
    pub fn separator(&self) -> &[u8] {
        &self.current.separator
    }

    /// The next separator: everything in the current block is below. `None` at the block's last entry.
    pub fn below(&self) -> Option<&[u8]> {
        self.next.as_ref().map(|next| next.separator.as_slice())
    }

    /// Tokens that the current block may hold; `last` where this index block does not say.
    pub fn tokens(&self, last: Token) -> TokenSpan {
        TokenSpan { first: lowest_token(self.separator()), last: self.below().map_or(last, highest_token_below) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{
        collection::{btree_set, vec},
        prelude::*,
    };

    fn build(separators: &[Vec<u8>]) -> IndexBlock {
        let mut builder = IndexBuilder::default();
        let mut offset = 48;
        for (i, separator) in separators.iter().enumerate() {
            let extent = Extent { offset, bytes: 100 + i as u64 };
            builder.add(separator, extent);
            offset = extent.end();
        }
        IndexBlock::parse(Bytes::from(builder.finish())).unwrap()
    }

    fn separators() -> impl Strategy<Value = Vec<Vec<u8>>> {
        btree_set(vec(prop_oneof![Just(0u8), Just(9), any::<u8>()], 0..6), 1..80)
            .prop_map(|set| set.into_iter().collect())
    }

    proptest! {
        #[test]
        fn a_seek_finds_the_last_separator_at_or_below(separators in separators(), target in vec(any::<u8>(), 0..6)) {
            let block = build(&separators);
            let expected = separators.iter().rposition(|separator| *separator <= target).unwrap_or(0);
            let cursor = IndexCursor::seek(block, &target).unwrap();
            prop_assert_eq!(cursor.separator(), separators[expected].as_slice());
            prop_assert_eq!(cursor.extent().bytes, 100 + expected as u64);
            prop_assert_eq!(cursor.below(), separators.get(expected + 1).map(Vec::as_slice));
        }

        #[test]
        fn a_walk_gives_every_entry(separators in separators()) {
            let block = build(&separators);
            prop_assert_eq!(block.check_restarts(), Ok(()));
            let mut cursor = IndexCursor::first(block.clone()).unwrap();
            let (mut found, mut end) = (vec![cursor.separator().to_vec()], cursor.extent().end());
            while cursor.advance().unwrap() {
                found.push(cursor.separator().to_vec());
                prop_assert_eq!(cursor.extent().offset, end);
                end = cursor.extent().end();
            }
            prop_assert_eq!(found, separators);
            prop_assert_eq!(end, block.covers().end());
        }

        #[test]
        fn a_restart_that_is_moved_is_noticed(separators in separators(), number: usize, by in 1u32..400) {
            let block = build(&separators);
            let (mut bytes, at) = (block.bytes.to_vec(), block.entries_end + 4 * (number % block.restarts));
            let place = u32::from_le_bytes(*bytes[at..].first_chunk().unwrap());
            bytes[at..at + 4].copy_from_slice(&place.wrapping_add(by).to_le_bytes());
            let moved = IndexBlock::parse(Bytes::from(bytes)).unwrap();
            // A later entry that shares nothing is as good a restart, only not the one that the writer chose; the first
            // entry must always be one.
            let is_as_good = moved.check_restarts().is_ok();
            prop_assert!(!is_as_good || number % block.restarts > 0);
            for (index, separator) in separators.iter().enumerate().filter(|_| is_as_good) {
                let cursor = IndexCursor::seek(moved.clone(), separator).unwrap();
                prop_assert_eq!(cursor.extent().bytes, 100 + index as u64);
            }
        }

        #[test]
        fn any_bytes_do_not_panic(bytes in vec(any::<u8>(), 0..120), target in vec(any::<u8>(), 0..6)) {
            if let Ok(block) = IndexBlock::parse(Bytes::from(bytes)) {
                let walks = || -> Result<(), Why> {
                    let mut cursor = IndexCursor::first(block.clone())?;
                    while cursor.advance()? {}
                    block.check_restarts()
                };
                // What a verification passes, no seek finds damaged.
                prop_assert!(walks().is_err() || IndexCursor::seek(block.clone(), &target).is_ok());
                prop_assert!(IndexCursor::seek(block.clone(), &target).is_err() || block.covers().bytes > 0);
            }
        }

        #[test]
        fn damage_past_a_checksum_ends_in_an_error_or_an_end(separators in separators(), at: usize, bits in 1u8..) {
            let mut bytes = build(&separators).bytes.to_vec();
            let at = at % bytes.len();
            bytes[at] ^= bits;
            let Ok(block) = IndexBlock::parse(Bytes::from(bytes)) else { return Ok(()) };
            let Ok(mut cursor) = IndexCursor::first(block.clone()) else { return Ok(()) };
            let mut steps = 0;
            while let Ok(true) = cursor.advance() {
                prop_assert!(cursor.extent().end() <= block.covers().end());
                steps += 1;
            }
            prop_assert!(steps <= block.bytes.len());
        }
    }
}
