//! What catalog says to catalog: which schema it has, and the schema itself to who lacks some of it.

use crate::{
    blob::Blob,
    verb::{Lane, Verb},
};
use serde::{Deserialize, Serialize};

/// What a node has: "this is mine; what is yours?"
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaIs {
    /// `SchemaDigest` of the schema in force.
    pub digest: u128,
    /// Where the settings of its keyspaces stand.
    pub ring_version: u64,
}

/// Asks for the schema in force, unless it is this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullSchema {
    pub digest: u128,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PulledSchema {
    Same,
    /// The stored form of a schema.
    Schema(Blob),
}

impl Verb for SchemaIs {
    const CODE: u16 = 0x0401;
    const NAME: &'static str = "schema_is";
    const LANE: Lane = Lane::Urgent;
    type Answer = SchemaIs;
}

impl Verb for PullSchema {
    const CODE: u16 = 0x0402;
    const NAME: &'static str = "schema_pull";
    const LANE: Lane = Lane::Bulk;
    type Answer = PulledSchema;
}
