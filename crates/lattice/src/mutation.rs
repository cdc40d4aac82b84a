//! A mutation: a delta with its address and its identity. The one thing that travels, is logged, hinted and applied.

use crate::Partition;
use kula_types::{Dot, PartitionKey, TableId, Token};

/// Minted once, by its first coordinator, before its first send; forwards, retries, hints and repairs of it reuse `mid`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mutation {
    pub table: TableId,
    pub token: Token,
    pub key: PartitionKey,
    pub mid: Dot,
    /// The sequence `mid`'s actor last minted for this ring partition as far as it remembered, else seq − 1: lets
    /// replicas see what they lack of the recent past. Never evidence for dropping anything.
    pub previous: u64,
    pub delta: Partition,
}
