//! How much memory lattice values take: what `heap_bytes` says, and what decoding may cost. The allocator's counters
//! are global and the test runner's threads allocate now and then, so one test measures at a time, five times each, and
//! the median counts.

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kula_lattice::{Cell, CellId, Context, Join, Mutation, NewSibling, Partition, Row, SortedMap};
    use kula_testkit::Random;
    use kula_types::{Actor, ClusteringKey, ColumnId, Dot, Key, PartitionKey, TableId, Timestamp, Token};
    use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
    use std::{
        alloc::System,
        sync::{Mutex, MutexGuard, PoisonError},
    };

    #[global_allocator]
    static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;
    static ALONE: Mutex<()> = Mutex::new(());

    /// Held while a test measures. A test that failed before says nothing about the next.
    fn alone() -> MutexGuard<'static, ()> {
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The median of five measurements.
    fn settled<T>(measure: impl Fn() -> (T, usize)) -> (T, usize) {
        let mut measured: Vec<(T, usize)> = (0..5).map(|_| measure()).collect();
        measured.sort_by_key(|(_, bytes)| *bytes);
        measured.swap_remove(2)
    }

    fn dot(seq: u64) -> Dot {
        Dot::new(Actor(7), 0, seq).unwrap()
    }

    fn mutation(delta: Partition) -> Mutation {
        let key = PartitionKey::copy_from(b"cart:0000042");
        Mutation { table: TableId([1; 16]), token: Token(42), key, mid: dot(9), previous: 8, delta }
    }

    fn lww(seq: u64, len: usize) -> Cell {
        Cell::put(Key::of(Timestamp::MAX, dot(seq)), None, Bytes::from(vec![7; len]))
    }

    fn sibling(seq: u64, len: usize) -> Cell {
        let body = Bytes::from(vec![7; len]);
        let value = NewSibling { hlc: Timestamp::MAX, op_id: None, exp: None, body };
        Cell::causal_put(&Context::default(), dot(seq), seq - 1, value)
    }

    fn one(cell: Cell) -> Partition {
        Partition::of_cell(ClusteringKey::default(), CellId::simple(ColumnId(1)), cell)
    }

    /// Bytes that `make` leaves allocated.
    fn held<T>(make: impl FnOnce() -> T) -> (T, usize) {
        let region = Region::new(ALLOCATOR);
        let made = make();
        let change = region.change();
        (made, change.bytes_allocated.saturating_sub(change.bytes_deallocated))
    }

    /// A memtable holds what arrived: each partition's state is joined from encoded mutations.
    fn joined(deltas: &[Partition]) -> (Partition, usize) {
        let encoded: Vec<Bytes> = deltas.iter().map(|delta| mutation(delta.clone()).encode()).collect();
        held(|| {
            let mut state = Partition::default();
            for bytes in &encoded {
                // What came from a socket or a log is a buffer of its own.
                let arrived = Bytes::from(bytes.to_vec());
                state.join(Mutation::decode(&arrived).unwrap().delta);
            }
            state
        })
    }

    fn heap_bytes_is_near(name: &str, deltas: &[Partition], percent: usize) {
        let (state, held) = settled(|| joined(deltas));
        let said = state.heap_bytes();
        let off = said.abs_diff(held) * 100 / held;
        assert!(off <= percent, "{name}: heap_bytes says {said}, {held} are held, {off} % off");
    }

    #[test]
    fn heap_bytes_is_what_is_held_within_five_percent() {
        let _alone = alone();
        let overwritten: Vec<_> = (1..50).map(|seq| one(lww(seq, 1024))).collect();
        heap_bytes_is_near("an LWW value", &[one(lww(1, 1024))], 5);
        heap_bytes_is_near("a value overwritten", &overwritten, 5);
        heap_bytes_is_near("a sibling", &[one(sibling(1, 1024))], 5);
        let siblings: Vec<_> = (1..40).map(|seq| one(sibling(seq * 2, 1024))).collect();
        heap_bytes_is_near("many siblings", &siblings, 5);
        let rows: Vec<_> = (0..500u64)
            .map(|at| {
                let clustering = ClusteringKey::copy_from(&at.to_be_bytes());
                Partition::of_row(clustering, Row::of_cell(CellId::simple(ColumnId(1)), lww(1, 300)))
            })
            .collect();
        heap_bytes_is_near("a wide partition", &rows, 5);
    }

    #[test]
    fn heap_bytes_of_small_values_is_within_fifteen_percent() {
        let _alone = alone();
        heap_bytes_is_near("a small LWW value", &[one(lww(1, 20))], 15);
        heap_bytes_is_near("a small sibling", &[one(sibling(1, 20))], 15);
    }

    fn decoding_costs(bytes: &Bytes) -> (bool, usize) {
        settled(|| {
            let region = Region::new(ALLOCATOR);
            let decoded = Mutation::decode(bytes).is_ok();
            (decoded, region.change().bytes_allocated)
        })
    }

    /// A list of the least entries a row can have: elements of one collection, each a floor equal to the last.
    #[test]
    fn the_densest_mutation_decodes_to_less_than_fifty_times_its_size() {
        let _alone = alone();
        let cells: SortedMap<CellId, Cell> = (0..20_000u16)
            .map(|at| (CellId::element(ColumnId(1), Bytes::copy_from_slice(&at.to_be_bytes())), at))
            .map(|(id, _)| (id, Cell::delete(Timestamp::MIN)))
            .collect();
        let bytes = mutation(Partition::of_row(ClusteringKey::default(), Row { cells, ..Row::default() })).encode();
        let (decoded, cost) = decoding_costs(&bytes);
        assert!(decoded);
        assert!(cost < 50 * bytes.len(), "{} bytes cost {cost}", bytes.len());
    }

    const PROMISES: [&[u8]; 4] = [&[0xff, 0x7f], &[0xff, 0xff, 0xff, 0x7f], &[0x40], &[0x0f]];

    // Promise: P19
    /// Counts that promise everything, each where a list begins.
    #[test]
    fn no_bytes_make_decoding_reserve_more_than_their_own_size_allows() {
        let _alone = alone();
        let mut random = Random::new(1);
        let valid = [one(lww(1, 100)), one(sibling(1, 100)), one(Cell::delete(Timestamp::MIN))];
        for round in 0..20_000 {
            let mut bytes = mutation(random.pick(&valid).clone()).encode().to_vec();
            for _ in 0..1 + random.below(3) {
                let at = random.below(bytes.len());
                let promise = random.pick(&PROMISES);
                bytes.splice(at..(at + promise.len()).min(bytes.len()), promise.iter().copied());
            }
            let bytes = Bytes::from(bytes);
            let (_, cost) = decoding_costs(&bytes);
            assert!(cost < 50 * bytes.len() + 1024, "round {round}: {} bytes cost {cost}", bytes.len());
        }
    }
}
