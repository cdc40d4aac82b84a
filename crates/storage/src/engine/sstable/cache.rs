//! Plain blocks kept in memory, bounded in bytes, shared by the tables of a shard.
//!
//! CLOCK (second chance): a block that was read since the hand last passed it is spared once. Blocks never change, so
//! nothing is ever invalidated; those of a removed table grow cold and go. Point reads fill it, scans go past it.

use super::name::{Component, FileId};
use bytes::Bytes;
use kula_fault::{Site, buggify};
use kula_types::Map;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) type BlockKey = (FileId, Component, u64);

/// What a cached block costs beside its bytes: its slot, its map entry, the allocator's share.
const SLOT_BYTES: usize = 160;
/// A block larger than this share (1/8) of the cache is not kept: it would push out too much.
const BLOCK_SHARE: usize = 8;

/// A cache of plain blocks. One lock, held for a map look-up: a shard reads on one thread, rarely on a few.
#[derive(Debug)]
pub struct BlockCache {
    bytes_max: usize,
    slots: Mutex<Slots>,
}

/// Since the cache was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheStatistics {
    pub hits: u64,
    pub misses: u64,
    pub bytes: usize,
    pub blocks: usize,
}

#[derive(Debug, Default)]
struct Slots {
    /// Invariant: `places` holds exactly the keys of `clock`, with their places; `bytes` is the sum of their costs.
    clock: Vec<Slot>,
    places: Map<BlockKey, usize>,
    hand: usize,
    bytes: usize,
    hits: u64,
    misses: u64,
}

#[derive(Debug)]
struct Slot {
    key: BlockKey,
    block: Bytes,
    used: bool,
}

impl BlockCache {
    /// Blocks and what they cost beside their bytes stay within `bytes_max`.
    pub fn new(bytes_max: usize) -> Self {
        BlockCache { bytes_max, slots: Mutex::default() }
    }

    pub fn statistics(&self) -> CacheStatistics {
        let slots = self.lock();
        CacheStatistics { hits: slots.hits, misses: slots.misses, bytes: slots.bytes, blocks: slots.clock.len() }
    }

    pub(super) fn get(&self, key: &BlockKey) -> Option<Bytes> {
        let mut slots = self.lock();
        let Some(place) = slots.places.get(key).copied().filter(|_| !buggify(Site::CacheMissed)) else {
            slots.misses += 1;
            return None;
        };
        slots.hits += 1;
        let slot = slots.clock.get_mut(place)?;
        slot.used = true;
        Some(slot.block.clone())
    }

    pub(super) fn insert(&self, key: BlockKey, block: Bytes) {
        let cost = cost(&block);
        if cost > self.bytes_max / BLOCK_SHARE {
            return;
        }
        let mut slots = self.lock();
        if slots.places.contains_key(&key) {
            return;
        }
        while slots.bytes + cost > self.bytes_max {
            slots.evict_one();
        }
        slots.bytes += cost;
        let place = slots.clock.len();
        slots.places.insert(key, place);
        slots.clock.push(Slot { key, block, used: false });
    }

    /// A panic elsewhere cannot leave the slots half changed: nothing in here calls out.
    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    /// Lets the hand go round to the first block not used since it last passed; at most twice round.
    fn evict_one(&mut self) {
        assert!(!self.clock.is_empty(), "bytes are those of the blocks");
        loop {
            if self.hand >= self.clock.len() {
                self.hand = 0;
            }
            let slot = &mut self.clock[self.hand];
            if !std::mem::take(&mut slot.used) {
                break;
            }
            self.hand += 1;
        }
        let gone = self.clock.swap_remove(self.hand);
        self.places.remove(&gone.key);
        if let Some(moved) = self.clock.get(self.hand) {
            self.places.insert(moved.key, self.hand);
        }
        self.bytes -= cost(&gone.block);
    }
}

fn cost(block: &Bytes) -> usize {
    block.len() + SLOT_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn key(number: u64) -> BlockKey {
        (FileId([1; 16]), Component::Data, number)
    }

    proptest! {
        #[test]
        fn a_cache_stays_bounded_and_gives_back_only_what_was_put(steps in vec((0u64..40, 0usize..300, any::<bool>()), 1..300)) {
            let cache = BlockCache::new(4000);
            for (number, length, put) in steps {
                let [byte, ..] = number.to_le_bytes();
                if put {
                    cache.insert(key(number), Bytes::from(vec![byte; length]));
                } else if let Some(block) = cache.get(&key(number)) {
                    prop_assert!(block.iter().all(|found| *found == byte));
                }
                let slots = cache.lock();
                prop_assert!(slots.bytes <= 4000);
                prop_assert_eq!(slots.bytes, slots.clock.iter().map(|slot| cost(&slot.block)).sum::<usize>());
                prop_assert_eq!(slots.places.len(), slots.clock.len());
                prop_assert!(slots.clock.iter().enumerate().all(|(place, slot)| slots.places.get(&slot.key) == Some(&place)));
            }
        }
    }

    #[test]
    fn what_is_read_again_outlives_what_is_not() {
        let cache = BlockCache::new(10 * (100 + SLOT_BYTES));
        cache.insert(key(0), Bytes::from(vec![0; 100]));
        for number in 1..100 {
            assert!(cache.get(&key(0)).is_some(), "{number}");
            cache.insert(key(number), Bytes::from(vec![1; 100]));
        }
        assert!(cache.get(&key(1)).is_none());
        cache.insert(key(200), Bytes::from(vec![0; 100 + 10 * (100 + SLOT_BYTES) / BLOCK_SHARE]));
        assert!(cache.get(&key(200)).is_none(), "too large to keep");
    }
}
