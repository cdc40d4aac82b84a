//! Scans against the truth: owners that each hold some of the writes, of which every key's owners together hold all at
//! level W; answers that are lost, late, refused, out of order, short; owners out of reach; rings that change; writes
//! between the pages. The pages of level R, R + W > N, laid one behind the other, show every key that stands still exactly
//! once and as it is, in the order of (token, key), and nothing that is deleted.

use super::{ScanAnswer, run::join_pages};
use crate::{
    error::CoordinatorError,
    fixture::{Coordinator, Double, Sent, answered, delete, list, node, put, ring},
    machine::{Answered, Effect, Event, Tag},
    messages::Found,
    present::present,
};
use kula_lattice::{Join, Mutation, Partition};
use kula_placement::ReadRepair;
use kula_replica::{Op, RangePage, ReplicaError};
use kula_types::{Consistency, Mono, PartitionKey, Timestamp, Token};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

const KEYS: usize = 40;

/// Choices, from a number that a shrinking test can make small.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below.max(1)
    }
}

struct World {
    table: &'static str,
    nodes: usize,
    rf: u32,
    /// Mints writes; scans nothing.
    writer: Coordinator,
    scanner: Coordinator,
    replicas: Vec<Double>,
    dice: Dice,
    /// Owners that take a write.
    written_by: usize,
    read_by: u8,
    version: u64,
}

type Shown = Vec<(Token, PartitionKey, Found)>;

impl World {
    fn new(table: &'static str, nodes: usize, rf: u32, read_by: u8, seed: u64) -> Self {
        let coordinator = |me, actor| Coordinator::new(me, actor, 0, ring(1, nodes, rf, ReadRepair::Blocking));
        let owners = usize::try_from(rf).unwrap().min(nodes);
        let read_by = read_by.clamp(1, u8::try_from(owners).unwrap());
        World {
            table,
            nodes,
            rf,
            writer: coordinator(1, 1),
            scanner: coordinator(1, 2),
            replicas: (0..nodes).map(|_| Double::default()).collect(),
            dice: Dice(seed),
            written_by: owners + 1 - usize::from(read_by),
            read_by,
            version: 1,
        }
    }

    /// A write that W random owners have, and perhaps others.
    fn write(&mut self, key: usize) {
        self.writer.advance(Duration::from_millis(1));
        let name = format!("key-{key}");
        let is_delete = self.table == "lww" && self.dice.roll(3) == 0;
        let write = match is_delete {
            true => delete(self.table, &name),
            false => put(self.table, &name, &format!("v{}", self.dice.roll(1_000_000))),
        };
        let (_, effects) = self.writer.write(write);
        let mut sends: Vec<_> = (effects.into_iter())
            .filter_map(|effect| match effect {
                Effect::Send { to, op: Op::Apply { mutation, .. }, .. } => Some((to, mutation)),
                _ => None,
            })
            .collect();
        let more = self.dice.roll(2);
        for _ in 0..self.written_by + more {
            if sends.is_empty() {
                break;
            }
            let (to, mutation) = sends.swap_remove(self.dice.roll(sends.len()));
            let Mutation { table, key, delta, .. } = Mutation::decode(&mutation).unwrap();
            let at = (0..self.nodes).find(|index| node(index + 1) == to).unwrap();
            self.replicas[at].partitions.entry((table, key)).or_default().join(delta);
        }
    }

    /// What every key shows, from all that anybody holds.
    fn truth(&self) -> BTreeMap<(Token, PartitionKey), Found> {
        let table = self.scanner.schema.resolve("kv", self.table).unwrap();
        let mut joined: BTreeMap<PartitionKey, Partition> = BTreeMap::new();
        for ((_, key), partition) in self.replicas.iter().flat_map(|replica| &replica.partitions) {
            joined.entry(key.clone()).or_default().join(partition.clone());
        }
        let now = Timestamp::from_micros(self.scanner.wall).unwrap();
        let shown = joined.into_iter().map(|(key, partition)| {
            let found = present(&partition, &table, now, false).unwrap().found;
            ((self.scanner.ring.token(&key), key), found)
        });
        shown.filter(|(_, found)| !matches!(found, Found::Nothing)).collect()
    }

    fn heal(&mut self) {
        self.scanner.unreachable.clear();
        for replica in &mut self.replicas {
            (replica.ring_version, replica.page_max) = (Some(self.version), Some(1 + self.dice.roll(6)));
        }
        self.scanner.ring = ring(self.version, self.nodes, self.rf, ReadRepair::Blocking);
    }

    /// Something that may go wrong before a page.
    fn trouble(&mut self) {
        if self.dice.roll(3) == 0 {
            self.scanner.unreachable.insert(node(1 + self.dice.roll(self.nodes)));
        }
    }

    /// One page over a bad network, which gets better if it takes long.
    fn page(&mut self, after: Option<PartitionKey>, limit: u32) -> Result<ScanAnswer, CoordinatorError> {
        let mut scan = list(self.table, limit);
        (scan.after, scan.consistency) = (after, Consistency::Exactly(self.read_by));
        let (mut network, mut answers) = (Vec::new(), Vec::new());
        let (_, effects) = self.scanner.scan(scan);
        if let Some(answer) = take(effects, &mut network) {
            return answer;
        }
        for step in 0.. {
            assert!(step < 20_000, "the page comes to no end");
            let effects = match self.dice.roll(if step < 100 { 23 } else { 16 }) {
                _ if step == 100 => {
                    self.heal();
                    Vec::new()
                }
                0..8 if !network.is_empty() => {
                    let Sent { to, tag, fence, op } = network.swap_remove(self.dice.roll(network.len()));
                    let at = (0..self.nodes).find(|index| node(index + 1) == to).unwrap();
                    answers.push((tag, answered(self.replicas[at].serve(fence, &op))));
                    Vec::new()
                }
                8..15 if !answers.is_empty() => {
                    let (tag, answer) = answers.swap_remove(self.dice.roll(answers.len()));
                    self.scanner.step(Event::Replied { tag, answer })
                }
                15 => {
                    let span = if network.is_empty() && answers.is_empty() { 100 } else { 1 + self.dice.roll(20) };
                    self.scanner.advance(Duration::from_millis(u64::try_from(span).unwrap()));
                    self.scanner.wake()
                }
                16 if !network.is_empty() => {
                    let tag = network.swap_remove(self.dice.roll(network.len())).tag;
                    self.scanner.step(Event::Replied { tag, answer: bad_answer(&mut self.dice) })
                }
                // No answer ever comes.
                17 if !network.is_empty() => {
                    network.swap_remove(self.dice.roll(network.len()));
                    Vec::new()
                }
                18 => self.scanner.step(Event::Suspected { node: node(1 + self.dice.roll(self.nodes)) }),
                19 => self.scanner.step(Event::Replied {
                    tag: Tag { request: 0, owner: self.dice.roll(9), round: 0 },
                    answer: Answered::Lost,
                }),
                20 if self.dice.roll(4) == 0 => {
                    self.version += 1;
                    Vec::new()
                }
                21 => {
                    let at = self.dice.roll(self.nodes);
                    self.replicas[at].ring_version = Some(self.version);
                    Vec::new()
                }
                22 => {
                    self.scanner.ring = ring(self.version, self.nodes, self.rf, ReadRepair::Blocking);
                    Vec::new()
                }
                _ => Vec::new(),
            };
            if let Some(answer) = take(effects, &mut network) {
                return answer;
            }
        }
        unreachable!("it ends or panics")
    }

    /// All pages; keys that changed meanwhile are noted.
    fn walk(&mut self, limit: u32, changes: usize) -> (Shown, BTreeSet<PartitionKey>) {
        let (mut shown, mut changed, mut after) = (Vec::new(), BTreeSet::new(), None);
        for _ in 0..40 * KEYS {
            self.trouble();
            let page = match self.page(after.clone(), limit) {
                Ok(page) => page,
                Err(error) => {
                    assert!(!matches!(error, CoordinatorError::UnknownTable { .. }), "{error}");
                    self.heal();
                    continue;
                }
            };
            assert!(page.entries.len() <= usize::try_from(limit).unwrap());
            shown.extend(page.entries.into_iter().map(|entry| (entry.token, entry.key, entry.found)));
            let Some(next) = page.next else { return (shown, changed) };
            assert_ne!(Some(&next), after.as_ref(), "a page goes on");
            after = Some(next);
            for _ in 0..self.dice.roll(changes + 1) {
                let key = self.dice.roll(KEYS + 5);
                changed.insert(PartitionKey::copy_from(format!("key-{key}").as_bytes()));
                self.write(key);
            }
        }
        panic!("the pages come to no end");
    }
}

/// What an owner says that does not serve, or whose answer does not arrive.
fn bad_answer(dice: &mut Dice) -> Answered {
    match dice.roll(4) {
        0 => Answered::Refused(ReplicaError::Damaged),
        1 => Answered::Refused(ReplicaError::Overloaded { path: "replica/0".into(), depth: 1, cap: 1 }),
        2 => Answered::Refused(ReplicaError::Unreachable),
        _ => Answered::Lost,
    }
}

fn take(effects: Vec<Effect>, network: &mut Vec<Sent>) -> Option<Result<ScanAnswer, CoordinatorError>> {
    let mut answer = None;
    for effect in effects {
        match effect {
            Effect::Send { to, tag, fence, op, .. } => network.push(Sent { to, tag, fence, op }),
            Effect::AnswerScan { answer: given, .. } => answer = Some(given),
            _ => {}
        }
    }
    answer
}

fn check(mut world: World, writes: usize, limit: u32, changes: usize) -> Result<(), TestCaseError> {
    for _ in 0..writes {
        let key = world.dice.roll(KEYS);
        world.write(key);
    }
    let truth = world.truth();
    world.heal();
    let (shown, changed) = world.walk(limit, changes);
    let in_order = shown.is_sorted_by(|left, right| (left.0, &left.1) < (right.0, &right.1));
    prop_assert!(in_order, "not in order, or a key twice: {:?}", shown);
    let stands_still = |key: &PartitionKey| !changed.contains(key);
    let found: Vec<_> = shown
        .into_iter()
        .filter(|(_, key, _)| stands_still(key))
        .map(|(token, key, found)| ((token, key), found))
        .collect();
    let wanted: Vec<_> = truth.into_iter().filter(|((_, key), _)| stands_still(key)).collect();
    prop_assert_eq!(found, wanted);
    prop_assert_eq!(world.scanner.machine.in_flight(), 0);
    Ok(())
}

proptest! {
    // Promise: P3, R26
    #[test]
    fn pages_show_each_key_once_as_its_owners_together_know_it(
        nodes in 1usize..7,
        rf in 1u32..4,
        read_by in 1u8..4,
        causal in any::<bool>(),
        writes in 0usize..120,
        limit in prop_oneof![1u32..6, Just(1_000)],
        changes in 0usize..3,
        seed in any::<u64>(),
    ) {
        let table = if causal { "default" } else { "lww" };
        check(World::new(table, nodes, rf, read_by, seed), writes, limit, changes)?;
    }

    /// However rows are spread over pages of owners, what is joined is their join up to where all of them looked.
    #[test]
    fn joined_pages_are_the_join_of_what_lies_before_the_least_of_their_ends(
        rows in prop::collection::vec((0i64..20, 0u8..2, 0usize..3), 0..40),
        ends in prop::collection::vec(prop::option::of(0i64..20), 1..4),
    ) {
        let place = |token: i64, key: u8| (Token(token), PartitionKey::copy_from(&[key]));
        let part = |number: usize| {
            let at = Timestamp::from_micros(i64::try_from(number).unwrap()).unwrap();
            Partition { floor: Some(kula_types::Key::delete_at(at)), ..Partition::default() }
        };
        let mut pages = vec![RangePage::default(); ends.len()];
        let least = ends.iter().flatten().min().map(|token| place(*token, 1));
        let mut wanted: BTreeMap<(Token, PartitionKey), Partition> = BTreeMap::new();
        let sorted: BTreeMap<(i64, u8, usize), usize> =
            rows.into_iter().enumerate().map(|(number, (token, key, owner))| ((token, key, owner % ends.len()), number)).collect();
        for ((token, key, owner), number) in sorted {
            let place = place(token, key);
            let is_read = ends[owner].is_none_or(|end| place.0 <= Token(end));
            if is_read {
                pages[owner].rows.push((place.0, place.1.clone(), part(number)));
            }
            if is_read && least.as_ref().is_none_or(|least| place <= *least) {
                wanted.entry(place).or_default().join(part(number));
            }
        }
        for (page, end) in pages.iter_mut().zip(&ends) {
            page.resume = end.map(|token| place(token, 1));
        }
        let joined = join_pages(pages);
        prop_assert_eq!(joined.resume, least);
        let found: Vec<_> = joined.rows.into_iter().map(|(token, key, partition)| ((token, key), partition)).collect();
        prop_assert_eq!(found, wanted.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn the_deadline_gives_what_was_found_and_an_error_if_that_is_nothing() {
    let mut world = World::new("default", 3, 3, 2, 1);
    (0..KEYS).for_each(|key| world.write(key));
    world.heal();
    world.replicas.iter_mut().for_each(|replica| replica.page_max = Some(3));
    let (_, effects) = world.scanner.scan(list("default", 1_000));
    let mut network = Vec::new();
    assert!(take(effects, &mut network).is_none());
    // Two of two answer; the next two do not.
    for _ in 0..2 {
        let Sent { to, tag, fence, op } = network.remove(0);
        let at = (0..3).find(|index| node(index + 1) == to).unwrap();
        let answer = answered(world.replicas[at].serve(fence, &op));
        let effects = world.scanner.step(Event::Replied { tag, answer });
        assert!(take(effects, &mut network).is_none());
    }
    let until = world.scanner.machine.wake_at().unwrap();
    assert!(until < Mono::default().after(Duration::from_secs(2)), "a hedge comes first");
    world.scanner.advance(Duration::from_secs(5));
    let effects = world.scanner.wake();
    let page = take(effects, &mut network).unwrap().unwrap();
    assert!((1..=3).contains(&page.entries.len()));
    assert_eq!(page.next.as_ref(), page.entries.last().map(|entry| &entry.key));

    let (_, effects) = world.scanner.scan(list("default", 1_000));
    assert!(take(effects, &mut network).is_none());
    world.scanner.advance(Duration::from_secs(5));
    let effects = world.scanner.wake();
    let error = take(effects, &mut network).unwrap().unwrap_err();
    assert!(matches!(error, CoordinatorError::Timeout { need: 2, acked: 0, .. }), "{error}");
}

#[test]
fn scans_in_hand_are_bounded() {
    let mut world = World::new("default", 3, 3, 2, 1);
    let refusals = (0..crate::limits::SCANS_MAX + 2).filter(|_| {
        let (_, effects) = world.scanner.scan(list("default", 10));
        matches!(take(effects, &mut Vec::new()), Some(Err(CoordinatorError::Overloaded { .. })))
    });
    assert_eq!(refusals.count(), 2);
    world.scanner.advance(Duration::from_secs(60));
    world.scanner.wake();
    let (_, effects) = world.scanner.scan(list("default", 10));
    assert!(take(effects, &mut Vec::new()).is_none(), "there is room again");
}
