//! What one owner that stands still may cost the clients of a coordinator: nothing but a moment.
//!
//! Virtual milliseconds: n1 (this node) answers at once, n2 after a millisecond, n3 never. Nobody suspects n3 unless a test
//! says so: its connection is up, as that of a paused process is for some seconds.

use crate::{
    fixture::{Coordinator, Double, Sent, answered, get, node, put, ring},
    limits,
    machine::{Bounds, Effect, Event, HintAnswer},
};
use kula_placement::ReadRepair;
use kula_types::{Mono, NodeId};
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
