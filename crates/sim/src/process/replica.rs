//! The replica's actor (`replica/src/actor`), and the one that takes peers' requests apart.

use super::{Message, Post, Process, Seen, Step};
use kula_actor::Reply;
use kula_replica::{
    Op, Outcome, ReplicaBatch, ReplicaError, Request,
    machine::{Effects, View},
    range, verbs,
};
use kula_transport::Inbound;
use std::sync::Arc;

impl Process {
    pub(super) fn replica(&mut self, shard: usize, batch: ReplicaBatch, step: &mut Step) {
        let have = self.ring.version;
        let requests = batch.requests.into_iter().map(|request| watched(request, have, &self.post)).collect();
        let latest = self.wall().max(self.hlc.last());
        let (ring, schema) = (Arc::clone(&self.ring), Arc::clone(&self.schema));
        let view = View { now: self.now(), latest, ring: &ring, schema: &schema };
        let mut effects = Effects::default();
        self.replicas[shard].step(view, ReplicaBatch { requests }, &mut effects);
        let Effects { apply, read, ranges, refused, settled, pull_ring, pull_schema } = effects;
        settled.into_iter().for_each(|reply| reply.send(Ok(Outcome::Applied)));
        for (reply, refusal) in refused {
            reply.send(Err(refusal));
        }
        step.later.extend(pull_ring.map(|from| (0, Message::RingPull { from })));
        step.later.extend(pull_schema.map(|from| (0, Message::CatalogPull { from })));
        if !apply.is_empty() {
            step.later.push((0, Message::Apply { shard, ops: apply }));
        }
        if !read.is_empty() {
            step.later.push((0, Message::Read { shard, ops: read }));
        }
        for op in ranges {
            let post = self.post.clone();
            let ask = move |shard: u16, question| {
                post.message(Message::ReadRange { shard: usize::from(shard), question: Box::new(question) });
            };
            range::begin_over(self.sharding, Arc::new(ask), op);
        }
    }

    pub(super) fn replica_heard(&mut self, inbound: Inbound, step: &mut Step) {
        if inbound.deadline <= self.now() {
            return verbs::refuse(inbound, ReplicaError::Expired);
        }
        match verbs::request_of(inbound) {
            Ok((token, request)) => step.later.push((0, self.request_for_shard(token, request))),
            Err(unread) => verbs::refuse(unread, ReplicaError::Malformed),
        }
    }
}

/// What an apply's replica answers is told to the oracle before anybody else hears of it.
fn watched(request: Request, have: u64, post: &Post) -> Request {
    let Op::Apply { mutation, .. } = &request.op else { return request };
    let (mutation, post) = (mutation.clone(), post.clone());
    let Request { from, fence, deadline, op, reply } = request;
    let planned = fence.ring_version;
    let reply = Reply::new(move |answer: Result<Result<Outcome, ReplicaError>, kula_actor::Lost>| {
        if let Ok(answer) = answer {
            if matches!(answer, Ok(Outcome::Applied)) {
                post.seen(Seen::Applied { mutation });
                if planned < have {
                    post.seen(Seen::AppliedStale { planned, have });
                }
            }
            reply.send(answer);
        }
    });
    Request { from, fence, deadline, op, reply }
}
