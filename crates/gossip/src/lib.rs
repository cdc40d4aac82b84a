//! Membership and liveness: who is there, how they are, and the small facts they announce (`design.md` §4).
//!
//! Facts spread by comparing one number a node (Scuttlebutt, van Renesse et al. 2008 §3), and a node is probed by oneself
//! and by helpers (SWIM, Das et al. 2002 §3). Safe to be wrong: what it says of liveness gates display and the pace of
//! hints, never ownership, quorum sizes or what may be dropped. It ends at the facts' bytes: what they mean is the
//! announcing room's. `docs/mechanism/gossip.md`.

mod actor;
mod config;
mod handle;
pub mod limits;
pub mod machine;
mod membership;
mod messages;
mod metrics;
mod news;

pub use actor::{GossipActor, Spawn, is_alive, spawn};
pub use config::{ConfigError, GossipConfig};
pub use handle::Gossip;
pub use kula_wire::verbs::gossip::About;
pub use membership::{Membership, PeerView, State};
pub use messages::{FactKey, GossipEvent};
