//! Where peers' requests come in: one batch of frames becomes one batch for each shard. Nothing to decide.
//!
//! What a request says is checked by its shard's replica; here it is only made one. A frame that is past its deadline is not
//! taken apart, because nobody waits for it. A panic here loses answers and no data, so this actor restarts.

use crate::{ReplicaError, Replicas, Request, metrics::Metrics, verbs};
use actix::prelude::{Actor, Handler};
use kula_actor::{KulaContext, supervised};
use kula_clock::Clock;
use kula_transport::{Inbound, InboundBatch};
use std::{mem, sync::Arc};

pub(crate) struct InboundActor {
    replicas: Replicas,
    clock: Arc<dyn Clock>,
    /// By shard: what this batch has for it so far.
    batches: Vec<Vec<Request>>,
    metrics: Metrics,
}

impl InboundActor {
    pub fn new(replicas: Replicas, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        let batches = (0..replicas.count()).map(|_| Vec::new()).collect();
        InboundActor { replicas, clock, batches, metrics }
    }

    fn take(&mut self, inbound: Inbound) {
        match verbs::request_of(inbound) {
            Ok((token, request)) => self.batches[self.replicas.index_of(token)].push(request),
            Err(unread) => {
                self.metrics.inbound_malformed.inc();
                verbs::refuse(unread, ReplicaError::Malformed);
            }
        }
    }
}

impl Actor for InboundActor {
    type Context = KulaContext<Self>;
}

supervised!(InboundActor);

impl Handler<InboundBatch> for InboundActor {
    type Result = ();

    fn handle(&mut self, batch: InboundBatch, _: &mut Self::Context) {
        let now = self.clock.mono();
        for inbound in batch.frames {
            if inbound.deadline <= now {
                self.metrics.inbound_expired.inc();
                verbs::refuse(inbound, ReplicaError::Expired);
            } else {
                self.take(inbound);
            }
        }
        for index in 0..self.batches.len() {
            if !self.batches[index].is_empty() {
                self.replicas.send_or_refuse(index, mem::take(&mut self.batches[index]));
            }
        }
    }
}
