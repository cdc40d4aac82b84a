//! The schema in force: create, alter, drop, persist, agree (`design.md` §2).
//!
//! What a keyspace or a table is belongs to `schema`, how a keyspace is replicated to the ring; this room brings the two
//! into step, one change at a time, durable before it is told. Nodes join what they hear from each other, so they agree
//! whatever the order; a change is answered when every live node has it. Readers hold `SchemaHandle`, the latest published
//! schema.

mod actor;
#[cfg(test)]
mod durability;
mod error;
pub mod limits;
mod machine;
mod messages;
#[cfg(test)]
mod scripts;
#[cfg(test)]
mod several;
mod state;
#[cfg(test)]
mod together;

pub use actor::{CatalogActor, Spawn, live, spawn};
pub use error::CatalogError;
pub use machine::{Change, Changed, Effect, Event, Live, Machine, Notice, OperationId, Peer, Scene};
pub use messages::{
    AlterKeyspace, CreateKeyspace, CreateTable, DropKeyspace, DropTable, Get, Pull, SchemaChanged, SchemaHandle,
    Subscribe,
};
pub use state::{open, store};
