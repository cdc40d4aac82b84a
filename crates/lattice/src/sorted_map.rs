//! A small map: one sorted vector. One entry costs one exact allocation, a walk costs no pointer, a merge is one pass.
//!
//! Inserting in the middle shifts what follows; whoever collects a wide partition row by row keeps its own tree and
//! joins rows there.

use crate::{Join, limits::INSERT_ONE_BY_ONE_MAX};
use std::{cmp::Ordering, mem, ops::Bound};

/// Invariant: keys strictly ascend.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SortedMap<K, V> {
    entries: Vec<(K, V)>,
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        SortedMap::new()
    }
}

impl<K, V> SortedMap<K, V> {
    pub const fn new() -> Self {
        SortedMap { entries: Vec::new() }
    }

    /// A map of one entry, allocated exactly.
    pub fn one(key: K, value: V) -> Self {
        SortedMap { entries: vec![(key, value)] }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries the vector holds room for.
    pub fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    pub fn as_slice(&self) -> &[(K, V)] {
        &self.entries
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> + ExactSizeIterator {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (&K, &mut V)> + ExactSizeIterator {
        self.entries.iter_mut().map(|(key, value)| (&*key, value))
    }

    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + ExactSizeIterator {
        self.entries.iter().map(|(key, _)| key)
    }

    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + ExactSizeIterator {
        self.entries.iter().map(|(_, value)| value)
    }

    /// Keeps the entries for which `keep` says so; it may change values on the way.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.entries.retain_mut(|(key, value)| keep(key, value));
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    /// `None` unless keys strictly ascend.
    pub fn from_sorted(entries: Vec<(K, V)>) -> Option<Self> {
        entries.is_sorted_by(|(left, _), (right, _)| left < right).then_some(SortedMap { entries })
    }

    fn find(&self, key: &K) -> Result<usize, usize> {
        self.entries.binary_search_by(|(mine, _)| mine.cmp(key))
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.find(key).ok().and_then(|at| self.entries.get(at)).map(|(_, value)| value)
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let at = self.find(key).ok()?;
        self.entries.get_mut(at).map(|(_, value)| value)
    }

    pub fn contains(&self, key: &K) -> bool {
        self.find(key).is_ok()
    }

    /// The value that was there before, if any.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let mut before = None;
        self.merge_one(key, value, &mut |mine, theirs| before = Some(mem::replace(mine, theirs)));
        before
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.find(key).ok().map(|at| self.entries.remove(at).1)
    }

    /// The value at `key`, put there as bottom if it was absent.
    pub fn get_or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let at = match self.find(&key) {
            Ok(at) => at,
            Err(at) => {
                self.insert_at(at, key, V::default());
                at
            }
        };
        &mut self.entries[at].1
    }

    /// The entries between two bounds.
    pub fn range(&self, from: Bound<&K>, to: Bound<&K>) -> &[(K, V)] {
        let start = match from {
            Bound::Unbounded => 0,
            Bound::Included(key) => self.entries.partition_point(|(mine, _)| mine < key),
            Bound::Excluded(key) => self.entries.partition_point(|(mine, _)| mine <= key),
        };
        let end = match to {
            Bound::Unbounded => self.entries.len(),
            Bound::Included(key) => self.entries.partition_point(|(mine, _)| mine <= key),
            Bound::Excluded(key) => self.entries.partition_point(|(mine, _)| mine < key),
        };
        self.entries.get(start..end).unwrap_or_default()
    }

    /// Takes over the entries of `other`; where both have a key, `merge` decides.
    ///
    /// Of two equal keys the arriving one is kept: keys are slices of the message they came in, and the older message's
    /// memory can then go with its last value.
    pub fn merge_with(&mut self, other: Self, mut merge: impl FnMut(&mut V, V)) {
        if self.entries.is_empty() {
            self.entries = other.entries;
        } else if other.len() <= INSERT_ONE_BY_ONE_MAX {
            for (key, value) in other.entries {
                self.merge_one(key, value, &mut merge);
            }
        } else {
            self.merge_pass(other, &mut merge);
        }
        debug_assert!(self.entries.is_sorted_by(|(left, _), (right, _)| left < right));
    }

    fn merge_one(&mut self, key: K, value: V, merge: &mut impl FnMut(&mut V, V)) {
        if self.entries.last().is_some_and(|(last, _)| *last < key) {
            return self.insert_at(self.entries.len(), key, value);
        }
        match self.find(&key) {
            Ok(at) => {
                let entry = &mut self.entries[at];
                entry.0 = key;
                merge(&mut entry.1, value);
            }
            Err(at) => self.insert_at(at, key, value),
        }
    }

    fn merge_pass(&mut self, other: Self, merge: &mut impl FnMut(&mut V, V)) {
        let mut merged = Vec::with_capacity(self.entries.len().max(other.entries.len()));
        let mut mine = mem::take(&mut self.entries).into_iter().peekable();
        let mut theirs = other.entries.into_iter().peekable();
        loop {
            let order = match (mine.peek(), theirs.peek()) {
                (Some((left, _)), Some((right, _))) => left.cmp(right),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => break,
            };
            match order {
                Ordering::Less => merged.extend(mine.next()),
                Ordering::Greater => merged.extend(theirs.next()),
                Ordering::Equal => {
                    if let (Some((_, mut value)), Some((key, arriving))) = (mine.next(), theirs.next()) {
                        merge(&mut value, arriving);
                        merged.push((key, value));
                    }
                }
            }
        }
        self.entries = merged;
    }

    fn insert_at(&mut self, at: usize, key: K, value: V) {
        // The first few entries are allocated exactly: most rows have one cell, most partitions one row.
        if self.entries.len() == self.entries.capacity() && self.entries.len() < 4 {
            self.entries.reserve_exact(1);
        }
        self.entries.insert(at, (key, value));
    }
}

/// Maps join key by key.
impl<K: Ord, V: Join> Join for SortedMap<K, V> {
    fn join(&mut self, other: Self) {
        self.merge_with(other, V::join);
    }
}

impl<K, V> IntoIterator for SortedMap<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

/// Of two entries with one key the later stays.
impl<K: Ord, V> FromIterator<(K, V)> for SortedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = SortedMap::new();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(keys: impl IntoIterator<Item = u32>) -> SortedMap<u32, Vec<u32>> {
        keys.into_iter().map(|key| (key, vec![key])).collect()
    }

    #[test]
    fn a_merge_in_one_pass_equals_a_merge_one_by_one() {
        for (left, right) in [(0..0, 0..40), (0..40, 0..0), (0..40, 20..60), (30..60, 0..40), (0..10, 10..30)] {
            let mut passed = map(left.clone().step_by(2));
            passed.merge_with(map(right.clone().step_by(3)), |mine, theirs| mine.extend(theirs));
            let mut single = map(left.clone().step_by(2));
            for (key, value) in map(right.step_by(3)) {
                single.merge_with(SortedMap::one(key, value), |mine, theirs| mine.extend(theirs));
            }
            assert_eq!(passed, single, "{left:?}");
        }
    }

    #[test]
    fn ranges_keep_their_bounds() {
        let map = map([1, 3, 5, 7]);
        let keys = |from, to| map.range(from, to).iter().map(|(key, _)| *key).collect::<Vec<_>>();
        assert_eq!(keys(Bound::Included(&3), Bound::Excluded(&7)), [3, 5]);
        assert_eq!(keys(Bound::Excluded(&3), Bound::Included(&7)), [5, 7]);
        assert_eq!(keys(Bound::Unbounded, Bound::Included(&0)), [] as [u32; 0]);
        assert_eq!(keys(Bound::Included(&6), Bound::Excluded(&2)), [] as [u32; 0]);
        assert_eq!(keys(Bound::Unbounded, Bound::Unbounded), [1, 3, 5, 7]);
    }

    #[test]
    fn unsorted_or_doubled_entries_are_no_map() {
        assert!(SortedMap::from_sorted(vec![(1, ()), (2, ())]).is_some());
        assert!(SortedMap::from_sorted(vec![(2, ()), (1, ())]).is_none());
        assert!(SortedMap::from_sorted(vec![(1, ()), (1, ())]).is_none());
    }
}
