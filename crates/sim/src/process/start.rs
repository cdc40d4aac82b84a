//! The start of a process (`node/src/wiring.rs`): open the directory, replay, come by ring and schema, make every machine.

use super::{
    Post, Process,
    handoff::HandoffRoom,
    peers::{Peers, backoff},
    storage::Storage,
    values::{GossipRoom, Members, Values},
};
use crate::{
    net::ProcessId,
    time::{SimClock, micros},
};
use kula_catalog::CatalogError;
use kula_clock::{Clock, Dice, Random, SeededDice};
use kula_disk::{SimDisk, log::Loss};
use kula_fault::{Mutant, planted};
use kula_gossip::{About, GossipConfig, Membership, machine};
use kula_handoff::{HandoffConfig, HandoffError, Sizes, courier::Courier, machine::Window, store::HintStore};
use kula_placement::{Partitioner, RingNode, Secret};
use kula_ring::{Beginning, Drawn, Join, Opening, RingError};
use kula_storage::{StorageConfig, StorageError};
use kula_transport::Myself;
use kula_types::{Actor, ClusterId, Token};
use std::{collections::BTreeMap, sync::Arc};

/// A machine as it is configured.
#[derive(Clone, Debug)]
pub struct Host {
    pub name: String,
    pub address: String,
    pub rack: String,
    pub seeds: Vec<String>,
    pub expect: u32,
    pub storage: StorageConfig,
    pub coordinators: usize,
    pub sizes: Sizes,
    pub window: Window,
}

/// Why a process did not start.
#[derive(Debug)]
pub enum StartFailure {
    Storage(StorageError),
    Ring(RingError),
    Catalog(CatalogError),
    Handoff(HandoffError),
}

pub const CLUSTER: &str = "simulated";

pub fn start(
    host: &Host,
    id: ProcessId,
    disk: &SimDisk,
    clock: &Arc<SimClock>,
    random: &mut Random,
    loss: Loss,
) -> Result<Process, StartFailure> {
    let shared: Arc<dyn kula_disk::Disk> = Arc::new(disk.clone());
    let mut opened =
        kula_storage::open(Arc::clone(&shared), &host.storage, &**clock, loss).map_err(StartFailure::Storage)?;
    let identity = opened.identity();
    let me = RingNode {
        id: identity.node,
        name: host.name.clone(),
        address: host.address.clone(),
        dc: "dc1".into(),
        rack: host.rack.clone(),
        weight: 1,
    };
    let drawn = draw(random);
    let opening = Opening {
        me: me.clone(),
        cluster_name: CLUSTER.into(),
        partitioner: Partitioner::Murmur3,
        bound: identity.cluster,
        seeds: !host.seeds.is_empty(),
        drawn: drawn.clone(),
    };
    let ring = Arc::new(kula_ring::open(disk, opening).map_err(StartFailure::Ring)?);
    let acceptor = kula_ring::load_ballots(disk, ring.version).map_err(StartFailure::Ring)?;
    let schema = Arc::new(kula_catalog::open(disk, identity.cluster).map_err(StartFailure::Catalog)?);
    if ring.version > 0 {
        opened.bind_cluster(ring.cluster).map_err(StartFailure::Storage)?;
    }
    let store = HintStore::open(shared, host.sizes).map_err(StartFailure::Handoff)?;
    let courier = Courier::new(store, host.window, HandoffConfig::default().rate);

    let myself = Myself {
        cluster_name: CLUSTER.into(),
        node: identity.node,
        life: identity.life,
        boot: id.boot,
        name: host.name.clone(),
        address: host.address.clone(),
        lease_found: opened.told.found(),
    };
    let introduction = myself.introduction(&kula_ring::admission(&ring, &BTreeMap::new()));
    let (now, wall) = (clock.mono(), clock.wall());
    let about = About { http_address: "-".into(), dc: me.dc.clone(), rack: me.rack.clone(), weight: me.weight };
    let dice = SeededDice::new(random.next());
    let peers = Peers::new(myself, Arc::clone(&opened.told), backoff(move || dice.roll()));
    let (replay_sharding, hlc) = (opened.engine.sharding, Arc::clone(&opened.hlc));
    let (identity_file, sync, engine, _) = opened.into_parts();
    let shard_count = engine.shards.len();
    let process = Process {
        id,
        node: identity.node,
        me: me.clone(),
        clock: Arc::clone(clock),
        hlc: Arc::clone(&hlc),
        sharding: replay_sharding,
        ring: Arc::clone(&ring),
        schema: Arc::clone(&schema),
        membership: Membership::alone(introduction.clone(), about.clone()),
        post: Post::default(),
        identity: identity_file,
        storage: Storage::new(disk.clone(), engine.shards, engine.commit_log, sync, now),
        replicas: (0..shard_count)
            .map(|shard| {
                let shard_of = Arc::new(move |token: Token| usize::from(replay_sharding.shard_of(token)));
                kula_replica::machine::Machine::new(format!("replica/{shard}").into(), shard, shard_of)
            })
            .collect(),
        coordinators: (0..host.coordinators)
            .map(|index| {
                let path = format!("coordinator/{index}").into();
                let drawn = random.next();
                let actor = if planted(Mutant::ReusedActor) { id.machine as u64 + 1 } else { drawn };
                kula_coordinator::machine::Machine::new(path, Arc::clone(&hlc), Actor(actor), random.next())
            })
            .collect(),
        gossip: GossipRoom::new(machine::Machine::new(
            now,
            machine::Opening {
                me: introduction,
                about,
                generation: u64::try_from(wall.micros()).unwrap_or(0),
                seeds: host.seeds.clone(),
                config: GossipConfig::default(),
            },
        )),
        values: Values::new(
            kula_ring::Machine::new(Beginning {
                me: me.clone(),
                join: join(host),
                drawn,
                ring: Arc::clone(&ring),
                acceptor: acceptor.clone(),
            }),
            kula_catalog::Machine::new(schema),
        ),
        handoff: HandoffRoom::new(courier),
        peers,
        members: Members::default(),
        timers: BTreeMap::new(),
        timer_numbers: 0,
        born: micros(now.0),
        recalled: acceptor,
        settled_at: now.after(hlc.settles_in(wall)),
    };
    Ok(process)
}

fn join(host: &Host) -> Join {
    let first_seed = host.seeds.first().cloned().unwrap_or_default();
    Join { first_seed_is_me: first_seed == host.address, first_seed, expect: host.expect, seeds: host.seeds.len() }
}

fn draw(random: &mut Random) -> Drawn {
    let high = u128::from(random.next()) << 64 | u128::from(random.next());
    let mut secret = [0; 32];
    for part in secret.chunks_mut(8) {
        part.copy_from_slice(&random.next().to_le_bytes());
    }
    let cluster = ClusterId(uuid::Builder::from_random_bytes(high.to_be_bytes()).into_uuid());
    Drawn { cluster, context_secret: Secret::new(secret) }
}
