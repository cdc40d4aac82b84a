//! Bounds of the operator's room, each with its reason.

use std::time::Duration;

/// How long a status waits for one part of the node: a part that takes longer is shown as silent, which is the news.
pub const PART_PATIENCE: Duration = Duration::from_secs(1);
/// Less free space than this counts as full: a log segment and the tables of one flush must fit.
pub const FREE_BYTES_MIN: u64 = 64 << 20;
/// Actors that one verdict names; the list of all is one command away.
pub const NAMED_ACTORS_MAX: usize = 3;
