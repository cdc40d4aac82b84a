//! Bounds of a coordinator, each with its reason.

use std::time::Duration;

/// Client requests in hand, a coordinator. Past it a request is answered `Overloaded`, nothing sent: at 100,000
/// requests a second and the default deadline, 8,192 means that the replicas have already stalled for 80 ms.
pub const IN_FLIGHT_MAX: usize = 8_192;
/// Encoded bytes of writes in hand, a coordinator: what stalled replicas may pin in memory.
pub const IN_FLIGHT_BYTES_MAX: usize = 128 << 20;
/// Slots of the table that remembers the last sequence minted for a key. More slots make chains of intervals longer,
/// so that what was seen of a key stays one interval while fewer keys than this are written at a time.
pub const REMEMBERED_KEYS: usize = 1 << 16;
/// A coordinator draws a new actor id when fewer sequences than this are left: more than one request can take.
pub const SEQUENCES_SPARE: u64 = 1 << 20;
/// How long a request waits before it asks again where the ring versions of two nodes differ: one of them is fetching.
pub const RING_RETRY: Duration = Duration::from_millis(20);
/// How long a write that can no longer succeed waits for the other owners' refusals, to say `applied: no` for certain. A
/// healthy owner refuses within a few milliseconds; a client of an overloaded cluster must hear of it soon.
pub const REFUSAL_LINGER: Duration = Duration::from_millis(50);
/// The longest a request may take, whatever it asks for.
pub const DEADLINE_MAX: Duration = Duration::from_millis(kula_types::limits::DEADLINE_MS_MAX);
/// How long a retired context key stays good: a client that slept over a change of keys does not lose its context.
pub const CONTEXT_KEY_RETIRED_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// A coordinator speaks of keys with many siblings at most this often; a counter has all of them.
pub const SIBLING_WARNING_EVERY: Duration = Duration::from_secs(10);

const _: () = assert!(REMEMBERED_KEYS.is_power_of_two());
// The largest mutation always fits an idle coordinator.
const _: () = assert!(kula_types::limits::MUTATION_BYTES_MAX <= IN_FLIGHT_BYTES_MAX);
