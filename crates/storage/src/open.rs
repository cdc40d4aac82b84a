//! The start: lock the directory, learn who we are, open the shards, replay the log, lease the clock. Synchronous: a
//! node is not up before it ends.

use crate::{
    Identity, IdentityFile, StorageConfig, StorageError, SyncMode,
    engine::{Engine, ReplayReport, Sharding},
};
use kula_clock::{Clock, Hlc, Told};
use kula_disk::{Disk, log::Loss};
use kula_types::ClusterId;
use std::sync::Arc;

/// A data directory that is ours, replayed. Give it to `spawn`, or drive its engine directly.
pub struct OpenedStorage {
    pub(crate) identity: IdentityFile,
    pub(crate) sync: SyncMode,
    pub engine: Engine,
    /// The node's one clock. Its lease is durable, unless the disk is full: then it gives no stamp until there is room.
    pub hlc: Arc<Hlc>,
    /// What peers were told of the lease, by which they see a directory that went back.
    pub told: Arc<Told>,
    pub replay: ReplayReport,
}

/// `loss`: what to do about damage in what was acknowledged; `Loss::Accept` is an operator's decision.
pub fn open(
    disk: Arc<dyn Disk>,
    config: &StorageConfig,
    clock: &dyn Clock,
    loss: Loss,
) -> Result<OpenedStorage, StorageError> {
    config.check()?;
    let mut identity = IdentityFile::open_or_create(disk.clone(), config.shards)?;
    let Identity { shards, shard_bits, lease, told, .. } = identity.identity();
    let sharding =
        Sharding::new(shards, shard_bits).ok_or_else(|| StorageError::IdentityDamaged { what: "its shards".into() })?;
    // No write is stamped before the first lease is durable.
    let (engine, replay) = Engine::open(disk, config, sharding, loss, lease.is_some())?;
    let hlc = Hlc::starting_above(lease);
    let told = Told::new(told, loss == Loss::Accept);
    match extend_lease(&mut identity, &hlc, &told, clock) {
        // Reads need no stamp, so a full disk is no reason not to start.
        Ok(()) | Err(StorageError::DiskFull { .. }) => {}
        Err(error) => return Err(error),
    }
    let (hlc, told) = (Arc::new(hlc), Arc::new(told));
    Ok(OpenedStorage { identity, sync: config.sync, engine, hlc, told, replay })
}

/// Makes a longer lease durable, if one is due, and only then lets the clock use it and peers be told.
pub fn extend_lease(
    identity: &mut IdentityFile,
    hlc: &Hlc,
    told: &Told,
    clock: &dyn Clock,
) -> Result<(), StorageError> {
    let Some(lease) = hlc.lease_due(clock.wall()) else { return Ok(()) };
    let telling = told.next(lease);
    identity.extend_lease(lease, telling)?;
    hlc.extend(lease);
    told.is_durable(telling);
    Ok(())
}

impl OpenedStorage {
    pub fn identity(&self) -> Identity {
        self.identity.identity()
    }

    /// Its parts, for whoever drives them without actors.
    pub fn into_parts(self) -> (IdentityFile, SyncMode, Engine, Arc<Hlc>) {
        (self.identity, self.sync, self.engine, self.hlc)
    }

    /// Says once which cluster this directory belongs to; another one is refused. Durable when it returns.
    pub fn bind_cluster(&mut self, cluster: ClusterId) -> Result<(), StorageError> {
        self.identity.bind_cluster(cluster)
    }
}
