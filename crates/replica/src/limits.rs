//! Bounds of a replica, each with its reason.

use std::time::Duration;

/// Requests of one batch that are served: a coordinator sends at most one mailbox poll's worth, so whoever sends more
/// lies.
pub const BATCH_REQUESTS_MAX: usize = 4_096;
/// Batches that may wait for a replica. One coordinator has at most a few under way; what they hold is bounded by the
/// coordinators' own limits.
pub const MAILBOX: usize = 1_024;
/// Frames of one socket read that may wait to be taken apart: a read is 64 KiB or one frame. Past it the peer is answered
/// `Overloaded`, frame by frame.
pub const INBOUND_MAILBOX: usize = 256;
/// A ring or a schema that a request shows to be older than the sender's is asked for at most this often.
pub const PULL_EVERY: Duration = Duration::from_millis(20);

const _: () = assert!(kula_actor::limits::HANDLED_PER_POLL as usize <= BATCH_REQUESTS_MAX);
