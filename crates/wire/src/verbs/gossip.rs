//! What gossip says to gossip: who is how far (`Syn`), what is newer (`Ack`, `Push`), and signs of life (`Probe`, `Help`).
//!
//! Scuttlebutt (van Renesse et al. 2008 §3): everything a node says of itself carries a number of its own counting, so two
//! nodes compare one number a node and send what lies above it. Probes by oneself and by helpers are SWIM's (Das et al.
//! 2002 §3.1). The bounds of each field are `kula_gossip::limits`; whoever reads a message checks them.

use super::link::Introduction;
use crate::{
    blob::Blob,
    verb::{Lane, Verb},
};
use kula_types::NodeId;
use serde::{Deserialize, Serialize};

/// What a node says of itself beside its introduction.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct About {
    /// Where clients reach it: host and port.
    pub http_address: String,
    pub dc: String,
    pub rack: String,
    pub weight: u32,
}

/// How much of one node's news somebody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    pub node: NodeId,
    /// Which of its processes: a later one has a higher number, and the news of an earlier one count no more.
    pub generation: u64,
    /// All of its news up to this number.
    pub version: u64,
}

/// What a node says, each thing with the number it was said under. A later saying replaces an earlier one of its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Saying {
    Introduction(Introduction),
    About(About),
    /// It counts, as long as it lives.
    Heartbeat(u64),
    /// Suspicions of it under a lower number are void.
    Refutation(u64),
    /// It stops, on purpose.
    Leaving,
    Fact {
        key: u16,
        value: Blob,
    },
    /// Everybody it cannot reach.
    Suspicions(#[serde(deserialize_with = "crate::list::grown")] Vec<Suspicion>),
}

/// "I cannot reach it, nor could those I asked."
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspicion {
    pub target: NodeId,
    /// Of the target's process.
    pub generation: u64,
    /// Of the target, as the source knows it.
    pub refutation: u64,
    /// Probes missed in a row.
    pub missed: u32,
}

/// A node's news above `base`, up to `version`: for those who have everything up to `base`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    pub node: NodeId,
    pub generation: u64,
    pub base: u64,
    pub version: u64,
    /// By rising number.
    #[serde(deserialize_with = "crate::list::grown")]
    pub news: Vec<(u64, Saying)>,
}

/// "This is what I have; what have you?"
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Syn {
    #[serde(deserialize_with = "crate::list::grown")]
    pub digests: Vec<Digest>,
}

/// "These you lack; these I want."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    #[serde(deserialize_with = "crate::list::grown")]
    pub deltas: Vec<Delta>,
    /// What the answering side has of what it wants more of.
    #[serde(deserialize_with = "crate::list::grown")]
    pub wants: Vec<Digest>,
}

/// "Here."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    #[serde(deserialize_with = "crate::list::grown")]
    pub deltas: Vec<Delta>,
}

/// Asks for a sign of life of the room itself, not only of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe;

/// "I cannot reach it: can you?" The helper probes at once and says what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Help {
    pub target: NodeId,
}

impl Verb for Syn {
    const CODE: u16 = 0x0201;
    const NAME: &'static str = "syn";
    const LANE: Lane = Lane::Urgent;
    type Answer = Ack;
}

impl Verb for Push {
    const CODE: u16 = 0x0202;
    const NAME: &'static str = "push";
    const LANE: Lane = Lane::Urgent;
    type Answer = ();
}

impl Verb for Probe {
    const CODE: u16 = 0x0203;
    const NAME: &'static str = "probe";
    const LANE: Lane = Lane::Urgent;
    type Answer = ();
}

impl Verb for Help {
    const CODE: u16 = 0x0204;
    const NAME: &'static str = "help";
    const LANE: Lane = Lane::Urgent;
    /// Whether the target answered.
    type Answer = bool;
}
