//! How fast owners answer reads: whom to ask first, when to ask another as well, how often that may be.
//!
//! Only an order and a delay come of it, never whether a node is well: that is gossip's, and an answer counts from whomever
//! it comes. Pure: observations and time are arguments. An estimate is believed for a while and then tried again by one
//! read, so a node that was slow is not left out for ever, and one that stands still costs one hedge each time.

use crate::limits;
use kula_types::{Map, Mono, NodeId};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Speeds {
    nodes: Map<NodeId, Speed>,
    /// Estimate of the 95th percentile of all answers' times.
    hedge_after: Duration,
    /// Hedges in hand, in parts of `READS_A_HEDGE`.
    earned: u32,
}

#[derive(Clone, Copy, Debug)]
struct Speed {
    /// A moving mean; at least how long a read waited for it before it asked another.
    answers_in: Duration,
    believed_until: Mono,
    /// One read tries it anew: what that finds replaces the estimate.
    on_trial: bool,
}

impl Speeds {
    pub fn new() -> Self {
        let earned = limits::HEDGES_SAVED_MAX * limits::READS_A_HEDGE;
        Speeds { nodes: Map::default(), hedge_after: limits::HEDGE_FIRST, earned }
    }

    /// An owner answered a read within `took`.
    pub fn answered(&mut self, now: Mono, node: NodeId, took: Duration) {
        // A step up is 19 times a step down: they balance where one answer in 20 is slower.
        let (step, slower) = (self.hedge_after / 256, took > self.hedge_after);
        let next = if slower { self.hedge_after + step * 19 } else { self.hedge_after.saturating_sub(step) };
        self.hedge_after = next.clamp(limits::HEDGE_MIN, limits::HEDGE_MAX);
        if let Some(speed) = self.entry(node, took) {
            speed.answers_in = if speed.on_trial { took } else { speed.answers_in - speed.answers_in / 8 + took / 8 };
            (speed.on_trial, speed.believed_until) = (false, now.after(limits::SPEED_BELIEVED));
        }
    }

    /// An owner had not answered after `waited`, and another was asked.
    pub fn outwaited(&mut self, now: Mono, node: NodeId, waited: Duration) {
        if let Some(speed) = self.entry(node, waited) {
            speed.answers_in = speed.answers_in.max(waited);
            (speed.on_trial, speed.believed_until) = (false, now.after(limits::SPEED_BELIEVED));
        }
    }

    /// Indices of `nodes`, the first to ask first: this node, then by speed. Nodes that are about as fast stay in the
    /// order they came in, so that not all keys are read from one.
    pub fn order(&mut self, now: Mono, me: NodeId, nodes: impl Iterator<Item = NodeId>) -> Vec<usize> {
        let mut ranked: Vec<(u32, usize)> =
            nodes.enumerate().map(|(index, node)| (if node == me { 0 } else { self.rank(now, node) }, index)).collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, index)| index).collect()
    }

    /// How long a read waits before it asks another owner.
    pub fn hedge_after(&self) -> Duration {
        self.hedge_after
    }

    /// A read begins.
    pub fn earn(&mut self) {
        self.earned = (self.earned + 1).min(limits::HEDGES_SAVED_MAX * limits::READS_A_HEDGE);
    }

    /// Whether a hedge was earned; then it is spent.
    pub fn spend(&mut self) -> bool {
        let left = self.earned.checked_sub(limits::READS_A_HEDGE);
        self.earned = left.unwrap_or(self.earned);
        left.is_some()
    }

    fn entry(&mut self, node: NodeId, first: Duration) -> Option<&mut Speed> {
        if self.nodes.len() >= limits::SPEEDS_MAX && !self.nodes.contains_key(&node) {
            return None;
        }
        Some(self.nodes.entry(node).or_insert(Speed {
            answers_in: first,
            believed_until: Mono::default(),
            on_trial: true,
        }))
    }

    /// Powers of two of a microsecond, above this node's 0; one that is to be tried is taken to be as fast as can be.
    fn rank(&mut self, now: Mono, node: NodeId) -> u32 {
        const FASTEST: u32 = 1;
        match self.nodes.get_mut(&node) {
            None => FASTEST,
            Some(speed) if speed.believed_until <= now => {
                (speed.on_trial, speed.believed_until) = (true, now.after(limits::SPEED_BELIEVED));
                FASTEST
            }
            Some(speed) => FASTEST + speed.answers_in.as_micros().max(1).ilog2(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::node;

    fn order(speeds: &mut Speeds, now: Mono) -> Vec<usize> {
        speeds.order(now, node(1), (1..=3).map(node))
    }

    #[test]
    fn a_slow_owner_goes_last_until_one_read_tries_it_again() {
        let (mut speeds, now) = (Speeds::new(), Mono::from_millis(1));
        assert_eq!(order(&mut speeds, now), [0, 1, 2]);
        speeds.answered(now, node(2), Duration::from_micros(600));
        speeds.answered(now, node(3), Duration::from_micros(900));
        assert_eq!(order(&mut speeds, now), [0, 1, 2], "about as fast");
        speeds.outwaited(now, node(2), Duration::from_millis(20));
        assert_eq!(order(&mut speeds, now), [0, 2, 1]);
        let later = now.after(limits::SPEED_BELIEVED);
        speeds.answered(later, node(3), Duration::from_micros(900));
        assert_eq!(order(&mut speeds, later), [0, 1, 2], "one read tries it");
        assert_eq!(order(&mut speeds, later), [0, 2, 1], "the others do not");
        speeds.answered(later, node(2), Duration::from_micros(300));
        assert_eq!(order(&mut speeds, later), [0, 1, 2], "the trial's time replaces the old one");
    }

    #[test]
    fn the_delay_settles_near_the_95th_percentile_and_stays_in_its_bounds() {
        let (mut speeds, now) = (Speeds::new(), Mono::from_millis(1));
        for n in 0..20_000u64 {
            // Evenly from 0 to 40 ms, in no order.
            speeds.answered(now, node(2), Duration::from_micros(n * 7_919 % 40_000));
        }
        let settled = speeds.hedge_after();
        assert!((Duration::from_millis(34)..Duration::from_millis(40)).contains(&settled), "{settled:?}");
        (0..20_000).for_each(|_| speeds.answered(now, node(2), Duration::ZERO));
        assert_eq!(speeds.hedge_after(), limits::HEDGE_MIN);
        (0..20_000).for_each(|_| speeds.answered(now, node(2), Duration::from_secs(9)));
        assert_eq!(speeds.hedge_after(), limits::HEDGE_MAX);
    }

    // Promise: P15
    #[test]
    fn hedges_are_a_tenth_of_the_reads_once_the_savings_are_spent() {
        let mut speeds = Speeds::new();
        let spent = (0..).take_while(|_| speeds.spend()).count();
        assert_eq!(spent, usize::try_from(limits::HEDGES_SAVED_MAX).unwrap());
        let hedged = (0..1_000).filter(|_| {
            speeds.earn();
            speeds.spend()
        });
        assert_eq!(hedged.count(), 100);
    }
}
