//! A seeded model of several members: messages that are lost, doubled and overtake each other, crashes at any moment
//! (before and after what was being written became durable), several proposers. Then the faults end and it must heal.
//!
//! What is held: one ring a version; each version is the one before with one change; an acknowledged change is in the last
//! ring, one that was refused as "nothing has changed" is not.

use crate::{
    Acceptor, AskId, Beginning, CommitId, Effect, Event, Join, Machine, Neighbour, RingChange, RingError, Surroundings,
    Told, limits,
    scripts::{drawn, join, node},
};
use kula_disk::{DiskError, Operation};
use kula_placement::{KeyspaceSettings, Partitioner, Ring, RingContextKey};
use kula_testkit::Random;
use kula_types::{Mono, Name, NodeId};
use kula_wire::verbs::ring::{Accept, Ballot, Learn, Prepare};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

struct Member {
    machine: Option<Machine>,
    /// Counts starts: what was meant for an earlier process is not delivered.
    boot: u64,
    durable: (Arc<Ring>, Acceptor),
}

/// On its way to a member.
enum Parcel {
    Prepare(NodeId, Prepare),
    Accept(NodeId, Accept),
    Pull(NodeId, u64),
    Learn(NodeId, Learn),
    Told(NodeId, Option<(u64, Ballot)>, Told),
    /// No answer came in time.
    Silence(Event),
    Woken,
    Tick,
}

/// Who asked a member, and, if a vote was asked for, on what.
type Asker = Option<(NodeId, Option<(u64, Ballot)>)>;

struct World {
    random: Random,
    now: Mono,
    members: Vec<Member>,
    /// By time and a number; the boot it is meant for, if it must be this one.
    mail: BTreeMap<(Mono, u64), (usize, Option<u64>, Parcel)>,
    numbers: u64,
    faults: bool,
    rings: BTreeMap<u64, Arc<Ring>>,
    /// Which keyspace a commit makes.
    wanted: BTreeMap<CommitId, Name>,
    acknowledged: BTreeSet<Name>,
    refused: BTreeSet<Name>,
    unknown: u64,
    crashes: u64,
}

fn index(id: NodeId) -> usize {
    usize::try_from(id.0.as_u128() - 1).unwrap()
}

fn id(index: usize) -> NodeId {
    node(index as u128 + 1).id
}

fn ms(random: &mut Random, below: usize) -> Duration {
    Duration::from_millis(random.below(below) as u64)
}

fn waits_for_nothing() -> Join {
    join(false, 1, 1)
}

impl World {
    fn new(seed: u64, size: usize) -> World {
        let key = RingContextKey { id: 1, secret: drawn().context_secret, retired: None };
        let nodes = (1..=size as u128).map(node).collect();
        let ring = Ring::first(drawn().cluster, "test".into(), Partitioner::Murmur3, 8, nodes, key).unwrap();
        let ring = Arc::new(ring);
        let member = |_| Member { machine: None, boot: 0, durable: (ring.clone(), Acceptor::of(2)) };
        let mut world = World {
            random: Random::new(seed),
            now: Mono::default(),
            members: (0..size).map(member).collect(),
            mail: BTreeMap::new(),
            numbers: 0,
            faults: true,
            rings: BTreeMap::from([(1, ring)]),
            wanted: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            refused: BTreeSet::new(),
            unknown: 0,
            crashes: 0,
        };
        (0..size).for_each(|at| world.start(at));
        world
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn post(&mut self, to: usize, boot: Option<u64>, after: Duration, parcel: Parcel) {
        let key = (self.now.after(after), self.number());
        self.mail.insert(key, (to, boot, parcel));
    }

    /// Over the network.
    fn send(&mut self, to: NodeId, again: impl Fn() -> Parcel) {
        let to = index(to);
        if self.faults && self.random.percent(15) {
            return;
        }
        let copies = if self.faults && self.random.percent(10) { 2 } else { 1 };
        for _ in 0..copies {
            let most = if self.faults && self.random.percent(5) { 3_000 } else { 20 };
            let after = ms(&mut self.random, most);
            self.post(to, None, after, again());
        }
    }

    fn start(&mut self, at: usize) {
        let member = &mut self.members[at];
        member.boot += 1;
        let (ring, acceptor) = member.durable.clone();
        let (me, join, boot) = (node(at as u128 + 1), waits_for_nothing(), member.boot);
        // What `ballots::load` does.
        let acceptor = if acceptor.version == ring.version + 1 { acceptor } else { Acceptor::of(ring.version + 1) };
        member.machine = Some(Machine::new(Beginning { me, join, drawn: drawn(), ring, acceptor }));
        self.post(at, Some(boot), Duration::ZERO, Parcel::Tick);
    }

    fn crash(&mut self, at: usize) {
        self.crashes += 1;
        self.members[at].machine = None;
    }

    fn step(&mut self, at: usize, event: Event) {
        self.step_for(at, None, event);
    }

    /// `asker`: who asked, and about what; replies go there.
    fn step_for(&mut self, at: usize, asker: Asker, event: Event) {
        let roll = self.random.below(1000) as f64 / 1000.0;
        let Some(machine) = &mut self.members[at].machine else { return };
        let mut effects = Vec::new();
        machine.step(self.now, roll, event, &mut effects);
        let mut stored = None;
        for effect in effects {
            match effect {
                Effect::Store { ring } => {
                    let Some(outcome) = self.write(at, |durable| durable.0 = ring.clone()) else { return };
                    self.decided(&ring);
                    stored = Some(outcome);
                }
                Effect::StoreBallots { acceptor } => {
                    let Some(outcome) = self.write(at, |durable| durable.1 = acceptor) else { return };
                    stored = Some(outcome);
                }
                Effect::Reply { reply, .. } => {
                    let (from, asked) = asker.expect("a reply to a question");
                    self.send(from, || Parcel::Told(id(at), asked, reply.clone()));
                }
                other => self.obey(at, other),
            }
        }
        if let Some(outcome) = stored {
            self.step_for(at, asker, Event::Stored { outcome });
        }
    }

    /// `None`: it crashed meanwhile, and what it wrote is there or not.
    fn write(&mut self, at: usize, write: impl FnOnce(&mut (Arc<Ring>, Acceptor))) -> Option<Result<(), RingError>> {
        match (self.faults, self.random.below(100)) {
            (true, 0) => {
                self.crash(at);
                None
            }
            (true, 1) => {
                write(&mut self.members[at].durable);
                let ring = self.members[at].durable.0.clone();
                self.decided(&ring);
                self.crash(at);
                None
            }
            (true, 2) => Some(Err(RingError::DiskFull)),
            (true, 3) => {
                write(&mut self.members[at].durable);
                let name = "ring".into();
                let error = DiskError::TooManyFiles { operation: Operation::SyncDir, name, errno: 24 };
                Some(Err(error.into()))
            }
            _ => {
                write(&mut self.members[at].durable);
                Some(Ok(()))
            }
        }
    }

    /// A ring is about to be in force somewhere: it must be the one of its version, and one change from the one before.
    fn decided(&mut self, ring: &Arc<Ring>) {
        let known = self.rings.entry(ring.version).or_insert_with(|| ring.clone()).clone();
        assert_eq!(*known, **ring, "two rings of version {}", ring.version);
        if let Some(before) = ring.version.checked_sub(1).filter(|version| *version > 0) {
            let before = self.rings.get(&before).expect("the version before was in force somewhere");
            let new = ring.keyspaces.iter().filter(|(name, _)| !before.keyspaces.contains_key(*name)).count();
            assert_eq!((new, ring.keyspaces.len()), (1, before.keyspaces.len() + 1), "one change a version");
        }
    }

    fn obey(&mut self, at: usize, effect: Effect) {
        let (from, boot) = (id(at), self.members[at].boot);
        let late = limits::ASK_WITHIN;
        match effect {
            Effect::Prepare { to, prepare } => {
                self.send(to, || Parcel::Prepare(from, prepare.clone()));
                let (version, ballot) = (prepare.version, prepare.ballot);
                let silence = Event::Prepared { from: to, version, ballot, answer: None };
                self.post(at, Some(boot), late, Parcel::Silence(silence));
            }
            Effect::Accept { to, accept } => {
                self.send(to, || Parcel::Accept(from, accept.clone()));
                let (version, ballot) = (accept.version, accept.ballot);
                let silence = Event::Accepted { from: to, version, ballot, answer: None };
                self.post(at, Some(boot), late, Parcel::Silence(silence));
            }
            Effect::Pull { from: to, have } => {
                self.send(to, || Parcel::Pull(from, have));
                self.post(at, Some(boot), late, Parcel::Silence(Event::Pulled { from: to, answer: None }));
            }
            Effect::Learn { to, learn } => self.send(to, || Parcel::Learn(from, learn.clone())),
            Effect::Wake { after } => self.post(at, Some(boot), after, Parcel::Woken),
            Effect::Answer { id, answer } => {
                let name = self.wanted.remove(&id).expect("a commit is answered once");
                match answer {
                    Ok(ring) => {
                        assert!(ring.keyspaces.contains_key(&name), "acknowledged and not in it");
                        self.acknowledged.insert(name);
                    }
                    Err(error) if error.may_have_changed() => self.unknown += 1,
                    Err(_) => drop(self.refused.insert(name)),
                }
            }
            Effect::Publish { .. } | Effect::View { .. } | Effect::Notice { .. } => (),
            Effect::Reply { .. } | Effect::Store { .. } | Effect::StoreBallots { .. } => panic!("done in `step_for`"),
            Effect::Fence { cause } => panic!("{cause}"),
        }
    }

    fn deliver(&mut self, at: usize, parcel: Parcel) {
        let ask = AskId(self.number());
        match parcel {
            Parcel::Prepare(from, prepare) => {
                let asked = Some((prepare.version, prepare.ballot));
                self.step_for(at, Some((from, asked)), Event::Prepare { id: ask, from, prepare });
            }
            Parcel::Accept(from, accept) => {
                let asked = Some((accept.version, accept.ballot));
                self.step_for(at, Some((from, asked)), Event::Accept { id: ask, from, accept });
            }
            Parcel::Pull(from, have) => self.step_for(at, Some((from, None)), Event::PullRing { id: ask, from, have }),
            Parcel::Learn(from, learn) => self.step(at, Event::Learn { from, ring: learn.ring.0 }),
            Parcel::Told(from, Some((version, ballot)), Told::Prepared(answer)) => {
                self.step(at, Event::Prepared { from, version, ballot, answer: Some(answer) });
            }
            Parcel::Told(from, Some((version, ballot)), Told::Accepted(answer)) => {
                self.step(at, Event::Accepted { from, version, ballot, answer: Some(answer) });
            }
            Parcel::Told(from, _, Told::Pulled(answer)) => self.step(at, Event::Pulled { from, answer: Some(answer) }),
            Parcel::Told(_, None, _) => panic!("a vote is on a version"),
            Parcel::Silence(event) => self.step(at, event),
            Parcel::Woken => self.step(at, Event::Woken),
            Parcel::Tick => {
                let surroundings = self.surroundings(at);
                let boot = self.members[at].boot;
                self.post(at, Some(boot), limits::TICK, Parcel::Tick);
                self.step(at, Event::Tick { surroundings });
            }
        }
    }

    /// What gossip would show, if it is let through.
    fn surroundings(&mut self, at: usize) -> Surroundings {
        let mut nodes = Vec::new();
        for other in (0..self.members.len()).filter(|other| *other != at) {
            let silent = self.faults && self.random.percent(50);
            if let (Some(machine), false) = (&self.members[other].machine, silent) {
                let ring_version = machine.ring().version;
                nodes.push(Neighbour { node: node(other as u128 + 1), up: true, ring_version });
            }
        }
        Surroundings { nodes, links: Vec::new() }
    }

    fn commit(&mut self, at: usize) {
        let id = CommitId(self.number());
        let name: Name = format!("k{}", id.0).parse().unwrap();
        if self.members[at].machine.is_some() {
            self.wanted.insert(id, name.clone());
            let settings = KeyspaceSettings::default();
            self.step(
                at,
                Event::Commit { id, change: RingChange::CreateKeyspace { name, settings, instead_of: None } },
            );
        }
    }

    /// Lets time pass.
    fn run_until(&mut self, end: Mono) {
        while let Some(entry) = self.mail.first_entry()
            && entry.key().0 <= end
        {
            let ((at_time, _), (at, boot, parcel)) = entry.remove_entry();
            self.now = at_time.max(self.now);
            if boot.is_none_or(|boot| boot == self.members[at].boot) {
                self.deliver(at, parcel);
            }
        }
        self.now = end;
    }

    fn fault_phase(&mut self) {
        for _ in 0..40 {
            let until = self.now.after(ms(&mut self.random, 800));
            self.run_until(until);
            let at = self.random.below(self.members.len());
            match self.random.below(10) {
                0 => self.crash(at),
                1..=4 if self.members[at].machine.is_none() => self.start(at),
                1..=7 => self.commit(at),
                // Two at once.
                _ => {
                    self.commit(at);
                    self.commit((at + 1) % self.members.len());
                }
            }
        }
    }

    fn heal(&mut self) {
        self.faults = false;
        for at in 0..self.members.len() {
            if self.members[at].machine.is_none() {
                self.start(at);
            }
        }
        self.run_until(self.now.after(Duration::from_secs(20)));
    }

    fn in_force(&self) -> Vec<Arc<Ring>> {
        self.members.iter().filter_map(|member| Some(member.machine.as_ref()?.ring().clone())).collect()
    }

    /// Everybody proposes at once, and all of it is made.
    fn all_commit(&mut self) {
        let before = self.acknowledged.len();
        (0..self.members.len()).for_each(|at| self.commit(at));
        self.run_until(self.now.after(limits::COMMIT_WITHIN));
        assert_eq!(self.acknowledged.len(), before + self.members.len(), "refused: {:?}", self.refused);
    }
}

/// What happened, summed over seeds, to see that the model meets what it is for.
#[derive(Default, Debug)]
struct Met {
    versions: usize,
    crashes: u64,
    unknown: u64,
    refused: usize,
}

fn run(seed: u64, met: &mut Met) {
    let mut world = World::new(seed, 3 + usize::try_from(seed % 3).unwrap());
    world.fault_phase();
    world.heal();
    world.all_commit();
    world.run_until(world.now.after(Duration::from_secs(3)));
    let rings = world.in_force();
    let last = world.rings.values().next_back().unwrap();
    assert!(rings.iter().all(|ring| ring == last), "everybody has the last ring");
    let lost: Vec<&Name> = world.acknowledged.iter().filter(|name| !last.keyspaces.contains_key(*name)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let risen: Vec<&Name> = world.refused.iter().filter(|name| last.keyspaces.contains_key(*name)).collect();
    assert!(risen.is_empty(), "refused and made: {risen:?}");
    met.versions += world.rings.len();
    met.crashes += world.crashes;
    met.unknown += world.unknown;
    met.refused += world.refused.len();
}

#[test]
fn no_version_is_decided_twice_nothing_acknowledged_is_lost_and_it_heals() {
    let mut met = Met::default();
    let seeds = std::env::var("RING_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    for seed in 0..seeds {
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, &mut met)));
        assert!(ran.is_ok(), "seed {seed}");
    }
    assert!(met.versions > 500 && met.crashes > 300 && met.unknown > 5 && met.refused > 20, "{met:?}");
}
