#![doc = include_str!("../../../../docs/format/segment-log.md")]

mod error;
mod format;
mod reader;
mod replay;
mod segment_log;
mod segments;

pub use error::{Damage, DamageKind, LogError};
pub use replay::{Loss, Replay, Replayed};
pub use segment_log::SegmentLog;

use crate::limits;

/// A place in a log: the start of a record, or the end of the last. Later records have greater positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub segment: u64,
    pub offset: u32,
}

impl Position {
    /// Before every record of every log.
    pub const START: Position = Position { segment: 0, offset: 0 };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// What the log holds; a directory that holds another kind is refused.
    pub kind: u16,
    /// Length of each segment file, bytes; 8 KiB of it are not for records.
    pub segment_bytes: u32,
    /// Largest payload, bytes; must fit a segment.
    pub record_bytes_max: u32,
    /// Retired segments kept for reuse; the rest are unlinked.
    pub spares_max: usize,
    /// No new segment gets a smaller number. Give one past every position you remember, so that even a log whose
    /// directory was emptied never hands out a position twice.
    pub first_segment: u64,
}

impl LogConfig {
    pub fn new(kind: u16, record_bytes_max: u32) -> LogConfig {
        LogConfig {
            kind,
            segment_bytes: limits::LOG_SEGMENT_BYTES_DEFAULT,
            record_bytes_max,
            spares_max: limits::LOG_SPARES_DEFAULT,
            first_segment: 1,
        }
    }
}
