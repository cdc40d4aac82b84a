//! A whole cluster in one thread from one seed: generator, nemesis, oracle, checker (Jepsen's nouns; FoundationDB's way).
//!
//! The machines of all rooms and the real storage engine on simulated disks, joined by the shells in `process`, over a
//! simulated network and clock (`world`). A seed makes a plan (`plan`), a plan makes one history (`run`), the oracle judges
//! it from ground truth. How to add a fault, a workload, a check: `docs/mechanism/simulation.md`.

pub mod account;
pub mod client;
pub mod disk_faults;
pub mod history;
mod images;
pub mod mailroom;
pub mod nemesis;
pub mod net;
pub mod oracle;
pub mod plan;
pub mod process;
pub mod refused;
pub mod rows;
pub mod run;
pub mod scenario;
pub mod shrink;
pub mod suite;
pub mod time;
pub mod trace;
pub mod world;

pub use plan::Plan;
pub use run::{Report, run, run_told};
