//! The ring machine: one change after the other, durable before it is published.
//!
//! A version is decided by a majority of the members of the version before it. In a ring of one the member itself is
//! that majority, so its own disk decides; with more members this version refuses to commit rather than pretend.

use crate::{RingError, limits};
use kula_placement::{KeyspaceSettings, Ring, RingFacts};
use kula_types::Name;
use std::{collections::VecDeque, sync::Arc};

/// A change of what the members agree on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RingChange {
    /// Sets how a keyspace is replicated, whether or not it had settings before.
    SetKeyspace { name: Name, settings: KeyspaceSettings },
    /// Forgets a keyspace's settings, if there are any.
    DropKeyspace { name: Name },
}

/// Names a commit between the machine and its shell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CommitId(pub u64);

#[derive(Debug)]
pub enum Event {
    Commit {
        id: CommitId,
        change: RingChange,
    },
    /// The ring of the last `Effect::Store` is durable, or not.
    Stored {
        outcome: Result<(), RingError>,
    },
}

#[derive(Debug)]
pub enum Effect {
    /// Make this durable, then say `Event::Stored`.
    Store {
        ring: Arc<Ring>,
    },
    /// This ring is in force.
    Publish {
        ring: Arc<Ring>,
    },
    Answer {
        id: CommitId,
        answer: Result<Arc<Ring>, RingError>,
    },
    /// The disk failed beside data: stop the node.
    Fence {
        cause: RingError,
    },
}

pub struct Machine {
    /// In force. Invariant: durable, and the last one published.
    ring: Arc<Ring>,
    storing: Option<(CommitId, Arc<Ring>)>,
    waiting: VecDeque<(CommitId, RingChange)>,
    /// The disk failed: nothing is decided any more, the node is about to stop.
    fenced: bool,
}

impl Machine {
    pub fn new(ring: Arc<Ring>) -> Machine {
        Machine { ring, storing: None, waiting: VecDeque::new(), fenced: false }
    }

    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    pub fn step(&mut self, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Commit { id, change } if self.waiting.len() < limits::COMMITS_WAITING_MAX => {
                self.waiting.push_back((id, change));
            }
            Event::Commit { id, .. } => {
                let answer = Err(RingError::Busy { waiting: self.waiting.len() });
                effects.push(Effect::Answer { id, answer });
            }
            Event::Stored { outcome } => self.stored(outcome, effects),
        }
        self.start_next(effects);
    }

    fn stored(&mut self, outcome: Result<(), RingError>, effects: &mut Vec<Effect>) {
        let storing = self.storing.take();
        assert!(storing.is_some(), "only what was to be stored is reported as stored");
        let Some((id, next)) = storing else { return };
        let answer = match outcome {
            Ok(()) => {
                assert!(next.version == self.ring.version + 1, "versions rise one by one");
                self.ring = next.clone();
                effects.push(Effect::Publish { ring: next.clone() });
                Ok(next)
            }
            Err(error) => {
                if error.may_have_changed() {
                    self.fenced = true;
                    effects.push(Effect::Fence { cause: error.clone() });
                }
                Err(error)
            }
        };
        effects.push(Effect::Answer { id, answer });
    }

    /// Takes up waiting changes until one needs the disk.
    fn start_next(&mut self, effects: &mut Vec<Effect>) {
        while self.storing.is_none()
            && let Some((id, change)) = self.waiting.pop_front()
        {
            match self.decide(change) {
                Ok(Some(next)) => {
                    let ring = Arc::new(next);
                    self.storing = Some((id, ring.clone()));
                    effects.push(Effect::Store { ring });
                }
                Ok(None) => effects.push(Effect::Answer { id, answer: Ok(self.ring.clone()) }),
                Err(error) => effects.push(Effect::Answer { id, answer: Err(error) }),
            }
        }
    }

    /// The ring after the change; `None` if it is so already.
    fn decide(&self, change: RingChange) -> Result<Option<Ring>, RingError> {
        if self.fenced {
            return Err(RingError::Fenced);
        }
        let mut keyspaces = self.ring.keyspaces.clone();
        match change {
            RingChange::SetKeyspace { name, settings } => keyspaces.extend([(name, settings)]),
            RingChange::DropKeyspace { name } => keyspaces.retain(|known, _| *known != name),
        }
        if keyspaces == self.ring.keyspaces {
            return Ok(None);
        }
        // A commit needs a majority of the members; this version's only voter is me.
        if self.ring.nodes.len() > 1 {
            return Err(RingError::NotThereYet { what: "a change agreed on by several members" });
        }
        let facts = RingFacts { version: self.ring.version + 1, keyspaces, ..self.ring.facts().clone() };
        Ok(Some(Ring::new(facts)?))
    }
}
