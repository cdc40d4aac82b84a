//! What this node believes of everybody: published whole, read by anyone without a message.

use crate::FactKey;
use bytes::Bytes;
use kula_types::{Map, Mono, NodeId};
use kula_wire::verbs::{gossip::About, link::Introduction};
use std::collections::BTreeMap;

/// How a node is, as this node sees it. Gates display, the pace of hints and nothing about data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It was heard, and nobody suspects it.
    Up,
    /// It answers late here.
    Slow,
    /// Somebody suspects it, or it has not been heard here yet.
    Suspect,
    /// Enough independent sources lost it, or it left.
    Down,
}

/// Everybody this node knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Membership {
    pub me: NodeId,
    /// This node hears fewer than half of the electorate: it declares nobody down.
    pub cut_off: bool,
    /// This node among them.
    pub nodes: BTreeMap<NodeId, PeerView>,
}

/// One node, as this node sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerView {
    /// As it said when its process started: the ring it holds now is its fact `FactKey::RING`.
    pub introduction: Introduction,
    pub about: About,
    pub state: State,
    /// Since when it is in this state.
    pub since: Mono,
    /// Who suspects it, or did when it was declared down. In the order of ids.
    pub seen_by: Vec<NodeId>,
    /// This node's own probes fail.
    pub suspected_here: bool,
    /// It said that it stops.
    pub left: bool,
    pub refutation: u64,
    pub facts: Map<FactKey, Bytes>,
}

impl State {
    pub const ALL: [State; 4] = [State::Up, State::Slow, State::Suspect, State::Down];

    pub const fn name(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Slow => "slow",
            State::Suspect => "suspect",
            State::Down => "down",
        }
    }

    /// It answers.
    pub const fn is_up(self) -> bool {
        match self {
            State::Up | State::Slow => true,
            State::Suspect | State::Down => false,
        }
    }
}

impl PeerView {
    /// A node that is up and announces nothing.
    pub fn up(introduction: Introduction, about: About) -> Self {
        PeerView {
            introduction,
            about,
            state: State::Up,
            since: Mono::default(),
            seen_by: Vec::new(),
            suspected_here: false,
            left: false,
            refutation: 0,
            facts: Map::default(),
        }
    }

    /// The version of the ring it says it holds; 0 = none.
    pub fn ring_version(&self) -> u64 {
        let value = self.facts.get(&FactKey::RING).map(|value| <[u8; 8]>::try_from(&value[..]));
        value.and_then(Result::ok).map_or(0, u64::from_le_bytes)
    }
}

impl Membership {
    /// This node alone.
    pub fn alone(introduction: Introduction, about: About) -> Self {
        let me = introduction.node;
        Membership { me, cut_off: false, nodes: BTreeMap::from([(me, PeerView::up(introduction, about))]) }
    }

    pub fn get(&self, node: NodeId) -> Option<&PeerView> {
        self.nodes.get(&node)
    }

    /// What people call it; its id if it is unknown.
    pub fn name_of(&self, node: NodeId) -> String {
        self.nodes.get(&node).map_or_else(|| node.to_string(), |view| view.introduction.name.clone())
    }

    /// The version of the ring this node says it holds; 0: none, or an unknown node.
    pub fn ring_version_of(&self, node: NodeId) -> u64 {
        self.nodes.get(&node).map_or(0, PeerView::ring_version)
    }

    pub fn fact(&self, node: NodeId, key: FactKey) -> Option<&Bytes> {
        self.nodes.get(&node)?.facts.get(&key)
    }

    /// Known, and neither suspected by this node itself nor down. This node answers itself.
    pub fn is_trusted(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|view| !view.suspected_here && view.state != State::Down)
    }

    /// Who is up, this node among them, in the order of ids.
    pub fn up(&self) -> impl Iterator<Item = (NodeId, &PeerView)> {
        self.nodes.iter().filter(|(_, view)| view.state.is_up()).map(|(node, view)| (*node, view))
    }
}
