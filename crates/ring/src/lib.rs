//! Which ring is in force: versions, keyspace settings, who owns what (`design.md` §3).
//!
//! A node loads its ring, forms ring 1 alone, or waits with ring 0 (`open`); then one actor makes changes: decided by a
//! majority of the members, durable first, published after. Readers never ask the actor: they hold `RingHandle`, the
//! latest published ring. What a ring means is `placement`'s.

mod acceptor;
mod actor;
mod admission;
mod adopt;
mod ballots;
mod change;
#[cfg(test)]
mod durability;
mod error;
mod founding;
pub mod limits;
mod machine;
mod messages;
#[cfg(test)]
mod model;
#[cfg(test)]
mod scripts;
mod state;

pub use acceptor::Acceptor;
pub use actor::{RingActor, Spawn, draw, link, neighbour, spawn};
pub use admission::admission;
pub use adopt::NotAdopted;
pub use ballots::{load as load_ballots, store as store_ballots};
pub use change::RingChange;
pub use error::RingError;
pub use founding::{Join, JoinView, Link, Neighbour, Standing, Surroundings};
pub use machine::{AskId, Beginning, CommitId, Effect, Event, Machine, Notice, Told};
pub use messages::{Commit, Get, JoinHandle, Pull, RingChanged, RingHandle, Subscribe};
pub use state::{Drawn, Opening, open, store};
