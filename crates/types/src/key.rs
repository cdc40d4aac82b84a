//! Partition and clustering keys: bytes whose order is the order on disk.

use bytes::Bytes;
use std::fmt;

/// The bytes that are hashed to a token and that name a partition. At most `limits::KEY_BYTES_MAX`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey(pub Bytes);

/// A row's place inside its partition, encoded so that byte order is clustering order. Empty in a table without
/// clustering columns: such a partition has one row.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ClusteringKey(pub Bytes);

impl PartitionKey {
    pub fn copy_from(bytes: &[u8]) -> Self {
        PartitionKey(Bytes::copy_from_slice(bytes))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl ClusteringKey {
    pub fn copy_from(bytes: &[u8]) -> Self {
        ClusteringKey(Bytes::copy_from_slice(bytes))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl fmt::Debug for ClusteringKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
