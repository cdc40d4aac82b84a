//! A shard: one memtable that takes writes, at most one that is being written out, and the live tables.
//!
//! Owned by one thread. A write enters here only after the log made it durable, in the log's order; so what a shard
//! shows is always covered by log and tables, and replay makes the same shard again.

use super::{
    flush::{self, FlushJob, Flushed},
    layout,
    manifest::Manifest,
    memtable::Memtable,
    scan::{PageBudget, Scan},
    sstable::{BlockCache, Compression, Sstable, SstableError},
};
use crate::{RangePage, ShardStatistics, StorageError, limits};
use kula_disk::{Disk, log::Position};
use kula_fault::{Mutant, Site, buggify, planted};
use kula_lattice::{Join, Mutation, Partition, Slice};
use kula_types::{
    Key, PartitionKey, TableId, Token,
    limits::{SIBLING_BYTES_MAX, SIBLINGS_MAX},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    mem,
    ops::Bound,
    sync::Arc,
};

/// What a shard may hold in memory, bytes.
#[derive(Clone, Copy, Debug)]
pub struct ShardBudget {
    /// The active memtable past this is flushed.
    pub flush_at: usize,
    /// Active, frozen and on their way to the log together; past this writes are shed.
    pub heap_max: usize,
    /// Plain blocks of tables, kept for reads.
    pub cache_max: usize,
}

pub struct Shard {
    index: u16,
    budget: ShardBudget,
    compression: Compression,
    active: Memtable,
    /// Being written out. Invariant: older than everything in `active`.
    frozen: Option<Arc<Memtable>>,
    /// Newest first, by highest timestamp.
    tables: BTreeMap<TableId, Vec<Sstable>>,
    /// Shared by all tables of the shard.
    cache: Arc<BlockCache>,
    manifest: Manifest,
}

/// Siblings of a cell, as far as memory knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Siblings {
    pub count: usize,
    pub bytes: usize,
}

impl Shard {
    /// Reads the manifest and opens its tables; removes what an unfinished flush left. `may_create`: the directory is
    /// new, so there need not be a manifest yet.
    pub fn open(
        disk: &dyn Disk,
        index: u16,
        budget: ShardBudget,
        compression: Compression,
        may_create: bool,
    ) -> Result<Self, StorageError> {
        let directory = layout::shard_dir(index);
        if may_create && !disk.exists(&directory)? {
            disk.create_dir(&directory)?;
            disk.sync_dir("")?;
        }
        let manifest = match Manifest::read(disk, index)? {
            Some(manifest) => manifest,
            None if may_create => {
                let manifest = Manifest::new(index);
                manifest.write(disk)?;
                manifest
            }
            None => return Err(StorageError::ManifestDamaged { shard: index, what: "it is missing".into() }),
        };
        flush::remove_leftovers(disk, &manifest)?;
        let mut shard = Shard {
            index,
            budget,
            compression,
            active: Memtable::default(),
            frozen: None,
            tables: BTreeMap::new(),
            cache: Arc::new(BlockCache::new(budget.cache_max)),
            manifest,
        };
        for meta in &shard.manifest.tables {
            let sstable =
                Sstable::open(disk, &directory, meta).map_err(|error| read_error(index, meta.table, error))?;
            shard.tables.entry(meta.table).or_default().push(sstable.with_cache(shard.cache.clone()));
        }
        shard.sort_tables();
        Ok(shard)
    }

    /// Joins a record that is durable in the log. All records of this shard before `until` have now been joined.
    /// `encoded_bytes` is the length of the buffer that the mutation's keys and bodies are slices of.
    pub fn join(&mut self, until: Position, mutation: Mutation, encoded_bytes: usize) {
        assert!(until >= self.manifest.flushed, "a record that is in tables is not joined again");
        self.active.join(until, mutation, encoded_bytes);
    }

    /// What is known of a partition: the join of memory and tables, clipped to the slice.
    pub fn read(
        &self,
        table: TableId,
        token: Token,
        key: &PartitionKey,
        slice: &Slice,
    ) -> Result<Partition, StorageError> {
        let mut found = self.in_memory(table, token, key, slice);
        for sstable in self.tables.get(&table).into_iter().flatten() {
            if is_covered(&found, sstable) {
                continue;
            }
            let more = sstable.get(token, key, slice).map_err(|error| read_error(self.index, table, error))?;
            if let Some(more) = more {
                found.join(more);
            }
        }
        Ok(found)
    }

    /// All partitions of a table in token order, from a place on.
    pub fn scan(&self, table: TableId, from: Bound<(Token, PartitionKey)>) -> Scan<'_> {
        self.scan_through(table, from, Token::MAX)
    }

    /// A page of a table's partitions: those behind `after`, up to the token `through`.
    pub fn read_range(
        &self,
        table: TableId,
        after: (Token, PartitionKey),
        through: Token,
        budget: PageBudget,
    ) -> Result<RangePage, StorageError> {
        let mut page = self.scan_through(table, Bound::Excluded(after), through).page(budget)?;
        if planted(Mutant::PageTooShort) {
            page.rows.pop();
        }
        Ok(page)
    }

    fn scan_through(&self, table: TableId, from: Bound<(Token, PartitionKey)>, through: Token) -> Scan<'_> {
        let memtables = std::iter::once(&self.active).chain(self.frozen.as_deref());
        Scan::new(self.index, table, from, through, memtables, self.tables.get(&table).map_or(&[], Vec::as_slice))
    }

    fn in_memory(&self, table: TableId, token: Token, key: &PartitionKey, slice: &Slice) -> Partition {
        let mut found = self.active.get(table, token, key, slice).unwrap_or_default();
        let frozen = self.frozen.as_ref().filter(|_| !planted(Mutant::FrozenNotRead));
        if let Some(frozen) = frozen.and_then(|frozen| frozen.get(table, token, key, slice)) {
            found.join(frozen);
        }
        found
    }

    /// The most siblings that memory knows of any cell to which this mutation adds one. No disk is read.
    pub fn siblings(&self, mutation: &Mutation) -> Siblings {
        let mut most = Siblings::default();
        for (clustering, row) in mutation.delta.rows.iter() {
            let adds = |cell: &kula_lattice::Cell| cell.dots.as_ref().is_some_and(|dots| !dots.live.is_empty());
            let mut cells = row.cells.iter().filter(|(_, cell)| adds(cell)).peekable();
            if cells.peek().is_none() {
                continue;
            }
            let slice = Slice::row(clustering.clone());
            let mut known = self.in_memory(mutation.table, mutation.token, &mutation.key, &slice);
            known.compact(None, None);
            for (id, _) in cells {
                let Some(dots) = known.cell(clustering, id).and_then(|cell| cell.dots.as_ref()) else { continue };
                let bodies = dots.live.values().filter_map(|live| live.body.bytes());
                let here = bodies.fold(Siblings::default(), |sum, body| Siblings {
                    count: sum.count + 1,
                    bytes: sum.bytes + body.len(),
                });
                most = Siblings { count: most.count.max(here.count), bytes: most.bytes.max(here.bytes) };
            }
        }
        most
    }

    /// Why this write of so many encoded bytes is not taken while `pending_bytes` are on their way to the log, if it is not.
    /// `path` is who says so; `flush_waits`: what the flush under way waits for.
    pub fn refuses(
        &self,
        mutation: &Mutation,
        (bytes, bytes_max): (usize, usize),
        sibling_cap: bool,
        pending_bytes: usize,
        (path, flush_waits): (&Arc<str>, Option<&StorageError>),
    ) -> Option<StorageError> {
        if bytes > bytes_max {
            return Some(StorageError::TooLarge { bytes, bytes_max });
        }
        let pending_bytes = pending_bytes + bytes;
        if pending_bytes > limits::LOG_PENDING_BYTES_MAX || self.is_full(pending_bytes) {
            // Memory that waits for a flush that waits for the disk: the disk is what the writer must know of.
            let overloaded = || StorageError::Overloaded { path: path.clone() };
            return Some(flush_waits.cloned().unwrap_or_else(overloaded));
        }
        if sibling_cap {
            let Siblings { count, bytes } = self.siblings(mutation);
            if count >= SIBLINGS_MAX || (count >= 2 && bytes >= SIBLING_BYTES_MAX) {
                return Some(StorageError::SiblingCap { siblings: count, bytes });
            }
        }
        None
    }

    /// Whether it is time to flush, and no flush is under way.
    pub fn wants_flush(&self) -> bool {
        let is_due = self.active.heap_bytes() >= self.budget.flush_at;
        self.frozen.is_none() && (is_due || (!self.active.is_empty() && buggify(Site::FlushEarly)))
    }

    /// As `wants_flush`, for a replay, where no write waits meanwhile: the later, the less is written twice.
    pub fn wants_flush_in_replay(&self) -> bool {
        self.active.heap_bytes() >= self.budget.heap_max / 4 * 3
    }

    /// Whether memory has no room for as many bytes more.
    pub fn is_full(&self, bytes: usize) -> bool {
        let held = self.active.heap_bytes() + self.frozen.as_ref().map_or(0, |frozen| frozen.heap_bytes());
        held.saturating_add(bytes) > self.budget.heap_max
    }

    /// Starts a flush: from now on the active memtable is a new one. `None` if there is nothing to flush, or if a
    /// flush is under way.
    pub fn freeze(&mut self) -> Option<FlushJob> {
        if self.frozen.is_some() || self.active.is_empty() {
            return None;
        }
        let memtable = Arc::new(mem::take(&mut self.active));
        self.frozen = Some(memtable.clone());
        Some(FlushJob::new(memtable, self.manifest.clone(), self.compression))
    }

    /// Takes over what the job of the last `freeze` made durable. Answers the place in the log before which this shard
    /// needs nothing.
    pub fn install(&mut self, flushed: Flushed) -> Position {
        let Flushed { manifest, tables, .. } = flushed;
        assert!(self.frozen.is_some(), "one flush at a time");
        assert_eq!(manifest.generation, self.manifest.generation + 1, "nobody else changes the manifest");
        self.frozen = None;
        self.manifest = manifest;
        for sstable in tables {
            self.tables.entry(sstable.meta().table).or_default().push(sstable.with_cache(self.cache.clone()));
        }
        self.sort_tables();
        self.manifest.flushed
    }

    pub fn index(&self) -> u16 {
        self.index
    }

    /// All records of this shard before it are in tables.
    pub fn flushed(&self) -> Position {
        self.manifest.flushed
    }

    pub fn is_flushing(&self) -> bool {
        self.frozen.is_some()
    }

    /// Whatever is in memory is being written out.
    pub fn is_active_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// Nothing in memory.
    pub fn is_clean(&self) -> bool {
        self.frozen.is_none() && self.active.is_empty()
    }

    /// What is on its way to the log is the caller's to add.
    pub fn statistics(&self) -> ShardStatistics {
        let bytes = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let in_memory = self.active.tables().chain(self.frozen.iter().flat_map(|frozen| frozen.tables()));
        let tables: BTreeSet<TableId> = self.tables.keys().copied().chain(in_memory).collect();
        ShardStatistics {
            memtable_bytes: bytes(self.active.heap_bytes()),
            frozen_bytes: bytes(self.frozen.as_ref().map_or(0, |frozen| frozen.heap_bytes())),
            pending_bytes: 0,
            sstables: self.manifest.tables.len(),
            sstable_bytes: self.manifest.tables.iter().map(flush::bytes_of).sum(),
            tables: tables.len(),
        }
    }

    fn sort_tables(&mut self) {
        for sstables in self.tables.values_mut() {
            sstables.sort_by_key(|sstable| Reverse(sstable.highest_timestamp()));
        }
    }
}

/// Whether nothing in an older table can matter (`cell.md`): a floor over the whole partition was found that lies
/// strictly above all the table holds, and the table has no dots, which outlive floors in `seen`.
fn is_covered(found: &Partition, sstable: &Sstable) -> bool {
    if planted(Mutant::SkipsNoNewerTable) && found.highest_timestamp() >= sstable.highest_timestamp() {
        return true;
    }
    let is_below = |floor: Key| sstable.highest_timestamp().is_none_or(|highest| highest < floor.ts());
    !sstable.has_causal() && found.floor.is_some_and(is_below)
}

pub(super) fn read_error(shard: u16, table: TableId, error: SstableError) -> StorageError {
    match error {
        SstableError::Disk(error) => StorageError::from(error),
        error => StorageError::Damaged { shard, table, what: error.to_string().into() },
    }
}
