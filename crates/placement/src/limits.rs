//! Bounds of the ring value, each with its reason.

/// Partitions a data centre has when nobody says: 64 for each of four nodes, the ratio at which measured loads stay
/// within 2 % of their targets.
pub const PARTITIONS_DEFAULT: u32 = 256;
/// More partitions than this make the ring value heavier than what it balances: 64 for each of 1,024 nodes.
pub const PARTITIONS_MAX: u32 = 1 << 16;
/// Nodes of one ring, all data centres together: an owner is a 16-bit index, a list of them is walked.
pub const NODES_MAX: usize = 1_024;
/// Data centres a ring ever had: their ordinals shift tokens and are kept for life. Far below the 2^64 / Q at which two
/// data centres would publish the same token.
pub const DATACENTRES_MAX: usize = 64;
/// Copies of a key in one data centre: a consistency level given as a number is a byte, and nobody waits for more.
pub const RF_MAX: u32 = 32;
/// Keyspaces of a cluster: each costs every node a line in every ring version.
pub const KEYSPACES_MAX: usize = 1_024;
/// A node's name, address, data centre or rack, and the cluster's name.
pub const TEXT_BYTES_MAX: usize = 255;
/// Keys that seal contexts: the present one and those whose 24 hours are not over.
pub const CONTEXT_KEYS_MAX: usize = 16;
/// A node's weight: 64 classes of machines are plenty, and products of weights and partitions stay far inside 64 bits.
pub const WEIGHT_MAX: u32 = 1 << 16;
/// The replication factor that placement balances for when nobody says.
pub const RF_BALANCED_DEFAULT: u32 = 3;
/// Changes of owner that one placement tries before it takes what it has: about a second. Counted, not timed, so that
/// every node stops at the same place.
pub const PLACEMENT_EVALUATIONS_MAX: u64 = 1 << 20;

const _: () = assert!(PARTITIONS_DEFAULT.is_power_of_two() && PARTITIONS_MAX.is_power_of_two());
const _: () = assert!(NODES_MAX < u16::MAX as usize, "an owner is a 16-bit index with one value to spare");
const _: () = assert!((DATACENTRES_MAX as u64) < (1 << 63) / PARTITIONS_MAX as u64 * 2);
