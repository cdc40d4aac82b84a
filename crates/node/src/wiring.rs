//! The supervisor tree of a node, and who knows whom: all of it on one screen.
//!
//! ```text
//! node ─┬─ observer
//!       ├─ ring · catalog                 on one thread: they sync small files
//!       ├─ storage/identity · commitlog · flush · shard/0..n      a thread each
//!       ├─ replica/0..n                   beside its shard
//!       └─ coordinator/0..n               a thread each; restarts, the others fence
//! ```

use crate::{
    StartError,
    config::{Loaded, effective},
};
use actix_rt::Arbiter;
use kula_actor::{Backoff, ChildSpec, Escalation, Observer, ObserverConfig, Place, Registry, Strategy, Supervisor};
use kula_clock::{Clock, SystemClock};
use kula_coordinator::{Coordinators, NoPeers};
use kula_disk::{Disk, OsDisk, log::Loss};
use kula_operator::{Operator, OperatorParts, Readiness};
use kula_placement::RingNode;
use kula_ring::{Opening, RingHandle};
use kula_storage::{OpenedStorage, Places, StorageError};
use kula_types::NodeId;
use serde_json::json;
use slog::{Logger, o};
use std::{future::Future, sync::Arc};

/// What the command line says beside the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartOptions {
    /// Listen beyond loopback without authentication.
    pub insecure: bool,
    /// Start although the commit log is damaged before valid records.
    pub accept_loss: bool,
}

/// A node whose parts are made and not yet running.
pub struct Assembled {
    pub coordinators: Coordinators,
    pub operator: Operator,
    pub readiness: Readiness,
    pub ring: RingHandle,
    pub clock: Arc<dyn Clock>,
    supervisor: Supervisor,
    arbiters: Vec<Arbiter>,
}

/// Opens the directory, replays, and makes every actor. Must be called inside an actix `System`.
pub fn assemble(loaded: &Loaded, options: &StartOptions, log: &Logger) -> Result<Assembled, StartError> {
    let config = &loaded.config;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::open_or_create(&config.node.data).map_err(StartError::Directory)?);
    let loss = if options.accept_loss { Loss::Accept } else { Loss::Refuse };
    let mut storage = kula_storage::open(disk.clone(), &config.storage, &*clock, loss)?;
    let me = storage.identity().node;
    warn_if_ahead(&storage, &*clock, log);
    let (ring, schema) = found_cluster(loaded, &*disk, &mut storage)?;

    let registry = Registry::new();
    let mut threads = Threads::default();
    let restart = config.actors.coordinator.restart;
    let actor_log = |actor: &'static str| log.new(o!("actor" => actor));
    let mut supervisor = Supervisor::new("node", Strategy::OneForOne, restart, Backoff::default(), actor_log("node"));

    if !config.log.mailbox_every.is_zero() {
        let every = ObserverConfig { mailbox_every: config.log.mailbox_every };
        supervisor.add(Observer::child(&registry, every, log.clone()).1);
    }
    let values = threads.place();
    let (ring_door, ring, child) = kula_ring::spawn(
        kula_ring::Spawn { disk: disk.clone(), ring, place: values.clone(), log: actor_log("ring") },
        &registry,
    );
    supervisor.add(child);
    let hlc = storage.hlc.clone();
    let catalog = kula_catalog::Spawn {
        disk: disk.clone(),
        schema,
        ring: ring.clone(),
        ring_door,
        clock: clock.clone(),
        hlc: hlc.clone(),
        place: values.clone(),
        log: actor_log("catalog"),
    };
    let (catalog, schema, child) = kula_catalog::spawn(catalog, &registry);
    supervisor.add(child);

    let shards: Vec<Place> = (0..storage.identity().shards).map(|_| threads.place()).collect();
    let places =
        Places { shards: shards.clone(), commit_log: threads.place(), flush: threads.place(), identity: values };
    let (storage, children) = kula_storage::spawn(storage, &registry, places, clock.clone(), log);
    add_all(&mut supervisor, children);
    let replicas = kula_replica::Spawn {
        ring: ring.clone(),
        schema: schema.clone(),
        clock: clock.clone(),
        hlc: hlc.clone(),
        storage: storage.clone(),
        places: shards,
    };
    let (replicas, children) = kula_replica::spawn(replicas, &registry);
    add_all(&mut supervisor, children);
    let coordinators = kula_coordinator::Spawn {
        me,
        ring: ring.clone(),
        schema: schema.clone(),
        hlc: hlc.clone(),
        clock: clock.clone(),
        replicas: replicas.clone(),
        peers: Arc::new(NoPeers),
        places: (0..config.coordinators()).map(|_| threads.place()).collect(),
        mailbox: config.actors.coordinator.mailbox,
        log: log.clone(),
    };
    let (coordinators, children) = kula_coordinator::spawn(coordinators, &registry);
    add_all(&mut supervisor, children);

    let readiness = Readiness::starting();
    let operator = Operator::new(OperatorParts {
        me,
        name: config.node.name.as_str().into(),
        registry,
        ring: ring.clone(),
        schema,
        catalog,
        replicas,
        storage,
        disk,
        clock: clock.clone(),
        hlc,
        readiness: readiness.clone(),
        config: json!(
            effective(loaded)
                .into_iter()
                .map(|(key, value, origin)| json!({ "key": key.name, "value": value, "origin": origin }))
                .collect::<Vec<_>>()
        ),
    });
    Ok(Assembled { coordinators, operator, readiness, ring, clock, supervisor, arbiters: threads.arbiters })
}

/// A clock whose lease lies far in the future was set back since: what it stamps until then carries future dates.
fn warn_if_ahead(storage: &OpenedStorage, clock: &dyn Clock, log: &Logger) {
    let ahead = storage.hlc.ahead_of(clock.wall());
    if ahead > kula_clock::limits::CLIENT_AHEAD_MAX {
        slog::warn!(log, "the machine's clock was set back: this node stamps {} s ahead of it until then", ahead.as_secs();
            "actor" => "node", "event" => "clock_ahead", "ahead_s" => ahead.as_secs(), "code" => kula_operator::codes::NODE_CLOCK_AHEAD.code);
    }
}

/// The ring and the schema of this directory, or the first ones; then the directory belongs to that cluster for good.
fn found_cluster(
    loaded: &Loaded,
    disk: &dyn Disk,
    storage: &mut OpenedStorage,
) -> Result<(kula_placement::Ring, kula_schema::Schema), StartError> {
    let config = &loaded.config;
    let identity = storage.identity();
    let opening = Opening {
        me: ring_node(loaded, identity.node),
        cluster_name: config.cluster.clone(),
        partitioner: config.partitioner,
        bound: identity.cluster,
        drawn: kula_ring::draw()?,
    };
    let ring = kula_ring::open(disk, opening)?;
    let schema = kula_catalog::open(disk, identity.cluster)?;
    storage.bind_cluster(ring.cluster).map_err(|error: StorageError| StartError::Storage(error))?;
    Ok((ring, schema))
}

fn ring_node(loaded: &Loaded, id: NodeId) -> RingNode {
    let config = &loaded.config;
    RingNode {
        id,
        name: config.node.name.to_string(),
        // One node has no peers to be reached by; its place is where it listens.
        address: format!("{}:{}", config.listen.address, config.listen.http),
        dc: config.node.dc.clone(),
        rack: config.node.rack.clone(),
        weight: config.node.weight,
    }
}

fn add_all(supervisor: &mut Supervisor, children: Vec<ChildSpec>) {
    children.into_iter().for_each(|child| supervisor.add(child));
}

/// One thread a place.
#[derive(Default)]
struct Threads {
    arbiters: Vec<Arbiter>,
}

impl Threads {
    fn place(&mut self) -> Place {
        let arbiter = Arbiter::new();
        let place = Place::Arbiter(arbiter.handle());
        self.arbiters.push(arbiter);
        place
    }
}

impl Assembled {
    /// Runs the tree until `stop` has ended, then drains it in order; or until it gives up. `ready` is called once
    /// the tree runs.
    pub async fn supervise(self, ready: impl FnOnce(), stop: impl Future) -> Result<(), StartError> {
        let Assembled { supervisor, arbiters, .. } = self;
        let started = async {
            ready();
            stop.await
        };
        let ended: Result<(), Escalation> = supervisor.run(started).await;
        for arbiter in arbiters {
            arbiter.stop();
            // After a fence an actor may be stuck in a system call: the process ends without it.
            if ended.is_ok() {
                drop(arbiter.join());
            }
        }
        Ok(ended?)
    }
}
