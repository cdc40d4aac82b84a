//! Bounds of the storage room, each with its reason.

use std::time::Duration;

/// Shards a data directory may have: one a core, and no machine we aim at has more cores worth a shard each.
pub const SHARDS_MAX: u16 = 64;
/// k: the top bits of a token that choose its shard. At most log2 of the smallest Q, so that a ring partition lies in
/// one shard; enough for 64 shards to be even within a quarter.
pub const SHARD_BITS: u8 = 8;
/// Memtables of all shards together, active and frozen. Past a shard's share its writes are shed.
pub const MEMTABLE_HEAP_DEFAULT: u64 = 256 << 20;
pub const MEMTABLE_HEAP_MIN: u64 = 64 << 10;
/// The fraction of its share at which a shard starts a flush: the rest takes the writes that come meanwhile.
pub const MEMTABLE_CLEANUP_THRESHOLD_DEFAULT: f64 = 0.4;
/// The commit log on disk. At half of it the shards that hold the oldest segment flush; past it writes are shed.
/// Replayed at 300 MB/s, a full log costs a start of a few seconds.
pub const COMMITLOG_TOTAL_DEFAULT: u64 = 1 << 30;
pub const COMMITLOG_SEGMENT_DEFAULT: u64 = 32 << 20;
/// For tests. Below the largest mutation a segment takes smaller ones only.
pub const COMMITLOG_SEGMENT_MIN: u64 = 12 << 10;
/// The log must have room for the segment being written, one being flushed and one to recycle.
pub const COMMITLOG_SEGMENTS_MIN: u64 = 4;
/// How often a `periodic` log is synced unless told otherwise: a loss of at most about a hundredth of a second.
pub const SYNC_PERIOD_MS_DEFAULT: u64 = 10;
/// The longest a `periodic` log may leave acknowledged writes unsynced.
pub const SYNC_PERIOD_MS_MAX: u64 = 60_000;

/// Bytes one write to the log may gather before it is synced: past this a larger batch only adds latency.
pub const LOG_BATCH_BYTES_MAX: usize = 4 << 20;
/// Bytes a shard may have on their way to the log: two of the largest mutations, or some thousand small ones.
pub const LOG_PENDING_BYTES_MAX: usize = 2 * kula_types::limits::MUTATION_BYTES_MAX;
/// Bytes of one slice of a flush report, of a scan page and of the like are bounded by their callers; rows of a
/// partition past this number are kept in a tree instead of a sorted vector.
pub const FEW_ROWS_MAX: usize = 32;
/// A key, path or body shorter than this share of its mutation is copied out, so that it does not pin the whole
/// encoding: what a memtable holds is then at most this many times what it counts.
pub const PINNED_RATIO_MAX: usize = 2;

/// Partitions that one `ReadRange` looks at, and the bytes it gathers: a shard's thread is back within a few
/// milliseconds, however many deletes lie in a row.
pub const RANGE_PARTITIONS_MAX: usize = 1_024;
pub const RANGE_BYTES_MAX: usize = 1 << 20;

/// First and longest wait before a flush that met a full disk is tried again.
pub const FLUSH_RETRY_MIN: Duration = Duration::from_millis(250);
pub const FLUSH_RETRY_MAX: Duration = Duration::from_secs(10);
/// How often an idle log notes that its last batch is durable and sees to its spare segment.
pub const LOG_SETTLE: Duration = Duration::from_millis(250);
/// How often the clock's lease is looked at: often enough that it is renewed well before it ends.
pub const LEASE_CHECK: Duration = Duration::from_millis(250);

/// Plain blocks of SSTables kept in memory, all shards together: enough for the hot part of a small node, little beside
/// its memtables. What does not fit comes from the page cache and is decompressed anew.
pub const BLOCK_CACHE_BYTES_MAX: usize = 64 << 20;

/// Mailboxes. A shard and the log take batches, so a thousand messages are far more writes than a thousand.
pub const SHARD_MAILBOX: usize = 1_024;
pub const COMMITLOG_MAILBOX: usize = 1_024;
pub const FLUSH_MAILBOX: usize = 2 * SHARDS_MAX as usize;
pub const IDENTITY_MAILBOX: usize = 256;

/// Tables a manifest may list: a decoder's bound, far above what compaction lets grow.
pub const MANIFEST_TABLES_MAX: usize = 1 << 16;
/// Partitions whose fence and done a manifest may list.
pub const MANIFEST_FENCES_MAX: usize = 1 << 16;

const _: () = assert!(MEMTABLE_HEAP_MIN < MEMTABLE_HEAP_DEFAULT);
const _: () = assert!(COMMITLOG_SEGMENTS_MIN * COMMITLOG_SEGMENT_DEFAULT < COMMITLOG_TOTAL_DEFAULT);
const _: () = assert!((1 << SHARD_BITS) >= SHARDS_MAX as usize);
const _: () = assert!(LEASE_CHECK.as_millis() * 2 < kula_clock::limits::LEASE_RENEW_BELOW.as_millis());
