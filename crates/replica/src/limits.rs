//! Bounds of a replica, each with its reason.

/// Requests of one batch that are served: a coordinator sends at most one mailbox poll's worth, so whoever sends more
/// lies.
pub const BATCH_REQUESTS_MAX: usize = 4_096;
/// Batches that may wait for a replica. One coordinator has at most a few under way; what they hold is bounded by the
/// coordinators' own limits.
pub const MAILBOX: usize = 1_024;

const _: () = assert!(kula_actor::limits::HANDLED_PER_POLL as usize <= BATCH_REQUESTS_MAX);
