//! How a decided ring gets to who lacks it: told by its proposer, asked for by whoever hears of a higher version. Every
//! ring in force was decided, so versions may be skipped: numbers only grow.

use super::{AskId, Effect, Machine, Notice, Told, Why};
use crate::{NotAdopted, adopt, limits, state};
use kula_placement::Ring;
use kula_types::NodeId;
use kula_wire::verbs::ring::{Learn, PulledRing};
use std::sync::Arc;

impl Machine {
    /// Tells the other members of a ring that was decided.
    pub(super) fn teach(&self, ring: &Ring, effects: &mut Vec<Effect>) {
        let Ok(bytes) = state::to_bytes(ring) else { return };
        let others = ring.nodes.iter().map(|node| node.id).filter(|id| *id != self.me.id);
        effects.extend(others.map(|to| Effect::Learn { to, learn: Learn { ring: bytes.clone().into() } }));
    }

    pub(super) fn teach_one(&self, to: NodeId, effects: &mut Vec<Effect>) {
        effects.push(Effect::Learn { to, learn: Learn { ring: self.ring_bytes().into() } });
    }

    /// Asks whoever announces a newer ring.
    pub(super) fn look_for_newer(&mut self, effects: &mut Vec<Effect>) {
        let nodes = self.surroundings.nodes.clone();
        self.passed_over.retain(|id, _| nodes.iter().any(|neighbour| neighbour.node.id == *id));
        for neighbour in nodes.iter().filter(|neighbour| neighbour.up) {
            self.seen(neighbour.node.id, Some(neighbour.ring_version), effects);
        }
    }

    /// A node is said to have this version, or some newer one than ours.
    pub(super) fn seen(&mut self, node: NodeId, version: Option<u64>, effects: &mut Vec<Effect>) {
        let is_known = version.is_some_and(|version| {
            version <= self.ring.version || self.passed_over.get(&node).is_some_and(|(passed, _)| *passed >= version)
        });
        let has_room = self.pulling.len() < limits::PULLS_MAX;
        if !is_known && has_room && node != self.me.id && self.pulling.insert(node) {
            effects.push(Effect::Pull { from: node, have: self.ring.version });
        }
    }

    pub(super) fn pulled(&mut self, from: NodeId, answer: Option<PulledRing>, effects: &mut Vec<Effect>) {
        self.pulling.remove(&from);
        match answer {
            None | Some(PulledRing::Nothing) => (),
            Some(PulledRing::Newer { ring }) => self.heard(from, &ring.0, effects),
            Some(PulledRing::NotAMember { cluster, version, members }) => {
                let why = match self.ring.is_none() || cluster == self.ring.cluster {
                    true => NotAdopted::NotAMember { members },
                    false => NotAdopted::OtherCluster { found: cluster, ours: self.ring.cluster },
                };
                self.pass_over(from, version, why, effects);
            }
        }
    }

    /// Somebody has this ring: it is taken up if it is newer and this node's.
    pub(super) fn heard(&mut self, from: NodeId, bytes: &[u8], effects: &mut Vec<Effect>) {
        let ring = match state::from_bytes(bytes) {
            Ok(ring) => ring,
            Err(error) => {
                let why = NotAdopted::Malformed(error.to_string());
                effects.push(Effect::Notice { notice: Notice::NotAdopted { from, why } });
                return;
            }
        };
        match adopt::judge(&self.ring, self.me.id, &ring) {
            Ok(()) if self.fenced || self.storing.is_some() => (),
            Ok(()) => self.store(Arc::new(ring), Why::Learned, effects),
            Err(NotAdopted::NotNewer) => (),
            Err(why) => self.pass_over(from, ring.version, why, effects),
        }
    }

    /// Remembers a ring that is not this node's, so that it is asked for and spoken of once.
    fn pass_over(&mut self, from: NodeId, version: u64, why: NotAdopted, effects: &mut Vec<Effect>) {
        let before = self.passed_over.insert(from, (version, why.clone()));
        if before != Some((version, why.clone())) {
            effects.push(Effect::Notice { notice: Notice::NotAdopted { from, why } });
        }
    }

    pub(super) fn asked_for_ring(&mut self, id: AskId, from: NodeId, have: u64, effects: &mut Vec<Effect>) {
        // Secrets are in it: it is given to members only.
        let answer = if self.ring.version <= have {
            PulledRing::Nothing
        } else if self.ring.node(from).is_some() {
            PulledRing::Newer { ring: self.ring_bytes().into() }
        } else {
            PulledRing::NotAMember {
                cluster: self.ring.cluster,
                version: self.ring.version,
                members: self.ring.nodes.len() as u64,
            }
        };
        effects.push(Effect::Reply { id, reply: Told::Pulled(answer) });
    }
}
