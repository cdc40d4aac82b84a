//! Slots: the places of inbound connections. Pure.
//!
//! Strangers, who have not introduced themselves, hold few of them, and the newest stranger takes the place of the oldest: a
//! peer introduces itself within a round trip, so half-open connections, however many, cannot keep a peer out.

use crate::limits::{SESSIONS_MAX, SHAKING_MAX};
use futures::channel::oneshot;
use std::collections::VecDeque;

#[derive(Default)]
pub(crate) struct Slots {
    taken: Vec<bool>,
    /// Oldest first.
    strangers: VecDeque<(usize, oneshot::Sender<()>)>,
}

/// Ends when the stranger who holds it has to leave.
pub(crate) type Eviction = oneshot::Receiver<()>;

impl Slots {
    /// A number for a stranger, the lowest that is free; `None` if there are too many sessions.
    pub fn take(&mut self) -> Option<(usize, Eviction)> {
        let number = self.taken.iter().position(|taken| !taken).unwrap_or(self.taken.len());
        if number >= SESSIONS_MAX {
            return None;
        }
        match self.taken.get_mut(number) {
            Some(taken) => *taken = true,
            None => self.taken.push(true),
        }
        if self.strangers.len() >= SHAKING_MAX {
            // Dropped, it evicts.
            self.strangers.pop_front();
        }
        let (evict, evicted) = oneshot::channel();
        self.strangers.push_back((number, evict));
        Some((number, evicted))
    }

    /// It is no stranger's any more.
    pub fn introduced(&mut self, number: usize) {
        self.strangers.retain(|(stranger, _)| *stranger != number);
    }

    pub fn give_back(&mut self, number: usize) {
        self.introduced(number);
        if let Some(taken) = self.taken.get_mut(number) {
            *taken = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_evicted(eviction: &mut Eviction) -> bool {
        !matches!(eviction.try_recv(), Ok(None))
    }

    #[test]
    fn sessions_are_bounded_and_a_place_given_back_is_taken_again() {
        let mut slots = Slots::default();
        for number in 0..SESSIONS_MAX {
            assert_eq!(slots.take().unwrap().0, number);
            slots.introduced(number);
        }
        assert!(slots.take().is_none());
        slots.give_back(7);
        assert_eq!(slots.take().unwrap().0, 7);
        assert!(slots.take().is_none());
    }

    #[test]
    fn one_stranger_too_many_evicts_the_oldest_stranger_and_no_peer() {
        let mut slots = Slots::default();
        let (peer, mut peers) = slots.take().unwrap();
        let mut strangers: Vec<_> = (1..SHAKING_MAX).map(|_| slots.take().unwrap().1).collect();
        assert!(!is_evicted(&mut peers));
        slots.introduced(peer);
        strangers.push(slots.take().unwrap().1);
        assert!(!strangers.iter_mut().any(is_evicted), "as many as may be");
        strangers.push(slots.take().unwrap().1);
        let evicted: Vec<usize> = (0..strangers.len()).filter(|at| is_evicted(&mut strangers[*at])).collect();
        assert_eq!(evicted, [0]);
    }
}
