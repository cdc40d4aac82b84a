//! Watching: who is probed when, what a round's outcome means, and what this node says of those who do not answer.

use super::{
    AskId, Effect, Machine, ProbeId, Turn,
    probes::{Next, Outcome},
};
use crate::{GossipEvent, State, limits, news::News};
use kula_types::{Mono, NodeId};
use kula_wire::verbs::gossip::{Saying, Suspicion};
use std::collections::BTreeSet;

impl Machine {
    pub(super) fn linked(&mut self, turn: &mut Turn, node: NodeId) {
        self.links.insert(node);
        self.spread.end(node);
        self.hear(turn, node);
        self.talk(turn, node);
    }

    /// No verdict on its health, but a reason to ask at once. What it said before the connection broke is no sign of life
    /// any more.
    pub(super) fn unlinked(&mut self, turn: &mut Turn, node: NodeId) {
        self.links.remove(&node);
        self.spread.end(node);
        if let Some(opinion) = self.opinions.get_mut(&node) {
            opinion.lost = Some(turn.now);
            self.begin_probe(turn, node);
        }
    }

    /// What was due long ago means that this process stood still, not that others did: probes under way prove nothing.
    pub(super) fn wake_up(&mut self, turn: &mut Turn) {
        if turn.now.since(self.due()) >= limits::STOOD_STILL {
            let asks = self.probes.abandon();
            turn.effects.extend(asks.into_iter().map(|ask| Effect::Helped { ask, heard: false }));
        }
    }

    /// Everybody, or where they are many some by turns.
    pub(super) fn probe_some(&mut self, turn: &mut Turn) {
        let candidates: Vec<NodeId> = self.opinions.keys().copied().collect();
        if candidates.len() <= limits::PROBED_EACH_ROUND {
            return candidates.into_iter().for_each(|node| self.begin_probe(turn, node));
        }
        let turn_of = self.probe_turn.or_else(|| turn.shuffled(candidates.iter().copied()).first().copied());
        let (before, behind): (Vec<NodeId>, Vec<NodeId>) =
            candidates.into_iter().partition(|node| turn_of.is_some_and(|turn_of| *node <= turn_of));
        for node in behind.into_iter().chain(before).take(limits::PROBED_EACH_ROUND) {
            self.begin_probe(turn, node);
            self.probe_turn = Some(node);
        }
    }

    pub(super) fn begin_probe(&mut self, turn: &mut Turn, to: NodeId) {
        let Some(opinion) = self.opinions.get(&to) else { return };
        // One that was just heard of is not missed yet: the connection to it is being made.
        let new = opinion.heard.is_none() && turn.now.since(opinion.met) < self.config.interval;
        let waiting = new && !self.links.contains(&to);
        let left = self.book.get(to).is_none_or(super::Said::is_leaving);
        if waiting || left || self.book.mine().is_leaving() {
            return;
        }
        self.again.remove(&to);
        if let Some(id) = self.probes.begin(turn.now, to) {
            turn.effects.push(Effect::Probe { to, id, within: limits::PROBE_WITHIN });
        }
    }

    /// Somebody suspects it: see for ourselves, unless it answered just now.
    pub(super) fn probe_if_doubtful(&mut self, now: Mono, node: NodeId) {
        let Some(opinion) = self.opinions.get(&node) else { return };
        let lately = opinion.heard.is_some_and(|heard| now.since(heard) < limits::PROBE_AGAIN);
        if opinion.missed == 0 && !lately {
            self.again.entry(node).or_insert(now);
        }
    }

    pub(super) fn help(&mut self, turn: &mut Turn, from: NodeId, target: NodeId, ask: AskId) {
        match self.probes.help(turn.now, target, ask) {
            Some(id) => turn.effects.push(Effect::Probe { to: target, id, within: limits::HELPING_WITHIN }),
            None => turn.effects.push(Effect::Helped { ask, heard: false }),
        }
        self.speaks(turn, from);
    }

    pub(super) fn probe_ended(&mut self, turn: &mut Turn, id: ProbeId, alive: bool) {
        if let Some(next) = self.probes.answered(turn.now, id, alive) {
            self.go_on(turn, next);
        }
    }

    pub(super) fn help_ended(&mut self, turn: &mut Turn, id: ProbeId, helper: NodeId, heard: bool) {
        if let Some(outcome) = self.probes.vouched(id, helper, heard) {
            self.conclude(turn, outcome);
        }
    }

    pub(super) fn go_on(&mut self, turn: &mut Turn, next: Next) {
        match next {
            Next::Over(outcome) => self.conclude(turn, outcome),
            Next::AskHelpers { id, target } => {
                let helps = |node: &&NodeId| {
                    let opinion = self.opinions.get(node);
                    **node != target && opinion.is_some_and(|opinion| opinion.heard.is_some() && opinion.missed == 0)
                };
                let able: Vec<NodeId> = self.links.iter().filter(helps).copied().collect();
                let helpers: BTreeSet<NodeId> = turn.shuffled(able).into_iter().take(limits::HELPERS).collect();
                turn.effects.extend(helpers.iter().map(|helper| Effect::Help { helper: *helper, target, id }));
                if let Some(outcome) = self.probes.helped_by(turn.now, id, helpers) {
                    self.conclude(turn, outcome);
                }
            }
        }
    }

    fn conclude(&mut self, turn: &mut Turn, outcome: Outcome) {
        match outcome {
            Outcome::Answered { target, within } => {
                self.measure(target, within);
                self.hear(turn, target);
            }
            Outcome::Vouched { target } => {
                self.measure(target, limits::PROBE_WITHIN);
                self.hear(turn, target);
            }
            Outcome::Missed { target, began, helpers } => self.missed(turn, target, began, helpers),
            Outcome::Helped { ask, target, heard } => {
                turn.effects.push(Effect::Helped { ask, heard });
                if heard {
                    self.hear(turn, target);
                }
            }
        }
    }

    fn measure(&mut self, node: NodeId, took: std::time::Duration) {
        if let Some(opinion) = self.opinions.get_mut(&node) {
            opinion.measure(took);
            self.doubt = true;
        }
    }

    fn missed(&mut self, turn: &mut Turn, node: NodeId, began: Mono, helpers: usize) {
        self.missed_probes += 1;
        let refutation = self.book.get(node).map_or(0, super::Said::refutation);
        let (_, firm) = self.court(turn.now).needs(node);
        let Some(opinion) = self.opinions.get_mut(&node) else { return };
        let soon = turn.now.max(began.after(limits::PROBE_AGAIN));
        if opinion.heard.is_some_and(|heard| heard > began) {
            // Heard by another way while the probe was under way.
            self.again.insert(node, soon);
            return;
        }
        let Some(missed) = opinion.misses(turn.now, refutation, self.config.interval) else {
            // It speaks, though it does not answer: late, not lost.
            opinion.measure(limits::PROBE_WITHIN);
            self.again.insert(node, soon);
            return;
        };
        if missed == 1 {
            self.events.push(GossipEvent::PeerSuspected { node });
            self.news.push(News::Suspected { node, helpers });
            self.changed = true;
        }
        if missed < firm {
            self.again.insert(node, soon);
        } else if opinion.state != State::Down {
            self.again.insert(node, turn.now.max(began.after(self.config.interval)));
        }
        self.say_suspicions(turn.now);
        self.doubt = true;
    }

    /// It lives: it answered, it spoke, or somebody we asked heard it.
    pub(super) fn hear(&mut self, turn: &mut Turn, node: NodeId) {
        if self.book.get(node).is_none_or(super::Said::is_leaving) {
            return;
        }
        let Some(opinion) = self.opinions.get_mut(&node) else { return };
        let (first, suspected) = (opinion.heard.is_none() && opinion.missed == 0, opinion.missed > 0);
        let silent_since = opinion.silent_since;
        if !opinion.hears(turn.now) {
            return;
        }
        let anew = std::mem::take(&mut opinion.anew);
        let away = (!first).then(|| turn.now.since(silent_since));
        self.news.push(if anew { News::Anew { node } } else { News::Up { node, away } });
        self.events.push(GossipEvent::PeerUp { node });
        self.again.remove(&node);
        if suspected {
            self.say_suspicions(turn.now);
        }
        (self.doubt, self.changed) = (true, true);
    }

    /// It said something of its own accord.
    pub(super) fn speaks(&mut self, turn: &mut Turn, node: NodeId) {
        match self.opinions.get_mut(&node) {
            Some(opinion) => {
                opinion.spoke = Some(turn.now);
                self.hear(turn, node);
            }
            None if self.links.contains(&node) => self.talk(turn, node),
            None => {}
        }
    }

    /// Says whom this node suspects, if that is something else than it last said, or must be said again.
    pub(super) fn say_suspicions(&mut self, now: Mono) {
        let suspected = self.opinions.iter().filter(|(_, opinion)| opinion.is_suspected());
        let list: Vec<Suspicion> = suspected
            .filter_map(|(target, opinion)| {
                let generation = self.book.get(*target)?.generation;
                let (refutation, missed) = (opinion.missed_under, opinion.missed.min(limits::MISSED_SAID_MAX));
                Some(Suspicion { target: *target, generation, refutation, missed })
            })
            .collect();
        let same = list == self.book.mine().suspicions();
        let again = !list.is_empty() && now.since(self.suspicions_said) >= limits::SUSPICION_AGAIN;
        if same && !again {
            return;
        }
        self.suspicions_said = now;
        self.book.mine_mut().say(Saying::Suspicions(list));
        if !same {
            self.spread.own_news(now);
        }
    }
}
