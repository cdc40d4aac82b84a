//! Bounds of the ring actor, each with its reason.

use kula_wire::limits::BODY_BYTES_MAX;
use std::time::Duration;

/// Changes that wait while one is being made. Operators change rings by hand; a longer queue is a loop gone wrong, and is
/// told so.
pub const COMMITS_WAITING_MAX: usize = 64;
/// Messages in the ring actor's mailbox: the waiting changes, and as many look-ups. Peers' votes come past it.
pub const MAILBOX: usize = 2 * COMMITS_WAITING_MAX;
/// Subscribers of ring changes: rooms of this node.
pub const SUBSCRIBERS_MAX: usize = 32;
/// From the asking to the answer of a change. Past it the answer says what is known.
pub const COMMIT_WITHIN: Duration = Duration::from_secs(10);
/// How long one attempt waits for members: two disk syncs there and two ways, a hundred times over.
pub const ASK_WITHIN: Duration = Duration::from_secs(2);
/// The first wait after an attempt that failed: some syncs long, so that the other proposer gets through. It doubles to
/// `REST_MAX` and is spread by half, up and down.
pub const REST_FIRST: Duration = Duration::from_millis(20);
pub const REST_MAX: Duration = Duration::from_secs(1);
/// How often the surroundings are looked at, and how often while a ring is waited for.
pub const TICK: Duration = Duration::from_secs(1);
pub const TICK_WAITING: Duration = Duration::from_millis(100);
/// How long a founder listens whether another seed knows a ring, if one is not connected: a connection may take 2 s to be
/// made (`transport`), its hello names the ring.
pub const SETTLE: Duration = Duration::from_millis(2_500);
/// Rings asked for at once. They are equal, so more would be waste.
pub const PULLS_MAX: usize = 3;
/// How often a member tries to have its own name and address put right, and how often once it was refused.
pub const MY_FACTS_EVERY: Duration = Duration::from_secs(5);
pub const MY_FACTS_REFUSED: Duration = Duration::from_secs(300);
/// A ring as it is stored and sent: what one frame carries beside the rest of its verb. The largest one (64 data centres
/// of 65,536 partitions) would be longer; it can be kept by a sole member only.
pub const RING_BYTES_MAX: usize = BODY_BYTES_MAX - (1 << 10);
/// Names in the sentence that says what is waited for; further ones are counted.
pub const NAMES_SHOWN_MAX: usize = 16;

const _: () = assert!(REST_FIRST.as_millis() < REST_MAX.as_millis());
const _: () = assert!(2 * ASK_WITHIN.as_millis() < COMMIT_WITHIN.as_millis());
