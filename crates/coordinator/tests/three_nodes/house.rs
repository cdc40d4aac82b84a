//! Whole nodes of one process: storage on a simulated disk, replica, coordinator, hand-off, ring and catalogue over real
//! connections on loopback. Membership stands still: a test says who is there.

use bytes::Bytes;
use kula_actor::{Backoff, Door, Intensity, MailboxConfig, Place, Registry, Reply, Snapshot, Strategy, Supervisor};
use kula_clock::{Clock, SystemClock, SystemDice, Told};
use kula_coordinator::{
    Change, CoordinatorError, Coordinators, Found, PeerSender, Read, ReadAnswer, RemoteReplicas, Target, Write,
    WriteAnswer,
};
use kula_disk::{SimDisk, log::Loss};
use kula_gossip::{About, Gossip, Membership, PeerView};
use kula_handoff::{Handoff, HandoffConfig};
use kula_lattice::Join as _;
use kula_net::{Net, OsNet};
use kula_placement::{
    Datacentre, KeyspaceSettings, Partitioner, ReadRepair, Ring, RingContextKey, RingFacts, RingNode, Secret,
};
use kula_replica::Request;
use kula_ring::{Join, RingActor, RingHandle};
use kula_schema::{Schema, TableDefinition, TableKind, TableOptions};
use kula_storage::{Compression, Places, StorageConfig, SyncMode};
use kula_transport::{Admission, LinkState, Member, Myself, Peers};
use kula_types::{ClusterId, Consistency, Life, Map, Mono, NodeId, PartitionKey, Timestamp, Token};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::oneshot,
    task::{JoinHandle, spawn_local},
};

pub fn id(number: usize) -> NodeId {
    NodeId(format!("00000000-0000-0000-0000-{number:012}").parse().unwrap())
}

fn log() -> slog::Logger {
    slog::Logger::root(slog::Discard, slog::o!())
}

/// Three nodes own everything, three copies of each.
pub fn ring(addresses: &[String], settings: &KeyspaceSettings) -> Ring {
    let member = |index: usize| RingNode {
        id: id(index),
        name: format!("n{index}"),
        address: addresses[index - 1].clone(),
        dc: "dc1".into(),
        rack: format!("r{index}"),
        weight: 1,
    };
    Ring::new(RingFacts {
        version: 1,
        cluster: ClusterId("00000000-0000-0000-0000-00000000000c".parse().unwrap()),
        name: "test".into(),
        partitioner: Partitioner::Murmur3,
        partitions: 8,
        rf_balanced: 3,
        nodes: (1..=3).map(member).collect(),
        datacentres: vec![Datacentre { name: "dc1".into(), owners: (0..8).map(|partition| partition % 3).collect() }],
        keyspaces: BTreeMap::from([("kv".parse().unwrap(), settings.clone())]),
        context_keys: vec![RingContextKey { id: 1, secret: Secret::new([7; 32]), retired: None }],
    })
    .unwrap()
}

pub fn schema() -> Schema {
    let mut schema = Schema::first();
    let definition =
        TableDefinition { name: "lww".parse().unwrap(), kind: TableKind::Lww, options: TableOptions::default() };
    let created = Timestamp::from_micros(1).unwrap();
    let (delta, _) = schema.create_table(&"kv".parse().unwrap(), &definition, created).unwrap();
    schema.join(delta);
    schema
}

/// The way to peers; requests to a node that stands still are held for ever, as by a paused process.
pub struct Way {
    inner: RemoteReplicas,
    still: Mutex<BTreeSet<NodeId>>,
    held: Mutex<Vec<Request>>,
}

impl Way {
    pub fn stands_still(&self, node: NodeId) {
        self.still.lock().unwrap().insert(node);
    }

    /// What was held never arrives.
    pub fn goes_on(&self) {
        self.still.lock().unwrap().clear();
        self.held.lock().unwrap().clear();
    }
}

impl PeerSender for Way {
    fn reaches(&self, node: NodeId) -> bool {
        self.inner.reaches(node)
    }

    fn send(&self, node: NodeId, requests: Vec<(Token, Request)>) {
        if self.still.lock().unwrap().contains(&node) {
            self.held.lock().unwrap().extend(requests.into_iter().map(|(_, request)| request));
        } else {
            self.inner.send(node, requests);
        }
    }
}

pub struct Node {
    pub coordinators: Coordinators,
    pub peers: Peers,
    pub way: Arc<Way>,
    pub membership: Snapshot<Membership>,
    pub ring: RingHandle,
    pub ring_door: Door<RingActor>,
    pub handoff: Handoff,
    pub registry: Registry,
    pub clock: Arc<SystemClock>,
    stop: oneshot::Sender<()>,
    tree: JoinHandle<()>,
}

fn myself(number: usize, address: &str) -> Myself {
    static BOOT: AtomicU64 = AtomicU64::new(1);
    Myself {
        cluster_name: "test".into(),
        node: id(number),
        life: Life(1),
        boot: BOOT.fetch_add(1, Ordering::Relaxed),
        name: format!("n{number}"),
        address: address.into(),
        lease_found: None,
    }
}

/// Everybody, as a node sees them that trusts all.
fn everybody(me: usize, addresses: &[String]) -> (Admission, Membership) {
    let about = || About { http_address: String::new(), dc: "dc1".into(), rack: "a".into(), weight: 1 };
    let member = |number: usize| {
        let member = Member { name: format!("n{number}"), address: addresses[number - 1].clone(), life: Some(Life(1)) };
        (id(number), member)
    };
    let members: Map<NodeId, Member> = (1..=3).map(member).collect();
    let admission = Admission { cluster: None, ring_version: 1, members };
    let view = |number: usize| {
        let introduction = myself(number, &addresses[number - 1]).introduction(&admission);
        (id(number), PeerView::up(introduction, about()))
    };
    let nodes = (1..=3).map(view).collect();
    (admission, Membership { me: id(me), cut_off: false, nodes })
}

impl Node {
    pub async fn start(number: usize, ring: &Ring, addresses: &[String], disk: &SimDisk) -> Node {
        let address = &addresses[number - 1];
        let (registry, clock) = (Registry::new(), Arc::new(SystemClock::new()));
        let disk: Arc<SimDisk> = Arc::new(disk.clone());
        let opened = kula_storage::open(disk.clone(), &config(), &*clock, Loss::Refuse).unwrap();
        let hlc = opened.hlc.clone();
        let shards = vec![Place::Local; 2];
        let places =
            Places { shards: shards.clone(), commit_log: Place::Local, flush: Place::Local, identity: Place::Local };
        let (storage, mut children) = kula_storage::spawn(opened, &registry, places, clock.clone(), &log());
        let (admission, membership) = everybody(number, addresses);
        let transport = kula_transport::Spawn {
            me: myself(number, address),
            admission: Admission::default(),
            net: Arc::new(OsNet),
            listener: OsNet.listen(address).await.unwrap(),
            clock: clock.clone(),
            told: Arc::new(Told::new(None, false)),
            hlc: hlc.clone(),
            roll: Arc::new(|| 0.5),
            places: vec![Place::Local],
            log: log(),
        };
        let (peers, of_transport) = kula_transport::spawn(transport, &registry);
        let membership = Snapshot::new(Arc::new(membership));
        let gossip = Gossip::standing(membership.clone());
        let rings = kula_ring::Spawn {
            disk: disk.clone(),
            ring: ring.clone(),
            me: ring.node(id(number)).unwrap().clone(),
            join: Join { first_seed_is_me: false, first_seed: addresses[0].clone(), expect: 3, seeds: 3 },
            drawn: kula_ring::draw(&SystemDice).unwrap(),
            gossip: gossip.clone(),
            peers: peers.clone(),
            clock: clock.clone(),
            roll: Arc::new(|| 0.5),
            place: Place::Local,
            log: log(),
        };
        let (ring_door, ring, _, of_ring) = kula_ring::spawn(rings, &registry);
        let catalogue = kula_catalog::Spawn {
            disk: disk.clone(),
            schema: schema(),
            ring: ring.clone(),
            ring_door: ring_door.clone(),
            clock: clock.clone(),
            hlc: hlc.clone(),
            gossip: gossip.clone(),
            peers: peers.clone(),
            place: Place::Local,
            log: log(),
        };
        let (catalog_door, schema, of_catalog) = kula_catalog::spawn(catalogue, &registry);
        let hints = kula_handoff::Spawn {
            disk,
            ring: ring.clone(),
            gossip: gossip.clone(),
            peers: peers.clone(),
            clock: clock.clone(),
            config: HandoffConfig::default(),
            place: Place::Local,
            log: log(),
        };
        let (handoff, of_handoff) = kula_handoff::spawn(hints, &registry).unwrap();
        let replicas = kula_replica::Spawn {
            ring: ring.clone(),
            schema: schema.clone(),
            clock: clock.clone(),
            hlc: hlc.clone(),
            storage,
            places: shards,
            peers: peers.clone(),
            inbound: Place::Local,
            ring_door: ring_door.clone(),
            catalog_door,
        };
        let (replicas, of_replicas) = kula_replica::spawn(replicas, &registry);
        let inner = RemoteReplicas::new(peers.clone(), membership.clone(), clock.clone());
        let way = Arc::new(Way { inner, still: Mutex::default(), held: Mutex::default() });
        let coordinators = kula_coordinator::Spawn {
            me: id(number),
            ring: ring.clone(),
            schema,
            hlc,
            clock: clock.clone(),
            dice: Arc::new(SystemDice),
            replicas,
            peers: way.clone(),
            handoff: handoff.clone(),
            gossip,
            ring_door: ring_door.clone(),
            places: vec![Place::Local; 2],
            mailbox: MailboxConfig::default(),
            log: log(),
        };
        let (coordinators, of_coordinators) = kula_coordinator::spawn(coordinators, &registry);
        children.extend(of_transport);
        children.extend([of_ring, of_catalog]);
        children.extend(of_handoff);
        children.extend(of_replicas);
        children.extend(of_coordinators);
        let mut tree = Supervisor::new("node", Strategy::OneForOne, Intensity::default(), Backoff::default(), log());
        children.into_iter().for_each(|child| tree.add(child));
        let (stop, stopped) = oneshot::channel();
        let tree = spawn_local(async move { tree.run(stopped).await.unwrap() });
        peers.admit(admission);
        Node { coordinators, peers, way, membership, ring, ring_door, handoff, registry, clock, stop, tree }
    }

    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        self.tree.await.unwrap();
    }

    pub fn after(&self, millis: u64) -> Mono {
        self.clock.mono().after(Duration::from_millis(millis))
    }

    pub fn begin(&self, mut write: Write) -> impl Future<Output = Result<WriteAnswer, CoordinatorError>> + use<> {
        let (reply, answer) = Reply::pair();
        (write.deadline, write.reply) = (self.after(5_000), reply);
        self.coordinators.write(write);
        async move { answer.await.unwrap() }
    }

    pub async fn write(&self, write: Write) -> Result<WriteAnswer, CoordinatorError> {
        self.begin(write).await
    }

    pub async fn read(&self, table: &str, key: &str, consistency: Consistency) -> Result<ReadAnswer, CoordinatorError> {
        let (reply, answer) = Reply::pair();
        let deadline = self.after(5_000);
        let target = target(table, key);
        self.coordinators.read(Read { target, resolve_lww: false, consistency, deadline, reply });
        answer.await.unwrap()
    }

    /// What one key of the LWW table shows.
    pub async fn value(&self, key: &str, consistency: Consistency) -> Option<String> {
        match self.read("lww", key, consistency).await.unwrap().found {
            Found::Nothing => None,
            Found::One(value) => Some(String::from_utf8(value.value.to_vec()).unwrap()),
            Found::Siblings { .. } => panic!("siblings in a table without"),
        }
    }

    /// Whether this node has a link to another.
    pub fn is_linked(&self, to: usize) -> bool {
        matches!(self.peers.link_state(id(to)), Some(LinkState::Up { .. }))
    }

    pub fn hints_for(&self, target: usize) -> u64 {
        self.handoff.counts().load().of(id(target)).map_or(0, |hints| hints.count)
    }

    /// The sum of a metric's lines.
    pub fn metric(&self, line: &str) -> u64 {
        let rendered = self.registry.render_metrics();
        let of = |text: &str| text.strip_prefix(line)?.rsplit(' ').next()?.parse::<u64>().ok();
        rendered.lines().filter_map(of).sum()
    }
}

pub struct Cluster {
    pub ring: Ring,
    pub addresses: Vec<String>,
    pub disks: Vec<SimDisk>,
}

impl Cluster {
    pub async fn new(settings: KeyspaceSettings) -> Cluster {
        let mut listeners = Vec::new();
        for _ in 0..3 {
            listeners.push(OsNet.listen("127.0.0.1:0").await.unwrap());
        }
        let addresses: Vec<String> = listeners.iter().map(|listener| listener.address().unwrap()).collect();
        drop(listeners);
        let ring = ring(&addresses, &settings);
        Cluster { ring, addresses, disks: (1..=3).map(SimDisk::new).collect() }
    }

    pub async fn start(&self, number: usize) -> Node {
        Node::start(number, &self.ring, &self.addresses, &self.disks[number - 1]).await
    }

    /// All three, linked with each other.
    pub async fn start_all(&self) -> [Node; 3] {
        let nodes = [self.start(1).await, self.start(2).await, self.start(3).await];
        linked(&nodes.each_ref()).await;
        nodes
    }
}

/// Waits until these nodes, from n1 on, are linked with each other.
pub async fn linked(nodes: &[&Node]) {
    let numbers = 1..=nodes.len();
    let linked =
        || nodes.iter().zip(numbers.clone()).all(|(node, me)| numbers.clone().all(|to| to == me || node.is_linked(to)));
    until(linked).await;
}

pub async fn until(mut condition: impl FnMut() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waited).await.unwrap();
}

pub fn in_system<F: Future>(future: F) -> F::Output {
    actix_rt::System::new().block_on(future)
}

pub fn settings() -> KeyspaceSettings {
    KeyspaceSettings { rf: 3, read_repair: ReadRepair::Blocking, ..KeyspaceSettings::default() }
}

pub fn target(table: &str, key: &str) -> Target {
    Target { keyspace: "kv".into(), table: table.into(), key: PartitionKey::copy_from(key.as_bytes()) }
}

pub fn put(table: &str, key: &str, value: &str) -> Write {
    Write {
        target: target(table, key),
        change: Change::Put { value: Bytes::copy_from_slice(value.as_bytes()), content_type: None },
        context: None,
        timestamp: None,
        ttl: None,
        idempotency_key: None,
        consistency: Consistency::Quorum,
        deadline: Mono::default(),
        reply: Reply::ignored(),
    }
}

fn config() -> StorageConfig {
    StorageConfig {
        shards: Some(2),
        memtable_heap: 64 << 20,
        memtable_cleanup_threshold: 0.2,
        commitlog_total: 4 << 20,
        commitlog_segment: 1 << 20,
        sync: SyncMode::Group {},
        compression: Compression::Lz4,
    }
}
