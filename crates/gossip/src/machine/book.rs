//! The book: what everybody says, compared with a peer's by digests and sent in messages of bounded size.
//!
//! Nothing starves: of a message's room one half goes to those whom the peer is furthest behind with, the rest by turns.
//! A node's news go whole or not at all, and one node's fit any message, so that no number ever covers a gap.

use super::said::{Learned, Said, Unsound};
use crate::limits;
use kula_types::{Mono, NodeId};
use kula_wire::{
    encode,
    verbs::gossip::{Delta, Digest},
};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) struct Book {
    me: NodeId,
    said: BTreeMap<NodeId, Said>,
    /// Nodes that were struck out, with the process that is not to come back by rumour, and until when.
    struck: BTreeMap<NodeId, (u64, Mono)>,
    /// Whose turn it is in the second half of a message.
    turn: NodeId,
    /// Nodes that had no room.
    pub refused: u64,
}

/// Somebody's news that a peer lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lacking {
    node: NodeId,
    base: u64,
    /// How many sayings the peer is behind; all of them, for a process it does not know.
    gap: u64,
}

impl Book {
    pub fn new(me: Said) -> Self {
        let node = me.introduction().node;
        Book { me: node, said: BTreeMap::from([(node, me)]), struck: BTreeMap::new(), turn: node, refused: 0 }
    }

    #[allow(clippy::expect_used, reason = "our own entry is made with the book and never struck")]
    pub fn mine(&self) -> &Said {
        self.said.get(&self.me).expect("a node says something itself")
    }

    #[allow(clippy::expect_used, reason = "our own entry is made with the book and never struck")]
    pub fn mine_mut(&mut self) -> &mut Said {
        self.said.get_mut(&self.me).expect("a node says something itself")
    }

    pub fn get(&self, node: NodeId) -> Option<&Said> {
        self.said.get(&node)
    }

    /// Everybody, this node among them.
    pub fn all(&self) -> impl Iterator<Item = (NodeId, &Said)> {
        self.said.iter().map(|(node, said)| (*node, said))
    }

    pub fn digests(&self) -> Vec<Digest> {
        self.said.values().map(Said::digest).collect()
    }

    /// Compares with a peer's whole list: what it lacks, and what we want of it.
    pub fn compare(&mut self, theirs: &[Digest], now: Mono) -> (Vec<Lacking>, Vec<Digest>) {
        let listed: BTreeSet<NodeId> = theirs.iter().map(|digest| digest.node).collect();
        let unlisted = self.said.values().filter(|said| !listed.contains(&said.introduction().node));
        let mut lacking: Vec<Lacking> = unlisted.map(Lacking::all_of).collect();
        lacking.extend(self.lacking(theirs));
        let mut wants = Vec::new();
        let mut room = limits::NODES_MAX - self.said.len();
        for their in theirs.iter().filter(|digest| digest.node != self.me) {
            match self.said.get(&their.node).map(Said::digest) {
                Some(own) if (own.generation, own.version) < (their.generation, their.version) => wants.push(own),
                Some(_) => {}
                None if self.is_struck(their.node, their.generation, now) => {}
                None if room == 0 => self.refused += 1,
                None => {
                    room -= 1;
                    wants.push(Digest { node: their.node, generation: 0, version: 0 });
                }
            }
        }
        (lacking, wants)
    }

    /// What somebody who has these lacks, of these.
    pub fn lacking(&self, theirs: &[Digest]) -> Vec<Lacking> {
        let behind = |their: &Digest| {
            let said = self.said.get(&their.node)?;
            if their.generation < said.generation {
                return Some(Lacking::all_of(said));
            }
            let behind = their.generation == said.generation && their.version < said.version;
            behind.then(|| Lacking { node: their.node, base: their.version, gap: said.version - their.version })
        };
        theirs.iter().filter_map(behind).collect()
    }

    /// As much of it as fits `room` bytes.
    pub fn pack(&mut self, mut lacking: Vec<Lacking>, room: usize) -> Vec<Delta> {
        lacking.sort_by_key(|lack| (std::cmp::Reverse(lack.gap), lack.node));
        let mut packed = Packed { left: room / 2, deltas: Vec::new() };
        let at = lacking.iter().position(|lack| !packed.take(self, lack)).unwrap_or(lacking.len());
        let mut rest = lacking.split_off(at);
        packed.left += room - room / 2;
        // The others by turns, from where the last message ended.
        rest.sort_by_key(|lack| (lack.node < self.turn, lack.node));
        if let Some(missed) = rest.iter().find(|lack| !packed.take(self, lack)) {
            self.turn = missed.node;
        }
        packed.deltas
    }

    /// Joins a delta that keeps its bounds. Not for our own news.
    pub fn join(&mut self, delta: Delta, now: Mono) -> Result<Learned, Unsound> {
        let (node, generation) = (delta.node, delta.generation);
        if let Some(known) = self.said.get_mut(&node) {
            return match known.generation {
                newer if newer > generation => Ok(Learned::default()),
                same if same == generation => known.join(delta),
                _ => {
                    *known = Said::first(delta)?;
                    Ok(Learned::all_of(known))
                }
            };
        }
        if self.is_struck(node, generation, now) {
            return Ok(Learned::default());
        }
        if self.said.len() >= limits::NODES_MAX {
            self.refused += 1;
            return Ok(Learned::default());
        }
        let said = Said::first(delta)?;
        let learned = Learned::all_of(&said);
        self.said.insert(node, said);
        self.struck.remove(&node);
        Ok(learned)
    }

    /// Forgets a node: what it said so far does not come back by rumour before `until`.
    pub fn strike(&mut self, node: NodeId, until: Mono, now: Mono) {
        assert!(node != self.me, "a node does not forget itself");
        self.struck.retain(|_, (_, end)| *end > now);
        if self.struck.len() >= limits::NODES_MAX {
            self.struck.pop_first();
        }
        if let Some(said) = self.said.remove(&node) {
            self.struck.insert(node, (said.generation, until));
        }
    }

    fn is_struck(&self, node: NodeId, generation: u64, now: Mono) -> bool {
        self.struck.get(&node).is_some_and(|(struck, until)| generation <= *struck && now < *until)
    }
}

impl Lacking {
    fn all_of(said: &Said) -> Self {
        Lacking { node: said.introduction().node, base: 0, gap: u64::MAX }
    }
}

struct Packed {
    left: usize,
    deltas: Vec<Delta>,
}

impl Packed {
    /// False: it does not fit any more.
    fn take(&mut self, book: &Book, lack: &Lacking) -> bool {
        let Some(delta) = book.get(lack.node).map(|said| said.since(lack.base)) else { return true };
        let Ok(bytes) = encode(&delta).map(|body| body.len()) else { return true };
        assert!(bytes <= limits::SAID_BYTES_MAX + limits::DELTA_HEAD_BYTES_MAX, "what a node says is bounded: {bytes}");
        let fits = bytes <= self.left;
        if fits {
            self.left -= bytes;
            self.deltas.push(delta);
        }
        fits
    }
}
