//! What is owed to one target: a segment log, the place up to which it is delivered, and two sums instead of an index.
//!
//! Delivery goes by *rounds*. A round begins with opening the log anew: what was in it then is frozen and can be read while
//! later hints go to fresh segments. The sum of a round counts down as its hints are acknowledged, so what is left of it
//! when all that can be read was read is exactly what the disk lost.
//!
//! Safe at every crash: a hint is synced before it is acknowledged here, and goes only after its target acknowledged it
//! and the place was stored or its whole segment is delivered.

use crate::{
    config::HandoffConfig,
    limits,
    record::{self, DELIVERED, Hint, RecordError},
};
use bytes::Bytes;
use kula_disk::{
    Disk, DiskError,
    atomic::{StateError, read_atomic, write_atomic},
    log::{Damage, LogConfig, LogError, Loss, Position, Replay, SegmentLog},
};
use kula_types::{NodeId, Timestamp};
use std::{mem, sync::Arc};

/// The directory of all hints.
pub(crate) const HINTS: &str = "hints";
const QUARANTINE: &str = "hints/damaged";

/// The sizes of a log; tests take small ones.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Bytes owed to one target.
    pub owed_max: u64,
    pub segment: u32,
    /// The largest record of such a segment.
    pub segment_record: u32,
    /// A segment for larger records.
    pub large_segment: u32,
    pub large_record: u32,
}

impl Sizes {
    pub fn of(config: &HandoffConfig) -> Self {
        #[allow(clippy::cast_possible_truncation, reason = "a constant far below 4 Gi, checked below")]
        const LARGE_RECORD: u32 = record::RECORD_BYTES_MAX as u32;
        const _: () =
            assert!(LARGE_RECORD as usize == record::RECORD_BYTES_MAX && LARGE_RECORD < limits::LARGE_SEGMENT_BYTES);
        Sizes {
            owed_max: config.max_bytes,
            segment: limits::SEGMENT_BYTES,
            segment_record: limits::SEGMENT_RECORD_BYTES,
            large_segment: limits::LARGE_SEGMENT_BYTES,
            large_record: LARGE_RECORD,
        }
    }
}

/// A sum of hints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owed {
    pub count: u64,
    pub bytes: u64,
    /// When the first of them was stored, or a later time before the next one was.
    pub oldest: Option<Timestamp>,
}

impl Owed {
    fn add(&mut self, stored: Timestamp, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
        self.oldest = self.oldest.or(Some(stored));
    }

    fn and(self, later: Owed) -> Owed {
        Owed { count: self.count + later.count, bytes: self.bytes + later.bytes, oldest: self.oldest.or(later.oldest) }
    }
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No space or no file: it may pass.
    #[error("there is no room on the disk")]
    NoRoom,
    /// The disk failed: nobody knows what is in the log. Only a restart, which rereads it, goes on.
    #[error("the log of hints for {target} failed: {cause}")]
    Broken { target: NodeId, cause: LogError },
}

/// What the start, or a round, found wrong. Each is worth a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The log could not be opened and lies aside, whole; an empty one takes its place.
    PutAside { dir: String, cause: LogError },
    /// Records are gone; the segment has a second name, unless there are too many of those.
    Damaged(Damage),
    /// The disk could not read on in this segment, or begin with the next: it is passed over.
    Unreadable { segment: u64, cause: LogError },
    /// Not a hint for this target. It stays in a segment with a second name.
    NoHint { at: Position, why: RecordError },
    /// The place up to which hints are delivered was not readable: they are sent again.
    PlaceLost { cause: String },
}

/// Hints in order, and where the next ones begin.
#[derive(Debug)]
pub struct Chunk {
    pub hints: Vec<(Position, Hint)>,
    pub next: Position,
    /// Nothing of the round comes after them.
    pub is_end: bool,
}

pub struct TargetLog {
    disk: Arc<dyn Disk>,
    target: NodeId,
    dir: String,
    place: String,
    sizes: Sizes,
    /// None: opening it anew met a lack of room; the next call tries again.
    log: Option<SegmentLog>,
    is_large: bool,
    /// Appended since the last sync. Nothing else is touched before that.
    is_dirty: bool,
    /// Synced, and the log itself does not say so yet.
    is_unsealed: bool,
    /// All before it is delivered.
    delivered: Position,
    /// As far as the disk knows it.
    stored: Position,
    round: Option<Round>,
    /// Owed by the round.
    in_round: Owed,
    /// Kept since it began. Invariant: all of it lies in segments after the round's.
    in_tail: Owed,
    buffer: Vec<u8>,
    findings: Vec<Finding>,
    /// Said before, as far as there are few: a place is read more than once.
    told: Vec<Finding>,
}

struct Round {
    replay: Replay,
    /// All of its records lie before this.
    end: Position,
    /// The lowest segment that may still be held.
    segment: u64,
}

/// Why a walk through a replay stopped.
enum Stop {
    Enough,
    Log(LogError),
}

impl From<LogError> for Stop {
    fn from(error: LogError) -> Self {
        Stop::Log(error)
    }
}

impl Trouble {
    fn of(target: NodeId, cause: LogError) -> Trouble {
        match cause {
            LogError::Full { .. } => Trouble::NoRoom,
            LogError::Disk(error) if error.is_temporary() => Trouble::NoRoom,
            cause => Trouble::Broken { target, cause },
        }
    }
}

impl TargetLog {
    /// Opens or makes the log of `target`; `HINTS` is there. Reads what is owed through once. A log that cannot be opened is
    /// put aside: hints are never the last copy of what was acknowledged, so they do not keep a node from starting.
    pub fn open(disk: Arc<dyn Disk>, target: NodeId, sizes: Sizes) -> Result<TargetLog, Trouble> {
        let (dir, place) = (format!("{HINTS}/{target}"), format!("{HINTS}/{target}.delivered"));
        let mut log = TargetLog {
            disk,
            target,
            dir,
            place,
            sizes,
            log: None,
            is_large: false,
            is_dirty: false,
            is_unsealed: false,
            delivered: Position::START,
            stored: Position::START,
            round: None,
            in_round: Owed::default(),
            in_tail: Owed::default(),
            buffer: Vec::new(),
            findings: Vec::new(),
            told: Vec::new(),
        };
        log.delivered = log.read_place()?;
        log.stored = log.delivered;
        let replay = match log.reopen(false) {
            Ok(replay) => replay,
            Err(Trouble::NoRoom) => return Err(Trouble::NoRoom),
            Err(Trouble::Broken { cause, .. }) => {
                let dir = log.put_aside().map_err(|error| log.trouble(error))?;
                log.findings.push(Finding::PutAside { dir, cause });
                log.reopen(false)?
            }
        };
        log.count(&replay);
        Ok(log)
    }

    /// What was found wrong since the last call.
    pub fn take_findings(&mut self) -> Vec<Finding> {
        let mut findings = mem::take(&mut self.findings);
        findings.retain(|finding| !self.told.contains(finding));
        self.told.extend(findings.iter().take(limits::QUARANTINE_MAX - self.told.len()).cloned());
        findings
    }

    /// What is not acknowledged yet.
    pub fn owed(&self) -> Owed {
        self.in_round.and(self.in_tail)
    }

    /// Bytes that may be owed.
    pub fn owed_bytes_max(&self) -> u64 {
        self.sizes.owed_max
    }

    /// The largest hint it takes, as `Hint::bytes`.
    pub fn hint_bytes_max(&self) -> usize {
        usize::try_from(self.sizes.large_record).unwrap_or(usize::MAX)
    }

    /// Writes hints, none larger than `hint_bytes_max`, at the end. Not durable before `sync`. After `NoRoom` none of them
    /// is owed, though some may be delivered.
    pub fn append(&mut self, hints: &[Hint]) -> Result<(), Trouble> {
        let largest = hints.iter().map(Hint::bytes).max().unwrap_or(0);
        let is_large = self.is_large || largest as u64 > u64::from(self.sizes.segment_record);
        if self.log.is_none() || is_large != self.is_large {
            // What was written so far is read back by the new log, so it must be on disk.
            self.sync()?;
            self.reopen(is_large).map(drop)?;
        }
        self.buffer.clear();
        hints.iter().for_each(|hint| record::encode(self.target, hint, &mut self.buffer));
        let mut rest = &self.buffer[..];
        let payload = |hint: &Hint| {
            let (payload, tail) = rest.split_at(hint.bytes());
            rest = tail;
            payload
        };
        let payloads: Vec<&[u8]> = hints.iter().map(payload).collect();
        let Some(log) = &mut self.log else { return Err(Trouble::NoRoom) };
        self.is_dirty = true;
        log.append(&payloads).map_err(|cause| Trouble::of(self.target, cause))?;
        hints.iter().for_each(|hint| self.in_tail.add(hint.stored, hint.bytes() as u64));
        if self.buffer.capacity() > limits::BATCH_BYTES_MAX {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Makes durable what was appended.
    pub fn sync(&mut self) -> Result<(), Trouble> {
        if let Some(log) = self.log.as_mut().filter(|_| self.is_dirty) {
            // Also for lack of space: after a failed sync nobody knows what the file holds.
            log.sync().map_err(|cause| Trouble::Broken { target: self.target, cause })?;
            self.is_dirty = false;
            self.is_unsealed = true;
        }
        Ok(())
    }

    /// In an idle moment: notes in the log that its last batch is durable.
    pub fn settle(&mut self) -> Result<(), Trouble> {
        if let Some(log) = self.log.as_mut().filter(|_| mem::take(&mut self.is_unsealed)) {
            log.seal().map_err(|cause| Trouble::of(self.target, cause))?;
        }
        Ok(())
    }

    /// Freezes what is in the log now, to be delivered from the answered place on. Only without a round under way.
    pub fn begin_round(&mut self) -> Result<Position, Trouble> {
        assert!(self.round.is_none(), "one round after the other");
        // Part of a batch that was refused may be there.
        self.sync()?;
        let replay = self.reopen(false)?;
        let end = self.log.as_ref().map_or(Position::START, SegmentLog::end);
        self.round = Some(Round { replay, end, segment: self.delivered.segment });
        self.in_round = mem::take(&mut self.in_tail);
        Ok(self.delivered)
    }

    /// The hints of the round from `from` on: as many as are allowed, or fewer by one record's bytes.
    pub fn read(&mut self, from: Position, count_max: usize, bytes_max: usize) -> Result<Chunk, Trouble> {
        let mut chunk = Chunk { hints: Vec::new(), next: from, is_end: true };
        let Some(round) = &self.round else { return Ok(chunk) };
        let (mut bytes, target) = (0, self.target);
        let hints = &mut chunk.hints;
        let walked = walk(&round.replay, &mut chunk.next, round.end, &mut self.findings, |position, payload| {
            if hints.len() >= count_max || bytes >= bytes_max {
                return Err(Stop::Enough);
            }
            bytes += payload.len();
            // What is no hint was said when the log was opened.
            if let Ok((token, stored, mutation)) = record::parse(target, payload) {
                hints.push((position, Hint { token, stored, mutation: Bytes::copy_from_slice(mutation) }));
            }
            Ok(())
        });
        chunk.is_end = walked.map_err(|error| self.trouble(error))?;
        self.link_findings();
        Ok(chunk)
    }

    /// Hints of the round are acknowledged: all of it before `before`.
    pub fn acknowledged(&mut self, before: Position, count: u64, bytes: u64, newest: Timestamp) -> Result<(), Trouble> {
        self.in_round.count = self.in_round.count.saturating_sub(count);
        self.in_round.bytes = self.in_round.bytes.saturating_sub(bytes);
        self.in_round.oldest =
            self.in_round.oldest.filter(|_| self.in_round.count > 0).map(|oldest| oldest.max(newest));
        match &mut self.round {
            Some(round) if round.segment < before.segment => {
                round.segment = before.segment;
                self.retire(before)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Delivery is interrupted: all before `before` need not be sent again after a restart.
    pub fn pause(&mut self, before: Position) -> Result<(), Trouble> {
        self.delivered = self.delivered.max(before);
        if self.delivered <= self.stored {
            return Ok(());
        }
        let payload = record::encode_delivered(self.delivered);
        match write_atomic(&*self.disk, &self.place, DELIVERED, &payload) {
            Ok(()) => self.stored = self.delivered,
            // It goes with the next one; until then a restart sends more than it must.
            Err(error) if error.is_temporary() => {}
            Err(error) => return Err(self.trouble(error)),
        }
        Ok(())
    }

    /// All of the round that can be read is acknowledged. Answers what could not be read: those hints are lost.
    pub fn finish_round(&mut self) -> Result<Owed, Trouble> {
        let Some(end) = self.round.as_ref().map(|round| round.end) else { return Ok(Owed::default()) };
        self.pause(end)?;
        self.round = None;
        self.retire(end)?;
        Ok(mem::take(&mut self.in_round))
    }

    fn trouble(&self, error: DiskError) -> Trouble {
        Trouble::of(self.target, LogError::Disk(error))
    }

    fn retire(&mut self, before: Position) -> Result<(), Trouble> {
        let Some(log) = &mut self.log else { return Ok(()) };
        match log.retire_before(before).map_err(|cause| Trouble::of(self.target, cause)) {
            // It goes with the next one.
            Ok(()) | Err(Trouble::NoRoom) => Ok(()),
            Err(broken) => Err(broken),
        }
    }

    /// Opens the log anew: what it holds is in the replay, what is appended goes to a fresh segment.
    fn reopen(&mut self, is_large: bool) -> Result<Replay, Trouble> {
        self.log = None;
        let Sizes { segment, segment_record, large_segment, large_record, .. } = self.sizes;
        let (segment_bytes, record_bytes_max) =
            if is_large { (large_segment, large_record) } else { (segment, segment_record) };
        let config = LogConfig {
            segment_bytes,
            // Nothing is recycled: a segment that is damaged keeps its bytes under its second name.
            spares_max: 0,
            first_segment: self.delivered.segment + 1,
            ..LogConfig::new(record::KIND, record_bytes_max)
        };
        let opened = SegmentLog::open(Arc::clone(&self.disk), &self.dir, config);
        let (log, replay) = opened.map_err(|cause| Trouble::of(self.target, cause))?;
        self.log = Some(log);
        self.is_large = is_large;
        self.is_unsealed = false;
        Ok(replay)
    }

    /// Up to where all is delivered. What cannot be read means the beginning, which is harmless.
    fn read_place(&mut self) -> Result<Position, Trouble> {
        let cause = match read_atomic(&*self.disk, &self.place, DELIVERED) {
            Ok(None) => return Ok(Position::START),
            Ok(Some(payload)) => match record::decode_delivered(&payload) {
                Some(place) => return Ok(place),
                None => format!("it holds {} bytes that are no place", payload.len()),
            },
            Err(StateError::Disk(error)) if error.is_temporary() => return Err(Trouble::NoRoom),
            Err(error) => error.to_string(),
        };
        self.findings.push(Finding::PlaceLost { cause });
        Ok(Position::START)
    }

    fn put_aside(&self) -> Result<String, DiskError> {
        let names = (1..).map(|number: u32| format!("{}.damaged-{number}", self.dir));
        for name in names {
            if !self.disk.exists(&name)? {
                self.disk.rename(&self.dir, &name)?;
                self.disk.sync_dir(HINTS)?;
                return Ok(name);
            }
        }
        unreachable!("a directory does not hold four thousand million names")
    }

    fn count(&mut self, replay: &Replay) {
        let mut at = self.delivered.max(self.log.as_ref().map_or(Position::START, SegmentLog::begin));
        let end = Position { segment: u64::MAX, offset: u32::MAX };
        let (mut no_hints, target) = (Vec::new(), self.target);
        let walked = walk(replay, &mut at, end, &mut self.findings, |position, payload| {
            match record::parse(target, payload) {
                Ok((_, stored, _)) => self.in_tail.add(stored, payload.len() as u64),
                Err(why) if no_hints.len() < limits::QUARANTINE_MAX => {
                    no_hints.push(Finding::NoHint { at: position, why });
                }
                Err(_) => {}
            }
            Ok(())
        });
        if let Err(error) = walked {
            // Counted as far as it could be read now; its delivery is not bound by the count.
            self.findings.push(Finding::Unreadable { segment: at.segment, cause: LogError::Disk(error) });
        }
        self.findings.append(&mut no_hints);
        self.link_findings();
    }

    /// Gives damaged segments a second name. That it cannot be done changes nothing for the hints.
    fn link_findings(&self) {
        for finding in &self.findings {
            match finding {
                Finding::Damaged(Damage { segment, .. })
                | Finding::NoHint { at: Position { segment, .. }, .. }
                | Finding::Unreadable { segment, .. } => drop(self.link_aside(*segment)),
                Finding::PutAside { .. } | Finding::PlaceLost { .. } => {}
            }
        }
    }

    fn link_aside(&self, segment: u64) -> Result<(), DiskError> {
        if !self.disk.exists(QUARANTINE)? {
            self.disk.create_dir(QUARANTINE)?;
            self.disk.sync_dir(HINTS)?;
        }
        let aside = format!("{QUARANTINE}/{}-{segment:020}.log", self.target);
        let from = format!("{}/{segment:020}.log", self.dir);
        let is_wanted = self.disk.exists(&from)? && !self.disk.exists(&aside)?;
        if is_wanted && self.disk.list(QUARANTINE)?.len() < limits::QUARANTINE_MAX {
            self.disk.link(&from, &aside)?;
            self.disk.sync_dir(QUARANTINE)?;
        }
        Ok(())
    }
}

/// Gives `each` every record from `next` on and moves `next` behind it; over what cannot be read to the next segment.
/// Answers whether it came to the end; an error may pass.
fn walk(
    replay: &Replay,
    next: &mut Position,
    end: Position,
    findings: &mut Vec<Finding>,
    mut each: impl FnMut(Position, &[u8]) -> Result<(), Stop>,
) -> Result<bool, DiskError> {
    loop {
        let from = *next;
        let walked = replay.run(from, Loss::Accept, |position, payload| {
            each(position, payload)?;
            *next = after(position);
            Ok(())
        });
        match walked {
            Ok(replayed) => {
                findings.extend(replayed.damage.into_iter().map(Finding::Damaged));
                *next = end;
                return Ok(true);
            }
            Err(Stop::Enough) => return Ok(*next >= end),
            Err(Stop::Log(LogError::Disk(error))) if error.is_temporary() => return Err(error),
            Err(Stop::Log(cause)) => {
                findings.push(Finding::Unreadable { segment: next.segment, cause });
                *next = Position { segment: next.segment.saturating_add(1), offset: 0 };
                if next.segment > end.segment {
                    return Ok(true);
                }
            }
        }
    }
}

/// A place behind a record and not behind the next.
pub(crate) fn after(position: Position) -> Position {
    Position { segment: position.segment, offset: position.offset.saturating_add(1) }
}
