//! A walk over one table of one shard in token order: the merge of memory and SSTables, partition by partition.
//!
//! Holds one partition of each source at a time, so memory is bounded by the widest ones and not by the table.

use super::{
    memtable::Memtable,
    shard::read_error,
    sstable::{ScanLimits, Sstable},
};
use crate::StorageError;
use kula_lattice::{Join, Partition};
use kula_types::{PartitionKey, TableId, Token};
use std::{iter::Peekable, ops::Bound};

/// One partition, joined.
pub type Scanned = (Token, PartitionKey, Partition);

type Source<'a> = Peekable<Box<dyn Iterator<Item = Result<Scanned, StorageError>> + 'a>>;

/// Partitions from a place on. After an error the scan is over: what it did not reach is unknown.
pub struct Scan<'a> {
    sources: Vec<Source<'a>>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(
        shard: u16,
        table: TableId,
        from: Bound<(Token, PartitionKey)>,
        memtables: impl Iterator<Item = &'a Memtable>,
        sstables: &'a [Sstable],
    ) -> Self {
        let limits = ScanLimits { to: Bound::Unbounded, piece_bytes: usize::MAX };
        let mut sources: Vec<Source<'a>> = Vec::new();
        for memtable in memtables {
            let partitions = memtable.scan(table, from.clone());
            let owned = partitions.map(|(token, key, partition)| Ok((token, key.clone(), partition)));
            sources.push((Box::new(owned) as Box<dyn Iterator<Item = _>>).peekable());
        }
        for sstable in sstables {
            let partitions = sstable.scan(from.clone(), limits.clone());
            let owned = partitions.map(move |partition| partition.map_err(|error| read_error(shard, table, error)));
            sources.push((Box::new(owned) as Box<dyn Iterator<Item = _>>).peekable());
        }
        Scan { sources }
    }

    fn step(&mut self) -> Result<Option<Scanned>, StorageError> {
        let mut least: Option<(Token, PartitionKey)> = None;
        for source in &mut self.sources {
            let here = match source.peek() {
                Some(Ok((token, key, _))) => (*token, key.clone()),
                Some(Err(error)) => return Err(error.clone()),
                None => continue,
            };
            least = Some(least.map_or(here.clone(), |least| least.min(here)));
        }
        let Some((token, key)) = least else { return Ok(None) };
        let mut joined = Partition::default();
        for source in &mut self.sources {
            let is_here =
                |next: &Result<Scanned, StorageError>| matches!(next, Ok((at, of, _)) if (*at, of) == (token, &key));
            if let Some(Ok((_, _, partition))) = source.next_if(is_here) {
                joined.join(partition);
            }
        }
        Ok(Some((token, key, joined)))
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<Scanned, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.sources.clear();
        }
        step.transpose()
    }
}
