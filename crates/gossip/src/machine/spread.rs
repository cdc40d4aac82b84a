//! Conversations: with whom, when, and what is learned from them.
//!
//! One conversation a peer at a time. Our own news go at once to everybody in a small cluster, others' news on to two, so
//! what is new travels in a few hops and what is not dies out; a conversation each interval carries the rest.

use super::{
    AskId, Effect, Machine, Turn,
    said::{self, Learned},
    verdict::Opinion,
};
use crate::{FactKey, GossipEvent, limits, news::News};
use kula_fault::{Site, buggify};
use kula_types::{Mono, NodeId};
use kula_wire::{
    encode,
    verbs::gossip::{Ack, Delta, Digest, Push, Saying, Suspicion, Syn},
};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct Spread {
    /// Conversations under way; true: there were more news since.
    talks: BTreeMap<NodeId, bool>,
    /// When news go out, and to how many.
    waiting: Option<(Mono, usize)>,
    last: Option<Mono>,
}

impl Spread {
    pub fn due(&self) -> Option<Mono> {
        self.waiting.map(|(due, _)| due)
    }

    pub fn own_news(&mut self, now: Mono) {
        let due = self.last.map_or(now, |last| now.max(last.after(limits::SPREAD_EVERY)));
        self.want(due, limits::FANOUT_OWN);
    }

    pub fn others_news(&mut self, now: Mono) {
        let due = self.last.map_or(now, |last| now.max(last.after(limits::PASS_ON_EVERY)));
        self.want(due, limits::FANOUT_OTHERS);
    }

    fn want(&mut self, due: Mono, fanout: usize) {
        let (before, wider) = self.waiting.unwrap_or((due, fanout));
        self.waiting = Some((due.min(before), fanout.max(wider)));
    }

    pub fn end(&mut self, node: NodeId) -> bool {
        self.talks.remove(&node).unwrap_or(false)
    }
}

impl Machine {
    pub(super) fn spread_if_due(&mut self, turn: &mut Turn) {
        let Some((_, fanout)) = self.spread.waiting.take_if(|(due, _)| *due <= turn.now) else { return };
        self.spread.last = Some(turn.now);
        for node in turn.shuffled(self.links.iter().copied()).into_iter().take(fanout) {
            self.talk(turn, node);
        }
    }

    /// Of those who are connected, one who answers; now and then one who does not.
    pub(super) fn talk_with_somebody(&mut self, turn: &mut Turn) {
        let answers = |node: &NodeId| self.opinions.get(node).is_some_and(|opinion| !opinion.is_suspected());
        let (answering, silent): (Vec<NodeId>, Vec<NodeId>) = self.links.iter().partition(|node| answers(node));
        let try_silent = !silent.is_empty() && (answering.is_empty() || (turn.roll)() * limits::SILENT_ONE_IN < 1.0);
        let partner = turn.shuffled(if try_silent { silent } else { answering }).first().copied();
        if let Some(node) = partner {
            self.talk(turn, node);
        }
    }

    pub(super) fn talk(&mut self, turn: &mut Turn, to: NodeId) {
        if let Some(more) = self.spread.talks.get_mut(&to) {
            *more = true;
            return;
        }
        self.spread.talks.insert(to, false);
        turn.effects.push(Effect::Syn { to, syn: Syn { digests: self.book.digests() } });
    }

    pub(super) fn syn(&mut self, turn: &mut Turn, from: NodeId, ask: AskId, digests: &[Digest]) {
        if digests.len() > limits::NODES_MAX {
            let why = "it compares more nodes than there may be".to_owned();
            self.news.push(News::Unsound { from, of: from, why });
            let nothing = Ack { deltas: Vec::new(), wants: Vec::new() };
            return turn.effects.push(Effect::Ack { ask, ack: nothing });
        }
        if let Some(own) = digests.iter().find(|digest| digest.node == self.me) {
            self.hear_of_self(turn.now, own.generation, own.version);
        }
        let (lacking, wants) = self.book.compare(digests, turn.now);
        let taken = encode(&wants).map_or(limits::BODY_BYTES_MAX, |body| body.len());
        let room = limits::BODY_BYTES_MAX.saturating_sub(taken + limits::HEAD_BYTES);
        let lacking = if buggify(Site::GossipSaysNothing) { Default::default() } else { lacking };
        let ack = Ack { deltas: self.book.pack(lacking, room), wants };
        turn.effects.push(Effect::Ack { ask, ack });
        self.speaks(turn, from);
    }

    pub(super) fn acked(&mut self, turn: &mut Turn, to: NodeId, ack: Option<Ack>) {
        let more = self.spread.end(to);
        let Some(Ack { deltas, wants }) = ack else { return };
        self.learn(turn, to, deltas);
        self.hear(turn, to);
        if wants.len() <= limits::NODES_MAX {
            let lacking = self.book.lacking(&wants);
            // What they do not know at all is wanted as generation 0, which is behind everybody's.
            let deltas = self.book.pack(lacking, limits::BODY_BYTES_MAX - limits::HEAD_BYTES);
            if !deltas.is_empty() {
                turn.effects.push(Effect::Push { to, push: Push { deltas } });
            }
        }
        if more && self.links.contains(&to) {
            self.talk(turn, to);
        }
    }

    pub(super) fn learn(&mut self, turn: &mut Turn, from: NodeId, deltas: Vec<Delta>) {
        let mut unsound = None;
        for delta in deltas {
            let of = delta.node;
            if of == self.me {
                self.hear_of_self(turn.now, delta.generation, delta.version);
                continue;
            }
            let before = self.book.get(of).map(|said| said.suspicions().to_vec());
            let sound = said::check(&delta, &self.cluster);
            match sound.and_then(|()| self.book.join(delta, turn.now)) {
                Ok(learned) => self.digest(turn.now, of, &learned, &before.unwrap_or_default()),
                Err(why) => unsound = Some(News::Unsound { from, of, why: why.to_string() }),
            }
        }
        // One line a message, whatever it holds.
        self.news.extend(unsound);
    }

    fn digest(&mut self, now: Mono, node: NodeId, learned: &Learned, before: &[Suspicion]) {
        if *learned == Learned::default() {
            return;
        }
        let known = self.opinions.contains_key(&node);
        let opinion = self.opinions.entry(node).or_insert_with(|| Opinion::new(now));
        if learned.process {
            if known {
                opinion.started_anew(now);
            }
            self.events.push(GossipEvent::Discovered { node });
        }
        if learned.leaving {
            // Whatever it says from here on is said by somebody who goes.
            opinion.heard = None;
        }
        if learned.refutation {
            opinion.refuted(now);
            self.news.push(News::RefutedByPeer { node });
        }
        let changed = |key: &u16| GossipEvent::FactChanged { node, key: FactKey(*key) };
        self.events.extend(learned.facts.iter().map(changed));
        let accuses = learned.suspicions && self.hear_suspicions(now, node, before);
        let Learned { process, about, refutation, leaving, facts, .. } = learned;
        let shown = *process || *about || *refutation || *leaving || !facts.is_empty();
        self.changed |= shown;
        self.doubt = true;
        if shown || accuses {
            self.spread.others_news(now);
        }
    }

    /// True if it says something else than before: the same again only stands for longer.
    fn hear_suspicions(&mut self, now: Mono, source: NodeId, before: &[Suspicion]) -> bool {
        if let Some(opinion) = self.opinions.get_mut(&source) {
            opinion.accused = now;
        }
        let list = self.book.get(source).map(|said| said.suspicions().to_vec()).unwrap_or_default();
        for suspicion in &list {
            if suspicion.target == self.me {
                self.refute(now, source, suspicion);
            } else {
                self.probe_if_doubtful(now, suspicion.target);
            }
        }
        list != before
    }

    /// "I am not dead": under a number above the rumour's.
    fn refute(&mut self, now: Mono, by: NodeId, suspicion: &Suspicion) {
        let mine = self.book.mine();
        let current = suspicion.generation == mine.generation && suspicion.refutation >= mine.refutation();
        let Some(refutation) = suspicion.refutation.checked_add(1).filter(|_| current) else { return };
        self.book.mine_mut().say(Saying::Refutation(refutation));
        self.news.push(News::Refuted { by, refutation });
        self.spread.own_news(now);
        self.changed = true;
    }

    /// Peers know more of us than we said: a process of ours before this one had a clock that was ahead. Once; more often,
    /// it still runs.
    fn hear_of_self(&mut self, now: Mono, generation: u64, version: u64) {
        let mine = self.book.mine();
        let lately = self.raised.is_some_and(|raised| now.since(raised) < self.config.interval);
        let known = (generation, version) <= (mine.generation, mine.version);
        if known || lately || generation >= limits::GENERATION_MAX {
            return;
        }
        self.book.mine_mut().generation = generation + 1;
        self.raises += 1;
        self.raised = Some(now);
        let above = generation;
        self.news.push(if self.raises > 1 { News::Twin { above } } else { News::Raised { above } });
        self.spread.own_news(now);
    }
}
