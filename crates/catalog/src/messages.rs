//! Commands the catalogue obeys and the event it publishes. A change is answered when it is durable and published here and
//! every live node has it, or after `limits::AGREE_WITHIN` with those that lack it.

use crate::CatalogError;
use kula_actor::{Message, Reply, Snapshot, Subscriber};
use kula_placement::KeyspaceSettings;
use kula_schema::{Keyspace, Schema, Table, TableKind, TableOptions};
use kula_types::{Name, NodeId};
use std::sync::Arc;

/// The schema in force, for readers: latest published, always durable.
pub type SchemaHandle = Snapshot<Schema>;

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CreateKeyspace {
    pub name: Name,
    pub settings: KeyspaceSettings,
    pub reply: Reply<Result<Keyspace, CatalogError>>,
}

/// Replaces a keyspace's settings. Settings it has already are answered at once.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct AlterKeyspace {
    pub name: Name,
    pub settings: KeyspaceSettings,
    pub reply: Reply<Result<Keyspace, CatalogError>>,
}

/// Drops a keyspace with its tables. Their ids never return.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct DropKeyspace {
    pub name: Name,
    pub reply: Reply<Result<(), CatalogError>>,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CreateTable {
    pub keyspace: Name,
    pub name: Name,
    pub kind: TableKind,
    pub options: TableOptions,
    pub reply: Reply<Result<Arc<Table>, CatalogError>>,
}

/// Drops a table. Its id never returns.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct DropTable {
    pub keyspace: Name,
    pub name: Name,
    pub reply: Reply<Result<(), CatalogError>>,
}

/// Somebody met a table of this node that is not known here: ask it for its schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Message)]
#[rtype(result = "()")]
pub struct Pull {
    pub from: NodeId,
}

/// The schema in force.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Get {
    pub reply: Reply<Arc<Schema>>,
}

/// Be told of every schema from now on, the present one first.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Subscribe(pub Subscriber<SchemaChanged>);

/// A new schema is in force.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct SchemaChanged(pub Arc<Schema>);
