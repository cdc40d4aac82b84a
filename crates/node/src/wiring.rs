//! The supervisor tree of a node, and who knows whom: all of it on one screen.
//!
//! ```text
//! node ─┬─ observer
//!       ├─ transport/…                    a link and sessions a peer, on one thread
//!       ├─ gossip · membership            membership tells transport and gossip who belongs
//!       ├─ ring · catalog                 on one thread: they sync small files
//!       ├─ storage/identity · commitlog · flush · shard/0..n      a thread each
//!       ├─ replica/0..n                   beside its shard
//!       ├─ handoff                        a thread: it syncs hints
//!       ├─ operator                       answers other nodes' questions for the status
//!       └─ coordinator/0..n               a thread each; restarts, the others fence
//! ```

use crate::{
    StartError, Threads, World,
    config::{Config, Loaded, effective},
    membership,
};
use kula_actor::{
    Backoff, ChildSpec, Escalation, Observer, ObserverConfig, Place, Registry, Strategy, Subscriber, Supervisor,
};
use kula_catalog::SchemaHandle;
use kula_clock::Clock;
use kula_coordinator::{Coordinators, RemoteReplicas};
use kula_disk::{Disk, log::Loss};
use kula_gossip::About;
use kula_net::{Listener, Net};
use kula_operator::{Operator, OperatorParts, Readiness};
use kula_placement::{Ring, RingNode};
use kula_ring::{Drawn, Join, Opening, RingHandle};
use kula_schema::Schema;
use kula_storage::{Identity, OpenedStorage, Places};
use kula_transport::Myself;
use kula_types::{Mono, NodeId, Timestamp};
use serde_json::json;
use slog::{Logger, o};
use std::{collections::BTreeMap, future::Future, io, net::SocketAddr, sync::Arc};

/// What the command line says beside the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartOptions {
    /// Listen beyond loopback without authentication.
    pub insecure: bool,
    /// Start although the commit log is damaged before valid records, or peers know that the directory went back.
    pub accept_loss: bool,
}

/// A node whose parts are made and not yet running.
pub struct Assembled {
    pub coordinators: Coordinators,
    pub operator: Operator,
    pub readiness: Readiness,
    pub ring: RingHandle,
    pub schema: SchemaHandle,
    pub clock: Arc<dyn Clock>,
    /// When the node's clock is past the stamps of its last life.
    pub settled_at: Mono,
    supervisor: Supervisor,
    threads: Threads,
}

/// Opens the directory, replays, and makes every actor.
pub async fn assemble(
    loaded: &Loaded,
    options: &StartOptions,
    world: World,
    log: &Logger,
) -> Result<Assembled, StartError> {
    let config = &loaded.config;
    let World { disk, net, clock, dice, mut threads } = world;
    let loss = if options.accept_loss { Loss::Accept } else { Loss::Refuse };
    let mut storage = kula_storage::open(disk.clone(), &config.storage, &*clock, loss)?;
    let identity = storage.identity();
    let settled_at = clock.mono().after(storage.hlc.settles_in(clock.wall()));
    warn_if_ahead(&storage, &*clock, log);
    let door = PeerDoor::open(config, &*net).await?;
    let me = door.ring_node(config, identity.node);
    let drawn = kula_ring::draw(&*dice)?;
    let (ring, schema) = found_cluster(config, me.clone(), drawn.clone(), &*disk, &mut storage)?;

    let registry = Registry::new();
    let restart = config.actors.coordinator.restart;
    let actor_log = |actor: &'static str| log.new(o!("actor" => actor));
    let mut supervisor = Supervisor::new("node", Strategy::OneForOne, restart, Backoff::default(), actor_log("node"));
    let roll: Roll = {
        let dice = dice.clone();
        Arc::new(move || dice.roll())
    };

    if !config.log.mailbox_every.is_zero() {
        let every = ObserverConfig { mailbox_every: config.log.mailbox_every };
        supervisor.add(Observer::child(&registry, every, log.clone()).1);
    }
    let (talk, values) = (threads.place(), threads.place());
    let boot = dice.draw().map_err(|_| kula_ring::RingError::Entropy)?;
    let myself = door.myself(config, &identity, boot, storage.told.found());
    let admission = kula_ring::admission(&ring, &BTreeMap::new());
    let transport = kula_transport::Spawn {
        me: myself.clone(),
        admission: admission.clone(),
        net,
        listener: door.listener,
        clock: clock.clone(),
        told: storage.told.clone(),
        hlc: storage.hlc.clone(),
        roll: roll.clone(),
        places: vec![talk.clone()],
        log: actor_log("transport"),
    };
    let (peers, transport) = kula_transport::spawn(transport, &registry);
    let gossip = kula_gossip::Spawn {
        me: myself.introduction(&admission),
        about: about(config),
        seeds: config.join.seeds.clone(),
        peers: peers.clone(),
        clock: clock.clone(),
        roll: roll.clone(),
        config: config.gossip.clone(),
        place: talk.clone(),
        log: actor_log("gossip"),
    };
    let (gossip, gossip_child) = kula_gossip::spawn(gossip, &registry);
    let ring = kula_ring::Spawn {
        disk: disk.clone(),
        ring,
        me: me.clone(),
        join: join(config, &me),
        drawn,
        gossip: gossip.clone(),
        peers: peers.clone(),
        clock: clock.clone(),
        roll: roll.clone(),
        place: values.clone(),
        log: actor_log("ring"),
    };
    let (ring_door, ring, join_view, child) = kula_ring::spawn(ring, &registry);
    supervisor.add(child);
    let hlc = storage.hlc.clone();
    let catalog = kula_catalog::Spawn {
        disk: disk.clone(),
        schema,
        ring: ring.clone(),
        ring_door: ring_door.clone(),
        gossip: gossip.clone(),
        peers: peers.clone(),
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
        peers: peers.clone(),
        inbound: talk.clone(),
        ring_door: ring_door.clone(),
        catalog_door: catalog.clone(),
        places: shards,
    };
    let (replicas, children) = kula_replica::spawn(replicas, &registry);
    add_all(&mut supervisor, children);
    let handoff = kula_handoff::Spawn {
        disk: disk.clone(),
        ring: ring.clone(),
        gossip: gossip.clone(),
        peers: peers.clone(),
        clock: clock.clone(),
        config: config.hints,
        place: threads.place(),
        log: actor_log("handoff"),
    };
    let (handoff, children) = kula_handoff::spawn(handoff, &registry)?;
    add_all(&mut supervisor, children);
    let coordinators = kula_coordinator::Spawn {
        me: identity.node,
        ring: ring.clone(),
        schema: schema.clone(),
        hlc: hlc.clone(),
        clock: clock.clone(),
        dice,
        replicas: replicas.clone(),
        peers: Arc::new(RemoteReplicas::new(peers.clone(), gossip.membership(), clock.clone())),
        handoff: handoff.clone(),
        gossip: gossip.clone(),
        ring_door: ring_door.clone(),
        places: (0..config.coordinators()).map(|_| threads.place()).collect(),
        mailbox: config.actors.coordinator.mailbox,
        log: log.clone(),
    };
    let (coordinators, children) = kula_coordinator::spawn(coordinators, &registry);
    add_all(&mut supervisor, children);

    let readiness = Readiness::starting();
    let parts = membership::Parts {
        ring: ring.clone(),
        gossip: gossip.clone(),
        peers: peers.clone(),
        identity: storage.identity.clone(),
        readiness: readiness.clone(),
        clock: clock.clone(),
        settled_at,
    };
    let (door, membership_child) = membership::spawn(parts, talk, &registry);
    gossip.subscribe(Subscriber::from(&door));
    let told = ring_door.tell(kula_ring::Subscribe(Subscriber::from(&door)));
    assert!(told.is_ok(), "a ring that does not run yet takes a message");
    let operator = Operator::new(OperatorParts {
        me: identity.node,
        name: config.node.name.as_str().into(),
        registry: registry.clone(),
        ring: ring.clone(),
        join: join_view,
        schema: schema.clone(),
        catalog,
        replicas,
        storage,
        gossip,
        peers,
        handoff,
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
    supervisor.add(operator.child(&registry));
    // Those who speak with others come last, when everybody who listens is there.
    supervisor.add(membership_child);
    supervisor.add(gossip_child);
    add_all(&mut supervisor, transport);
    Ok(Assembled { coordinators, operator, readiness, ring, schema, clock, settled_at, supervisor, threads })
}

type Roll = Arc<dyn Fn() -> f64 + Send + Sync>;

/// Where other nodes reach this one.
struct PeerDoor {
    listener: Box<dyn Listener>,
    /// Host and port; the port that was given for port 0.
    address: String,
}

impl PeerDoor {
    async fn open(config: &Config, net: &dyn Net) -> Result<PeerDoor, StartError> {
        let asked = SocketAddr::new(config.listen.address, config.listen.peer);
        let refused = |source: io::Error| StartError::PeerPort { address: asked, source };
        let listener = net.listen(&asked.to_string()).await.map_err(refused)?;
        let address = listener.address().map_err(refused)?;
        Ok(PeerDoor { listener, address })
    }

    fn ring_node(&self, config: &Config, id: NodeId) -> RingNode {
        RingNode {
            id,
            name: config.node.name.to_string(),
            address: self.address.clone(),
            dc: config.node.dc.clone(),
            rack: config.node.rack.clone(),
            weight: config.node.weight,
        }
    }

    fn myself(&self, config: &Config, identity: &Identity, boot: u64, lease_found: Option<Timestamp>) -> Myself {
        Myself {
            cluster_name: config.cluster.clone(),
            node: identity.node,
            life: identity.life,
            boot,
            name: config.node.name.to_string(),
            address: self.address.clone(),
            lease_found,
        }
    }
}

fn about(config: &Config) -> About {
    About {
        http_address: format!("{}:{}", config.listen.address, config.listen.http),
        dc: config.node.dc.clone(),
        rack: config.node.rack.clone(),
        weight: config.node.weight,
    }
}

/// The first seed forms the ring.
fn join(config: &Config, me: &RingNode) -> Join {
    let seeds = &config.join.seeds;
    let first_seed = seeds.first().cloned().unwrap_or_default();
    Join { first_seed_is_me: first_seed == me.address, first_seed, expect: config.join.expect, seeds: seeds.len() }
}

/// A clock whose lease lies far in the future was set back since: what it stamps until then carries future dates.
fn warn_if_ahead(storage: &OpenedStorage, clock: &dyn Clock, log: &Logger) {
    let ahead = storage.hlc.ahead_of(clock.wall());
    if ahead > kula_clock::limits::CLIENT_AHEAD_MAX {
        slog::warn!(log, "the machine's clock was set back: this node stamps {} s ahead of it until then", ahead.as_secs();
            "actor" => "node", "event" => "clock_ahead", "ahead_s" => ahead.as_secs(), "code" => kula_operator::codes::NODE_CLOCK_AHEAD.code);
    }
}

/// The ring and the schema of this directory, or the first ones. A directory with a ring belongs to that cluster for good;
/// one that waits for a ring is bound when it has come.
fn found_cluster(
    config: &Config,
    me: RingNode,
    drawn: Drawn,
    disk: &dyn Disk,
    storage: &mut OpenedStorage,
) -> Result<(Ring, Schema), StartError> {
    let bound = storage.identity().cluster;
    let opening = Opening {
        me,
        cluster_name: config.cluster.clone(),
        partitioner: config.partitioner,
        seeds: !config.join.seeds.is_empty(),
        bound,
        drawn,
    };
    let ring = kula_ring::open(disk, opening)?;
    let schema = kula_catalog::open(disk, bound)?;
    if ring.version > 0 {
        storage.bind_cluster(ring.cluster).map_err(StartError::Storage)?;
    }
    Ok((ring, schema))
}

fn add_all(supervisor: &mut Supervisor, children: Vec<ChildSpec>) {
    children.into_iter().for_each(|child| supervisor.add(child));
}

impl Assembled {
    /// Runs the tree until `stop` has ended, then drains it in order; or until it gives up. `started` is called
    /// once the tree runs.
    pub async fn supervise(self, started: impl FnOnce(), stop: impl Future) -> Result<(), StartError> {
        let Assembled { supervisor, threads, .. } = self;
        let until = async {
            started();
            stop.await
        };
        let ended: Result<(), Escalation> = supervisor.run(until).await;
        // After a fence an actor may be stuck in a system call: the process ends without it.
        threads.stop(ended.is_ok());
        Ok(ended?)
    }
}
