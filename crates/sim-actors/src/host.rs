//! A machine and the node on it: the production tree of actors on one thread, with everything below it simulated.

use crate::{
    clock::{HostClock, Offset},
    net::SimNet,
    story::Story,
};
use futures::future::LocalBoxFuture;
use kula_catalog::SchemaHandle;
use kula_clock::SeededDice;
use kula_coordinator::Coordinators;
use kula_disk::{SimDisk, Survivors};
use kula_node::{
    Assembled, StartError, StartOptions, Threads, World, assemble,
    config::{Config, Loaded},
};
use kula_operator::Operator;
use kula_ring::RingHandle;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{Notify, mpsc};

/// The disks of all machines, as they are now: a power loss puts another one in place.
#[derive(Clone, Default)]
pub struct Disks(Arc<Mutex<Vec<Placed>>>);

/// A disk, and how many were there before it that are lost for good.
#[derive(Clone)]
pub struct Placed {
    pub disk: SimDisk,
    pub lost: u32,
}

impl Disks {
    pub fn push(&self, disk: SimDisk) {
        self.all().push(Placed { disk, lost: 0 });
    }

    pub fn get(&self, machine: usize) -> SimDisk {
        self.all()[machine].disk.clone()
    }

    /// The same disk, after a power loss.
    pub fn set(&self, machine: usize, disk: SimDisk) {
        self.all()[machine].disk = disk;
    }

    /// Another disk: what was on the one before is gone.
    pub fn replace(&self, machine: usize, disk: SimDisk) {
        let placed = &mut self.all()[machine];
        (placed.disk, placed.lost) = (disk, placed.lost + 1);
    }

    /// What a power loss at this moment would leave of each: ground truth of what is durable.
    pub fn durable(&self) -> Vec<Placed> {
        let durable = |placed: &Placed| Placed { disk: placed.disk.crash(Survivors::None), lost: placed.lost };
        self.all().iter().map(durable).collect()
    }

    /// Whether this is still the machine's disk, and not one that is lost.
    pub fn is_there(&self, machine: usize, placed: &Placed) -> bool {
        self.all()[machine].lost == placed.lost
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Placed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a client asks of a running node, in the node's own thread and time: what stands behind an HTTP handler.
pub type Request = Box<dyn FnOnce(Doors) -> LocalBoxFuture<'static, ()>>;

/// Requests that wait to be taken by a node: a plan never has as many under way.
const REQUESTS_MAX: usize = 1_024;

/// What the handlers of HTTP have of a node.
#[derive(Clone)]
pub struct Doors {
    pub coordinators: Coordinators,
    pub operator: Operator,
    pub ring: RingHandle,
    pub schema: SchemaHandle,
}

/// A running node, seen from outside.
pub struct Life {
    pub doors: Doors,
    pub requests: mpsc::Sender<Request>,
    pub stop: Arc<Notify>,
}

/// How a node came to its end by itself.
pub enum Ended {
    /// It was told to, and drained.
    Stopped,
    NotStarted(StartError),
    Failed(StartError),
}

pub struct Machine {
    pub index: usize,
    pub name: String,
    pub config: Config,
    pub seed: u64,
    pub offset: Offset,
    pub disks: Disks,
    pub story: Story,
    pub boots: Cell<u64>,
    pub life: RefCell<Option<Life>>,
    pub ended: RefCell<Option<Ended>>,
}

impl Machine {
    /// Whether clients are served here.
    pub fn is_ready(&self) -> bool {
        self.life.borrow().as_ref().is_some_and(|life| life.doors.operator.readiness().is_ready())
    }

    /// Hands a request to the node; false if none runs, or it is not taken.
    pub fn ask(&self, request: Request) -> bool {
        self.life.borrow().as_ref().is_some_and(|life| life.requests.try_send(request).is_ok())
    }

    /// One life of the node, to its end.
    pub async fn live(&self) {
        self.boots.set(self.boots.get() + 1);
        let seed = self.seed ^ (self.boots.get() << 32);
        let world = World {
            disk: Arc::new(self.disks.get(self.index)),
            net: Arc::new(SimNet),
            clock: Arc::new(HostClock::new(self.offset.clone())),
            dice: Arc::new(SeededDice::new(seed)),
            threads: Threads::shared(),
        };
        let loaded = Loaded { config: self.config.clone(), origins: BTreeMap::new() };
        let log = self.story.logger(&self.name);
        let ended = match assemble(&loaded, &StartOptions::default(), world, &log).await {
            Ok(assembled) => match self.run(assembled).await {
                Ok(()) => Ended::Stopped,
                Err(error) => Ended::Failed(error),
            },
            Err(error) => Ended::NotStarted(error),
        };
        self.life.replace(None);
        self.ended.replace(Some(ended));
    }

    async fn run(&self, assembled: Assembled) -> Result<(), StartError> {
        let (requests, mut asked) = mpsc::channel::<Request>(REQUESTS_MAX);
        let stop = Arc::new(Notify::new());
        let doors = Doors {
            coordinators: assembled.coordinators.clone(),
            operator: assembled.operator.clone(),
            ring: assembled.ring.clone(),
            schema: assembled.schema.clone(),
        };
        let readiness = assembled.readiness.clone();
        let stopping = stop.clone();
        self.life.replace(Some(Life { doors: doors.clone(), requests, stop }));
        let stop = async move {
            stopping.notified().await;
            readiness.set_stopping();
        };
        let serve = async move {
            while let Some(request) = asked.recv().await {
                tokio::task::spawn_local(request(doors.clone()));
            }
        };
        let serving = tokio::task::spawn_local(serve);
        let ended = assembled.supervise(|| (), stop).await;
        serving.abort();
        ended
    }
}
