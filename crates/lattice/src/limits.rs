//! Bounds of this room; each with its reason. What several rooms share is in `kula_types::limits`.

use kula_types::limits::{KEY_BYTES_MAX, MUTATION_BYTES_MAX};
use std::time::Duration;

/// How long after its expiry a value keeps its body, measured on the slowest replica clock that gossip knows: readers
/// whose clock lags must still be shown it (`cell.md`, "any time" rules).
pub const STUB_AFTER: Duration = Duration::from_secs(600);
/// A context token as text: it must fit one HTTP header line of every common proxy.
pub const CONTEXT_TEXT_BYTES_MAX: usize = 4 << 10;
/// The same before base64: three bytes for every four characters.
pub const CONTEXT_BYTES_MAX: usize = CONTEXT_TEXT_BYTES_MAX / 4 * 3;
/// Entries that a map takes one by one; more are merged in one pass. Below this, shifting is cheaper than a new vector.
pub(crate) const INSERT_ONE_BY_ONE_MAX: usize = 8;
/// Siblings past which a view groups op-ids by hash map instead of by looking at each.
pub(crate) const GROUP_BY_SCAN_MAX: usize = 16;
/// A step of a range floor may start just after a clustering key: one byte more than a key.
pub(crate) const STEP_BYTES_MAX: usize = KEY_BYTES_MAX + 1;

const _: () = assert!(CONTEXT_BYTES_MAX < MUTATION_BYTES_MAX);
