//! From a partition key to its token.

use crate::murmur3;
use kula_types::{PartitionKey, Token};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// How a cluster hashes partition keys; chosen with ring 1 and never changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Partitioner {
    /// 64 bits, Cassandra's variant, so that CQL drivers agree on tokens.
    #[default]
    Murmur3,
}

/// Why a word names no partitioner. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartitionerError {
    #[error("the partitioner md5 is not there yet; this version has murmur3")]
    NotThereYet,
    #[error("{word:?} is not a partitioner; this version has murmur3")]
    Unknown { word: String },
}

impl Partitioner {
    pub fn token(&self, key: &PartitionKey) -> Token {
        match self {
            Partitioner::Murmur3 => match murmur3::first_64_bits(key.as_bytes()) {
                // The lowest token means "before the first"; Cassandra moves the one key in 2^64 that lands on it.
                i64::MIN => Token::MAX,
                token => Token(token),
            },
        }
    }
}

impl FromStr for Partitioner {
    type Err = PartitionerError;

    fn from_str(word: &str) -> Result<Self, PartitionerError> {
        match word {
            "murmur3" => Ok(Partitioner::Murmur3),
            "md5" => Err(PartitionerError::NotThereYet),
            other => Err(PartitionerError::Unknown { word: other.chars().take(32).collect() }),
        }
    }
}

impl fmt::Display for Partitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Partitioner::Murmur3 => f.write_str("murmur3"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md5_is_refused_as_not_there_yet_and_other_words_as_unknown() {
        assert_eq!("murmur3".parse(), Ok(Partitioner::Murmur3));
        assert_eq!("md5".parse::<Partitioner>(), Err(PartitionerError::NotThereYet));
        assert!(matches!("sha".parse::<Partitioner>(), Err(PartitionerError::Unknown { .. })));
        assert_eq!(Partitioner::Murmur3.token(&PartitionKey::copy_from(b"123")), Token(-7_468_325_962_851_647_638));
    }
}
