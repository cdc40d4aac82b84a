//! A page of a table's keys, as it is asked for and answered.

use crate::{
    error::CoordinatorError,
    messages::{Found, Timing},
};
use kula_actor::Reply;
use kula_types::{Consistency, Mono, PartitionKey, Token};

/// List a table's keys with their values, in the order of (token, key).
#[derive(Debug)]
pub struct Scan {
    pub keyspace: String,
    pub table: String,
    /// The page begins behind this key, whether or not it exists; none: with the first.
    pub after: Option<PartitionKey>,
    /// Entries at most, 1 to `limits::SCAN_ENTRIES_MAX`.
    pub limit: u32,
    /// Show the newest sibling alone, as `Read::resolve_lww`.
    pub resolve_lww: bool,
    /// How many owners of each key answer.
    pub consistency: Consistency,
    /// As in `Write`. What was found by then is the page.
    pub deadline: Mono,
    pub reply: Reply<Result<ScanAnswer, CoordinatorError>>,
}

#[derive(Debug)]
pub struct ScanAnswer {
    /// Ascending by (token, key), each key once, only keys that exist.
    pub entries: Vec<ScanEntry>,
    /// Where the next page begins: the last key that was looked at, which may be a deleted one. There may be more behind it.
    /// None: the table was read to its end.
    pub next: Option<PartitionKey>,
    pub timing: Timing,
}

#[derive(Debug, PartialEq, Eq)]
pub struct ScanEntry {
    pub key: PartitionKey,
    pub token: Token,
    /// Never `Found::Nothing`.
    pub found: Found,
    /// As `ReadAnswer::context`.
    pub context: Option<String>,
}

impl ScanAnswer {
    /// Whether there may be more.
    pub fn more(&self) -> bool {
        self.next.is_some()
    }
}
