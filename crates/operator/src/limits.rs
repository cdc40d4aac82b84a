//! Bounds of the operator's room, each with its reason.

use std::time::Duration;

/// How long a status waits for one part of its own node: a part that takes longer is shown as silent, which is the news.
pub const PART_PATIENCE: Duration = Duration::from_secs(1);
/// How long a status waits for the view of another node: people wait for the slowest.
pub const VIEW_PATIENCE: Duration = Duration::from_millis(500);
/// How long a node's parts may take when another node asked: the answer must be back within `VIEW_PATIENCE`.
pub const PART_PATIENCE_OF_A_VIEW: Duration = Duration::from_millis(350);
/// Nodes that wait for the view that is being made; more than a ring has. The next ones get no answer.
pub const ASKERS_MAX: usize = 1_024;
/// Batches of frames that wait for the operator's actor: a peer sends one request a second at most.
pub const MAILBOX: usize = 256;
/// Less free space than this counts as full: a log segment and the tables of one flush must fit.
pub const FREE_BYTES_MIN: u64 = 64 << 20;
/// Clocks further apart than this change what last-writer-wins means: remote stamps past it are not merged either.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_millis(500);
/// Actors that one verdict names; the list of all is one command away.
pub const NAMED_ACTORS_MAX: usize = 3;
/// Reasons that one verdict names: it stays a sentence.
pub const REASONS_MAX: usize = 4;
/// Differences that a status lists: a cluster in pieces has thousands.
pub const DIFFERENCES_MAX: usize = 64;

const _: () = assert!(PART_PATIENCE_OF_A_VIEW.as_millis() < VIEW_PATIENCE.as_millis());
