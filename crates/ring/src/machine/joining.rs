//! From ring 0 to the first ring, and a member's own facts: what the configuration says and the ring may not.

use super::{By, Effect, Machine, Notice, Waiting, Why};
use crate::{JoinView, NotAdopted, RingChange, RingError, change, founding, limits, state};
use kula_placement::RingNode;
use kula_types::{Mono, NodeId};
use std::sync::Arc;

impl Machine {
    /// Forms the first ring, if that is this node's to do and it is time.
    pub(super) fn found(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        let waited = now.since(self.began.unwrap_or(now));
        let sentence = match (self.none_of_its_members(), self.fenced) {
            (Some(sentence), _) => sentence,
            (None, true) => RingError::Fenced.to_string(),
            (None, false) => match founding::decide(&self.me, &self.join, &self.surroundings, waited) {
                founding::Decision::Wait(sentence) => sentence,
                founding::Decision::Form(nodes) => {
                    let (name, drawn) = (self.ring.name.clone(), self.drawn.clone());
                    match state::first(name, self.ring.partitioner, drawn, nodes) {
                        Ok(ring) => return self.store(Arc::new(ring), Why::Formed, effects),
                        Err(error) => format!("no ring can be formed: {error}"),
                    }
                }
            },
        };
        self.show(sentence, effects);
    }

    fn none_of_its_members(&self) -> Option<String> {
        let here = |id: &&NodeId| self.surroundings.nodes.iter().any(|neighbour| neighbour.node.id == **id);
        let why = self.passed_over.iter().find(|(id, _)| here(id)).map(|(_, (_, why))| why);
        why.map(|why| match why {
            NotAdopted::NotAMember { .. } => why.to_string(),
            why => format!("the ring of the nodes seen is not taken up: {why}"),
        })
    }

    pub(super) fn show(&mut self, sentence: String, effects: &mut Vec<Effect>) {
        let visible = 1 + self.surroundings.nodes.iter().filter(|neighbour| neighbour.up).count();
        let visible = u32::try_from(visible).unwrap_or(u32::MAX);
        let view = JoinView { sentence, visible, expect: self.join.expect };
        if view != self.view {
            self.view = view.clone();
            effects.push(Effect::View { view });
        }
    }

    /// Asks the others to put this node's name and address right, from time to time.
    pub(super) fn correct_my_facts(&mut self, now: Mono) {
        let right = |node: &RingNode| node.name == self.me.name && node.address == self.me.address;
        let busy = self.proposal.is_some() || !self.waiting.is_empty();
        if busy || self.is_sole_member() || now < self.my_facts_at || self.ring.node(self.me.id).is_none_or(right) {
            return;
        }
        self.my_facts_at = now.after(limits::MY_FACTS_EVERY);
        let RingNode { id: node, name, address, .. } = self.me.clone();
        let change = RingChange::MyFacts { node, name, address };
        self.waiting.push_back(Waiting { by: By::Myself, change, deadline: now.after(limits::COMMIT_WITHIN) });
    }

    pub(super) fn compare_my_place(&self, effects: &mut Vec<Effect>) {
        if let Some(difference) = change::moving_difference(&self.ring, &self.me) {
            effects.push(Effect::Notice { notice: Notice::MovesData(difference) });
        }
    }
}
