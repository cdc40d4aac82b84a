//! The file seam: `trait Disk`, the real one, the simulated one with faults, the segment log and the small state file.
//!
//! Everything Kula keeps goes through `Disk`, so a test can fail any call, lose power between any two and look at what
//! is left. Nothing here knows what the bytes mean.

pub mod atomic;
mod error;
pub mod limits;
pub mod log;
mod name;
mod os;
mod seam;
pub mod sim;

pub use error::{DiskError, Operation};
pub use os::OsDisk;
pub use seam::{Access, Disk, DiskLock, File};
pub use sim::{SimDisk, Survivors};
