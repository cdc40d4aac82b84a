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

/// `null` where a node did not tell.
#[derive(Clone, Debug, Serialize)]
pub struct NodeStatus {
    pub name: String,
    pub id: NodeId,
    /// `up`, `slow`, `suspect` or `down`, as seen from here.
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
    pub hints: Option<u64>,
    /// For whom it holds them.
    pub hints_to: Option<Vec<HintsTo>>,
    /// The digest of the schema it knows.
    pub schema: Option<String>,
    /// The ring version it knows.
    pub ring: Option<u64>,
    /// `starting`, `ready` or `stopping`.
    pub stage: Option<&'static str>,
    /// The longest of its actors' 99th percentiles of waiting, in microseconds, and whose it is.
    pub mailbox_p99_us: Option<u64>,
    pub mailbox: Option<String>,
    /// Free bytes where its data lives.
    pub free_bytes: Option<u64>,
    /// Whether it is a member of the ring. Others that were heard of are shown too.
    pub is_member: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HintsTo {
    pub target: String,
    pub count: u64,
}

/// What this node keeps for others.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Hints {
    pub hints: Vec<HintsView>,
    pub total: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct HintsView {
    /// The owner it is for, by name.
    pub target: String,
    pub count: u64,
    pub bytes: u64,
    /// For how long the oldest has waited.
    pub oldest_ms: u64,
    /// Writes that should have left a hint and could not, since the node started.
    pub not_kept: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct RingView {
    /// 0: this node has no ring yet.
    pub version: u64,
    pub cluster: String,
    pub cluster_id: ClusterId,
    pub partitioner: String,
    /// Q: partitions of each data centre.
    pub partitions: u32,
    pub rf_balanced: u32,
    pub nodes: Vec<RingNodeView>,
    pub datacentres: Vec<DatacentreView>,
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
    /// `up`, `slow`, `suspect` or `down`, as seen from here.
    pub state: &'static str,
}

#[derive(Clone, Debug, Serialize)]
pub struct DatacentreView {
    pub name: String,
    /// The first owner of each of the Q partitions in token order: an index into `nodes`. Empty if nobody owns anything.
    pub owners: Vec<u16>,
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
