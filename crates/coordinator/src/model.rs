//! Promises P2 and P3 against a model: two coordinators, three replicas, a network that loses, doubles and reorders, owners
//! that are slow, suspected or overloaded, rings that some know before others, hints that are kept late, and coordinators
//! that start again in the middle of everything. What an answer says of a write is held against what was done.
//!
//! Values are unique, so what a read shows names the writes it stands for. Nothing in the checks looks at dots or
//! timestamps of the system's own making where the client could not.

use crate::{
    error::{Applied, CoordinatorError},
    fixture::{Coordinator, DEADLINE, Double, Sent, answered, delete, get, node, put, ring},
    limits,
    machine::{Answered, Effect, Event, HintAnswer, Tag},
    messages::{Found, Write},
};
use bytes::Bytes;
use kula_actor::Reply;
use kula_lattice::{Join, Mutation, Partition, Seal};
use kula_placement::ReadRepair;
use kula_replica::{Fence, Op, Origin, ReplicaError};
use kula_types::{Consistency, Dot, Mono};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

type Values = BTreeSet<String>;

/// One client operation, by its number.
#[derive(Clone, Debug, Default)]
struct Done {
    /// Of a put.
    value: Option<String>,
    is_write: bool,
    is_delete: bool,
    quorum: bool,
    began: usize,
    /// When it was answered with success.
    succeeded: Option<usize>,
    /// Values that its context, as the client was given it, stood for.
    covers: Values,
    shown: Values,
    token: Option<String>,
    /// Dates of what it wrote, or showed.
    written: Option<i64>,
    /// What was sent for it.
    mutation: Option<Mutation>,
    /// Owners that obeyed the client's own apply by now.
    applied_at: BTreeSet<usize>,
    /// Owners for which a hint is durable.
    hinted_for: BTreeSet<usize>,
    /// Until then hints for it that find no room are handed over again.
    patience: Mono,
    /// The network brought it to some owner twice: what that one said first is not the whole truth.
    doubled: bool,
    /// Which life of which coordinator it was given to.
    life: (usize, u64),
}

/// A hint that hand-off was asked for.
struct Hinted {
    at: usize,
    life: u64,
    request: u64,
    target: usize,
    mutation: Bytes,
}

struct World {
    table: &'static str,
    coordinators: Vec<Coordinator>,
    lives: u64,
    replicas: BTreeMap<usize, Double>,
    network: Vec<(usize, u64, Sent)>,
    answers: Vec<(usize, u64, Tag, Answered)>,
    hints_asked: Vec<Hinted>,
    /// Durable, not delivered yet.
    hints_kept: Vec<(usize, Bytes)>,
    /// Which life a coordinator is in: what was sent to an earlier one comes to nobody.
    life: Vec<u64>,
    /// The newest ring. Its owners are those of every other.
    version: u64,
    operations: Vec<Done>,
    by_request: BTreeMap<(usize, u64, u64), usize>,
    answered: Arc<Mutex<Option<usize>>>,
    step: usize,
}

impl World {
    fn new(table: &'static str) -> Self {
        let coordinator = |index: usize| Coordinator::new(index, index as u64, 0, ring(1, 3, 3, ReadRepair::Blocking));
        World {
            table,
            coordinators: vec![coordinator(1), coordinator(2)],
            lives: 2,
            replicas: (1..=3).map(|index| (index, Double { ring_version: Some(1), ..Double::default() })).collect(),
            network: Vec::new(),
            answers: Vec::new(),
            hints_asked: Vec::new(),
            hints_kept: Vec::new(),
            life: vec![1, 2],
            version: 1,
            operations: Vec::new(),
            by_request: BTreeMap::new(),
            answered: Arc::default(),
            step: 0,
        }
    }

    fn act(&mut self, action: u8, pick: usize) {
        self.step += 1;
        let at = pick % 2;
        match action {
            0..=1 => self.begin_write(at, put(self.table, "k", &format!("v{}", self.step)), pick),
            2 => self.begin_write(at, delete(self.table, "k"), pick),
            3..=5 => self.begin_read(at, pick),
            6..=35 => self.deliver(pick, action == 6),
            36..=63 => self.answer(pick, action == 36),
            64..=66 if !self.network.is_empty() => drop(self.network.swap_remove(pick % self.network.len())),
            67 if !self.answers.is_empty() => drop(self.answers.swap_remove(pick % self.answers.len())),
            68 => self.pass(Duration::from_millis(1 + pick as u64 % 3_000)),
            69 => self.restart(at),
            70..=73 => {
                // At most one node is out of reach at a time, so that quorums stay possible, of other owners.
                let unreachable = &mut self.coordinators[at].unreachable;
                unreachable.clear();
                unreachable.extend((!(pick / 2).is_multiple_of(4)).then(|| node(pick / 2 % 4)));
            }
            74..=77 => self.answer_hint(pick, pick.is_multiple_of(5)),
            78 => {
                let effects = self.coordinators[at].step(Event::Suspected { node: node(1 + pick / 2 % 3) });
                self.run(at, effects);
            }
            79 => self.deliver_hint(pick),
            80 => {
                self.version += 1;
                self.replica(pick).ring_version = Some(self.version);
            }
            81 => self.replica(pick).ring_version = Some(self.version),
            82 => self.coordinators[at].ring = ring(self.version, 3, 3, ReadRepair::Blocking),
            83 => {
                let overloaded = ReplicaError::Overloaded { path: "replica/0".into(), depth: 8, cap: 8 };
                self.replica(pick).refuses = pick.is_multiple_of(2).then_some(overloaded);
            }
            _ => {}
        }
    }

    fn replica(&mut self, pick: usize) -> &mut Double {
        self.replicas.get_mut(&(1 + pick / 2 % 3)).unwrap()
    }

    fn reply<T: Send + 'static>(&self) -> Reply<T> {
        let (answered, operation) = (Arc::clone(&self.answered), self.operations.len());
        Reply::new(move |_| *answered.lock().unwrap() = Some(operation))
    }

    fn begin_write(&mut self, at: usize, mut write: Write, pick: usize) {
        let quorum = !pick.is_multiple_of(5);
        write.consistency = if quorum { Consistency::Quorum } else { Consistency::One };
        // Two in three writes follow an answer that some client was given; it may be an old one.
        let tokens: Vec<usize> =
            (0..self.operations.len()).filter(|done| self.operations[*done].token.is_some()).collect();
        let followed = tokens.get(pick / 3 % tokens.len().max(1)).copied().filter(|_| !pick.is_multiple_of(3));
        let patience = self.coordinators[at].now.after(DEADLINE + limits::HINT_PATIENCE);
        let mut done = Done { is_write: true, quorum, began: self.step, patience, ..Done::default() };
        if let Some(followed) = followed {
            write.context.clone_from(&self.operations[followed].token);
            let followed = &self.operations[followed];
            done.covers = followed.shown.union(&followed.value.iter().cloned().collect()).cloned().collect();
        }
        done.value = match &write.change {
            crate::Change::Put { value, .. } => Some(String::from_utf8(value.to_vec()).unwrap()),
            crate::Change::Delete => None,
        };
        done.is_delete = done.value.is_none();
        write.reply = self.reply();
        self.operations.push(done);
        let (request, effects) = self.coordinators[at].write(write);
        self.begun(at, request, effects);
    }

    fn begin_read(&mut self, at: usize, pick: usize) {
        let mut read = get(self.table, "k");
        let quorum = !pick.is_multiple_of(7);
        read.consistency = if quorum { Consistency::Quorum } else { Consistency::One };
        read.reply = self.reply();
        self.operations.push(Done { quorum, began: self.step, ..Done::default() });
        let (request, effects) = self.coordinators[at].read(read);
        self.begun(at, request, effects);
    }

    fn begun(&mut self, at: usize, request: u64, effects: Vec<Effect>) {
        let operation = self.operations.len() - 1;
        self.operations[operation].life = (at, self.life[at]);
        self.by_request.insert((at, self.life[at], request), operation);
        self.run(at, effects);
    }

    fn run(&mut self, at: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, tag, fence, op, .. } => {
                    if let Op::Apply { mutation, origin: Origin::Client { .. } } = &op {
                        let operation = self.by_request[&(at, self.life[at], tag.request)];
                        self.operations[operation].mutation = Some(Mutation::decode(mutation).unwrap());
                    }
                    self.network.push((at, self.life[at], Sent { to, tag, fence, op }));
                }
                Effect::AnswerWrite { answer, reply, .. } => {
                    drop(reply);
                    let operation = self.answered.lock().unwrap().take().unwrap();
                    let done = &mut self.operations[operation];
                    let refused = answer.as_ref().err().map(CoordinatorError::applied);
                    if refused == Some(Applied::No) && !done.doubled {
                        assert!(done.applied_at.is_empty(), "applied: no, and at {:?}", done.applied_at);
                    }
                    if let Ok(answer) = answer {
                        // A delete that found nothing sent nothing: its acks are those of its read.
                        if done.mutation.is_some() {
                            let (acked, hinted) = (answer.acked as usize, answer.hinted as usize);
                            assert!(acked >= if done.quorum { 2 } else { 1 }, "an ack below W");
                            assert!(done.applied_at.len() >= acked, "{acked} acks, applied at {:?}", done.applied_at);
                            assert!(done.hinted_for.len() >= hinted, "{hinted} hints that are not durable");
                            assert!(acked + hinted <= 3, "an owner counted twice");
                        }
                        done.succeeded = Some(self.step);
                        done.token = answer.context;
                        done.written = done
                            .mutation
                            .as_ref()
                            .and_then(|mutation| mutation.delta.highest_timestamp())
                            .map(|ts| ts.micros());
                    }
                }
                Effect::AnswerRead { answer, reply, .. } => {
                    drop(reply);
                    let operation = self.answered.lock().unwrap().take().unwrap();
                    let done = &mut self.operations[operation];
                    if let Ok(answer) = answer {
                        done.succeeded = Some(self.step);
                        done.token = answer.context;
                        let text = |value: &crate::Value| String::from_utf8(value.value.to_vec()).unwrap();
                        match &answer.found {
                            Found::Nothing => {}
                            Found::One(value) => {
                                done.shown.insert(text(value));
                                done.written = Some(value.written.micros());
                            }
                            Found::Siblings { siblings, more } => {
                                assert_eq!(*more, 0);
                                done.shown.extend(siblings.iter().map(|sibling| text(&sibling.value)));
                            }
                        }
                    }
                }
                Effect::StoreHint { request, target, mutation, .. } => {
                    let target = (1..=3).find(|replica| node(*replica) == target).unwrap();
                    assert_ne!(target, at + 1, "a node has no link to itself");
                    let operation = self.by_request[&(at, self.life[at], request)];
                    assert!(!self.operations[operation].applied_at.is_empty(), "a hint of a write that nobody took");
                    self.hints_asked.push(Hinted { at, life: self.life[at], request, target, mutation });
                }
                Effect::AnswerScan { .. } => unreachable!("nobody scans"),
                Effect::ManySiblings { .. }
                | Effect::Hinted(_)
                | Effect::PullRing { .. }
                | Effect::OtherRing
                | Effect::Hedged
                | Effect::CrowdedOut
                | Effect::Repaired
                | Effect::Late => {}
            }
        }
    }

    /// Some send arrives; `twice`: and will again.
    fn deliver(&mut self, pick: usize, twice: bool) {
        if self.network.is_empty() {
            return;
        }
        let index = pick % self.network.len();
        let (at, life, sent) = &self.network[index];
        let (at, life) = (*at, *life);
        let replica = (1..=3).find(|replica| node(*replica) == sent.to).unwrap();
        let served = self.replicas.get_mut(&replica).unwrap().serve(sent.fence, &sent.op);
        if let Op::Apply { origin: Origin::Client { .. }, .. } = &sent.op {
            let done = &mut self.operations[self.by_request[&(at, life, sent.tag.request)]];
            done.doubled |= twice;
            if served.is_ok() {
                done.applied_at.insert(replica);
            }
        }
        self.answers.push((at, life, sent.tag, answered(served)));
        if !twice {
            self.network.swap_remove(index);
        }
    }

    /// Some answer arrives; `lost`: only that it is lost is known.
    fn answer(&mut self, pick: usize, lost: bool) {
        if self.answers.is_empty() {
            return;
        }
        let (at, life, tag, answer) = self.answers.swap_remove(pick % self.answers.len());
        if life == self.life[at] {
            let answer = if lost { Answered::Lost } else { answer };
            let effects = self.coordinators[at].step(Event::Replied { tag, answer });
            self.run(at, effects);
        }
    }

    /// A hint is durable, or hand-off is `busy`: it says so at once, never after the coordinator's patience.
    fn answer_hint(&mut self, pick: usize, busy: bool) {
        if self.hints_asked.is_empty() {
            return;
        }
        let Hinted { at, life, request, target, mutation } =
            self.hints_asked.swap_remove(pick % self.hints_asked.len());
        let done = &mut self.operations[self.by_request[&(at, life, request)]];
        let busy = busy && self.coordinators[at].now < done.patience;
        if !busy {
            done.hinted_for.insert(target);
            self.hints_kept.push((target, mutation));
        }
        if life == self.life[at] {
            let answer = if busy { HintAnswer::Busy } else { HintAnswer::Kept };
            let effects = self.coordinators[at].step(Event::Hinted { request, target: node(target), answer });
            self.run(at, effects);
        }
    }

    fn deliver_hint(&mut self, pick: usize) {
        if !self.hints_kept.is_empty() {
            let (target, mutation) = self.hints_kept.swap_remove(pick % self.hints_kept.len());
            let replica = self.replicas.get_mut(&target).unwrap();
            let fence = Fence { ring_version: replica.ring_version.unwrap(), phase: 0 };
            let hint = Op::Apply { mutation: mutation.clone(), origin: Origin::Hint };
            if replica.serve(fence, &hint).is_err() {
                self.hints_kept.push((target, mutation));
            }
        }
    }

    /// Nothing that is on its way arrives any more; every deadline passes, and every hint is kept and delivered.
    fn end(&mut self) {
        self.network.clear();
        self.answers.clear();
        self.replicas.values_mut().for_each(|replica| replica.refuses = None);
        for span in [limits::DEADLINE_MAX, limits::HINT_RETRY, limits::HINT_PATIENCE] {
            while !self.hints_asked.is_empty() {
                self.answer_hint(0, false);
            }
            self.pass(span);
            self.network.clear();
        }
        while !self.hints_kept.is_empty() {
            self.deliver_hint(0);
        }
        for coordinator in &self.coordinators {
            assert_eq!((coordinator.machine.in_flight(), coordinator.machine.straggling()), (0, 0));
        }
    }

    /// Owners that lack a write, though it was acknowledged and its coordinator lived on. That one's own node is left out: it
    /// loses nothing on the way to itself without stopping.
    fn missed(&self) -> Vec<(usize, Dot)> {
        let holds = |replica: &Double, mutation: &Mutation| {
            let key = (mutation.table, mutation.key.clone());
            replica.partitions.get(&key).is_some_and(|held| {
                let mut joined = held.clone();
                joined.join(mutation.delta.clone());
                joined.normal(None, Seal::NONE) == held.clone().normal(None, Seal::NONE)
            })
        };
        let lived_on = |done: &&Done| done.succeeded.is_some() && self.life[done.life.0] == done.life.1;
        let mut missed = Vec::new();
        for done in self.operations.iter().filter(lived_on) {
            let Some(mutation) = &done.mutation else { continue };
            let others = self.replicas.iter().filter(|(replica, _)| **replica != done.life.0 + 1);
            let lacking = others.filter(|(_, replica)| !holds(replica, mutation));
            missed.extend(lacking.map(|(replica, _)| (*replica, mutation.mid)));
        }
        missed
    }

    fn pass(&mut self, span: Duration) {
        for at in 0..self.coordinators.len() {
            self.coordinators[at].advance(span);
            let effects = self.coordinators[at].wake();
            self.run(at, effects);
        }
    }

    /// A fresh actor; what was in hand is lost, and what was sent is still on its way.
    fn restart(&mut self, at: usize) {
        self.lives += 1;
        self.life[at] = self.lives;
        let old = &self.coordinators[at];
        let mut fresh = Coordinator::new(at + 1, self.lives, self.lives << 32, old.ring.clone());
        (fresh.now, fresh.wall) = (old.now, old.wall);
        // The clock's lease reaches past every stamp of the life before.
        fresh.advance(Duration::from_millis(1));
        self.coordinators[at] = fresh;
    }

    fn joined(&self) -> Partition {
        let mut joined = Partition::default();
        for partition in self.replicas.values().flat_map(|replica| replica.partitions.values()) {
            joined.join(partition.clone());
        }
        joined
    }

    fn shown_at_the_end(&self) -> Values {
        let table = self.coordinators[0].schema.resolve("kv", self.table).unwrap();
        let now = kula_types::Timestamp::from_micros(self.coordinators[0].wall).unwrap();
        let presented = crate::present(&self.joined(), &table, now, false).unwrap();
        match presented.found {
            Found::Nothing => Values::new(),
            Found::One(value) => Values::from([String::from_utf8(value.value.to_vec()).unwrap()]),
            Found::Siblings { siblings, more } => {
                assert_eq!(more, 0);
                siblings.iter().map(|sibling| String::from_utf8(sibling.value.value.to_vec()).unwrap()).collect()
            }
        }
    }

    /// Values that some write, sent by `step`, may rightly have made vanish.
    fn covered_by(&self, step: usize) -> Values {
        let dots: Vec<(Dot, String)> = (self.operations.iter())
            .filter_map(|done| Some((done.mutation.as_ref()?.mid, done.value.clone()?)))
            .collect();
        let mut covered = Values::new();
        for done in self.operations.iter().filter(|done| done.mutation.is_some() && done.began <= step) {
            covered.extend(done.covers.iter().cloned());
            if done.is_delete && done.covers.is_empty() {
                // It covered what its own read saw, which no client was told.
                let mutation = done.mutation.as_ref().unwrap();
                let cells = mutation.delta.rows.iter().flat_map(|(_, row)| row.cells.iter());
                for (_, cell) in cells {
                    let seen = &cell.dots.as_ref().unwrap().seen;
                    covered.extend(dots.iter().filter(|(dot, _)| seen.contains(*dot)).map(|(_, value)| value.clone()));
                }
            }
        }
        covered
    }
}

/// Histories of one case. A hole in blocking repair shows in one of some hundred histories: with fewer the tests would
/// prove nothing.
const HISTORIES: usize = 4;

fn scripts() -> impl Strategy<Value = Vec<Vec<(u8, u16)>>> {
    prop::collection::vec(script(), HISTORIES)
}

fn script() -> impl Strategy<Value = Vec<(u8, u16)>> {
    prop::collection::vec((0u8..84, any::<u16>()), 50..300)
}

proptest! {
    // Promise: P2
    /// Every owner has every acknowledged write in the end, by its ack or by a hint. No acknowledged causal write vanishes
    /// unless a context that saw it covered it; what was covered stays gone; and
    /// quorum reads see acknowledged quorum writes, and never less than an earlier quorum read.
    #[test]
    fn causal_writes_vanish_only_when_covered(scripts in scripts()) {
        scripts.into_iter().try_for_each(causal_history)?;
    }

    // Promise: P3
    /// R + W > N: a quorum read shows nothing older than any quorum write acknowledged, or quorum read answered, before
    /// it began.
    #[test]
    fn quorum_reads_see_quorum_writes_and_never_go_back(scripts in scripts()) {
        scripts.into_iter().try_for_each(quorum_history)?;
    }
}

fn causal_history(steps: Vec<(u8, u16)>) -> Result<(), TestCaseError> {
    let mut world = World::new("default");
    for (action, pick) in steps {
        world.act(action, usize::from(pick));
    }
    world.end();
    prop_assert_eq!(world.missed(), []);
    let shown = world.shown_at_the_end();
    let covered = world.covered_by(usize::MAX);
    for done in world.operations.iter().filter(|done| done.is_write && done.succeeded.is_some()) {
        if let Some(value) = &done.value {
            prop_assert!(shown.contains(value) || covered.contains(value), "{value} vanished");
        }
        for value in &done.covers {
            prop_assert!(!shown.contains(value), "{value} was replaced and is back");
        }
    }
    for read in world.operations.iter().filter(|done| !done.is_write && done.quorum) {
        let Some(end) = read.succeeded else { continue };
        let covered = world.covered_by(end);
        let before = |done: &&Done| done.quorum && done.succeeded.is_some_and(|step| step < read.began);
        for earlier in world.operations.iter().filter(before) {
            for value in earlier.shown.iter().chain(&earlier.value) {
                prop_assert!(read.shown.contains(value) || covered.contains(value), "{value} was not seen");
            }
        }
    }
    Ok(())
}

fn quorum_history(steps: Vec<(u8, u16)>) -> Result<(), TestCaseError> {
    let mut world = World::new("lww");
    for (action, pick) in steps {
        world.act(action, usize::from(pick));
    }
    world.end();
    prop_assert_eq!(world.missed(), []);
    let deleted_at = |done: &Done| {
        done.mutation.as_ref().filter(|_| done.is_delete).and_then(|m| m.delta.floor).map(|f| f.ts().micros())
    };
    let last_delete = world.operations.iter().filter_map(deleted_at).max();
    for read in world.operations.iter().filter(|done| !done.is_write && done.quorum && done.succeeded.is_some()) {
        let before = |done: &&Done| done.quorum && done.succeeded.is_some_and(|step| step < read.began);
        for earlier in world.operations.iter().filter(before) {
            let Some(at_least) = earlier.written else { continue };
            match read.written {
                // A delete wins its tie.
                Some(written) if earlier.is_delete => prop_assert!(written > at_least),
                Some(written) => prop_assert!(written >= at_least),
                None => prop_assert!(last_delete >= Some(at_least), "a write of {at_least} was not seen"),
            }
        }
    }
    Ok(())
}
