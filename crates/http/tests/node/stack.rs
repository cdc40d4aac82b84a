//! One node as production wires it, on a simulated disk and a real socket. It runs on a thread of its own; the test
//! talks to it as any client does.

use kula_actor::{Backoff, Intensity, MailboxConfig, Place, Registry, Snapshot, Strategy, Supervisor};
use kula_clock::{Clock, SystemClock, SystemDice, Told};
use kula_coordinator::NoPeers;
use kula_disk::{Disk, log::Loss, sim::SimDisk};
use kula_gossip::{About, Gossip, Membership};
use kula_handoff::Handoff;
use kula_http::{HttpConfig, HttpError, HttpServer};
use kula_net::{Net, OsNet};
use kula_operator::{Operator, OperatorParts, Readiness};
use kula_placement::{Partitioner, RingNode};
use kula_ring::{Join, Opening};
use kula_storage::{Places, StorageConfig};
use kula_transport::{Admission, Myself};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};
use tokio::sync::oneshot;

/// A running node. Dropping it stops it in order and says if it did not end well.
pub struct Node {
    pub address: SocketAddr,
    /// Where peers reach it.
    pub peer_address: String,
    pub disk: SimDisk,
    pub readiness: Readiness,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    pub fn start() -> Node {
        let node = Node::starting(MailboxConfig::default());
        node.readiness.set_ready();
        node
    }

    /// Not ready yet.
    pub fn starting(coordinator_mailbox: MailboxConfig) -> Node {
        Node::with(coordinator_mailbox, false)
    }

    /// It waits for the ring of others, who never come.
    pub fn without_ring() -> Node {
        Node::with(MailboxConfig::default(), true)
    }

    #[allow(clippy::disallowed_methods, reason = "an actix System owns its thread")]
    fn with(mailbox: MailboxConfig, has_seeds: bool) -> Node {
        let disk = SimDisk::new(7);
        let readiness = Readiness::starting();
        let (stop, stopped) = oneshot::channel();
        let (started, addresses) = mpsc::channel();
        let (node_disk, node_readiness) = (disk.clone(), readiness.clone());
        let thread = std::thread::spawn(move || {
            actix_rt::System::new().block_on(async move {
                let wiring = Wiring { readiness: node_readiness, mailbox, has_seeds, address: ANY_PORT };
                let wired = wire(Arc::new(node_disk), wiring).await;
                let (supervisor, server) = (wired.tree, wired.server.unwrap());
                started.send((server.address, wired.peer_address)).unwrap();
                let stop = async move {
                    drop(stopped.await);
                    server.stop().await;
                };
                supervisor.run(stop).await.unwrap();
            });
        });
        let (address, peer_address) = addresses.recv().unwrap();
        Node { address, peer_address, disk, readiness, stop: Some(stop), thread: Some(thread) }
    }

    /// What a second node says that should listen where somebody does.
    pub fn refused(address: SocketAddr) -> HttpError {
        let (disk, mailbox) = (Arc::new(SimDisk::new(8)), MailboxConfig::default());
        let wiring = Wiring { readiness: Readiness::starting(), mailbox, has_seeds: false, address };
        let wired = actix_rt::System::new().block_on(async { wire(disk, wiring).await.server });
        wired.err().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A node that ended already hears nothing; joining it tells.
        self.stop = None;
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "the node did not end well");
    }
}

/// The operating system chooses.
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

struct Wiring {
    readiness: Readiness,
    /// Of coordinators.
    mailbox: MailboxConfig,
    has_seeds: bool,
    address: SocketAddr,
}

struct Wired {
    tree: Supervisor,
    server: Result<HttpServer, HttpError>,
    peer_address: String,
}

async fn wire(disk: Arc<dyn Disk>, wiring: Wiring) -> Wired {
    let Wiring { readiness, mailbox, has_seeds, address } = wiring;
    let log = slog::Logger::root(slog::Discard, slog::o!());
    let registry = Registry::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let config = StorageConfig { shards: Some(2), ..StorageConfig::default() };
    let mut opened = kula_storage::open(disk.clone(), &config, &*clock, Loss::Refuse).unwrap();
    let hlc = opened.hlc.clone();
    let identity = opened.identity();
    let me = RingNode {
        id: identity.node,
        name: "n1".into(),
        address: "127.0.0.1:7000".into(),
        dc: "dc1".into(),
        rack: "a".into(),
        weight: 1,
    };
    let drawn = kula_ring::draw(&SystemDice).unwrap();
    let opening = Opening {
        me: me.clone(),
        cluster_name: "test".into(),
        partitioner: Partitioner::Murmur3,
        bound: identity.cluster,
        drawn: drawn.clone(),
        seeds: has_seeds,
    };
    let ring = kula_ring::open(&*disk, opening).unwrap();
    let schema = kula_catalog::open(&*disk, identity.cluster).unwrap();
    if !ring.is_none() {
        opened.bind_cluster(ring.cluster).unwrap();
    }

    let mut tree = Supervisor::new("node", Strategy::OneForOne, Intensity::default(), Backoff::default(), log.clone());
    let here = Place::Local;
    let places =
        Places { shards: vec![here.clone(); 2], commit_log: here.clone(), flush: here.clone(), identity: here.clone() };
    let (storage, children) = kula_storage::spawn(opened, &registry, places, clock.clone(), &log);
    children.into_iter().for_each(|child| tree.add(child));
    let myself = Myself {
        cluster_name: "test".into(),
        node: identity.node,
        life: identity.life,
        boot: 1,
        name: "n1".into(),
        address: me.address.clone(),
        lease_found: None,
    };
    let about = About { http_address: "127.0.0.1:7080".into(), dc: "dc1".into(), rack: "a".into(), weight: 1 };
    let alone = Membership::alone(myself.introduction(&Admission::default()), about);
    let gossip = Gossip::standing(Snapshot::new(Arc::new(alone)));
    let listener = OsNet.listen("127.0.0.1:0").await.unwrap();
    let peer_address = listener.address().unwrap();
    let spawn = kula_transport::Spawn {
        me: myself,
        admission: Admission::default(),
        net: Arc::new(OsNet),
        listener,
        clock: clock.clone(),
        told: Arc::new(Told::new(None, false)),
        hlc: hlc.clone(),
        roll: Arc::new(|| 0.5),
        places: vec![here.clone()],
        log: log.clone(),
    };
    let (peers, transport) = kula_transport::spawn(spawn, &registry);
    let join = Join { first_seed_is_me: true, first_seed: me.address.clone(), expect: 3, seeds: 3 };
    let spawn = kula_ring::Spawn {
        disk: disk.clone(),
        ring,
        me,
        join,
        drawn,
        gossip: gossip.clone(),
        peers: peers.clone(),
        clock: clock.clone(),
        roll: Arc::new(|| 0.5),
        place: here.clone(),
        log: log.clone(),
    };
    let (ring_door, ring, join, child) = kula_ring::spawn(spawn, &registry);
    tree.add(child);
    let spawn = kula_catalog::Spawn {
        disk: disk.clone(),
        schema,
        ring: ring.clone(),
        ring_door: ring_door.clone(),
        clock: clock.clone(),
        hlc: hlc.clone(),
        gossip: gossip.clone(),
        peers: peers.clone(),
        place: here.clone(),
        log: log.clone(),
    };
    let (catalog, schema, child) = kula_catalog::spawn(spawn, &registry);
    tree.add(child);
    let spawn = kula_replica::Spawn {
        ring: ring.clone(),
        schema: schema.clone(),
        clock: clock.clone(),
        hlc: hlc.clone(),
        storage: storage.clone(),
        places: vec![here.clone(); 2],
        peers: peers.clone(),
        inbound: here.clone(),
        ring_door: ring_door.clone(),
        catalog_door: catalog.clone(),
    };
    let (replicas, children) = kula_replica::spawn(spawn, &registry);
    children.into_iter().for_each(|child| tree.add(child));
    let spawn = kula_coordinator::Spawn {
        me: identity.node,
        ring: ring.clone(),
        schema: schema.clone(),
        hlc: hlc.clone(),
        clock: clock.clone(),
        dice: Arc::new(SystemDice),
        replicas: replicas.clone(),
        peers: Arc::new(NoPeers),
        handoff: Handoff::none(),
        gossip: gossip.clone(),
        ring_door,
        places: vec![here],
        mailbox,
        log: log.clone(),
    };
    let (coordinators, children) = kula_coordinator::spawn(spawn, &registry);
    children.into_iter().for_each(|child| tree.add(child));
    let operator = Operator::new(OperatorParts {
        me: identity.node,
        name: "n1".into(),
        registry: registry.clone(),
        ring,
        join,
        schema,
        catalog,
        replicas,
        storage,
        gossip,
        peers,
        handoff: Handoff::none(),
        disk,
        clock,
        hlc,
        readiness,
        config: serde_json::json!({ "cluster": { "value": "test", "origin": "default" } }),
    });
    tree.add(operator.child(&registry));
    transport.into_iter().for_each(|child| tree.add(child));
    let config = HttpConfig { address, workers: 1, connections: 1_024, answer_gap: Duration::from_secs(3) };
    Wired { tree, server: kula_http::serve(&config, coordinators, operator, log), peer_address }
}
