//! Gossip itself, pure: time and dice come in, messages to peers, news for people and events for rooms go out.
//!
//! `said` and `book` are Scuttlebutt, `spread` its conversations; `probes` and `watch` are SWIM; `verdict` and `judge` make
//! UP, SLOW, SUSPECT and DOWN of both. Everything a peer sends is checked before it is believed, and whatever grows with
//! the cluster is bounded by `limits::NODES_MAX`.

mod book;
mod judge;
mod probes;
mod said;
mod spread;
mod verdict;
mod watch;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod scripts;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod world;

pub use probes::{AskId, ProbeId};

use crate::{About, FactKey, GossipConfig, GossipEvent, Membership, limits, news::News};
use book::Book;
use bytes::Bytes;
use kula_types::{Mono, NodeId};
use kula_wire::verbs::{
    gossip::{Ack, Delta, Digest, Push, Saying, Syn},
    link::Introduction,
};
use probes::Probes;
use said::Said;
use spread::Spread;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use verdict::{Court, Opinion};

#[derive(Clone, Debug)]
pub enum Event {
    /// It is `due`.
    Tick,
    /// Our own connection to this node is up.
    Linked {
        node: NodeId,
    },
    Unlinked {
        node: NodeId,
    },
    /// A peer compares; it waits for an `Effect::Ack`.
    Syn {
        from: NodeId,
        ask: AskId,
        digests: Vec<Digest>,
    },
    Push {
        from: NodeId,
        deltas: Vec<Delta>,
    },
    /// A peer asked for a sign of life, and was given it.
    Probed {
        from: NodeId,
    },
    /// A peer asks whether we reach somebody; it waits for an `Effect::Helped`.
    Help {
        from: NodeId,
        target: NodeId,
        ask: AskId,
    },
    /// The answer to an `Effect::Syn`; `None`: there is none.
    Acked {
        to: NodeId,
        ack: Option<Ack>,
    },
    /// What came of an `Effect::Probe`.
    ProbeEnded {
        id: ProbeId,
        alive: bool,
    },
    /// What came of an `Effect::Help`.
    HelpEnded {
        id: ProbeId,
        helper: NodeId,
        heard: bool,
    },
    Announce {
        key: FactKey,
        value: Bytes,
    },
    Electorate {
        members: Vec<NodeId>,
    },
    Leave,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    Dial(String),
    Syn {
        to: NodeId,
        syn: Syn,
    },
    Ack {
        ask: AskId,
        ack: Ack,
    },
    Push {
        to: NodeId,
        push: Push,
    },
    Probe {
        to: NodeId,
        id: ProbeId,
        within: Duration,
    },
    Help {
        helper: NodeId,
        target: NodeId,
        id: ProbeId,
    },
    Helped {
        ask: AskId,
        heard: bool,
    },
    /// What this node believes has changed. Before the events that say how.
    Show(Membership),
    Publish(GossipEvent),
    Say(News),
}

/// What a machine is made of.
pub struct Opening {
    pub me: Introduction,
    pub about: About,
    /// Higher than that of any earlier process of this node, as far as its wall clock knows.
    pub generation: u64,
    pub seeds: Vec<String>,
    pub config: GossipConfig,
}

pub struct Machine {
    me: NodeId,
    cluster: String,
    seeds: Vec<String>,
    config: GossipConfig,
    book: Book,
    /// Of everybody in the book but this node.
    opinions: BTreeMap<NodeId, Opinion>,
    /// To whom our own connection is up.
    links: BTreeSet<NodeId>,
    /// As told by the ring; empty: everybody who is known.
    electorate: BTreeSet<NodeId>,
    spread: Spread,
    probes: Probes,
    /// Who is probed again before the next round.
    again: BTreeMap<NodeId, Mono>,
    /// Behind whom the next round's probes begin, where not everybody is probed in each.
    probe_turn: Option<NodeId>,
    next_round: Mono,
    suspicions_said: Mono,
    missed_probes: u64,
    cut_off: CutOff,
    raises: u32,
    raised: Option<Mono>,
    since: Mono,
    /// Somebody's state may have changed.
    doubt: bool,
    /// What others see has changed.
    changed: bool,
    events: Vec<GossipEvent>,
    news: Vec<News>,
}

#[derive(Clone, Copy, Debug, Default)]
struct CutOff {
    since: Option<Mono>,
    said: bool,
    ended: Option<Mono>,
}

/// What one step has at hand.
struct Turn<'a> {
    now: Mono,
    roll: &'a mut dyn FnMut() -> f64,
    effects: &'a mut Vec<Effect>,
}

impl Turn<'_> {
    /// The same nodes in an order that nobody foresees.
    fn shuffled(&mut self, nodes: impl IntoIterator<Item = NodeId>) -> Vec<NodeId> {
        let mut keyed: Vec<(f64, NodeId)> = nodes.into_iter().map(|node| ((self.roll)(), node)).collect();
        keyed.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        keyed.into_iter().map(|(_, node)| node).collect()
    }
}

impl Machine {
    pub fn new(now: Mono, opening: Opening) -> Self {
        let Opening { me, about, generation, seeds, config } = opening;
        let (node, cluster) = (me.node, me.cluster_name.clone());
        let seeds = seeds.into_iter().filter(|seed| *seed != me.address).collect();
        Machine {
            me: node,
            cluster,
            seeds,
            config,
            book: Book::new(Said::new(generation.min(limits::GENERATION_MAX), me, about)),
            opinions: BTreeMap::new(),
            links: BTreeSet::new(),
            electorate: BTreeSet::new(),
            spread: Spread::default(),
            probes: Probes::default(),
            again: BTreeMap::new(),
            probe_turn: None,
            next_round: now,
            suspicions_said: now,
            missed_probes: 0,
            cut_off: CutOff::default(),
            raises: 0,
            raised: None,
            since: now,
            doubt: true,
            changed: true,
            events: Vec::new(),
            news: Vec::new(),
        }
    }

    /// When the next `Tick` is due.
    pub fn due(&self) -> Mono {
        let again = self.again.values().min().copied();
        let others = [again, self.spread.due(), self.probes.due()];
        others.into_iter().flatten().fold(self.next_round, Mono::min)
    }

    /// `roll` gives numbers from 0 to 1.
    pub fn step(&mut self, now: Mono, roll: &mut dyn FnMut() -> f64, event: Event, effects: &mut Vec<Effect>) {
        let mut turn = Turn { now, roll, effects };
        self.wake_up(&mut turn);
        match event {
            Event::Tick => self.tick(&mut turn),
            Event::Linked { node } => self.linked(&mut turn, node),
            Event::Unlinked { node } => self.unlinked(&mut turn, node),
            Event::Syn { from, ask, digests } => self.syn(&mut turn, from, ask, &digests),
            Event::Push { from, deltas } => {
                self.learn(&mut turn, from, deltas);
                self.speaks(&mut turn, from);
            }
            Event::Probed { from } => self.speaks(&mut turn, from),
            Event::Help { from, target, ask } => self.help(&mut turn, from, target, ask),
            Event::Acked { to, ack } => self.acked(&mut turn, to, ack),
            Event::ProbeEnded { id, alive } => self.probe_ended(&mut turn, id, alive),
            Event::HelpEnded { id, helper, heard } => self.help_ended(&mut turn, id, helper, heard),
            Event::Announce { key, value } => self.announce(now, key, value),
            Event::Electorate { members } => {
                self.electorate = members.into_iter().collect();
                self.doubt = true;
            }
            Event::Leave => self.leave(&mut turn),
        }
        self.spread_if_due(&mut turn);
        if std::mem::take(&mut self.doubt) {
            self.judge(now);
        }
        self.show(&mut turn);
    }

    /// Events that a new subscriber has missed.
    pub fn greeting(&self) -> Vec<GossipEvent> {
        let known = self.opinions.keys().map(|node| GossipEvent::Discovered { node: *node });
        let up = self.opinions.iter().filter(|(_, opinion)| opinion.state.is_up());
        known.chain(up.map(|(node, _)| GossipEvent::PeerUp { node: *node })).collect()
    }

    /// Nodes there was no room for, so far.
    pub fn refused(&self) -> u64 {
        self.book.refused
    }

    /// Probes nobody answered, so far.
    pub fn missed_probes(&self) -> u64 {
        self.missed_probes
    }

    /// Somebody would hear what we say.
    pub fn is_connected(&self) -> bool {
        !self.links.is_empty()
    }

    fn tick(&mut self, turn: &mut Turn) {
        for next in self.probes.overdue(turn.now) {
            self.go_on(turn, next);
        }
        let again: Vec<NodeId> = self.again.extract_if(.., |_, at| *at <= turn.now).map(|(node, _)| node).collect();
        for node in again {
            self.begin_probe(turn, node);
        }
        if self.next_round <= turn.now {
            self.round(turn);
        }
    }

    fn round(&mut self, turn: &mut Turn) {
        let jitter = limits::JITTER * (2.0 * (turn.roll)() - 1.0);
        self.next_round = turn.now.after(self.config.interval.mul_f64(1.0 + jitter));
        if self.book.mine().is_leaving() {
            return;
        }
        let beats = self.book.mine().heartbeat() + 1;
        self.book.mine_mut().say(Saying::Heartbeat(beats));
        if self.links.is_empty() {
            turn.effects.extend(self.seeds.iter().cloned().map(Effect::Dial));
        }
        self.talk_with_somebody(turn);
        self.probe_some(turn);
        self.say_suspicions(turn.now);
        self.forget(turn.now);
        self.doubt = true;
    }

    fn announce(&mut self, now: Mono, key: FactKey, value: Bytes) {
        if self.book.mine().fact(key.0) != Some(&value) {
            self.book.mine_mut().say(Saying::Fact { key: key.0, value: value.into() });
            self.spread.own_news(now);
            self.changed = true;
        }
    }

    /// Says so to everybody at once, without waiting to be compared: the process ends soon.
    fn leave(&mut self, turn: &mut Turn) {
        if self.book.mine().is_leaving() {
            return;
        }
        self.book.mine_mut().say(Saying::Leaving);
        let push = Push { deltas: vec![self.book.mine().since(0)] };
        turn.effects.extend(self.links.iter().map(|to| Effect::Push { to: *to, push: push.clone() }));
        self.changed = true;
    }

    fn show(&mut self, turn: &mut Turn) {
        if std::mem::take(&mut self.changed) {
            turn.effects.push(Effect::Show(self.membership()));
        }
        turn.effects.extend(self.news.drain(..).map(Effect::Say));
        turn.effects.extend(self.events.drain(..).map(Effect::Publish));
    }

    fn court(&self, now: Mono) -> Court {
        let electors = if self.electorate.is_empty() {
            self.book.all().filter(|(_, said)| !said.is_leaving()).map(|(node, _)| node).collect()
        } else {
            self.electorate.clone()
        };
        let voice = |node: &NodeId| {
            let opinion = self.opinions.get(node)?;
            opinion.heard.filter(|_| !opinion.is_suspected())
        };
        let others = electors.iter().filter(|node| **node != self.me);
        let heard: Vec<Mono> = others.clone().filter_map(voice).collect();
        let lost = others.count() - heard.len();
        // Suspicions from behind the cut are old: each must be missed anew.
        let lately = self.cut_off.ended.is_some_and(|ended| now.since(ended) < limits::CUT_OFF_REMEMBERED);
        let cut_off = self.cut_off.since.is_some() || lately;
        Court { me: self.me, electors, cut_off, down_sources: self.config.down_sources, heard, lost }
    }
}
