//! What a set of records is known by, whatever their order: the sum of a hash of each.
//!
//! The sum of BLAKE3 hashes, cut to 128 bits, modulo 2^128. It tells every accident: a record lost, changed, doubled or
//! filed under another key. It is no defence against somebody who composes records so that their sums agree.

use std::fmt;

/// The digest of a set of records, and how many they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    pub records: u64,
    pub sum: u128,
}

impl Digest {
    pub fn add(&mut self, record_hash: u128) {
        self.records += 1;
        self.sum = self.sum.wrapping_add(record_hash);
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.sum)
    }
}

pub fn key_hash(key: &[u8]) -> u128 {
    cut(blake3::hash(key))
}

/// Of key, content type and value; the lengths keep one from running into the next.
pub fn record_hash(key: &[u8], content_type: &str, value: &[u8]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    for part in [key, content_type.as_bytes()] {
        hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(part);
    }
    cut(hasher.update(value).finalize())
}

fn cut(hash: blake3::Hash) -> u128 {
    let mut half = [0; 16];
    half.copy_from_slice(&hash.as_bytes()[..16]);
    u128::from_le_bytes(half)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(records: &[(&[u8], &str, &[u8])]) -> Digest {
        let mut digest = Digest::default();
        for (key, content_type, value) in records {
            digest.add(record_hash(key, content_type, value));
        }
        digest
    }

    #[test]
    fn order_is_nothing_and_everything_else_counts() {
        let (a, b): ((&[u8], &str, &[u8]), _) = ((b"a", "t", b"1"), (b"b".as_slice(), "t", b"2".as_slice()));
        assert_eq!(digest(&[a, b]), digest(&[b, a]));
        let others = [
            digest(&[a]),
            digest(&[a, b, b]),
            digest(&[a, (b"b", "t", b"3")]),
            digest(&[a, (b"b", "u", b"2")]),
            digest(&[a, (b"bt", "", b"2")]),
            digest(&[(b"a", "t", b"2"), (b"b", "t", b"1")]),
        ];
        assert!(others.iter().all(|other| *other != digest(&[a, b])));
        assert_eq!(digest(&[]).to_string(), "0".repeat(32));
    }
}
