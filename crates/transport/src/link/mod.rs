//! The outgoing half: one link a peer.

mod actor;
pub mod machine;
#[cfg(test)]
mod scripts;

pub(crate) use actor::{Knock, LinkActor, Send, spec};
pub(crate) use machine::Parcel;
