//! What the segment log may answer instead, and what a replay may find.

use crate::DiskError;
use std::fmt;

/// Why a log call failed, and what became of the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// No space, or no file may be opened (`source` says which). The log stays usable: try again when there is room.
    /// `wrote`: some of the batch may be found by a later replay, as after a timeout; if false, none of it will be.
    #[error("the log has no room (some of the batch written: {wrote}): {source}")]
    Full { wrote: bool, source: DiskError },
    /// An earlier write or sync failed. What was appended since the last good sync is unknown, and this log takes and
    /// syncs nothing more: only a restart, which rereads what the disk really holds, may go on.
    #[error("the log failed earlier and takes nothing more")]
    Poisoned,
    /// Larger than `LogConfig::record_bytes_max`. Nothing of the batch was written.
    #[error("a record of {bytes} bytes; the largest is {bytes_max}")]
    RecordTooLarge { bytes: usize, bytes_max: u32 },
    /// A segment of `segment_bytes` cannot hold one record of `record_bytes_max`, or is longer than an offset.
    #[error("segments of {segment_bytes} bytes cannot hold records of {record_bytes_max}")]
    SegmentTooSmall { segment_bytes: u32, record_bytes_max: u32 },
    /// Written by a later release; nothing was touched.
    #[error("segment {segment} has layout version {found}, this release knows {known}")]
    Newer { segment: u64, found: u16, known: u16 },
    /// This directory holds another kind of log; nothing was touched.
    #[error("segment {segment} belongs to a log of kind {found}, not {wanted}")]
    WrongKind { segment: u64, found: u16, wanted: u16 },
    /// Acknowledged bytes are damaged, and the caller did not accept a loss. Nothing after the damage was delivered.
    #[error("{0}")]
    Corrupt(Damage),
    /// The disk failed. If it was a write or a sync, the log is poisoned from here on.
    #[error(transparent)]
    Disk(DiskError),
}

/// What is wrong at a damaged place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// Bytes between two places known to be durable are not the records that were there.
    Records,
    /// Neither copy of the segment's header can be read: none of its records can be told from noise.
    Header,
    /// The segment that the next one names as its predecessor is not there.
    Missing,
}

/// One damaged place: records that were durable once are lost here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub kind: DamageKind,
    pub segment: u64,
    pub offset: u32,
    /// Length of the damaged stretch; 0 if unknown.
    pub bytes: u64,
    /// Valid records that follow it, in this segment and later ones.
    pub records_after: u64,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            DamageKind::Records => "damaged records",
            DamageKind::Header => "an unreadable header",
            DamageKind::Missing => "a missing file",
        };
        let Damage { segment, offset, bytes, records_after, .. } = self;
        write!(
            f,
            "log segment {segment} has {what} at {offset} ({bytes} bytes), followed by {records_after} valid records"
        )
    }
}
