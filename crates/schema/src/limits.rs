//! Bounds of a schema, each with its reason.

/// Keyspaces alive at once: each has a line in every ring version.
pub const KEYSPACES_MAX: usize = 1_024;
/// Tables alive at once: each costs every shard of every node a memtable and files.
pub const TABLES_MAX: usize = 16_384;
/// Definitions kept, dropped ones included: a dropped id stays as a fact so that it never returns, and a schema is
/// gossiped, stored and compared as a whole.
pub const FACTS_MAX: usize = 4 * (KEYSPACES_MAX + TABLES_MAX);
/// Clustering columns of a table: more than anybody sorts by.
pub const CLUSTERING_MAX: usize = 32;
/// Columns of a table.
pub const COLUMNS_MAX: usize = 1_024;
/// A stored schema: what one state file holds. All definitions of a full schema, some 400 bytes each, take half of it.
pub const FORM_BYTES_MAX: usize = 64 << 20;
