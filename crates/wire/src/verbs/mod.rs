//! The verbs, by the room that obeys them. Codes are given once and never reused.

pub mod link;
pub mod replica;
