//! The commit log's thread: gathers what the shards sent while the last sync ran, writes it at once, syncs once, says
//! so to each shard in order. Group commit without a timer (Gray & Reuter §9; DeWitt et al. 1984).
//!
//! A failed write or sync is never tried again: nothing of the batch is acknowledged and the node is fenced. Only a full
//! disk and a lack of file descriptors pass: the log stays as it was, the batch is refused, the next one finds room or not.

use super::ShardActor;
use super::shard::{FlushForLog, Logged};
use crate::{
    Drain, StorageError, SyncMode,
    engine::{CommitLog, Records},
    limits,
    metrics::LogMetrics,
};
use actix::{Actor, AsyncContext, Handler, Message};
use bytes::Bytes;
use kula_actor::{Door, KulaContext};
use kula_clock::Clock;
use kula_disk::log::{LogError, Position};
use kula_types::Mono;
use slog::Logger;
use std::{mem, sync::Arc, time::Duration};

pub struct CommitLogActor {
    log: CommitLog,
    sync: SyncMode,
    clock: Arc<dyn Clock>,
    /// The shards, and what of each waits for the next write: bounded by what a shard may have on its way.
    shards: Vec<Waiting>,
    waiting_bytes: usize,
    /// Written, not synced (`periodic`).
    is_dirty: bool,
    last_sync: Mono,
    /// Nothing was appended since the last idle moment.
    is_settled: bool,
    metrics: LogMetrics,
    logger: Logger,
}

/// A shard, and its records in the batch that is being gathered.
struct Waiting {
    shard: u16,
    door: Door<ShardActor>,
    encoded: Vec<Bytes>,
    /// How many `Append`s they came in.
    appends: usize,
    /// Asked to flush for the log's sake, and not done yet.
    is_asked_to_flush: bool,
}

/// A shard has started: its answers, and requests to flush, go to this door.
pub(super) struct Attach {
    pub shard: u16,
    pub door: Door<ShardActor>,
}

/// Append these encoded mutations of a shard that is attached. Answered by `Logged`, in the order of the appends.
pub(super) struct Append {
    pub shard: u16,
    pub encoded: Vec<Bytes>,
}

/// All records of this shard before `until` are in tables.
pub(super) struct ShardFlushed {
    pub shard: u16,
    pub until: Position,
}

impl Message for Attach {
    type Result = ();
}

impl Message for Append {
    type Result = ();
}

impl Message for ShardFlushed {
    type Result = ();
}

impl Message for Drain {
    type Result = ();
}

impl CommitLogActor {
    pub(super) fn new(
        log: CommitLog,
        sync: SyncMode,
        clock: Arc<dyn Clock>,
        metrics: LogMetrics,
        logger: Logger,
    ) -> Self {
        let last_sync = clock.mono();
        CommitLogActor {
            log,
            sync,
            clock,
            shards: Vec::new(),
            waiting_bytes: 0,
            is_dirty: false,
            last_sync,
            is_settled: false,
            metrics,
            logger,
        }
    }

    /// Writes what waits, syncs as the mode says, tells the shards.
    fn commit(&mut self, ctx: &mut KulaContext<Self>) {
        if self.waiting_bytes == 0 {
            return;
        }
        let outcome = self.write().and_then(|until| self.sync_for_ack().map(|()| until));
        let bytes = mem::take(&mut self.waiting_bytes);
        let outcome = match outcome {
            Ok(until) => {
                let records = self.shards.iter().map(|waiting| waiting.encoded.len()).sum();
                self.metrics.appended(records, bytes, self.log.bytes());
                Ok(until)
            }
            Err(Failure::NoRoom(error)) => Err(error),
            // What was sent is unknown: the replies are dropped with the shards.
            Err(Failure::Fence(error)) => return ctx.fence(format!("the commit log failed: {error}")),
        };
        for waiting in self.shards.iter_mut().filter(|waiting| waiting.appends > 0) {
            waiting.encoded.clear();
            let appends = mem::take(&mut waiting.appends);
            // A shard that is gone took its replies with it.
            drop(waiting.door.tell_forced(Logged { appends, outcome: outcome.clone() }));
        }
        self.ask_for_flushes();
    }

    fn write(&mut self) -> Result<Position, Failure> {
        if self.log.is_full() {
            return Err(Failure::NoRoom(StorageError::Overloaded { path: "storage/commitlog".into() }));
        }
        let batch: Vec<Records<'_>> = self
            .shards
            .iter()
            .filter(|waiting| waiting.appends > 0)
            .map(|waiting| Records { shard: waiting.shard, encoded: &waiting.encoded })
            .collect();
        let until = self.log.append(&batch)?;
        self.is_dirty = true;
        self.is_settled = false;
        Ok(until)
    }

    fn sync_for_ack(&mut self) -> Result<(), Failure> {
        let is_due = match self.sync {
            SyncMode::Group {} => true,
            // The timer is late, or the disk slow: writers wait rather than run ahead of what is durable.
            SyncMode::Periodic { ms } => {
                let lag = self.clock.mono().since(self.last_sync);
                lag >= Duration::from_millis(ms).saturating_mul(3) / 2
            }
        };
        if is_due { Ok(self.sync_now()?) } else { Ok(()) }
    }

    fn sync_now(&mut self) -> Result<(), LogError> {
        let began = self.clock.mono();
        if mem::take(&mut self.is_dirty) {
            self.log.sync()?;
            self.metrics.synced(self.clock.mono().since(began));
        }
        self.last_sync = began;
        Ok(())
    }

    /// A log past half its bound: whoever holds its oldest segment flushes, once for each time it did.
    fn ask_for_flushes(&mut self) {
        for shard in self.log.shards_to_flush() {
            let waiting = self.shards.iter_mut().find(|waiting| waiting.shard == shard);
            if let Some(waiting) = waiting.filter(|waiting| !waiting.is_asked_to_flush) {
                waiting.is_asked_to_flush = true;
                drop(waiting.door.tell_forced(FlushForLog));
            }
        }
    }

    /// In an idle moment: notes that the last batch is durable, and has a spare segment made.
    fn tick(&mut self, ctx: &mut KulaContext<Self>) {
        let settled = match self.sync {
            SyncMode::Group {} => self.settle(),
            SyncMode::Periodic { .. } => self.sync_now().and_then(|()| self.settle()),
        };
        match settled {
            Ok(()) => {}
            Err(LogError::Full { source, .. }) => {
                slog::warn!(self.logger, "no room for a spare log segment"; "event" => "log_full", "cause" => %source);
            }
            Err(error) => return ctx.fence(format!("the commit log failed: {error}")),
        }
        let every = match self.sync {
            SyncMode::Group {} => limits::LOG_SETTLE,
            SyncMode::Periodic { ms } => Duration::from_millis(ms),
        };
        ctx.run_later(every, Self::tick);
    }

    fn settle(&mut self) -> Result<(), LogError> {
        if mem::replace(&mut self.is_settled, true) { Ok(()) } else { self.log.settle() }
    }
}

/// Why a batch was not taken.
enum Failure {
    /// The log is as it was. The batch is refused.
    NoRoom(StorageError),
    Fence(LogError),
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Full { .. } => Failure::NoRoom(StorageError::from(error)),
            error => Failure::Fence(error),
        }
    }
}

impl Actor for CommitLogActor {
    type Context = KulaContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.tick(ctx);
    }
}

kula_actor::supervised!(CommitLogActor);

impl Handler<Attach> for CommitLogActor {
    type Result = ();

    fn handle(&mut self, Attach { shard, door }: Attach, _ctx: &mut Self::Context) {
        let encoded = Vec::new();
        self.shards.push(Waiting { shard, door, encoded, appends: 0, is_asked_to_flush: false });
        // A long log that was replayed waits for nobody's write.
        self.ask_for_flushes();
    }
}

impl Handler<Append> for CommitLogActor {
    type Result = ();

    fn handle(&mut self, Append { shard, mut encoded }: Append, ctx: &mut Self::Context) {
        let Some(waiting) = self.shards.iter_mut().find(|waiting| waiting.shard == shard) else {
            unreachable!("a shard attaches before it appends");
        };
        self.waiting_bytes += encoded.iter().map(Bytes::len).sum::<usize>();
        waiting.encoded.append(&mut encoded);
        waiting.appends += 1;
        if self.waiting_bytes >= limits::LOG_BATCH_BYTES_MAX {
            self.commit(ctx);
        } else {
            ctx.after_drain(Self::commit);
        }
    }
}

impl Handler<ShardFlushed> for CommitLogActor {
    type Result = ();

    fn handle(&mut self, ShardFlushed { shard, until }: ShardFlushed, ctx: &mut Self::Context) {
        if let Some(waiting) = self.shards.iter_mut().find(|waiting| waiting.shard == shard) {
            waiting.is_asked_to_flush = false;
        }
        self.log.flushed(shard, until);
        match self.log.release() {
            Ok(()) => {}
            // Segments that could not go now go with the next flush.
            Err(LogError::Full { .. }) => {}
            Err(error) => ctx.fence(format!("the commit log failed: {error}")),
        }
        self.metrics.released(self.log.bytes());
        self.ask_for_flushes();
    }
}

impl Handler<Drain> for CommitLogActor {
    type Result = ();

    fn handle(&mut self, Drain { reply }: Drain, ctx: &mut Self::Context) {
        self.commit(ctx);
        match self.sync_now().and_then(|()| self.settle()) {
            Ok(()) | Err(LogError::Full { .. }) => reply.send(()),
            Err(error) => ctx.fence(format!("the commit log failed: {error}")),
        }
    }
}
