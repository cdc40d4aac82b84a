//! Level 2 of the simulation: whole nodes - doors, mailboxes, supervisors, transport, what stands behind the handlers of
//! HTTP - in one thread from one seed, in turmoil (`docs/mechanism/simulation.md`).
//!
//! Below a node everything is simulated: disk, net, clock, chance, threads. Nothing of a node is repeated here, so what is
//! found is found in its wiring, its mailboxes and its supervision. The generator and the oracle are level 1's; the ground
//! truth is what a power loss would leave of each disk, at the moment of each answer.

mod clients;
mod clock;
mod cluster;
mod host;
mod ledger;
mod net;
pub mod plan;
mod run;
mod story;

pub use plan::Plan;
pub use run::{Report, run};
