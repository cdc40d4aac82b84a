//! Deletes of ranges of rows: a step function from clustering position to the highest floor over it.
//!
//! Joined pointwise, so overlapping deletes need no bookkeeping of which came first. A position is a byte string;
//! "just after k" is the position of k followed by a zero byte, so every step starts *at* some byte string and one
//! function has one representation.

use crate::{Join, Slice};
use bytes::Bytes;
use kula_fault::{Mutant, planted};
use kula_types::{ClusteringKey, Key};
use std::ops::Bound;

/// Invariant (canonical form): starts strictly ascend, neighbouring steps differ, the first step has a floor.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RangeFloors {
    steps: Vec<Step>,
}

/// From `start` on, up to the next step's start, `floor` holds. Before the first step nothing does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    pub start: Bytes,
    pub floor: Option<Key>,
}

impl RangeFloors {
    pub const fn new() -> Self {
        RangeFloors { steps: Vec::new() }
    }

    /// One range of rows deleted by `floor`; bottom if the bounds leave nothing between them.
    pub fn one(from: Bound<ClusteringKey>, to: Bound<ClusteringKey>, floor: Key) -> Self {
        let start = start_of(&from);
        let end = end_of(&to);
        let mut one = RangeFloors::new();
        if end.as_ref().is_none_or(|end| start < *end) {
            one.push(start, Some(floor));
            if let Some(end) = end {
                one.push(end, None);
            }
        }
        one
    }

    /// Deletes a range of rows: joins `one(from, to, floor)` in.
    pub fn cover(&mut self, from: Bound<ClusteringKey>, to: Bound<ClusteringKey>, floor: Key) {
        self.join(RangeFloors::one(from, to, floor));
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The highest range floor over a row.
    pub fn at(&self, clustering: &ClusteringKey) -> Option<Key> {
        self.at_position(&clustering.0)
    }

    /// The steps in order: the position each starts at, and the floor from there on.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Bytes, Option<Key>)> {
        self.steps.iter().map(|step| (&step.start, step.floor))
    }

    /// The same function inside the slice, nothing outside.
    #[must_use]
    pub fn clip(self, slice: &Slice) -> Self {
        if self.steps.is_empty() || slice.is_all() {
            return self;
        }
        let (start, end) = (start_of(&slice.from), end_of(&slice.to));
        let before_end = |position: &Bytes| end.as_ref().is_none_or(|end| position < end);
        let mut clipped = RangeFloors::new();
        if !before_end(&start) {
            return clipped;
        }
        clipped.push(start.clone(), self.at_position(&start));
        for step in self.steps.into_iter().filter(|step| step.start > start && before_end(&step.start)) {
            clipped.push(step.start, step.floor);
        }
        if let Some(end) = end {
            clipped.push(end, None);
        }
        clipped
    }

    /// Without what an enclosing floor covers anyway.
    #[must_use]
    pub(crate) fn above(self, enclosing: Option<Key>) -> Self {
        if self.steps.is_empty() || enclosing.is_none() {
            return self;
        }
        let mut kept = RangeFloors::new();
        for step in self.steps {
            kept.push(step.start, step.floor.filter(|floor| Some(*floor) > enclosing));
        }
        kept
    }

    /// `None` unless the steps are canonical.
    pub(crate) fn from_steps(steps: Vec<Step>) -> Option<Self> {
        let first_bites = steps.first().is_none_or(|first| first.floor.is_some());
        let canonical = steps.is_sorted_by(|left, right| left.start < right.start && left.floor != right.floor);
        (first_bites && canonical).then_some(RangeFloors { steps })
    }

    pub(crate) fn heap_parts(&self) -> (usize, &[Step]) {
        (self.steps.capacity(), &self.steps)
    }

    fn at_position(&self, position: &Bytes) -> Option<Key> {
        let after = self.steps.partition_point(|step| step.start <= *position);
        after.checked_sub(1).and_then(|at| self.steps.get(at)).and_then(|step| step.floor)
    }

    /// Appends a step and keeps the form canonical; `start` lies above all before it.
    fn push(&mut self, start: Bytes, floor: Option<Key>) {
        debug_assert!(self.steps.last().is_none_or(|last| last.start < start));
        if self.steps.last().and_then(|last| last.floor) != floor {
            self.steps.push(Step { start, floor });
        }
    }
}

/// Pointwise maximum, in one pass over both.
impl Join for RangeFloors {
    fn join(&mut self, other: Self) {
        if other.steps.is_empty() {
            return;
        }
        if self.steps.is_empty() {
            *self = other;
            return;
        }
        let mut mine = std::mem::take(&mut self.steps).into_iter().peekable();
        let mut theirs = other.steps.into_iter().peekable();
        let (mut my_floor, mut their_floor) = (None, None);
        loop {
            let my_turn = match (mine.peek(), theirs.peek()) {
                (Some(left), Some(right)) => left.start <= right.start,
                (left, _) => left.is_some(),
            };
            let Some(step) = (if my_turn { mine.next() } else { theirs.next() }) else { break };
            if my_turn {
                my_floor = step.floor;
                if let Some(twin) = theirs.next_if(|their| their.start == step.start) {
                    their_floor = twin.floor;
                }
            } else {
                their_floor = step.floor;
            }
            let floor =
                if planted(Mutant::RangesReplaced) { their_floor.or(my_floor) } else { my_floor.max(their_floor) };
            self.push(step.start, floor);
        }
    }
}

fn just_after(clustering: &ClusteringKey) -> Bytes {
    let mut position = Vec::with_capacity(clustering.0.len() + 1);
    position.extend_from_slice(&clustering.0);
    position.push(0);
    Bytes::from(position)
}

fn start_of(from: &Bound<ClusteringKey>) -> Bytes {
    match from {
        Bound::Unbounded => Bytes::new(),
        Bound::Included(clustering) => clustering.0.clone(),
        Bound::Excluded(clustering) => just_after(clustering),
    }
}

/// The first position past the range; `None`: it has no end.
fn end_of(to: &Bound<ClusteringKey>) -> Option<Bytes> {
    match to {
        Bound::Unbounded => None,
        Bound::Included(clustering) => Some(just_after(clustering)),
        Bound::Excluded(clustering) => Some(clustering.0.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kula_types::Timestamp;

    fn floor(ts: i64) -> Key {
        Key::delete_at(Timestamp::from_micros(ts).unwrap())
    }

    fn key(text: &str) -> ClusteringKey {
        ClusteringKey::copy_from(text.as_bytes())
    }

    fn incl(text: &str) -> Bound<ClusteringKey> {
        Bound::Included(key(text))
    }

    fn excl(text: &str) -> Bound<ClusteringKey> {
        Bound::Excluded(key(text))
    }

    #[test]
    fn bounds_say_whether_their_key_is_in() {
        let ranges = RangeFloors::one(excl("b"), incl("d"), floor(5));
        let at = |text| ranges.at(&key(text)).is_some();
        assert_eq!(["a", "b", "b\0", "c", "d", "d\0", "e"].map(at), [false, false, true, true, true, false, false]);
        assert!(RangeFloors::one(incl("d"), excl("d"), floor(5)).is_empty());
        assert!(RangeFloors::one(incl("d"), incl("b"), floor(5)).is_empty());
        assert!(RangeFloors::one(excl("d"), incl("d"), floor(5)).is_empty());
    }

    #[test]
    fn the_highest_of_overlapping_floors_holds_in_any_order_of_arrival() {
        let deletes = [(incl("b"), excl("f"), 5), (incl("d"), Bound::Unbounded, 3), (Bound::Unbounded, incl("d"), 4)];
        let mut forward = RangeFloors::new();
        let mut backward = RangeFloors::new();
        for (from, to, ts) in deletes.clone() {
            forward.cover(from, to, floor(ts));
        }
        for (from, to, ts) in deletes.into_iter().rev() {
            backward.cover(from, to, floor(ts));
        }
        assert_eq!(forward, backward);
        assert_eq!(["a", "b", "e", "f", "z"].map(|text| forward.at(&key(text))), [4, 5, 5, 3, 3].map(floor).map(Some));
    }

    #[test]
    fn equal_neighbours_are_one_step() {
        let mut ranges = RangeFloors::one(incl("b"), excl("d"), floor(5));
        ranges.cover(incl("d"), excl("f"), floor(5));
        assert_eq!(ranges, RangeFloors::one(incl("b"), excl("f"), floor(5)));
    }
}
