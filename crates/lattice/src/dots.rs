//! C: the dot store, Dynamo's siblings (§4.4) as a delta-CRDT with an exact causal context (Almeida et al., "Delta
//! State Replicated Data Types", 2018; Preguiça et al., "Dotted Version Vectors", 2010).

use crate::{Body, Join, Seen, SortedMap, register::compare_expiry};
use kula_fault::{Mutant, planted};
use kula_types::{Dot, Key, Timestamp};
use std::{cmp::Ordering, fmt};

/// Which client operation a sibling stands for: the hash of an Idempotency-Key. Two dots of one op-id are one sibling.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub [u8; 16]);

/// A sibling.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Live {
    pub hlc: Timestamp,
    /// `None`: the dot itself is the operation.
    pub op_id: Option<OpId>,
    /// Shown while `now < exp`.
    pub exp: Option<Timestamp>,
    pub body: Body,
    /// The last sequence the dot's actor minted for this key before it, as far as it remembered. Below the dot's seq.
    pub prev: u64,
}

/// Siblings and everything they replaced.
///
/// Invariant: live ⊆ seen, each live dot with its whole interval (prev, seq].
/// Join: live' = (A ∩ B) ∪ (A ∖ seen B) ∪ (B ∖ seen A); seen' = union.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Dots {
    pub live: SortedMap<Dot, Live>,
    pub seen: Seen,
}

impl Live {
    /// Where the sibling stands against floors.
    pub fn key(&self, dot: Dot) -> Key {
        Key::of(self.hlc, dot)
    }

    /// A dot has one body, except where something broke. Then the maximum by (exp with none highest, stub > full, bytes)
    /// is taken; what else a sibling carries follows from its dot, and is compared between the two so that turning
    /// bodies into stubs commutes with the join whatever broke.
    fn compare(&self, other: &Self) -> Ordering {
        compare_expiry(self.exp, other.exp)
            .then_with(|| (self.hlc, self.op_id, self.prev).cmp(&(other.hlc, other.op_id, other.prev)))
            .then_with(|| self.body.cmp(&other.body))
    }
}

impl Dots {
    /// A new sibling alone.
    pub fn one(dot: Dot, live: Live) -> Self {
        let seen = Seen::one(dot, live.prev);
        Dots { live: SortedMap::one(dot, live), seen }
    }

    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.seen.is_empty()
    }

    /// The first live dot that `seen` does not hold: none, unless somebody broke the invariant.
    pub fn unseen(&self) -> Option<Dot> {
        let broken = |(dot, live): &(Dot, Live)| live.prev >= dot.seq() || !self.seen.covers(*dot, live.prev);
        self.live.as_slice().iter().find(|entry| broken(entry)).map(|(dot, _)| *dot)
    }
}

impl Join for Live {
    fn join(&mut self, other: Self) {
        if self.compare(&other) == Ordering::Less {
            *self = other;
        }
    }
}

impl Join for Dots {
    fn join(&mut self, mut other: Self) {
        // Both sides are judged by the other's seen as it was; A ∩ B survives both passes, so the order of them is free.
        self.live.retain(|dot, _| !other.seen.contains(*dot) || other.live.contains(dot));
        other.live.retain(|dot, _| !self.seen.contains(*dot) || self.live.contains(dot));
        if planted(Mutant::TwinByValue) {
            other.live.retain(|_, theirs| !self.live.values().any(|mine| mine.body == theirs.body));
        }
        self.live.join(other.live);
        self.seen.join(other.seen);
        if planted(Mutant::DeadDotsForgotten) {
            self.seen = Seen::new();
            self.live.iter().for_each(|(dot, live)| self.seen.insert(*dot, live.prev));
        }
        debug_assert_eq!(self.unseen(), None);
    }
}

impl fmt::Debug for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
