//! Q equal partitions of the token circle, in each data centre shifted by its ordinal.
//!
//! Partition of h in data centre d = ((h + 2^63 + d) mod 2^64) >> (64 − log2 Q); its token, the inclusive end of its
//! range, is T(i, d) = −2^63 + (i + 1)·2^64/Q − 1 − d. So tokens are unique across data centres, as CQL drivers demand,
//! and doubling Q splits every partition in two without moving a key between owners.

use crate::limits::{PARTITIONS_DEFAULT, PARTITIONS_MAX};
use kula_types::Token;

/// How many partitions a data centre has: a power of two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Partitions {
    log2: u32,
}

/// Why a number of partitions was refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a ring has a power of two of partitions, 1 to {PARTITIONS_MAX}; not {found}")]
pub struct PartitionsError {
    pub found: u32,
}

/// The tokens t with `after` < t <= `through` on the circle. All tokens if both are equal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenRange {
    pub after: Token,
    pub through: Token,
}

impl TokenRange {
    pub fn contains(&self, token: Token) -> bool {
        let from_after = |t: Token| t.to_unsigned().wrapping_sub(self.after.to_unsigned()).wrapping_sub(1);
        from_after(token) <= from_after(self.through)
    }
}

impl Partitions {
    pub(crate) const DEFAULT: Partitions = Partitions { log2: PARTITIONS_DEFAULT.ilog2() };

    pub fn new(count: u32) -> Result<Self, PartitionsError> {
        match count.is_power_of_two() && count <= PARTITIONS_MAX {
            true => Ok(Partitions { log2: count.ilog2() }),
            false => Err(PartitionsError { found: count }),
        }
    }

    pub const fn count(self) -> u32 {
        1 << self.log2
    }

    /// The partition of `token` in the data centre with this ordinal.
    pub fn of(self, token: Token, ordinal: u64) -> u32 {
        let shifted = token.to_unsigned().wrapping_add(ordinal);
        // A shift by 64 does not exist: with one partition there is nothing to tell apart.
        let partition = shifted.checked_shr(64 - self.log2).unwrap_or(0);
        u32::try_from(partition).unwrap_or(u32::MAX)
    }

    /// T(partition, ordinal): the token a data centre publishes for a partition.
    pub fn token(self, partition: u32, ordinal: u64) -> Token {
        assert!(partition < self.count());
        let next = u64::from(partition) + 1;
        // For the last partition (i + 1)·2^64/Q is 2^64, which is 0 here: the end is one before it, the highest token.
        let end = next.checked_shl(64 - self.log2).unwrap_or(0);
        Token::from_unsigned(end.wrapping_sub(1).wrapping_sub(ordinal))
    }

    /// The tokens of a partition in the data centre with this ordinal.
    pub fn range(self, partition: u32, ordinal: u64) -> TokenRange {
        let before = if partition == 0 { self.count() - 1 } else { partition - 1 };
        TokenRange { after: self.token(before, ordinal), through: self.token(partition, ordinal) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_ends_of_the_circle_fall_where_the_formula_says() {
        let q = Partitions::new(256).unwrap();
        assert_eq!(
            [q.of(Token::MIN, 0), q.of(Token(-1), 0), q.of(Token(0), 0), q.of(Token::MAX, 0)],
            [0, 127, 128, 255]
        );
        assert_eq!((q.token(255, 0), q.token(127, 0)), (Token::MAX, Token(-1)));
        // One data centre further, the last token of the circle belongs to the first partition.
        assert_eq!((q.of(Token::MAX, 1), q.token(255, 1)), (0, Token(i64::MAX - 1)));
        let one = Partitions::new(1).unwrap();
        assert_eq!((one.of(Token::MAX, 0), one.token(0, 0)), (0, Token::MAX));
        for bad in [0, 3, 255, PARTITIONS_MAX * 2] {
            assert_eq!(Partitions::new(bad), Err(PartitionsError { found: bad }));
        }
    }

    proptest! {
        #[test]
        fn a_token_lies_in_the_range_of_its_partition_and_in_no_other(
            log2 in 0u32..=8, token in any::<i64>(), ordinal in 0u64..64,
        ) {
            let q = Partitions::new(1 << log2).unwrap();
            let own = q.of(Token(token), ordinal);
            for partition in 0..q.count() {
                let range = q.range(partition, ordinal);
                prop_assert_eq!(range.contains(Token(token)), partition == own);
                prop_assert_eq!(q.of(range.through, ordinal), partition);
            }
        }

        #[test]
        fn a_token_belongs_to_the_first_published_token_at_or_after_it(token in any::<i64>(), ordinal in 0u64..3) {
            let q = Partitions::new(32).unwrap();
            let mut published: Vec<(Token, u32)> = (0..32).map(|p| (q.token(p, ordinal), p)).collect();
            published.sort_unstable();
            let first = published.iter().find(|(end, _)| *end >= Token(token)).unwrap_or(&published[0]);
            prop_assert_eq!(q.of(Token(token), ordinal), first.1);
        }

        #[test]
        fn doubling_splits_a_partition_in_two(log2 in 0u32..16, token in any::<i64>(), ordinal in 0u64..64) {
            let (q, twice) = (Partitions::new(1 << log2).unwrap(), Partitions::new(2 << log2).unwrap());
            prop_assert_eq!(twice.of(Token(token), ordinal) / 2, q.of(Token(token), ordinal));
        }
    }
}
