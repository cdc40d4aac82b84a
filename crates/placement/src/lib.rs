//! Who owns a key: partitioners, tokens, the ring value, preference lists and placement (Dynamo §4.2, §4.3, §6.2
//! "strategy 3").
//!
//! Pure functions over a versioned value: the same ring gives the same answer on every node, in every process, on
//! every run. Which ring is in force, and how a new one is agreed on, is the `ring` room's business.

pub mod form;
pub mod limits;
mod murmur3;
mod partitioner;
mod partitions;
mod place;
mod ring;
#[cfg(test)]
mod ring_tests;
mod secret;
mod settings;
mod walk;

pub use partitioner::{Partitioner, PartitionerError};
pub use partitions::{Partitions, PartitionsError, TokenRange};
pub use place::{OldPlacement, PlacementError, place};
pub use ring::{Datacentre, PreferenceList, Ring, RingContextKey, RingFacts, RingNode, RingValueError};
pub use secret::Secret;
pub use settings::{KeyspaceSettings, Mode, ReadRepair, SettingsError, SettingsWordError};
