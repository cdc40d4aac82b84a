//! The schema in force: create, alter, drop, persist (`design.md` §2).
//!
//! What a keyspace or a table is belongs to `schema`, how a keyspace is replicated to the ring; this room brings the two
//! into step, one change at a time, durable before it is told. Readers hold `SchemaHandle`, the latest published schema.

mod actor;
#[cfg(test)]
mod durability;
mod error;
pub mod limits;
mod machine;
mod messages;
#[cfg(test)]
mod scripts;
mod state;
#[cfg(test)]
mod together;

pub use actor::{CatalogActor, Spawn, spawn};
pub use error::CatalogError;
pub use machine::{Change, Changed, Effect, Event, Machine, OperationId};
pub use messages::{
    AlterKeyspace, CreateKeyspace, CreateTable, DropKeyspace, DropTable, Get, SchemaChanged, SchemaHandle, Subscribe,
};
pub use state::open;
