//! A walk over one table of one shard in token order: the merge of memory and SSTables, partition by partition.
//!
//! Holds one partition of each source at a time, so memory is bounded by the widest ones and not by the table.

use super::{
    memtable::Memtable,
    shard::read_error,
    sstable::{ScanLimits, Sstable},
};
use crate::{RangePage, StorageError, limits};
use kula_fault::{Site, buggify};
use kula_lattice::{Join, Partition};
use kula_types::{PartitionKey, TableId, Token};
use std::{iter::Peekable, mem, ops::Bound};

/// One partition, joined.
pub type Scanned = (Token, PartitionKey, Partition);

type Source<'a> = Peekable<Box<dyn Iterator<Item = Result<Scanned, StorageError>> + 'a>>;

/// Partitions from a place on. After an error the scan is over: what it did not reach is unknown.
pub struct Scan<'a> {
    sources: Vec<Source<'a>>,
    through: Token,
    /// In memory, of what was read so far, joined or not.
    bytes: usize,
}

/// When a page ends.
#[derive(Clone, Copy, Debug)]
pub struct PageBudget {
    pub partitions: usize,
    pub bytes: usize,
}

impl Default for PageBudget {
    fn default() -> Self {
        PageBudget { partitions: limits::RANGE_PARTITIONS_MAX, bytes: limits::RANGE_BYTES_MAX }
    }
}

impl PageBudget {
    /// What was asked for, within the bounds; a page has room for one partition at least.
    pub fn of(partitions: usize, bytes: usize) -> Self {
        let PageBudget { partitions: partitions_max, bytes: bytes_max } = PageBudget::default();
        PageBudget { partitions: partitions.clamp(1, partitions_max), bytes: bytes.min(bytes_max) }
    }
}

impl<'a> Scan<'a> {
    pub(super) fn new(
        shard: u16,
        table: TableId,
        from: Bound<(Token, PartitionKey)>,
        through: Token,
        memtables: impl Iterator<Item = &'a Memtable>,
        sstables: &'a [Sstable],
    ) -> Self {
        // No key is empty: whatever lies before an empty key of the next token has at most this one.
        let past = through.0.checked_add(1).map(|next| (Token(next), PartitionKey::copy_from(&[])));
        let limits = ScanLimits { to: past.map_or(Bound::Unbounded, Bound::Excluded), piece_bytes: usize::MAX };
        let first = match &from {
            Bound::Included((token, _)) | Bound::Excluded((token, _)) => *token,
            Bound::Unbounded => Token::MIN,
        };
        let mut sources: Vec<Source<'a>> = Vec::new();
        for memtable in memtables {
            let partitions = memtable.scan(table, from.clone());
            let owned = partitions.map(|(token, key, partition)| Ok((token, key.clone(), partition)));
            sources.push((Box::new(owned) as Box<dyn Iterator<Item = _>>).peekable());
        }
        // One that lies elsewhere costs no disk read.
        for sstable in sstables.iter().filter(|sstable| sstable.meta().first <= through && sstable.meta().last >= first)
        {
            let partitions = sstable.scan(from.clone(), limits.clone());
            let owned = partitions.map(move |partition| partition.map_err(|error| read_error(shard, table, error)));
            sources.push((Box::new(owned) as Box<dyn Iterator<Item = _>>).peekable());
        }
        Scan { sources, through, bytes: 0 }
    }

    /// The partitions up to where the budget ends. What lies before a damaged place is a page too; the next one begins
    /// with the error.
    pub fn page(mut self, budget: PageBudget) -> Result<RangePage, StorageError> {
        let mut page = RangePage::default();
        for _ in 0..budget.partitions {
            if page.resume.is_some() && buggify(Site::PageEndsEarly) {
                return Ok(page);
            }
            let (token, key, partition) = match self.step() {
                Ok(Some(scanned)) => scanned,
                Ok(None) => return Ok(RangePage { resume: None, ..page }),
                Err(_) if page.resume.is_some() => return Ok(page),
                Err(error) => return Err(error),
            };
            if self.bytes > budget.bytes && page.resume.is_some() {
                // Read in vain, once a page: a page is not larger than its budget unless one partition is.
                return Ok(page);
            }
            page.resume = Some((token, key.clone()));
            if !partition.is_empty() {
                page.rows.push((token, key, partition));
            }
        }
        Ok(page)
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
        let Some((token, key)) = least.filter(|(token, _)| *token <= self.through) else { return Ok(None) };
        self.bytes += key.as_bytes().len();
        let mut joined = Partition::default();
        for source in &mut self.sources {
            let is_here =
                |next: &Result<Scanned, StorageError>| matches!(next, Ok((at, of, _)) if (*at, of) == (token, &key));
            if let Some(Ok((_, _, partition))) = source.next_if(is_here) {
                self.bytes += mem::size_of::<Scanned>() + partition.heap_bytes();
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
