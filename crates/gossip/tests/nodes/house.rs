//! Nodes of one process over loopback: transport, gossip, and the little of the wiring that admits whom gossip discovers.

use actix::prelude::{Actor, Handler, System};
use kula_actor::{
    Backoff, Door, Intensity, KulaContext, MailboxConfig, OnPanic, Place, Registry, Snapshot, Strategy, Subscriber,
    Supervisor, child, supervised,
};
use kula_clock::{Hlc, SystemClock, Told};
use kula_gossip::{About, Gossip, GossipConfig, GossipEvent, Membership, State};
use kula_net::{Net, OsNet};
use kula_transport::{Admission, Member, Myself, Peers};
use kula_types::{Life, NodeId};
use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::oneshot,
    task::{JoinHandle, spawn_local},
};

pub type Heard = Arc<Mutex<Vec<GossipEvent>>>;

/// As `node`'s wiring: whoever is discovered is admitted.
pub struct Wiring {
    peers: Peers,
    membership: Snapshot<Membership>,
    heard: Heard,
}

impl Actor for Wiring {
    type Context = KulaContext<Self>;
}

supervised!(Wiring);

impl Handler<GossipEvent> for Wiring {
    type Result = ();

    fn handle(&mut self, event: GossipEvent, _: &mut Self::Context) {
        self.heard.lock().unwrap().push(event);
        if let GossipEvent::Discovered { .. } = event {
            let membership = self.membership.load();
            let member = |view: &kula_gossip::PeerView| {
                let said = view.introduction.clone();
                (said.node, Member { name: said.name, address: said.address, life: Some(said.life) })
            };
            let members = membership.nodes.values().map(member).collect();
            self.peers.admit(Admission { cluster: None, ring_version: 0, members });
        }
    }
}

/// Listens only.
struct Ear {
    heard: Heard,
}

impl Actor for Ear {
    type Context = KulaContext<Self>;
}

supervised!(Ear);

impl Handler<GossipEvent> for Ear {
    type Result = ();

    fn handle(&mut self, event: GossipEvent, _: &mut Self::Context) {
        self.heard.lock().unwrap().push(event);
    }
}

pub struct Node {
    pub gossip: Gossip,
    pub heard: Heard,
    late: Heard,
    ear: Door<Ear>,
    pub registry: Registry,
    stop: Option<oneshot::Sender<()>>,
    tree: JoinHandle<()>,
}

pub fn id(number: u8) -> NodeId {
    NodeId(uuid::Uuid::from_bytes([number; 16]))
}

impl Node {
    /// A node at `127.89.<house>.<number>`, whose seed is the first one.
    pub async fn start(house: u8, number: u8, boot: u64) -> Node {
        let address = |number: u8| format!("127.89.{house}.{number}:7311");
        let listener = OsNet.listen(&address(number)).await.unwrap();
        let (cluster_name, name) = ("test".to_owned(), format!("n{number}"));
        let me = Myself {
            cluster_name,
            node: id(number),
            life: Life(1),
            boot,
            name,
            address: address(number),
            lease_found: None,
        };
        let (registry, clock) = (Registry::new(), Arc::new(SystemClock::new()));
        let log = slog::Logger::root(slog::Discard, slog::o!());
        let dice = AtomicU64::new(u64::from(number));
        let step = move || dice.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        let roll: Arc<dyn Fn() -> f64 + Send + Sync> = Arc::new(move || (step() >> 11) as f64 / (1u64 << 53) as f64);
        let (peers, specs) = kula_transport::spawn(
            kula_transport::Spawn {
                me: me.clone(),
                admission: Admission::default(),
                net: Arc::new(OsNet),
                listener,
                clock: Arc::<SystemClock>::clone(&clock),
                told: Arc::new(Told::new(None, false)),
                hlc: Arc::new(Hlc::starting_above(None)),
                roll: Arc::clone(&roll),
                places: vec![Place::Local],
                log: log.clone(),
            },
            &registry,
        );
        let spawn = kula_gossip::Spawn {
            me: me.introduction(&Admission::default()),
            about: About { http_address: format!("h{number}:7080"), ..About::default() },
            seeds: vec![address(1)],
            peers: peers.clone(),
            clock,
            roll,
            config: GossipConfig::default(),
            place: Place::Local,
            log: log.clone(),
        };
        let (gossip, spec) = kula_gossip::spawn(spawn, &registry);
        let mut tree = Supervisor::new("node", Strategy::OneForOne, Intensity::default(), Backoff::default(), log);
        specs.into_iter().for_each(|spec| tree.add(spec));
        tree.add(spec);
        let heard = Heard::default();
        let (door, wiring) = wiring(&registry, peers, gossip.membership(), Arc::clone(&heard));
        tree.add(wiring);
        gossip.subscribe(Subscriber::from(&door));
        let late = Heard::default();
        let (ear, spec) = ear(&registry, Arc::clone(&late));
        tree.add(spec);
        let (stop, stopped) = oneshot::channel();
        let tree = spawn_local(async move { tree.run(stopped).await.unwrap() });
        Node { gossip, heard, late, ear, registry, stop: Some(stop), tree }
    }

    /// A clean stop.
    pub async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.tree.await.unwrap();
    }

    /// As `kill -9`: nobody is told, the sockets close.
    pub async fn kill(self) {
        self.tree.abort();
        drop(self.tree.await);
    }

    /// What somebody hears who subscribes now.
    pub fn listen(&self) -> Heard {
        self.gossip.subscribe(Subscriber::from(&self.ear));
        Arc::clone(&self.late)
    }

    pub fn state(&self, of: u8) -> Option<State> {
        Some(self.gossip.membership().load().get(id(of))?.state)
    }

    pub fn sees_up(&self, others: &[u8]) -> bool {
        others.iter().all(|other| self.state(*other).is_some_and(State::is_up))
    }

    pub fn has_heard(&self, event: GossipEvent) -> bool {
        self.heard.lock().unwrap().contains(&event)
    }
}

fn wiring(
    registry: &Registry,
    peers: Peers,
    membership: Snapshot<Membership>,
    heard: Heard,
) -> (Door<Wiring>, kula_actor::ChildSpec) {
    child(registry, "wiring", MailboxConfig::default(), OnPanic::Restart, Place::Local, move || Wiring {
        peers: peers.clone(),
        membership: membership.clone(),
        heard: Arc::clone(&heard),
    })
}

fn ear(registry: &Registry, heard: Heard) -> (Door<Ear>, kula_actor::ChildSpec) {
    let mailbox = MailboxConfig::default();
    child(registry, "ear", mailbox, OnPanic::Restart, Place::Local, move || Ear { heard: Arc::clone(&heard) })
}

/// How long it took.
#[allow(clippy::disallowed_methods, reason = "a test over real time")]
pub async fn until(within: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < within, "not within {within:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    began.elapsed()
}

pub fn in_system<F: Future>(future: F) -> F::Output {
    System::new().block_on(future)
}
