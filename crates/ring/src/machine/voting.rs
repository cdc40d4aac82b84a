//! The voter: what this member promises and accepts when others propose. Durable before it is told.

use super::{AskId, Effect, Machine, Then, Told};
use crate::{adopt, state};
use kula_fault::{Site, buggify};
use kula_types::{ClusterId, NodeId};
use kula_wire::verbs::ring::{Accept, Accepted, Ballot, Objection, Prepare, Prepared};

impl Machine {
    pub(super) fn asked_to_prepare(&mut self, id: AskId, from: NodeId, prepare: &Prepare, effects: &mut Vec<Effect>) {
        let Prepare { cluster, version, ballot } = *prepare;
        let outcome = match self.objection(from, cluster, version, ballot, effects) {
            Some(objection) => Err(objection),
            None => self.acceptor.prepare(ballot).map_err(|ballot| Objection::Promised { ballot }),
        };
        let acceptor = match outcome {
            Ok(acceptor) => acceptor,
            Err(objection) => {
                effects.push(Effect::Reply { id, reply: Told::Prepared(Prepared::No(objection)) });
                return;
            }
        };
        let reply = Told::Prepared(Prepared::Promised { vote: acceptor.vote.clone() });
        // Promised before, and durable.
        if acceptor == self.acceptor {
            effects.push(Effect::Reply { id, reply });
            return;
        }
        self.store_ballots(acceptor, Then::Reply(id, reply), effects);
    }

    pub(super) fn asked_to_accept(&mut self, id: AskId, from: NodeId, accept: Accept, effects: &mut Vec<Effect>) {
        let Accept { cluster, version, ballot, ring } = accept;
        let outcome = match self.objection(from, cluster, version, ballot, effects) {
            Some(objection) => Err(objection),
            None if !self.could_be_next(&ring.0) => Err(Objection::Stranger),
            None => self.acceptor.accept(ballot, ring.0).map_err(|ballot| Objection::Promised { ballot }),
        };
        match outcome {
            Ok(acceptor) if acceptor == self.acceptor => {
                effects.push(Effect::Reply { id, reply: Told::Accepted(Accepted::Yes) });
            }
            Ok(acceptor) => {
                self.store_ballots(acceptor, Then::Reply(id, Told::Accepted(Accepted::Yes)), effects);
            }
            Err(objection) => {
                effects.push(Effect::Reply { id, reply: Told::Accepted(Accepted::No(objection)) });
            }
        }
    }

    /// Why this node has no vote to give on that version, whatever it promised.
    fn objection(
        &mut self,
        from: NodeId,
        cluster: ClusterId,
        version: u64,
        ballot: Ballot,
        effects: &mut Vec<Effect>,
    ) -> Option<Objection> {
        let next = self.ring.version + 1;
        if self.fenced || buggify(Site::BallotNotKept) {
            return Some(Objection::NotKept);
        }
        if !self.ring.is_none() && cluster != self.ring.cluster {
            return Some(Objection::Stranger);
        }
        if version > next || self.ring.is_none() {
            self.seen(from, Some(version.saturating_sub(1)), effects);
            return Some(Objection::Behind { have: self.ring.version });
        }
        if ballot.node != from || self.ring.node(from).is_none() {
            return Some(Objection::Stranger);
        }
        (version < next).then(|| Objection::Decided { ring: self.ring_bytes().into() })
    }

    /// Whether these bytes are a ring that could follow the one in force.
    fn could_be_next(&self, bytes: &[u8]) -> bool {
        state::from_bytes(bytes).is_ok_and(|ring| {
            ring.version == self.ring.version + 1 && adopt::judge(&self.ring, self.me.id, &ring).is_ok()
        })
    }
}

/// The answer when the disk took nothing.
pub(super) fn not_kept(told: &Told) -> Told {
    match told {
        Told::Prepared(_) => Told::Prepared(Prepared::No(Objection::NotKept)),
        Told::Accepted(_) => Told::Accepted(Accepted::No(Objection::NotKept)),
        Told::Pulled(_) => panic!("a ring is given without storing anything"),
    }
}
