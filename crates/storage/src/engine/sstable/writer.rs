//! Writing a table: one pass over partitions in order, then four syncs.
//!
//! Memory: one data block (or the largest entry), one index block, one filter part (2 MiB of hashes, about 10 MB while
//! it is built), the write buffer, and a separator for each index block, some ten bytes for 6 MiB of data.

use super::{
    block::{BlockBuilder, entry_bytes, segment_bytes},
    error::SstableError,
    filter::FilterBuilder,
    frame::{Extent, FrameWriter, Seed},
    index::IndexBuilder,
    limits::{
        BLOCK_BYTES_DEFAULT, BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, ENTRY_BYTES_MAX, INDEX_BLOCK_BYTES, WRITE_BUFFER_BYTES,
    },
    name::{Component, FileId},
    position::{put_partition, put_row, separator},
    statistics::{ComponentDigest, LogSpan, SstableMeta, Statistics, Tally},
};
use kula_disk::{Disk, File};
use kula_fault::{Mutant, planted};
use kula_lattice::{Partition, codec};
use kula_types::{PartitionKey, TableId, Token, limits::KEY_BYTES_MAX};

/// How data blocks are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    None,
    /// LZ4 blocks; a block that it does not shrink by a sixteenth is stored raw.
    Lz4,
}

/// How and of what a table is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WriteOptions {
    pub table: TableId,
    /// Plain bytes a data block aims for, `limits::BLOCK_BYTES_MIN` to `limits::BLOCK_BYTES_MAX`.
    pub block_bytes: usize,
    pub compression: Compression,
    /// What of the commit log the table makes superfluous, if it comes from a memtable.
    pub log: Option<LogSpan>,
}

impl WriteOptions {
    pub fn new(table: TableId) -> Self {
        WriteOptions { table, block_bytes: BLOCK_BYTES_DEFAULT, compression: Compression::Lz4, log: None }
    }
}

/// A table being written. After an error it can only be dropped, and its files unlinked (`remove`).
pub struct SstableWriter {
    options: WriteOptions,
    file: FileId,
    generation: u64,
    statistics_file: ComponentFile,
    data: ComponentFile,
    block: BlockBuilder,
    /// The separator before the open block.
    block_separator: Vec<u8>,
    index: IndexWriter,
    filter: ComponentFile,
    filter_keys: FilterBuilder,
    tally: Tally,
    blocks: u64,
    plain_bytes: u64,
    first: Option<(Token, PartitionKey)>,
    last: Option<(Token, PartitionKey)>,
    /// The position of the partition begun last, and of the entry added last.
    partition_position: Vec<u8>,
    last_position: Vec<u8>,
    /// Buffers kept from entry to entry: the position being made, an encoded header, an encoded row.
    position: Vec<u8>,
    header_bytes: Vec<u8>,
    row_bytes: Vec<u8>,
}

impl SstableWriter {
    /// Makes the four files, which must not exist, in the directory `prefix`.
    pub fn create(
        disk: &dyn Disk,
        prefix: &str,
        file: FileId,
        generation: u64,
        options: WriteOptions,
    ) -> Result<Self, SstableError> {
        assert!((BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&options.block_bytes));
        let create = |component: Component, compression| {
            ComponentFile::create(
                disk,
                &component.file_name(prefix, file),
                Seed::new(file, generation, component),
                compression,
            )
        };
        let lean = Compression::None;
        Ok(SstableWriter {
            options,
            file,
            generation,
            data: create(Component::Data, options.compression)?,
            index: IndexWriter::new(create(Component::Index, lean)?),
            filter: create(Component::Filter, lean)?,
            statistics_file: create(Component::Statistics, lean)?,
            block: BlockBuilder::default(),
            block_separator: Vec::new(),
            filter_keys: FilterBuilder::default(),
            tally: Tally::default(),
            blocks: 0,
            plain_bytes: 0,
            first: None,
            last: None,
            partition_position: Vec::new(),
            last_position: Vec::new(),
            position: Vec::new(),
            header_bytes: Vec::new(),
            row_bytes: Vec::new(),
        })
    }

    /// Adds a partition above all before, in (token, key) order; or more rows of the last one, above all of its rows
    /// and without a header of their own: so a partition may be written in pieces. Bottom is not written.
    pub fn add(&mut self, token: Token, key: &PartitionKey, partition: &Partition) -> Result<(), SstableError> {
        assert!(key.as_bytes().len() <= KEY_BYTES_MAX);
        let begins = self.last.as_ref().is_none_or(|last| (last.0, &last.1) != (token, key));
        let has_header = self.encode_header(partition)?;
        assert!(begins || !has_header, "only a partition's first piece has its header");
        let mut begun = !begins;
        for (clustering, row) in partition.rows.iter().filter(|(_, row)| !row.is_bottom()) {
            self.row_bytes.clear();
            codec::encode_row(row, &mut self.row_bytes);
            check_entry(&self.row_bytes)?;
            let need_bytes = entry_bytes(clustering.as_bytes(), self.row_bytes.len());
            if !begun {
                self.begin(token, key, has_header, need_bytes)?;
                begun = true;
            }
            self.row(token, key, clustering.as_bytes(), need_bytes)?;
        }
        if !begun && has_header {
            self.begin(token, key, has_header, 0)?;
            begun = true;
        }
        if begun {
            self.tally.observe(partition, begins);
        }
        Ok(())
    }

    /// Everything of the partition but its rows, into `header_bytes`. False: there is nothing.
    fn encode_header(&mut self, partition: &Partition) -> Result<bool, SstableError> {
        let Partition { floor, statics, ranges, rows: _ } = partition;
        self.header_bytes.clear();
        if floor.is_none() && statics.as_ref().is_none_or(|row| row.is_bottom()) && ranges.is_empty() {
            return Ok(false);
        }
        codec::encode_partition_head(partition, &mut self.header_bytes);
        check_entry(&self.header_bytes)?;
        Ok(true)
    }

    /// Begins a partition; `row_bytes` are what its first row needs, so that a small partition lies in one block.
    fn begin(
        &mut self,
        token: Token,
        key: &PartitionKey,
        has_header: bool,
        row_bytes: usize,
    ) -> Result<(), SstableError> {
        self.block.end(false);
        let need_bytes = segment_bytes(key.as_bytes()) + self.header_bytes.len() + row_bytes;
        if !self.block.is_empty() && self.block.len() + need_bytes > self.options.block_bytes {
            self.write_block()?;
        }
        self.partition_position.clear();
        put_partition(&mut self.partition_position, token, key.as_bytes());
        let position = std::mem::take(&mut self.partition_position);
        self.moved_to(&position);
        self.partition_position = position;
        self.block.begin(token, key.as_bytes(), true, has_header.then_some(self.header_bytes.as_slice()));
        self.filter_keys_add(token, key)?;
        if self.first.is_none() {
            self.first = Some((token, key.clone()));
        }
        self.last = Some((token, key.clone()));
        Ok(())
    }

    /// Adds the row in `row_bytes`, in a new block if it does not fit.
    fn row(
        &mut self,
        token: Token,
        key: &PartitionKey,
        clustering: &[u8],
        need_bytes: usize,
    ) -> Result<(), SstableError> {
        let mut position = std::mem::take(&mut self.position);
        position.clear();
        position.extend_from_slice(&self.partition_position);
        put_row(&mut position, clustering);
        let full = self.block.len() + need_bytes > self.options.block_bytes;
        if full && self.block.may_cut() {
            self.block.end(true);
            self.write_block()?;
        }
        self.moved_to(&position);
        self.position = position;
        if !self.block.is_open() {
            self.block.begin(token, key.as_bytes(), false, None);
        }
        self.block.row(clustering, &self.row_bytes);
        Ok(())
    }

    /// The next entry is at `position`; notes what separates a new block from the one before.
    fn moved_to(&mut self, position: &[u8]) {
        assert!(self.last_position.as_slice() < position, "entries are added in ascending order");
        if self.block.is_empty() {
            self.block_separator.clear();
            if self.blocks > 0 {
                self.block_separator.extend_from_slice(separator(&self.last_position, position));
            }
        }
        self.last_position.clear();
        self.last_position.extend_from_slice(position);
    }

    fn write_block(&mut self) -> Result<(), SstableError> {
        let block = self.block.finish();
        let extent = self.data.put(block)?;
        self.blocks += 1;
        self.plain_bytes += block.len() as u64;
        self.block.clear();
        self.index.add(&self.block_separator, extent)
    }

    fn filter_keys_add(&mut self, token: Token, key: &PartitionKey) -> Result<(), SstableError> {
        if let Some(part) = self.filter_keys.add(token, key.as_bytes()) {
            self.filter.put(&part)?;
        }
        Ok(())
    }

    /// Bytes handed over so far, compressed as they will be: for a caller that cuts its output into tables.
    pub fn data_bytes(&self) -> u64 {
        self.data.offset() + self.block.len() as u64
    }

    /// Writes what is left and makes each file's bytes durable. The names are not: the caller syncs the directory, and
    /// only then lets the manifest speak of the table. At least one partition must have been added.
    pub fn finish(mut self) -> Result<SstableMeta, SstableError> {
        let (Some(first), Some(last)) = (self.first.take(), self.last.take()) else { panic!("a table is not empty") };
        self.block.end(false);
        self.write_block()?;
        if let Some(part) = self.filter_keys.finish() {
            self.filter.put(&part)?;
        }
        let (index, index_top) = self.index.finish()?;
        let (first_token, last_token) = (first.0, last.0);
        let statistics = Statistics {
            table: self.options.table,
            partitions: self.tally.partitions,
            rows: self.tally.rows,
            cells: self.tally.cells,
            blocks: self.blocks,
            plain_bytes: self.plain_bytes,
            values: self.tally.values,
            floors: self.tally.floors,
            has_causal: self.tally.has_causal,
            has_counters: false,
            log: self.options.log,
            first,
            last,
            data: self.data.finish()?,
            index,
            filter: self.filter.finish()?,
            index_top,
        };
        self.statistics_file.put(&statistics.encode())?;
        let digest = self.statistics_file.finish()?;
        Ok(SstableMeta {
            file: self.file,
            generation: self.generation,
            table: self.options.table,
            data_bytes: statistics.data.bytes,
            index_bytes: statistics.index.bytes,
            filter_bytes: statistics.filter.bytes,
            statistics_bytes: digest.bytes,
            statistics_crc: digest.crc,
            first: first_token,
            last: last_token,
        })
    }
}

fn check_entry(bytes: &[u8]) -> Result<(), SstableError> {
    if bytes.len() > ENTRY_BYTES_MAX { Err(SstableError::EntryTooLarge { bytes: bytes.len() }) } else { Ok(()) }
}

/// Unlinks a table's files, those that are there: after a failed write, or when no manifest names the table any more.
pub fn remove(disk: &dyn Disk, prefix: &str, file: FileId) -> Result<(), SstableError> {
    for component in Component::ALL {
        match disk.unlink(&component.file_name(prefix, file)) {
            Err(error) if !error.is_not_found() => return Err(SstableError::Disk(error)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// The two levels of the index, written as they fill.
struct IndexWriter {
    file: ComponentFile,
    block: IndexBuilder,
    /// The first separator of the open index block.
    separator: Vec<u8>,
    top: IndexBuilder,
}

impl IndexWriter {
    fn new(file: ComponentFile) -> Self {
        IndexWriter { file, block: IndexBuilder::default(), separator: Vec::new(), top: IndexBuilder::default() }
    }

    fn add(&mut self, separator: &[u8], extent: Extent) -> Result<(), SstableError> {
        if self.block.is_empty() {
            self.separator.clear();
            self.separator.extend_from_slice(separator);
        }
        self.block.add(separator, extent);
        if self.block.len() >= INDEX_BLOCK_BYTES { self.write_block() } else { Ok(()) }
    }

    fn write_block(&mut self) -> Result<(), SstableError> {
        let extent = self.file.put(&self.block.finish())?;
        self.top.add(&self.separator, extent);
        Ok(())
    }

    /// The component's digest and where its top block begins.
    fn finish(mut self) -> Result<(ComponentDigest, u64), SstableError> {
        if !self.block.is_empty() {
            self.write_block()?;
        }
        let top = self.file.put(&self.top.finish())?;
        Ok((self.file.finish()?, top.offset))
    }
}

/// One component's file: frames gathered to large writes, and the checksum of everything.
struct ComponentFile {
    file: Box<dyn File>,
    frames: FrameWriter,
    buffer: Vec<u8>,
    written_bytes: u64,
    crc: u32,
}

impl ComponentFile {
    fn create(disk: &dyn Disk, name: &str, seed: Seed, compression: Compression) -> Result<Self, SstableError> {
        Ok(ComponentFile {
            file: disk.create(name)?,
            frames: FrameWriter::new(seed, compression),
            buffer: seed.file_header().to_vec(),
            written_bytes: 0,
            crc: 0,
        })
    }

    fn offset(&self) -> u64 {
        self.written_bytes + self.buffer.len() as u64
    }

    /// Appends a block as frames.
    fn put(&mut self, plain: &[u8]) -> Result<Extent, SstableError> {
        let offset = self.offset();
        let bytes = self.frames.put(offset, plain, &mut self.buffer);
        if self.buffer.len() >= WRITE_BUFFER_BYTES {
            self.write()?;
        }
        Ok(Extent { offset, bytes })
    }

    fn write(&mut self) -> Result<(), SstableError> {
        self.file.write_at(&self.buffer, self.written_bytes)?;
        self.crc = crc32c::crc32c_append(self.crc, &self.buffer);
        self.written_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<ComponentDigest, SstableError> {
        self.write()?;
        if !planted(Mutant::TablesNotSynced) {
            self.file.sync_data()?;
        }
        Ok(ComponentDigest { bytes: self.written_bytes, crc: self.crc })
    }
}
