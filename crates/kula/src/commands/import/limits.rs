//! Bounds of an import, a read-back and an export; each with its reason.

use std::time::Duration;

/// Records of one request. More saves nothing: 100 to 1,000 measure alike, and a node works on 64 at a time.
pub const BATCH_RECORDS_MAX: usize = 128;
/// Bytes of values in one request, which is 16 MiB at most, in base64. One value may go past it.
pub const BATCH_BYTES_MAX: usize = 512 << 10;
/// Records of one request into a bucket, which reads them first: together they fit an answer of 64 MiB.
pub const BATCH_CAUSAL_MAX: usize = 16;
/// Requests in flight for each node of the cluster: one on its way while another is worked on.
pub const LANES_PER_NODE: usize = 3;
/// Requests in flight, however many nodes there are.
pub const LANES_MAX: usize = 24;
/// Records that wait for one lane: while it waits for a node that hangs, the others go on with theirs.
pub const LANE_RECORDS_MAX: usize = 4_096;
/// Records between the first that is not acknowledged and the last that was read: a lane that waits holds up the others
/// only after this many.
pub const WINDOW_RECORDS_MAX: usize = 32 << 10;
/// Bytes of records that were read and are not acknowledged.
pub const WINDOW_BYTES_MAX: usize = 32 << 20;

/// The deadline of one batch, unless `--timeout` is shorter: it takes milliseconds, and trying again at another node does no
/// harm, so a node that hangs is not waited for.
pub const BATCH_DEADLINE: Duration = Duration::from_millis(2_500);
/// Behind its deadline, for the answer to come.
pub const ANSWER_GRACE: Duration = Duration::from_secs(1);
/// How long one batch is tried, from the last of its records that was acknowledged.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long one page is asked for.
pub const PAGE_PATIENCE: Duration = Duration::from_secs(15);
/// Before a request is tried again: the first wait, doubled each time.
pub const RETRY_FIRST: Duration = Duration::from_millis(20);
pub const RETRY_MOST: Duration = Duration::from_secs(1);
/// A node that does not answer is left alone: the first rest, doubled each time.
pub const REST_FIRST: Duration = Duration::from_millis(250);
pub const REST_MOST: Duration = Duration::from_secs(8);
/// How soon a node says whether it is there at all.
pub const HELLO_MOST: Duration = Duration::from_secs(1);

/// Entries of a page, as many as a node gives.
pub const PAGE_ENTRIES: usize = 1_000;

/// How often the state of an import is written: what is put again after a crash.
pub const STATE_EVERY: Duration = Duration::from_millis(250);
/// How often a bar is drawn.
pub const DRAW_EVERY: Duration = Duration::from_millis(100);
/// How often a line is written where there is no terminal.
pub const LINE_EVERY: Duration = Duration::from_secs(5);
/// Records left out that are named; the rest are counted.
pub const SKIPPED_SHOWN_MAX: u64 = 20;

/// A file's buffer.
pub const FILE_BUFFER_BYTES: usize = 256 << 10;

/// The parts of a ledger: at its end one part is in memory at a time.
pub const LEDGER_PARTS: usize = 64;
/// Entries of a part that wait in memory: 32 bytes each, 8 MiB in all.
pub const LEDGER_PART_ENTRIES: usize = 4_096;
