//! Storage's actors (`storage/src/actor`): shards, the commit log with its group commit, flushes, the clock's lease.
//!
//! A batch is written at one moment and synced at a later one, so that a crash may come between; what the log's thread is
//! sent meanwhile waits, as it does for the actor.

use super::{Message, Out, Process, Seen, Step, fence};
use crate::time::{MILLISECOND, Micros, SECOND, micros};
use bytes::Bytes;
use kula_actor::Reply;
use kula_clock::{Clock, Random};
use kula_disk::{
    Disk, SimDisk,
    log::{LogError, Position},
};
use kula_fault::{Mutant, planted};
use kula_lattice::Mutation;
use kula_storage::{
    ApplyOp, ReadOp, ReadRange, StorageError, SyncMode,
    engine::{CommitLog, FlushError, FlushJob, Flushed, PageBudget, Records, Shard},
    extend_lease, limits,
};
use kula_types::{ClusterId, Mono};
use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

pub struct Storage {
    pub disk: SimDisk,
    pub shards: Vec<ShardRoom>,
    log: CommitLog,
    sync: SyncMode,
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
    is_commit_due: bool,
    is_dirty: bool,
    pub last_sync: Mono,
    is_settled: bool,
    /// A batch is written and its sync runs.
    syncing: Option<(Position, Vec<(usize, usize)>)>,
    /// What waits for the log's thread.
    deferred: VecDeque<Message>,
    /// The device answers nothing before this.
    pub stalled_until: Micros,
}

pub struct ShardRoom {
    pub shard: Shard,
    pending: VecDeque<Vec<Pending>>,
    pending_bytes: usize,
    flush_retry: Duration,
    flush_waits: Option<StorageError>,
}

struct Pending {
    mutation: Mutation,
    encoded_bytes: usize,
    reply: Reply<Result<(), StorageError>>,
}

#[derive(Default)]
struct Waiting {
    encoded: Vec<Bytes>,
    appends: usize,
    is_asked_to_flush: bool,
}

impl Storage {
    pub fn new(disk: SimDisk, shards: Vec<Shard>, log: CommitLog, sync: SyncMode, now: Mono) -> Storage {
        let room = |shard| ShardRoom {
            shard,
            pending: VecDeque::new(),
            pending_bytes: 0,
            flush_retry: limits::FLUSH_RETRY_MIN,
            flush_waits: None,
        };
        let shards: Vec<ShardRoom> = shards.into_iter().map(room).collect();
        Storage {
            disk,
            waiting: shards.iter().map(|_| Waiting::default()).collect(),
            shards,
            log,
            sync,
            waiting_bytes: 0,
            is_commit_due: false,
            is_dirty: false,
            last_sync: now,
            is_settled: false,
            syncing: None,
            deferred: VecDeque::new(),
            stalled_until: 0,
        }
    }

    /// How long the device takes for one call that waits for it.
    fn latency(random: &mut Random) -> Micros {
        let tail = match random.next() % 2_000 {
            0 => SECOND / 2 + random.next() % SECOND,
            1..20 => 20 * MILLISECOND + random.next() % (80 * MILLISECOND),
            _ => 0,
        };
        200 + random.next() % 2_000 + tail
    }

    /// How long to wait before the device is looked at again; none: it answers. A stall may end early.
    fn stall(&self, now: Mono) -> Option<Micros> {
        let left = self.stalled_until.saturating_sub(micros(now.0));
        (left > 0).then_some(left.min(50 * MILLISECOND))
    }

    pub fn flushes_waiting(&self) -> usize {
        self.shards.iter().filter(|room| room.flush_waits.is_some()).count()
    }
}

impl Process {
    pub(super) fn start_storage(&mut self, step: &mut Step) {
        // As the shards attach, and as each looks whether a replay left too much in memory.
        self.ask_for_flushes();
        for shard in 0..self.storage.shards.len() {
            if self.storage.shards[shard].shard.wants_flush() {
                self.shard_flush(shard, step);
            }
        }
        self.log_tick(step);
        self.lease_tick(step);
    }

    pub(super) fn shard_apply(&mut self, shard: usize, ops: Vec<ApplyOp>, step: &mut Step) {
        let room = &mut self.storage.shards[shard];
        let path: Arc<str> = format!("storage/shard/{shard}").into();
        let bytes_max = self.storage.log.mutation_bytes_max();
        let (mut batch, mut encoded) = (Vec::new(), Vec::new());
        for ApplyOp { mutation, encoded: bytes, sibling_cap, reply } in ops {
            let why = (&path, room.flush_waits.as_ref());
            let lengths = (bytes.len(), bytes_max);
            if let Some(error) = room.shard.refuses(&mutation, lengths, sibling_cap, room.pending_bytes, why) {
                reply.send(if planted(Mutant::RefusalIsAck) { Ok(()) } else { Err(error) });
                continue;
            }
            room.pending_bytes += bytes.len();
            batch.push(Pending { mutation, encoded_bytes: bytes.len(), reply });
            encoded.push(bytes);
        }
        if !batch.is_empty() {
            room.pending.push_back(batch);
            step.later.push((0, Message::Append { shard, encoded }));
        }
    }

    /// The log took nothing of what the shard has just put down for it.
    pub(super) fn append_refused(&mut self, shard: usize, why: &StorageError) {
        let room = &mut self.storage.shards[shard];
        for Pending { encoded_bytes, reply, .. } in room.pending.pop_back().into_iter().flatten() {
            room.pending_bytes -= encoded_bytes;
            reply.send(Err(why.clone()));
        }
    }

    pub(super) fn shard_read(&mut self, shard: usize, ops: Vec<ReadOp>) {
        for ReadOp { table, token, key, slice, reply } in ops {
            let is_young = micros(self.now().0) < self.born + 3 * SECOND;
            if is_young && planted(Mutant::NotFoundAfterStart) {
                reply.send(Ok(kula_lattice::Partition::default()));
                continue;
            }
            reply.send(self.storage.shards[shard].shard.read(table, token, &key, &slice));
        }
    }

    pub(super) fn shard_read_range(&mut self, shard: usize, question: ReadRange) {
        let ReadRange { table, after, through, partitions_max, bytes_max, reply } = question;
        let budget = PageBudget::of(partitions_max, bytes_max);
        reply.send(self.storage.shards[shard].shard.read_range(table, after, through, budget));
    }

    pub(super) fn shard_logged(
        &mut self,
        shard: usize,
        appends: usize,
        outcome: &Result<Position, StorageError>,
        step: &mut Step,
    ) {
        let (is_error_ack, joins_first) = (planted(Mutant::RefusalIsAck), planted(Mutant::JoinsFirstOnly));
        let room = &mut self.storage.shards[shard];
        assert!(appends <= room.pending.len(), "the log answers what was asked");
        let batches: Vec<Vec<Pending>> = room.pending.drain(..appends).collect();
        for (index, Pending { mutation, encoded_bytes, reply }) in batches.into_iter().flatten().enumerate() {
            room.pending_bytes -= encoded_bytes;
            match outcome {
                Ok(until) => {
                    if !(joins_first && index > 0) {
                        room.shard.join(*until, mutation, encoded_bytes);
                    }
                    reply.send(Ok(()));
                }
                Err(error) if !is_error_ack => reply.send(Err(error.clone())),
                Err(_) => reply.send(Ok(())),
            }
        }
        if room.shard.wants_flush() {
            self.shard_flush(shard, step);
        }
    }

    pub(super) fn shard_flush(&mut self, shard: usize, step: &mut Step) {
        if let Some(job) = self.storage.shards[shard].shard.freeze() {
            step.later.push((0, Message::RunFlush { job }));
        }
    }

    pub(super) fn run_flush(&mut self, mut job: FlushJob, step: &mut Step) {
        if let Some(wait) = self.storage.stall(self.now()) {
            return step.later.push((wait, Message::RunFlush { job }));
        }
        let outcome = job.run(&self.storage.disk);
        // Some syncs, one after the other.
        let takes = 2 * MILLISECOND + step.random.next() % (40 * MILLISECOND);
        step.later.push((takes, Message::FlushEnded { job, outcome }));
    }

    pub(super) fn flush_ended(&mut self, job: FlushJob, outcome: Result<Flushed, FlushError>, step: &mut Step) {
        let shard = usize::from(job.shard());
        let room = &mut self.storage.shards[shard];
        match outcome {
            Ok(flushed) => {
                step.outs.push(Out::Seen(Seen::Flushed { bytes: flushed.report.bytes }));
                let until = room.shard.install(flushed);
                room.flush_retry = limits::FLUSH_RETRY_MIN;
                room.flush_waits = None;
                step.later.push((0, Message::ShardFlushed { shard, until }));
                if self.storage.shards[shard].shard.wants_flush() {
                    self.shard_flush(shard, step);
                }
            }
            Err(FlushError::Full(error)) => {
                let wait = room.flush_retry;
                room.flush_retry = (wait * 2).min(limits::FLUSH_RETRY_MAX);
                room.flush_waits = Some(StorageError::refused(&error, "storage/flush"));
                step.later.push((micros(wait), Message::RunFlush { job }));
            }
            Err(error @ FlushError::Failed(_)) => fence(step, error),
        }
    }

    // The commit log's thread.

    pub(super) fn log_append(&mut self, shard: usize, mut encoded: Vec<Bytes>, step: &mut Step) {
        let storage = &mut self.storage;
        storage.waiting_bytes += encoded.iter().map(Bytes::len).sum::<usize>();
        let waiting = &mut storage.waiting[shard];
        waiting.encoded.append(&mut encoded);
        waiting.appends += 1;
        if !mem::replace(&mut storage.is_commit_due, true) {
            step.later.push((0, Message::Commit));
        }
    }

    pub(super) fn log_commit(&mut self, step: &mut Step) {
        if self.storage.syncing.is_some() {
            // Its thread is in the sync; afterwards it takes what came meanwhile.
            return self.storage.deferred.push_back(Message::Commit);
        }
        let now = self.now();
        let storage = &mut self.storage;
        storage.is_commit_due = false;
        storage.waiting_bytes = 0;
        let gathered: Vec<(usize, usize)> = storage
            .waiting
            .iter()
            .map(|waiting| waiting.appends)
            .enumerate()
            .filter(|(_, appends)| *appends > 0)
            .collect();
        if gathered.is_empty() {
            return;
        }
        let batch: Vec<Records> = (0u16..)
            .zip(&storage.waiting)
            .filter(|(_, waiting)| waiting.appends > 0)
            .map(|(shard, waiting)| Records { shard, encoded: &waiting.encoded })
            .collect();
        let written = if storage.log.is_full() {
            Err(StorageError::Overloaded { path: "storage/commitlog".into() })
        } else {
            match storage.log.append(&batch) {
                Ok(until) => Ok(until),
                Err(error @ LogError::Full { .. }) => Err(StorageError::from(error)),
                Err(error) => return fence(step, format!("the commit log failed: {error}")),
            }
        };
        for waiting in &mut storage.waiting {
            waiting.encoded.clear();
            waiting.appends = 0;
        }
        let is_due = match storage.sync {
            SyncMode::Group {} => true,
            SyncMode::Periodic { ms } => {
                now.since(storage.last_sync) >= Duration::from_millis(ms).saturating_mul(3) / 2
            }
        };
        match written {
            Ok(until) => {
                (storage.is_dirty, storage.is_settled) = (true, false);
                if is_due {
                    if planted(Mutant::AckBeforeSync) {
                        storage.syncing = Some((until, Vec::new()));
                        let takes = Storage::latency(step.random);
                        step.later.push((takes, Message::Synced));
                        return self.tell_logged(gathered, &Ok(until), step);
                    }
                    storage.syncing = Some((until, gathered));
                    let takes = Storage::latency(step.random);
                    step.later.push((takes, Message::Synced));
                } else {
                    self.tell_logged(gathered, &Ok(until), step);
                }
            }
            Err(error) => self.tell_logged(gathered, &Err(error), step),
        }
    }

    pub(super) fn log_synced(&mut self, step: &mut Step) {
        if let Some(wait) = self.storage.stall(self.now()) {
            return step.later.push((wait, Message::Synced));
        }
        let Some((until, gathered)) = self.storage.syncing.take() else { return };
        match self.sync_now() {
            Ok(()) => self.tell_logged(gathered, &Ok(until), step),
            Err(error @ LogError::Full { .. }) => {
                let error = StorageError::from(error);
                self.tell_logged(gathered, &Err(error), step);
            }
            Err(error) => return fence(step, format!("the commit log failed: {error}")),
        }
        for message in mem::take(&mut self.storage.deferred) {
            self.handle(message, step);
        }
    }

    fn sync_now(&mut self) -> Result<(), LogError> {
        let began = self.now();
        if mem::take(&mut self.storage.is_dirty) {
            self.storage.log.sync()?;
            self.post.seen(Seen::LogSynced);
        }
        self.storage.last_sync = began;
        Ok(())
    }

    fn tell_logged(
        &mut self,
        gathered: Vec<(usize, usize)>,
        outcome: &Result<Position, StorageError>,
        step: &mut Step,
    ) {
        for (shard, appends) in gathered {
            step.later.push((0, Message::Logged { shard, appends, outcome: outcome.clone() }));
        }
        self.ask_for_flushes();
    }

    fn ask_for_flushes(&mut self) {
        for shard in self.storage.log.shards_to_flush() {
            let waiting = &mut self.storage.waiting[usize::from(shard)];
            if !mem::replace(&mut waiting.is_asked_to_flush, true) {
                self.post.message(Message::FlushForLog { shard: usize::from(shard) });
            }
        }
    }

    pub(super) fn log_shard_flushed(&mut self, shard: usize, until: Position, step: &mut Step) {
        if self.storage.syncing.is_some() {
            return self.storage.deferred.push_back(Message::ShardFlushed { shard, until });
        }
        self.storage.waiting[shard].is_asked_to_flush = false;
        self.storage.log.flushed(u16::try_from(shard).unwrap_or(u16::MAX), until);
        match self.storage.log.release() {
            Ok(()) | Err(LogError::Full { .. }) => self.ask_for_flushes(),
            Err(error) => fence(step, format!("the commit log failed: {error}")),
        }
    }

    pub(super) fn log_tick(&mut self, step: &mut Step) {
        if self.storage.syncing.is_some() {
            return self.storage.deferred.push_back(Message::LogTick);
        }
        let settled = match self.storage.sync {
            SyncMode::Group {} => self.log_settle(),
            SyncMode::Periodic { .. } => self.sync_now().and_then(|()| self.log_settle()),
        };
        match settled {
            Ok(()) | Err(LogError::Full { .. }) => {}
            Err(error) => return fence(step, format!("the commit log failed: {error}")),
        }
        let every = match self.storage.sync {
            SyncMode::Group {} => limits::LOG_SETTLE,
            SyncMode::Periodic { ms } => Duration::from_millis(ms),
        };
        step.later.push((micros(every), Message::LogTick));
    }

    fn log_settle(&mut self) -> Result<(), LogError> {
        if mem::replace(&mut self.storage.is_settled, true) { Ok(()) } else { self.storage.log.settle() }
    }

    // The identity's.

    pub(super) fn lease_tick(&mut self, step: &mut Step) {
        let extended = extend_lease(&mut self.identity, &self.hlc, &self.peers.told, &*self.clock);
        self.fence_unless_full(extended, step);
        step.later.push((micros(limits::LEASE_CHECK), Message::LeaseTick));
    }

    pub(super) fn bind(&mut self, cluster: ClusterId, step: &mut Step) {
        let bound = self.identity.bind_cluster(cluster);
        self.fence_unless_full(bound, step);
    }

    fn fence_unless_full(&mut self, done: Result<(), StorageError>, step: &mut Step) {
        match done {
            Ok(()) | Err(StorageError::DiskFull { .. } | StorageError::OtherCluster { .. }) => {}
            Err(StorageError::LeaseLost { cause } | StorageError::Disk(cause)) if cause.is_temporary() => {}
            Err(error) => fence(step, format!("the identity could not be stored: {error}")),
        }
    }

    /// What this process holds of a partition: memory and tables.
    pub fn holds(
        &self,
        table: kula_types::TableId,
        key: &kula_types::PartitionKey,
    ) -> Result<kula_lattice::Partition, StorageError> {
        let token = self.ring.token(key);
        let shard = usize::from(self.sharding.shard_of(token));
        self.storage.shards[shard].shard.read(table, token, key, &kula_lattice::Slice::all())
    }

    /// The clock as `storage::open` takes it.
    pub fn clock_of(&self) -> &dyn Clock {
        &*self.clock
    }

    pub fn disk(&self) -> &dyn Disk {
        &self.storage.disk
    }
}
