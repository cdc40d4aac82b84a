//! The engine: synchronous over `&dyn Disk`, free of threads and actors (Dynamo leaves its local store open, §4.9; the
//! shape is that of Bigtable §5.3 and Cassandra §5).
//!
//! `store` opens and replays it; `shard` joins and reads; `memtable`, `flush`, `manifest` and `sstable` are how a shard
//! keeps data; `commit_log` is what all shards of a node write first; `sharding` says which token is whose.

mod commit_log;
mod flush;
pub(crate) mod layout;
mod manifest;
mod memtable;
mod scan;
mod shard;
mod sharding;
pub mod sstable;
mod store;

pub use commit_log::{CommitLog, CommitLogConfig, RecordError, Records, parse_record};
pub use flush::{FlushError, FlushJob, Flushed};
pub use manifest::{Manifest, PartitionFence};
pub use memtable::Memtable;
pub use scan::{PageBudget, Scan, Scanned};
pub use shard::{Shard, ShardBudget, Siblings};
pub use sharding::Sharding;
pub use store::{Engine, ReplayReport};
