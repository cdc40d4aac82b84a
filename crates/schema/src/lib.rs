//! What keyspaces and tables there are, as one joinable value (`design.md` §2).
//!
//! Definitions are facts that nodes may learn in any order, twice, or from two sides of a partition; joining what two
//! nodes know gives the same schema on both. Replication settings are not here: a quorum must not depend on rumour, so
//! they live in the ring version. The room knows no data, no clock and no disk.

mod canonical;
mod change;
pub mod form;
#[cfg(test)]
mod laws;
pub mod limits;
mod schema;
mod table;

pub use change::{ChangeError, TableDefinition};
pub use schema::{Keyspace, KeyspaceId, ResolveError, Schema, SchemaDigest};
pub use table::{
    Clustering, Column, ColumnKind, ColumnType, OptionError, Order, ROW_MARKER, Table, TableKind, TableKindError,
    TableOptions,
};
