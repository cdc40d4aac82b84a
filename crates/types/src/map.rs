//! Hash maps with a fixed hasher: the same program, the same order, on every run (simulation replays depend on it).

use rustc_hash::FxBuildHasher;

/// The only hash map of the house. Its order is fixed but arbitrary: sort before it becomes visible.
pub type Map<K, V> = std::collections::HashMap<K, V, FxBuildHasher>;
/// The only hash set of the house.
pub type Set<K> = std::collections::HashSet<K, FxBuildHasher>;
