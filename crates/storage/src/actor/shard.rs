//! A shard's thread: accepts or refuses writes, sends them to the log, joins them once they are durable, answers; reads.
//!
//! Order: append, sync, join, ack; the shard joins in the log's order because the log answers in the order of the
//! appends. What is accepted is bounded twice: by the bytes on their way to the log, and by the shard's share of memory,
//! which a flush that cannot keep up fills; past either a write is shed, with nothing done.

use super::{
    CommitLogActor, FlushActor,
    commit_log::{Append, Attach, ShardFlushed},
    flush::{FlushEnded, RunFlush},
};
use crate::{
    Apply, ApplyOp, Drain, Flush, FlushReport, Read, ReadOp, ReadRange, Statistics, StorageError,
    engine::{FlushError, FlushJob, Flushed, PageBudget, Shard},
    limits,
    metrics::ShardMetrics,
};
use actix::{Actor, AsyncContext, Handler, Message};
use bytes::Bytes;
use kula_actor::{Door, DoorError, KulaContext, Reply};
use kula_disk::log::Position;
use kula_lattice::Mutation;
use slog::Logger;
use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

pub struct ShardActor {
    shard: Shard,
    mutation_bytes_max: usize,
    log_door: Door<CommitLogActor>,
    flush_door: Door<FlushActor>,
    /// Sent to the log and not answered yet, in order.
    pending: VecDeque<Vec<Pending>>,
    pending_bytes: usize,
    /// Flushes begun since the start. The one under way, if there is one, bears this number.
    flushes_begun: u64,
    /// Flush again as soon as the one under way ends.
    flush_again: bool,
    flush_waiters: Vec<FlushWaiter>,
    flush_retry: Duration,
    /// What the flush under way met and waits for, such as a full disk.
    flush_waits: Option<StorageError>,
    /// Set once the node stops: who waits for the last answer to go out.
    draining: Option<Vec<Reply<()>>>,
    metrics: ShardMetrics,
    logger: Logger,
}

struct Pending {
    mutation: Mutation,
    encoded_bytes: usize,
    reply: Reply<Result<(), StorageError>>,
}

struct FlushWaiter {
    /// Answered when this flush has ended.
    flush: u64,
    reply: Reply<Result<FlushReport, StorageError>>,
}

/// What became of the oldest `appends` appends of the shard. `Ok`: they are as durable as the mode promises, and all
/// records of the shard that lie before the position are among what was answered so far.
pub(super) struct Logged {
    pub appends: usize,
    pub outcome: Result<Position, StorageError>,
}

/// The log is too long, and this shard holds its oldest segment.
pub(super) struct FlushForLog;

impl Message for Apply {
    type Result = ();
}

impl Message for Read {
    type Result = ();
}

impl Message for ReadRange {
    type Result = ();
}

impl Message for Flush {
    type Result = ();
}

impl Message for Statistics {
    type Result = ();
}

impl Message for Logged {
    type Result = ();
}

impl Message for FlushForLog {
    type Result = ();
}

impl ShardActor {
    pub(super) fn new(
        shard: Shard,
        mutation_bytes_max: usize,
        log_door: Door<CommitLogActor>,
        flush_door: Door<FlushActor>,
        metrics: ShardMetrics,
        logger: Logger,
    ) -> Self {
        ShardActor {
            shard,
            mutation_bytes_max,
            log_door,
            flush_door,
            pending: VecDeque::new(),
            pending_bytes: 0,
            flushes_begun: 0,
            flush_again: false,
            flush_waiters: Vec::new(),
            flush_retry: limits::FLUSH_RETRY_MIN,
            flush_waits: None,
            draining: None,
            metrics,
            logger,
        }
    }

    /// Why this write is not taken, if it is not.
    fn refusal(&self, op: &ApplyOp, path: &Arc<str>) -> Option<StorageError> {
        if self.draining.is_some() {
            return Some(StorageError::ShuttingDown);
        }
        let bytes = (op.encoded.len(), self.mutation_bytes_max);
        let why = (path, self.flush_waits.as_ref());
        self.shard.refuses(&op.mutation, bytes, op.sibling_cap, self.pending_bytes, why)
    }

    /// Starts a flush, unless one is under way or there is nothing to flush.
    fn flush(&mut self, ctx: &KulaContext<Self>) {
        if let Some(job) = self.shard.freeze() {
            self.flushes_begun += 1;
            self.flush_again = false;
            self.run_flush(job, ctx);
        }
    }

    fn run_flush(&self, job: FlushJob, ctx: &KulaContext<Self>) {
        // Past the bound: a shard has one job at a time. A worker that is gone means the node is ending.
        drop(self.flush_door.tell_forced(RunFlush { job, shard: ctx.door().clone() }));
    }

    fn flushed(&mut self, flushed: Flushed, ctx: &KulaContext<Self>) {
        let report = flushed.report;
        let until = self.shard.install(flushed);
        drop(self.log_door.tell_forced(ShardFlushed { shard: self.shard.index(), until }));
        self.flush_retry = limits::FLUSH_RETRY_MIN;
        self.flush_waits = None;
        self.metrics.flushed(report.bytes);
        self.metrics.holds(&self.shard.statistics());
        slog::info!(self.logger, "flushed"; "event" => "flushed", "tables" => report.tables, "bytes" => report.bytes);
        self.answer_flush_waiters(report);
        if self.flush_again || self.shard.wants_flush() {
            self.flush(ctx);
        }
    }

    fn answer_flush_waiters(&mut self, report: FlushReport) {
        let ended = self.flushes_begun;
        for waiter in self.flush_waiters.extract_if(.., |waiter| waiter.flush <= ended) {
            waiter.reply.send(Ok(report));
        }
    }

    fn answer_drain(&mut self) {
        if self.pending.is_empty() {
            for reply in self.draining.iter_mut().flat_map(mem::take) {
                reply.send(());
            }
        }
    }
}

impl Actor for ShardActor {
    type Context = KulaContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let attach = Attach { shard: self.shard.index(), door: ctx.door().clone() };
        if self.log_door.tell_forced(attach).is_err() {
            return ctx.fence("the commit log is gone");
        }
        if self.shard.wants_flush() {
            // What a replay left in memory.
            self.flush(ctx);
        }
    }
}

kula_actor::supervised!(ShardActor);

impl Handler<Apply> for ShardActor {
    type Result = ();

    fn handle(&mut self, message: Apply, ctx: &mut Self::Context) {
        let mut batch = Vec::with_capacity(message.ops.len());
        let mut encoded: Vec<Bytes> = Vec::with_capacity(message.ops.len());
        for op in message.ops {
            if let Some(error) = self.refusal(&op, ctx.path()) {
                self.metrics.refused();
                op.reply.send(Err(error));
                continue;
            }
            self.pending_bytes += op.encoded.len();
            batch.push(Pending { mutation: op.mutation, encoded_bytes: op.encoded.len(), reply: op.reply });
            encoded.push(op.encoded);
        }
        if batch.is_empty() {
            return;
        }
        let append = Append { shard: self.shard.index(), encoded };
        match self.log_door.tell(append) {
            Ok(()) => self.pending.push_back(batch),
            Err(error) => {
                let error = match error {
                    DoorError::Overloaded { path, .. } => StorageError::Overloaded { path },
                    DoorError::Closed { .. } => StorageError::ShuttingDown,
                };
                for pending in batch {
                    self.pending_bytes -= pending.encoded_bytes;
                    self.metrics.refused();
                    pending.reply.send(Err(error.clone()));
                }
            }
        }
    }
}

impl Handler<Logged> for ShardActor {
    type Result = ();

    fn handle(&mut self, Logged { appends, outcome }: Logged, ctx: &mut Self::Context) {
        assert!(appends <= self.pending.len(), "the log answers what was asked");
        let batches: Vec<Vec<Pending>> = self.pending.drain(..appends).collect();
        for Pending { mutation, encoded_bytes, reply } in batches.into_iter().flatten() {
            self.pending_bytes -= encoded_bytes;
            match &outcome {
                Ok(until) => {
                    self.shard.join(*until, mutation, encoded_bytes);
                    self.metrics.wrote(1);
                    reply.send(Ok(()));
                }
                Err(error) => {
                    self.metrics.refused();
                    reply.send(Err(error.clone()));
                }
            }
        }
        if self.shard.wants_flush() {
            self.flush(ctx);
        }
        self.answer_drain();
    }
}

impl Handler<Read> for ShardActor {
    type Result = ();

    fn handle(&mut self, message: Read, _ctx: &mut Self::Context) {
        for ReadOp { table, token, key, slice, reply } in message.ops {
            self.metrics.read();
            reply.send(self.shard.read(table, token, &key, &slice));
        }
    }
}

impl Handler<ReadRange> for ShardActor {
    type Result = ();

    fn handle(&mut self, message: ReadRange, _ctx: &mut Self::Context) {
        let ReadRange { table, after, through, partitions_max, bytes_max, reply } = message;
        let page = self.shard.read_range(table, after, through, PageBudget::of(partitions_max, bytes_max));
        self.metrics.read_range(page.as_ref().map_or(0, |page| page.rows.len()));
        reply.send(page);
    }
}

impl Handler<Flush> for ShardActor {
    type Result = ();

    fn handle(&mut self, Flush { reply }: Flush, ctx: &mut Self::Context) {
        if self.shard.is_clean() {
            return reply.send(Ok(FlushReport::default()));
        }
        self.flush(ctx);
        let is_under_way_enough = self.shard.is_active_empty();
        self.flush_again |= !is_under_way_enough;
        let flush = if is_under_way_enough { self.flushes_begun } else { self.flushes_begun + 1 };
        self.flush_waiters.push(FlushWaiter { flush, reply });
    }
}

impl Handler<FlushForLog> for ShardActor {
    type Result = ();

    fn handle(&mut self, FlushForLog: FlushForLog, ctx: &mut Self::Context) {
        self.flush(ctx);
    }
}

impl Handler<FlushEnded> for ShardActor {
    type Result = ();

    fn handle(&mut self, FlushEnded { job, outcome }: FlushEnded, ctx: &mut Self::Context) {
        match outcome {
            Ok(flushed) => self.flushed(flushed, ctx),
            Err(FlushError::Full(error)) => {
                let wait = self.flush_retry;
                self.flush_retry = (wait * 2).min(limits::FLUSH_RETRY_MAX);
                slog::warn!(self.logger, "no room for a flush"; "event" => "flush_waits", "cause" => %error, "retry_ms" => wait.as_millis());
                let refused = StorageError::refused(&error, "storage/flush");
                // Those of the next flush too: it cannot begin before this one ends.
                for waiter in self.flush_waiters.drain(..) {
                    waiter.reply.send(Err(refused.clone()));
                }
                self.flush_waits = Some(refused);
                ctx.run_later(wait, |actor, ctx| actor.run_flush(job, ctx));
            }
            Err(error @ FlushError::Failed(_)) => ctx.fence(error.to_string()),
        }
    }
}

impl Handler<Statistics> for ShardActor {
    type Result = ();

    fn handle(&mut self, message: Statistics, _ctx: &mut Self::Context) {
        let mut statistics = self.shard.statistics();
        statistics.pending_bytes = u64::try_from(self.pending_bytes).unwrap_or(u64::MAX);
        self.metrics.holds(&statistics);
        message.reply.send(statistics);
    }
}

impl Handler<Drain> for ShardActor {
    type Result = ();

    fn handle(&mut self, Drain { reply }: Drain, _ctx: &mut Self::Context) {
        self.draining.get_or_insert_default().push(reply);
        self.answer_drain();
    }
}
