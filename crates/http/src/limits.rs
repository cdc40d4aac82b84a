//! Bounds of the front door, each with its reason (`promises.md` P24).

use std::time::Duration;

/// Request line and headers together: the longest key, escaped, and the longest context, with room for a proxy's own.
/// The library itself stops at 128 KiB and 96 headers.
pub const HEAD_BYTES_MAX: usize = 32 << 10;
/// The first head of a connection must be complete by then.
pub const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
/// An idle connection is kept this long, a little more than the usual 60 s of proxies, so that they close first.
pub const IDLE_TIME_MAX: Duration = Duration::from_secs(75);
/// Connections at once, all workers together: each costs a few KiB even when idle. Fewer where descriptors are few.
pub const CONNECTIONS_MAX: usize = 1_024;
/// A peer that takes nothing of an answer for this long is cut: what it holds is memory that others wait for.
pub const ANSWER_GAP_MAX: Duration = Duration::from_secs(10);
/// What the library beneath copies of an answer at a time. An answer within one piece needs no permit: all connections
/// together hold 64 MiB of those.
pub const ANSWER_PIECE_BYTES: usize = 64 << 10;
/// Larger answers on their way to clients, all together: 32 of the largest values, two of the largest batches.
pub const ANSWERS_BYTES_MAX: u32 = 256 << 20;
/// Workers at most: past this, cores are better left to shards.
pub const WORKERS_MAX: usize = 64;
/// Silence inside a body.
pub const BODY_GAP_MAX: Duration = Duration::from_secs(5);
/// A body may be slower than `BODY_BYTES_PER_SECOND_MIN` for this long.
pub const BODY_GRACE: Duration = Duration::from_secs(5);
pub const BODY_BYTES_PER_SECOND_MIN: usize = 1_024;
/// The whole body must be there by then, whatever its pace.
pub const BODY_TIME_MAX: Duration = Duration::from_secs(60);
/// The unread rest of a refused request's body, read to keep the connection: past this a new connection is cheaper.
pub const SETTLE_BYTES_MAX: usize = 64 << 10;
pub const SETTLE_TIME_MAX: Duration = Duration::from_secs(1);
/// A change of the schema unless the client says otherwise: the ring decides within 10 s, then the catalogue waits 10 s for
/// every live node and says who lacks the change. Giving up before it has said so would leave the client guessing.
pub const CHANGE_PATIENCE: Duration = Duration::from_secs(22);
/// The JSON of a command of an operator: names and settings.
pub const COMMAND_BYTES_MAX: usize = 64 << 10;
/// Items of a batch: all its answers wait in memory for the slowest.
pub const BATCH_ITEMS_MAX: usize = 1_000;
pub const BATCH_BYTES_MAX: usize = 16 << 20;
/// Items of one batch under way at once, so that one client's batch leaves room in the mailboxes for others.
pub const BATCH_IN_FLIGHT_MAX: usize = 64;
/// Bytes of values that one batch gathers; once there are as many, items answer 413 and can be asked for alone.
pub const BATCH_ANSWER_BYTES_MAX: usize = 64 << 20;
/// How long past a request's deadline the front door waits for the answer that says what happened.
pub const DEADLINE_GRACE: Duration = Duration::from_millis(100);
/// Twenty years, Cassandra's bound: past it, expiry dates stop fitting elsewhere.
pub const TTL_SECONDS_MAX: u64 = 630_720_000;
/// What a shed client is told to wait: mailboxes drain in milliseconds, a crowd that returns at once fills them again.
pub const RETRY_AFTER_SECONDS: u32 = 1;
/// A stop waits this long for requests under way.
pub const STOP_TIME_MAX: Duration = Duration::from_secs(10);

const _: () = assert!(kula_types::limits::HTTP_KEY_BYTES_MAX * 3 < HEAD_BYTES_MAX);
const _: () = assert!(kula_types::limits::VALUE_BYTES_MAX < BATCH_BYTES_MAX);
const _: () = assert!(BATCH_ANSWER_BYTES_MAX / 3 * 4 < ANSWERS_BYTES_MAX as usize);
