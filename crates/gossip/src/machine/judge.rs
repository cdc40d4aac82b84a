//! Judgement: everybody's state from what was seen here and what others suspect; who is forgotten; what is published.

use super::{Machine, verdict::Case};
use crate::{FactKey, GossipEvent, Membership, PeerView, State, limits, news::News};
use kula_types::{Mono, NodeId};
use std::collections::BTreeMap;

impl Machine {
    pub(super) fn judge(&mut self, now: Mono) {
        self.look_for_cut(now);
        let (court, accusations) = (self.court(now), self.accusations(now));
        for (target, opinion) in &mut self.opinions {
            let Some(said) = self.book.get(*target) else { continue };
            let accusers = accusations.get(target).map_or(&[][..], Vec::as_slice);
            let (node, left, heartbeat) = (*target, said.is_leaving(), said.heartbeat());
            let before = opinion.state;
            self.changed |= opinion.judge(now, &Case { target: node, heartbeat, left, accusers }, &court);
            match opinion.state {
                state if state == before => {}
                State::Down => {
                    let silent = now.since(opinion.silent_since);
                    let sources = opinion.seen_by.clone();
                    self.news.push(if left { News::Left { node } } else { News::Down { node, sources, silent } });
                    self.events.push(GossipEvent::PeerDown { node });
                }
                State::Slow => self.news.push(News::Slow { node }),
                State::Up | State::Suspect => {}
            }
        }
    }

    /// Who suspects whom, by those whose word counts: they are heard here, and what they said still stands.
    fn accusations(&self, now: Mono) -> BTreeMap<NodeId, Vec<(NodeId, u32)>> {
        let mut accusations: BTreeMap<NodeId, Vec<(NodeId, u32)>> = BTreeMap::new();
        // With rare rounds it is said again rarely.
        let stands_for = limits::SUSPICION_STANDS.max(self.config.interval * limits::SUSPICION_STANDS_ROUNDS);
        for (source, said) in self.book.all() {
            let Some(opinion) = self.opinions.get(&source) else { continue };
            let stands = now.since(opinion.accused) < stands_for;
            if !stands || opinion.is_suspected() || said.is_leaving() {
                continue;
            }
            for suspicion in said.suspicions() {
                let target = self.book.get(suspicion.target);
                let current = target.is_some_and(|target| {
                    target.generation == suspicion.generation && target.refutation() <= suspicion.refutation
                });
                if current && suspicion.target != source {
                    accusations.entry(suspicion.target).or_default().push((source, suspicion.missed));
                }
            }
        }
        accusations
    }

    fn look_for_cut(&mut self, now: Mono) {
        let court = self.court(now);
        let (heard, of) = (court.hears(), court.electors.len());
        if !court.is_minority() {
            if self.cut_off.since.take().is_some() {
                self.cut_off.ended = Some(now);
                self.changed = true;
            }
            if std::mem::take(&mut self.cut_off.said) {
                self.news.push(News::CutOffEnded { heard, of });
            }
            return;
        }
        self.changed |= self.cut_off.since.is_none();
        let since = *self.cut_off.since.get_or_insert(now);
        if !self.cut_off.said && now.since(since) >= limits::CUT_OFF_SAID {
            self.cut_off.said = true;
            self.news.push(News::CutOff { heard, of });
        }
    }

    /// Forgets those outside the electorate who are down for long, or whose address is now a later node's.
    pub(super) fn forget(&mut self, now: Mono) {
        let mut latest: BTreeMap<&str, (u64, NodeId)> = BTreeMap::new();
        for (node, said) in self.book.all() {
            let entry = latest.entry(&said.introduction().address).or_insert((said.generation, node));
            *entry = (*entry).max((said.generation, node));
        }
        let mut gone = Vec::new();
        for (node, opinion) in &self.opinions {
            let Some(said) = self.book.get(*node) else { continue };
            let heir = latest.get(said.introduction().address.as_str()).map(|(_, heir)| *heir);
            let heir = heir.filter(|heir| heir != node && !opinion.state.is_up());
            let long = opinion.state == State::Down && now.since(opinion.since) >= limits::FORGET_AFTER;
            if !self.electorate.contains(node) && (long || heir.is_some()) {
                gone.push((*node, said.introduction().name.clone(), heir));
            }
        }
        for (node, name, heir) in gone {
            self.book.strike(node, now.after(limits::FORGET_AFTER.saturating_mul(2)), now);
            self.opinions.remove(&node);
            self.again.remove(&node);
            self.news.push(News::Forgotten { name, node });
            let heir = heir.filter(|heir| *heir != self.me);
            self.events.extend(heir.map(|node| GossipEvent::Discovered { node }));
            self.changed = true;
        }
    }

    pub(super) fn membership(&self) -> Membership {
        let view = |(node, said): (NodeId, &super::Said)| {
            let mut view = PeerView::up(said.introduction().clone(), said.about().clone());
            view.since = self.since;
            view.left = said.is_leaving();
            view.refutation = said.refutation();
            view.facts = said.facts().map(|(key, value)| (FactKey(key), value.clone())).collect();
            if let Some(opinion) = self.opinions.get(&node) {
                (view.state, view.since) = (opinion.state, opinion.since);
                view.seen_by = opinion.seen_by.clone();
                view.suspected_here = opinion.is_suspected();
            }
            (node, view)
        };
        let nodes = self.book.all().map(view).collect();
        Membership { me: self.me, cut_off: self.cut_off.since.is_some(), nodes }
    }
}
