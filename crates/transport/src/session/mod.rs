//! The incoming half: one session for each connection that a peer made.

mod actor;
pub mod machine;

pub(crate) use actor::spec;
