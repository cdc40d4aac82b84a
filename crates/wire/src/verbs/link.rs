//! What transports say to each other before and beside everything else.
//!
//! `Hello` is the first frame of the side that connected; the answer is `Welcome` or a `Refusal` by name. It carries the
//! four words of identity (`design.md` §1), so that a cloned, doubled or wiped node is told apart from a restart.

use crate::{
    limits::TEXT_BYTES_MAX,
    verb::{Lane, Verb},
};
use kula_types::{ClusterId, Life, NodeId, Timestamp};
use serde::{Deserialize, Serialize};

/// Who a node says it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// `None`: it has not yet heard of a ring.
    pub cluster: Option<ClusterId>,
    pub cluster_name: String,
    pub node: NodeId,
    pub life: Life,
    /// Random, drawn when the process starts.
    pub boot: u64,
    pub name: String,
    /// Where its peers reach it: host and port.
    pub address: String,
    /// The version of the ring it holds; 0 = none.
    pub ring_version: u64,
    /// What this node's peers were told of its clock's lease, by the directory that this process opened: one that went back
    /// shows by it. `Timestamp::MIN`: nothing. `None`: its operator accepts that something is lost, and it makes no claim.
    pub lease_found: Option<Timestamp>,
}

/// "Let me speak to you."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub protocol_min: u8,
    pub protocol_max: u8,
    pub introduction: Introduction,
}

/// "Speak."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version of verbs both sides use from here on.
    pub protocol: u8,
    pub introduction: Introduction,
}

/// Why one node does not speak to another. Both sides say it in their logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    #[error("it belongs to cluster {theirs:?}, not to {ours:?}")]
    OtherCluster { ours: String, theirs: String },
    /// The names agree, the ids do not: another cluster of the same name, or the same one made anew.
    #[error("cluster {name:?} has id {ours} here and {theirs} there")]
    OtherClusterId { name: String, ours: ClusterId, theirs: ClusterId },
    /// A cloned directory, or one that two processes run from.
    #[error("node {node} already runs, at {address}: this is a copy of its directory")]
    SameNodeIdOtherBoot { node: NodeId, address: String },
    /// The node's directory was declared damaged since its peers last knew it.
    #[error("node {node} is known with another life: its data is not what it was")]
    LifeChanged { node: NodeId },
    /// Its directory is an older one than the node had: it lacks what was acknowledged since, and its acceptor's votes. By how
    /// much; `None`: it is from before the node's first words.
    #[error("node {node} came back with a directory from before: {} (restore the newest, or accept the loss: --accept-loss)", missing(*behind_ms))]
    WentBack { node: NodeId, behind_ms: Option<u64> },
    /// A wiped directory, or a foreign node: replacing a member is a command, not an accident.
    #[error("{address} belongs to member {member:?}, whose directory this is not")]
    StrangerAtMembersAddress { address: String, member: String },
    /// The side that connected wanted somebody else.
    #[error("{address} was expected to be node {expected} and is {found}")]
    AnotherNode { address: String, expected: NodeId, found: NodeId },
    /// A node that reached itself.
    #[error("this is the node itself")]
    Yourself,
    #[error("it speaks protocol versions up to {theirs}; {ours} is the oldest spoken here")]
    ProtocolTooOld { ours: u8, theirs: u8 },
    #[error("it speaks protocol versions from {theirs}; {ours} is the newest spoken here")]
    ProtocolTooNew { ours: u8, theirs: u8 },
    /// What it said first was not a hello, or no possible one.
    #[error("it did not introduce itself in a way that can be understood")]
    Malformed,
}

/// Asks for a sign of life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// How far the clock of the one who asks is leased: durable, so that its directory never says less. `None`: no member
    /// has welcomed it yet.
    pub leased: Option<Timestamp>,
}

/// In place of an answer. Only `Lost` leaves open whether the verb was obeyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// The room that should have obeyed has too much in hand.
    Overloaded { path: String, depth: u64, cap: u64 },
    /// Nobody obeys this verb here.
    UnknownVerb { verb: u16 },
    /// The deadline had passed when the verb arrived.
    Expired,
    /// The room gave no answer, or one that could not be sent.
    Lost,
}

fn missing(behind_ms: Option<u64>) -> String {
    behind_ms.map_or("it had told nobody anything yet".into(), |behind| format!("its last {behind} ms are missing"))
}

impl Introduction {
    /// Whether its texts are within their bounds and not empty.
    pub fn is_sound(&self) -> bool {
        let texts = [&self.cluster_name, &self.name, &self.address];
        texts.iter().all(|text| (1..=TEXT_BYTES_MAX).contains(&text.len()))
    }
}

impl Verb for Hello {
    const CODE: u16 = 0x0101;
    const NAME: &'static str = "hello";
    const LANE: Lane = Lane::Urgent;
    type Answer = Result<Welcome, Refusal>;
}

impl Verb for Ping {
    const CODE: u16 = 0x0102;
    const NAME: &'static str = "ping";
    const LANE: Lane = Lane::Urgent;
    type Answer = ();
}
