//! The engine as one value: the commit log and the shards, opened, replayed, and driven by one thread.
//!
//! Tests, crash enumeration and simulation drive it as it is; a node takes it apart and gives each part to an actor.
//! Replay is an ordinary join of every record that a shard's tables do not hold yet, in log order, so replaying twice,
//! or crashing in between, changes nothing.

use super::{
    commit_log::{self, CommitLog, CommitLogConfig, Records},
    flush::{FlushError, FlushJob, Flushed},
    layout,
    shard::{Shard, ShardBudget},
    sharding::Sharding,
    sstable,
};
use crate::{FlushReport, StorageConfig, StorageError, config::Compression, limits};
use bytes::Bytes;
use kula_disk::{
    Disk,
    log::{Loss, Position, Replayed},
};
use kula_fault::{Mutant, planted};
use kula_lattice::{Mutation, Partition, Slice};
use kula_types::{PartitionKey, TableId, Token};
use std::{collections::BTreeMap, sync::Arc};

pub struct Engine {
    pub disk: Arc<dyn Disk>,
    pub sharding: Sharding,
    pub shards: Vec<Shard>,
    pub commit_log: CommitLog,
    /// Flushes that met an error and are to be run again, by shard.
    unfinished: BTreeMap<u16, FlushJob>,
}

/// What the start found in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayReport {
    /// Records read, and the bytes of their payloads.
    pub records: u64,
    pub bytes: u64,
    /// Of those, records that tables did not hold yet.
    pub joined: u64,
    /// Damaged places, of which the caller accepted the loss.
    pub damaged_places: u64,
}

impl Engine {
    /// `is_used`: writes may have been acknowledged here before, so a log that is not there was lost. `loss`: what to
    /// do then, and about damage in it.
    pub fn open(
        disk: Arc<dyn Disk>,
        config: &StorageConfig,
        sharding: Sharding,
        loss: Loss,
        is_used: bool,
    ) -> Result<(Self, ReplayReport), StorageError> {
        let shard_count = u64::from(sharding.shards());
        let share = usize::try_from(config.memtable_heap / shard_count).unwrap_or(usize::MAX);
        let budget = ShardBudget {
            flush_at: fraction(share, config.memtable_cleanup_threshold),
            heap_max: share,
            cache_max: limits::BLOCK_CACHE_BYTES_MAX / usize::from(sharding.shards()),
        };
        let compression = match config.compression {
            Compression::Lz4 => sstable::Compression::Lz4,
            Compression::None => sstable::Compression::None,
        };
        // Every manifest is durable before the log is made, so a log without manifests is damage; and the log is there
        // before a directory is used.
        let is_new = !disk.exists(layout::COMMIT_LOG)?;
        if is_new && is_used && loss == Loss::Refuse {
            return Err(StorageError::LogMissing);
        }
        let mut shards = Vec::new();
        for index in 0..sharding.shards() {
            shards.push(Shard::open(&*disk, index, budget, compression, is_new)?);
        }
        let flushed: Vec<Position> = shards.iter().map(Shard::flushed).collect();
        let log_config = CommitLogConfig {
            total: config.commitlog_total,
            segment: u32::try_from(config.commitlog_segment).unwrap_or(u32::MAX),
        };
        let (commit_log, replay) = CommitLog::open(disk.clone(), log_config, &flushed)?;
        let mut engine = Engine { disk, sharding, shards, commit_log, unfinished: BTreeMap::new() };
        let from = flushed.iter().copied().min().unwrap_or(Position::START);
        let mut joined = 0;
        let replayed = replay.run(from, loss, |position, record| {
            joined += u64::from(engine.replay_record(position, record)?);
            Ok::<_, StorageError>(())
        });
        let replayed = match replayed {
            Err(_) if planted(Mutant::ReplayErrorsIgnored) => Replayed::default(),
            replayed => replayed?,
        };
        let Replayed { records, payload_bytes, damage: _, damage_count } = replayed;
        if damage_count > 0 {
            engine.leave_damage_behind()?;
        }
        engine.commit_log.release()?;
        Ok((engine, ReplayReport { records, bytes: payload_bytes, joined, damaged_places: damage_count }))
    }

    /// Whether the record was new to its shard.
    fn replay_record(&mut self, position: Position, record: &[u8]) -> Result<bool, StorageError> {
        let unreadable = |what: String| StorageError::LogRecord { what: what.into() };
        let record =
            commit_log::parse_record(record, self.sharding.shards()).map_err(|error| unreadable(error.to_string()))?;
        let Some((index, encoded)) = record else { return Ok(false) };
        let shard = &mut self.shards[usize::from(index)];
        if position < shard.flushed() {
            return Ok(false);
        }
        // One copy of its own: the values must not keep the window alive that many records were read into.
        let encoded = Bytes::copy_from_slice(encoded);
        let mutation = Mutation::decode(&encoded).map_err(|error| unreadable(error.to_string()))?;
        if self.sharding.shard_of(mutation.token) != index {
            return Err(unreadable(format!("shard {index} does not own token {}", mutation.token)));
        }
        self.commit_log.replayed(index, position);
        shard.join(commit_log::after(position), mutation, encoded.len());
        if shard.wants_flush_in_replay() {
            // Memory stays bounded however long the log is. Segments go when the replay is over.
            self.flush_shard(index)?;
        }
        Ok(true)
    }

    /// After an accepted loss: everything that was found goes into tables and the damaged segments go, so that the next
    /// start does not meet them again.
    fn leave_damage_behind(&mut self) -> Result<(), StorageError> {
        for index in 0..self.sharding.shards() {
            self.flush_shard(index)?;
        }
        self.commit_log.start_segment()?;
        Ok(())
    }

    /// Appends, syncs once, joins: all of these mutations are durable when it returns.
    pub fn apply(&mut self, batch: Vec<(Mutation, Bytes)>) -> Result<(), StorageError> {
        let mut of_shard: Vec<(Vec<Mutation>, Vec<Bytes>)> = Vec::new();
        of_shard.resize_with(self.shards.len(), Default::default);
        for (mutation, encoded) in batch {
            let (mutations, records) = &mut of_shard[usize::from(self.sharding.shard_of(mutation.token))];
            mutations.push(mutation);
            records.push(encoded);
        }
        let records: Vec<Records<'_>> = (0..)
            .zip(&of_shard)
            .filter(|(_, (_, encoded))| !encoded.is_empty())
            .map(|(shard, (_, encoded))| Records { shard, encoded })
            .collect();
        let until = self.commit_log.append(&records)?;
        self.commit_log.sync()?;
        for (shard, (mutations, encoded)) in self.shards.iter_mut().zip(of_shard) {
            for (mutation, encoded) in mutations.into_iter().zip(encoded) {
                shard.join(until, mutation, encoded.len());
            }
        }
        Ok(())
    }

    /// Flushes what is over its budget, or holds the oldest segment of a log that is too long.
    pub fn flush_due(&mut self) -> Result<FlushReport, StorageError> {
        let mut due = self.commit_log.shards_to_flush();
        due.extend(self.shards.iter().filter(|shard| shard.wants_flush()).map(Shard::index));
        due.sort_unstable();
        due.dedup();
        let mut report = FlushReport::default();
        for index in due {
            let one = self.flush(index)?;
            report = FlushReport { tables: report.tables + one.tables, bytes: report.bytes + one.bytes };
        }
        Ok(report)
    }

    /// Writes a shard's memtable out and lets go of the log behind it.
    pub fn flush(&mut self, index: u16) -> Result<FlushReport, StorageError> {
        let report = self.flush_shard(index)?;
        self.commit_log.release()?;
        Ok(report)
    }

    fn flush_shard(&mut self, index: u16) -> Result<FlushReport, StorageError> {
        let shard = &mut self.shards[usize::from(index)];
        let Some(mut job) = self.unfinished.remove(&index).or_else(|| shard.freeze()) else {
            return Ok(FlushReport::default());
        };
        match job.run(&*self.disk) {
            Ok(flushed) => Ok(self.take_over(flushed)),
            Err(error) => {
                self.unfinished.insert(index, job);
                Err(error.into())
            }
        }
    }

    /// Takes over what a flush job made durable, and lets go of the log behind it.
    pub fn install(&mut self, flushed: Flushed) -> Result<FlushReport, StorageError> {
        let report = self.take_over(flushed);
        self.commit_log.release()?;
        Ok(report)
    }

    fn take_over(&mut self, flushed: Flushed) -> FlushReport {
        let (index, report) = (flushed.manifest.shard, flushed.report);
        let until = self.shards[usize::from(index)].install(flushed);
        self.commit_log.flushed(index, until);
        report
    }

    pub fn read(
        &self,
        table: TableId,
        token: Token,
        key: &PartitionKey,
        slice: &Slice,
    ) -> Result<Partition, StorageError> {
        self.shards[usize::from(self.sharding.shard_of(token))].read(table, token, key, slice)
    }
}

impl From<FlushError> for StorageError {
    fn from(error: FlushError) -> Self {
        match error {
            FlushError::Full(error) => StorageError::refused(&error, "storage/flush"),
            FlushError::Failed(_) => StorageError::Fenced { cause: error.to_string().into() },
        }
    }
}

/// A fraction, between 0 and 1, of a number of bytes.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a budget: some bytes more or less do not matter"
)]
fn fraction(bytes: usize, of_one: f64) -> usize {
    (bytes as f64 * of_one) as usize
}
