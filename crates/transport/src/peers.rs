//! `Peers`: the handle that rooms hold to speak with other nodes, and how the room is furnished.

use crate::{
    admission::{Admission, Myself},
    directory::{Admit, Dial, DirectoryActor},
    error::TransportError,
    limits,
    link::{Parcel, Send},
    listener::{ListenerActor, Port},
    messages::{InboundBatch, LinkEvent, LinkState, PeerState, RefusedPeer},
    shared::{Parts, Shared},
};
use bytes::Bytes;
use kula_actor::{
    Backoff, ChildSpec, DoorError, MailboxConfig, Nursery, OnPanic, Place, Registry, Reply, Subscriber, child,
};
use kula_clock::{Clock, Hlc, Told};
use kula_net::{Listener, Net};
use kula_types::{Mono, NodeId};
use kula_wire::{Lane, MessageError, Room, Verb, decode, encode};
use slog::Logger;
use std::{
    fmt,
    sync::{Arc, Mutex},
};

/// What the transport of a node needs to live.
pub struct Spawn {
    pub me: Myself,
    pub admission: Admission,
    pub net: Arc<dyn Net>,
    /// The peer port, already open: a port that is taken is an error of the start, not of an actor.
    pub listener: Box<dyn Listener>,
    pub clock: Arc<dyn Clock>,
    /// What the peers are told of the clock's lease.
    pub told: Arc<Told>,
    /// Shown to peers in each frame, and moved by theirs.
    pub hlc: Arc<Hlc>,
    /// Numbers from 0 to 1: reconnects of many must not come at once.
    pub roll: Arc<dyn Fn() -> f64 + Sync + std::marker::Send>,
    /// Links and sessions take turns on these.
    pub places: Vec<Place>,
    pub log: Logger,
}

/// The handle to all peers. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
}

/// The children of a node's `transport` branch, in the order of starting.
pub fn spawn(spawn: Spawn, registry: &Registry) -> (Peers, Vec<ChildSpec>) {
    let Spawn { me, admission, net, listener, clock, told, hlc, roll, places, log } = spawn;
    assert!(!places.is_empty(), "links and sessions run somewhere");
    let backoff = || Backoff::new(limits::RECONNECT_FIRST, limits::RECONNECT_MAX);
    let (nursery, children) = Nursery::new("transport/peers", limits::NURSERY_CAP, backoff(), log.clone());
    let backoff = backoff().with_jitter(0.5, move || roll());
    let registry_of_it = registry.clone();
    let parts = Parts { me, net, clock, told, hlc, backoff, places, registry: registry_of_it, nursery, log, admission };
    let shared = Arc::new(Shared::new(parts));

    let own = Arc::clone(&shared);
    let mailbox = MailboxConfig { cap: limits::MAILBOX_DIRECTORY };
    let (directory, directory_spec) =
        child(registry, "transport/directory", mailbox, OnPanic::Restart, Place::Local, move || {
            DirectoryActor::new(Arc::clone(&own))
        });
    assert!(shared.directory.set(directory).is_ok(), "one directory");

    let port: Port = Arc::new(Mutex::new(listener));
    let own = Arc::clone(&shared);
    let (_, listener_spec) =
        child(registry, "transport/listener", MailboxConfig::default(), OnPanic::Restart, Place::Local, move || {
            ListenerActor { port: Arc::clone(&port), shared: Arc::clone(&own), pause: None }
        });
    (Peers { shared }, vec![children.into_spec(), directory_spec, listener_spec])
}

impl Peers {
    /// Asks a peer; the answer is the body of its response. Refused at once if there is no connection.
    pub fn request(
        &self,
        to: NodeId,
        lane: Lane,
        verb: u16,
        body: Bytes,
        deadline: Mono,
        reply: Reply<Result<Bytes, TransportError>>,
    ) {
        let deadline = Some(deadline);
        self.send(to, Parcel { lane, verb, body, deadline, trace: 0, way_back: Some(reply) });
    }

    /// Asks a peer. A reply that is dropped is *unknown*, as `TransportError::Lost` is.
    pub fn ask<V: Verb>(&self, to: NodeId, verb: &V, deadline: Mono, reply: Reply<Result<V::Answer, TransportError>>)
    where
        V::Answer: std::marker::Send + 'static,
    {
        let body = match encode(verb) {
            Ok(body) => body,
            Err(MessageError::TooLarge { bytes, max }) => {
                return reply.send(Err(TransportError::TooLarge { bytes, max }));
            }
            // A plain struct can be encoded.
            Err(MessageError::Malformed | MessageError::Trailing { .. }) => {
                return reply.send(Err(TransportError::Malformed));
            }
        };
        let way_back = Reply::new(move |answer: Result<Result<Bytes, TransportError>, kula_actor::Lost>| {
            let answer = answer.unwrap_or(Err(TransportError::Lost));
            reply.send(answer.and_then(|body| decode(&body).map_err(|_| TransportError::Malformed)));
        });
        self.request(to, V::LANE, V::CODE, body, deadline, way_back);
    }

    /// Tells a peer, if it is connected and its lane has room; nobody learns whether it arrived.
    pub fn tell<V: Verb>(&self, to: NodeId, verb: &V) {
        if let Ok(body) = encode(verb) {
            let (lane, verb) = (V::LANE, V::CODE);
            self.send(to, Parcel { lane, verb, body, deadline: None, trace: 0, way_back: None });
        }
    }

    /// Keeps a link to whoever is at this address. Who it is, a `LinkEvent::Up` says. Dialling again changes nothing.
    pub fn dial(&self, address: &str) {
        self.direct(|directory| directory.tell_forced(Dial(address.to_owned())));
    }

    /// Who belongs, from now on: links follow.
    pub fn admit(&self, admission: Admission) {
        self.direct(|directory| directory.tell_forced(Admit(Arc::new(admission))));
    }

    /// Whose verbs go where. Before the tree runs.
    pub fn register(&self, room: Room, subscriber: Subscriber<InboundBatch>) {
        self.shared.register(room, subscriber);
    }

    /// Who hears of links. Before the tree runs.
    pub fn listen(&self, subscriber: Subscriber<LinkEvent>) {
        self.shared.listen(subscriber);
    }

    /// Every link, by address.
    pub fn known(&self) -> Vec<PeerState> {
        self.shared.board().values().cloned().collect()
    }

    /// Who was refused at our door within the last minute, oldest first: clones, strangers, other clusters.
    pub fn refused(&self) -> Vec<RefusedPeer> {
        self.shared.refusals().list(self.shared.clock.mono())
    }

    /// The link to this node, if one is kept.
    pub fn link_state(&self, node: NodeId) -> Option<LinkState> {
        self.shared.board().values().find(|state| state.node == Some(node)).map(|state| state.link.clone())
    }

    /// What this node calls itself.
    pub fn me(&self) -> &Myself {
        &self.shared.me
    }

    fn send(&self, to: NodeId, parcel: Parcel<Reply<Result<Bytes, TransportError>>>) {
        let refused = match self.shared.routes.peek().get(&to) {
            None => (parcel.way_back, TransportError::NotConnected),
            Some(link) => match link.try_tell(Send(parcel)) {
                Ok(()) => return,
                Err(refused) => (refused.message.0.way_back, not_taken(refused.error)),
            },
        };
        if let (Some(reply), error) = refused {
            reply.send(Err(error));
        }
    }

    fn direct(&self, order: impl FnOnce(&kula_actor::Door<DirectoryActor>) -> Result<(), DoorError>) {
        if let Some(directory) = self.shared.directory.get() {
            // Only a node that is stopping has none.
            drop(order(directory));
        }
    }
}

fn not_taken(error: DoorError) -> TransportError {
    match error {
        DoorError::Overloaded { path, depth, cap } => TransportError::Overloaded { path, depth, cap },
        DoorError::Closed { .. } => TransportError::NotConnected,
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peers({})", self.shared.me.name)
    }
}
