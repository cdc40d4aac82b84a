//! Where a partition key lies on the ring.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A position on the ring: 64 bits, signed as Cassandra's murmur3 tokens are. Tokens order the disk as well.
/// `i64::MIN` is never a key's token (it is normalised to `i64::MAX`), so it can mean "before the first".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Token(pub i64);

impl Token {
    pub const MIN: Token = Token(i64::MIN);
    pub const MAX: Token = Token(i64::MAX);

    /// Eight bytes whose byte order is the token order.
    pub const fn to_ordered_bytes(self) -> [u8; 8] {
        self.to_unsigned().to_be_bytes()
    }

    pub const fn from_ordered_bytes(bytes: [u8; 8]) -> Self {
        Token::from_unsigned(u64::from_be_bytes(bytes))
    }

    /// The distance from `i64::MIN`: the same order, unsigned.
    pub const fn to_unsigned(self) -> u64 {
        self.0.cast_unsigned() ^ (1 << 63)
    }

    pub const fn from_unsigned(distance: u64) -> Self {
        Token((distance ^ (1 << 63)).cast_signed())
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_is_token_order() {
        let tokens = [i64::MIN, -1 << 40, -1, 0, 1, 1 << 40, i64::MAX].map(Token);
        for pair in tokens.windows(2) {
            assert!(pair[0].to_ordered_bytes() < pair[1].to_ordered_bytes());
        }
        for token in tokens {
            assert_eq!(Token::from_ordered_bytes(token.to_ordered_bytes()), token);
        }
    }
}
