//! Which shard owns a token: a mix of its top k bits, fixed when the data directory is made.
//!
//! k never changes with Q, so doubling Q moves nothing between shards; and k is at most log2 of the smallest Q, so a
//! ring partition lies in one shard.

use crate::limits;
use kula_types::Token;
use std::collections::BTreeSet;

/// The map from tokens to shards of one data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharding {
    shards: u16,
    bits: u8,
}

impl Sharding {
    /// `shards` 1 to `SHARDS_MAX`, `bits` as many as are needed to tell them apart up to 16; `None` otherwise.
    pub fn new(shards: u16, bits: u8) -> Option<Self> {
        let possible = (1..=limits::SHARDS_MAX).contains(&shards) && bits <= 16 && u32::from(shards) <= 1 << bits;
        possible.then_some(Sharding { shards, bits })
    }

    pub fn shards(self) -> u16 {
        self.shards
    }

    pub fn bits(self) -> u8 {
        self.bits
    }

    pub fn shard_of(self, token: Token) -> u16 {
        let shard = (u64::from(self.mix(self.slot_of(token))) * u64::from(self.shards)) >> self.bits;
        u16::try_from(shard)
            .unwrap_or_else(|_| unreachable!("a mixed slot is below 2^bits, so its shard is below shards"))
    }

    /// The shards that may hold a token of `from..=through`, ascending.
    pub fn shards_of(self, from: Token, through: Token) -> Vec<u16> {
        let shards: BTreeSet<u16> = self.slots(from, through).map(|slot| self.shard_of(self.first_of(slot))).collect();
        shards.into_iter().collect()
    }

    /// The last token of the `slots` slots, of 2^k, that begin with the one of `from`. A slot lies in one shard, and a
    /// range of tokens in as many as it has slots.
    pub fn end_of(self, from: Token, slots: u64) -> Token {
        let last = self.slot_of(from).saturating_add(slots.max(1) - 1);
        if last < (1 << self.bits) - 1 { Token(self.first_of(last + 1).0 - 1) } else { Token::MAX }
    }

    fn slots(self, from: Token, through: Token) -> std::ops::RangeInclusive<u64> {
        self.slot_of(from)..=self.slot_of(through)
    }

    fn slot_of(self, token: Token) -> u64 {
        token.to_unsigned().checked_shr(64 - u32::from(self.bits)).unwrap_or(0)
    }

    fn first_of(self, slot: u64) -> Token {
        Token::from_unsigned(slot.checked_shl(64 - u32::from(self.bits)).unwrap_or(0))
    }

    /// A permutation of the slots, so that each shard gets as many as any other, within one, whichever slots of the
    /// ring this node owns.
    fn mix(self, slot: u64) -> u32 {
        let mask = (1u64 << self.bits) - 1;
        let half = u32::from(self.bits).div_ceil(2);
        let mut mixed = slot & mask;
        for odd in [0x9e37_79b1, 0x85eb_ca6b] {
            mixed ^= mixed >> half;
            mixed = mixed.wrapping_mul(odd) & mask;
        }
        mixed ^= mixed >> half;
        u32::try_from(mixed).unwrap_or_else(|_| unreachable!("at most 16 bits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(bits: u8) -> impl Iterator<Item = Token> {
        (0..1u64 << bits).map(move |slot| Token::from_unsigned(slot << (64 - u32::from(bits))))
    }

    #[test]
    fn slots_spread_evenly_and_stay_put() {
        for shards in 1..=limits::SHARDS_MAX {
            let sharding = Sharding::new(shards, limits::SHARD_BITS).unwrap();
            let mut owned = vec![0u32; usize::from(shards)];
            for token in tokens(limits::SHARD_BITS) {
                owned[usize::from(sharding.shard_of(token))] += 1;
            }
            let (least, most) = (owned.iter().min().unwrap(), owned.iter().max().unwrap());
            assert!(most - least <= 1, "{shards} shards: {owned:?}");
        }
        // A data directory depends on these for ever.
        let sharding = Sharding::new(4, 8).unwrap();
        let first: Vec<u16> = tokens(8).take(16).map(|token| sharding.shard_of(token)).collect();
        assert_eq!(first, [0, 2, 3, 2, 2, 2, 0, 0, 2, 0, 1, 0, 0, 0, 2, 2]);
    }

    #[test]
    fn the_shards_of_a_range_are_those_of_its_tokens() {
        for (shards, bits) in [(1, 0), (1, 8), (4, 8), (64, 8)] {
            let sharding = Sharding::new(shards, bits).unwrap();
            assert_eq!(sharding.end_of(Token::MIN, 1 << bits), Token::MAX);
            assert_eq!(sharding.end_of(Token::MAX, u64::MAX), Token::MAX);
            assert_eq!(sharding.shards_of(Token::MIN, Token::MAX), (0..shards).collect::<Vec<_>>());
            let mut from = Token::MIN;
            loop {
                // One slot: one shard, and the next slot begins right behind it.
                let end = sharding.end_of(from, 1);
                assert_eq!(sharding.shards_of(from, end), [sharding.shard_of(from)]);
                assert_eq!(sharding.shard_of(from), sharding.shard_of(end));
                if end == Token::MAX {
                    break;
                }
                from = Token(end.0 + 1);
                let two: BTreeSet<u16> = [end, from].map(|token| sharding.shard_of(token)).into();
                assert_eq!(sharding.shards_of(end, from), two.into_iter().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn every_second_slot_still_uses_every_shard() {
        let sharding = Sharding::new(2, 8).unwrap();
        let owned = tokens(8).step_by(2).filter(|token| sharding.shard_of(*token) == 0).count();
        assert!((48..=80).contains(&owned), "{owned} of 128");
    }
}
