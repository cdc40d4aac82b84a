//! The proposer: has this node's change decided as the next version, on top of whatever others committed first.
//!
//! One attempt: a majority promises, the ring accepted last among them (else this node's own) is sent to be accepted, a
//! majority accepts. So a proposer that finds somebody's ring completes it and then begins anew, one version later. An
//! attempt that others got in the way of rests for a random while. A change that is so already is answered once a
//! majority promised and has nothing newer.

use super::{CommitId, Effect, Machine, Then, Waiting, Why};
use crate::{RingChange, RingError, limits, state};
use kula_placement::Ring;
use kula_types::{Mono, NodeId};
use kula_wire::verbs::ring::{Accept, Accepted, Ballot, Objection, Prepare, Prepared, Vote};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Who wants a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum By {
    Commit(CommitId),
    /// This node: its name and address.
    Myself,
}

pub(super) struct Proposal {
    by: By,
    change: RingChange,
    deadline: Mono,
    attempts: u32,
    stage: Stage,
    round: Round,
    /// A ring made by this change that somebody, this node included, accepted: until its version is decided it may be.
    ours: Option<Arc<Ring>>,
    /// The most members that took part in one attempt, this one included.
    answered: usize,
}

enum Stage {
    /// The next attempt is due.
    Due,
    /// This node's own promise is being stored.
    Promising,
    /// Who promised, and what they had accepted.
    Preparing {
        promised: BTreeMap<NodeId, Option<Vote>>,
    },
    /// This node's own vote is being stored. `own`: for a ring that its own change makes.
    Voting {
        own: bool,
    },
    Accepting {
        ring: Arc<Ring>,
        accepted: BTreeSet<NodeId>,
    },
    /// What was decided is being stored.
    Deciding,
    Resting {
        until: Mono,
    },
}

/// One attempt.
struct Round {
    ballot: Ballot,
    until: Mono,
    /// Who said anything, this node included.
    met: BTreeSet<NodeId>,
    /// Who will not take part in it any more.
    failed: BTreeSet<NodeId>,
    /// Who was behind and was given the ring in force.
    helped: BTreeSet<NodeId>,
}

impl Machine {
    /// Begins a change; its answer, if it is too late for it.
    pub(super) fn propose(
        &mut self,
        now: Mono,
        Waiting { by, change, deadline }: Waiting,
        effects: &mut Vec<Effect>,
    ) -> Option<Result<Arc<Ring>, RingError>> {
        if now >= deadline {
            return Some(Err(RingError::Contested));
        }
        effects.push(Effect::Wake { after: deadline.since(now) });
        let round = self.round(now);
        self.proposal =
            Some(Proposal { by, change, deadline, attempts: 0, stage: Stage::Due, round, ours: None, answered: 0 });
        self.attempt(now, effects);
        None
    }

    fn round(&self, now: Mono) -> Round {
        let ballot = Ballot { round: self.round_highest.saturating_add(1), node: self.me.id };
        let until = now.after(limits::ASK_WITHIN);
        let nobody = BTreeSet::new;
        Round { ballot, until, met: BTreeSet::from([self.me.id]), failed: nobody(), helped: nobody() }
    }

    /// What time makes due.
    pub(super) fn go_on_with_proposal(&mut self, now: Mono, roll: f64, effects: &mut Vec<Effect>) {
        let Some(proposal) = &self.proposal else { return };
        let is_late = now >= proposal.round.until;
        match proposal.stage {
            _ if self.fenced || now >= proposal.deadline => self.give_up(now, effects),
            Stage::Due => self.attempt(now, effects),
            Stage::Resting { until } if now >= until => self.attempt(now, effects),
            Stage::Preparing { .. } | Stage::Accepting { .. } if is_late => self.rest(now, roll, effects),
            Stage::Preparing { .. } | Stage::Accepting { .. } | Stage::Resting { .. } => (),
            Stage::Promising | Stage::Voting { .. } | Stage::Deciding => panic!("the disk has not answered"),
        }
    }

    /// A new attempt begins with this node's own promise: durable, so that no ballot is ever used twice.
    fn attempt(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        let round = self.round(now);
        let Ok(acceptor) = self.acceptor.prepare(round.ballot) else {
            panic!("a ballot of a round above all that were met is above all promises")
        };
        if let Some(proposal) = &mut self.proposal {
            (proposal.round, proposal.stage) = (round, Stage::Promising);
            self.store_ballots(acceptor, Then::AskToPrepare, effects);
        }
    }

    pub(super) fn ask_to_prepare(&mut self, now: Mono, roll: f64, effects: &mut Vec<Effect>) {
        let own_vote = self.acceptor.vote.clone();
        let (others, me) = (self.others(), self.me.id);
        let Some(proposal) = &mut self.proposal else { return };
        proposal.stage = Stage::Preparing { promised: BTreeMap::from([(me, own_vote)]) };
        for to in others {
            self.send_prepare(to, effects);
        }
        effects.push(Effect::Wake { after: limits::ASK_WITHIN });
        self.check_round(now, roll, effects);
    }

    pub(super) fn ask_to_accept(&mut self, now: Mono, roll: f64, ring: Arc<Ring>, effects: &mut Vec<Effect>) {
        let (others, me) = (self.others(), self.me.id);
        let Some(proposal) = &mut self.proposal else { return };
        if let Stage::Voting { own: true } = proposal.stage {
            proposal.ours = Some(ring.clone());
        }
        proposal.stage = Stage::Accepting { ring, accepted: BTreeSet::from([me]) };
        proposal.round.until = now.after(limits::ASK_WITHIN);
        proposal.round.failed.clear();
        for to in others {
            self.send_accept(to, effects);
        }
        effects.push(Effect::Wake { after: limits::ASK_WITHIN });
        self.check_round(now, roll, effects);
    }

    fn send_prepare(&self, to: NodeId, effects: &mut Vec<Effect>) {
        if let Some(Proposal { round, .. }) = &self.proposal {
            let (cluster, version) = (self.ring.cluster, self.ring.version + 1);
            effects.push(Effect::Prepare { to, prepare: Prepare { cluster, version, ballot: round.ballot } });
        }
    }

    /// Sends what this node itself has accepted.
    fn send_accept(&self, to: NodeId, effects: &mut Vec<Effect>) {
        if let Some(Vote { ballot, ring }) = self.acceptor.vote.clone() {
            let (cluster, version) = (self.ring.cluster, self.ring.version + 1);
            effects.push(Effect::Accept { to, accept: Accept { cluster, version, ballot, ring } });
        }
    }

    pub(super) fn prepared(
        &mut self,
        now: Mono,
        roll: f64,
        (from, version, ballot): (NodeId, u64, Ballot),
        answer: Option<Prepared>,
        effects: &mut Vec<Effect>,
    ) {
        if !self.is_of_this_round(from, version, ballot) {
            return;
        }
        let Some(Proposal { stage: Stage::Preparing { promised }, round, .. }) = &mut self.proposal else { return };
        match answer {
            None => drop(round.failed.insert(from)),
            Some(Prepared::Promised { vote }) => {
                round.met.insert(from);
                promised.insert(from, vote);
            }
            Some(Prepared::No(objection)) => {
                if self.objected(from, objection, effects) {
                    self.send_prepare(from, effects);
                }
            }
        }
        self.check_round(now, roll, effects);
    }

    pub(super) fn accepted(
        &mut self,
        now: Mono,
        roll: f64,
        (from, version, ballot): (NodeId, u64, Ballot),
        answer: Option<Accepted>,
        effects: &mut Vec<Effect>,
    ) {
        if !self.is_of_this_round(from, version, ballot) {
            return;
        }
        let Some(Proposal { stage: Stage::Accepting { accepted, .. }, round, .. }) = &mut self.proposal else { return };
        match answer {
            None => drop(round.failed.insert(from)),
            Some(Accepted::Yes) => {
                round.met.insert(from);
                accepted.insert(from);
            }
            Some(Accepted::No(objection)) => {
                if self.objected(from, objection, effects) {
                    self.send_accept(from, effects);
                }
            }
        }
        self.check_round(now, roll, effects);
    }

    fn is_of_this_round(&self, from: NodeId, version: u64, ballot: Ballot) -> bool {
        let round = self.proposal.as_ref().map(|proposal| proposal.round.ballot);
        version == self.ring.version + 1 && round == Some(ballot) && self.ring.node(from).is_some()
    }

    /// A member does not take part; whether it is to be asked again.
    fn objected(&mut self, from: NodeId, objection: Objection, effects: &mut Vec<Effect>) -> bool {
        let Some(Proposal { round, .. }) = &mut self.proposal else { return false };
        round.met.insert(from);
        match objection {
            Objection::Promised { ballot } => {
                round.failed.insert(from);
                self.round_highest = self.round_highest.max(ballot.round);
            }
            Objection::Decided { ring } => {
                round.failed.insert(from);
                self.heard(from, &ring.0, effects);
            }
            // The ring goes ahead on the same connection.
            Objection::Behind { .. } if round.helped.insert(from) => {
                self.teach_one(from, effects);
                return true;
            }
            Objection::Behind { .. } | Objection::Stranger | Objection::NotKept => {
                round.failed.insert(from);
            }
        }
        false
    }

    fn check_round(&mut self, now: Mono, roll: f64, effects: &mut Vec<Effect>) {
        // A newer ring was heard of: this attempt is over.
        if self.storing.is_some() {
            return;
        }
        let (majority, members) = (self.majority(), self.ring.nodes.len());
        let Some(proposal) = &mut self.proposal else { return };
        proposal.answered = proposal.answered.max(proposal.round.met.len());
        let is_hopeless = members - proposal.round.failed.len() < majority;
        match &proposal.stage {
            Stage::Preparing { promised } if promised.len() >= majority => {
                let votes = promised.values().flatten();
                let last = votes.max_by_key(|vote| vote.ballot).cloned();
                self.choose(now, roll, last, effects);
            }
            Stage::Accepting { ring, accepted } if accepted.len() >= majority => {
                let ring = ring.clone();
                proposal.stage = Stage::Deciding;
                self.store(ring, Why::Decided, effects);
            }
            Stage::Preparing { .. } | Stage::Accepting { .. } if is_hopeless => self.rest(now, roll, effects),
            Stage::Preparing { .. } | Stage::Accepting { .. } => (),
            Stage::Due | Stage::Promising | Stage::Voting { .. } | Stage::Deciding | Stage::Resting { .. } => (),
        }
    }

    /// A majority promised: what they accepted last may be decided already, so it goes before this node's own change.
    fn choose(&mut self, now: Mono, roll: f64, last: Option<Vote>, effects: &mut Vec<Effect>) {
        let Some(proposal) = &mut self.proposal else { return };
        let (ring, own) = match last {
            Some(vote) => match state::from_bytes(&vote.ring.0) {
                Ok(ring) if ring.version == self.ring.version + 1 => (ring, false),
                // Whoever votes has read the ring; a member that lies cannot be helped.
                Ok(_) | Err(_) => return self.rest(now, roll, effects),
            },
            None => match proposal.change.apply(&self.ring) {
                Ok(Some(next)) => (next, true),
                Ok(None) => return self.finish(now, Ok(self.ring.clone()), effects),
                Err(error) => return self.finish(now, Err(error), effects),
            },
        };
        let bytes = match state::to_bytes(&ring) {
            Ok(bytes) if bytes.len() <= limits::RING_BYTES_MAX => bytes,
            Ok(bytes) => {
                let error = RingError::TooLarge { bytes: bytes.len(), max: limits::RING_BYTES_MAX };
                return self.finish(now, Err(error), effects);
            }
            Err(error) => return self.finish(now, Err(error), effects),
        };
        match self.acceptor.accept(proposal.round.ballot, bytes) {
            Ok(acceptor) => {
                proposal.stage = Stage::Voting { own };
                self.store_ballots(acceptor, Then::AskToAccept(Arc::new(ring)), effects);
            }
            // Somebody else asked this node in the meantime.
            Err(promised) => {
                self.round_highest = self.round_highest.max(promised.round);
                self.rest(now, roll, effects);
            }
        }
    }

    pub(super) fn own_vote_failed(&mut self, now: Mono, roll: f64, error: RingError, effects: &mut Vec<Effect>) {
        match &self.proposal {
            Some(proposal) if proposal.ours.is_none() || error.fences() => self.finish(now, Err(error), effects),
            Some(_) | None => self.rest(now, roll, effects),
        }
    }

    fn rest(&mut self, now: Mono, roll: f64, effects: &mut Vec<Effect>) {
        let Some(proposal) = &mut self.proposal else { return };
        let doubled = limits::REST_FIRST.saturating_mul(1 << proposal.attempts.min(8));
        let after = doubled.min(limits::REST_MAX).mul_f64(0.5 + roll.clamp(0.0, 1.0));
        proposal.attempts += 1;
        proposal.stage = Stage::Resting { until: now.after(after) };
        effects.push(Effect::Wake { after });
    }

    /// Another ring is in force: the change was made, or is begun anew on top of it.
    pub(super) fn ring_changed(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        let Some(mut proposal) = self.proposal.take() else { return };
        let answer = match (proposal.ours.take(), proposal.change.apply(&self.ring)) {
            (Some(ours), _) if *ours == *self.ring => Some(Ok(self.ring.clone())),
            // The version that this change was sent for was passed by.
            (Some(ours), Ok(Some(_)) | Err(_)) if ours.version < self.ring.version => {
                Some(Err(RingError::Undecided { need: self.majority(), answered: proposal.answered }))
            }
            (_, Err(error)) => Some(Err(error)),
            (_, Ok(_)) => None,
        };
        match answer {
            Some(answer) => self.answer(proposal.by, now, answer, effects),
            None => {
                proposal.stage = Stage::Due;
                self.proposal = Some(proposal);
            }
        }
    }

    /// The time for this change is up, or the node's.
    fn give_up(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        let need = self.majority();
        let Some(Proposal { ours, answered, .. }) = &self.proposal else { return };
        let answered = *answered;
        let error = match ours {
            Some(_) => RingError::Undecided { need, answered },
            None if self.fenced => RingError::Fenced,
            None if answered < need => RingError::NoMajority { need, answered },
            None => RingError::Contested,
        };
        self.finish(now, Err(error), effects);
    }

    pub(super) fn finish(&mut self, now: Mono, answer: Result<Arc<Ring>, RingError>, effects: &mut Vec<Effect>) {
        if let Some(proposal) = self.proposal.take() {
            self.answer(proposal.by, now, answer, effects);
        }
    }
}
