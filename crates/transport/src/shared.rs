//! What the actors of transport and `Peers` hold in common. Each lock is held for a look or a change, never across an await
//! or another lock.

use crate::{
    admission::{Admission, Myself},
    directory::DirectoryActor,
    error::Cut,
    handshake::World,
    limits,
    link::LinkActor,
    messages::{InboundBatch, LinkEvent, LinkState, PeerState},
    roster::Roster,
};
use kula_actor::{Backoff, Door, NurseryDoor, Place, Registry, Snapshot, Subscriber};
use kula_clock::Clock;
use kula_net::Net;
use kula_types::{Map, NodeId};
use kula_wire::Room;
use slog::Logger;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

pub(crate) struct Shared {
    pub me: Myself,
    pub net: Arc<dyn Net>,
    pub clock: Arc<dyn Clock>,
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
    slots: Mutex<Vec<bool>>,
    /// Held once by each session that is a stranger's.
    shaking: Arc<()>,
}

/// What `Shared` is made of beside what it begins empty.
pub(crate) struct Parts {
    pub me: Myself,
    pub net: Arc<dyn Net>,
    pub clock: Arc<dyn Clock>,
    pub backoff: Backoff,
    pub places: Vec<Place>,
    pub registry: Registry,
    pub nursery: NurseryDoor,
    pub log: Logger,
    pub admission: Admission,
}

impl Shared {
    pub fn new(parts: Parts) -> Self {
        let Parts { me, net, clock, backoff, places, registry, nursery, log, admission } = parts;
        Shared {
            me,
            net,
            clock,
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
            shaking: Arc::default(),
        }
    }

    /// Judges somebody by what is known now.
    pub fn judge<T>(&self, judge: impl FnOnce(&mut World) -> T) -> T {
        let admission = self.admission.load();
        let mut roster = lock(&self.roster);
        judge(&mut World { me: &self.me, admission: &admission, roster: &mut roster })
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

    /// A number for a session, the lowest that is free; `None` if there are too many sessions or too many strangers.
    pub fn take_slot(self: &Arc<Self>) -> Option<Slot> {
        if Arc::strong_count(&self.shaking) > limits::SHAKING_MAX {
            return None;
        }
        let mut slots = lock(&self.slots);
        let number = slots.iter().position(|taken| !taken).unwrap_or(slots.len());
        if number >= limits::SESSIONS_MAX {
            return None;
        }
        match slots.get_mut(number) {
            Some(taken) => *taken = true,
            None => slots.push(true),
        }
        Some(Slot { number, shaking: Some(Arc::clone(&self.shaking)), shared: Arc::clone(self) })
    }

    /// Where the child with this number runs.
    pub fn place(&self, number: usize) -> Place {
        self.places[number % self.places.len()].clone()
    }
}

/// A session's place among the others, given back on drop.
pub(crate) struct Slot {
    pub number: usize,
    shaking: Option<Arc<()>>,
    shared: Arc<Shared>,
}

impl Slot {
    /// It is no stranger's any more.
    pub fn introduced(&mut self) {
        self.shaking = None;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(taken) = lock(&self.shared.slots).get_mut(self.number) {
            *taken = false;
        }
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
