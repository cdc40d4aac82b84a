//! The JSON of `/v1/*`: a documented contract (`docs/http.md`). Fields may be added, never renamed.

use crate::verdict::Level;
use kula_actor::ActorReport;
use kula_types::{ClusterId, NodeId};
use serde::Serialize;
use std::sync::Arc;

#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub verdict: Level,
    pub sentence: String,
    /// The page that explains the verdict: `kula explain <code>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    pub nodes: Vec<NodeStatus>,
    /// What nodes see differently, and tables that lost their name to a twin.
    pub disagreements: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct NodeStatus {
    pub name: String,
    pub id: NodeId,
    pub state: &'static str,
    /// For how long it has been in this state, as seen from here.
    pub since_ms: u64,
    /// Names of the nodes that see it so.
    pub seen_by: Vec<String>,
    pub dc: String,
    pub rack: String,
    /// Bytes of data in memory and in tables; `null` while a shard does not answer.
    pub load_bytes: Option<u64>,
    /// Its share of its data centre's partitions, 0 to 1.
    pub owns: f64,
    /// Hints it holds for others.
    pub hints: u64,
    /// The digest of the schema it knows.
    pub schema: String,
    /// The ring version it knows.
    pub ring: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct RingView {
    pub version: u64,
    pub cluster: String,
    pub cluster_id: ClusterId,
    pub partitioner: String,
    /// Q: partitions of each data centre.
    pub partitions: u32,
    pub rf_balanced: u32,
    pub nodes: Vec<RingNodeView>,
}

#[derive(Clone, Debug, Serialize)]
pub struct RingNodeView {
    pub name: String,
    pub id: NodeId,
    pub address: String,
    pub dc: String,
    pub rack: String,
    pub weight: u32,
    pub owns: f64,
    /// Partitions of its data centre that it owns first.
    pub partitions: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct Actors {
    pub node: Arc<str>,
    pub actors: Vec<ActorReport>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Keyspaces {
    pub keyspaces: Vec<KeyspaceView>,
}

#[derive(Clone, Debug, Serialize)]
pub struct KeyspaceView {
    pub name: String,
    /// Copies asked for.
    pub rf: u32,
    /// Copies there are: no more than nodes.
    pub rf_effective: u32,
    pub mode: String,
    pub read_repair: String,
    pub hinted_handoff: bool,
    pub anti_entropy: bool,
    pub tables: Vec<TableView>,
}

#[derive(Clone, Debug, Serialize)]
pub struct TableView {
    pub name: String,
    pub keyspace: String,
    pub id: String,
    /// `causal` (a bucket) or `lww`.
    pub kind: &'static str,
    pub columns: Vec<ColumnView>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ColumnView {
    pub name: String,
    #[serde(rename = "type")]
    pub ty: &'static str,
    pub kind: &'static str,
}

/// Long jobs. This version has none that run longer than a request.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tasks {
    pub tasks: Vec<TaskView>,
}

/// There is no value of this type until the first long job exists.
#[derive(Clone, Debug, Serialize)]
pub enum TaskView {}
