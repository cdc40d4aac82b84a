//! Reading a log back: every record in order, and an exact account of what is missing.

use super::{
    Damage, DamageKind, LogError, Position,
    format::{BadHeader, HEADER_BYTES, HEADER_COPIES_AT, RECORDS_AT, RecordHeader, RecordKind, SegmentHeader},
    reader::{SegmentReader, Step},
};
use crate::{Access, Disk, DiskError, File, limits, name::inside};
use kula_fault::{Mutant, planted};
use std::{fmt, sync::Arc};

/// A segment found when the log was opened.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub id: u64,
    /// `None`: no copy of the header can be read.
    pub header: Option<SegmentHeader>,
    /// Where its records end; `None` without a header.
    pub end: Option<u32>,
    pub file_bytes: u64,
}

pub(super) fn segment_name(dir: &str, id: u64) -> String {
    inside(dir, &format!("{id:020}.log"))
}

/// The header from whichever copy is whole; `None` if neither is.
pub(super) fn read_header(file: &dyn File, segment: u64) -> Result<Option<SegmentHeader>, LogError> {
    for at in HEADER_COPIES_AT {
        let mut bytes = [0; HEADER_BYTES];
        // A file that ends here leaves zeros, which are no header.
        file.read_at(&mut bytes, u64::from(at)).map_err(LogError::Disk)?;
        match SegmentHeader::decode(&bytes) {
            Ok(header) if header.segment == segment => return Ok(Some(header)),
            Err(BadHeader::Newer { found }) => {
                return Err(LogError::Newer { segment, found, known: super::format::VERSION });
            }
            Ok(_) | Err(BadHeader::Damaged) => {}
        }
    }
    Ok(None)
}

/// What to do about damage in what was durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Deliver nothing after it and answer `LogError::Corrupt`.
    Refuse,
    /// Deliver the rest and list it in `Replayed::damage`.
    Accept,
}

/// What a replay did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Records delivered.
    pub records: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Damaged places met (with `Loss::Accept`), in order; at most `limits::LOG_DAMAGE_LISTED_MAX` of them.
    pub damage: Vec<Damage>,
    /// All damaged places met.
    pub damage_count: u64,
}

/// The records that were in the log when it was opened. Holds no memory but a list of segments. It may run while records
/// are appended, and must run before any segment it needs is retired.
pub struct Replay {
    disk: Arc<dyn Disk>,
    dir: String,
    segments: Vec<Segment>,
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("segments", &self.segments).finish()
    }
}

impl Replay {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: &str, segments: Vec<Segment>) -> Replay {
        Replay { disk, dir: dir.to_owned(), segments }
    }

    /// Calls `each` with every record from `from` on (`Position::START` = all), in order, while it answers `Ok`. Memory
    /// is bounded by one read window or one record. Segments before `from` are not read, nor is damage there reported.
    pub fn run<E: From<LogError>>(
        &self,
        from: Position,
        loss: Loss,
        mut each: impl FnMut(Position, &[u8]) -> Result<(), E>,
    ) -> Result<Replayed, E> {
        let mut account = Account { from, loss, records_seen: 0, replayed: Replayed::default() };
        for (index, segment) in self.segments.iter().enumerate() {
            if let Some(missing) = self.missing_before(index) {
                account.damaged(DamageKind::Missing, missing, RECORDS_AT, 0);
            }
            if segment.id < from.segment {
                continue;
            }
            match (&segment.header, segment.end) {
                (Some(header), Some(end)) => {
                    self.run_segment(segment.id, header, end, &mut account, &mut each)?;
                    if planted(Mutant::ReplayStopsAtRecycled) && self.is_recycled(segment.id, end) {
                        break;
                    }
                }
                _ => account.damaged(DamageKind::Header, segment.id, 0, segment.file_bytes),
            }
        }
        Ok(account.close()?)
    }

    /// Whether old bytes follow the records of a segment.
    fn is_recycled(&self, segment: u64, end: u32) -> bool {
        let mut behind = [0; 16];
        let file = self.disk.open(&segment_name(&self.dir, segment), Access::Read);
        file.and_then(|file| file.read_at(&mut behind, u64::from(end))).is_ok() && behind != [0; 16]
    }

    /// The predecessor that a segment names, if it is none of ours. The oldest one's was retired.
    fn missing_before(&self, index: usize) -> Option<u64> {
        let before = self.segments.get(index.checked_sub(1)?)?;
        let named = self.segments.get(index)?.header?.previous.segment;
        (named > before.id).then_some(named)
    }

    fn run_segment<E: From<LogError>>(
        &self,
        segment: u64,
        header: &SegmentHeader,
        end: u32,
        account: &mut Account,
        each: &mut impl FnMut(Position, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let disk_error = |error: DiskError| E::from(LogError::Disk(error));
        let file = self.disk.open(&segment_name(&self.dir, segment), Access::Read).map_err(disk_error)?;
        let mut reader = SegmentReader::new(file, header, end).map_err(disk_error)?;
        loop {
            match reader.step().map_err(disk_error)? {
                Step::Record { header: RecordHeader { kind: RecordKind::Marker, .. }, .. } => {}
                Step::Record { offset, header } => {
                    let position = Position { segment, offset };
                    if account.delivers(position) {
                        let payload = reader.payload(offset, &header);
                        each(position, payload)?;
                        account.replayed.records += 1;
                        account.replayed.payload_bytes += payload.len() as u64;
                    }
                }
                Step::Gap { from, to, .. } => {
                    account.damaged(DamageKind::Records, segment, from, u64::from(to - from));
                }
                Step::End => return Ok(()),
            }
        }
    }
}

/// Keeps the books of one replay.
struct Account {
    from: Position,
    loss: Loss,
    /// Valid records met from `from` on, delivered or not.
    records_seen: u64,
    /// Invariant: until `close`, each damage's `records_after` is the number of records seen before it.
    replayed: Replayed,
}

impl Account {
    fn delivers(&mut self, position: Position) -> bool {
        if position < self.from {
            return false;
        }
        self.records_seen += 1;
        self.loss == Loss::Accept || self.replayed.damage_count == 0
    }

    fn damaged(&mut self, kind: DamageKind, segment: u64, offset: u32, bytes: u64) {
        let end = Position { segment, offset: u32::try_from(u64::from(offset) + bytes).unwrap_or(u32::MAX) };
        // Nobody needs what lies before `from`. Where the length is not known, all of the segment may be lost.
        if segment < self.from.segment || (kind == DamageKind::Records && end <= self.from) {
            return;
        }
        self.replayed.damage_count += 1;
        if self.replayed.damage.len() < limits::LOG_DAMAGE_LISTED_MAX {
            self.replayed.damage.push(Damage { kind, segment, offset, bytes, records_after: self.records_seen });
        }
    }

    fn close(mut self) -> Result<Replayed, LogError> {
        for damage in &mut self.replayed.damage {
            damage.records_after = self.records_seen - damage.records_after;
        }
        match (self.loss, self.replayed.damage.first()) {
            (Loss::Refuse, Some(first)) => Err(LogError::Corrupt(first.clone())),
            (Loss::Refuse | Loss::Accept, _) => Ok(self.replayed),
        }
    }
}
