//! The storage engine: commit log, memtable, SSTables, manifest, identity; and the actors that own them.
//!
//! `engine` is synchronous over `&dyn Disk`, free of threads and actors; `actor` gives each of its parts a thread. Data
//! enters by one message, `Apply`, a join. What is dropped when: `docs/mechanism/storage.md`.

mod actor;
pub mod config;
pub mod engine;
mod error;
mod identity;
pub mod limits;
mod messages;
mod metrics;
mod open;

pub use actor::{CommitLogActor, FlushActor, IdentityActor, Places, ShardActor, StorageDoors, spawn};
pub use config::{Compression, ConfigError, StorageConfig, SyncMode};
pub use error::StorageError;
pub use identity::{Identity, IdentityFile};
pub use messages::{
    Apply, ApplyOp, BindCluster, Drain, ExtendLease, Flush, FlushReport, GetIdentity, RangePage, Read, ReadOp,
    ReadRange, ShardStatistics, Statistics,
};
pub use open::{OpenedStorage, extend_lease, open};
