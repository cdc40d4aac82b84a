//! Nodes of one process over loopback: transport, gossip, ring and catalogue, with the little of the wiring that admits
//! members and whoever gossip discovers.

use actix::prelude::{Actor, Handler, System};
use kula_actor::{
    Backoff, Door, Intensity, KulaContext, MailboxConfig, OnPanic, Place, Registry, Reply, Snapshot, Strategy,
    Subscriber, Supervisor, child, supervised,
};
use kula_catalog::{CatalogActor, CatalogError, CreateKeyspace, CreateTable, SchemaHandle};
use kula_clock::{Hlc, SystemClock, Told};
use kula_disk::SimDisk;
use kula_gossip::{About, Gossip, GossipConfig, GossipEvent, Membership};
use kula_net::{Net, OsNet};
use kula_placement::{KeyspaceSettings, Partitioner, RingNode, Secret};
use kula_ring::{Commit, Drawn, Join, JoinHandle, Opening, RingActor, RingChange, RingChanged, RingError, RingHandle};
use kula_schema::{Keyspace, Table, TableKind, TableOptions};
use kula_transport::{Admission, Member, Myself, Peers};
use kula_types::{ClusterId, Life, NodeId, Timestamp};
use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::oneshot, task::spawn_local};

/// As `node`'s wiring: members and whoever is discovered are admitted, members elect.
struct Wiring {
    peers: Peers,
    gossip: Gossip,
    membership: Snapshot<Membership>,
    ring: RingHandle,
}

impl Wiring {
    fn admit(&self) {
        let ring = self.ring.load();
        let member = |view: &kula_gossip::PeerView| {
            let said = view.introduction.clone();
            (said.node, Member { name: said.name, address: said.address, life: Some(said.life) })
        };
        let members = self.membership.load().nodes.values().map(member).collect();
        let cluster = (!ring.is_none()).then_some(ring.cluster);
        self.peers.admit(Admission { cluster, ring_version: ring.version, members });
    }
}

impl Actor for Wiring {
    type Context = KulaContext<Self>;
}

supervised!(Wiring);

impl Handler<GossipEvent> for Wiring {
    type Result = ();

    fn handle(&mut self, _: GossipEvent, _: &mut Self::Context) {
        self.admit();
    }
}

impl Handler<RingChanged> for Wiring {
    type Result = ();

    fn handle(&mut self, RingChanged(ring): RingChanged, _: &mut Self::Context) {
        self.gossip.electorate(ring.nodes.iter().map(|node| node.id).collect());
        self.admit();
    }
}

pub struct Node {
    pub ring: RingHandle,
    pub ring_door: Door<RingActor>,
    pub join: JoinHandle,
    pub schema: SchemaHandle,
    pub catalog: Door<CatalogActor>,
    /// What outlives the process.
    pub disk: SimDisk,
    stop: Option<oneshot::Sender<()>>,
    tree: tokio::task::JoinHandle<()>,
}

pub fn id(number: u8) -> NodeId {
    NodeId(uuid::Uuid::from_bytes([number; 16]))
}

impl Node {
    /// A node at `127.88.<house>.<number>` with a directory; the seeds are nodes 1 and 2, `expect` is 3.
    pub async fn start(house: u8, number: u8, boot: u64, disk: SimDisk) -> Node {
        let address = |number: u8| format!("127.88.{house}.{number}:7311");
        let listener = OsNet.listen(&address(number)).await.unwrap();
        let me = RingNode {
            id: id(number),
            name: format!("n{number}"),
            address: address(number),
            dc: "dc1".into(),
            rack: "a".into(),
            weight: 1,
        };
        let myself = Myself {
            cluster_name: "test".to_owned(),
            node: me.id,
            life: Life(1),
            boot,
            name: me.name.clone(),
            address: me.address.clone(),
            lease_found: None,
        };
        let (registry, clock) = (Registry::new(), Arc::new(SystemClock::new()));
        let log = slog::Logger::root(slog::Discard, slog::o!());
        let dice = AtomicU64::new(u64::from(number));
        let step = move || dice.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        let roll: Arc<dyn Fn() -> f64 + Send + Sync> = Arc::new(move || (step() >> 11) as f64 / (1u64 << 53) as f64);
        let transport = kula_transport::Spawn {
            me: myself.clone(),
            admission: Admission::default(),
            net: Arc::new(OsNet),
            listener,
            clock: Arc::<SystemClock>::clone(&clock),
            told: Arc::new(Told::new(None, false)),
            hlc: Arc::new(Hlc::starting_above(None)),
            roll: Arc::clone(&roll),
            places: vec![Place::Local],
            log: log.clone(),
        };
        let (peers, mut specs) = kula_transport::spawn(transport, &registry);
        let gossip = kula_gossip::Spawn {
            me: myself.introduction(&Admission::default()),
            about: About { http_address: String::new(), dc: me.dc.clone(), rack: me.rack.clone(), weight: 1 },
            seeds: vec![address(1), address(2)],
            peers: peers.clone(),
            clock: clock.clone(),
            roll: Arc::clone(&roll),
            config: GossipConfig::default(),
            place: Place::Local,
            log: log.clone(),
        };
        let (gossip, spec) = kula_gossip::spawn(gossip, &registry);
        specs.push(spec);

        let drawn = Drawn { cluster: ClusterId(uuid::Uuid::from_u128(0xc)), context_secret: Secret::new([7; 32]) };
        let opening = Opening {
            me: me.clone(),
            cluster_name: "test".into(),
            partitioner: Partitioner::Murmur3,
            bound: None,
            seeds: true,
            drawn: drawn.clone(),
        };
        let ring = kula_ring::open(&disk, opening).unwrap();
        let schema = kula_catalog::open(&disk, None).unwrap();
        let join = Join { first_seed_is_me: number == 1, first_seed: address(1), expect: 3, seeds: 2 };
        let ring = kula_ring::Spawn {
            disk: Arc::new(disk.clone()),
            ring,
            me,
            join,
            drawn,
            gossip: gossip.clone(),
            peers: peers.clone(),
            clock: clock.clone(),
            roll,
            place: Place::Local,
            log: log.clone(),
        };
        let (ring_door, ring, join, spec) = kula_ring::spawn(ring, &registry);
        specs.push(spec);
        let hlc = Arc::new(Hlc::starting_above(None));
        hlc.extend(Timestamp::MAX);
        let catalog = kula_catalog::Spawn {
            disk: Arc::new(disk.clone()),
            schema,
            ring: ring.clone(),
            ring_door: ring_door.clone(),
            clock,
            hlc,
            gossip: gossip.clone(),
            peers: peers.clone(),
            place: Place::Local,
            log: log.clone(),
        };
        let (catalog, schema, spec) = kula_catalog::spawn(catalog, &registry);
        specs.push(spec);

        let (own, membership, rings) = (gossip.clone(), gossip.membership(), ring.clone());
        let (wiring, spec) =
            child(&registry, "wiring", MailboxConfig::default(), OnPanic::Fence, Place::Local, move || Wiring {
                peers: peers.clone(),
                gossip: own.clone(),
                membership: membership.clone(),
                ring: rings.clone(),
            });
        gossip.subscribe(Subscriber::from(&wiring));
        drop(ring_door.tell_forced(kula_ring::Subscribe(Subscriber::from(&wiring))));
        specs.push(spec);
        let mut tree = Supervisor::new("node", Strategy::OneForOne, Intensity::default(), Backoff::default(), log);
        specs.into_iter().for_each(|spec| tree.add(spec));
        let (stop, stopped) = oneshot::channel();
        let tree = spawn_local(async move { tree.run(stopped).await.unwrap() });
        Node { ring, ring_door, join, schema, catalog, disk, stop: Some(stop), tree }
    }

    /// A clean stop; what is left is the directory.
    pub async fn stop(mut self) -> SimDisk {
        self.stop.take().unwrap().send(()).unwrap();
        self.tree.await.unwrap();
        self.disk
    }

    /// Sends now; the answer is awaited apart.
    pub fn create_keyspace(&self, name: &str, rf: u32) -> impl Future<Output = Result<Keyspace, CatalogError>> + use<> {
        let (reply, answer) = Reply::pair();
        let settings = KeyspaceSettings { rf, ..KeyspaceSettings::default() };
        self.catalog.tell(CreateKeyspace { name: name.parse().unwrap(), settings, reply }).unwrap();
        async move { answer.await.unwrap() }
    }

    pub fn create_table(
        &self,
        keyspace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Arc<Table>, CatalogError>> + use<> {
        let (reply, answer) = Reply::pair();
        let (keyspace, name, kind) = (keyspace.parse().unwrap(), name.parse().unwrap(), TableKind::Causal);
        let options = TableOptions::default();
        self.catalog.tell(CreateTable { keyspace, name, kind, options, reply }).unwrap();
        async move { answer.await.unwrap() }
    }

    pub fn commit(&self, change: RingChange) -> impl Future<Output = Result<u64, RingError>> + use<> {
        let (reply, answer) = Reply::pair();
        self.ring_door.tell(Commit { change, reply }).unwrap();
        async move { answer.await.unwrap().map(|ring| ring.version) }
    }

    /// Whether the keyspace and its settings are known here.
    pub fn knows(&self, keyspace: &str) -> bool {
        let settings = self.ring.load().settings(&keyspace.parse().unwrap()).is_some();
        settings && self.schema.load().keyspace(keyspace).is_some()
    }
}

/// Waits until it is so; how long that took.
pub async fn until(what: &str, so: impl Fn() -> bool) -> Duration {
    #[allow(clippy::disallowed_methods, reason = "a test waits in real time")]
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(15), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    began.elapsed()
}

/// Runs nodes on one thread.
pub fn run(story: impl Future<Output = ()>) {
    System::new().block_on(story);
}
