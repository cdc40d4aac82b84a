//! Bounds of a coordinator, each with its reason.

use std::time::Duration;

/// Client requests in hand, a coordinator. Past it a request is answered `Overloaded`, nothing sent: at 100,000
/// requests a second and the default deadline, 8,192 means that the replicas have already stalled for 80 ms.
pub const IN_FLIGHT_MAX: usize = 8_192;
/// Encoded bytes of writes in hand and of data that reads in hand were sent, a coordinator: what stalled replicas may pin in
/// memory. Past it a new request is refused.
pub const IN_FLIGHT_BYTES_MAX: usize = 128 << 20;
/// Slots of the table that remembers the last sequence minted for a key. More slots make chains of intervals longer,
/// so that what was seen of a key stays one interval while fewer keys than this are written at a time.
pub const REMEMBERED_KEYS: usize = 1 << 16;
/// A coordinator draws a new actor id when fewer sequences than this are left: more than one request can take.
pub const SEQUENCES_SPARE: u64 = 1 << 20;
/// How long a request waits before it asks again where the rings or the schemas of two nodes differ: one of them is
/// fetching. Doubled at each try up to `RETRY_DOUBLINGS` times, and up to a half longer, so that what met one change of
/// the ring does not come back all at once. A node is asked for its ring at most this often, too.
pub const RING_RETRY: Duration = Duration::from_millis(20);
pub const RETRY_DOUBLINGS: u32 = 4;
/// Answered writes that some owner has not acknowledged yet, a coordinator. They take no client's place. At 5,000 writes a
/// second on two coordinators a paused node leaves 12,500 on each before its link is cut; past the bound the oldest
/// become hints at once.
pub const STRAGGLERS_MAX: usize = 16_384;
/// Their encoded bytes, a coordinator.
pub const STRAGGLERS_BYTES_MAX: usize = 32 << 20;
/// How long after a refusal for want of room a hint is handed over again.
pub const HINT_RETRY: Duration = Duration::from_millis(100);
/// How long after a request's deadline its hints are still handed over again. Then they are lost, and hand-off counts them.
pub const HINT_PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of the mutations that one message to hand-off carries, or one mutation: its queue takes such pieces one by one.
pub const HINT_BATCH_BYTES: usize = 1 << 20;
/// When nothing is known yet: how long a read waits for an owner before it asks another as well.
pub const HEDGE_FIRST: Duration = Duration::from_millis(20);
/// The observed delay is kept between these: below, a hedge would race answers that are on their way; above, a client
/// would feel it.
pub const HEDGE_MIN: Duration = Duration::from_millis(2);
pub const HEDGE_MAX: Duration = Duration::from_millis(200);
/// One hedge is earned by so many reads: 10 % more at most.
pub const READS_A_HEDGE: u32 = 10;
/// Hedges saved up: the reads that were on their way to one node when it stopped answering, at 5,000 a second and
/// `HEDGE_FIRST`, with as much to spare.
pub const HEDGES_SAVED_MAX: u32 = 200;
/// A read that has waited so long, or a quarter of its time, hedges whether or not it was earned: a node that stands
/// still makes reads slower for a moment and fails none.
pub const HEDGE_PATIENCE: Duration = Duration::from_secs(1);
/// How long it is believed that an owner is slow or fast: then one read tries it again.
pub const SPEED_BELIEVED: Duration = Duration::from_secs(10);
/// Nodes whose speed is remembered: as many as there are peers.
pub const SPEEDS_MAX: usize = kula_transport::limits::PEERS_MAX;
/// Entries of one page of a scan.
pub const SCAN_ENTRIES_MAX: usize = 1_000;
/// Bytes of values that one page of a scan shows, or one entry if that is larger: what a client that pages holds at once.
pub const SCAN_ANSWER_BYTES_MAX: usize = 8 << 20;
/// Scans in hand, a coordinator: each may hold the bytes of a page, and of R answers more. Past it they are refused.
pub const SCANS_MAX: usize = 8;
/// Bytes that a scan asks one owner of each run for, all runs together.
pub const SCAN_BYTES_MAX: usize = 1 << 20;
/// Partitions of one question of a scan, deleted ones too: a storage shard looks at no more.
pub const SCAN_PARTITIONS_MAX: usize = 1_024;
/// Runs of a scan under way at once: a small table over many owners comes together in few round trips.
pub const SCAN_RUNS_MAX: usize = 16;
/// Ring partitions of one run: finding their owners keeps no other request waiting. The default ring has as many.
pub const SCAN_RUN_PARTITIONS_MAX: usize = 256;
/// How long a scan waits for an owner's page before it asks another as well. Pages take longer than reads, and differ more:
/// what is observed of reads does not tell.
pub const SCAN_HEDGE_AFTER: Duration = Duration::from_millis(200);
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
const _: () = assert!(HEDGE_MIN.as_nanos() < HEDGE_FIRST.as_nanos() && HEDGE_FIRST.as_nanos() < HEDGE_MAX.as_nanos());
const _: () = assert!(kula_types::limits::MUTATION_BYTES_MAX <= STRAGGLERS_BYTES_MAX);
// The largest mutation always fits an idle coordinator.
const _: () = assert!(kula_types::limits::MUTATION_BYTES_MAX <= IN_FLIGHT_BYTES_MAX);
