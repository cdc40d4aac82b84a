//! `Gossip`: the handle that rooms hold. What was told through it stands here, so that a restarted actor begins with it.

use crate::{
    FactKey, GossipEvent, Membership,
    actor::{GossipActor, Nudge},
    limits,
};
use bytes::Bytes;
use kula_actor::{Door, Snapshot, Subscriber};
use kula_types::NodeId;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

/// Membership, and the way to announce. Cheap to clone, usable from any thread, before the tree runs too.
#[derive(Clone)]
pub struct Gossip {
    membership: Snapshot<Membership>,
    /// None: nobody listens to what is announced.
    desk: Option<Arc<Desk>>,
}

/// What was told so far.
#[derive(Default)]
pub(crate) struct Desk {
    standing: Mutex<Standing>,
    door: OnceLock<Door<GossipActor>>,
}

#[derive(Clone, Default)]
pub(crate) struct Standing {
    pub facts: BTreeMap<FactKey, Bytes>,
    pub electorate: Vec<NodeId>,
    pub subscribers: Vec<Subscriber<GossipEvent>>,
    pub leaving: bool,
}

impl Gossip {
    pub(crate) fn new(membership: Snapshot<Membership>, desk: Arc<Desk>) -> Self {
        Gossip { membership, desk: Some(desk) }
    }

    /// A handle without an actor, for tests of the rooms above: whoever holds `membership` sets it; announcements and
    /// subscriptions go nowhere.
    pub fn standing(membership: Snapshot<Membership>) -> Self {
        Gossip { membership, desk: None }
    }

    /// Says `value` under `key` to everybody, from now on. The same value again is no news.
    pub fn announce(&self, key: FactKey, value: Bytes) {
        assert!(value.len() <= limits::FACT_BYTES_MAX, "a fact of {} bytes", value.len());
        self.tell(|standing| {
            standing.facts.insert(key, value);
            assert!(standing.facts.len() <= limits::FACTS_MAX, "more kinds of facts than rooms");
        });
    }

    /// Whose votes count from now on: the ring's members. Empty, as at the start: everybody who is known.
    pub fn electorate(&self, members: Vec<NodeId>) {
        self.tell(|standing| standing.electorate = members);
    }

    /// Tells of peers from now on, beginning with everybody who is known (`Discovered`) and who is up (`PeerUp`).
    pub fn subscribe(&self, subscriber: Subscriber<GossipEvent>) {
        self.tell(|standing| {
            assert!(standing.subscribers.len() < limits::SUBSCRIBERS_MAX, "subscribers are rooms of this node");
            standing.subscribers.push(subscriber);
        });
    }

    /// What this node believes of everybody; the same snapshot at each call.
    pub fn membership(&self) -> Snapshot<Membership> {
        self.membership.clone()
    }

    /// Tells the peers that this node stops, so that they need not suspect it. The drain of the actor says it by itself.
    pub fn leave(&self) {
        self.tell(|standing| standing.leaving = true);
    }

    fn tell(&self, change: impl FnOnce(&mut Standing)) {
        if let Some(desk) = &self.desk {
            change(&mut desk.standing());
            desk.nudge();
        }
    }
}

impl Desk {
    pub fn standing(&self) -> MutexGuard<'_, Standing> {
        // What a panic could leave here is whole: each change is one assignment.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn open(&self, door: Door<GossipActor>) {
        assert!(self.door.set(door).is_ok(), "one gossip");
    }

    fn nudge(&self) {
        if let Some(door) = self.door.get() {
            // Past the bound: what is told is few and must arrive. Only a node that is stopping has no actor.
            drop(door.tell_forced(Nudge));
        }
    }
}

impl fmt::Debug for Gossip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gossip({})", self.membership.load().me)
    }
}
