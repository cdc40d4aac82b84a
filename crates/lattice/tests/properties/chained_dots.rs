//! Property 8: intervals = sets. The model `chained_dots.py` on the real `Dots`: random actors, keys, forgetful
//! coordinators, lost and duplicated mutations, contexts, joins in any order; after every step each membership in the
//! key it touched is checked against a plain set, on every replica (the model checks the untouched keys again as well).

use kula_lattice::{Body, Dots, Join, Live, Seen};
use kula_testkit::{Random, lattice, property};
use kula_types::{Actor, Dot, Timestamp};
use proptest::{collection::vec, prelude::*};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const SCHEDULES: u64 = 3_000;

const KEYS: usize = 4;
const REPLICAS: usize = 3;
const STEPS: usize = 120;
/// Keys whose last dot an actor remembers.
const REMEMBERED: usize = 2;

struct Minter {
    actor: Actor,
    seq: u64,
    last: VecDeque<(usize, u64)>,
    remembered: usize,
}

impl Minter {
    fn new(actor: u64, remembered: usize) -> Self {
        Minter { actor: Actor(actor), seq: 0, last: VecDeque::new(), remembered }
    }

    fn mint(&mut self, key: usize) -> (Dot, u64) {
        self.seq += 1;
        let known = self.last.iter().position(|(known, _)| *known == key).and_then(|at| self.last.remove(at));
        let prev = known.map_or(self.seq - 1, |(_, seq)| seq);
        self.last.push_back((key, self.seq));
        if self.last.len() > self.remembered {
            self.last.pop_front();
        }
        (Dot::new(self.actor, 0, self.seq).expect("a dot"), prev)
    }
}

/// A key's state, and the same kept as plain sets.
#[derive(Clone, Default)]
struct Both {
    dots: Dots,
    live: BTreeMap<Dot, u64>,
    seen: BTreeSet<Dot>,
}

impl Both {
    fn join(&mut self, other: &Both) {
        self.dots.join(other.dots.clone());
        self.live.retain(|dot, _| other.live.contains_key(dot) || !other.seen.contains(dot));
        let theirs = other.live.iter().filter(|(dot, _)| !self.seen.contains(dot));
        self.live.extend(theirs.map(|(dot, prev)| (*dot, *prev)));
        self.seen.extend(&other.seen);
        assert!(self.dots.live.keys().eq(self.live.keys()), "{:?} is not {:?}", self.dots, self.live);
    }

    fn put(context: &BTreeMap<Dot, u64>, dot: Dot, prev: u64) -> Both {
        let body = Body::Full(bytes::Bytes::new());
        let mut dots = Dots::one(dot, Live { hlc: Timestamp::MIN, op_id: None, exp: None, body, prev });
        for (dot, prev) in context {
            dots.seen.insert(*dot, *prev);
        }
        let seen = context.keys().copied().chain([dot]).collect();
        Both { dots, live: BTreeMap::from([(dot, prev)]), seen }
    }
}

struct Schedule {
    random: Random,
    minters: Vec<Minter>,
    born: u64,
    replicas: Vec<Vec<Both>>,
    minted: Vec<Vec<Dot>>,
    flight: Vec<(usize, usize, Both)>,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        Schedule {
            random: Random::new(seed),
            minters: (0..3).map(|actor| Minter::new(actor, REMEMBERED)).collect(),
            born: 3,
            replicas: vec![vec![Both::default(); KEYS]; REPLICAS],
            minted: vec![Vec::new(); KEYS],
            flight: Vec::new(),
        }
    }

    /// One random event; the number of memberships checked after it.
    fn step(&mut self) -> u64 {
        let key = self.random.below(KEYS);
        let draw = self.random.below(100);
        let touched = if draw < 50 {
            self.put(key);
            key
        } else if draw < 80 && !self.flight.is_empty() {
            self.deliver()
        } else {
            let (to, from) = (self.random.below(REPLICAS), self.random.below(REPLICAS));
            if to != from {
                let other = std::mem::take(&mut self.replicas[from][key]);
                self.replicas[to][key].join(&other);
                self.replicas[from][key] = other;
            }
            key
        };
        self.check(touched)
    }

    /// The key of what arrived, perhaps not for the last time.
    fn deliver(&mut self) -> usize {
        let at = self.random.below(self.flight.len());
        let (to, key, delta) = self.flight.swap_remove(at);
        self.replicas[to][key].join(&delta);
        if self.random.percent(20) {
            self.flight.push((to, key, delta));
        }
        key
    }

    /// A blind delta whose context some replica's read gave.
    fn put(&mut self, key: usize) {
        let at = self.random.below(self.minters.len());
        if self.random.percent(5) {
            self.minters[at] = Minter::new(self.born, REMEMBERED);
            self.born += 1;
        }
        let read = &self.replicas[self.random.below(REPLICAS)][key].live;
        let context = if self.random.percent(80) { read.clone() } else { BTreeMap::new() };
        let (dot, prev) = self.minters[at].mint(key);
        self.minted[key].push(dot);
        let delta = Both::put(&context, dot, prev);
        for to in 0..REPLICAS {
            if self.random.percent(70) {
                self.flight.push((to, key, delta.clone()));
            }
        }
    }

    fn check(&self, key: usize) -> u64 {
        let mut checks = 0;
        for replica in &self.replicas {
            let Both { dots, seen, .. } = &replica[key];
            for dot in &self.minted[key] {
                assert_eq!(dots.seen.contains(*dot), seen.contains(dot), "{dot:?} in {:?}", dots.seen);
            }
            checks += self.minted[key].len() as u64;
        }
        checks
    }
}

#[test]
fn intervals_are_sets_over_3_000_schedules() {
    let mut checks = 0;
    for seed in 0..SCHEDULES {
        let mut schedule = Schedule::new(seed);
        for _ in 0..STEPS {
            checks += schedule.step();
        }
        checks += (0..KEYS).map(|key| schedule.check(key)).sum::<u64>();
    }
    assert!(checks > 2_000_000, "{checks} checks");
}

#[test]
fn a_key_overwritten_100_000_times_through_one_coordinator_is_one_interval() {
    let mut minter = Minter::new(1, 1_000);
    let mut seen = Seen::new();
    for count in 0..100_000 {
        if count % 7 == 0 {
            minter.mint(1 + count);
        }
        let (dot, prev) = minter.mint(0);
        seen.insert(dot, prev);
    }
    assert_eq!(seen.len(), 1);
}

proptest! {
    #![proptest_config(property())]

    /// Without any chain, intervals are sets of sequences, epoch by epoch.
    #[test]
    fn seen_is_a_set_of_sequences(left in vec((lattice::dot(), 1u64..4), 0..30), right in vec((lattice::dot(), 1u64..4), 0..30)) {
        let insert = |dots: &[(Dot, u64)]| {
            let (mut seen, mut set) = (Seen::new(), BTreeSet::new());
            for (dot, gap) in dots {
                let prev = dot.seq().saturating_sub(*gap);
                seen.insert(*dot, prev);
                set.extend((prev + 1..=dot.seq()).map(|seq| (dot.actor(), dot.epoch(), seq)));
            }
            (seen, set)
        };
        let ((mut seen, mut set), (other_seen, other_set)) = (insert(&left), insert(&right));
        seen.join(other_seen);
        set.extend(other_set);
        for (dot, _) in left.iter().chain(&right) {
            for seq in dot.seq().saturating_sub(5).max(1)..=(dot.seq() + 2).min(Dot::SEQ_MAX) {
                let near = Dot::new(dot.actor(), dot.epoch(), seq).expect("a dot");
                prop_assert_eq!(seen.contains(near), set.contains(&(near.actor(), near.epoch(), seq)));
            }
        }
        prop_assert_eq!(seen.iter().map(|run| run.seq - run.prev).sum::<u64>(), set.len() as u64);
    }
}
