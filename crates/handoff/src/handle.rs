//! `Handoff`: the handle that coordinators hold. It never waits: a full queue is an answer.

use crate::{
    actor::HandoffActor,
    error::HandoffError,
    limits,
    messages::{HintCounts, StoreBatch, StoreHint},
};
use kula_actor::{Door, DoorError, Snapshot};
use kula_types::NodeId;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The way to hand-off. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Handoff {
    /// None: this node keeps no hints.
    way: Option<(Door<HandoffActor>, Arc<Queue>)>,
    counts: Snapshot<HintCounts>,
}

/// What handle and actor share: the bytes that wait between them, and the hints that found no room there.
#[derive(Default)]
pub(crate) struct Queue {
    bytes: AtomicUsize,
    /// By target; touched only when a hint is refused here, and when counts are published.
    shed: Mutex<BTreeMap<NodeId, u64>>,
}

impl Handoff {
    pub(crate) fn new(door: Door<HandoffActor>, queue: Arc<Queue>, counts: Snapshot<HintCounts>) -> Self {
        Handoff { way: Some((door, queue)), counts }
    }

    /// Refuses every hint: for a node without peers, and for tests.
    pub fn none() -> Handoff {
        Handoff { way: None, counts: Snapshot::new(Arc::default()) }
    }

    /// Keeps hints. Never blocks; each is answered, once it is synced or refused, from another thread or from this call.
    pub fn store(&self, hints: Vec<StoreHint>) {
        let Some((door, queue)) = &self.way else { return refuse(hints, &HandoffError::Closed) };
        if hints.is_empty() {
            return;
        }
        let bytes = hints.iter().map(|hint| hint.mutation.len()).sum();
        let waiting = queue.bytes.fetch_add(bytes, Ordering::AcqRel);
        let cap = limits::QUEUE_BYTES_MAX;
        // An empty queue takes any batch: the largest mutation, and what one poll of a coordinator gathered.
        let refused = if waiting > 0 && waiting.saturating_add(bytes) > cap {
            Some((hints, HandoffError::Overloaded { path: Arc::clone(door.path()), depth: waiting, cap }))
        } else {
            door.try_tell(StoreBatch { hints, bytes })
                .err()
                .map(|refused| (refused.message.hints, not_taken(refused.error)))
        };
        if let Some((hints, error)) = refused {
            queue.taken(bytes);
            queue.shed(&hints);
            refuse(hints, &error);
        }
    }

    /// What is owed to whom, as of at most a second ago.
    pub fn counts(&self) -> Snapshot<HintCounts> {
        self.counts.clone()
    }
}

impl Queue {
    /// The actor holds them now, or nobody does.
    pub fn taken(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    fn shed(&self, hints: &[StoreHint]) {
        // The map is whole between changes.
        let mut shed = self.shed.lock().unwrap_or_else(PoisonError::into_inner);
        for hint in hints {
            // More targets than there are peers come from nowhere.
            if shed.len() < limits::TARGETS_MAX || shed.contains_key(&hint.target) {
                *shed.entry(hint.target).or_default() += 1;
            }
        }
    }

    /// What was refused since the last call.
    pub fn take_shed(&self) -> BTreeMap<NodeId, u64> {
        std::mem::take(&mut *self.shed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn not_taken(error: DoorError) -> HandoffError {
    match error {
        DoorError::Overloaded { path, depth, cap } => HandoffError::Overloaded { path, depth, cap },
        DoorError::Closed { .. } => HandoffError::Closed,
    }
}

fn refuse(hints: Vec<StoreHint>, error: &HandoffError) {
    hints.into_iter().for_each(|hint| hint.reply.send(Err(error.clone())));
}

impl fmt::Debug for Handoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.way.is_some() { "Handoff" } else { "Handoff(none)" })
    }
}
