//! Hints: writes owed to an owner that missed them, kept durably until it answers (Dynamo §4.6).
//!
//! A hint is the mutation itself and delivery is an ordinary apply, so delivering twice is harmless: apply is a join.
//! Never dropped by age; bounded by `HandoffConfig::max_bytes` a target, past which a hint is refused and counted. In strict
//! mode a hint is never the last copy of an acknowledged write. `docs/mechanism/hints.md`.

mod actor;
mod config;
pub mod courier;
#[cfg(test)]
mod durability;
mod error;
mod handle;
pub mod limits;
pub mod machine;
mod messages;
mod metrics;
#[cfg(test)]
mod model;
pub mod outcome;
mod pace;
pub mod record;
#[cfg(test)]
mod scripts;
pub mod step;
pub mod store;
mod target_log;
mod voice;

pub use actor::{HandoffActor, Spawn, spawn};
pub use config::{ConfigError, HandoffConfig};
pub use error::HandoffError;
pub use handle::Handoff;
pub use messages::{HintCounts, StoreHint, TargetHints};
pub use target_log::{Sizes, Trouble};
