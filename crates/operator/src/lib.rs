//! What operators see and command, and the catalogue of error codes.
//!
//! It reads what other rooms publish and passes wishes on to those who grant them; it decides nothing about data, rings or
//! schemas itself. Every answer is a value that serializes as documented in `docs/http.md`; the front doors only carry it.

pub mod codes;
mod error;
pub mod limits;
mod operator;
mod readiness;
mod verdict;
pub mod views;
mod wishes;

pub use codes::Code;
pub use error::OperatorError;
pub use operator::{Operator, OperatorParts, ReplicaCell};
pub use readiness::{Readiness, Stage};
pub use verdict::{Conditions, Level, Verdict};
pub use wishes::{KeyspaceWish, TableWish};
