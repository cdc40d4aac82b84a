//! Bounds of hand-off, each with its reason.

use kula_types::limits::MUTATION_BYTES_MAX;
use std::time::Duration;

/// Bytes of hints kept for one target unless told otherwise: hours of a small cluster's writes, minutes of delivery.
pub const MAX_BYTES_DEFAULT: u64 = 1 << 30;
/// Bytes a second to one target unless told otherwise: a GiB in a minute, an eighth of a gigabit link.
pub const RATE_DEFAULT: u64 = 16 << 20;
/// Slower than this the largest hint would take more than four minutes.
pub const RATE_MIN: u64 = 64 << 10;
/// Nodes that hints are kept for: as many as there are peers. Each holds one file open and a few hundred bytes.
pub const TARGETS_MAX: usize = 256;

/// Messages that wait for the actor. A coordinator sends what one poll found in one message.
pub const MAILBOX: usize = 1_024;
/// Bytes of mutations that wait for the actor: they are held in memory until their sync.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Bytes one write to the logs may gather before it is synced: past this a larger batch only adds latency.
pub const BATCH_BYTES_MAX: usize = 4 << 20;

/// A segment of small hints. Small, because an opened log reads its newest segment through, and because a segment is what
/// is given back when it is delivered.
pub const SEGMENT_BYTES: u32 = 4 << 20;
/// The largest record that goes to a small segment.
pub const SEGMENT_RECORD_BYTES: u32 = 1 << 20;
/// A segment for hints that do not fit a small one: the largest with its record, and what the segment log needs.
pub const LARGE_SEGMENT_BYTES: u32 = 20 << 20;
/// Damaged segments put aside for a person to look at; further ones are only told of.
pub const QUARANTINE_MAX: usize = 64;

/// Hints read ahead for one target, with `READ_BYTES`: what is read again when a link is lost.
pub const READ_RECORDS: usize = 4_096;
/// Bytes read ahead for one target, or one record if that is larger.
pub const READ_BYTES: usize = 1 << 20;
/// Hints on their way to one target: half of a link's bulk lane, so that streams have the other half.
pub const IN_FLIGHT_MAX: usize = 128;
/// Bytes on their way to one target, or one hint if that is larger.
pub const IN_FLIGHT_BYTES_MAX: usize = 8 << 20;
/// What an idle target's rate saves up, as a part of a second: enough that a timer's coarseness costs no rate.
pub const BURST_PART: u64 = 8;

/// How long one hint may take to be answered, beside what its bytes take at `DELIVER_RATE_MIN`.
pub const DELIVER_WITHIN: Duration = Duration::from_secs(5);
/// Bytes a second that a link is trusted to carry: on a slower one the largest hint would expire again and again.
pub const DELIVER_RATE_MIN: u32 = 512 << 10;
/// The wait after a refusal that is the target's; it doubles to `BACKOFF_MAX`.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// Well below the 15 s in which a target that came back has its hints.
pub const BACKOFF_MAX: Duration = Duration::from_secs(3);
/// The wait after a refusal that is one hint's (its table is unknown there, its range damaged).
pub const STUCK_FIRST: Duration = Duration::from_secs(1);
/// Refusals of one hint before it goes behind the others, to the end of the log.
pub const STUCK_TRIES: u32 = 3;
/// The wait before a log of nothing but such hints is tried again; it doubles to `STUCK_ROUND_MAX`.
pub const STUCK_ROUND_FIRST: Duration = Duration::from_secs(5);
pub const STUCK_ROUND_MAX: Duration = Duration::from_secs(300);

/// How often every target is looked at, in case an event was missed; spread by `SCAN_SPREAD`, so that the nodes of a
/// cluster do not look at once.
pub const SCAN_EVERY: Duration = Duration::from_secs(2);
pub const SCAN_SPREAD: Duration = Duration::from_secs(1);
/// How often counts that acknowledgements changed are published.
pub const COUNTS_EVERY: Duration = Duration::from_millis(250);
/// How often an idle log notes that its last batch is durable.
pub const SETTLE_EVERY: Duration = Duration::from_millis(500);
/// Log lines of one kind for one target.
pub const SAY_EVERY: Duration = Duration::from_secs(10);

const _: () = assert!(SEGMENT_RECORD_BYTES + (64 << 10) < SEGMENT_BYTES);
const _: () = assert!(MUTATION_BYTES_MAX + (1 << 20) < LARGE_SEGMENT_BYTES as usize);
const _: () = assert!(IN_FLIGHT_MAX * 2 <= kula_transport::limits::LANE_FRAMES_MAX[2]);
const _: () = assert!(IN_FLIGHT_BYTES_MAX * 2 <= kula_transport::limits::LANE_BYTES_MAX[2]);
const _: () = assert!(BACKOFF_MAX.as_secs() * 4 <= 15);
