//! Which ring is in force: versions, keyspace settings, who owns what (`design.md` §3).
//!
//! A node loads its ring or forms ring 1 alone (`open`), then one actor makes changes: durable first, published after.
//! Readers never ask the actor: they hold `RingHandle`, the latest published ring. What a ring means is `placement`'s.

mod actor;
#[cfg(test)]
mod durability;
mod error;
pub mod limits;
mod machine;
mod messages;
#[cfg(test)]
mod scripts;
mod state;

pub use actor::{RingActor, Spawn, draw, spawn};
pub use error::RingError;
pub use machine::{CommitId, Effect, Event, Machine, RingChange};
pub use messages::{Commit, Get, RingChanged, RingHandle, Subscribe};
pub use state::{Drawn, Opening, open};
