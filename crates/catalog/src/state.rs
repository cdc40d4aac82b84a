//! `schema.state` and how a node comes by its schema at the start.
//!
//! Safe because the file is replaced whole and before anybody is told. The first schema is made only beside the first
//! ring: a directory that lost its schema must not pretend that it never had tables.

use crate::CatalogError;
use kula_disk::{
    Disk,
    atomic::{self, Format},
};
use kula_fault::{Mutant, planted};
use kula_schema::{Schema, form};
use kula_types::ClusterId;

pub(crate) const FILE: &str = "schema.state";
const FORMAT: Format = Format { magic: *b"KULASCHM", version: form::VERSION };

/// The schema in this directory, or the first one of a new cluster, durable when this returns. `bound` is the cluster
/// that the directory's identity is bound to; the caller binds it only after the ring and the schema are there, so a
/// bound directory without a schema is a damaged one.
pub fn open(disk: &dyn Disk, bound: Option<ClusterId>) -> Result<Schema, CatalogError> {
    match (atomic::read_atomic(disk, FILE, FORMAT)?, bound) {
        (Some(bytes), _) => Ok(form::decode(&bytes)?),
        (None, Some(cluster)) => Err(CatalogError::Missing { cluster }),
        (None, None) => {
            let schema = Schema::first();
            store(disk, &schema)?;
            Ok(schema)
        }
    }
}

/// Makes a schema durable. On an error the old one or the new one is there, whole.
pub fn store(disk: &dyn Disk, schema: &Schema) -> Result<(), CatalogError> {
    if planted(Mutant::SchemaNotStored) {
        return Ok(());
    }
    Ok(atomic::write_atomic(disk, FILE, FORMAT, &form::encode(schema)?)?)
}
