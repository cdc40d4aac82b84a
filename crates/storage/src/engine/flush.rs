//! Writing a frozen memtable out: SSTables, then the manifest that makes them live.
//!
//! A job is plain data and runs on any thread. Safe to repeat, and safe to lose: until the manifest names the new
//! tables the log still holds every record in them. What may be dropped on the way is what `cell.md` allows at any
//! time: the floors that justify it go into the same table. Nothing is turned into a stub here: that needs the lowest
//! clock of the cluster, and a flush has no peers.

use super::{
    layout,
    manifest::Manifest,
    memtable::Memtable,
    sstable::{
        self, Component, Compression, FileId, LogSpan, Sstable, SstableError, SstableMeta, SstableWriter, WriteOptions,
    },
};
use crate::FlushReport;
use kula_disk::{Disk, DiskError};
use kula_fault::{Mutant, planted};
use kula_types::TableId;
use std::{ops::Bound, sync::Arc};

/// Everything that a flush needs to know.
pub struct FlushJob {
    memtable: Arc<Memtable>,
    /// The manifest as it is now; nobody else changes it while the job runs.
    manifest: Manifest,
    compression: Compression,
    /// Tables that an earlier run of this job finished, when it was the manifest that failed.
    written: Option<Vec<SstableMeta>>,
}

/// What a job made durable.
pub struct Flushed {
    pub manifest: Manifest,
    /// The new tables, open.
    pub tables: Vec<Sstable>,
    pub report: FlushReport,
}

/// Why a job did not finish. The memtable and the log still hold everything.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// No space, or no file may be opened. Run it again when there is room.
    #[error("no room for a flush: {0}")]
    Full(#[source] DiskError),
    /// The disk failed: what it holds is in doubt, and the node must not go on.
    #[error("a flush failed: {0}")]
    Failed(#[source] SstableError),
}

impl From<SstableError> for FlushError {
    fn from(error: SstableError) -> Self {
        match error {
            SstableError::Disk(error) if error.is_temporary() => FlushError::Full(error),
            error => FlushError::Failed(error),
        }
    }
}

impl From<DiskError> for FlushError {
    fn from(error: DiskError) -> Self {
        FlushError::from(SstableError::Disk(error))
    }
}

impl FlushJob {
    pub fn new(memtable: Arc<Memtable>, manifest: Manifest, compression: Compression) -> Self {
        FlushJob { memtable, manifest, compression, written: None }
    }

    pub fn shard(&self) -> u16 {
        self.manifest.shard
    }

    pub fn run(&mut self, disk: &dyn Disk) -> Result<Flushed, FlushError> {
        let directory = layout::shard_dir(self.manifest.shard);
        let generation = self.manifest.generation + 1;
        let new = match self.written.take() {
            Some(written) => written,
            None => self.write_tables(disk, &directory, generation)?,
        };
        let mut manifest = Manifest { generation, ..self.manifest.clone() };
        manifest.tables.extend(&new);
        if let Some(until) = self.memtable.until() {
            assert!(until >= manifest.flushed, "a memtable starts where the last flush ended");
            manifest.flushed = until;
        }
        if let Err(error) = manifest.write(disk) {
            // The old manifest or the new one is there: the new tables must stay for it, and for the next try.
            self.written = Some(new);
            return Err(error.into());
        }
        let mut report = FlushReport { tables: new.len(), bytes: 0 };
        let mut tables = Vec::with_capacity(new.len());
        for meta in &new {
            report.bytes += bytes_of(meta);
            match Sstable::open(disk, &directory, meta) {
                Ok(table) => tables.push(table),
                Err(error) => {
                    self.written = Some(new);
                    return Err(error.into());
                }
            }
        }
        Ok(Flushed { manifest, tables, report })
    }

    fn write_tables(&self, disk: &dyn Disk, directory: &str, generation: u64) -> Result<Vec<SstableMeta>, FlushError> {
        let mut written: Vec<SstableMeta> = Vec::new();
        for table in self.memtable.tables() {
            let file = draw_file_id(disk)?;
            match self.write_table(disk, directory, generation, table, file) {
                Ok(meta) => written.extend(meta),
                Err(error) => {
                    give_back(disk, directory, written.iter().map(|meta| meta.file).chain([file]));
                    return Err(error);
                }
            }
        }
        if let Err(error) = disk.sync_dir(directory) {
            give_back(disk, directory, written.iter().map(|meta| meta.file));
            return Err(error.into());
        }
        Ok(written)
    }

    /// `None`: nothing in this table is worth a file.
    fn write_table(
        &self,
        disk: &dyn Disk,
        directory: &str,
        generation: u64,
        table: TableId,
        file: FileId,
    ) -> Result<Option<SstableMeta>, FlushError> {
        let log = self.memtable.until().map(|until| LogSpan { first: self.manifest.flushed, last: until });
        let options = WriteOptions { compression: self.compression, log, ..WriteOptions::new(table) };
        let mut writer = None;
        for (token, key, mut partition) in self.memtable.scan(table, Bound::Unbounded) {
            partition.compact(None, None);
            if planted(Mutant::EarlyPurgeAtFlush) {
                partition.floor = None;
            }
            if partition.is_empty() {
                continue;
            }
            let writer = match &mut writer {
                Some(writer) => writer,
                None => writer.insert(SstableWriter::create(disk, directory, file, generation, options)?),
            };
            writer.add(token, key, &partition)?;
        }
        Ok(writer.map(SstableWriter::finish).transpose()?)
    }
}

/// Removes the files of tables that are not to be. What cannot be removed now is in no manifest: the next start does it.
fn give_back(disk: &dyn Disk, directory: &str, files: impl Iterator<Item = FileId>) {
    for file in files {
        drop(sstable::remove(disk, directory, file));
    }
}

/// Bytes of a table's files.
pub fn bytes_of(meta: &SstableMeta) -> u64 {
    meta.data_bytes + meta.index_bytes + meta.filter_bytes + meta.statistics_bytes
}

/// Files are named by the disk's own random numbers: never by a clock, never the same twice.
fn draw_file_id(disk: &dyn Disk) -> Result<FileId, DiskError> {
    let (high, low) = (disk.salt()?, disk.salt()?);
    Ok(FileId((u128::from(high) << 64 | u128::from(low)).to_be_bytes()))
}

/// Removes what an unfinished flush left: files with an SSTable's name that the manifest does not list.
pub fn remove_leftovers(disk: &dyn Disk, manifest: &Manifest) -> Result<usize, DiskError> {
    let directory = layout::shard_dir(manifest.shard);
    let mut removed = 0;
    for name in disk.list(&directory)? {
        let Some((file, _)) = Component::parse_file_name(&name) else { continue };
        if !manifest.tables.iter().any(|live| live.file == file) {
            disk.unlink(&format!("{directory}/{name}"))?;
            removed += 1;
        }
    }
    Ok(removed)
}
