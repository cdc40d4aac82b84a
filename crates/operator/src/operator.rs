//! The operator's handle: reads the published views of this node, asks its parts, passes wishes on.
//!
//! It owns no state, so it is no actor: views are snapshots that their owners publish, statistics are asked of the shards
//! with a deadline, and wishes go to the catalog. Whoever calls it is bounded by the front door's connections.

use crate::{
    Conditions, OperatorError, Readiness, Verdict, limits,
    views::{
        Actors, ColumnView, KeyspaceView, Keyspaces, NodeStatus, RingNodeView, RingView, Status, TableView, Tasks,
    },
    wishes::{KeyspaceWish, TableWish},
};
use futures::future::join_all;
use kula_actor::{Door, MailboxState, Registry, Reply};
use kula_catalog::{CatalogActor, CreateKeyspace, CreateTable, SchemaHandle};
use kula_clock::{Clock, Hlc};
use kula_coordinator::{Found, present};
use kula_disk::Disk;
use kula_lattice::{ContextKey, Seal, Slice};
use kula_placement::Ring;
use kula_replica::{Answer, Fence, Op, Outcome, Replicas, Request};
use kula_ring::RingHandle;
use kula_schema::{ColumnKind, ColumnType, Schema, Table, TableKind};
use kula_storage::{ShardStatistics, Statistics, StorageDoors};
use kula_types::{Mono, NodeId, PartitionKey};
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// What the operator looks at. Built once by the node's wiring.
pub struct OperatorParts {
    pub me: NodeId,
    /// This node's name: also what `/v1/actors` says when the ring is not known yet.
    pub name: Arc<str>,
    pub registry: Registry,
    pub ring: RingHandle,
    pub schema: SchemaHandle,
    pub catalog: Door<CatalogActor>,
    pub replicas: Replicas,
    pub storage: StorageDoors,
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub hlc: Arc<Hlc>,
    pub readiness: Readiness,
    /// The effective configuration with the origin of each value, secrets already left out.
    pub config: Value,
}

/// The handle. Clones are the same operator.
#[derive(Clone)]
pub struct Operator {
    parts: Arc<OperatorParts>,
    started: Mono,
}

/// This node's own cell of a key.
#[derive(Debug)]
pub struct ReplicaCell {
    pub found: Found,
    pub context: Option<String>,
    /// The digest of the normal form, as hexadecimal digits.
    pub digest: String,
}

impl Operator {
    pub fn new(parts: OperatorParts) -> Self {
        let started = parts.clock.mono();
        Operator { parts: Arc::new(parts), started }
    }

    pub fn readiness(&self) -> &Readiness {
        &self.parts.readiness
    }

    /// The clock of this node: deadlines are readings of this one.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.parts.clock
    }

    /// The verdict and what every node of the ring looks like from here.
    pub async fn status(&self) -> Status {
        let shards = self.shard_statistics().await;
        let ring = self.parts.ring.load();
        let schema = self.parts.schema.load();
        let Verdict { level, sentence, code } = self.conditions(&ring, &shards).verdict();
        let disagreements = schema.twins().map(|(keyspace, table)| {
            format!("table {keyspace}.{table} lost its name to one made later; it keeps its data under this name")
        });
        Status {
            verdict: level,
            sentence,
            code: code.map(|code| code.code),
            nodes: ring.nodes.iter().map(|node| self.node_status(node, &ring, &schema, &shards)).collect(),
            disagreements: disagreements.collect(),
        }
    }

    fn node_status(
        &self,
        node: &kula_placement::RingNode,
        ring: &Ring,
        schema: &Schema,
        shards: &[Option<ShardStatistics>],
    ) -> NodeStatus {
        let bytes = |shard: &ShardStatistics| shard.memtable_bytes + shard.frozen_bytes + shard.sstable_bytes;
        NodeStatus {
            name: node.name.clone(),
            id: node.id,
            state: "up",
            since_ms: millis(self.parts.clock.mono().since(self.started)),
            seen_by: vec![self.parts.name.to_string()],
            dc: node.dc.clone(),
            rack: node.rack.clone(),
            load_bytes: shards.iter().map(|shard| shard.as_ref().map(bytes)).sum(),
            owns: ring.load(node.id),
            hints: 0,
            schema: schema.digest().to_string(),
            ring: ring.version,
        }
    }

    fn conditions(&self, ring: &Ring, shards: &[Option<ShardStatistics>]) -> Conditions {
        let parts = &self.parts;
        let stuck = parts.registry.snapshot().into_iter().filter(|actor| actor.state == MailboxState::Stuck);
        Conditions {
            stage: parts.readiness.stage(),
            nodes: ring.nodes.len(),
            nodes_up: ring.nodes.len(),
            rf_min: ring.keyspaces.values().map(|settings| ring.rf_effective(settings)).min().unwrap_or(1),
            free_bytes: parts.disk.free_bytes().ok(),
            clock_ahead: parts.hlc.ahead_of(parts.clock.wall()),
            lease_lost: parts.hlc.stamp(parts.clock.wall()).is_err(),
            shards_silent: shards.iter().filter(|shard| shard.is_none()).count(),
            stuck: stuck.map(|actor| actor.path.to_string()).collect(),
        }
    }

    /// Each shard's numbers; `None` for one that did not answer in time.
    async fn shard_statistics(&self) -> Vec<Option<ShardStatistics>> {
        let asked = self.parts.storage.shards.iter().map(|shard| {
            let (reply, answer) = Reply::pair();
            // Past the bound: a full mailbox is just when an operator wants to know.
            let sent = shard.tell_forced(Statistics { reply });
            async move {
                sent.ok()?;
                tokio::time::timeout(limits::PART_PATIENCE, answer).await.ok()?.ok()
            }
        });
        join_all(asked).await
    }

    pub fn ring(&self) -> RingView {
        let ring = self.parts.ring.load();
        let owned = |index: usize| {
            let owners = ring.datacentres.iter().flat_map(|dc| &dc.owners);
            owners.filter(|&&owner| usize::from(owner) == index).count()
        };
        let nodes = ring.nodes.iter().enumerate().map(|(index, node)| RingNodeView {
            name: node.name.clone(),
            id: node.id,
            address: node.address.clone(),
            dc: node.dc.clone(),
            rack: node.rack.clone(),
            weight: node.weight,
            owns: ring.load(node.id),
            partitions: owned(index),
        });
        RingView {
            version: ring.version,
            cluster: ring.name.clone(),
            cluster_id: ring.cluster,
            partitioner: ring.partitioner.to_string(),
            partitions: ring.partitions,
            rf_balanced: ring.rf_balanced,
            nodes: nodes.collect(),
        }
    }

    pub fn actors(&self) -> Actors {
        Actors { node: self.parts.name.clone(), actors: self.parts.registry.snapshot() }
    }

    /// Every metric of the node in the OpenMetrics text form.
    pub fn metrics(&self) -> String {
        self.parts.registry.render_metrics()
    }

    pub fn keyspaces(&self) -> Keyspaces {
        let ring = self.parts.ring.load();
        let schema = self.parts.schema.load();
        let views = schema.keyspaces().filter_map(|(shown, _)| keyspace_view(shown, &ring, &schema));
        Keyspaces { keyspaces: views.collect() }
    }

    /// Long jobs: none yet, and that is the truth.
    pub fn tasks(&self) -> Tasks {
        Tasks::default()
    }

    /// The effective configuration and where each value came from.
    pub fn config(&self) -> &Value {
        &self.parts.config
    }

    /// Makes a keyspace; answers when it is durable here and every live node has it.
    pub async fn create_keyspace(&self, wish: KeyspaceWish, patience: Duration) -> Result<KeyspaceView, OperatorError> {
        let (name, settings) = wish.checked()?;
        let (reply, answer) = Reply::pair();
        let command = CreateKeyspace { name: name.clone(), settings, reply };
        self.parts.catalog.tell(command)?;
        let made = tokio::time::timeout(patience, answer).await.map_err(|_| OperatorError::TimedOut)?;
        made.map_err(|_| OperatorError::Lost)??;
        let view = keyspace_view(name.as_str(), &self.parts.ring.load(), &self.parts.schema.load());
        view.ok_or_else(|| OperatorError::UnknownKeyspace { keyspace: name.to_string() })
    }

    /// Makes a table; answers when it is durable here and every live node has it.
    pub async fn create_table(
        &self,
        keyspace: &str,
        wish: TableWish,
        patience: Duration,
    ) -> Result<TableView, OperatorError> {
        let (name, kind, options) = wish.checked()?;
        // A text that is no name names nothing that exists.
        let keyspace = keyspace.parse().map_err(|_| OperatorError::UnknownKeyspace { keyspace: keyspace.into() })?;
        let (reply, answer) = Reply::pair();
        self.parts.catalog.tell(CreateTable { keyspace, name, kind, options, reply })?;
        let made = tokio::time::timeout(patience, answer).await.map_err(|_| OperatorError::TimedOut)?;
        let table = made.map_err(|_| OperatorError::Lost)??;
        Ok(table_view(table.name.as_str(), &table))
    }

    /// This node's own cell of a key: no coordination, no repair.
    pub async fn replica_cell(
        &self,
        keyspace: &str,
        table: &str,
        key: PartitionKey,
        resolve_lww: bool,
        deadline: Mono,
    ) -> Result<ReplicaCell, OperatorError> {
        let parts = &self.parts;
        let table = parts.schema.load().resolve(keyspace, table).map_err(OperatorError::from)?;
        let ring = parts.ring.load();
        let now = parts.clock.wall();
        let (reply, answer) = Reply::pair();
        let request = Request {
            fence: Fence { ring_version: ring.version, phase: 0 },
            deadline,
            op: Op::Read { table: table.id, key: key.clone(), slice: Slice::all(), answer: Answer::Data, now },
            reply,
        };
        let index = parts.replicas.index_of(ring.token(&key));
        parts.replicas.send(index, vec![request]).map_err(|(_, error)| error)?;
        let patience = deadline.since(parts.clock.mono());
        let outcome = tokio::time::timeout(patience, answer).await.map_err(|_| OperatorError::TimedOut)?;
        let partition = match outcome.map_err(|_| OperatorError::Lost)?? {
            Outcome::Data(partition) => partition,
            Outcome::Applied | Outcome::Digest { .. } => {
                return Err(OperatorError::Internal { what: "a read was not answered with data".into() });
            }
        };
        let shown = present(&partition, &table, now, resolve_lww).map_err(|_| OperatorError::Damaged)?;
        let context = context_key(&ring).filter(|_| shown.has_context());
        Ok(ReplicaCell {
            context: context.map(|with| shown.context.seal(table.id, &key, &with)),
            digest: format!("{:032x}", partition.digest(None, Seal::NONE).0),
            found: shown.found,
        })
    }
}

/// The key that seals contexts now.
fn context_key(ring: &Ring) -> Option<ContextKey> {
    let current = ring.context_keys.iter().filter(|key| key.retired.is_none()).max_by_key(|key| key.id)?;
    Some(ContextKey { id: current.id, secret: *current.secret.expose() })
}

fn keyspace_view(shown: &str, ring: &Ring, schema: &Schema) -> Option<KeyspaceView> {
    let name = &schema.keyspace(shown)?.name;
    let settings = ring.settings(name).cloned().unwrap_or_default();
    Some(KeyspaceView {
        name: shown.to_string(),
        rf: settings.rf,
        rf_effective: ring.rf_effective(&settings),
        mode: settings.mode.to_string(),
        read_repair: settings.read_repair.to_string(),
        hinted_handoff: settings.hinted_handoff,
        anti_entropy: settings.anti_entropy,
        tables: schema.tables_of(shown).map(|(shown, table)| table_view(shown, table)).collect(),
    })
}

fn table_view(shown: &str, table: &Table) -> TableView {
    let columns = table.columns.iter().map(|column| ColumnView {
        name: column.name.to_string(),
        ty: match column.ty {
            ColumnType::Blob => "blob",
            ColumnType::Text => "text",
        },
        kind: match column.kind {
            ColumnKind::Regular => "regular",
            ColumnKind::Static => "static",
        },
    });
    TableView {
        name: shown.to_string(),
        keyspace: table.keyspace.to_string(),
        id: table.id.to_string(),
        kind: match table.kind {
            TableKind::Lww => "lww",
            TableKind::Causal => "causal",
        },
        columns: columns.collect(),
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
