//! Scenario H of the causality spike (`dvv2.py`): contexts are exact dots, writes are blind deltas, one replica forgets
//! a key. Run on the real `Cell`: 0 lost updates, 0 overwritten values that live again, in 20,000 schedules without and
//! 20,000 with the forgetful replica.
//!
//! Beside it scenario G, a version vector as context, which must lose updates, or this test could not see one. Also the
//! spike's `laws.py`: 30,000 sets of deltas joined in two orders.

use bytes::Bytes;
use kula_lattice::{Cell, CellView, Context, Join, NewSibling};
use kula_testkit::Random;
use kula_types::{Actor, Dot, Key, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

const SCHEDULES: u64 = 20_000;
const SCHEDULES_OF_THE_WRONG_SCHEME: u64 = 2_000;
const REPLICAS: usize = 3;

/// A causality scheme with contexts and blind writes.
trait Scheme: Clone + Default + PartialEq {
    type Context: Clone + Default;
    fn join(&mut self, other: &Self);
    fn context(&self) -> Self::Context;
    fn write(context: &Self::Context, actor: u64, seq: u64, prev: u64, value: u8) -> Self;
    fn values(&self) -> BTreeSet<u8>;
}

impl Scheme for Cell {
    type Context = Context;

    fn join(&mut self, other: &Self) {
        Join::join(self, other.clone());
    }

    fn context(&self) -> Context {
        view(self).context(usize::MAX)
    }

    fn write(context: &Context, actor: u64, seq: u64, prev: u64, value: u8) -> Self {
        let body = Bytes::copy_from_slice(&[value]);
        Cell::causal_put(context, dot(actor, seq), prev, NewSibling { hlc: NOW, op_id: None, exp: None, body })
    }

    fn values(&self) -> BTreeSet<u8> {
        view(self).siblings.iter().map(|sibling| sibling.body[0]).collect()
    }
}

const NOW: Timestamp = Timestamp::MIN;

fn view(cell: &Cell) -> CellView {
    cell.view(NOW, None)
}

fn dot(actor: u64, seq: u64) -> Dot {
    Dot::new(Actor(actor), 0, seq).expect("a dot")
}

/// Scenario G: a version vector says what was seen.
#[derive(Clone, Default, PartialEq)]
struct VersionVector {
    seen: BTreeMap<u64, u64>,
    siblings: BTreeMap<(u64, u64), u8>,
}

impl Scheme for VersionVector {
    type Context = BTreeMap<u64, u64>;

    fn join(&mut self, other: &Self) {
        let covers = |seen: &BTreeMap<u64, u64>, (actor, seq): (u64, u64)| seen.get(&actor).is_some_and(|s| *s >= seq);
        let mine = self.siblings.iter().filter(|(d, _)| other.siblings.contains_key(d) || !covers(&other.seen, **d));
        let theirs = other.siblings.iter().filter(|(d, _)| self.siblings.contains_key(d) || !covers(&self.seen, **d));
        self.siblings = mine.chain(theirs).map(|(dot, value)| (*dot, *value)).collect();
        for (actor, seq) in &other.seen {
            let mine = self.seen.entry(*actor).or_default();
            *mine = (*seq).max(*mine);
        }
    }

    fn context(&self) -> Self::Context {
        self.seen.clone()
    }

    fn write(context: &Self::Context, actor: u64, seq: u64, _prev: u64, value: u8) -> Self {
        let mut seen = context.clone();
        seen.insert(actor, seq.max(seen.get(&actor).copied().unwrap_or_default()));
        VersionVector { seen, siblings: BTreeMap::from([((actor, seq), value)]) }
    }

    fn values(&self) -> BTreeSet<u8> {
        self.siblings.values().copied().collect()
    }
}

#[derive(Default, PartialEq, Debug)]
struct Findings {
    diverged: u32,
    lost_updates: u32,
    overwritten_but_live: u32,
}

struct Schedule<S: Scheme> {
    random: Random,
    replicas: Vec<S>,
    /// Each replica coordinates too: its sequence, and the last it minted for this key if it remembers.
    minters: Vec<(u64, Option<u64>)>,
    flight: Vec<(usize, S)>,
    contexts: Vec<(S::Context, BTreeSet<u8>)>,
    overwritten: BTreeSet<u8>,
    values: u8,
    forgetful: bool,
}

impl<S: Scheme> Schedule<S> {
    fn new(seed: u64, forgetful: bool) -> Self {
        Schedule {
            random: Random::new(seed),
            replicas: vec![S::default(); REPLICAS],
            minters: vec![(0, None); REPLICAS],
            flight: Vec::new(),
            contexts: Vec::new(),
            overwritten: BTreeSet::new(),
            values: 0,
            forgetful,
        }
    }

    fn run(mut self, findings: &mut Findings) {
        for _ in 0..6 + self.random.below(11) {
            match self.random.below(100) {
                0..50 => self.write(),
                50..75 => self.read(),
                75..85 if !self.flight.is_empty() => {
                    let at = self.random.below(self.flight.len());
                    let (to, delta) = self.flight.swap_remove(at);
                    self.replicas[to].join(&delta);
                }
                85..95 if self.forgetful => self.forget(),
                _ => {
                    let from = self.random.below(REPLICAS);
                    let to = (from + 1 + self.random.below(REPLICAS - 1)) % REPLICAS;
                    self.exchange(from, to);
                }
            }
        }
        self.settle(findings);
    }

    /// A delta without a read before it, applied by the coordinator's replica and another, perhaps later by the third.
    fn write(&mut self) {
        let coordinator = self.random.below(REPLICAS);
        let (context, saw) = match self.contexts.is_empty() || self.random.percent(40) {
            true => Default::default(),
            false => self.random.pick(&self.contexts).clone(),
        };
        let (seq, last) = &mut self.minters[coordinator];
        // It writes other keys in between, and may no longer remember its last dot of this one.
        *seq += 1 + u64::from(self.random.percent(30));
        let prev = last.filter(|_| self.random.percent(70)).unwrap_or(*seq - 1);
        *last = Some(*seq);
        let delta = S::write(&context, coordinator as u64 + 1, *seq, prev, self.values);
        self.values += 1;
        self.overwritten.extend(saw);
        let second = (coordinator + 1 + self.random.below(REPLICAS - 1)) % REPLICAS;
        self.replicas[coordinator].join(&delta);
        self.replicas[second].join(&delta);
        if self.random.percent(50) {
            self.flight.push((REPLICAS - coordinator - second, delta));
        }
    }

    fn read(&mut self) {
        let first = self.random.below(REPLICAS);
        let mut joined = self.replicas[first].clone();
        if self.random.percent(50) {
            joined.join(&self.replicas[(first + 1) % REPLICAS]);
        }
        self.contexts.push((joined.context(), joined.values()));
    }

    /// One replica loses the key, once; every write is on two.
    fn forget(&mut self) {
        self.forgetful = false;
        let at = self.random.below(REPLICAS);
        self.replicas[at] = S::default();
        self.minters[at].1 = None;
        self.flight.retain(|(to, _)| *to != at);
    }

    fn exchange(&mut self, from: usize, to: usize) {
        let sent = self.replicas[from].clone();
        self.replicas[to].join(&sent);
    }

    fn settle(mut self, findings: &mut Findings) {
        for (to, delta) in std::mem::take(&mut self.flight) {
            self.replicas[to].join(&delta);
        }
        for _ in 0..2 {
            for from in 0..REPLICAS {
                for to in 0..REPLICAS {
                    self.exchange(from, to);
                }
            }
        }
        let values: Vec<BTreeSet<u8>> = self.replicas.iter().map(S::values).collect();
        let lost = |value: &u8| !self.overwritten.contains(value) && values.iter().any(|live| !live.contains(value));
        findings.diverged += u32::from(self.replicas.iter().any(|replica| *replica != self.replicas[0]));
        findings.lost_updates += u32::from((0..self.values).any(|value| lost(&value)));
        findings.overwritten_but_live += u32::from(values.iter().any(|live| !live.is_disjoint(&self.overwritten)));
    }
}

fn explore<S: Scheme>(schedules: u64, forgetful: bool) -> Findings {
    let mut findings = Findings::default();
    for seed in 0..schedules {
        Schedule::<S>::new(seed, forgetful).run(&mut findings);
    }
    findings
}

// Promise: P2
#[test]
fn no_update_is_lost_in_20_000_schedules() {
    assert_eq!(explore::<Cell>(SCHEDULES, false), Findings::default());
}

#[test]
fn no_update_is_lost_in_20_000_schedules_with_a_forgetful_replica() {
    assert_eq!(explore::<Cell>(SCHEDULES, true), Findings::default());
}

#[test]
fn a_version_vector_loses_updates_in_most_schedules() {
    let findings = explore::<VersionVector>(SCHEDULES_OF_THE_WRONG_SCHEME, true);
    assert!(u64::from(findings.lost_updates) * 2 > SCHEDULES_OF_THE_WRONG_SCHEME, "{findings:?}");
}

/// `laws.py`: causal puts and deletes with contexts of earlier dots and floors, beside LWW values, 30,000 times.
#[test]
fn deltas_of_the_whole_product_join_in_any_order_30_000_times() {
    for seed in 0..30_000 {
        let mut random = Random::new(seed);
        let deltas: Vec<Cell> = (1..=6).map(|seq| product_delta(seq, &mut random)).collect();
        let mut some = || {
            let mut cell = Cell::default();
            for delta in &deltas {
                if random.percent(50) {
                    Join::join(&mut cell, delta.clone());
                }
            }
            cell
        };
        let (a, b, c) = (some(), some(), some());
        let join = |left: &Cell, right: &Cell| {
            let mut joined = left.clone();
            Join::join(&mut joined, right.clone());
            joined
        };
        assert_eq!(join(&a, &b), join(&b, &a), "seed {seed}");
        assert_eq!(join(&a, &join(&b, &c)), join(&join(&a, &b), &c), "seed {seed}");
        assert_eq!(join(&a, &a), a, "seed {seed}");
        let forward = deltas.iter().fold(Cell::default(), |cell, delta| join(&cell, delta));
        let backward = deltas.iter().rev().fold(Cell::default(), |cell, delta| join(delta, &cell));
        assert_eq!(forward, backward, "seed {seed}");
    }
}

fn product_delta(seq: u64, random: &mut Random) -> Cell {
    let ts = |random: &mut Random| Timestamp::from_micros(1 + random.below(5) as i64).expect("a timestamp");
    let dots = (1..seq).filter(|_| random.percent(50)).map(|earlier| (dot(1, earlier), earlier - 1)).collect();
    let lww = if random.percent(50) { Some(Key::delete_at(ts(random))) } else { None };
    let context = Context { dots, lww };
    let body = Bytes::copy_from_slice(&seq.to_le_bytes());
    if random.percent(40) {
        Cell::put(Key::of(ts(random), dot(1, seq)), None, body)
    } else if random.percent(80) {
        let value = NewSibling { hlc: ts(random), op_id: None, exp: None, body };
        Cell::causal_put(&context, dot(1, seq), seq - 1, value)
    } else {
        Cell::causal_delete(&context, dot(1, seq), seq - 1)
    }
}
