//! Nodes of one process over loopback, each with a tree of its own and one room that answers.

use actix::prelude::{Actor, Handler, Message, System};
use bytes::Bytes;
use kula_actor::{
    Backoff, Door, Intensity, KulaContext, MailboxConfig, OnPanic, Place, Registry, Reply, Strategy, Subscriber,
    Supervisor, child, supervised,
};
use kula_clock::{Clock, Hlc, SystemClock, Told};
use kula_net::{Net, OsNet};
use kula_transport::{
    Admission, Inbound, InboundBatch, LinkState, Member, Myself, Peers, Spawn, TransportError, spawn,
};
use kula_types::{Life, Map, Mono, NodeId};
use kula_wire::{Lane, Room};
use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::oneshot,
    task::{JoinHandle, spawn_local},
};

/// Of the replica's room: any will do.
pub const ECHO: u16 = 0x05F0;
/// Kept without an answer.
pub const KEEP: u16 = 0x05F1;
/// Dropped.
pub const DROP: u16 = 0x05F2;

/// The verbs and body lengths a room saw, in order.
pub type Seen = Arc<Mutex<Vec<(u16, usize)>>>;

pub struct EchoRoom {
    seen: Seen,
    kept: Vec<Inbound>,
}

impl Actor for EchoRoom {
    type Context = KulaContext<Self>;
}

supervised!(EchoRoom);

impl Handler<InboundBatch> for EchoRoom {
    type Result = ();

    fn handle(&mut self, batch: InboundBatch, _: &mut Self::Context) {
        for inbound in batch.frames {
            self.seen.lock().unwrap().push((inbound.verb, inbound.body.len()));
            match inbound.verb {
                KEEP => self.kept.push(inbound),
                DROP => drop(inbound),
                _ => inbound.reply.send(inbound.body),
            }
        }
    }
}

/// Holds its thread for a while, so that what comes behind it waits in the mailbox.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Fill;

impl Handler<Fill> for EchoRoom {
    type Result = ();

    fn handle(&mut self, _: Fill, _: &mut Self::Context) {}
}

pub struct Node {
    pub peers: Peers,
    pub room: Door<EchoRoom>,
    pub seen: Seen,
    pub clock: Arc<SystemClock>,
    pub told: Arc<Told>,
    pub me: Myself,
    stop: Option<oneshot::Sender<()>>,
    tree: JoinHandle<()>,
}

pub fn id(number: u8) -> NodeId {
    NodeId(uuid::Uuid::from_bytes([number; 16]))
}

pub fn myself(number: u8, boot: u64, address: &str) -> Myself {
    let (cluster_name, name) = ("test".to_owned(), format!("n{number}"));
    Myself { cluster_name, node: id(number), life: Life(1), boot, name, address: address.to_owned(), lease_found: None }
}

impl Node {
    /// A node at `host`; `port` 0 takes any.
    pub async fn start(number: u8, boot: u64, address: &str) -> Node {
        Node::start_as(myself(number, boot, address), 1_024).await
    }

    pub async fn start_as(me: Myself, room_cap: usize) -> Node {
        Node::start_logging(me, room_cap, slog::Logger::root(slog::Discard, slog::o!())).await
    }

    pub async fn start_logging(mut me: Myself, room_cap: usize, log: slog::Logger) -> Node {
        let listener = OsNet.listen(&me.address).await.unwrap();
        me.address = listener.address().unwrap();
        let (registry, clock, seen) = (Registry::new(), Arc::new(SystemClock::new()), Seen::default());
        let told = Arc::new(Told::new(None, false));
        let parts = Spawn {
            me: me.clone(),
            admission: Admission::default(),
            net: Arc::new(OsNet),
            listener,
            clock: Arc::<SystemClock>::clone(&clock),
            told: told.clone(),
            hlc: Arc::new(Hlc::starting_above(None)),
            roll: Arc::new(|| 0.0),
            places: vec![Place::Local],
            log: log.clone(),
        };
        let (peers, specs) = spawn(parts, &registry);
        let saw = Arc::clone(&seen);
        let mailbox = MailboxConfig { cap: room_cap };
        let (room, spec) = child(&registry, "room", mailbox, OnPanic::Restart, Place::Local, move || EchoRoom {
            seen: Arc::clone(&saw),
            kept: Vec::new(),
        });
        peers.register(Room::Replica, Subscriber::from(&room));
        let mut tree = Supervisor::new("node", Strategy::OneForOne, Intensity::default(), Backoff::default(), log);
        tree.add(spec);
        specs.into_iter().for_each(|spec| tree.add(spec));
        let (stop, stopped) = oneshot::channel();
        let tree = spawn_local(async move { tree.run(stopped).await.unwrap() });
        Node { peers, room, seen, clock, told, me, stop: Some(stop), tree }
    }

    pub async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.tree.await.unwrap();
    }

    pub fn after(&self, millis: u64) -> Mono {
        self.clock.mono().after(Duration::from_millis(millis))
    }

    /// Sends now; the answer is awaited apart.
    pub fn send(
        &self,
        to: u8,
        lane: Lane,
        verb: u16,
        body: Bytes,
        within_ms: u64,
    ) -> impl Future<Output = Result<Bytes, TransportError>> + use<> {
        let (reply, answer) = Reply::pair();
        self.peers.request(id(to), lane, verb, body, self.after(within_ms), reply);
        async move { answer.await.unwrap_or(Err(TransportError::Lost)) }
    }

    pub async fn echo(&self, to: u8) -> Result<Bytes, TransportError> {
        self.send(to, Lane::Request, ECHO, Bytes::from_static(b"hello"), 2_000).await
    }

    /// Waits until the link to `to` is up.
    pub async fn connected(&self, to: u8) {
        until(|| matches!(self.peers.link_state(id(to)), Some(LinkState::Up { .. }))).await;
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
    tokio::time::timeout(Duration::from_secs(10), waited).await.unwrap();
}

pub fn in_system<F: Future>(future: F) -> F::Output {
    System::new().block_on(future)
}
