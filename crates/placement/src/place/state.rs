//! A placement under change: who holds what, how far that is from the targets, and what one change of owner does to it.
//!
//! Changing the owner of a partition changes only walks that reach it, and those start in one stretch before it: if the
//! walk from a partition ends before it, so do all walks from further back. So a change costs a few walks, not Q.

use super::target::{FRACTION, Member, ONE};
use crate::walk::{VACANT, Walker};
use std::ops::AddAssign;

/// Unevenness is in units of 2^-48: 2^-32 for the scale of a node, 2^-16 for its deviation.
pub(super) const UNEVENNESS_ONE: i128 = 1 << (SCALE_FRACTION + FRACTION);
const SCALE_FRACTION: u32 = 32;

/// What a change does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Change {
    /// Of the sum over nodes of average · ((load − target) / target)², in `UNEVENNESS_ONE`.
    pub(super) unevenness: i128,
    /// Of the replicas that somebody holds who did not hold them in the old ring.
    pub(super) moved: i64,
    /// Of the sum over nodes of |load − target|, in `ONE`.
    pub(super) misplaced: i64,
}

impl AddAssign for Change {
    fn add_assign(&mut self, other: Change) {
        self.unevenness += other.unevenness;
        self.moved += other.moved;
        self.misplaced += other.misplaced;
    }
}

pub(super) struct State<'a> {
    owners: Vec<u16>,
    rack_of: Vec<u16>,
    racks: usize,
    rf: usize,
    /// Holders of each partition, `rf` places each, the first `found` of them in use.
    holders: Vec<u16>,
    found: Vec<usize>,
    /// How many partitions the walk from each one looked at.
    visited: Vec<usize>,
    /// Partitions each node holds.
    loads: Vec<i64>,
    /// Partitions each node owns.
    tokens: Vec<usize>,
    targets: &'a [i64],
    /// average / target² of each node, in units of 2^-32.
    scales: Vec<i128>,
    /// Holders of each partition in the old ring; empty if there is none.
    old: Vec<Vec<u16>>,
    walker: Walker,
    before: Vec<u16>,
    /// Changes tried.
    pub(super) evaluations: u64,
}

impl<'a> State<'a> {
    pub(super) fn new(
        owners: Vec<u16>,
        members: &[Member],
        racks: usize,
        rf: usize,
        targets: &'a [i64],
        old: Vec<Vec<u16>>,
    ) -> Self {
        let average = targets.iter().map(|target| i128::from(*target)).sum::<i128>() / targets.len().max(1) as i128;
        let scale =
            |target: &i64| (average << (SCALE_FRACTION + FRACTION)) / (i128::from(*target) * i128::from(*target));
        let partitions = owners.len();
        let mut state = State {
            rack_of: members.iter().map(|member| member.rack).collect(),
            racks,
            rf,
            holders: vec![VACANT; partitions * rf],
            found: vec![0; partitions],
            visited: vec![0; partitions],
            loads: vec![0; members.len()],
            tokens: vec![0; members.len()],
            targets,
            scales: targets.iter().map(scale).collect(),
            old,
            walker: Walker::default(),
            before: Vec::with_capacity(rf),
            evaluations: 0,
            owners,
        };
        for partition in 0..partitions {
            if let Some(tokens) = state.tokens.get_mut(usize::from(state.owners[partition])) {
                *tokens += 1;
            }
            state.walk_again(partition);
            for &node in &state.walker.found {
                state.loads[usize::from(node)] += 1;
            }
        }
        state
    }

    pub(super) fn owner(&self, partition: usize) -> u16 {
        self.owners[partition]
    }

    pub(super) fn owners(&self) -> &[u16] {
        &self.owners
    }

    pub(super) fn rack(&self, node: u16) -> u16 {
        self.rack_of[usize::from(node)]
    }

    pub(super) fn racks(&self) -> usize {
        self.racks
    }

    pub(super) fn tokens(&self, node: u16) -> usize {
        self.tokens[usize::from(node)]
    }

    pub(super) fn nodes(&self) -> u16 {
        u16::try_from(self.tokens.len()).unwrap_or(VACANT)
    }

    /// load − target, in `ONE`.
    pub(super) fn deviation(&self, node: u16) -> i64 {
        let node = usize::from(node);
        self.loads[node] * ONE - self.targets[node]
    }

    /// (load − target) / target, in units of 2^-32.
    pub(super) fn relative_deviation(&self, node: u16) -> i64 {
        let deviation = i128::from(self.deviation(node)) << SCALE_FRACTION;
        i64::try_from(deviation / i128::from(self.targets[usize::from(node)])).unwrap_or(i64::MAX)
    }

    /// Whether |load − target| is below the larger of one partition and so many thousandths of the target.
    pub(super) fn is_near(&self, node: u16, thousandths: i64) -> bool {
        let allowed = (self.targets[usize::from(node)] * thousandths).max(1_000 * ONE);
        self.deviation(node).abs() * 1_000 < allowed
    }

    /// Gives a partition to a node (or to nobody) and says what that changed.
    pub(super) fn set(&mut self, partition: usize, node: u16) -> Change {
        self.evaluations += 1;
        if let Some(tokens) = self.tokens.get_mut(usize::from(self.owners[partition])) {
            *tokens -= 1;
        }
        if let Some(tokens) = self.tokens.get_mut(usize::from(node)) {
            *tokens += 1;
        }
        self.owners[partition] = node;
        let mut change = Change::default();
        let count = self.owners.len();
        for back in 0..count {
            let start = if partition >= back { partition - back } else { partition + count - back };
            if self.visited[start] <= back {
                break;
            }
            self.before.clear();
            self.before.extend_from_slice(&self.holders[start * self.rf..][..self.found[start]]);
            self.walk_again(start);
            for index in 0..self.before.len() {
                let node = self.before[index];
                if !self.walker.found.contains(&node) {
                    change += self.count(start, node, -1);
                }
            }
            for index in 0..self.walker.found.len() {
                let node = self.walker.found[index];
                if !self.before.contains(&node) {
                    change += self.count(start, node, 1);
                }
            }
        }
        change
    }

    /// Walks from a partition; the result is in `holders` and in `walker.found`.
    fn walk_again(&mut self, start: usize) {
        self.visited[start] = self.walker.walk(&self.owners, &self.rack_of, self.racks, start, self.rf);
        self.found[start] = self.walker.found.len();
        self.holders[start * self.rf..][..self.walker.found.len()].copy_from_slice(&self.walker.found);
    }

    /// Counts a replica in or out.
    fn count(&mut self, partition: usize, node: u16, sign: i64) -> Change {
        let deviation = self.deviation(node);
        self.loads[usize::from(node)] += sign;
        let is_new = !self.old.is_empty() && !self.old[partition].contains(&node);
        // (d ± 1)² − d² = ±2d + 1
        let squares = i128::from(2 * deviation * sign + ONE);
        Change {
            unevenness: self.scales[usize::from(node)] * squares,
            moved: if is_new { sign } else { 0 },
            misplaced: (deviation + sign * ONE).abs() - deviation.abs(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::Circle;
    use proptest::prelude::*;

    proptest! {
        /// However owners change, what is kept step by step is what a fresh look finds; and undoing undoes.
        #[test]
        fn holders_loads_and_changes_are_those_of_a_fresh_look(
            racks_of in prop::collection::vec(0u16..3, 3..8),
            log2 in 3u32..6,
            rf in 1usize..5,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..30),
        ) {
            let mut racks_of = racks_of;
            racks_of[..3].copy_from_slice(&[0, 1, 2]);
            let members: Vec<Member> = racks_of.iter().map(|&rack| Member { weight: 1, rack }).collect();
            let n = members.len();
            let owners: Vec<u16> = (0..1usize << log2).map(|p| u16::try_from(p % n).unwrap()).collect();
            let targets: Vec<i64> = (1..).take(n).map(|t| t * ONE).collect();
            let old = vec![vec![0, 1]; owners.len()];
            let mut state = State::new(owners, &members, 3, rf.min(n), &targets, old.clone());
            for (partition, node) in changes {
                let (partition, node) = (partition.index(1 << log2), u16::try_from(node.index(n)).unwrap());
                let was = state.owner(partition);
                // Every rack keeps a token, as the search sees to it.
                if state.tokens(was) == 1 {
                    continue;
                }
                let measure = |state: &State| {
                    let loads = state.loads.clone();
                    let circle = Circle::new(state.owners.clone(), &racks_of);
                    let sets: Vec<Vec<u16>> = (0..1 << log2).map(|p| circle.walk(p, rf)).collect();
                    let mut fresh = vec![0i64; n];
                    sets.iter().flatten().for_each(|&x| fresh[usize::from(x)] += 1);
                    assert_eq!(loads, fresh);
                    let kept = (0..1 << log2).map(|p| state.holders[p * state.rf..][..state.found[p]].to_vec());
                    assert_eq!(kept.collect::<Vec<_>>(), sets);
                    let moved = sets.iter().zip(&old).map(|(now, old)| now.iter().filter(|x| !old.contains(x)).count()).sum::<usize>();
                    let misplaced: i64 = (0..).take(n).map(|x| state.deviation(x).abs()).sum();
                    (i64::try_from(moved).unwrap(), misplaced)
                };
                let before = measure(&state);
                let change = state.set(partition, node);
                let after = measure(&state);
                prop_assert_eq!((change.moved, change.misplaced), (after.0 - before.0, after.1 - before.1));
                let undo = state.set(partition, was);
                prop_assert_eq!((undo.unevenness, undo.moved), (-change.unevenness, -change.moved));
                state.set(partition, node);
            }
        }
    }
}
