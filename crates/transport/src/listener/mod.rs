//! The peer port.

mod actor;

pub(crate) use actor::{ListenerActor, Port};
