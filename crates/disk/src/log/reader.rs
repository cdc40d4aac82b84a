//! Walks the records of one segment file through a bounded window, over damaged stretches too.

use super::format::{ALIGNMENT, RECORD_HEADER_BYTES, RECORDS_AT, RecordHeader, RecordKind, Seed, SegmentHeader};
use crate::{DiskError, File, limits};

pub(super) struct SegmentReader {
    file: Box<dyn File>,
    seed: Seed,
    /// Records end here, or should.
    end: u32,
    /// The file ends here, or `end` does: no record reaches past it, nor does a buffer.
    readable_end: u32,
    /// Where the next step looks.
    offset: u32,
    /// Bytes of the file from `window_at` on; past the end of the file they are zeros, which are no record.
    window: Vec<u8>,
    window_at: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// `SegmentReader::payload` gives its payload until the next step.
    Record {
        offset: u32,
        header: RecordHeader,
    },
    /// No record from `from` on; `to` is where the next one begins, or the end. `claimed_synced`: the highest
    /// `synced_upto` of records in it whose header is whole and whose payload is not.
    Gap {
        from: u32,
        to: u32,
        claimed_synced: u32,
    },
    End,
}

enum Found {
    Record(RecordHeader),
    /// The header is whole, the payload is not.
    Broken(RecordHeader),
    Nothing,
}

impl SegmentReader {
    /// `end`: where the records are known to end, or the end of the segment.
    pub(super) fn new(file: Box<dyn File>, header: &SegmentHeader, end: u32) -> Result<SegmentReader, DiskError> {
        let end = end.min(header.segment_bytes);
        let file_bytes = file.len()?;
        let readable_end = u32::try_from(file_bytes).map_or(end, |bytes| bytes.min(end));
        let (seed, window) = (header.seed(), Vec::new());
        Ok(SegmentReader { file, seed, end, readable_end, offset: RECORDS_AT, window, window_at: 0 })
    }

    pub(super) fn rewind(&mut self) {
        self.offset = RECORDS_AT;
    }

    pub(super) fn step(&mut self) -> Result<Step, DiskError> {
        let from = self.offset;
        if from >= self.end {
            return Ok(Step::End);
        }
        let mut claimed_synced = 0;
        let mut at = from;
        while at < self.readable_end {
            match self.find(at)? {
                Found::Record(header) if at == from => {
                    self.offset = header.end(at);
                    return Ok(Step::Record { offset: at, header });
                }
                Found::Record(_) => {
                    self.offset = at;
                    return Ok(Step::Gap { from, to: at, claimed_synced });
                }
                Found::Broken(header) => {
                    claimed_synced = claimed_synced.max(header.synced_upto);
                    at = header.end(at);
                }
                Found::Nothing => at = at.saturating_add(ALIGNMENT),
            }
        }
        self.offset = self.end;
        Ok(Step::Gap { from, to: self.end, claimed_synced })
    }

    /// The payload of the record that `step` answered last.
    pub(super) fn payload(&self, offset: u32, header: &RecordHeader) -> &[u8] {
        let from = (offset - self.window_at) as usize + RECORD_HEADER_BYTES as usize;
        &self.window[from..from + header.payload_bytes as usize]
    }

    fn find(&mut self, at: u32) -> Result<Found, DiskError> {
        let (seed, end) = (self.seed, self.readable_end);
        let Some(header) = RecordHeader::decode(self.bytes(at, RECORD_HEADER_BYTES)?, seed, at, end) else {
            return Ok(Found::Nothing);
        };
        self.bytes(at, RECORD_HEADER_BYTES + header.payload_bytes)?;
        let is_whole = header.matches(self.payload(at, &header), seed, at)
            && (header.kind == RecordKind::Data || header.payload_bytes == 0);
        Ok(if is_whole { Found::Record(header) } else { Found::Broken(header) })
    }

    /// At least `wanted` bytes from `at`, or all that are left before the end.
    fn bytes(&mut self, at: u32, wanted: u32) -> Result<&[u8], DiskError> {
        let wanted = wanted.min(self.readable_end - at) as usize;
        let window_end = self.window_at as usize + self.window.len();
        if at < self.window_at || at as usize + wanted > window_end {
            // One window, or one record if that is larger; never more than is left.
            let window_bytes = limits::LOG_WINDOW_BYTES.max(wanted).min((self.readable_end - at) as usize);
            self.window.resize(window_bytes, 0);
            self.window_at = at;
            let read_bytes = self.file.read_at(&mut self.window, u64::from(at))?;
            self.window[read_bytes..].fill(0);
        }
        Ok(&self.window[(at - self.window_at) as usize..])
    }
}

/// Where the records of a segment end that no later header tells the end of.
///
/// `synced` is the highest offset that any record in it says was durable. Damage before it is damage, and the records
/// go on behind it; damage from there on is the torn tail of a batch that nobody was told of.
pub(super) fn find_end(reader: &mut SegmentReader) -> Result<u32, DiskError> {
    let mut synced = RECORDS_AT;
    loop {
        match reader.step()? {
            Step::Record { header, .. } => synced = synced.max(header.synced_upto),
            Step::Gap { claimed_synced, .. } => synced = synced.max(claimed_synced),
            Step::End => break,
        }
    }
    reader.rewind();
    loop {
        match reader.step()? {
            Step::Record { .. } => {}
            Step::Gap { from, .. } if from >= synced => return Ok(from),
            Step::Gap { to, .. } if to > synced => return Ok(synced),
            Step::Gap { .. } => {}
            Step::End => return Ok(reader.end),
        }
    }
}
