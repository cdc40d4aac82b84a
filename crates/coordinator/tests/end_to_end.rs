//! Coordinators, replicas and the real storage under one supervisor, on a simulated disk: what a client sees of one
//! durable node, by the path that several nodes use.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests; the lint knows only functions marked so")]

use bytes::Bytes;
use kula_actor::{
    Backoff, Door, Escalation, Intensity, MailboxConfig, Pending, Place, Registry, Reply, Snapshot, Strategy,
    Supervisor,
};
use kula_catalog::{CatalogActor, SchemaHandle};
use kula_clock::{Clock, Hlc, ManualClock, SystemDice, Told};
use kula_coordinator::{
    Applied, Change, CoordinatorError, Coordinators, Found, NoPeers, PeerSender, Read, ReadAnswer, ReplicaOutcome,
    Target, Write, WriteAnswer,
};
use kula_disk::{Disk, SimDisk, log::Loss};
use kula_gossip::{About, Gossip, Membership};
use kula_handoff::Handoff;
use kula_lattice::Join as _;
use kula_net::{Net, OsNet};
use kula_placement::{KeyspaceSettings, Partitioner, Ring, RingContextKey, RingNode, Secret};
use kula_replica::{Outcome, Replicas, Request};
use kula_ring::{Join, RingActor, RingHandle};
use kula_schema::{Schema, TableDefinition, TableKind, TableOptions};
use kula_storage::{Compression, Places, StorageConfig, SyncMode};
use kula_transport::{Admission, Myself, Peers};
use kula_types::{ClusterId, Consistency, Life, Mono, NodeId, PartitionKey, Timestamp, Token};
use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

const WALL: i64 = 1_000_000_000;

struct Node {
    coordinators: Coordinators,
    clock: Arc<ManualClock>,
    registry: Registry,
}

fn node(index: usize) -> NodeId {
    NodeId(format!("00000000-0000-0000-0000-{index:012}").parse().unwrap())
}

fn me() -> NodeId {
    node(1)
}

/// A ring of so many nodes; three copies are asked for.
fn ring(nodes: usize) -> Ring {
    let member = |index: usize| RingNode {
        id: node(index),
        name: format!("n{index}"),
        address: format!("127.0.0.{index}:7000"),
        dc: "dc1".into(),
        rack: "a".into(),
        weight: 1,
    };
    let cluster = ClusterId("00000000-0000-0000-0000-00000000000c".parse().unwrap());
    let key = RingContextKey { id: 1, secret: Secret::new([7; 32]), retired: None };
    let alone = Ring::alone(cluster, "test".into(), Partitioner::Murmur3, 256, member(1), key).unwrap();
    let mut facts = alone.facts().clone();
    facts.keyspaces.insert("kv".parse().unwrap(), KeyspaceSettings::default());
    facts.nodes.extend((2..=nodes).map(member));
    for (partition, owner) in facts.datacentres[0].owners.iter_mut().enumerate() {
        *owner = u16::try_from(partition % nodes).unwrap();
    }
    Ring::new(facts).unwrap()
}

/// Peers that are within reach and answer when the test says so.
#[derive(Default)]
struct HeldPeers {
    held: Mutex<Vec<(NodeId, Request)>>,
}

impl PeerSender for HeldPeers {
    fn reaches(&self, _: NodeId) -> bool {
        true
    }

    fn send(&self, node: NodeId, requests: Vec<(Token, Request)>) {
        self.held.lock().unwrap().extend(requests.into_iter().map(|(_, request)| (node, request)));
    }
}

fn schema() -> Schema {
    let mut schema = Schema::first();
    let definition =
        TableDefinition { name: "lww".parse().unwrap(), kind: TableKind::Lww, options: TableOptions::default() };
    let created = Timestamp::from_micros(1).unwrap();
    let (delta, _) = schema.create_table(&"kv".parse().unwrap(), &definition, created).unwrap();
    schema.join(delta);
    schema
}

fn config() -> StorageConfig {
    StorageConfig {
        shards: Some(2),
        memtable_heap: 64 << 20,
        memtable_cleanup_threshold: 0.2,
        commitlog_total: 4 << 20,
        commitlog_segment: 1 << 20,
        sync: SyncMode::Group {},
        compression: Compression::Lz4,
    }
}

/// Runs `body` beside a supervised node and stops it in order.
fn run<F: Future<Output = ()>>(disk: &SimDisk, body: impl FnOnce(Node) -> F) -> Result<(), Escalation> {
    run_in(ring(1), Arc::new(NoPeers), disk, body)
}

fn run_in<F: Future<Output = ()>>(
    ring: Ring,
    peers: Arc<dyn PeerSender>,
    disk: &SimDisk,
    body: impl FnOnce(Node) -> F,
) -> Result<(), Escalation> {
    actix_rt::System::new().block_on(async {
        let clock = Arc::new(ManualClock::at(Timestamp::from_micros(WALL).unwrap()));
        let opened = kula_storage::open(Arc::new(disk.clone()), &config(), &*clock, Loss::Refuse).unwrap();
        let (registry, log) = (Registry::new(), slog::Logger::root(slog::Discard, slog::o!()));
        let hlc = opened.hlc.clone();
        let shards = vec![Place::Local; 2];
        let places =
            Places { shards: shards.clone(), commit_log: Place::Local, flush: Place::Local, identity: Place::Local };
        let (storage, mut children) = kula_storage::spawn(opened, &registry, places, clock.clone(), &log);
        let rooms = Below::spawn(ring, clock.clone(), &hlc, &registry, &log).await;
        let Below { ring, schema, peers: transport, gossip, ring_door, catalog_door } = rooms;
        let (replicas, of_replicas): (Replicas, _) = kula_replica::spawn(
            kula_replica::Spawn {
                ring: ring.clone(),
                schema: schema.clone(),
                clock: clock.clone(),
                hlc: hlc.clone(),
                storage,
                places: shards,
                peers: transport,
                inbound: Place::Local,
                ring_door: ring_door.clone(),
                catalog_door,
            },
            &registry,
        );
        let (coordinators, of_coordinators) = kula_coordinator::spawn(
            kula_coordinator::Spawn {
                me: me(),
                ring,
                schema,
                hlc,
                clock: clock.clone(),
                dice: Arc::new(SystemDice),
                replicas,
                peers,
                handoff: Handoff::none(),
                gossip,
                ring_door,
                places: vec![Place::Local; 2],
                mailbox: MailboxConfig::default(),
                log: log.clone(),
            },
            &registry,
        );
        children.extend(of_replicas);
        children.extend(of_coordinators);
        let mut supervisor =
            Supervisor::new("node", Strategy::OneForOne, Intensity::default(), Backoff::default(), log);
        children.into_iter().for_each(|child| supervisor.add(child));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let body = async {
            body(Node { coordinators, clock, registry }).await;
            drop(stop);
        };
        tokio::select! {
            biased;
            ended = supervisor.run(stopped) => ended,
            () = async { body.await; std::future::pending().await } => unreachable!("it waits for ever"),
        }
    })
}

/// What stands below replicas and coordinators; none of it runs, and nobody else is there.
struct Below {
    ring: RingHandle,
    schema: SchemaHandle,
    peers: Peers,
    gossip: Gossip,
    ring_door: Door<RingActor>,
    catalog_door: Door<CatalogActor>,
}

impl Below {
    async fn spawn(
        ring: Ring,
        clock: Arc<dyn Clock>,
        hlc: &Arc<Hlc>,
        registry: &Registry,
        log: &slog::Logger,
    ) -> Below {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        let me = ring.nodes[0].clone();
        let myself = Myself {
            cluster_name: "test".into(),
            node: me.id,
            life: Life(1),
            boot: 1,
            name: me.name.clone(),
            address: me.address.clone(),
            lease_found: None,
        };
        let about =
            About { http_address: "127.0.0.1:7080".into(), dc: me.dc.clone(), rack: me.rack.clone(), weight: 1 };
        let alone = Membership::alone(myself.introduction(&Admission::default()), about);
        let gossip = Gossip::standing(Snapshot::new(Arc::new(alone)));
        let spawn = kula_transport::Spawn {
            me: myself,
            admission: Admission::default(),
            net: Arc::new(OsNet),
            listener: OsNet.listen("127.0.0.1:0").await.unwrap(),
            clock: clock.clone(),
            told: Arc::new(Told::new(None, false)),
            hlc: Arc::clone(hlc),
            roll: Arc::new(|| 0.5),
            places: vec![Place::Local],
            log: log.clone(),
        };
        let (peers, _) = kula_transport::spawn(spawn, registry);
        let join = Join { first_seed_is_me: true, first_seed: me.address.clone(), expect: 1, seeds: 0 };
        let spawn = kula_ring::Spawn {
            disk: disk.clone(),
            ring,
            me,
            join,
            drawn: kula_ring::draw(&SystemDice).unwrap(),
            gossip: gossip.clone(),
            peers: peers.clone(),
            clock: clock.clone(),
            roll: Arc::new(|| 0.5),
            place: Place::Local,
            log: log.clone(),
        };
        let (ring_door, ring, _, _) = kula_ring::spawn(spawn, registry);
        let spawn = kula_catalog::Spawn {
            disk,
            schema: schema(),
            ring: ring.clone(),
            ring_door: ring_door.clone(),
            clock,
            hlc: Arc::clone(hlc),
            gossip: gossip.clone(),
            peers: peers.clone(),
            place: Place::Local,
            log: log.clone(),
        };
        let (catalog_door, schema, _) = kula_catalog::spawn(spawn, registry);
        Below { ring, schema, peers, gossip, ring_door, catalog_door }
    }
}

fn target(table: &str, key: &str) -> Target {
    Target { keyspace: "kv".into(), table: table.into(), key: PartitionKey::copy_from(key.as_bytes()) }
}

fn put(table: &str, key: &str, value: &str) -> Write {
    let value = Bytes::copy_from_slice(value.as_bytes());
    Write {
        target: target(table, key),
        change: Change::Put { value, content_type: Some("text/plain".into()) },
        context: None,
        timestamp: None,
        ttl: None,
        idempotency_key: None,
        consistency: Consistency::Quorum,
        deadline: Mono::from_millis(60_000),
        reply: Reply::ignored(),
    }
}

fn delete(table: &str, key: &str) -> Write {
    Write { change: Change::Delete, ..put(table, key, "") }
}

impl Node {
    fn begin(&self, mut write: Write) -> Pending<Result<WriteAnswer, CoordinatorError>> {
        let (reply, pending) = Reply::pair();
        write.reply = reply;
        self.coordinators.write(write);
        pending
    }

    async fn write(&self, write: Write) -> Result<WriteAnswer, CoordinatorError> {
        self.begin(write).await.unwrap()
    }

    async fn read(&self, table: &str, key: &str) -> ReadAnswer {
        let (reply, pending) = Reply::pair();
        let (consistency, deadline) = (Consistency::Quorum, Mono::from_millis(60_000));
        self.coordinators.read(Read { target: target(table, key), resolve_lww: false, consistency, deadline, reply });
        pending.await.unwrap().unwrap()
    }

    async fn values(&self, table: &str, key: &str) -> Vec<String> {
        let text = |value: &kula_coordinator::Value| String::from_utf8(value.value.to_vec()).unwrap();
        match self.read(table, key).await.found {
            Found::Nothing => Vec::new(),
            Found::One(value) => {
                assert_eq!(value.content_type.as_deref(), Some("text/plain"));
                vec![text(&value)]
            }
            Found::Siblings { siblings, more } => {
                assert_eq!(more, 0);
                siblings.iter().map(|sibling| text(&sibling.value)).collect()
            }
        }
    }
}

#[test]
fn a_bucket_keeps_siblings_until_a_context_replaces_them() {
    let ended = run(&SimDisk::new(1), |node| async move {
        let answer = node.write(put("default", "cart", "milk")).await.unwrap();
        assert_eq!((answer.acked, answer.rf, answer.hinted), (1, 1, 0));
        assert!(matches!(answer.replicas[0].outcome, ReplicaOutcome::Applied));
        node.write(put("default", "cart", "eggs")).await.unwrap();
        assert_eq!(node.values("default", "cart").await, ["milk", "eggs"]);

        let context = node.read("default", "cart").await.context;
        assert!(context.is_some());
        node.write(Write { context, ..put("default", "cart", "milk and eggs") }).await.unwrap();
        assert_eq!(node.values("default", "cart").await, ["milk and eggs"]);

        let own = answer.context;
        node.write(Write { context: own, ..put("default", "cart", "bread") }).await.unwrap();
        assert_eq!(node.values("default", "cart").await, ["milk and eggs", "bread"]);
        node.write(delete("default", "cart")).await.unwrap();
        assert_eq!(node.read("default", "cart").await.found, Found::Nothing);
    });
    assert_eq!(ended, Ok(()));
}

#[test]
fn the_later_write_wins_in_an_lww_table_and_a_lifetime_ends() {
    let ended = run(&SimDisk::new(2), |node| async move {
        node.write(put("lww", "k", "first")).await.unwrap();
        node.write(put("lww", "k", "second")).await.unwrap();
        let early = Timestamp::from_micros(5).unwrap();
        node.write(Write { timestamp: Some(early), ..put("lww", "k", "early") }).await.unwrap();
        assert_eq!(node.values("lww", "k").await, ["second"]);
        node.write(Write { ttl: Some(Duration::from_secs(1)), ..put("lww", "k", "short") }).await.unwrap();
        assert_eq!(node.values("lww", "k").await, ["short"]);
        node.clock.advance(Duration::from_secs(1));
        assert_eq!(node.values("lww", "k").await, Vec::<String>::new());
        node.write(put("lww", "k", "third")).await.unwrap();
        node.write(delete("lww", "k")).await.unwrap();
        assert_eq!(node.read("lww", "k").await.found, Found::Nothing);
    });
    assert_eq!(ended, Ok(()));
}

// Promise: P14
#[test]
fn a_wall_clock_set_back_by_years_does_not_stop_the_nodes_own_writes() {
    let disk = SimDisk::new(8);
    run(&disk, |node| async move {
        node.clock.jump_wall(Timestamp::from_micros(WALL - 10 * 365 * 86_400_000_000).unwrap());
        let answer = node.write(put("lww", "k", "after")).await;
        assert!(answer.is_ok(), "{answer:?}");
        assert_eq!(node.values("lww", "k").await, ["after"]);
    })
    .unwrap();
}

// Promise: P1
#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let disk = SimDisk::new(3);
    let ended = run(&disk, |node| async move {
        let writes: Vec<_> = (0..200).map(|n| node.begin(put("default", &format!("k{n}"), &format!("v{n}")))).collect();
        for write in writes {
            write.await.unwrap().unwrap();
        }
    });
    assert_eq!(ended, Ok(()));
    let ended = run(&disk, |node| async move {
        for n in 0..200 {
            assert_eq!(node.values("default", &format!("k{n}")).await, [format!("v{n}")]);
        }
    });
    assert_eq!(ended, Ok(()));
}

#[test]
fn refusals_are_typed_and_say_that_nothing_was_applied() {
    let ended = run(&SimDisk::new(4), |node| async move {
        // Dated further ahead than an owner takes: such a write would win for ever.
        let ahead = Timestamp::from_micros(WALL + 61_000_000).unwrap();
        let error = node.write(Write { timestamp: Some(ahead), ..put("lww", "k", "v") }).await.unwrap_err();
        assert!(matches!(error, CoordinatorError::ClockAhead { applied: Applied::No, .. }), "{error:?}");
        assert_eq!(node.read("lww", "k").await.found, Found::Nothing);

        let all = Write { consistency: Consistency::Two, ..put("lww", "k", "v") };
        let error = node.write(all).await.unwrap_err();
        assert!(matches!(error, CoordinatorError::Unavailable { need: 2, alive: 1, .. }), "{error:?}");

        let late = Write { deadline: Mono::default(), ..put("lww", "k", "v") };
        let error = node.write(late).await.unwrap_err();
        assert!(matches!(error, CoordinatorError::Overloaded { applied: Applied::No, .. }), "{error:?}");
    });
    assert_eq!(ended, Ok(()));
}

#[test]
fn blind_writes_past_the_cap_are_refused_with_the_context_to_go_on() {
    let ended = run(&SimDisk::new(5), |node| async move {
        let mut refused = None;
        for n in 0..=kula_types::limits::SIBLINGS_MAX {
            if let Err(error) = node.write(put("default", "k", &format!("v{n}"))).await {
                refused = Some(error);
                break;
            }
        }
        let Some(CoordinatorError::SiblingCap { siblings, context, applied: Applied::No, .. }) = refused else {
            panic!("no cap: {refused:?}");
        };
        assert_eq!(siblings, kula_types::limits::SIBLINGS_MAX);
        assert!(context.is_some());
        node.write(Write { context, ..put("default", "k", "merged") }).await.unwrap();
        assert_eq!(node.values("default", "k").await, ["merged"]);
        assert!(
            node.registry.render_metrics().contains("kula_requests_total{operation=\"put\",outcome=\"refused\"} 1")
        );
    });
    assert_eq!(ended, Ok(()));
}

// Promise: P11
#[test]
fn a_full_disk_refuses_writes_and_serves_reads() {
    let disk = SimDisk::new(6);
    let ended = run(&disk.clone(), |node| async move {
        node.write(put("default", "k", "kept")).await.unwrap();
        disk.set_space(Some(0));
        let mut refused = None;
        for n in 0..2_000 {
            // A log writes into room it has allocated before: it takes some writes until that is used up.
            if let Err(error) = node.write(put("default", &format!("k{n}"), &"x".repeat(2_000))).await {
                refused = Some(error);
                break;
            }
        }
        assert!(matches!(refused, Some(CoordinatorError::DiskFull { .. })), "{refused:?}");
        assert_eq!(node.values("default", "k").await, ["kept"]);
        disk.set_space(None);
        node.write(put("default", "after", "room")).await.unwrap();
        assert!(node.clock.mono() < Mono::from_millis(1));
    });
    assert_eq!(ended, Ok(()));
}

#[test]
fn owners_elsewhere_are_asked_and_one_that_stays_silent_ends_with_the_deadline() {
    let peers = Arc::new(HeldPeers::default());
    let ended = run_in(ring(3), peers.clone(), &SimDisk::new(7), |node| async move {
        let pending = node.begin(put("default", "k", "v"));
        let held = |count| {
            let peers = peers.clone();
            async move {
                while peers.held.lock().unwrap().len() < count {
                    tokio::task::yield_now().await;
                }
                std::mem::take(&mut *peers.held.lock().unwrap())
            }
        };
        // The local owner and one other make a quorum.
        let mut sent = held(2).await;
        let (one, request) = sent.remove(0);
        request.reply.send(Ok(Outcome::Applied));
        let answer = pending.await.unwrap().unwrap();
        assert_eq!((answer.acked, answer.rf), (2, 3));
        let applied = |report: &&kula_coordinator::ReplicaReport| matches!(report.outcome, ReplicaOutcome::Applied);
        let nodes: Vec<NodeId> = answer.replicas.iter().filter(applied).map(|report| report.node).collect();
        assert_eq!(nodes, [me(), one]);
        drop(sent);

        let deadline = Mono::from_millis(20);
        let pending = node.begin(Write { deadline, consistency: Consistency::All, ..put("default", "k", "w") });
        let silent = held(2).await;
        node.clock.advance(Duration::from_millis(20));
        let error = pending.await.unwrap().unwrap_err();
        assert!(matches!(error, CoordinatorError::Timeout { need: 3, acked: 1, .. }), "{error:?}");
        assert_eq!(error.applied(), Applied::Unknown);
        drop(silent);
    });
    assert_eq!(ended, Ok(()));
}
