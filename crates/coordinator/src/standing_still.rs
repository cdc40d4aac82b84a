//! What one owner that stands still may cost the clients of a coordinator: nothing but a moment.
//!
//! Virtual milliseconds: n1 (this node) answers at once, n2 after a millisecond, n3 never. Nobody suspects n3 unless a test
//! says so: its connection is up, as that of a paused process is for some seconds.

use crate::{
    error::CoordinatorError,
    fixture::{Coordinator, Double, Sent, answered, delete, get, list, node, put, ring},
    limits,
    machine::{Answered, Bounds, Effect, Event, HintAnswer},
};
use kula_placement::ReadRepair;
use kula_replica::Op;
use kula_types::{Consistency, Mono, NodeId};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

struct World {
    coordinator: Coordinator,
    replicas: BTreeMap<NodeId, Double>,
    /// What n2 answers a millisecond later.
    travelling: VecDeque<(Mono, Sent)>,
    /// Sent to n3, for ever unanswered.
    held: usize,
    longest: Duration,
    answered: usize,
    failed: usize,
    hints: usize,
    hedges: usize,
}

impl World {
    fn new(bounds: Bounds) -> Self {
        let mut coordinator = Coordinator::new(1, 1, 0, ring(1, 3, 3, ReadRepair::Blocking));
        coordinator.machine = coordinator.machine.with_bounds(bounds);
        World {
            coordinator,
            replicas: (1..=2).map(|index| (node(index), Double::default())).collect(),
            travelling: VecDeque::new(),
            held: 0,
            longest: Duration::ZERO,
            answered: 0,
            failed: 0,
            hints: 0,
            hedges: 0,
        }
    }

    fn run(&mut self, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Send { to, tag, fence, op, .. } if to == node(1) => {
                    let served = self.replicas.get_mut(&to).unwrap().serve(fence, &op);
                    effects.extend(self.coordinator.step(Event::Replied { tag, answer: answered(served) }));
                }
                Effect::Send { to, tag, fence, op, .. } if to == node(2) => {
                    let at = self.coordinator.now.after(Duration::from_millis(1));
                    self.travelling.push_back((at, Sent { to, tag, fence, op }));
                }
                Effect::Send { .. } => self.held += 1,
                Effect::AnswerWrite { answer, timing, .. } => self.done(answer.is_ok(), timing.total),
                Effect::AnswerRead { answer, timing, .. } => self.done(answer.is_ok(), timing.total),
                Effect::StoreHint { request, target, .. } => {
                    assert_eq!(target, node(3));
                    self.hints += 1;
                    let kept = Event::Hinted { request, target, answer: HintAnswer::Kept };
                    effects.extend(self.coordinator.step(kept));
                }
                Effect::Hedged => self.hedges += 1,
                _ => {}
            }
        }
    }

    fn done(&mut self, ok: bool, took: Duration) {
        self.longest = self.longest.max(took);
        if ok { self.answered += 1 } else { self.failed += 1 }
    }

    fn put(&mut self, key: usize) {
        let (_, effects) = self.coordinator.write(put("lww", &format!("k{}", key % 100), "v"));
        self.run(effects);
    }

    fn get(&mut self, key: usize) {
        let (_, effects) = self.coordinator.read(get("lww", &format!("k{}", key % 100)));
        self.run(effects);
    }

    fn pass_a_millisecond(&mut self) {
        self.coordinator.advance(Duration::from_millis(1));
        let effects = self.coordinator.wake();
        self.run(effects);
        while self.travelling.front().is_some_and(|(at, _)| *at <= self.coordinator.now) {
            let (_, sent) = self.travelling.pop_front().unwrap();
            let served = self.replicas.get_mut(&sent.to).unwrap().serve(sent.fence, &sent.op);
            let effects = self.coordinator.step(Event::Replied { tag: sent.tag, answer: answered(served) });
            self.run(effects);
        }
    }

    /// So many milliseconds of so many puts and gets each.
    fn load(&mut self, millis: usize, puts: usize, gets: usize) {
        for millisecond in 0..millis {
            (0..puts).for_each(|n| self.put(millisecond * puts + n));
            (0..gets).for_each(|n| self.get(millisecond * gets + n));
            self.pass_a_millisecond();
        }
    }
}

// Promise: P15
#[test]
fn writes_that_wait_for_it_take_no_clients_place_and_all_become_hints() {
    // Fewer places than writes in 20 ms: if stragglers took them, clients would be refused at once.
    let mut world = World::new(Bounds { in_flight: 100, ..Bounds::default() });
    world.load(4_000, 5, 0);
    assert_eq!((world.failed, world.hints), (0, 3_616));
    assert!(world.longest <= Duration::from_millis(1), "{:?}", world.longest);
    assert_eq!(world.coordinator.machine.straggling(), limits::STRAGGLERS_MAX);
    // Gossip suspects it: at once.
    world.pass_a_millisecond();
    let effects = world.coordinator.step(Event::Suspected { node: node(3) });
    world.run(effects);
    assert_eq!((world.answered, world.hints, world.coordinator.machine.straggling()), (20_000, 20_000, 0));
    assert_eq!((world.coordinator.machine.in_flight(), world.coordinator.machine.wake_at()), (0, None));
}

#[test]
fn the_bytes_of_stragglers_are_bounded() {
    let mut world = World::new(Bounds { stragglers_bytes: 1_000, ..Bounds::default() });
    let (_, effects) = world.coordinator.write(put("lww", "k", &"x".repeat(600)));
    world.run(effects);
    world.pass_a_millisecond();
    assert_eq!((world.hints, world.coordinator.machine.straggling()), (0, 1));
    let (_, effects) = world.coordinator.write(put("lww", "k", &"x".repeat(600)));
    world.run(effects);
    world.pass_a_millisecond();
    assert_eq!((world.hints, world.coordinator.machine.straggling()), (1, 1), "the older made room");
    // It ends in order: what the younger owes is handed over.
    let effects = world.coordinator.step(Event::Draining);
    world.run(effects);
    assert_eq!((world.hints, world.coordinator.machine.straggling()), (2, 0));
}

// Promise: P15
#[test]
fn reads_hedge_around_it_within_the_budget_and_none_fails() {
    let mut world = World::new(Bounds::default());
    (0..100).for_each(|key| world.put(key));
    world.pass_a_millisecond();
    world.load(12_000, 0, 2);
    world.load(50, 0, 0);
    assert_eq!((world.answered, world.failed), (24_100, 0));
    assert!(world.longest <= limits::HEDGE_FIRST + Duration::from_millis(1), "{:?}", world.longest);
    // Some when it stops, one each time it is tried again.
    assert!((1..120).contains(&world.hedges), "{} hedges", world.hedges);
}

#[test]
fn reads_that_earned_no_hedge_wait_a_moment_and_do_not_fail() {
    let mut world = World::new(Bounds::default());
    world.coordinator.machine.spend_all_hedges();
    (0..100).for_each(|key| world.get(key));
    world.load(1_100, 0, 0);
    assert_eq!((world.answered, world.failed), (100, 0));
    assert!(world.longest <= limits::HEDGE_PATIENCE + limits::HEDGE_FIRST, "{:?}", world.longest);
}

/// What one of five owners does with all that it is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mood {
    /// It serves, and its answer takes so many milliseconds.
    Serves(u64),
    /// It serves once it has heard of the ring, so many milliseconds later.
    Behind(u64),
    /// It knows a newer ring, which all others hear of later.
    Ahead,
    StandsStill,
    /// It serves reads as the first does, and stands still when it is to write.
    ReadsOnly(u64),
    /// Its answer is lost on the way, so many milliseconds later.
    Loses(u64),
}

impl Mood {
    fn serves(self) -> bool {
        matches!(self, Mood::Serves(_) | Mood::Behind(_) | Mood::Ahead)
    }
}

fn mood() -> impl Strategy<Value = Mood> {
    prop_oneof![
        4 => (1u64..40).prop_map(Mood::Serves),
        1 => (1u64..300).prop_map(Mood::Behind),
        1 => Just(Mood::Ahead),
        1 => Just(Mood::StandsStill),
        1 => (1u64..40).prop_map(Mood::ReadsOnly),
        1 => (1u64..40).prop_map(Mood::Loses),
    ]
}

/// Five owners, each in its mood, and one request.
struct Moody {
    coordinator: Coordinator,
    moods: Vec<Mood>,
    /// When all hear of the newer ring.
    newer_at: Mono,
    replicas: Vec<Double>,
    /// By arrival: what is sent, whether it is served; what of that is lost.
    travelling: BTreeMap<(Mono, usize), (Sent, bool)>,
    sent: usize,
    answer: Option<Result<(), CoordinatorError>>,
}

impl Moody {
    fn new(moods: Vec<Mood>, newer_in: u64) -> Self {
        let mut coordinator = Coordinator::new(1, 1, 0, ring(2, 5, 5, ReadRepair::Blocking));
        coordinator.advance(limits::DEADLINE_MAX);
        Moody {
            newer_at: coordinator.now.after(Duration::from_millis(newer_in)),
            coordinator,
            replicas: moods.iter().map(|_| Double::default()).collect(),
            moods,
            travelling: BTreeMap::new(),
            sent: 0,
            answer: None,
        }
    }

    fn run(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, tag, fence, op, .. } => {
                    let at = (1..=5).find(|index| node(*index) == to).unwrap() - 1;
                    let (millis, is_served) = match self.moods[at] {
                        Mood::Serves(millis) => (millis, true),
                        Mood::ReadsOnly(millis) if !matches!(op, Op::Apply { .. }) => (millis, true),
                        Mood::Behind(_) | Mood::Ahead => (1, true),
                        Mood::Loses(millis) => (millis, false),
                        Mood::ReadsOnly(_) | Mood::StandsStill => continue,
                    };
                    self.sent += 1;
                    let arrives = self.coordinator.now.after(Duration::from_millis(millis));
                    self.travelling.insert((arrives, self.sent), (Sent { to, tag, fence, op }, is_served));
                }
                Effect::AnswerRead { answer, .. } => self.answer = Some(answer.map(drop)),
                Effect::AnswerWrite { answer, .. } => self.answer = Some(answer.map(drop)),
                Effect::AnswerScan { answer, .. } => self.answer = Some(answer.map(drop)),
                _ => {}
            }
        }
    }

    fn pass_a_millisecond(&mut self) {
        self.coordinator.advance(Duration::from_millis(1));
        let now = self.coordinator.now;
        let is_newer = now >= self.newer_at && self.moods.contains(&Mood::Ahead);
        if is_newer && self.coordinator.ring.version == 2 {
            self.coordinator.ring = ring(3, 5, 5, ReadRepair::Blocking);
        }
        let current = self.coordinator.ring.version;
        for (replica, mood) in self.replicas.iter_mut().zip(&self.moods) {
            replica.ring_version = Some(match mood {
                Mood::Behind(millis) if now < Mono::from_millis(61_000 + millis) => 1,
                Mood::Ahead => 3,
                _ => current,
            });
        }
        let effects = self.coordinator.wake();
        self.run(effects);
        while let Some(first) = self.travelling.first_entry().filter(|first| first.key().0 <= now) {
            let (Sent { to, tag, fence, op }, is_served) = first.remove();
            let at = (1..=5).find(|index| node(*index) == to).unwrap() - 1;
            let answer = match is_served {
                true => answered(self.replicas[at].serve(fence, &op)),
                false => Answered::Lost,
            };
            let effects = self.coordinator.step(Event::Replied { tag, answer });
            self.run(effects);
        }
    }
}

proptest! {
    // Promise: P16
    /// As long as so many owners serve as must answer, whichever they are, a request is answered long before its deadline,
    /// with no hedge earned: a read once what differs is joined and at R owners; and while rings differ for a moment.
    #[test]
    fn a_request_succeeds_as_long_as_enough_owners_serve(
        moods in prop::collection::vec(mood(), 5),
        held_by in prop::collection::vec(0usize..5, 0..4),
        newer_in in 1u64..300,
        spend in any::<bool>(),
        kind in 0u8..4,
    ) {
        let serving = moods.iter().filter(|mood| mood.serves()).count();
        prop_assume!(serving > 0);
        let level = Consistency::Exactly(u8::try_from(serving).unwrap());
        let mut world = Moody::new(moods, newer_in);
        // A delete of a bucket's key reads first.
        let table = if kind == 3 { "default" } else { "lww" };
        for (number, owner) in held_by.into_iter().enumerate() {
            let mut writer = Coordinator::new(1, 9 + number as u64, 0, ring(2, 5, 5, ReadRepair::Blocking));
            writer.advance(Duration::from_millis(u64::try_from(number).unwrap()));
            let (_, effects) = writer.write(put(table, "k", &number.to_string()));
            for effect in effects {
                if let Effect::Send { to, fence, op, .. } = effect && to == node(owner + 1) {
                    world.replicas[owner].serve(fence, &op).unwrap();
                }
            }
        }
        if spend {
            world.coordinator.machine.spend_all_hedges();
        }
        let (_, effects) = match kind {
            0 => world.coordinator.write(crate::Write { consistency: level, ..put(table, "k", "v") }),
            1 => world.coordinator.read(crate::Read { consistency: level, ..get(table, "k") }),
            3 => world.coordinator.write(crate::Write { consistency: level, ..delete(table, "k") }),
            _ => world.coordinator.scan(crate::Scan { consistency: level, ..list(table, 10) }),
        };
        world.run(effects);
        (0..4_000).for_each(|_| if world.answer.is_none() { world.pass_a_millisecond() });
        prop_assert!(matches!(world.answer, Some(Ok(()))), "{:?}", world.answer);
    }
}
