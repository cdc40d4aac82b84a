//! Seen: the dots of one key that a state knows of, exactly, as chained half-open intervals (`cell.md`).
//!
//! A dot carries `prev`, the last sequence its actor minted for the same key as far as the minter remembered; no other
//! dot of this key lies in (prev, seq]. So the union of such intervals holds exactly the dots of the set it stands for,
//! and a key overwritten 100,000 times through one coordinator is one interval. A version vector would not do: with
//! blind writes it loses updates.

use crate::{Join, limits::INSERT_ONE_BY_ONE_MAX};
use kula_fault::{Mutant, planted};
use kula_types::{Actor, Dot};
use std::{fmt, mem};

/// One interval (prev, seq] of one actor's dots, minted in one epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    pub actor: Actor,
    pub epoch: u32,
    pub prev: u64,
    pub seq: u64,
}

/// Invariant: sorted by (actor, epoch, prev); runs of one actor and epoch neither overlap nor touch. Hence one set has
/// one representation, and equality of values is equality of sets.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Seen {
    runs: Vec<Run>,
}

impl Run {
    fn of(dot: Dot, prev: u64) -> Self {
        assert!(prev < dot.seq(), "a chained dot lies above its predecessor: {prev} and {dot:?}");
        Run { actor: dot.actor(), epoch: dot.epoch(), prev, seq: dot.seq() }
    }

    fn chain(&self) -> (Actor, u32) {
        (self.actor, self.epoch)
    }

    /// Whether the two are one interval: same chain, overlapping or touching.
    fn meets(&self, other: &Run) -> bool {
        self.chain() == other.chain() && self.prev <= other.seq && other.prev <= self.seq
    }
}

impl Seen {
    pub const fn new() -> Self {
        Seen { runs: Vec::new() }
    }

    /// The set of one dot.
    pub fn one(dot: Dot, prev: u64) -> Self {
        Seen { runs: vec![Run::of(dot, prev)] }
    }

    /// `None` unless every run is a non-empty interval of possible dots and the invariant holds.
    pub(crate) fn from_runs(runs: Vec<Run>) -> Option<Self> {
        let possible = |run: &Run| run.prev < run.seq && Dot::new(run.actor, run.epoch, run.seq).is_ok();
        let apart = |left: &Run, right: &Run| {
            left.chain() < right.chain() || (left.chain() == right.chain() && left.seq < right.prev)
        };
        (runs.iter().all(possible) && runs.is_sorted_by(apart)).then_some(Seen { runs })
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The number of intervals.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.runs.capacity()
    }

    /// Intervals in (actor, epoch, prev) order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Run> {
        self.runs.iter()
    }

    /// The intervals of each actor, actors in order.
    pub(crate) fn chains(&self) -> impl Iterator<Item = &[Run]> {
        self.runs.chunk_by(|left, right| left.actor == right.actor)
    }

    /// Adds a dot whose predecessor for this key is `prev` (< its seq).
    pub fn insert(&mut self, dot: Dot, prev: u64) {
        let prev = if planted(Mutant::SeenIsVersionVector) { 0 } else { prev };
        self.insert_run(Run::of(dot, prev));
    }

    pub fn contains(&self, dot: Dot) -> bool {
        self.covers(dot, dot.seq() - 1)
    }

    /// Whether the whole interval (prev, seq] of `dot` is in.
    pub fn covers(&self, dot: Dot, prev: u64) -> bool {
        let chain = (dot.actor(), dot.epoch());
        let above = self.runs.partition_point(|run| (run.chain(), run.prev) <= (chain, prev));
        let run = above.checked_sub(1).and_then(|at| self.runs.get(at));
        run.is_some_and(|run| run.chain() == chain && run.seq >= dot.seq())
    }

    fn insert_run(&mut self, mut run: Run) {
        // The first run that could meet it: the one before the first that starts above it.
        let above = self.runs.partition_point(|mine| (mine.chain(), mine.prev) <= (run.chain(), run.prev));
        let first = above.checked_sub(1).filter(|at| self.runs[*at].meets(&run)).unwrap_or(above);
        let met = self.runs[first..].iter().take_while(|mine| mine.meets(&run)).count();
        match met {
            0 => {
                if self.runs.len() == self.runs.capacity() && self.runs.len() < 4 {
                    self.runs.reserve_exact(1);
                }
                self.runs.insert(first, run);
            }
            _ => {
                run.prev = run.prev.min(self.runs[first].prev);
                run.seq = run.seq.max(self.runs[first + met - 1].seq);
                self.runs[first] = run;
                self.runs.drain(first + 1..first + met);
            }
        }
    }

    fn merge_pass(&mut self, other: Seen) {
        let mut sorted = mem::take(&mut self.runs);
        sorted.extend(other.runs);
        sorted.sort_unstable();
        let mut merged: Vec<Run> = Vec::with_capacity(sorted.len());
        for run in sorted {
            match merged.last_mut() {
                Some(last) if last.meets(&run) => last.seq = last.seq.max(run.seq),
                _ => merged.push(run),
            }
        }
        self.runs = merged;
    }
}

/// Set union.
impl Join for Seen {
    fn join(&mut self, other: Self) {
        if self.runs.is_empty() {
            self.runs = other.runs;
        } else if other.len() <= INSERT_ONE_BY_ONE_MAX {
            for run in other.runs {
                self.insert_run(run);
            }
        } else {
            self.merge_pass(other);
        }
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch {
            0 => write!(f, "{:?}:({}, {}]", self.actor, self.prev, self.seq),
            epoch => write!(f, "{:?}:({}, {}]e{epoch}", self.actor, self.prev, self.seq),
        }
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(&self.runs).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(epoch: u32, prev: u64, seq: u64) -> Run {
        Run { actor: Actor(1), epoch, prev, seq }
    }

    fn seen(runs: &[(u32, u64, u64)]) -> Seen {
        let mut seen = Seen::new();
        for (epoch, prev, seq) in runs {
            seen.insert_run(run(*epoch, *prev, *seq));
        }
        seen
    }

    #[test]
    fn touching_and_overlapping_intervals_of_one_epoch_are_one() {
        assert_eq!(seen(&[(0, 0, 3), (0, 3, 7)]), seen(&[(0, 0, 7)]));
        assert_eq!(seen(&[(0, 0, 3), (0, 2, 7)]), seen(&[(0, 0, 7)]));
        assert_eq!(seen(&[(0, 0, 1), (0, 2, 3), (0, 4, 5), (0, 1, 4)]), seen(&[(0, 0, 5)]));
        assert_eq!(seen(&[(0, 0, 3), (0, 4, 7)]).len(), 2);
    }

    #[test]
    fn intervals_of_two_epochs_stay_apart() {
        let both = seen(&[(0, 0, 3), (1, 3, 7)]);
        assert_eq!(both.len(), 2);
        let dot = |epoch, seq| Dot::new(Actor(1), epoch, seq).unwrap();
        assert!(both.contains(dot(0, 3)) && both.contains(dot(1, 4)));
        assert!(!both.contains(dot(1, 3)) && !both.contains(dot(0, 4)));
    }

    #[test]
    fn runs_from_outside_are_checked() {
        assert!(Seen::from_runs(vec![run(0, 0, 1), run(0, 2, 3), run(1, 3, 4)]).is_some());
        for bad in [
            vec![run(0, 1, 1)],
            vec![run(0, 0, 2), run(0, 2, 3)],
            vec![run(1, 0, 1), run(0, 2, 3)],
            vec![run(1 << 24, 0, 1)],
            vec![run(0, 0, 1 << 40)],
        ] {
            assert!(Seen::from_runs(bad.clone()).is_none(), "{bad:?}");
        }
    }
}
