//! Conversations between nodes (`design.md` §10): who may speak, what waits, what is lost.
//!
//! A node keeps one outgoing connection to each peer, a *link*, for what it asks; what it is asked comes in by *sessions*.
//! Safe because every wait has a bound and an end, and because a request that fails says whether the peer can have obeyed.
//! It ends at a body of bytes: what a verb means is its room's. `docs/mechanism/transport.md`.

mod admission;
pub mod directory;
mod error;
pub mod handshake;
mod lanes;
pub mod limits;
pub mod link;
mod listener;
mod messages;
mod peers;
mod pump;
mod refusals;
pub mod roster;
pub mod session;
mod shared;
mod slots;
mod timer;

pub use admission::{Admission, Member, Myself};
pub use error::{Cut, TransportError};
pub use messages::{Inbound, InboundBatch, LinkEvent, LinkState, PeerState, RefusedPeer};
pub use peers::{Peers, Spawn, spawn};
