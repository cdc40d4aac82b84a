//! The words every room speaks: ids, keys, tokens, dots, timestamps, consistency levels.
//!
//! Plain values with their order, their bounds and nothing else: no clock, no I/O, no randomness. A word that two
//! rooms need and that decides nothing lives here.

mod consistency;
mod dot;
mod id;
mod key;
pub mod limits;
mod map;
mod name;
mod time;
mod token;

pub use consistency::{Consistency, ConsistencyError};
pub use dot::{Actor, Dot, DotError, Key};
pub use id::{ClusterId, ColumnId, Life, NodeId, TableId};
pub use key::{ClusteringKey, PartitionKey};
pub use map::{Map, Set};
pub use name::{Name, NameError};
pub use time::{Mono, Timestamp, TimestampError};
pub use token::Token;
