//! What operators see and command, and the catalogue of error codes.
//!
//! It reads what other rooms publish, asks other nodes how things look from there, and passes wishes on to those who grant
//! them; it decides nothing about data, rings or schemas itself. Every answer is a value that serializes as documented in
//! `docs/http.md`; the front doors only carry it.

mod actor;
mod availability;
pub mod codes;
mod differences;
mod error;
#[cfg(test)]
mod fixture;
pub mod limits;
mod operator;
mod readiness;
#[cfg(test)]
mod stories;
mod survey;
mod verdict;
mod view;
pub mod views;
mod wishes;

pub use actor::OperatorActor;
pub use codes::Code;
pub use error::OperatorError;
pub use operator::{Operator, OperatorParts, ReplicaCell};
pub use readiness::{Readiness, Stage};
pub use verdict::Level;
pub use wishes::{KeyspaceSettingsWish, KeyspaceWish, TableWish};
