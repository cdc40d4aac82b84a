//! How long the user waits: the one clock of the command line.

use std::time::Instant;

#[allow(
    clippy::disallowed_methods,
    reason = "what a command took, or how long it may still wait; never the database's time"
)]
pub fn now() -> Instant {
    Instant::now()
}
