//! The writing half: appends, syncs, moves on to the next segment, lets go of old ones.
//!
//! Why an acknowledged record is never lost or doubted: no byte of a segment is written twice, so no left-over can
//! follow a new record; a segment has its name only after its header is durable, and holds a record only after its name
//! is; the records of a segment end where the header of the next one says, and that is written only once they are
//! durable. After a failed write or sync nobody knows what the file holds, so the log is poisoned for good.

use super::{
    LogConfig, LogError, Position, Replay,
    format::{HEADER_COPIES_AT, RECORDS_AT, RecordKind, Seed, SegmentHeader, encode_record, record_bytes},
    replay::segment_name,
    segments::{self, spare_name},
};
use crate::{Access, Disk, DiskError, File, limits};
use kula_fault::{Mutant, Site, buggify, planted};
use std::{collections::VecDeque, fmt, sync::Arc};

/// The log. One owner, one thread. Dropping it loses nothing that was synced.
pub struct SegmentLog {
    disk: Arc<dyn Disk>,
    dir: String,
    config: LogConfig,
    /// Older segments, ascending.
    sealed: VecDeque<Sealed>,
    active: Option<Active>,
    spares: Vec<String>,
    /// Greater than every segment's number.
    next_segment: u64,
    /// A file was renamed or unlinked since the directory was last synced. Invariant: then the active segment holds no
    /// record if its name is among them, and no spare is written to.
    has_unsynced_name: bool,
    poisoned: bool,
    buffer: Vec<u8>,
}

struct Sealed {
    segment: u64,
    /// `None` if its header is damaged.
    end: Option<u32>,
    file_bytes: u64,
}

struct Active {
    segment: u64,
    file: Box<dyn File>,
    seed: Seed,
    /// Invariant: `synced <= records_end <= end`; `end` is where the next record goes.
    end: u32,
    /// The end of the last record that is not a marker.
    records_end: u32,
    synced: u32,
    /// The highest `synced_upto` written into it.
    noted: u32,
    /// A write failed for lack of space: what lies after `end` is unknown, so nothing may follow it.
    is_closed: bool,
}

impl SegmentLog {
    /// Opens or makes the log in directory `dir`. What the replay will deliver is durable when this returns. Appends go
    /// to a segment that is made by the first of them, so opening takes no space.
    pub fn open(disk: Arc<dyn Disk>, dir: &str, config: LogConfig) -> Result<(SegmentLog, Replay), LogError> {
        let LogConfig { segment_bytes, record_bytes_max, .. } = config;
        if u64::from(RECORDS_AT) + record_bytes(record_bytes_max) > u64::from(segment_bytes) {
            return Err(LogError::SegmentTooSmall { segment_bytes, record_bytes_max });
        }
        let segments = segments::find(&*disk, dir, &config)?;
        let after_newest = segments.last().map_or(1, |segment| segment.id.saturating_add(1));
        let sealed = segments.iter().map(|segment| Sealed {
            segment: segment.id,
            end: segment.end,
            file_bytes: segment.file_bytes,
        });
        let log = SegmentLog {
            disk: disk.clone(),
            dir: dir.to_owned(),
            sealed: sealed.collect(),
            active: None,
            spares: Vec::new(),
            next_segment: after_newest.max(config.first_segment),
            has_unsynced_name: false,
            poisoned: false,
            buffer: Vec::new(),
            config,
        };
        Ok((log, Replay::new(disk, dir, segments)))
    }

    /// Appends the payloads, in order, in one write call a segment. Answers the position of the first (of an empty
    /// batch: the end). Not durable before `sync`. A batch that does not fit the rest of its segment starts a new one,
    /// which syncs the old.
    pub fn append(&mut self, payloads: &[&[u8]]) -> Result<Position, LogError> {
        self.check_poison()?;
        let bytes_max = self.config.record_bytes_max;
        if let Some(payload) = payloads.iter().find(|payload| payload.len() as u64 > u64::from(bytes_max)) {
            return Err(LogError::RecordTooLarge { bytes: payload.len(), bytes_max });
        }
        if self.active.as_ref().is_some_and(|active| active.end > RECORDS_AT) && buggify(Site::SegmentRolledEarly) {
            self.next_segment()?;
        }
        let at_once = if buggify(Site::BatchSplit) { 1 } else { usize::MAX };
        let mut first = None;
        let mut rest = payloads;
        while !rest.is_empty() {
            let wanted = rest.len().min(at_once);
            let fitting = self.fitting(&rest[..wanted]);
            let is_fresh = self.active.as_ref().is_some_and(|active| active.end == RECORDS_AT && !active.is_closed);
            let written = if fitting == wanted || is_fresh {
                let (batch, later) = rest.split_at(fitting);
                rest = later;
                self.write(RecordKind::Data, batch).map(|position| first = first.or(Some(position)))
            } else {
                self.next_segment()
            };
            written.map_err(|error| match error {
                LogError::Full { wrote, source } => LogError::Full { wrote: wrote || first.is_some(), source },
                error => error,
            })?;
        }
        Ok(first.unwrap_or_else(|| self.end()))
    }

    /// Makes all that was appended durable: one `sync_data`, none if there is nothing new.
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.check_poison()?;
        let Some(active) = self.active.as_mut().filter(|active| active.synced < active.end) else { return Ok(()) };
        if planted(Mutant::NoSync) {
            active.synced = active.end;
            return Ok(());
        }
        if let Err(error) = active.file.sync_data() {
            self.poisoned = true;
            return Err(LogError::Disk(error));
        }
        active.synced = active.end;
        Ok(())
    }

    /// Notes in the log itself that the last batch is durable, so that later damage to it is known as damage and not
    /// taken for a torn tail. The next batch notes it too; call this when none came for a while. Needs no sync.
    pub fn seal(&mut self) -> Result<(), LogError> {
        self.check_poison()?;
        let Some(active) = &self.active else { return Ok(()) };
        let is_noted = active.noted >= active.records_end || active.synced < active.records_end;
        if is_noted || self.room() < record_bytes(0) {
            // Without room the next segment's header will say it.
            return Ok(());
        }
        self.write(RecordKind::Marker, &[&[]]).map(drop)
    }

    /// Makes sure that a spare segment is at hand, so that the next change of segment allocates nothing.
    pub fn prepare_spare(&mut self) -> Result<(), LogError> {
        self.check_poison()?;
        if self.spares.is_empty() {
            let (name, _) = self.make_spare()?;
            self.spares.push(name);
        }
        Ok(())
    }

    /// Where the next record goes, or before it: every record appended so far is before, every later one not.
    pub fn end(&self) -> Position {
        match (&self.active, self.sealed.back()) {
            (Some(active), _) => Position { segment: active.segment, offset: active.end },
            (None, Some(newest)) => Position { segment: newest.segment, offset: newest.end.unwrap_or(u32::MAX) },
            (None, None) => Position::START,
        }
    }

    /// All before this is durable.
    pub fn synced(&self) -> Position {
        match &self.active {
            Some(active) => Position { segment: active.segment, offset: active.synced },
            None => self.end(),
        }
    }

    /// The start of the oldest segment held: a caller that needs records before it has lost them.
    pub fn begin(&self) -> Position {
        let oldest = self.sealed.front().map(|sealed| sealed.segment);
        let segment = oldest.or(self.active.as_ref().map(|active| active.segment));
        segment.map_or(Position::START, |segment| Position { segment, offset: RECORDS_AT })
    }

    /// Lets go of every segment that lies wholly before `position`, oldest first; the newest always stays, for its
    /// number. On `Full` try again later; any other error poisons the log.
    pub fn retire_before(&mut self, position: Position) -> Result<(), LogError> {
        self.check_poison()?;
        self.sync_names()?;
        let kept = usize::from(self.active.is_none());
        while self.sealed.len() > kept {
            let Some(oldest) = self.sealed.front().filter(|oldest| oldest.segment < position.segment) else { break };
            let (segment, file_bytes) = (oldest.segment, oldest.file_bytes);
            let is_reusable = file_bytes == u64::from(self.config.segment_bytes);
            let name = segment_name(&self.dir, segment);
            let has_room = self.spares.len() < self.config.spares_max && !buggify(Site::SpareNotRecycled);
            let is_wanted = is_reusable && has_room;
            // A spare is named by the number it was made or retired under, and one that was made for this very number
            // may still wait: two of one name would be one file.
            let spare = is_wanted.then(|| spare_name(&self.dir, segment)).filter(|spare| !self.spares.contains(spare));
            let retired = match &spare {
                Some(spare) => self.disk.rename(&name, spare),
                None => self.disk.unlink(&name),
            };
            retired.map_err(|error| self.failed(error))?;
            self.sealed.pop_front();
            self.spares.extend(spare);
            self.has_unsynced_name = true;
            // One at a time, each made durable: a crash leaves no hole, which would read as a lost segment.
            self.sync_names()?;
        }
        Ok(())
    }

    /// Bytes of disk the log's segments take, spares left out.
    pub fn bytes(&self) -> u64 {
        let active = self.active.as_ref().map_or(0, |_| u64::from(self.config.segment_bytes));
        self.sealed.iter().map(|sealed| sealed.file_bytes).sum::<u64>() + active
    }

    /// Bytes of disk held in spare segments.
    pub fn spare_bytes(&self) -> u64 {
        self.spares.len() as u64 * u64::from(self.config.segment_bytes)
    }

    fn check_poison(&self) -> Result<(), LogError> {
        if self.poisoned { Err(LogError::Poisoned) } else { Ok(()) }
    }

    /// Makes names durable that are not yet. After a refusal this alone is tried again: the files have their new names.
    fn sync_names(&mut self) -> Result<(), LogError> {
        if self.has_unsynced_name {
            self.disk.sync_dir(&self.dir).map_err(|error| self.failed(error))?;
            self.has_unsynced_name = false;
        }
        Ok(())
    }

    /// What a failed disk call means for the log.
    fn failed(&mut self, error: DiskError) -> LogError {
        if error.is_temporary() {
            return LogError::Full { wrote: false, source: error };
        }
        self.poisoned = true;
        LogError::Disk(error)
    }

    /// Bytes left for records in the active segment.
    fn room(&self) -> u64 {
        let active = self.active.as_ref().filter(|active| !active.is_closed);
        active.map_or(0, |active| u64::from(self.config.segment_bytes - active.end))
    }

    /// How many of the payloads fit the active segment.
    fn fitting(&self, payloads: &[&[u8]]) -> usize {
        let mut room = self.room();
        let fits = |payload: &&&[u8]| {
            let bytes = u32::try_from(payload.len()).map_or(u64::MAX, record_bytes);
            let fits = bytes <= room;
            room = room.saturating_sub(bytes);
            fits
        };
        payloads.iter().take_while(fits).count()
    }

    /// Writes records, which fit, in one call; the first of a segment once its name is durable.
    fn write(&mut self, kind: RecordKind, payloads: &[&[u8]]) -> Result<Position, LogError> {
        if self.active.as_ref().is_some_and(|active| active.end == RECORDS_AT) {
            self.sync_names()?;
        }
        let Some(active) = &mut self.active else { unreachable!("there is room only in an active segment") };
        let first = active.end;
        let mut end = first;
        self.buffer.clear();
        for payload in payloads {
            let payload_bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            encode_record(&mut self.buffer, kind, payload, payload_bytes, active.synced, active.seed, end);
            end += u32::try_from(record_bytes(payload_bytes)).unwrap_or(u32::MAX);
        }
        assert!(end <= self.config.segment_bytes && self.buffer.len() == (end - first) as usize, "records fit");
        if let Err(error) = active.file.write_at(&self.buffer, u64::from(first)) {
            active.is_closed = true;
            return Err(match self.failed(error) {
                LogError::Full { source, .. } => LogError::Full { wrote: true, source },
                error => error,
            });
        }
        active.end = end;
        active.noted = active.noted.max(active.synced);
        if kind == RecordKind::Data {
            active.records_end = end;
        }
        if self.buffer.capacity() > limits::LOG_BUFFER_KEPT_BYTES {
            self.buffer = Vec::new();
        }
        Ok(Position { segment: active.segment, offset: first })
    }

    /// Moves on to a new segment, whose name `write` makes durable. On `Full` nothing has changed.
    fn next_segment(&mut self) -> Result<(), LogError> {
        self.sync()?;
        // No spare is written over while it may still come back under its old name.
        self.sync_names()?;
        let (spare, file) = match self.spares.last() {
            Some(name) => (name.clone(), self.disk.open(name, Access::ReadWrite).map_err(|e| self.failed(e))?),
            None => {
                let (name, file) = self.make_spare()?;
                self.spares.push(name.clone());
                (name, file)
            }
        };
        let segment = self.next_segment;
        let previous = match (&self.active, self.sealed.back()) {
            (Some(active), _) => Position { segment: active.segment, offset: active.end },
            (None, Some(newest)) => Position { segment: newest.segment, offset: newest.end.unwrap_or(0) },
            (None, None) => Position::START,
        };
        let salt = self.disk.salt().map_err(|error| self.failed(error))?;
        let LogConfig { kind, segment_bytes, .. } = self.config;
        let header = SegmentHeader { kind, segment, salt, segment_bytes, previous };
        self.name_segment(&*file, &spare, &header).map_err(|error| self.failed(error))?;
        self.has_unsynced_name = true;
        self.spares.pop();
        self.next_segment = segment + 1;
        let fresh = Active {
            segment,
            file,
            seed: header.seed(),
            end: RECORDS_AT,
            records_end: RECORDS_AT,
            synced: RECORDS_AT,
            noted: RECORDS_AT,
            is_closed: false,
        };
        if let Some(old) = self.active.replace(fresh) {
            let file_bytes = u64::from(self.config.segment_bytes);
            self.sealed.push_back(Sealed { segment: old.segment, end: Some(old.end), file_bytes });
        }
        Ok(())
    }

    /// Both copies of the header, durable, then the name, which is not durable yet.
    fn name_segment(&self, file: &dyn File, spare: &str, header: &SegmentHeader) -> Result<(), DiskError> {
        let mut blocks = vec![0; RECORDS_AT as usize];
        for at in HEADER_COPIES_AT {
            let encoded = header.encode();
            blocks[at as usize..at as usize + encoded.len()].copy_from_slice(&encoded);
        }
        file.write_at(&blocks, 0)?;
        file.sync_all()?;
        self.disk.rename(spare, &segment_name(&self.dir, header.segment))
    }

    /// A new file with its space. On `Full` it is gone again, or goes at the next try.
    fn make_spare(&mut self) -> Result<(String, Box<dyn File>), LogError> {
        let name = spare_name(&self.dir, self.next_segment);
        let created = match self.disk.create(&name) {
            // Not one of `spares`, which are none now: what an earlier try could not remove.
            Err(DiskError::Exists { .. }) => self.disk.unlink(&name).and_then(|()| self.disk.create(&name)),
            created => created,
        };
        let file = created.map_err(|error| self.failed(error))?;
        if let Err(error) = file.allocate(u64::from(self.config.segment_bytes)) {
            drop(file);
            drop(self.disk.unlink(&name));
            return Err(self.failed(error));
        }
        Ok((name, file))
    }
}

impl fmt::Debug for SegmentLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SegmentLog");
        shown.field("dir", &self.dir).field("begin", &self.begin()).field("end", &self.end());
        shown.field("synced", &self.synced()).field("poisoned", &self.poisoned).finish()
    }
}
