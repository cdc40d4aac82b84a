//! The catalogue and the ring as actors under a supervisor, on a simulated disk.

use crate::{
    AlterKeyspace, CatalogActor, CatalogError, CreateKeyspace, CreateTable, DropKeyspace, Get, SchemaHandle, Spawn,
    scripts::ring_of, state,
};
use futures::future::BoxFuture;
use kula_actor::{Backoff, Door, Escalation, Intensity, Place, Registry, Reply, Snapshot, Strategy, Supervisor};
use kula_clock::{Hlc, ManualClock, Told};
use kula_disk::{
    SimDisk,
    sim::{Fault, Survivors, Target},
};
use kula_gossip::{About, Gossip, Membership};
use kula_net::{Listener, Net, Socket};
use kula_placement::KeyspaceSettings;
use kula_ring::{Drawn, Join, RingHandle};
use kula_schema::{Schema, TableKind, TableOptions};
use kula_transport::{Admission, Myself, Peers};
use kula_types::{ClusterId, Life, Name, Timestamp};
use std::{
    future::Future,
    io,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{sync::oneshot, task::LocalSet};

struct House {
    disk: SimDisk,
    ring: RingHandle,
    schema: SchemaHandle,
    catalog: Door<CatalogActor>,
    hlc: Arc<Hlc>,
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A node that nobody talks to.
fn nobody(registry: &Registry, clock: Arc<ManualClock>) -> (Gossip, Peers) {
    let me = ring_of(1).nodes[0].clone();
    let myself = Myself {
        cluster_name: "test".into(),
        node: me.id,
        life: Life(1),
        boot: 1,
        name: me.name,
        address: me.address,
        lease_found: None,
    };
    let about = About { http_address: "127.0.0.1:7070".into(), dc: me.dc, rack: me.rack, weight: me.weight };
    let membership = Membership::alone(myself.introduction(&Admission::default()), about);
    let transport = kula_transport::Spawn {
        me: myself,
        admission: Admission::default(),
        net: Arc::new(NoNet),
        listener: Box::new(NoNet),
        clock,
        told: Arc::new(Told::new(None, false)),
        hlc: Arc::new(Hlc::starting_above(None)),
        roll: Arc::new(|| 0.5),
        places: vec![Place::Local],
        log: slog::Logger::root(slog::Discard, slog::o!()),
    };
    let (peers, _) = kula_transport::spawn(transport, registry);
    (Gossip::standing(Snapshot::new(Arc::new(membership))), peers)
}

/// Nobody is reached, nobody comes.
struct NoNet;

impl Net for NoNet {
    fn connect(&self, _: &str) -> BoxFuture<'static, io::Result<Socket>> {
        Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
    }

    fn listen(&self, _: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}

impl Listener for NoNet {
    fn poll_accept(&mut self, _: &mut Context<'_>) -> Poll<io::Result<(Socket, String)>> {
        Poll::Pending
    }

    fn address(&self) -> io::Result<String> {
        Ok("127.0.0.1:7000".into())
    }
}

/// Runs `story` beside the two actors; answers how the tree ended.
fn live<F: Future<Output = ()> + 'static>(story: impl FnOnce(House) -> F) -> Result<(), Escalation> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let (disk, registry) = (SimDisk::new(1), Registry::new());
        let log = || slog::Logger::root(slog::Discard, slog::o!());
        let schema = state::open(&disk, None).unwrap();
        let clock: Arc<ManualClock> = Arc::new(ManualClock::at(Timestamp::from_micros(1).unwrap()));
        let (ring, me) = (ring_of(1), ring_of(1).nodes[0].clone());
        let (gossip, peers) = nobody(&registry, clock.clone());
        let join = Join { first_seed_is_me: false, first_seed: String::new(), expect: 1, seeds: 0 };
        let drawn = Drawn { cluster: ring.cluster, context_secret: ring.context_key().secret };
        let ring = kula_ring::Spawn {
            disk: Arc::new(disk.clone()),
            ring,
            me,
            join,
            drawn,
            gossip: gossip.clone(),
            peers: peers.clone(),
            clock: clock.clone(),
            roll: Arc::new(|| 0.5),
            place: Place::Local,
            log: log(),
        };
        let (ring_door, ring, _, ring_child) = kula_ring::spawn(ring, &registry);
        let hlc = Arc::new(Hlc::starting_above(None));
        hlc.extend(Timestamp::MAX);
        let spawn = Spawn {
            disk: Arc::new(disk.clone()),
            schema,
            ring: ring.clone(),
            ring_door,
            clock,
            hlc: hlc.clone(),
            gossip,
            peers,
            place: Place::Local,
            log: log(),
        };
        let (catalog, schema, catalog_child) = crate::spawn(spawn, &registry);
        let mut tree = Supervisor::new("node", Strategy::OneForOne, Intensity::default(), Backoff::default(), log());
        tree.add(ring_child);
        tree.add(catalog_child);
        let (stop, stopped) = oneshot::channel::<()>();
        let story = story(House { disk, ring, schema, catalog, hlc });
        tokio::task::spawn_local(async move {
            story.await;
            drop(stop);
        });
        tree.run(stopped).await
    })
}

#[test]
fn what_is_answered_is_published_and_survives_a_power_loss() {
    let ended = live(|house| async move {
        let (reply, answer) = Reply::pair();
        let settings = KeyspaceSettings { rf: 2, ..KeyspaceSettings::default() };
        house.catalog.tell(CreateKeyspace { name: name("shop"), settings: settings.clone(), reply }).unwrap();
        assert_eq!(answer.await.unwrap().unwrap().name, name("shop"));
        let (reply, answer) = Reply::pair();
        let options = TableOptions::default();
        let (keyspace, table) = (name("shop"), name("carts"));
        house.catalog.tell(CreateTable { keyspace, name: table, kind: TableKind::Causal, options, reply }).unwrap();
        let table = answer.await.unwrap().unwrap();

        let published = house.schema.load();
        assert_eq!(published.resolve("shop", "carts").unwrap(), table);
        assert_eq!(house.ring.load().settings(&name("shop")), Some(&settings));
        let after = house.disk.crash(Survivors::None);
        let cluster: ClusterId = house.ring.load().cluster;
        assert_eq!(&state::open(&after, Some(cluster)).unwrap(), &*published);
    });
    assert_eq!(ended, Ok(()));
}

#[test]
fn operations_sent_at_once_are_done_in_order_and_each_is_answered() {
    let ended = live(|house| async move {
        let settings = |rf| KeyspaceSettings { rf, ..KeyspaceSettings::default() };
        let (create, created) = Reply::pair();
        let (alter, altered) = Reply::pair();
        let (drop_it, dropped) = Reply::pair();
        let (again, created_again) = Reply::pair();
        let (get, got) = Reply::pair();
        house.catalog.tell(CreateKeyspace { name: name("shop"), settings: settings(1), reply: create }).unwrap();
        house.catalog.tell(AlterKeyspace { name: name("shop"), settings: settings(2), reply: alter }).unwrap();
        house.catalog.tell(DropKeyspace { name: name("shop"), reply: drop_it }).unwrap();
        house.catalog.tell(CreateKeyspace { name: name("shop"), settings: settings(3), reply: again }).unwrap();
        assert_eq!(created.await.unwrap().unwrap().generation, 0);
        assert_eq!(altered.await.unwrap().unwrap().generation, 0);
        assert!(dropped.await.unwrap().is_ok());
        assert_eq!(created_again.await.unwrap().unwrap().generation, 1);
        house.catalog.tell(Get { reply: get }).unwrap();
        assert_eq!(&*got.await.unwrap(), &*house.schema.load());
        assert_eq!(house.ring.load().settings(&name("shop")), Some(&settings(3)));
    });
    assert_eq!(ended, Ok(()));
}

// Promise: P12
#[test]
fn a_failed_sync_fences_the_node_and_nothing_is_acknowledged() {
    let ended = live(|house| async move {
        house.disk.inject(Target::Sync, 0, Fault::Io);
        let (reply, answer) = Reply::pair();
        let (keyspace, table, options) = (name("kv"), name("t"), TableOptions::default());
        house.catalog.tell(CreateTable { keyspace, name: table, kind: TableKind::Lww, options, reply }).unwrap();
        assert!(matches!(answer.await, Ok(Err(CatalogError::Disk(_)))));
        assert_eq!(&*house.schema.load(), &Schema::first());
        std::future::pending::<()>().await;
    });
    assert!(matches!(ended, Err(Escalation::Fenced { path, .. }) if &*path == "catalog"));
}

#[test]
fn without_a_clock_lease_nothing_is_created() {
    let ended = live(|house| async move {
        // Every stamp up to the lease was given out.
        house.hlc.observe(Timestamp::MAX, Timestamp::MAX);
        let (reply, answer) = Reply::pair();
        let (keyspace, table, options) = (name("kv"), name("t"), TableOptions::default());
        house.catalog.tell(CreateTable { keyspace, name: table, kind: TableKind::Lww, options, reply }).unwrap();
        assert!(matches!(answer.await, Ok(Err(CatalogError::ClockLease))));
    });
    assert_eq!(ended, Ok(()));
}
