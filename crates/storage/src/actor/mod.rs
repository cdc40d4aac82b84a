//! The threads of storage: one commit log, one shard an arbiter, one flush worker, one keeper of the identity.
//!
//! The shells decide nothing about data: a shard hands what it accepts to the log, joins what the log says is durable,
//! and answers. All of them own what exists once, so a panic in any fences the node.

mod commit_log;
mod flush;
mod identity;
mod shard;

pub use commit_log::CommitLogActor;
pub use flush::FlushActor;
pub use identity::IdentityActor;
pub use shard::ShardActor;

use crate::{
    Drain, OpenedStorage,
    engine::{Engine, Sharding},
    limits,
    metrics::{LogMetrics, ShardMetrics},
};
use actix::Handler;
use kula_actor::{ChildSpec, Door, KulaContext, Lost, MailboxConfig, Place, Registry, Reply, child_once};
use kula_clock::Clock;
use kula_types::Token;
use std::sync::Arc;

/// Where each part runs. A shard's place is also its replica's.
pub struct Places {
    /// One a shard, in order.
    pub shards: Vec<Place>,
    /// Its own thread: a sync blocks it.
    pub commit_log: Place,
    /// Its own thread: a flush blocks it.
    pub flush: Place,
    pub identity: Place,
}

/// The ways into storage.
#[derive(Clone)]
pub struct StorageDoors {
    pub shards: Vec<Door<ShardActor>>,
    pub identity: Door<IdentityActor>,
    pub commit_log: Door<CommitLogActor>,
    sharding: Sharding,
}

impl StorageDoors {
    /// Which shard owns a token: fixed when the data directory was made.
    pub fn shard_of(&self, token: Token) -> usize {
        usize::from(self.sharding.shard_of(token))
    }

    pub fn sharding(&self) -> Sharding {
        self.sharding
    }
}

/// Makes the actors of an opened storage. The children are in starting order: identity, log, flush worker, shards; an
/// ordered stop goes the other way round, so that a shard's last writes still reach the log.
pub fn spawn(
    opened: OpenedStorage,
    registry: &Registry,
    places: Places,
    clock: Arc<dyn Clock>,
    log: &slog::Logger,
) -> (StorageDoors, Vec<ChildSpec>) {
    let OpenedStorage { identity, sync, engine, hlc, told, replay } = opened;
    let Engine { disk, sharding, shards, commit_log, .. } = engine;
    assert_eq!(places.shards.len(), shards.len(), "a place for each shard");
    let mailbox = |cap| MailboxConfig { cap };
    let logger = |actor: &str| log.new(slog::o!("actor" => actor.to_owned()));
    slog::info!(logger("storage/commitlog"), "commit log replayed"; "event" => "replayed", "records" => replay.records,
        "bytes" => replay.bytes, "joined" => replay.joined, "damaged_places" => replay.damaged_places);

    let path = "storage/identity";
    let (actor_clock, actor_log) = (clock.clone(), logger(path));
    let (identity_door, identity_child) =
        child_once(registry, path, mailbox(limits::IDENTITY_MAILBOX), places.identity, move || {
            IdentityActor::new(identity, hlc, told, actor_clock, actor_log)
        });

    let path = "storage/commitlog";
    let mutation_bytes_max = commit_log.mutation_bytes_max();
    let (metrics, actor_log) = (LogMetrics::new(registry, &replay), logger(path));
    let (log_door, log_child) =
        child_once(registry, path, mailbox(limits::COMMITLOG_MAILBOX), places.commit_log, move || {
            CommitLogActor::new(commit_log, sync, clock, metrics, actor_log)
        });

    let path = "storage/flush";
    let (flush_door, flush_child) =
        child_once(registry, path, mailbox(limits::FLUSH_MAILBOX), places.flush, move || FlushActor::new(disk));

    let mut doors =
        StorageDoors { shards: Vec::new(), identity: identity_door, commit_log: log_door.clone(), sharding };
    let mut children = vec![identity_child, drained(log_child, log_door.clone()), flush_child];
    for (shard, place) in shards.into_iter().zip(places.shards) {
        let path = format!("storage/shard/{}", shard.index());
        let metrics = ShardMetrics::new(registry, shard.index());
        let (log_door, flush_door, actor_log) = (log_door.clone(), flush_door.clone(), logger(&path));
        let (door, shard_child) = child_once(registry, &path, mailbox(limits::SHARD_MAILBOX), place, move || {
            ShardActor::new(shard, mutation_bytes_max, log_door, flush_door, metrics, actor_log)
        });
        doors.shards.push(door.clone());
        children.push(drained(shard_child, door));
    }
    (doors, children)
}

/// Before the child is stopped in an ordered shutdown it answers what it took.
fn drained<A>(child: ChildSpec, door: Door<A>) -> ChildSpec
where
    A: actix::Actor<Context = KulaContext<A>> + Handler<Drain>,
{
    child.drain(move || async move {
        let (reply, drained) = Reply::pair();
        if door.tell_forced(Drain { reply }).is_ok() {
            match drained.await {
                // Lost: the actor went first, and there is nothing to wait for.
                Ok(()) | Err(Lost) => {}
            }
        }
    })
}
