//! Bounds of the ring actor, each with its reason.

/// Changes that wait while one is being made durable. Operators change rings by hand; a longer queue is a loop gone
/// wrong, and is told so.
pub const COMMITS_WAITING_MAX: usize = 64;
/// Messages in the ring actor's mailbox: the waiting changes, and as many look-ups.
pub const MAILBOX: usize = 2 * COMMITS_WAITING_MAX;
/// Subscribers of ring changes: rooms of this node.
pub const SUBSCRIBERS_MAX: usize = 32;
