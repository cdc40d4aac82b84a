//! Refusals: whom our door refused lately, and why. Pure.
//!
//! A refused node asks again every few seconds; people hear of it once, and find it here as long as it goes on.

use crate::{
    limits::{REFUSAL_FORGOTTEN_AFTER, REFUSALS_MAX},
    messages::RefusedPeer,
};
use kula_types::{Mono, NodeId};

/// Oldest first.
#[derive(Default)]
pub(crate) struct Refusals {
    list: Vec<RefusedPeer>,
}

impl Refusals {
    /// Remembers; whether it is news.
    pub fn note(&mut self, mut refused: RefusedPeer) -> bool {
        self.forget_old(refused.last);
        let same = |known: &RefusedPeer| match refused.node {
            Some(node) => known.node == Some(node),
            None => known.node.is_none() && known.from == refused.from,
        };
        let known = self.list.iter().position(same).map(|at| self.list.remove(at));
        let again = known.is_some_and(|known| {
            refused.times += known.times;
            known.why == refused.why
        });
        if self.list.len() >= REFUSALS_MAX {
            self.list.remove(0);
        }
        self.list.push(refused);
        !again
    }

    /// It was welcomed.
    pub fn forget(&mut self, node: NodeId) {
        self.list.retain(|known| known.node != Some(node));
    }

    pub fn list(&mut self, now: Mono) -> Vec<RefusedPeer> {
        self.forget_old(now);
        self.list.clone()
    }

    fn forget_old(&mut self, now: Mono) {
        self.list.retain(|known| now.since(known.last) < REFUSAL_FORGOTTEN_AFTER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kula_wire::verbs::link::Refusal;

    fn refused(number: u8, why: Refusal, seconds: u64) -> RefusedPeer {
        let node = (number > 0).then(|| NodeId(uuid::Uuid::from_bytes([number; 16])));
        let (from, name, address) = ("127.0.0.1".to_owned(), String::new(), String::new());
        RefusedPeer { node, name, address, from, why, times: 1, last: Mono::from_millis(seconds * 1_000) }
    }

    #[test]
    fn a_refusal_is_news_once_until_its_reason_changes_or_it_was_away() {
        let mut refusals = Refusals::default();
        let life = |node| Refusal::LifeChanged { node };
        let node = NodeId(uuid::Uuid::from_bytes([1; 16]));
        assert!(refusals.note(refused(1, Refusal::Malformed, 0)));
        assert!(!refusals.note(refused(1, Refusal::Malformed, 2)));
        assert!(refusals.note(refused(0, Refusal::Malformed, 2)), "somebody else");
        assert!(refusals.note(refused(1, life(node), 4)));
        assert_eq!(refusals.list(Mono::from_millis(5_000)).iter().map(|one| one.times).collect::<Vec<_>>(), [1, 3]);
        let later = 4 + REFUSAL_FORGOTTEN_AFTER.as_secs();
        assert!(refusals.list(Mono::from_millis(later * 1_000)).is_empty());
        assert!(refusals.note(refused(1, life(node), later)));
        refusals.forget(node);
        assert!(refusals.note(refused(1, life(node), later)));
    }

    #[test]
    fn the_list_is_bounded() {
        let mut refusals = Refusals::default();
        (1..=u8::MAX).for_each(|number| assert!(refusals.note(refused(number, Refusal::Malformed, 0))));
        let list = refusals.list(Mono::default());
        assert_eq!(list.len(), REFUSALS_MAX);
        assert_eq!(list.last().unwrap().node, Some(NodeId(uuid::Uuid::from_bytes([u8::MAX; 16]))), "the newest stay");
    }
}
