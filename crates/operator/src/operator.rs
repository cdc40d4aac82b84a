//! The operator's handle: reads the published views of this node, asks its parts and the other nodes, passes wishes on.
//!
//! It owns no state: views are snapshots that their owners publish, shards and other nodes are asked with a deadline, and
//! wishes go to the catalog. Whoever calls it is bounded by the front door's connections.

use crate::{
    OperatorError, Readiness, limits,
    survey::{Heard, Survey},
    view::{health, millis},
    views::{
        Actors, ColumnView, DatacentreView, Hints, HintsView, KeyspaceView, Keyspaces, RingNodeView, RingView, Status,
        TableView, Tasks,
    },
    wishes::{KeyspaceSettingsWish, KeyspaceWish, TableWish},
};
use futures::future::{join, join_all};
use kula_actor::{Door, DoorError, Registry, Reply};
use kula_catalog::{
    AlterKeyspace, CatalogActor, CatalogError, CreateKeyspace, CreateTable, DropKeyspace, DropTable, SchemaHandle,
};
use kula_clock::{Clock, Hlc};
use kula_coordinator::{Found, present};
use kula_disk::Disk;
use kula_gossip::{FactKey, Gossip, Membership, PeerView};
use kula_handoff::Handoff;
use kula_lattice::{Seal, Slice};
use kula_placement::{Datacentre, Ring};
use kula_replica::{Answer, Fence, Op, Outcome, Replicas, Request};
use kula_ring::{JoinHandle, RingHandle};
use kula_schema::{ColumnKind, ColumnType, Schema, Table, TableKind};
use kula_storage::StorageDoors;
use kula_transport::{Peers, TransportError};
use kula_types::{Mono, Name, NodeId, PartitionKey};
use kula_wire::verbs::status::{AskView, Health, NodeView};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

type Catalog = Door<CatalogActor>;

/// What the operator looks at. Built once by the node's wiring.
pub struct OperatorParts {
    pub me: NodeId,
    /// This node's name: also what `/v1/actors` says when the ring is not known yet.
    pub name: Arc<str>,
    pub registry: Registry,
    pub ring: RingHandle,
    /// What the node waits for while it has no ring.
    pub join: JoinHandle,
    pub schema: SchemaHandle,
    pub catalog: Door<CatalogActor>,
    pub replicas: Replicas,
    pub storage: StorageDoors,
    pub gossip: Gossip,
    pub peers: Peers,
    pub handoff: Handoff,
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

    /// The verdict and what every node looks like: this node asks all others for their views and compares.
    pub async fn status(&self) -> Status {
        let parts = &self.parts;
        let ring = parts.ring.load();
        let membership = parts.gossip.membership().load();
        let (mine, others) = join(parts.view(limits::PART_PATIENCE), self.ask_all(&ring, &membership)).await;
        let schema = parts.schema.load();
        let twins = schema.twins().map(|(keyspace, table)| {
            format!("table {keyspace}.{table} lost its name to one made later; it keeps its data under this name")
        });
        let place = |(id, view): (&NodeId, &PeerView)| (*id, (view.about.dc.clone(), view.about.rack.clone()));
        let survey = Survey {
            ring: &ring,
            mine,
            running_ms: millis(parts.clock.mono().since(self.started)),
            waits_for: self.waits_for(),
            others,
            sources: membership.nodes.iter().map(|(id, view)| (*id, view.seen_by.clone())).collect(),
            places: membership.nodes.iter().map(place).collect(),
            twins: twins.collect(),
        };
        survey.status()
    }

    /// What this node waits for while it has no ring, for people.
    pub fn waits_for(&self) -> Option<String> {
        let has_none = self.parts.ring.peek().version == 0;
        has_none.then(|| self.parts.join.load().sentence.clone()).map(|sentence| match sentence.is_empty() {
            true => "waiting for a ring".into(),
            false => sentence,
        })
    }

    /// How things look from here, without asking other nodes.
    pub(crate) async fn own_view(&self, patience: Duration) -> NodeView {
        self.parts.view(patience).await
    }

    /// The views of the ring's other members; before there is a ring, of everybody who is known.
    async fn ask_all(&self, ring: &Ring, membership: &Membership) -> BTreeMap<NodeId, Heard> {
        let members: BTreeSet<NodeId> = match ring.version {
            0 => membership.nodes.keys().copied().collect(),
            _ => ring.nodes.iter().map(|node| node.id).collect(),
        };
        let others = members.into_iter().filter(|&id| id != self.parts.me);
        join_all(others.map(|id| async move { (id, self.ask(id).await) })).await.into_iter().collect()
    }

    async fn ask(&self, id: NodeId) -> Heard {
        let clock = &self.parts.clock;
        let asked = clock.wall();
        let (reply, answer) = Reply::pair();
        self.parts.peers.ask(id, &AskView, clock.mono().after(limits::VIEW_PATIENCE), reply);
        match tokio::time::timeout(limits::VIEW_PATIENCE, answer).await {
            Ok(Ok(Ok(view))) if view.is_sound() && view.node == id => Heard::View { view, asked, came: clock.wall() },
            Ok(Ok(Err(TransportError::NotConnected))) => Heard::NotAsked,
            _ => Heard::Nothing,
        }
    }

    pub(crate) fn peers(&self) -> &Peers {
        &self.parts.peers
    }

    /// What this node keeps for others.
    pub fn hints(&self) -> Hints {
        let parts = &self.parts;
        let (ring, membership) = (parts.ring.load(), parts.gossip.membership().load());
        let now = parts.clock.wall();
        let name = |id| ring.node(id).map_or_else(|| membership.name_of(id), |node| node.name.clone());
        let counts = parts.handoff.counts().load();
        let hints = counts.targets.iter().map(|target| HintsView {
            target: name(target.target),
            count: target.count,
            bytes: target.bytes,
            oldest_ms: match target.count {
                0 => 0,
                _ => u64::try_from(now.micros().saturating_sub(target.oldest.micros()) / 1_000).unwrap_or(0),
            },
            not_kept: target.not_kept,
        });
        Hints { hints: hints.collect(), total: counts.total() }
    }

    pub fn ring(&self) -> RingView {
        let ring = self.parts.ring.load();
        let membership = self.parts.gossip.membership().load();
        let owned = |index: usize| {
            let owners = ring.datacentres.iter().flat_map(|dc| &dc.owners);
            owners.filter(|&&owner| usize::from(owner) == index).count()
        };
        let state = |id| match membership.get(id) {
            _ if id == self.parts.me => Health::Up,
            Some(view) => health(view),
            None => Health::Suspect,
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
            state: state(node.id).name(),
        });
        let datacentre = |dc: &Datacentre| DatacentreView { name: dc.name.clone(), owners: dc.owners.clone() };
        RingView {
            version: ring.version,
            cluster: ring.name.clone(),
            cluster_id: ring.cluster,
            partitioner: ring.partitioner.to_string(),
            partitions: ring.partitions,
            rf_balanced: ring.rf_balanced,
            nodes: nodes.collect(),
            datacentres: ring.datacentres.iter().map(datacentre).collect(),
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

    pub fn keyspace(&self, keyspace: &str) -> Result<KeyspaceView, OperatorError> {
        let view = keyspace_view(keyspace, &self.parts.ring.load(), &self.parts.schema.load());
        view.ok_or_else(|| OperatorError::UnknownKeyspace { keyspace: keyspace.into() })
    }

    pub fn table(&self, keyspace: &str, table: &str) -> Result<TableView, OperatorError> {
        let found = self.parts.schema.load().resolve(keyspace, table)?;
        Ok(table_view(table, &found))
    }

    /// Makes a keyspace; answers when it is durable here and every live node has it.
    pub async fn create_keyspace(&self, wish: KeyspaceWish, patience: Duration) -> Result<KeyspaceView, OperatorError> {
        let (name, settings) = wish.checked()?;
        let command = |catalog: &Catalog, reply| catalog.tell(CreateKeyspace { name: name.clone(), settings, reply });
        self.change(command, |schema| schema.keyspace(name.as_str()).is_some(), patience).await?;
        self.keyspace(name.as_str())
    }

    /// Replaces settings of a keyspace; answers as `create_keyspace`.
    pub async fn alter_keyspace(
        &self,
        keyspace: &str,
        wish: KeyspaceSettingsWish,
        patience: Duration,
    ) -> Result<KeyspaceView, OperatorError> {
        let name = self.keyspace_name(keyspace)?;
        let before = self.parts.ring.load().settings(&name).cloned().unwrap_or_default();
        let settings = wish.applied_to(before)?;
        // Settings are the ring's: the schema does not show whether they changed.
        self.change(
            |catalog: &Catalog, reply| catalog.tell(AlterKeyspace { name: name.clone(), settings, reply }),
            |_| false,
            patience,
        )
        .await?;
        self.keyspace(name.as_str())
    }

    /// Drops a keyspace with its tables; answers as `create_keyspace`.
    pub async fn drop_keyspace(&self, keyspace: &str, patience: Duration) -> Result<(), OperatorError> {
        let name = self.keyspace_name(keyspace)?;
        let command = |catalog: &Catalog, reply| catalog.tell(DropKeyspace { name: name.clone(), reply });
        self.change(command, |schema| schema.keyspace(name.as_str()).is_none(), patience).await
    }

    /// Makes a table; answers when it is durable here and every live node has it.
    pub async fn create_table(
        &self,
        keyspace: &str,
        wish: TableWish,
        patience: Duration,
    ) -> Result<TableView, OperatorError> {
        let (name, kind, options) = wish.checked()?;
        let keyspace = self.keyspace_name(keyspace)?;
        let command = |catalog: &Catalog, reply| {
            catalog.tell(CreateTable { keyspace: keyspace.clone(), name: name.clone(), kind, options, reply })
        };
        let is_there = |schema: &Schema| schema.resolve(keyspace.as_str(), name.as_str()).is_ok();
        let table = self.change(command, is_there, patience).await?;
        Ok(table_view(table.name.as_str(), &table))
    }

    /// Drops a table; answers as `create_table`.
    pub async fn drop_table(&self, keyspace: &str, table: &str, patience: Duration) -> Result<(), OperatorError> {
        let keyspace = self.keyspace_name(keyspace)?;
        let unknown = |_| OperatorError::UnknownTable { keyspace: keyspace.to_string(), table: table.into() };
        let name: Name = table.parse().map_err(unknown)?;
        let command = |catalog: &Catalog, reply| {
            catalog.tell(DropTable { keyspace: keyspace.clone(), name: name.clone(), reply })
        };
        self.change(command, |schema| schema.resolve(keyspace.as_str(), name.as_str()).is_err(), patience).await
    }

    /// A text that is no name names nothing that exists.
    fn keyspace_name(&self, keyspace: &str) -> Result<Name, OperatorError> {
        keyspace.parse().map_err(|_| OperatorError::UnknownKeyspace { keyspace: keyspace.into() })
    }

    /// Asks the catalog for a change of the schema and waits for its answer. A client with less patience than the catalog
    /// still learns whether it is done here, and which live nodes announce another schema.
    async fn change<T: Send + 'static>(
        &self,
        tell: impl FnOnce(&Catalog, Reply<Result<T, CatalogError>>) -> Result<(), DoorError>,
        is_done: impl Fn(&Schema) -> bool,
        patience: Duration,
    ) -> Result<T, OperatorError> {
        let (reply, answer) = Reply::pair();
        tell(&self.parts.catalog, reply)?;
        if let Ok(made) = tokio::time::timeout(patience, answer).await {
            return Ok(made.map_err(|_| OperatorError::Lost)??);
        }
        let schema = self.parts.schema.load();
        match self.lacking(&schema) {
            lacking if is_done(&schema) && !lacking.is_empty() => Err(OperatorError::NotEverywhere { lacking }),
            _ => Err(OperatorError::TimedOut),
        }
    }

    /// Members that are up and announce another schema than this node's.
    fn lacking(&self, schema: &Schema) -> Vec<String> {
        let (ring, membership) = (self.parts.ring.load(), self.parts.gossip.membership().load());
        let digest = schema.digest().0.to_le_bytes();
        let up = membership.up().filter(|(id, _)| *id != self.parts.me && ring.node(*id).is_some());
        let lacking = up.filter(|(_, view)| view.facts.get(&FactKey::SCHEMA).is_none_or(|fact| fact[..] != digest));
        lacking.map(|(id, _)| membership.name_of(id)).collect()
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
        self.check_owner(&ring, &table, &key)?;
        let now = parts.clock.wall();
        let (reply, answer) = Reply::pair();
        let request = Request {
            from: None,
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
            Outcome::Applied | Outcome::Digest { .. } | Outcome::Range(_) => {
                return Err(OperatorError::Internal { what: "a read was not answered with data".into() });
            }
        };
        let shown = present(&partition, &table, now, resolve_lww).map_err(|_| OperatorError::Damaged)?;
        Ok(ReplicaCell {
            context: shown.seal(&ring, table.id, &key),
            digest: format!("{:032x}", partition.digest(None, Seal::NONE).0),
            found: shown.found,
        })
    }

    /// Other nodes' keys are not here.
    fn check_owner(&self, ring: &Ring, table: &Table, key: &PartitionKey) -> Result<(), OperatorError> {
        if let Some(sentence) = self.waits_for() {
            return Err(OperatorError::WaitingForRing { sentence });
        }
        let settings = ring.settings(&table.keyspace).cloned().unwrap_or_default();
        let owners = ring.preference_list(&settings, ring.token(key)).owners;
        if owners.contains(&self.parts.me) {
            return Ok(());
        }
        let names = owners.iter().filter_map(|&owner| ring.node(owner)).map(|node| node.name.clone());
        Err(OperatorError::NotAnOwner { node: self.parts.name.to_string(), owners: names.collect() })
    }
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
