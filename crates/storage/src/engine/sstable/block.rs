//! Data blocks: whole entries of one or more partitions, in position order.
#![doc = include_str!("../../../../../docs/format/sstable-data.md")]

use super::{cursor::Cursor, error::Why};
use kula_lattice::codec::put_bytes;
use kula_types::{Token, limits::KEY_BYTES_MAX};
use std::{cmp::Ordering, ops::Range};

const START: u8 = 1;
const CONTINUES: u8 = 2;
const HEADER: u8 = 4;
/// What the directory says of a segment: its token and where it begins.
const PLACE_BYTES: usize = 8 + 4;
/// The directory's own length, the block's last bytes.
const COUNT_BYTES: usize = 4;

/// What a segment's key and fixed fields cost in a block, at most.
pub(super) fn segment_bytes(key: &[u8]) -> usize {
    PLACE_BYTES + 1 + 10 + key.len()
}

/// What one entry costs in a block beside its own bytes, at most.
pub(super) fn entry_bytes(clustering: &[u8], encoded: usize) -> usize {
    20 + clustering.len() + encoded
}

/// Builds one block after another in the same buffers.
#[derive(Default)]
pub(super) struct BlockBuilder {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    count: u32,
    open: Option<OpenSegment>,
}

/// Where the segment being built has its flags, and how many rows it has.
struct OpenSegment {
    flags_at: usize,
    rows: usize,
}

impl BlockBuilder {
    /// The block so far, with its directory.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.directory.len() + COUNT_BYTES
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The open segment has a row: the partition may be cut after it.
    pub fn may_cut(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.rows > 0)
    }

    /// Opens a segment: the part of a partition that lies in this block. `start`: the partition begins here; only then
    /// may it have a header.
    pub fn begin(&mut self, token: Token, key: &[u8], start: bool, header: Option<&[u8]>) {
        assert!(self.open.is_none() && (start || header.is_none()));
        // Only a block's last entry may be large, and ENTRY_BYTES_MAX bounds it: places fit 32 bits.
        let place = u32::try_from(self.bytes.len()).unwrap_or_else(|_| unreachable!("entries are bounded"));
        self.directory.extend_from_slice(&token.to_ordered_bytes());
        self.directory.extend_from_slice(&place.to_le_bytes());
        self.count += 1;
        self.open = Some(OpenSegment { flags_at: self.bytes.len(), rows: 0 });
        self.bytes.push(if start { START } else { 0 } | if header.is_some() { HEADER } else { 0 });
        put_bytes(key, &mut self.bytes);
        if let Some(header) = header {
            put_bytes(header, &mut self.bytes);
        }
    }

    pub fn row(&mut self, clustering: &[u8], row: &[u8]) {
        let Some(open) = &mut self.open else { panic!("a row lies in a segment") };
        open.rows += 1;
        put_bytes(clustering, &mut self.bytes);
        put_bytes(row, &mut self.bytes);
    }

    /// Closes the open segment, if there is one. `continues`: the partition goes on in the next block.
    pub fn end(&mut self, continues: bool) {
        if let Some(open) = self.open.take()
            && continues
        {
            self.bytes[open.flags_at] |= CONTINUES;
        }
    }

    /// The block, whole; `clear` before the next one.
    pub fn finish(&mut self) -> &[u8] {
        assert!(self.open.is_none() && self.count > 0, "a segment is open, or there is none");
        self.bytes.append(&mut self.directory);
        self.bytes.extend_from_slice(&self.count.to_le_bytes());
        &self.bytes
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.directory.clear();
        self.count = 0;
    }
}

/// A block whose outline was checked; its segments are checked as they are read.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    bytes: &'a [u8],
    count: usize,
    /// Where the directory begins, and the last segment ends.
    directory: usize,
}

/// The part of one partition that lies in one block.
#[derive(Clone, Debug)]
pub(super) struct Segment<'a> {
    pub token: Token,
    pub key: &'a [u8],
    /// The partition begins here.
    pub start: bool,
    /// The partition goes on in the next block.
    pub continues: bool,
    /// The encoded header's place in the block, if the partition has one.
    pub header: Option<Range<usize>>,
    rows: Range<usize>,
    block: &'a [u8],
}

impl<'a> Block<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Why> {
        let tail = bytes.len().checked_sub(COUNT_BYTES).ok_or(Why::Truncated)?;
        let count = usize::try_from(Cursor::starting(bytes, tail).u32()?).map_err(|_| Why::Truncated)?;
        let directory =
            count.checked_mul(PLACE_BYTES).and_then(|bytes| tail.checked_sub(bytes)).ok_or(Why::Truncated)?;
        if count == 0 { Err(Why::Contradiction) } else { Ok(Block { bytes, count, directory }) }
    }

    /// Segments in the block.
    pub fn count(&self) -> usize {
        self.count
    }

    fn token(&self, number: usize) -> Result<Token, Why> {
        let place = Cursor::starting(self.bytes, self.directory + number * PLACE_BYTES).array()?;
        Ok(Token::from_ordered_bytes(place))
    }

    /// Where a segment begins; the directory for the one past the last.
    fn place(&self, number: usize) -> Result<usize, Why> {
        if number == self.count {
            return Ok(self.directory);
        }
        let place = Cursor::starting(self.bytes, self.directory + number * PLACE_BYTES + 8).u32()?;
        usize::try_from(place).map_err(|_| Why::Truncated)
    }

    pub fn segment(&self, number: usize) -> Result<Segment<'a>, Why> {
        assert!(number < self.count);
        let (begin, end) = (self.place(number)?, self.place(number + 1)?);
        if begin > end || end > self.directory || number == 0 && begin != 0 {
            return Err(Why::Contradiction);
        }
        let mut fields = Cursor::starting(&self.bytes[..end], begin);
        let flags = fields.u8()?;
        if flags & !(START | CONTINUES | HEADER) != 0 || flags & (START | HEADER) == HEADER {
            return Err(Why::Unsupported);
        }
        let (start, continues) = (flags & START != 0, flags & CONTINUES != 0);
        // Only a block's last partition can go on in the next, and only its first can come from the one before.
        if continues && number + 1 != self.count || !start && number != 0 {
            return Err(Why::Contradiction);
        }
        let key_length = fields.length()?;
        if key_length > KEY_BYTES_MAX {
            return Err(Why::Truncated);
        }
        let key = fields.take(key_length)?;
        let mut header = None;
        if flags & HEADER != 0 {
            let length = fields.length()?;
            fields.take(length)?;
            header = Some(fields.position() - length..fields.position());
        }
        let rows = fields.position()..end;
        Ok(Segment { token: self.token(number)?, key, start, continues, header, rows, block: self.bytes })
    }

    pub fn segments(self) -> impl Iterator<Item = Result<Segment<'a>, Why>> {
        (0..self.count).map(move |number| self.segment(number))
    }

    /// The segment of a partition, if the block has it. Touches the directory and the segments of that token only.
    pub fn find(&self, token: Token, key: &[u8]) -> Result<Option<Segment<'a>>, Why> {
        let (mut low, mut high) = (0, self.count);
        // Invariant: segments below `low` have lower tokens, those from `high` on have not.
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.token(middle)? < token { low = middle + 1 } else { high = middle }
        }
        for number in low..self.count {
            if self.token(number)? != token {
                break;
            }
            let segment = self.segment(number)?;
            match segment.key.cmp(key) {
                Ordering::Less => {}
                Ordering::Equal => return Ok(Some(segment)),
                Ordering::Greater => break,
            }
        }
        Ok(None)
    }
}

/// One row's place in its block.
#[derive(Clone, Debug)]
pub(super) struct RowPlace<'a> {
    pub clustering: &'a [u8],
    pub clustering_place: Range<usize>,
    /// The encoded row.
    pub row: Range<usize>,
    /// From the clustering key's length to the row's end.
    pub whole: Range<usize>,
}

/// Reads a segment's rows in order. Ends after the first error.
pub(super) struct Rows<'a> {
    fields: Cursor<'a>,
    before: Option<&'a [u8]>,
    failed: bool,
}

impl<'a> Segment<'a> {
    /// Where in the block the rows lie.
    pub fn rows_place(&self) -> Range<usize> {
        self.rows.clone()
    }

    pub fn rows(&self) -> Rows<'a> {
        let fields = Cursor::starting(&self.block[..self.rows.end], self.rows.start);
        Rows { fields, before: None, failed: false }
    }
}

impl<'a> Rows<'a> {
    /// Rows that follow one another from the first byte to the last.
    pub fn of(bytes: &'a [u8]) -> Self {
        Rows { fields: Cursor::new(bytes), before: None, failed: false }
    }

    fn read(&mut self) -> Result<RowPlace<'a>, Why> {
        let begin = self.fields.position();
        let length = self.fields.length()?;
        if length > KEY_BYTES_MAX {
            return Err(Why::Truncated);
        }
        let clustering = self.fields.take(length)?;
        let clustering_end = self.fields.position();
        let row_length = self.fields.length()?;
        self.fields.take(row_length)?;
        let end = self.fields.position();
        if self.before.is_some_and(|before| before >= clustering) {
            return Err(Why::Order);
        }
        self.before = Some(clustering);
        let clustering_place = clustering_end - length..clustering_end;
        Ok(RowPlace { clustering, clustering_place, row: end - row_length..end, whole: begin..end })
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = Result<RowPlace<'a>, Why>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.fields.is_at_end() {
            return None;
        }
        let row = self.read();
        self.failed = row.is_err();
        Some(row)
    }
}
