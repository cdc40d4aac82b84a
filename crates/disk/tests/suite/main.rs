//! What a disk, the simulated disk, the state file and the segment log promise, seen from outside.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail the test")]
#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

mod atomic;
mod contract;
mod crash_images;
mod log_crash;
mod log_damage;
mod log_faults;
mod sim;
mod support;
