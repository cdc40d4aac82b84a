//! The verbs, by the room that obeys them. Codes are given once and never reused.

pub mod catalog;
pub mod gossip;
pub mod link;
pub mod replica;
pub mod ring;
pub mod status;
