//! Bounds of the catalogue actor, each with its reason.

/// Operations that wait while one is under way. Operators change schemas by hand or by a script; past this the script is
/// told to wait.
pub const OPERATIONS_WAITING_MAX: usize = 64;
/// Messages in the catalogue's mailbox: the waiting operations, and as many look-ups and answers of the ring.
pub const MAILBOX: usize = 2 * OPERATIONS_WAITING_MAX;
/// Subscribers of schema changes: rooms of this node.
pub const SUBSCRIBERS_MAX: usize = 64;
