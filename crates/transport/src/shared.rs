//! What the actors of transport and `Peers` hold in common. Each lock is held for a look or a change, never across an await
//! or another lock.

use crate::{
    admission::{Admission, Myself},
    directory::DirectoryActor,
    error::Cut,
    handshake::World,
    link::{Knock, LinkActor},
    messages::{InboundBatch, LinkEvent, LinkState, PeerState, RefusedPeer},
    refusals::Refusals,
    roster::Roster,
    slots::{Eviction, Slots},
};
use futures::FutureExt;
use kula_actor::{Backoff, Door, NurseryDoor, Place, Registry, Snapshot, Subscriber};
use kula_clock::{Clock, Hlc, Told};
use kula_net::Net;
use kula_types::{Map, NodeId, Timestamp};
use kula_wire::Room;
use slog::Logger;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll},
};

pub(crate) struct Shared {
    pub me: Myself,
    pub net: Arc<dyn Net>,
    pub clock: Arc<dyn Clock>,
    pub told: Arc<Told>,
    pub hlc: Arc<Hlc>,
    pub backoff: Backoff,
    pub places: Vec<Place>,
    pub registry: Registry,
    pub nursery: NurseryDoor,
    pub log: Logger,
    pub admission: Snapshot<Admission>,
    /// The links by the peer they lead to. Only the directory stores.
    pub routes: Snapshot<Map<NodeId, Door<LinkActor>>>,
    pub directory: OnceLock<Door<DirectoryActor>>,
    roster: Mutex<Roster>,
    /// By address.
    board: Mutex<BTreeMap<String, PeerState>>,
    rooms: Snapshot<Map<Room, Subscriber<InboundBatch>>>,
    listeners: Mutex<Vec<Subscriber<LinkEvent>>>,
    slots: Mutex<Slots>,
    refusals: Mutex<Refusals>,
}

/// What `Shared` is made of beside what it begins empty.
pub(crate) struct Parts {
    pub me: Myself,
    pub net: Arc<dyn Net>,
    pub clock: Arc<dyn Clock>,
    pub told: Arc<Told>,
    pub hlc: Arc<Hlc>,
    pub backoff: Backoff,
    pub places: Vec<Place>,
    pub registry: Registry,
    pub nursery: NurseryDoor,
    pub log: Logger,
    pub admission: Admission,
}

impl Shared {
    pub fn new(parts: Parts) -> Self {
        let Parts { me, net, clock, told, hlc, backoff, places, registry, nursery, log, admission } = parts;
        Shared {
            me,
            net,
            clock,
            told,
            hlc,
            backoff,
            places,
            registry,
            nursery,
            log,
            admission: Snapshot::new(Arc::new(admission)),
            routes: Snapshot::new(Arc::default()),
            directory: OnceLock::new(),
            roster: Mutex::default(),
            board: Mutex::default(),
            rooms: Snapshot::new(Arc::default()),
            listeners: Mutex::default(),
            slots: Mutex::default(),
            refusals: Mutex::default(),
        }
    }

    /// Judges somebody by what is known now.
    pub fn judge<T>(&self, judge: impl FnOnce(&mut World) -> T) -> T {
        let admission = self.admission.load();
        let mut roster = lock(&self.roster);
        judge(&mut World { me: &self.me, admission: &admission, roster: &mut roster, told: &self.told })
    }

    /// What our clock shows, for a frame that leaves now.
    pub fn reading(&self) -> Timestamp {
        self.hlc.reading(self.clock.wall())
    }

    /// A node that belongs said what its clock shows: what is stamped here from now on is later. One that is far ahead moves
    /// nobody's, and the status of all nodes says so.
    pub fn observe(&self, clock: Timestamp) {
        self.hlc.observe(clock, self.clock.wall());
    }

    pub fn register(&self, room: Room, subscriber: Subscriber<InboundBatch>) {
        let mut rooms = (*self.rooms.load()).clone();
        rooms.insert(room, subscriber);
        self.rooms.store(Arc::new(rooms));
    }

    pub fn room(&self, room: Room) -> Option<Subscriber<InboundBatch>> {
        self.rooms.peek().get(&room).cloned()
    }

    pub fn listen(&self, subscriber: Subscriber<LinkEvent>) {
        lock(&self.listeners).push(subscriber);
    }

    pub fn publish(&self, event: &LinkEvent) {
        // A listener that is gone misses nothing.
        lock(&self.listeners).iter().for_each(|listener| drop(listener.publish_forced(event.clone())));
    }

    pub fn board(&self) -> MutexGuard<'_, BTreeMap<String, PeerState>> {
        lock(&self.board)
    }

    pub fn show(&self, address: &str, link: LinkState) {
        if let Some(state) = self.board().get_mut(address) {
            state.link = link;
        }
    }

    pub fn count_cut(&self, side: &'static str, why: &Cut) {
        let help = "Connections between nodes that ended, by the side that counts and by reason";
        self.registry.counter("kula_transport_cuts", help, &[("side", side), ("why", why.word())]).inc();
    }

    /// A place for a session of a stranger; `None` if there are too many sessions.
    pub fn take_slot(self: &Arc<Self>) -> Option<Slot> {
        let (number, eviction) = lock(&self.slots).take()?;
        Some(Slot { number, eviction: Some(eviction), shared: Arc::clone(self) })
    }

    /// A peer has just connected to us and is who it should be.
    pub fn knocked(&self, node: NodeId) {
        if let Some(link) = self.routes.peek().get(&node) {
            // A link that is gone does not wait.
            drop(link.tell_forced(Knock));
        }
    }

    pub fn refusals(&self) -> MutexGuard<'_, Refusals> {
        lock(&self.refusals)
    }

    /// Remembers whom our door refused; whether people have not heard of it yet.
    pub fn note_refusal(&self, refused: RefusedPeer) -> bool {
        lock(&self.refusals).note(refused)
    }

    /// Where the child with this number runs.
    pub fn place(&self, number: usize) -> Place {
        self.places[number % self.places.len()].clone()
    }
}

/// A session's place among the others, given back on drop.
pub(crate) struct Slot {
    pub number: usize,
    eviction: Option<Eviction>,
    shared: Arc<Shared>,
}

impl Slot {
    /// It is no stranger's any more.
    pub fn introduced(&mut self) {
        self.eviction = None;
        lock(&self.shared.slots).introduced(self.number);
    }

    /// Ready if this stranger has to make room for a newer one; wakes the task then.
    pub fn poll_evicted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.eviction.as_mut().map_or(Poll::Pending, |eviction| eviction.poll_unpin(cx).map(drop))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.shared.slots).give_back(self.number);
    }
}

/// A connection's seat on the roster, which a judgement took; given back on drop.
pub(crate) struct Presence {
    pub node: NodeId,
    shared: Arc<Shared>,
}

impl Presence {
    pub fn taken(node: NodeId, shared: &Arc<Shared>) -> Self {
        Presence { node, shared: Arc::clone(shared) }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        lock(&self.shared.roster).leave(self.node);
    }
}

/// None of these locks guards a state that a panic could leave half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
