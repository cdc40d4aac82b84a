//! The canonical bytes that ids and digests are hashes of: every field with its length, so that no two definitions
//! encode alike. Pinned by golden ids in `table.rs`: a change here would lose every table's data.

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

pub(crate) struct Canonical(Vec<u8>);

impl Canonical {
    /// `domain` says what is hashed, so that a keyspace's id is never a table's.
    pub(crate) fn of(domain: &str) -> Self {
        Canonical(Vec::new()).text(domain)
    }

    pub(crate) fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        let mut longer = self.number(bytes.len() as u64);
        longer.0.extend_from_slice(bytes);
        longer
    }

    pub(crate) fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    pub(crate) fn hash_128(&self) -> u128 {
        xxh3_128(&self.0)
    }

    pub(crate) fn hash_64(&self) -> u64 {
        xxh3_64(&self.0)
    }
}
