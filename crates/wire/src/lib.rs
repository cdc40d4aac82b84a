//! Every byte between our own processes: frames, and the verbs inside them (`design.md` §10).
//!
//! Safe because nothing here trusts a length: a frame is bounded before it is read, a message is decoded under a limit
//! that follows the frame's, and both are consumed whole. It ends at the bytes: sockets are `net`'s, conversations are
//! `transport`'s, and what a verb does is its room's. Bytes on disk are never written with this crate.

mod blob;
mod frame;
#[cfg(test)]
mod laws;
pub mod limits;
mod list;
mod message;
mod verb;
pub mod verbs;

pub use blob::Blob;
pub use frame::{FRAME_VERSION, Frame, FrameDecoder, FrameError};
pub use message::{MessageError, decode, encode};
pub use verb::{Kind, Lane, PROTOCOL_MAX, PROTOCOL_MIN, Room, Verb};
