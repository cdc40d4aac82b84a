//! SSTables: immutable sorted tables on disk (Bigtable §5.3; Dynamo leaves the local store open, §4.9).
//!
#![doc = include_str!("../../../../../docs/format/sstable.md")]
//!
//! # In this module
//! `writer` makes a table, `reader` finds a partition or a slice of one, `scan` walks, `verify` checks every byte.
//! `frame` is the only code that believes a checksum; `block`, `index`, `filter` and `statistics` are the bodies;
//! `position` is the order. No clock, no thread, no randomness: ids and generations are arguments.

mod block;
mod cache;
mod component;
mod cursor;
mod error;
mod filter;
mod frame;
mod index;
pub mod limits;
mod name;
mod position;
mod reader;
mod scan;
mod statistics;
mod verify;
mod walk;
mod writer;

pub use cache::{BlockCache, CacheStatistics};
pub use error::{SstableError, TokenSpan, Why};
pub use frame::FORMAT_VERSION;
pub use name::{Component, FileId};
pub use reader::Sstable;
pub use scan::{Scan, ScanLimits};
pub use statistics::{ComponentDigest, LogSpan, SstableMeta, Statistics, TimestampSpan};
pub use verify::probe;
pub use writer::{Compression, SstableWriter, WriteOptions, remove};

#[cfg(test)]
mod tests;
