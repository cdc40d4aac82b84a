//! What can go wrong with the schema, by what a caller may do about it. Every variant says whether anything changed.

use kula_disk::{DiskError, Operation, atomic::StateError};
use kula_placement::SettingsError;
use kula_ring::RingError;
use kula_schema::{ChangeError, Table, form::SchemaFormError};
use kula_types::{ClusterId, Name};
use std::sync::Arc;

#[derive(Clone, Debug, thiserror::Error)]
pub enum CatalogError {
    // At the start. Nothing has changed.
    /// The schema of a directory that had one is gone.
    #[error(
        "this data directory belongs to cluster {cluster}, but its schema is gone; restore the directory from a backup, or start with an empty one"
    )]
    Missing { cluster: ClusterId },
    /// Damaged or written by a newer version: the source says which.
    #[error("the schema cannot be read: {0}")]
    Unreadable(#[from] StateError),
    #[error("the schema cannot be read or stored: {0}")]
    Form(Arc<SchemaFormError>),

    // Answers to operations.
    #[error("there is no keyspace {keyspace}")]
    UnknownKeyspace { keyspace: Name },
    #[error("keyspace {keyspace} has no table {table}")]
    UnknownTable { keyspace: Name, table: Name },
    /// Nothing has changed: it is there as asked. A repeated request may take this for success.
    #[error("keyspace {keyspace} exists already, with these settings")]
    KeyspaceExists { keyspace: Name },
    /// Nothing has changed: it is there as asked. A repeated request may take this for success.
    #[error("table {}.{} exists already, defined alike", existing.keyspace, existing.name)]
    TableExists { existing: Arc<Table> },
    /// Nothing has changed: it is there, but other than asked. Choose another name, or alter or drop this one.
    #[error("keyspace {keyspace} exists already, with other settings")]
    KeyspaceConflict { keyspace: Name },
    /// Nothing has changed: it is there, but other than asked. Choose another name, or drop this one.
    #[error("table {}.{} exists already, as {} table", existing.keyspace, existing.name, existing.kind)]
    TableConflict { existing: Arc<Table> },
    /// Nothing has changed.
    #[error("a cluster has at most {max} {what}")]
    Limit { what: &'static str, max: usize },
    /// Nothing has changed.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Nothing has changed.
    #[error("{what} is not there yet")]
    NotThereYet { what: &'static str },
    /// Nothing has changed. Ask again later.
    #[error("{waiting} changes of the schema wait already")]
    Busy { waiting: usize },
    /// Nothing has changed: there is no room on the disk. Ask again when there is.
    #[error("the disk is full; the schema did not change")]
    DiskFull,
    /// Nothing has changed: no file could be opened. Ask again later.
    #[error("too many files are open; the schema did not change")]
    TooManyFiles,
    /// Written, but not synced: what a restart finds is unknown. The schema in force is the old one; asking again is safe.
    #[error("the disk does not sync for now, what a restart finds is unknown: {0}")]
    NotSynced(DiskError),
    /// It is made here and durable; these live nodes do not have it yet. They get it without being asked again; a repeated
    /// request finds it there.
    #[error("done here, but not yet known to {}", lacking.join(", "))]
    NotEverywhere { lacking: Vec<String> },
    /// Nothing has changed: the clock gives no stamp until its lease is durable again.
    #[error("the clock has no lease; the schema did not change")]
    ClockLease,
    /// The ring did not take the keyspace's settings, or there is none; `RingError::may_have_changed` says whether it may
    /// have.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// Whether the change survives a restart is unknown, and the node stops.
    #[error("the schema could not be made durable, whether it changed is unknown: {0}")]
    Disk(DiskError),
    /// Nothing has changed: the disk failed at an earlier change, and the node is stopping.
    #[error("the node is stopping after its disk failed; the schema did not change")]
    Fenced,
}

impl CatalogError {
    /// Whether something may have changed in spite of the error.
    pub fn may_have_changed(&self) -> bool {
        match self {
            CatalogError::Disk(_) | CatalogError::NotSynced(_) | CatalogError::NotEverywhere { .. } => true,
            CatalogError::Ring(error) => error.may_have_changed(),
            _ => false,
        }
    }

    /// Whether the node must stop: its disk failed in a way that does not pass.
    pub fn fences(&self) -> bool {
        matches!(self, CatalogError::Disk(_))
    }
}

/// A failed write of the state file, by what became of the file.
impl From<DiskError> for CatalogError {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::Full { operation: Operation::SyncDir, .. }
            | DiskError::TooManyFiles { operation: Operation::SyncDir, .. } => CatalogError::NotSynced(error),
            DiskError::Full { .. } => CatalogError::DiskFull,
            DiskError::TooManyFiles { .. } => CatalogError::TooManyFiles,
            error => CatalogError::Disk(error),
        }
    }
}

impl From<SchemaFormError> for CatalogError {
    fn from(error: SchemaFormError) -> Self {
        CatalogError::Form(Arc::new(error))
    }
}

impl From<ChangeError> for CatalogError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::UnknownKeyspace { keyspace } => CatalogError::UnknownKeyspace { keyspace },
            ChangeError::UnknownTable { keyspace, table } => CatalogError::UnknownTable { keyspace, table },
            ChangeError::KeyspaceExists { keyspace } => CatalogError::KeyspaceExists { keyspace },
            ChangeError::TableExists { existing } => CatalogError::TableExists { existing },
            ChangeError::TableDiffers { existing } => CatalogError::TableConflict { existing },
            ChangeError::Limit { what, max } => CatalogError::Limit { what, max },
        }
    }
}
