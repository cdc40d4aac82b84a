//! What hand-off obeys and what it shows.

use crate::error::HandoffError;
use bytes::Bytes;
use kula_actor::{Message, Reply};
use kula_types::{NodeId, Timestamp, Token};

/// Keep this write for an owner that missed it.
#[derive(Debug)]
pub struct StoreHint {
    pub target: NodeId,
    pub token: Token,
    /// As `Mutation::encode` made it.
    pub mutation: Bytes,
    /// `Ok` = synced here.
    pub reply: Reply<Result<(), HandoffError>>,
}

/// What is owed, by target; there within a second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HintCounts {
    /// In the order of node ids: those that anything is kept for, or was refused for since the start.
    pub targets: Vec<TargetHints>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetHints {
    pub target: NodeId,
    /// Hints not acknowledged yet.
    pub count: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// When the oldest was stored, by this node's wall clock; with a count of 0, when this was published.
    pub oldest: Timestamp,
    /// Hints refused since this node's start: `Full`, `DiskFull`, `Overloaded`.
    pub not_kept: u64,
}

impl HintCounts {
    /// All hints of this node.
    pub fn total(&self) -> u64 {
        self.targets.iter().map(|target| target.count).sum()
    }

    pub fn of(&self, target: NodeId) -> Option<&TargetHints> {
        self.targets.iter().find(|hints| hints.target == target)
    }
}

/// What one `Handoff::store` was given.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct StoreBatch {
    pub hints: Vec<StoreHint>,
    pub bytes: usize,
}

/// Sync what waits; then answer.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Drain {
    pub reply: Reply<()>,
}
