//! Nodes of one process, each with a tree of its own: one that owes, others that are owed.

use actix::prelude::{Actor, Handler, System};
use bytes::Bytes;
use kula_actor::{
    Backoff, ChildSpec, Intensity, KulaContext, MailboxConfig, OnPanic, Pending, Place, Registry, Reply, Snapshot,
    Strategy, Subscriber, Supervisor, child, supervised,
};
use kula_clock::{Hlc, SystemClock, Told};
use kula_disk::SimDisk;
use kula_gossip::{Gossip, Membership};
use kula_handoff::{Handoff, HandoffConfig, HandoffError, StoreHint};
use kula_net::{Net, OsNet};
use kula_placement::{Partitioner, Ring};
use kula_transport::{Admission, InboundBatch, Member, Myself, Peers, Spawn};
use kula_types::{Life, Map, NodeId, Token};
use kula_wire::{
    Room,
    verbs::replica::{Answer, Apply, Origin, Served},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::oneshot,
    task::{JoinHandle, spawn_local},
};

/// What a replica does with the n-th apply it gets; `None`: the request is dropped.
pub type Script = fn(usize) -> Option<Answer>;

pub const APPLIED: Script = |_| Some(Ok(Served::Applied));

/// The tokens a node applied.
pub type Applied = Arc<Mutex<BTreeSet<i64>>>;

struct ReplicaRoom {
    applied: Applied,
    script: Script,
    asked: usize,
}

impl Actor for ReplicaRoom {
    type Context = KulaContext<Self>;
}

supervised!(ReplicaRoom);

impl Handler<InboundBatch> for ReplicaRoom {
    type Result = ();

    fn handle(&mut self, batch: InboundBatch, _: &mut Self::Context) {
        for inbound in batch.frames {
            let apply: Apply = inbound.read().unwrap();
            assert_eq!(apply.origin, Origin::Hint);
            assert_eq!(&*apply.mutation.0, mutation(apply.token).as_ref(), "the mutation comes as it was kept");
            let answer = (self.script)(self.asked);
            self.asked += 1;
            if let Some(Ok(_)) = &answer {
                self.applied.lock().unwrap().insert(apply.token.0);
            }
            if let Some(answer) = answer {
                inbound.reply_of::<Apply>().send(answer);
            }
        }
    }
}

pub struct Node {
    pub peers: Peers,
    pub me: Myself,
    pub handoff: Handoff,
    pub applied: Applied,
    pub disk: SimDisk,
    stop: Option<oneshot::Sender<()>>,
    tree: JoinHandle<()>,
}

pub fn id(number: u8) -> NodeId {
    NodeId(uuid::Uuid::from_bytes([number; 16]))
}

/// Recognisable, and of a usual size.
pub fn mutation(token: Token) -> Bytes {
    token.0.to_le_bytes().repeat(40).into()
}

/// A node that is made and not started.
pub struct Made {
    node: Node,
    specs: Vec<ChildSpec>,
    stopped: oneshot::Receiver<()>,
}

impl Node {
    pub async fn start(number: u8, disk: SimDisk, script: Script) -> Node {
        Node::make(number, disk, script).await.run()
    }

    pub async fn make(number: u8, disk: SimDisk, script: Script) -> Made {
        let listener = OsNet.listen("127.0.0.1:0").await.unwrap();
        let address = listener.address().unwrap();
        let (cluster_name, name) = ("test".to_owned(), format!("n{number}"));
        let me = Myself { cluster_name, node: id(number), life: Life(1), boot: 1, name, address, lease_found: None };
        let (registry, clock, applied) = (Registry::new(), Arc::new(SystemClock::new()), Applied::default());
        let log = slog::Logger::root(slog::Discard, slog::o!());
        let parts = Spawn {
            me: me.clone(),
            admission: Admission::default(),
            net: Arc::new(OsNet),
            listener,
            clock: Arc::<SystemClock>::clone(&clock),
            told: Arc::new(Told::new(None, false)),
            hlc: Arc::new(Hlc::starting_above(None)),
            roll: Arc::new(|| 0.0),
            places: vec![Place::Local],
            log: log.clone(),
        };
        let (peers, mut specs) = kula_transport::spawn(parts, &registry);
        let has = Arc::clone(&applied);
        let (room, spec) =
            child(&registry, "replica", MailboxConfig::default(), OnPanic::Restart, Place::Local, move || {
                ReplicaRoom { applied: Arc::clone(&has), script, asked: 0 }
            });
        peers.register(Room::Replica, Subscriber::from(&room));
        specs.push(spec);
        let membership = Membership { me: id(number), cut_off: false, nodes: BTreeMap::new() };
        let parts = kula_handoff::Spawn {
            disk: Arc::new(disk.clone()),
            ring: Snapshot::new(Arc::new(Ring::none("test".into(), Partitioner::Murmur3))),
            gossip: Gossip::standing(Snapshot::new(Arc::new(membership))),
            peers: peers.clone(),
            clock,
            config: HandoffConfig { max_bytes: 8 << 20, ..HandoffConfig::default() },
            place: Place::Local,
            log,
        };
        let (handoff, own) = kula_handoff::spawn(parts, &registry).unwrap();
        specs.extend(own);
        let (stop, stopped) = oneshot::channel();
        let tree = spawn_local(async {});
        Made { node: Node { peers, me, handoff, applied, disk, stop: Some(stop), tree }, specs, stopped }
    }

    /// An ordered stop; the disk as it is then.
    pub async fn stop(mut self) -> SimDisk {
        self.stop.take().unwrap().send(()).unwrap();
        self.tree.await.unwrap();
        self.disk.kill();
        self.disk
    }

    /// Hints with these tokens for a node, all sent before any is answered.
    pub fn store(&self, target: u8, tokens: std::ops::Range<i64>) -> Vec<Pending<Result<(), HandoffError>>> {
        let mut answers = Vec::new();
        let hints = tokens.map(|token| {
            let (reply, answer) = Reply::pair();
            answers.push(answer);
            let token = Token(token);
            StoreHint { target: id(target), token, mutation: mutation(token), reply }
        });
        self.handoff.store(hints.collect());
        answers
    }

    pub fn owed(&self, target: u8) -> u64 {
        self.handoff.counts().load().of(id(target)).map_or(0, |hints| hints.count)
    }
}

impl Made {
    pub fn handoff(&self) -> &Handoff {
        &self.node.handoff
    }

    pub fn run(self) -> Node {
        let Made { mut node, specs, stopped } = self;
        let log = slog::Logger::root(slog::Discard, slog::o!());
        let mut tree = Supervisor::new("node", Strategy::OneForOne, Intensity::default(), Backoff::default(), log);
        specs.into_iter().for_each(|spec| tree.add(spec));
        node.tree = spawn_local(async move { tree.run(stopped).await.unwrap() });
        node
    }
}

/// Everybody knows everybody.
pub fn introduce(nodes: &[&Node]) {
    let member = |node: &&Node| {
        let Myself { node, name, address, life, .. } = node.me.clone();
        (node, Member { name, address, life: Some(life) })
    };
    let members: Map<NodeId, Member> = nodes.iter().map(member).collect();
    for node in nodes {
        node.peers.admit(Admission { cluster: None, ring_version: 1, members: members.clone() });
    }
}

pub async fn until(mut condition: impl FnMut() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), waited).await.unwrap();
}

pub fn in_system<F: Future>(future: F) -> F::Output {
    System::new().block_on(future)
}
