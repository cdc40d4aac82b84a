//! Targets that come and go, answers that are lost, refusals, crashes: nothing that was acknowledged is ever lost.

use crate::{
    courier::{Courier, Order},
    machine::Window,
    record::Hint,
    step::{Event, Outcome, Ticket},
    store::HintStore,
    target_log::{Finding, Sizes},
};
use bytes::Bytes;
use kula_disk::{SimDisk, sim::Survivors};
use kula_types::{Mono, NodeId, Timestamp, Token};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

pub(crate) const WINDOW: Window = Window { read_records: 8, read_bytes: 2_000, in_flight: 4, in_flight_bytes: 1_500 };
pub(crate) const SIZES: Sizes =
    Sizes { owed_max: 40_000, segment: 12 << 10, segment_record: 600, large_segment: 20 << 10, large_record: 4_000 };
const RATE: u64 = 100_000;

pub(crate) fn node(number: u8) -> NodeId {
    NodeId(uuid::Uuid::from_bytes([number; 16]))
}

/// A hint that is told by its number.
pub(crate) fn hint(number: u32, bytes: usize) -> Hint {
    let mut mutation = number.to_le_bytes().to_vec();
    mutation.resize(bytes.max(4), 7);
    let stored = Timestamp::from_micros(i64::from(number)).unwrap();
    Hint { token: Token(i64::from(number)), stored, mutation: mutation.into() }
}

pub(crate) fn number_of(mutation: &Bytes) -> u32 {
    u32::from_le_bytes(*mutation.first_chunk().unwrap())
}

/// One node that owes, and what its targets hold.
pub(crate) struct World {
    pub disk: SimDisk,
    pub courier: Courier,
    pub now: Mono,
    /// By target: what it applied.
    pub applied: BTreeMap<NodeId, BTreeSet<u32>>,
    /// What was answered `Ok`.
    pub acked: BTreeMap<NodeId, BTreeSet<u32>>,
    /// What was sent and not answered.
    pub on_their_way: Vec<(NodeId, Ticket, Hint)>,
    /// What was found wrong.
    pub findings: Vec<Finding>,
    /// Hints that could not be read back.
    pub lost: u64,
    next: u32,
}

impl World {
    pub fn new(disk: SimDisk) -> World {
        let mut world = World {
            courier: open(&disk),
            disk,
            now: Mono::default(),
            applied: BTreeMap::new(),
            acked: BTreeMap::new(),
            on_their_way: Vec::new(),
            findings: Vec::new(),
            lost: 0,
            next: 0,
        };
        world.start();
        world
    }

    fn start(&mut self) {
        let mut orders = Vec::new();
        self.courier.start(self.now, &mut orders).unwrap();
        self.obey(orders);
    }

    /// The process dies and comes again with what this disk holds.
    pub fn restart_on(&mut self, disk: SimDisk) {
        self.on_their_way.clear();
        self.courier = open(&disk);
        self.disk = disk;
        self.start();
    }

    pub fn keep(&mut self, target: u8, sizes: &[usize]) {
        let target = node(target);
        let hints: Vec<Hint> = sizes.iter().zip(self.next..).map(|(bytes, number)| hint(number, *bytes)).collect();
        let numbers = self.next..;
        self.next += u32::try_from(hints.len()).unwrap();
        let answers = self.courier.keep(hints.into_iter().map(|hint| (target, hint)).collect()).unwrap();
        let kept: Vec<u32> =
            numbers.zip(answers).filter_map(|(number, answer)| answer.is_ok().then_some(number)).collect();
        let count = kept.len() as u64;
        self.acked.entry(target).or_default().extend(kept);
        if count > 0 {
            self.drive(target, Event::Kept { count });
        }
    }

    pub fn drive(&mut self, target: NodeId, event: Event) {
        let mut orders = Vec::new();
        self.courier.drive(self.now, target, event, &mut orders).unwrap();
        self.courier.settle(self.now, &mut orders).unwrap();
        self.obey(orders);
    }

    pub fn reach(&mut self, target: u8, is_reachable: bool) {
        if self.courier.is_known(node(target)) {
            if !is_reachable {
                self.on_their_way.retain(|(to, _, _)| *to != node(target));
            }
            self.drive(node(target), Event::Reachable(is_reachable));
        }
    }

    /// Answers what was sent at `index`; what is applied there is the target's for good.
    pub fn answer(&mut self, index: usize, is_applied: bool, outcome: Outcome) {
        let (target, ticket, hint) = self.on_their_way.swap_remove(index);
        if is_applied {
            self.applied.entry(target).or_default().insert(number_of(&hint.mutation));
        }
        self.drive(target, Event::Answered { ticket, outcome });
    }

    /// Time passes, and whoever wanted to be woken is.
    pub fn advance(&mut self, span: Duration) {
        let until = self.now.after(span);
        while let Some(at) = self.courier.wake_at(self.now).filter(|at| *at <= until) {
            self.now = at.max(self.now.after(Duration::from_nanos(1)));
            let mut orders = Vec::new();
            self.courier.wake(self.now, &mut orders).unwrap();
            self.courier.settle(self.now, &mut orders).unwrap();
            self.obey(orders);
        }
        self.now = self.now.max(until);
    }

    /// All targets are there and apply what they get, until nothing is owed.
    pub fn heal(&mut self) {
        self.on_their_way.clear();
        for is_reachable in [false, true] {
            self.courier.targets().into_iter().for_each(|target| self.drive(target, Event::Reachable(is_reachable)));
        }
        let began = self.now;
        loop {
            while !self.on_their_way.is_empty() {
                self.answer(0, true, Outcome::Applied);
            }
            if self.courier.wake_at(self.now).is_none() {
                break;
            }
            self.advance(Duration::from_millis(100));
            assert!(self.now.since(began) < Duration::from_secs(15), "a target that is there has its hints in time");
        }
    }

    fn obey(&mut self, orders: Vec<Order>) {
        for order in orders {
            match order {
                Order::Send { target, ticket, hint } => self.on_their_way.push((target, ticket, hint)),
                Order::Delivered { .. } | Order::Say { .. } => {}
                Order::GaveUp { why, .. } => panic!("given up: {why}"),
                Order::Lost { lost, .. } => self.lost += lost.count,
                Order::Found { finding, .. } => self.findings.push(finding),
            }
        }
        for target in self.courier.targets() {
            let delivery = self.courier.delivery(target).unwrap();
            let ((in_flight, in_flight_bytes), (held, held_bytes)) = (delivery.in_flight(), delivery.held());
            let largest = usize::try_from(SIZES.large_record).unwrap();
            assert!(in_flight <= WINDOW.in_flight && in_flight_bytes <= WINDOW.in_flight_bytes.max(largest));
            assert!(held <= 2 * WINDOW.read_records && held_bytes <= 2 * (WINDOW.read_bytes + largest));
        }
    }
}

fn open(disk: &SimDisk) -> Courier {
    Courier::new(HintStore::open(Arc::new(disk.clone()), SIZES).unwrap(), WINDOW, RATE)
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Keep { target: u8, sizes: Vec<usize> },
        Reach { target: u8, is_reachable: bool },
        Answer { which: prop::sample::Index, how: How },
        Advance { millis: u64 },
        Kill,
        PowerLoss { seed: u64 },
        Full { bytes_left: Option<u64> },
    }

    #[derive(Clone, Copy, Debug)]
    enum How {
        Applied,
        AppliedAndLost,
        Lost,
        Refused,
        Stuck,
    }

    fn step() -> impl Strategy<Value = Step> {
        let how = prop_oneof![
            6 => Just(How::Applied),
            2 => Just(How::AppliedAndLost),
            1 => Just(How::Lost),
            2 => Just(How::Refused),
            2 => Just(How::Stuck),
        ];
        let bytes = prop_oneof![8 => 4usize..400, 1 => 400usize..3_900];
        prop_oneof![
            6 => (1u8..4, prop::collection::vec(bytes, 1..12)).prop_map(|(target, sizes)| Step::Keep { target, sizes }),
            3 => (1u8..4, prop::bool::weighted(0.7)).prop_map(|(target, is_reachable)| Step::Reach { target, is_reachable }),
            12 => (any::<prop::sample::Index>(), how).prop_map(|(which, how)| Step::Answer { which, how }),
            4 => (1u64..3_000).prop_map(|millis| Step::Advance { millis }),
            1 => Just(Step::Kill),
            1 => any::<u64>().prop_map(|seed| Step::PowerLoss { seed }),
            1 => prop::option::of(0u64..30_000).prop_map(|bytes_left| Step::Full { bytes_left }),
        ]
    }

    fn run(world: &mut World, step: Step) {
        match step {
            Step::Keep { target, sizes } => world.keep(target, &sizes),
            Step::Reach { target, is_reachable } => world.reach(target, is_reachable),
            Step::Answer { which, how } if !world.on_their_way.is_empty() => {
                let index = which.index(world.on_their_way.len());
                match how {
                    How::Applied => world.answer(index, true, Outcome::Applied),
                    How::AppliedAndLost => world.answer(index, true, Outcome::NotNow("its answer was lost")),
                    How::Lost => world.answer(index, false, Outcome::NotNow("its answer was lost")),
                    How::Refused => world.answer(index, false, Outcome::NotNow("it is overloaded")),
                    How::Stuck => world.answer(index, false, Outcome::NotThis("it does not know the table")),
                }
            }
            Step::Answer { .. } => {}
            Step::Advance { millis } => world.advance(Duration::from_millis(millis)),
            Step::Kill => {
                world.disk.kill();
                world.disk.set_space(None);
                world.restart_on(world.disk.clone());
            }
            Step::PowerLoss { seed } => world.restart_on(world.disk.crash(Survivors::Seeded(seed))),
            Step::Full { bytes_left } => {
                world.disk.set_space(Some(1 << 40));
                let used = (1 << 40) - kula_disk::Disk::free_bytes(&world.disk).unwrap();
                world.disk.set_space(bytes_left.map(|left| used + left));
            }
        }
    }

    proptest! {
        // Promise: P2, P8, R21
        #[test]
        fn every_hint_that_was_acknowledged_reaches_its_target(steps in prop::collection::vec(step(), 1..150)) {
            let mut world = World::new(SimDisk::new(1));
            steps.into_iter().for_each(|step| run(&mut world, step));
            world.disk.set_space(None);
            world.heal();
            for (target, acked) in &world.acked {
                let applied = world.applied.get(target).cloned().unwrap_or_default();
                let missing: Vec<_> = acked.difference(&applied).collect();
                prop_assert!(missing.is_empty(), "{} misses {:?}", target, missing);
            }
            prop_assert!(world.courier.owed().all(|(_, owed)| owed.count == 0 && owed.bytes == 0));
            prop_assert!(world.findings.is_empty() && world.lost == 0);
            // What is delivered is not owed again after a restart.
            world.restart_on(world.disk.crash(Survivors::None));
            prop_assert!(world.courier.owed().all(|(_, owed)| owed.count == 0));
        }
    }
}
