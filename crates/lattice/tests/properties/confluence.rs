//! Property 2: any interleaving of deliver, duplicate, compact(now), flush gives one view for all now' ≥ now, and one
//! digest.

use kula_lattice::{Cell, Dots, Join, Live, Lww, Partition, Seal, limits::STUB_AFTER};
use kula_testkit::{
    Random,
    lattice::{History, history, live, lww, partition, table_floor, timestamp},
    property,
};
use kula_types::{Actor, Dot, Key, Timestamp};
use proptest::prelude::*;

/// A replica's storage: a memtable and tables, the newest last. Tables decode what they encoded.
#[derive(Default)]
struct Store {
    memtable: Partition,
    tables: Vec<Partition>,
}

impl Store {
    fn read(&self) -> Partition {
        let mut joined = self.memtable.clone();
        for table in &self.tables {
            joined.join(table.clone());
        }
        joined
    }

    fn flush(&mut self, lowest_clock: Option<Timestamp>, table_floor: Option<Key>) {
        let mut table = std::mem::take(&mut self.memtable);
        table.compact(lowest_clock, table_floor);
        self.tables.push(table);
    }

    /// Compacts neighbours, which see no floor but their own.
    fn compact(&mut self, first: usize, last: usize, lowest_clock: Option<Timestamp>, table_floor: Option<Key>) {
        let mut output = Partition::default();
        for table in self.tables.drain(first..=last) {
            output.join(table);
        }
        output.compact(lowest_clock, table_floor);
        self.tables.insert(first, output);
    }
}

fn step(stores: &mut [Store], history: &History, clock: Timestamp, table_floor: Option<Key>, random: &mut Random) {
    let at = random.below(stores.len());
    let lowest_clock = if random.percent(70) { Some(clock) } else { None };
    match random.below(10) {
        0..5 => {
            let (_, _, delta) = random.pick(&history.minted);
            stores[at].memtable.join(delta.clone());
        }
        5 => {
            let from = random.below(stores.len());
            let sent = stores[from].read();
            stores[at].memtable.join(sent);
        }
        6..8 => stores[at].flush(lowest_clock, table_floor),
        _ if stores[at].tables.is_empty() => {}
        _ => {
            let count = stores[at].tables.len();
            let first = random.below(count);
            let last = first + random.below(count - first);
            stores[at].compact(first, last, lowest_clock, table_floor);
        }
    }
}

/// The latest clock a reader could have when the lowest replica clock is `clock`: expiry is judged at or past it.
fn readers(clock: Timestamp) -> impl Strategy<Value = Timestamp> {
    timestamp().prop_map(move |now| now.max(clock))
}

/// A register and a sibling, always of the same key and dot.
fn bearing_one_key() -> impl Strategy<Value = Cell> {
    let dot = Dot::new(Actor(1), 0, 2).expect("a dot");
    (lww(), live(dot, 1)).prop_map(move |(lww, live)| {
        let lww = Lww { key: Key::of(Timestamp::MAX, dot), ..lww };
        let live = Live { hlc: Timestamp::MAX, op_id: None, ..live };
        Cell { lww: Some(lww), floor: None, dots: Some(Box::new(Dots::one(dot, live))) }
    })
}

fn timed_by_dot(mut partition: Partition) -> Partition {
    let statics = partition.statics.iter_mut().flat_map(|statics| statics.cells.iter_mut());
    let cells = partition.rows.iter_mut().flat_map(|(_, row)| row.cells.iter_mut());
    for (_, cell) in cells.chain(statics) {
        for (dot, live) in cell.dots.iter_mut().flat_map(|dots| dots.live.iter_mut()) {
            live.hlc = Timestamp::from_micros((dot.seq() % 4) as i64).expect("a timestamp");
            (live.op_id, live.prev) = (None, dot.seq() - 1);
        }
    }
    partition
}

proptest! {
    #![proptest_config(property())]

    // Promise: P5
    #[test]
    fn any_interleaving_gives_one_view(
        history in history(12),
        table_floor in table_floor(),
        (clock, now) in timestamp().prop_flat_map(|clock| (Just(clock), readers(clock))),
        seed in any::<u64>(),
    ) {
        let mut random = Random::new(seed);
        let mut stores = [Store::default(), Store::default(), Store::default()];
        // Values expire around `timestamp()`; the clock that lets their bodies go is ten minutes past that.
        let late = clock.saturating_add(STUB_AFTER);
        for _ in 0..40 {
            step(&mut stores, &history, late, table_floor, &mut random);
        }
        let reference = history.whole();
        for store in &mut stores {
            for delta in history.deltas() {
                store.memtable.join(delta.clone());
            }
            if random.percent(50) {
                store.flush(Some(late), table_floor);
            }
            let state = store.read();
            prop_assert_eq!(state.view(now.max(late), table_floor), reference.view(now.max(late), table_floor));
            prop_assert_eq!(state.digest(table_floor, Seal::NONE), reference.digest(table_floor, Seal::NONE));
        }
    }

    // Promise: P7, R19
    /// Where something broke and one key or dot bears two bodies or expiries, replicas that compacted before they met
    /// still agree with those that met before. (A sibling's time follows from its dot.)
    #[test]
    fn compaction_commutes_with_joins(
        left in partition(), right in partition(), table_floor in table_floor(),
        (clock, now) in timestamp().prop_flat_map(|clock| (Just(clock), readers(clock))),
    ) {
        let (left, right) = (timed_by_dot(left), timed_by_dot(right));
        let late = clock.saturating_add(STUB_AFTER);
        let mut met_before = left.clone();
        met_before.join(right.clone());
        let mut compacted = left;
        compacted.compact(Some(late), table_floor);
        compacted.join(right);
        prop_assert_eq!(compacted.view(now.max(late), table_floor), met_before.view(now.max(late), table_floor));
        prop_assert_eq!(compacted.digest(table_floor, Seal::NONE), met_before.digest(table_floor, Seal::NONE));
    }

    /// The same where it bites: one cell whose register and whose sibling each bear two bodies and expiries.
    #[test]
    fn compaction_commutes_with_joins_of_one_key_with_two_bodies(
        (left, right) in (bearing_one_key(), bearing_one_key()), clock in timestamp(),
    ) {
        let late = Some(clock.saturating_add(STUB_AFTER));
        let (mut met_before, mut compacted, mut both_compacted) = (left.clone(), left.clone(), left);
        met_before.join(right.clone());
        compacted.compact(late, None);
        both_compacted.compact(late, None);
        compacted.join(right.clone());
        let mut right_compacted = right;
        right_compacted.compact(late, None);
        both_compacted.join(right_compacted);
        for cell in [&mut met_before, &mut compacted, &mut both_compacted] {
            cell.compact(late, None);
        }
        prop_assert_eq!(&compacted, &met_before);
        prop_assert_eq!(&both_compacted, &met_before);
    }

    // Promise: P7
    /// No view changes at all while no body goes, also for readers whose clock is anywhere.
    #[test]
    fn compaction_without_a_clock_changes_no_view(
        history in history(12), table_floor in table_floor(), now in timestamp(),
    ) {
        let whole = history.whole();
        let mut compacted = whole.clone();
        compacted.compact(None, table_floor);
        prop_assert_eq!(compacted.view(now, table_floor), whole.view(now, table_floor));
    }

    /// A body goes ten minutes after its expiry, so a reader up to ten minutes behind the slowest replica still sees
    /// what it would have seen.
    #[test]
    fn bodies_outlive_their_expiry_by_ten_minutes(
        history in history(12), table_floor in table_floor(), clock in timestamp(),
    ) {
        let whole = history.whole();
        let mut compacted = whole.clone();
        compacted.compact(Some(clock.saturating_add(STUB_AFTER)), table_floor);
        prop_assert_eq!(compacted.view(clock, table_floor), whole.view(clock, table_floor));
    }

    /// Of what was there, compaction keeps a part; it makes nothing, least of all a floor.
    #[test]
    fn compaction_only_drops(
        partition in partition(), table_floor in table_floor(), clock in timestamp(),
    ) {
        let mut compacted = partition.clone();
        compacted.compact(Some(clock), table_floor);
        prop_assert!(compacted.floor.is_none() || compacted.floor == partition.floor);
        for (clustering, row) in compacted.rows.iter() {
            let before = partition.rows.get(clustering).expect("a row that was there");
            prop_assert!(row.floor.is_none() || row.floor == before.floor);
            prop_assert!(row.collections.iter().all(|(column, floor)| before.collections.get(column) == Some(floor)));
            for (id, cell) in row.cells.iter() {
                let old = before.cells.get(id).expect("a cell that was there");
                prop_assert!(cell.floor.is_none() || cell.floor == old.floor);
                let seen = |cell: &Cell| cell.dots.as_ref().map(|dots| dots.seen.clone());
                prop_assert_eq!(seen(cell), seen(old));
            }
        }
        let mut twice = compacted.clone();
        twice.compact(Some(clock), table_floor);
        prop_assert_eq!(twice, compacted);
    }
}

/// A causal put's floor is exactly the key of the value it saw, and that value goes.
#[test]
fn a_value_at_its_floor_is_dropped() {
    let dot = Dot::new(Actor(1), 0, 2).expect("a dot");
    let key = Key::of(Timestamp::MIN, dot);
    let above = Key::of(Timestamp::MIN, Dot::new(Actor(1), 0, 3).expect("a dot"));
    let put = |key| Cell::put(key, None, bytes::Bytes::new());
    let mut at_floor = Cell { floor: Some(key), ..put(key) };
    at_floor.compact(None, None);
    assert_eq!(at_floor, Cell { floor: Some(key), ..Cell::default() });
    at_floor.join(put(above));
    at_floor.compact(None, None);
    assert_eq!(at_floor.lww, put(above).lww);
    let mut enclosed = Cell { floor: Some(key), ..Cell::default() };
    enclosed.compact(None, Some(key));
    assert!(enclosed.is_bottom(), "a floor that an enclosing one equals goes too");
}
