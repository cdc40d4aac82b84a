//! Bounds of the catalogue actor, each with its reason.

use kula_wire::limits::BODY_BYTES_MAX;
use std::time::Duration;

/// Operations that wait while one is under way. Operators change schemas by hand or by a script; past this the script is
/// told to wait.
pub const OPERATIONS_WAITING_MAX: usize = 64;
/// Messages in the catalogue's mailbox: the waiting operations, and as many look-ups and answers of the ring.
pub const MAILBOX: usize = 2 * OPERATIONS_WAITING_MAX;
/// Subscribers of schema changes: rooms of this node.
pub const SUBSCRIBERS_MAX: usize = 64;
/// Changes that are made here and wait for the other nodes; more are `Busy`.
pub const AGREEING_MAX: usize = 64;
/// How long a change waits until every live node has it. Past it the answer names those that lack it.
pub const AGREE_WITHIN: Duration = Duration::from_secs(10);
/// How often nodes that lack a change are told again while somebody waits for them: some disk syncs long.
pub const TELL_AGAIN: Duration = Duration::from_millis(100);
/// How often the nodes' announced digests are compared when nobody waits.
pub const TICK: Duration = Duration::from_secs(1);
/// How long a node has to answer.
pub const ASK_WITHIN: Duration = Duration::from_secs(2);
/// Schemas asked for at once: beyond it the next tick asks.
pub const PULLS_MAX: usize = 4;
/// A schema that one frame carries. A larger one (some 40,000 tables) cannot spread, so nothing is created past it.
pub const SCHEMA_BYTES_MAX: usize = BODY_BYTES_MAX - (1 << 10);
/// How long a creation waits when the ring holds other settings under its name and no keyspace is known: another node may
/// be between its two steps, which are some disk syncs apart.
pub const SETTLE: Duration = Duration::from_secs(1);
