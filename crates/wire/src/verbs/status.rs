//! What one node's operator asks of another's: the other's own view of itself and of everybody else.
//!
//! `kula status` compares these views, so a view says only what the node knows at first hand; nothing in it is hearsay.

use crate::{
    limits::TEXT_BYTES_MAX,
    verb::{Lane, Verb},
};
use kula_types::{NodeId, Timestamp};
use serde::{Deserialize, Serialize};

/// Nodes that one view speaks of: a ring has no more, and a view must fit a frame.
pub const MEMBERS_MAX: usize = 1_024;
/// Actors and refused peers that one view names.
pub const NAMED_MAX: usize = 16;

/// "How do things look from where you are?"
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskView;

/// How things look from one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    pub node: NodeId,
    pub name: String,
    pub stage: Stage,
    /// Bytes of data in memory and in tables; `None` while a shard does not answer.
    pub load_bytes: Option<u64>,
    /// Shards that did not answer in time.
    pub shards_silent: u32,
    /// Hints this node keeps, by whom they are for.
    #[serde(deserialize_with = "crate::list::grown")]
    pub hints: Vec<HintsFor>,
    /// The digest of the schema it knows.
    pub schema: u128,
    /// The ring it knows; 0: none.
    pub ring_version: u64,
    /// Its wall clock when it made this view.
    pub clock: Timestamp,
    /// How far its stamps are ahead of that clock.
    pub stamps_ahead_ms: u64,
    /// No timestamp can be given out.
    pub lease_lost: bool,
    /// Free bytes where its data lives; `None` if that could not be asked.
    pub free_bytes: Option<u64>,
    /// The actor whose messages wait longest.
    pub slowest: Option<SlowestMailbox>,
    /// Actors whose work does not move.
    #[serde(deserialize_with = "crate::list::grown")]
    pub stuck: Vec<String>,
    /// It hears fewer than half of the members.
    pub cut_off: bool,
    /// How it sees each node it knows of, itself left out.
    #[serde(deserialize_with = "crate::list::grown")]
    pub sees: Vec<Sight>,
    /// Peers it refuses to speak with, or that refuse it: who, and why.
    #[serde(deserialize_with = "crate::list::grown")]
    pub refused: Vec<RefusedPeer>,
}

/// Where a node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    Starting,
    Ready,
    Stopping,
}

/// Hints that one node keeps for another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HintsFor {
    pub target: NodeId,
    pub count: u64,
    pub bytes: u64,
    /// Writes that should have left a hint and could not.
    pub not_kept: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowestMailbox {
    pub path: String,
    /// The 99th percentile of the wait, microseconds.
    pub p99_us: u64,
}

/// One node, as another sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    pub node: NodeId,
    /// As the node calls itself; whoever is not a member of the ring is known by nothing else.
    pub name: String,
    pub health: Health,
    /// For how long.
    pub since_ms: u64,
}

/// Gossip's four words (`design.md` §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Health {
    Up,
    Slow,
    Suspect,
    Down,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedPeer {
    /// A name if one is known, else where it was met.
    pub peer: String,
    pub why: String,
}

impl NodeView {
    /// Whether its lists and texts are within their bounds. A view that is not is no view.
    pub fn is_sound(&self) -> bool {
        let refused = self.refused.iter().flat_map(|refused| [&refused.peer, &refused.why]);
        let mut texts = self.stuck.iter().chain(self.sees.iter().map(|sight| &sight.name)).chain(refused);
        self.hints.len() <= MEMBERS_MAX
            && self.sees.len() <= MEMBERS_MAX
            && self.stuck.len() <= NAMED_MAX
            && self.refused.len() <= NAMED_MAX
            && self.name.len() <= TEXT_BYTES_MAX
            && self.slowest.as_ref().is_none_or(|slowest| slowest.path.len() <= TEXT_BYTES_MAX)
            && texts.all(|text| text.len() <= 2 * TEXT_BYTES_MAX)
    }
}

impl Health {
    pub const fn name(self) -> &'static str {
        match self {
            Health::Up => "up",
            Health::Slow => "slow",
            Health::Suspect => "suspect",
            Health::Down => "down",
        }
    }

    /// Whether it is worth asking.
    pub const fn is_heard(self) -> bool {
        matches!(self, Health::Up | Health::Slow)
    }
}

impl Verb for AskView {
    const CODE: u16 = 0x0701;
    const NAME: &'static str = "ask_view";
    const LANE: Lane = Lane::Request;
    type Answer = NodeView;
}
