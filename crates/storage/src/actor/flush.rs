//! The flush worker: runs one job after another on its own thread, so that neither reads nor writes wait for it.

use super::ShardActor;
use crate::engine::{FlushError, FlushJob, Flushed};
use actix::{Actor, Handler, Message};
use kula_actor::{Door, KulaContext};
use kula_disk::Disk;
use std::sync::Arc;

/// Bounded by its senders: a shard has one job at a time.
pub struct FlushActor {
    disk: Arc<dyn Disk>,
}

/// Run this job, then tell the shard.
pub(super) struct RunFlush {
    pub job: FlushJob,
    pub shard: Door<ShardActor>,
}

/// The job comes back, to be run again if it failed for want of space.
pub(super) struct FlushEnded {
    pub job: FlushJob,
    pub outcome: Result<Flushed, FlushError>,
}

impl Message for RunFlush {
    type Result = ();
}

impl Message for FlushEnded {
    type Result = ();
}

impl FlushActor {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Self {
        FlushActor { disk }
    }
}

impl Actor for FlushActor {
    type Context = KulaContext<Self>;
}

kula_actor::supervised!(FlushActor);

impl Handler<RunFlush> for FlushActor {
    type Result = ();

    fn handle(&mut self, RunFlush { mut job, shard }: RunFlush, _ctx: &mut Self::Context) {
        let outcome = job.run(&*self.disk);
        // A shard that is gone has left the log as it was: the next start replays it.
        drop(shard.tell_forced(FlushEnded { job, outcome }));
    }
}
