//! The local search: one partition after the other goes to a node that lacks it, as long as that pays.
//!
//! A change may gain M replicas against the old ring only if it lowers the misplaced load by at least η·M: moves must pay
//! for themselves. η falls in stages, and the wasteful stages run only while something is further from its target than
//! they tolerate; without that ladder single steps wasted up to 17 nodes' shares. Everything is counted in integers and
//! tried in a fixed order, so equal inputs give equal rings.

use super::state::{Change, State, UNEVENNESS_ONE};
use crate::{limits, walk::VACANT};

/// One stage of the ladder.
#[derive(Clone, Copy)]
struct Stage {
    /// η in percent.
    efficiency: i128,
    /// What is near enough, in thousandths of a target.
    tolerance: i64,
}

const FRESH: [Stage; 1] = [Stage { efficiency: 0, tolerance: TOLERANCE }];
const LADDER: [Stage; 7] = [
    Stage { efficiency: 97, tolerance: TOLERANCE },
    Stage { efficiency: 90, tolerance: TOLERANCE },
    Stage { efficiency: 80, tolerance: TOLERANCE },
    Stage { efficiency: 65, tolerance: TOLERANCE },
    Stage { efficiency: 40, tolerance: 2 * TOLERANCE },
    Stage { efficiency: 20, tolerance: 2 * TOLERANCE },
    Stage { efficiency: 0, tolerance: 5 * TOLERANCE / 2 },
];
/// Two percent.
const TOLERANCE: i64 = 20;
/// From this η down also partitions of nodes that are not overloaded are tried.
const EVERYBODY_FROM: i128 = 20;
/// Passes over all partitions in one stage.
const PASSES: usize = 8;
/// Nodes tried for a partition: the most underloaded of all, and of the owner's rack.
const CANDIDATES: usize = 3;
/// Partitions tried for a node that owns none.
const TRIES_FOR_A_TOKEN: usize = 64;

pub(super) struct Search<'a> {
    state: State<'a>,
    /// Unevenness that one moved replica must be worth.
    price: i128,
    stages: &'static [Stage],
    vacant: usize,
    /// Nodes from the most under- to the most overloaded.
    order: Vec<u16>,
    /// The order is of a placement that has changed.
    is_stale: bool,
    is_balanced: bool,
}

impl<'a> Search<'a> {
    pub(super) fn new(state: State<'a>, fresh: bool) -> Self {
        let vacant = state.owners().iter().filter(|owner| **owner == VACANT).count();
        let order = (0..state.nodes()).collect();
        // Twice the tolerance: what is near enough is not worth a move.
        let price = if fresh { 0 } else { 2 * i128::from(TOLERANCE) * UNEVENNESS_ONE / 1_000 };
        let stages: &[Stage] = if fresh { &FRESH } else { &LADDER };
        Search { state, price, stages, vacant, order, is_stale: true, is_balanced: false }
    }

    /// The owners found, and how many changes were tried.
    pub(super) fn run(mut self) -> (Vec<u16>, u64) {
        // A rack that owns nothing does not count in a walk, so every one gets its first token before anything is weighed.
        for rack in 0..self.state.racks() {
            let mut nodes = (0..self.state.nodes()).filter(|node| usize::from(self.state.rack(*node)) == rack);
            let first = nodes.clone().next();
            if let Some(first) = first.filter(|_| nodes.all(|node| self.state.tokens(node) == 0)) {
                self.give_a_token(first);
            }
        }
        for stage in self.stages {
            for pass in 0..PASSES {
                if self.pass(*stage, pass) == 0 {
                    break;
                }
            }
        }
        // Who has weight owns something: drivers count a rack only by its tokens.
        for node in 0..self.state.nodes() {
            if self.state.tokens(node) == 0 {
                self.give_a_token(node);
            }
        }
        assert!(self.vacant == 0, "the first stage fills every partition");
        (self.state.owners().to_vec(), self.state.evaluations)
    }

    /// Tries every partition once; answers how many changes it made.
    fn pass(&mut self, stage: Stage, pass: usize) -> usize {
        let mut changes = 0;
        for partition in self.scattered(7 * pass) {
            let owner = self.state.owner(partition);
            // Vacant partitions come first: until none is left the loads say little.
            if self.vacant > 0 && owner != VACANT {
                continue;
            }
            self.look_again(stage);
            let is_over = self.state.evaluations >= limits::PLACEMENT_EVALUATIONS_MAX;
            if self.vacant == 0 && (self.is_balanced || is_over) {
                break;
            }
            let is_tried = owner == VACANT || stage.efficiency <= EVERYBODY_FROM || self.state.deviation(owner) > 0;
            changes += usize::from(is_tried && self.improve(partition, owner, stage));
            changes += usize::from(self.vacant == 0 && self.swap(partition, stage));
        }
        changes
    }

    /// All partitions in golden-ratio steps, so that neighbours are not tried one after the other. The step is odd and
    /// the number of partitions a power of two: each comes once.
    fn scattered(&self, from: usize) -> impl Iterator<Item = usize> + use<> {
        let count = self.state.owners().len();
        let step = ((count * 40_503) >> 16) | 1;
        (0..count).map(move |index| (index * step + from) % count)
    }

    fn look_again(&mut self, stage: Stage) {
        if self.is_stale {
            let state = &self.state;
            self.order.sort_by_cached_key(|node| (state.relative_deviation(*node), *node));
            self.is_balanced = self.order.iter().all(|node| state.is_near(*node, stage.tolerance));
            self.is_stale = false;
        }
    }

    /// Gives the partition to the best of the candidates, if that pays. A vacant one is given in any case.
    fn improve(&mut self, partition: usize, owner: u16, stage: Stage) -> bool {
        let is_vacant = owner == VACANT;
        if !is_vacant && self.state.tokens(owner) == 1 {
            return false;
        }
        let mut best: Option<(i128, u16)> = None;
        for node in self.candidates(owner) {
            let change = self.state.set(partition, node);
            let price = if is_vacant { UNEVENNESS_ONE } else { self.price };
            let score = change.unevenness + price * i128::from(change.moved);
            if best.is_none_or(|(least, _)| score < least) && (is_vacant || self.pays(change, stage)) {
                best = Some((score, node));
            }
            self.state.set(partition, owner);
        }
        let Some((_, node)) = best else { return false };
        self.state.set(partition, node);
        self.is_stale = true;
        self.vacant -= usize::from(is_vacant);
        true
    }

    fn candidates(&self, owner: u16) -> Vec<u16> {
        let mut candidates: Vec<u16> = self.order.iter().copied().take(CANDIDATES).collect();
        for rack in 0..self.state.racks() {
            if owner == VACANT || usize::from(self.state.rack(owner)) == rack {
                let here = self.order.iter().filter(|node| usize::from(self.state.rack(**node)) == rack);
                candidates.extend(here.take(CANDIDATES));
            }
        }
        let mut seen = Vec::with_capacity(candidates.len());
        candidates.retain(|node| {
            let is_new = *node != owner && !seen.contains(node);
            seen.push(*node);
            is_new
        });
        candidates
    }

    /// Exchanges the owners of a partition and of the next, if that pays: gaps between tokens shift by one.
    fn swap(&mut self, partition: usize, stage: Stage) -> bool {
        let next = (partition + 1) % self.state.owners().len();
        let (here, there) = (self.state.owner(partition), self.state.owner(next));
        let is_off =
            |node| self.state.relative_deviation(node).unsigned_abs() * 1_000 > (TOLERANCE.unsigned_abs() << 32);
        if here == there || !(is_off(here) || is_off(there)) {
            return false;
        }
        let mut change = self.state.set(partition, there);
        change += self.state.set(next, here);
        if self.pays(change, stage) {
            self.is_stale = true;
            return true;
        }
        self.state.set(next, there);
        self.state.set(partition, here);
        false
    }

    fn pays(&self, change: Change, stage: Stage) -> bool {
        let is_better = change.unevenness + self.price * i128::from(change.moved) < 0;
        // −misplaced / 2 ≥ η · moved, in hundredths of `ONE`.
        let gained = i128::from(-change.misplaced) * 50;
        is_better && gained >= stage.efficiency * i128::from(change.moved) * i128::from(super::target::ONE)
    }

    /// Finds a token for a node that owns none: a vacant one, or of somebody who has more than one, of its rack if there
    /// is such a neighbour; the one that does the least harm among the first few.
    fn give_a_token(&mut self, node: u16) {
        let rack = self.state.rack(node);
        let has_spare = |state: &State, owner: u16| owner == VACANT || state.tokens(owner) > 1;
        let is_near = |state: &State, owner: u16| owner == VACANT || state.rack(owner) == rack;
        let spare: Vec<usize> = self.scattered(0).filter(|p| has_spare(&self.state, self.state.owner(*p))).collect();
        let near: Vec<usize> = spare.iter().copied().filter(|p| is_near(&self.state, self.state.owner(*p))).collect();
        let mut best: Option<(i128, usize)> = None;
        for &partition in if near.is_empty() { &spare } else { &near }.iter().take(TRIES_FOR_A_TOKEN) {
            let owner = self.state.owner(partition);
            let change = self.state.set(partition, node);
            let score = change.unevenness + self.price * i128::from(change.moved);
            if best.is_none_or(|(least, _)| score < least) {
                best = Some((score, partition));
            }
            self.state.set(partition, owner);
        }
        let Some((_, partition)) = best else { panic!("there are as many partitions as nodes, so somebody has two") };
        self.vacant -= usize::from(self.state.owner(partition) == VACANT);
        self.state.set(partition, node);
        self.is_stale = true;
    }
}
