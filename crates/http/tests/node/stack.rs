//! One node as production wires it, on a simulated disk and a real socket. It runs on a thread of its own; the test
//! talks to it as any client does.

use kula_actor::{Backoff, Intensity, MailboxConfig, Place, Registry, Strategy, Supervisor};
use kula_clock::{Clock, SystemClock};
use kula_coordinator::NoPeers;
use kula_disk::{Disk, log::Loss, sim::SimDisk};
use kula_http::{HttpConfig, HttpError, HttpServer};
use kula_operator::{Operator, OperatorParts, Readiness};
use kula_placement::{Partitioner, RingNode};
use kula_ring::Opening;
use kula_storage::{Places, StorageConfig};
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
    #[allow(clippy::disallowed_methods, reason = "an actix System owns its thread")]
    pub fn starting(coordinator_mailbox: MailboxConfig) -> Node {
        let disk = SimDisk::new(7);
        let readiness = Readiness::starting();
        let (stop, stopped) = oneshot::channel();
        let (started, addresses) = mpsc::channel();
        let (node_disk, node_readiness) = (disk.clone(), readiness.clone());
        let thread = std::thread::spawn(move || {
            actix_rt::System::new().block_on(async move {
                let (supervisor, server) = wire(Arc::new(node_disk), node_readiness, coordinator_mailbox, ANY_PORT);
                let server = server.unwrap();
                started.send(server.address).unwrap();
                let stop = async move {
                    drop(stopped.await);
                    server.stop().await;
                };
                supervisor.run(stop).await.unwrap();
            });
        });
        let address = addresses.recv().unwrap();
        Node { address, disk, readiness, stop: Some(stop), thread: Some(thread) }
    }

    /// What a second node says that should listen where somebody does.
    pub fn refused(address: SocketAddr) -> HttpError {
        let (disk, mailbox) = (Arc::new(SimDisk::new(8)), MailboxConfig::default());
        let wired = actix_rt::System::new().block_on(async { wire(disk, Readiness::starting(), mailbox, address).1 });
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

fn wire(
    disk: Arc<dyn Disk>,
    readiness: Readiness,
    mailbox: MailboxConfig,
    address: SocketAddr,
) -> (Supervisor, Result<HttpServer, HttpError>) {
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
    let opening = Opening {
        me,
        cluster_name: "test".into(),
        partitioner: Partitioner::Murmur3,
        bound: identity.cluster,
        drawn: kula_ring::draw().unwrap(),
    };
    let ring = kula_ring::open(&*disk, opening).unwrap();
    let schema = kula_catalog::open(&*disk, identity.cluster).unwrap();
    opened.bind_cluster(ring.cluster).unwrap();

    let mut tree = Supervisor::new("node", Strategy::OneForOne, Intensity::default(), Backoff::default(), log.clone());
    let here = Place::Local;
    let places =
        Places { shards: vec![here.clone(); 2], commit_log: here.clone(), flush: here.clone(), identity: here.clone() };
    let (storage, children) = kula_storage::spawn(opened, &registry, places, clock.clone(), &log);
    children.into_iter().for_each(|child| tree.add(child));
    let spawn = kula_ring::Spawn { disk: disk.clone(), ring, place: here.clone(), log: log.clone() };
    let (ring_door, ring, child) = kula_ring::spawn(spawn, &registry);
    tree.add(child);
    let spawn = kula_catalog::Spawn {
        disk: disk.clone(),
        schema,
        ring: ring.clone(),
        ring_door,
        clock: clock.clone(),
        hlc: hlc.clone(),
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
    };
    let (replicas, children) = kula_replica::spawn(spawn, &registry);
    children.into_iter().for_each(|child| tree.add(child));
    let spawn = kula_coordinator::Spawn {
        me: identity.node,
        ring: ring.clone(),
        schema: schema.clone(),
        hlc: hlc.clone(),
        clock: clock.clone(),
        replicas: replicas.clone(),
        peers: Arc::new(NoPeers),
        places: vec![here],
        mailbox,
        log: log.clone(),
    };
    let (coordinators, children) = kula_coordinator::spawn(spawn, &registry);
    children.into_iter().for_each(|child| tree.add(child));
    let operator = Operator::new(OperatorParts {
        me: identity.node,
        name: "n1".into(),
        registry,
        ring,
        schema,
        catalog,
        replicas,
        storage,
        disk,
        clock,
        hlc,
        readiness,
        config: serde_json::json!({ "cluster": { "value": "test", "origin": "default" } }),
    });
    let config = HttpConfig { address, workers: 1, connections: 1_024, answer_gap: Duration::from_secs(3) };
    (tree, kula_http::serve(&config, coordinators, operator, log))
}
