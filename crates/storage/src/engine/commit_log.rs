//! The node's one commit log: which records a shard still needs from it, and what a record looks like.
//!
#![doc = include_str!("../../../../docs/format/commit-log-record.md")]
//!
//! Safe because a segment goes only when every record in it lies in durable tables (Gray & Reuter's write-ahead rule):
//! a shard that appended since its last flush holds the log from its first such record on.

use super::layout;
use crate::limits;
use kula_disk::{
    Disk,
    log::{LogConfig, LogError, Position, Replay, SegmentLog},
};
use kula_fault::{Mutant, planted};
use kula_types::limits::MUTATION_BYTES_MAX;
use std::sync::Arc;

/// What the segment log is told it holds, so that another log's directory is refused.
const KIND: u16 = 1;
/// A record that means nothing: it is there to begin a new segment.
const MARK: u8 = 0;
/// A record that is a mutation. Others may come; an unknown one is an error, never skipped.
const MUTATION: u8 = 1;
const HEADER_BYTES: usize = 3;
#[allow(clippy::cast_possible_truncation, reason = "a constant far below 4 Gi, checked below")]
const RECORD_BYTES_MAX: u32 = (MUTATION_BYTES_MAX + HEADER_BYTES) as u32;
const _: () = assert!(RECORD_BYTES_MAX as usize == MUTATION_BYTES_MAX + HEADER_BYTES);
/// What a segment holds besides records, with room to spare; the segment log checks it.
const SEGMENT_OVERHEAD_MAX: u32 = 9 << 10;
const _: () = assert!(limits::COMMITLOG_SEGMENT_MIN > SEGMENT_OVERHEAD_MAX as u64);
const _: () = assert!((RECORD_BYTES_MAX + SEGMENT_OVERHEAD_MAX) as u64 <= limits::COMMITLOG_SEGMENT_DEFAULT);

/// Bounds of a commit log, bytes.
#[derive(Clone, Copy, Debug)]
pub struct CommitLogConfig {
    pub total: u64,
    pub segment: u32,
}

/// The records of one shard in one batch, encoded mutations all.
pub struct Records<'a> {
    pub shard: u16,
    pub encoded: &'a [bytes::Bytes],
}

pub struct CommitLog {
    log: SegmentLog,
    total: u64,
    mutation_bytes_max: usize,
    shards: Vec<Held>,
    /// The batch as it goes to the log; kept for its memory.
    buffer: Vec<u8>,
}

/// What one shard needs of the log.
#[derive(Clone, Copy)]
struct Held {
    /// The first record that no table of the shard holds, or a place before it. `None`: the shard needs nothing.
    first: Option<Position>,
    /// All records of the shard lie before this.
    end: Position,
}

/// Why a record with a good checksum was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("a record of {bytes} bytes")]
    TooShort { bytes: usize },
    #[error("a record of kind {kind}")]
    Kind { kind: u8 },
    #[error("a record of shard {shard} among {shards}")]
    Shard { shard: u16, shards: u16 },
}

impl CommitLog {
    /// Opens the log. `flushed` says, shard by shard, before which place all its records are in tables.
    pub fn open(
        disk: Arc<dyn Disk>,
        config: CommitLogConfig,
        flushed: &[Position],
    ) -> Result<(Self, Replay), LogError> {
        let newest = flushed.iter().map(|position| position.segment).max().unwrap_or(0);
        // With the small segments of tests the largest record is smaller.
        let room = config.segment.saturating_sub(SEGMENT_OVERHEAD_MAX);
        let record_bytes_max = if room >= RECORD_BYTES_MAX { RECORD_BYTES_MAX } else { room / 2 };
        let log_config = LogConfig {
            segment_bytes: config.segment,
            first_segment: newest + 1,
            ..LogConfig::new(KIND, record_bytes_max)
        };
        let (log, replay) = SegmentLog::open(disk, layout::COMMIT_LOG, log_config)?;
        let shards = flushed.iter().map(|position| Held { first: None, end: *position }).collect();
        let mutation_bytes_max = usize::try_from(record_bytes_max).unwrap_or(usize::MAX).saturating_sub(HEADER_BYTES);
        Ok((CommitLog { log, total: config.total, mutation_bytes_max, shards, buffer: Vec::new() }, replay))
    }

    /// Notes a record that a replay found: its shard needs it.
    pub fn replayed(&mut self, shard: u16, position: Position) {
        let held = &mut self.shards[usize::from(shard)];
        held.first = held.first.or(Some(position));
        held.end = after(position);
    }

    /// Appends all records in one write. Not durable before `sync`. Answers the place before which all of them, and
    /// all earlier ones, lie.
    pub fn append(&mut self, batch: &[Records<'_>]) -> Result<Position, LogError> {
        self.buffer.clear();
        let mut lengths = Vec::new();
        for records in batch {
            for encoded in records.encoded {
                self.buffer.push(MUTATION);
                self.buffer.extend_from_slice(&records.shard.to_le_bytes());
                self.buffer.extend_from_slice(encoded);
                lengths.push(HEADER_BYTES + encoded.len());
            }
        }
        let mut rest = &self.buffer[..];
        let payloads: Vec<&[u8]> = lengths
            .into_iter()
            .map(|length| {
                let (payload, tail) = rest.split_at(length);
                rest = tail;
                payload
            })
            .collect();
        let first = self.log.append(&payloads)?;
        let end = self.log.end();
        for records in batch {
            let held = &mut self.shards[usize::from(records.shard)];
            assert!(held.end <= end, "the log only grows");
            held.first = held.first.or(Some(first));
            held.end = end;
        }
        if self.buffer.capacity() > limits::LOG_BATCH_BYTES_MAX {
            self.buffer = Vec::new();
        }
        Ok(end)
    }

    /// Makes all that was appended durable.
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.log.sync()
    }

    /// Begins a new segment, so that all before it can go. For a log that was just opened.
    pub fn start_segment(&mut self) -> Result<(), LogError> {
        self.log.append(&[&[MARK]])?;
        self.log.sync()
    }

    /// Lets the log know in passing that its last batch is durable, and has a spare segment at hand. For idle moments.
    pub fn settle(&mut self) -> Result<(), LogError> {
        self.log.seal()?;
        self.log.prepare_spare()
    }

    /// All records of `shard` before `position` are in durable tables. Segments go at the next `release`.
    pub fn flushed(&mut self, shard: u16, position: Position) {
        let held = &mut self.shards[usize::from(shard)];
        held.first = if held.end <= position { None } else { held.first.map(|first| first.max(position)) };
    }

    /// Lets go of the segments that no shard needs. Only after a replay has named all that the log holds.
    pub fn release(&mut self) -> Result<(), LogError> {
        let needed = self.shards.iter().filter_map(|held| held.first).min();
        let needed = needed.filter(|_| !planted(Mutant::LogReleasedEarly));
        self.log.retire_before(needed.unwrap_or_else(|| self.log.end()))
    }

    /// The shards to flush so that the oldest segment can go, if the log is past half of its bound.
    pub fn shards_to_flush(&self) -> Vec<u16> {
        if self.log.bytes() <= self.total / 2 {
            return Vec::new();
        }
        let Some(oldest) = self.shards.iter().filter_map(|held| held.first).min() else { return Vec::new() };
        let holds = |held: &Held| held.first.is_some_and(|first| first.segment == oldest.segment);
        (0..).zip(&self.shards).filter(|(_, held)| holds(held)).map(|(shard, _)| shard).collect()
    }

    /// Whether the log has reached its bound: nothing more is taken until segments went.
    pub fn is_full(&self) -> bool {
        self.log.bytes() >= self.total
    }

    /// The largest mutation it takes.
    pub fn mutation_bytes_max(&self) -> usize {
        self.mutation_bytes_max
    }

    /// Bytes of disk the log's segments take, spares left out.
    pub fn bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// All records that are still there lie at or behind this.
    pub fn begin(&self) -> Position {
        self.log.begin()
    }

    /// All records so far lie before this.
    pub fn end(&self) -> Position {
        self.log.end()
    }
}

/// The shard a record belongs to, and its encoded mutation. `None`: a mark.
pub fn parse_record(record: &[u8], shards: u16) -> Result<Option<(u16, &[u8])>, RecordError> {
    if record == [MARK] {
        return Ok(None);
    }
    let Some(([kind, low, high], encoded)) = record.split_first_chunk::<HEADER_BYTES>() else {
        return Err(RecordError::TooShort { bytes: record.len() });
    };
    let shard = u16::from_le_bytes([*low, *high]);
    match *kind {
        MUTATION if shard < shards => Ok(Some((shard, encoded))),
        MUTATION => Err(RecordError::Shard { shard, shards }),
        kind => Err(RecordError::Kind { kind }),
    }
}

/// A place behind a record and not behind the next.
pub fn after(position: Position) -> Position {
    Position { segment: position.segment, offset: position.offset.saturating_add(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kula_disk::{SimDisk, log::Loss};

    fn open(disk: &SimDisk, total: u64, flushed: &[Position]) -> (CommitLog, Vec<(Position, Vec<u8>)>) {
        let config = CommitLogConfig { total, segment: 12 << 10 };
        let (log, replay) = CommitLog::open(Arc::new(disk.clone()), config, flushed).unwrap();
        let mut records = Vec::new();
        let each = |position, record: &[u8]| {
            records.push((position, record.to_vec()));
            Ok::<_, LogError>(())
        };
        replay.run(Position::START, Loss::Refuse, each).unwrap();
        (log, records)
    }

    fn append(log: &mut CommitLog, shard: u16, count: usize) -> Position {
        let encoded = vec![bytes::Bytes::from(vec![shard.to_le_bytes()[0]; 400]); count];
        let until = log.append(&[Records { shard, encoded: &encoded }]).unwrap();
        log.sync().unwrap();
        until
    }

    #[test]
    fn a_record_says_whose_it_is_and_what_is_unknown_is_refused() {
        assert_eq!(parse_record(&[1, 3, 0, 7, 8], 4), Ok(Some((3, &[7u8, 8][..]))));
        assert_eq!(parse_record(&[0], 4), Ok(None));
        assert_eq!(parse_record(&[1, 4, 0, 7], 4), Err(RecordError::Shard { shard: 4, shards: 4 }));
        assert_eq!(parse_record(&[9, 0, 0, 7], 4), Err(RecordError::Kind { kind: 9 }));
        assert_eq!(parse_record(&[1, 0], 4), Err(RecordError::TooShort { bytes: 2 }));
        assert_eq!(parse_record(&[], 4), Err(RecordError::TooShort { bytes: 0 }));
    }

    #[test]
    fn what_was_appended_is_replayed_with_its_shard_and_lies_before_what_append_said() {
        let disk = SimDisk::new(1);
        let (mut log, _) = open(&disk, 1 << 20, &[Position::START; 2]);
        let first = append(&mut log, 0, 2);
        let second = append(&mut log, 1, 1);
        let (_, records) = open(&disk, 1 << 20, &[Position::START; 2]);
        let shards: Vec<_> = records.iter().map(|(_, record)| parse_record(record, 2).unwrap().unwrap().0).collect();
        assert_eq!(shards, [0, 0, 1]);
        assert!(records[1].0 < first && first <= records[2].0 && records[2].0 < second);
    }

    #[test]
    fn a_segment_goes_when_no_shard_needs_a_record_in_it() {
        let disk = SimDisk::new(2);
        let (mut log, _) = open(&disk, 1 << 20, &[Position::START; 2]);
        let early = append(&mut log, 1, 1);
        let late = (0..10).map(|_| append(&mut log, 0, 5)).next_back().unwrap();
        let full = log.bytes();
        log.flushed(0, late);
        log.release().unwrap();
        assert_eq!(log.bytes(), full, "shard 1 needs the oldest segment");
        log.flushed(1, early);
        log.release().unwrap();
        assert_eq!(log.bytes(), 12 << 10, "only the newest stays");
        // What comes later is needed again, from there on.
        append(&mut log, 1, 1);
        log.release().unwrap();
        let (_, records) = open(&disk, 1 << 20, &[late, early]);
        assert!(records.iter().any(|(position, record)| *position >= late && record[1] == 1));
    }

    #[test]
    fn past_half_its_bound_the_holders_of_the_oldest_segment_are_asked_and_past_it_it_is_full() {
        let disk = SimDisk::new(3);
        let (mut log, _) = open(&disk, 48 << 10, &[Position::START; 3]);
        append(&mut log, 2, 1);
        append(&mut log, 0, 1);
        assert!(log.shards_to_flush().is_empty());
        while !log.is_full() {
            append(&mut log, 1, 5);
        }
        assert_eq!(log.shards_to_flush(), [0, 1, 2]);
        let end = log.end();
        log.flushed(0, end);
        log.flushed(2, end);
        log.release().unwrap();
        assert_eq!(log.shards_to_flush(), [1]);
        log.flushed(1, end);
        log.release().unwrap();
        assert!(log.shards_to_flush().is_empty() && !log.is_full());
    }
}
