//! The ring machine: versions one after the other, each decided once, durable before it is told.
//!
//! A version is decided by a majority of the members of the version before it (single-decree Paxos, one decree a number).
//! In a ring of one the member itself is that majority: its own disk decides. Time, dice, peers' words and the disk's
//! outcomes are arguments. After an effect that stores something its outcome is the next event, commits apart: so nothing
//! else is decided while the disk works. How the first ring comes is in `joining`, who proposes in `proposing`, who votes
//! in `voting`, how rings spread in `spreading`.

mod joining;
mod proposing;
mod spreading;
mod voting;

use crate::{Acceptor, Drawn, Join, JoinView, NotAdopted, RingChange, RingError, Surroundings, limits, state};
use bytes::Bytes;
use kula_placement::{Ring, RingNode};
use kula_types::{Mono, NodeId};
use kula_wire::verbs::ring::{Accept, Accepted, Ballot, Learn, Prepare, Prepared, PulledRing};
use proposing::{By, Proposal};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

/// Names a commit between the machine and its shell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CommitId(pub u64);

/// Names what a peer asked, between the machine and its shell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AskId(pub u64);

#[derive(Debug)]
pub enum Event {
    Commit {
        id: CommitId,
        change: RingChange,
    },
    /// Every `limits::TICK`, and more often while there is no ring.
    Tick {
        surroundings: Surroundings,
    },
    /// After `Effect::Wake`.
    Woken,
    /// A peer asks.
    Prepare {
        id: AskId,
        from: NodeId,
        prepare: Prepare,
    },
    Accept {
        id: AskId,
        from: NodeId,
        accept: Accept,
    },
    PullRing {
        id: AskId,
        from: NodeId,
        have: u64,
    },
    /// A peer says that this ring is in force.
    Learn {
        from: NodeId,
        ring: Bytes,
    },
    /// The answer to `Effect::Prepare`; none came if it is `None`.
    Prepared {
        from: NodeId,
        version: u64,
        ballot: Ballot,
        answer: Option<Prepared>,
    },
    /// The answer to `Effect::Accept`.
    Accepted {
        from: NodeId,
        version: u64,
        ballot: Ballot,
        answer: Option<Accepted>,
    },
    /// The answer to `Effect::Pull`.
    Pulled {
        from: NodeId,
        answer: Option<PulledRing>,
    },
    /// This peer is said to have a ring of this version, or some newer one.
    Seen {
        node: NodeId,
        version: Option<u64>,
    },
    /// What the last `Effect::Store` or `Effect::StoreBallots` wrote is durable, or not.
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
    /// Likewise.
    StoreBallots {
        acceptor: Acceptor,
    },
    /// This ring is in force.
    Publish {
        ring: Arc<Ring>,
    },
    Answer {
        id: CommitId,
        answer: Result<Arc<Ring>, RingError>,
    },
    /// Ask this member, for `limits::ASK_WITHIN`.
    Prepare {
        to: NodeId,
        prepare: Prepare,
    },
    Accept {
        to: NodeId,
        accept: Accept,
    },
    Learn {
        to: NodeId,
        learn: Learn,
    },
    Pull {
        from: NodeId,
        have: u64,
    },
    /// What a peer asked.
    Reply {
        id: AskId,
        reply: Told,
    },
    /// Say `Event::Woken` then.
    Wake {
        after: Duration,
    },
    View {
        view: JoinView,
    },
    Notice {
        notice: Notice,
    },
    /// The disk failed beside data: stop the node.
    Fence {
        cause: RingError,
    },
}

/// The answer to a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    Prepared(Prepared),
    Accepted(Accepted),
    Pulled(PulledRing),
}

/// What an operator should find in the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Notice {
    #[error("the ring that node {from} has is not taken up: {why}")]
    NotAdopted { from: NodeId, why: NotAdopted },
    /// The node goes on with what the ring says.
    #[error("the configuration of this node says otherwise than its ring: {0}")]
    MovesData(RingError),
    #[error("this node's name and address are not in its ring yet: {0}")]
    MyFacts(RingError),
    #[error("a ring heard of could not be kept: {0}")]
    NotKept(RingError),
    #[error("the first ring could not be formed: {0}")]
    NotFormed(RingError),
}

/// What a machine begins with.
pub struct Beginning {
    pub me: RingNode,
    pub join: Join,
    /// For ring 1.
    pub drawn: Drawn,
    /// Durable, or ring 0.
    pub ring: Arc<Ring>,
    /// As it was stored for the version after `ring`'s.
    pub acceptor: Acceptor,
}

pub struct Machine {
    me: RingNode,
    join: Join,
    drawn: Drawn,
    /// In force. Invariant: durable (or ring 0), and the last one published.
    ring: Arc<Ring>,
    /// Invariant: durable, and of the version after `ring`'s.
    acceptor: Acceptor,
    /// The highest round met for that version.
    round_highest: u64,
    proposal: Option<Proposal>,
    waiting: VecDeque<Waiting>,
    storing: Option<Storing>,
    surroundings: Surroundings,
    /// When it began to look around.
    began: Option<Mono>,
    pulling: BTreeSet<NodeId>,
    /// Rings that are not to be taken up: who has them, of which version.
    passed_over: BTreeMap<NodeId, (u64, NotAdopted)>,
    my_facts_at: Mono,
    view: JoinView,
    /// The disk failed: nothing is decided any more, the node is about to stop.
    fenced: bool,
}

struct Waiting {
    by: By,
    change: RingChange,
    deadline: Mono,
}

/// What the disk works on, and what comes after.
enum Storing {
    Ring { ring: Arc<Ring>, why: Why },
    Ballots { acceptor: Acceptor, then: Then },
}

enum Why {
    /// The only member decided it.
    Alone(CommitId),
    /// A majority did, for this node's proposal.
    Decided,
    Learned,
    Formed,
}

enum Then {
    Reply(AskId, Told),
    AskToPrepare,
    AskToAccept(Arc<Ring>),
}

impl Machine {
    pub fn new(beginning: Beginning) -> Machine {
        let Beginning { me, join, drawn, ring, acceptor } = beginning;
        assert!(acceptor.version == ring.version + 1, "votes are on the next version");
        Machine {
            view: JoinView { expect: join.expect, ..JoinView::default() },
            round_highest: acceptor.round(),
            me,
            join,
            drawn,
            ring,
            acceptor,
            proposal: None,
            waiting: VecDeque::new(),
            storing: None,
            surroundings: Surroundings::default(),
            began: None,
            pulling: BTreeSet::new(),
            passed_over: BTreeMap::new(),
            my_facts_at: Mono::default(),
            fenced: false,
        }
    }

    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// `roll`: a number from 0 to 1, by which proposers that got into each other's way draw apart.
    pub fn step(&mut self, now: Mono, roll: f64, event: Event, effects: &mut Vec<Effect>) {
        let awaited = matches!(event, Event::Stored { .. } | Event::Commit { .. });
        assert!(awaited || self.storing.is_none(), "the disk's outcome comes before other events");
        if self.began.is_none() {
            self.began = Some(now);
            self.compare_my_place(effects);
        }
        match event {
            Event::Commit { id, change } => self.enqueue(now, id, change, effects),
            Event::Tick { surroundings } => self.tick(now, surroundings, effects),
            Event::Woken => (),
            Event::Prepare { id, from, prepare } => self.asked_to_prepare(id, from, &prepare, effects),
            Event::Accept { id, from, accept } => self.asked_to_accept(id, from, accept, effects),
            Event::PullRing { id, from, have } => self.asked_for_ring(id, from, have, effects),
            Event::Learn { from, ring } => self.heard(from, &ring, effects),
            Event::Prepared { from, version, ballot, answer } => {
                self.prepared(now, roll, (from, version, ballot), answer, effects);
            }
            Event::Accepted { from, version, ballot, answer } => {
                self.accepted(now, roll, (from, version, ballot), answer, effects);
            }
            Event::Pulled { from, answer } => self.pulled(from, answer, effects),
            Event::Seen { node, version } => self.seen(node, version, effects),
            Event::Stored { outcome } => self.stored(now, roll, outcome, effects),
        }
        if self.storing.is_none() {
            self.go_on(now, roll, effects);
        }
    }

    fn is_sole_member(&self) -> bool {
        self.ring.nodes.len() == 1
    }

    /// How many members decide.
    fn majority(&self) -> usize {
        self.ring.nodes.len() / 2 + 1
    }

    fn others(&self) -> Vec<NodeId> {
        self.ring.nodes.iter().map(|node| node.id).filter(|id| *id != self.me.id).collect()
    }

    fn ring_bytes(&self) -> Bytes {
        match state::to_bytes(&self.ring) {
            Ok(bytes) => bytes,
            Err(error) => panic!("a ring in force has a stored form: {error}"),
        }
    }

    fn tick(&mut self, now: Mono, surroundings: Surroundings, effects: &mut Vec<Effect>) {
        self.surroundings = surroundings;
        self.look_for_newer(effects);
        if self.ring.is_none() {
            self.found(now, effects);
        } else {
            self.correct_my_facts(now);
        }
    }

    fn store(&mut self, ring: Arc<Ring>, why: Why, effects: &mut Vec<Effect>) {
        assert!(self.storing.is_none(), "one file at a time");
        assert!(ring.version > self.ring.version, "versions only grow");
        effects.push(Effect::Store { ring: ring.clone() });
        self.storing = Some(Storing::Ring { ring, why });
    }

    fn store_ballots(&mut self, acceptor: Acceptor, then: Then, effects: &mut Vec<Effect>) {
        assert!(self.storing.is_none(), "one file at a time");
        assert!(acceptor.version == self.ring.version + 1, "votes are on the next version");
        effects.push(Effect::StoreBallots { acceptor: acceptor.clone() });
        self.storing = Some(Storing::Ballots { acceptor, then });
    }

    fn stored(&mut self, now: Mono, roll: f64, outcome: Result<(), RingError>, effects: &mut Vec<Effect>) {
        if let Err(cause) = &outcome
            && cause.fences()
        {
            self.fenced = true;
            effects.push(Effect::Fence { cause: cause.clone() });
        }
        match (self.storing.take(), outcome) {
            (None, _) => panic!("only what was to be stored is reported as stored"),
            (Some(Storing::Ring { ring, why }), Ok(())) => self.take(now, ring, why, effects),
            (Some(Storing::Ring { ring, why }), Err(error)) => self.not_taken(now, &ring, why, error, effects),
            (Some(Storing::Ballots { acceptor, then }), Ok(())) => {
                self.round_highest = self.round_highest.max(acceptor.round());
                self.acceptor = acceptor;
                match then {
                    Then::Reply(id, reply) => effects.push(Effect::Reply { id, reply }),
                    Then::AskToPrepare => self.ask_to_prepare(now, roll, effects),
                    Then::AskToAccept(ring) => self.ask_to_accept(now, roll, ring, effects),
                }
            }
            (Some(Storing::Ballots { then, .. }), Err(error)) => match then {
                Then::Reply(id, told) => effects.push(Effect::Reply { id, reply: voting::not_kept(&told) }),
                Then::AskToPrepare | Then::AskToAccept(_) => self.own_vote_failed(now, roll, error, effects),
            },
        }
    }

    /// A ring is durable: it is in force.
    fn take(&mut self, now: Mono, ring: Arc<Ring>, why: Why, effects: &mut Vec<Effect>) {
        assert!(ring.version > self.ring.version, "versions only grow");
        let first = self.ring.is_none();
        self.ring = ring.clone();
        self.acceptor = Acceptor::of(ring.version + 1);
        self.round_highest = 0;
        effects.push(Effect::Publish { ring: ring.clone() });
        if first {
            self.show(String::new(), effects);
            self.compare_my_place(effects);
        }
        match why {
            Why::Alone(id) => effects.push(Effect::Answer { id, answer: Ok(ring) }),
            Why::Decided | Why::Formed => self.teach(&ring, effects),
            Why::Learned => (),
        }
        self.ring_changed(now, effects);
    }

    fn not_taken(&mut self, now: Mono, ring: &Ring, why: Why, error: RingError, effects: &mut Vec<Effect>) {
        match why {
            Why::Alone(id) => effects.push(Effect::Answer { id, answer: Err(error) }),
            Why::Formed => {
                effects.push(Effect::Notice { notice: Notice::NotFormed(error.clone()) });
                self.show(format!("the first ring could not be formed: {error}"), effects);
            }
            Why::Learned => effects.push(Effect::Notice { notice: Notice::NotKept(error) }),
            // It is decided all the same: the others are told, and give it back when there is room.
            Why::Decided => {
                self.teach(ring, effects);
                let fallback = RingError::NotKept { version: ring.version };
                let error = if error.fences() { error } else { fallback };
                self.finish(now, Err(error), effects);
            }
        }
    }

    fn enqueue(&mut self, now: Mono, id: CommitId, change: RingChange, effects: &mut Vec<Effect>) {
        if self.waiting.len() >= limits::COMMITS_WAITING_MAX {
            let answer = Err(RingError::Busy { waiting: self.waiting.len() });
            effects.push(Effect::Answer { id, answer });
            return;
        }
        self.waiting.push_back(Waiting { by: By::Commit(id), change, deadline: now.after(limits::COMMIT_WITHIN) });
    }

    /// Goes on with the change that is under way, and takes up waiting ones until one needs the disk or the others.
    fn go_on(&mut self, now: Mono, roll: f64, effects: &mut Vec<Effect>) {
        self.go_on_with_proposal(now, roll, effects);
        while self.storing.is_none()
            && self.proposal.is_none()
            && let Some(next) = self.waiting.pop_front()
        {
            let by = next.by;
            if let Some(answer) = self.begin(now, next, effects) {
                self.answer(by, now, answer, effects);
            }
        }
    }

    /// Begins a change; its answer, if that is known at once.
    fn begin(
        &mut self,
        now: Mono,
        Waiting { by, change, deadline }: Waiting,
        effects: &mut Vec<Effect>,
    ) -> Option<Result<Arc<Ring>, RingError>> {
        if self.fenced {
            return Some(Err(RingError::Fenced));
        }
        if self.ring.is_none() {
            return Some(Err(RingError::NoRing));
        }
        let next = match change.apply(&self.ring) {
            Ok(next) => next,
            Err(error) => return Some(Err(error)),
        };
        match (self.is_sole_member(), by, next) {
            (true, _, None) => Some(Ok(self.ring.clone())),
            (true, By::Commit(id), Some(next)) => {
                self.store(Arc::new(next), Why::Alone(id), effects);
                None
            }
            // What is so already is asked for too: this node may be behind.
            (_, by, _) => self.propose(now, Waiting { by, change, deadline }, effects),
        }
    }

    fn answer(&mut self, by: By, now: Mono, answer: Result<Arc<Ring>, RingError>, effects: &mut Vec<Effect>) {
        match (by, answer) {
            (By::Commit(id), answer) => effects.push(Effect::Answer { id, answer }),
            (By::Myself, Ok(_)) => (),
            (By::Myself, Err(error)) => {
                if matches!(error, RingError::Refused(_)) {
                    self.my_facts_at = now.after(limits::MY_FACTS_REFUSED);
                }
                effects.push(Effect::Notice { notice: Notice::MyFacts(error) });
            }
        }
    }
}
