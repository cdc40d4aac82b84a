//! Black-box tests: the binary as users get it, over HTTP and the command line. One test binary.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "these are tests, helpers included")]

mod cluster;
mod cluster_command;
mod cluster_cuts;
mod cluster_faults;
mod cluster_forming;
mod cluster_refusals;
mod command_line;
mod durability;
mod faults;
mod harness;
mod http;
mod import;
mod load;
mod logs;
mod start;
