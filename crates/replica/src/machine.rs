//! The checks of a replica, pure: a batch in, storage operations and refusals out.
//!
//! Order matters. The fence first: a request planned with another ring says nothing about this one. Then the deadline,
//! then what the bytes themselves say. Nothing a peer sends reaches storage undecoded, misplaced or undated.

use crate::{
    ReplicaError, limits,
    messages::{Answer, Fence, Op, Origin, Outcome, ReplicaBatch, Request},
    range::{Range, RangeOp},
};
use bytes::Bytes;
use kula_actor::Reply;
use kula_fault::{Mutant, Site, buggify, planted};
use kula_lattice::{Mutation, Partition, Row, Seal};
use kula_placement::Ring;
use kula_schema::Schema;
use kula_storage::{ApplyOp, ReadOp, StorageError};
use kula_types::{Mono, NodeId, TableId, Timestamp, Token};
use std::{sync::Arc, time::Duration};

/// What is known at this moment: given, never read.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub now: Mono,
    /// The later of physical time here and this node's own clock: only the dates of clients' writes are held against
    /// it. Physical time alone would refuse what this node itself stamps after its wall clock was set back.
    pub latest: Timestamp,
    pub ring: &'a Ring,
    pub schema: &'a Schema,
}

/// What a batch comes to.
#[derive(Default)]
pub struct Effects {
    pub apply: Vec<ApplyOp>,
    pub read: Vec<ReadOp>,
    pub ranges: Vec<RangeOp>,
    pub refused: Vec<(Reply<Result<Outcome, ReplicaError>>, ReplicaError)>,
    /// Hints of tables that were dropped: nothing is left to join them to, and they are owed no longer. Answered as applied.
    pub settled: Vec<Reply<Result<Outcome, ReplicaError>>>,
    /// Who planned with a newer ring than this node has.
    pub pull_ring: Option<NodeId>,
    /// Who asks for a table that this node has not heard of.
    pub pull_schema: Option<NodeId>,
}

/// Which of this node's shards a token belongs to.
pub type ShardOf = Arc<dyn Fn(Token) -> usize + Send + Sync>;
type Answered = Reply<Result<Outcome, ReplicaError>>;

/// The serving half of one shard.
pub struct Machine {
    /// This replica's path, for `Overloaded`.
    path: Arc<str>,
    shard: usize,
    shard_of: ShardOf,
    /// Before these nobody is asked for a ring, for a schema: many requests say the same at once.
    pull_ring_at: Mono,
    pull_schema_at: Mono,
}

impl Machine {
    pub fn new(path: Arc<str>, shard: usize, shard_of: ShardOf) -> Self {
        let (pull_ring_at, pull_schema_at) = (Mono::default(), Mono::default());
        Machine { path, shard, shard_of, pull_ring_at, pull_schema_at }
    }

    pub fn step(&mut self, view: View<'_>, batch: ReplicaBatch, effects: &mut Effects) {
        for (index, request) in batch.requests.into_iter().enumerate() {
            let Request { from, fence, deadline, op, reply } = request;
            let checked = match index {
                0..limits::BATCH_REQUESTS_MAX if !buggify(Site::ReplicaOverloaded) => {
                    check_fence(view.ring, fence).and_then(|()| check_deadline(view, deadline))
                }
                _ => {
                    let (path, cap) = (Arc::clone(&self.path), limits::BATCH_REQUESTS_MAX);
                    Err(ReplicaError::Overloaded { path, depth: index, cap })
                }
            };
            if let Err((reply, refusal)) = match checked {
                Ok(()) => self.serve(view, op, reply, effects),
                Err(refusal) => Err((reply, refusal)),
            } {
                if let Some(from) = from {
                    self.learn(view.now, from, &refusal, effects);
                }
                effects.refused.push((reply, refusal));
            }
        }
    }

    /// A peer that asks for what this node does not know of yet is the one to learn it from.
    fn learn(&mut self, now: Mono, from: NodeId, refusal: &ReplicaError, effects: &mut Effects) {
        let (at, pull) = match refusal {
            ReplicaError::Behind => (&mut self.pull_ring_at, &mut effects.pull_ring),
            ReplicaError::UnknownTable { .. } => (&mut self.pull_schema_at, &mut effects.pull_schema),
            _ => return,
        };
        if *at <= now {
            *at = now.after(limits::PULL_EVERY);
            *pull = Some(from);
        }
    }

    fn serve(
        &self,
        view: View<'_>,
        op: Op,
        reply: Answered,
        effects: &mut Effects,
    ) -> Result<(), (Answered, ReplicaError)> {
        match op {
            Op::Apply { mutation, origin } => match self.check_apply(view, &mutation, origin) {
                Ok(decoded) => {
                    let sibling_cap = matches!(origin, Origin::Client { contextless: true });
                    effects.apply.push(ApplyOp {
                        mutation: decoded,
                        encoded: mutation,
                        sibling_cap,
                        reply: applied(reply),
                    });
                    Ok(())
                }
                Err(ReplicaError::UnknownTable { table })
                    if origin == Origin::Hint && view.schema.is_dropped(table) =>
                {
                    effects.settled.push(reply);
                    Ok(())
                }
                Err(refusal) => Err((reply, refusal)),
            },
            // The time of visibility is the coordinator's business: whole partitions go back to it.
            Op::Read { table, key, slice, answer, now: _ } => {
                let token = view.ring.token(&key);
                match self.check_place(view.schema, table, token) {
                    Ok(()) => {
                        effects.read.push(ReadOp { table, token, key, slice, reply: read(answer, reply) });
                        Ok(())
                    }
                    Err(refusal) => Err((reply, refusal)),
                }
            }
            // Of all shards: it has no place to be checked.
            Op::ReadRange { table, after, through, partitions_max, bytes_max } => {
                match check_table(view.schema, table) {
                    Ok(()) => {
                        let range = Range { table, after, through, partitions_max, bytes_max };
                        effects.ranges.push(RangeOp { range, reply });
                        Ok(())
                    }
                    Err(refusal) => Err((reply, refusal)),
                }
            }
        }
    }

    fn check_apply(&self, view: View<'_>, bytes: &Bytes, origin: Origin) -> Result<Mutation, ReplicaError> {
        let mutation = Mutation::decode(bytes)?;
        if view.ring.token(&mutation.key) != mutation.token {
            return Err(ReplicaError::Misplaced);
        }
        self.check_place(view.schema, mutation.table, mutation.token)?;
        match origin {
            Origin::Client { .. } => check_date(view.latest, &mutation.delta)?,
            // These were accepted once, by an owner's clock: refusing them would keep replicas apart for ever.
            Origin::Hint | Origin::Repair | Origin::Stream => {}
        }
        Ok(mutation)
    }

    fn check_place(&self, schema: &Schema, table: TableId, token: Token) -> Result<(), ReplicaError> {
        if (self.shard_of)(token) != self.shard {
            return Err(ReplicaError::Misplaced);
        }
        check_table(schema, table)
    }
}

fn check_table(schema: &Schema, table: TableId) -> Result<(), ReplicaError> {
    match schema.table(table) {
        Some(_) => Ok(()),
        None => Err(ReplicaError::UnknownTable { table }),
    }
}

/// Phases are facts inside a ring version, and no partition of this version moves: every phase is 0.
fn check_fence(ring: &Ring, fence: Fence) -> Result<(), ReplicaError> {
    match fence.ring_version.cmp(&ring.version) {
        std::cmp::Ordering::Less if planted(Mutant::StaleRingServed) => Ok(()),
        std::cmp::Ordering::Less => Err(ReplicaError::StaleRing { have: ring.version }),
        std::cmp::Ordering::Equal if fence.phase == 0 => Ok(()),
        std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => Err(ReplicaError::Behind),
    }
}

fn check_deadline(view: View<'_>, deadline: Mono) -> Result<(), ReplicaError> {
    if deadline <= view.now { Err(ReplicaError::Expired) } else { Ok(()) }
}

/// Refuses what would win for ever (promise P14).
fn check_date(latest: Timestamp, delta: &Partition) -> Result<(), ReplicaError> {
    let Some(dated) = latest_date(delta).filter(|_| !planted(Mutant::FarFutureTaken)) else { return Ok(()) };
    let ahead = Duration::from_micros(dated.micros().saturating_sub(latest.micros()).max(0).unsigned_abs());
    if ahead > kula_clock::limits::CLIENT_AHEAD_MAX { Err(ReplicaError::ClockAhead { by: ahead }) } else { Ok(()) }
}

/// The latest date that this delta itself brings. A cell's own floor is left out: a causal write covers exactly the
/// value it saw, whose date may be anything, and brings no date of its own by that.
fn latest_date(delta: &Partition) -> Option<Timestamp> {
    let of_row = |row: &Row| {
        let registers = row.marker.iter().chain(row.cells.iter().filter_map(|(_, cell)| cell.lww.as_ref()));
        let floors = row.floor.iter().chain(row.collections.iter().map(|(_, floor)| floor));
        let dots = row.cells.iter().filter_map(|(_, cell)| cell.dots.as_ref());
        let values = dots.flat_map(|dots| dots.live.iter().map(|(_, live)| live.hlc));
        registers.map(|lww| lww.key.ts()).chain(floors.map(|floor| floor.ts())).chain(values).max()
    };
    let rows = delta.rows.iter().map(|(_, row)| row).chain(delta.statics.as_deref()).filter_map(of_row);
    let ranges = delta.ranges.iter().filter_map(|(_, floor)| floor);
    let floors = delta.floor.into_iter().chain(ranges).map(|floor| floor.ts());
    rows.chain(floors).max()
}

fn applied(reply: Answered) -> Reply<Result<(), StorageError>> {
    Reply::new(move |answer: Result<Result<(), StorageError>, _>| {
        // A lost answer drops the coordinator's reply, which says the same: unknown.
        if let Ok(answer) = answer {
            reply.send(answer.map(|()| Outcome::Applied).map_err(ReplicaError::from));
        }
    })
}

fn read(answer: Answer, reply: Answered) -> Reply<Result<Partition, StorageError>> {
    Reply::new(move |read: Result<Result<Partition, StorageError>, _>| {
        let outcome = |partition: Partition| match answer {
            Answer::Data => Outcome::Data(partition),
            // No seal exists yet: nothing may be left out of a digest.
            Answer::Digest => Outcome::Digest { digest: partition.digest(None, Seal::NONE), seal: Seal::NONE },
        };
        if let Ok(read) = read {
            reply.send(read.map(outcome).map_err(ReplicaError::from));
        }
    })
}
