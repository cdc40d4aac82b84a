//! Any valid value, from a universe small enough that two of them have much in common.
//!
//! Strategies of larger values are boxed: unboxed, a few partitions' worth of them overflows a test thread's stack.

use bytes::Bytes;
use kula_lattice::{
    Body, Cell, CellId, Context, Dots, Live, Lww, Mutation, OpId, Partition, RangeFloors, Row, Seen, Slice, SortedMap,
};
use kula_types::{Actor, ClusteringKey, ColumnId, Dot, Key, PartitionKey, TableId, Timestamp, Token};
use proptest::{collection::vec, option, prelude::*, sample::select};
use std::ops::Bound;

/// Few, close together, and the ends of time.
pub fn timestamp() -> impl Strategy<Value = Timestamp> {
    let near = (0i64..4).prop_map(|micros| Timestamp::from_micros(micros).unwrap_or(Timestamp::MIN));
    prop_oneof![8 => near, 1 => Just(Timestamp::MIN), 1 => Just(Timestamp::MAX)]
}

pub fn expiry() -> impl Strategy<Value = Option<Timestamp>> {
    option::weighted(0.4, timestamp())
}

pub fn actor() -> impl Strategy<Value = Actor> {
    prop_oneof![8 => (1u64..4).prop_map(Actor), 1 => Just(Actor(0)), 1 => Just(Actor(u64::MAX))]
}

/// Sequences alone identify a dot, so the epoch follows from the sequence.
pub fn dot() -> impl Strategy<Value = Dot> {
    let seq = prop_oneof![9 => 1u64..9, 1 => Just(Dot::SEQ_MAX)];
    (actor(), seq).prop_filter_map("a dot", |(actor, seq)| Dot::new(actor, epoch_of(seq), seq).ok())
}

fn epoch_of(seq: u64) -> u32 {
    match seq {
        0..6 => 0,
        6..1000 => 1,
        _ => Dot::EPOCH_MAX,
    }
}

pub fn key() -> BoxedStrategy<Key> {
    (timestamp(), dot()).prop_map(|(ts, dot)| Key::of(ts, dot)).boxed()
}

/// Deletes, replacements of collections, and the keys of values that a causal put saw.
pub fn floor() -> BoxedStrategy<Key> {
    prop_oneof![
        2 => timestamp().prop_map(Key::delete_at),
        1 => (timestamp(), dot()).prop_map(|(ts, dot)| Key::before(ts, dot)),
        1 => key(),
    ]
    .boxed()
}

pub fn table_floor() -> impl Strategy<Value = Option<Key>> {
    option::weighted(0.3, floor())
}

fn full_or_stub(exp: Option<Timestamp>) -> impl Strategy<Value = Body> {
    let bytes = prop_oneof![
        6 => vec(0u8..3, 0..3).prop_map(Bytes::from),
        1 => vec(any::<u8>(), 100..200).prop_map(Bytes::from),
    ];
    let stubs = if exp.is_some() { 1 } else { 0 };
    prop_oneof![4 => bytes.prop_map(Body::Full), stubs => Just(Body::Stub)]
}

pub fn lww() -> BoxedStrategy<Lww> {
    (key(), expiry()).prop_flat_map(|(key, exp)| full_or_stub(exp).prop_map(move |body| Lww { key, exp, body })).boxed()
}

/// A sibling of some dot, `gap` (≥ 1) above its predecessor; see `dots`.
pub fn live(dot: Dot, gap: u64) -> impl Strategy<Value = Live> {
    let prev = dot.seq().saturating_sub(gap);
    let op_id = option::weighted(0.3, (0u8..2).prop_map(|byte| OpId([byte; 16])));
    (timestamp(), op_id, expiry()).prop_flat_map(move |(hlc, op_id, exp)| {
        full_or_stub(exp).prop_map(move |body| Live { hlc, op_id, exp, body, prev })
    })
}

fn chained_dot() -> impl Strategy<Value = (Dot, u64)> {
    (dot(), 1u64..4)
}

pub fn seen() -> BoxedStrategy<Seen> {
    vec(chained_dot(), 0..6)
        .prop_map(|dots| {
            let mut seen = Seen::new();
            for (dot, gap) in dots {
                seen.insert(dot, dot.seq().saturating_sub(gap));
            }
            seen
        })
        .boxed()
}

/// Live ⊆ seen; one dot may bear two bodies in two values.
pub fn dots() -> BoxedStrategy<Dots> {
    let sibling = chained_dot().prop_flat_map(|(dot, gap)| live(dot, gap).prop_map(move |live| (dot, live)));
    (vec(sibling, 0..4), seen())
        .prop_map(|(siblings, mut seen)| {
            let mut live = SortedMap::new();
            for (dot, sibling) in siblings {
                seen.insert(dot, sibling.prev);
                live.insert(dot, sibling);
            }
            Dots { live, seen }
        })
        .boxed()
}

pub fn cell() -> BoxedStrategy<Cell> {
    let parts = (option::weighted(0.7, lww()), option::weighted(0.3, floor()), option::weighted(0.4, dots()));
    // A floor is often exactly the key of a value that a causal put saw.
    let saw_value = prop::bool::weighted(0.15);
    (parts, saw_value)
        .prop_map(|((lww, floor, dots), saw_value)| {
            let seen_key = lww.as_ref().map(|lww| lww.key).filter(|_| saw_value);
            let floor = seen_key.or(floor);
            let dots = dots.filter(|dots| !dots.is_empty()).map(Box::new);
            let default = || Lww { key: Key::delete_at(Timestamp::MIN), exp: None, body: Body::Full(Bytes::new()) };
            // Never bottom: an entry says something.
            let lww = lww.or_else(|| (floor.is_none() && dots.is_none()).then(default));
            Cell { lww, floor, dots }
        })
        .boxed()
}

fn column() -> impl Strategy<Value = ColumnId> {
    prop_oneof![8 => (1u64..4).prop_map(ColumnId), 1 => Just(ColumnId(u64::MAX))]
}

pub fn cell_id() -> impl Strategy<Value = CellId> {
    let path = prop_oneof![2 => Just(&b""[..]), 1 => select(vec![&b"a"[..], &b"b"[..], &b"a\0"[..]])];
    (column(), path).prop_map(|(column, path)| CellId { column, path: Bytes::from_static(path) })
}

pub fn row() -> BoxedStrategy<Row> {
    let collections = vec((column(), floor()), 0..2).prop_map(|floors| floors.into_iter().collect());
    let cells = vec((cell_id(), cell()), 0..4).prop_map(|cells| cells.into_iter().collect());
    (option::weighted(0.2, floor()), option::weighted(0.3, lww()), collections, cells)
        .prop_map(|(floor, marker, collections, cells)| Row { floor, marker, collections, cells })
        .boxed()
}

/// Empty, neighbours, and one key that is another's successor.
pub fn clustering() -> impl Strategy<Value = ClusteringKey> {
    select(vec![&b""[..], &b"a"[..], &b"a\0"[..], &b"b"[..], &b"bb"[..], &b"c"[..]])
        .prop_map(|bytes| ClusteringKey(Bytes::from_static(bytes)))
}

pub fn bound() -> impl Strategy<Value = Bound<ClusteringKey>> {
    prop_oneof![
        1 => Just(Bound::Unbounded),
        2 => clustering().prop_map(Bound::Included),
        2 => clustering().prop_map(Bound::Excluded),
    ]
}

pub fn slice() -> BoxedStrategy<Slice> {
    (bound(), bound()).prop_map(|(from, to)| Slice { from, to }).boxed()
}

pub fn ranges() -> BoxedStrategy<RangeFloors> {
    vec((bound(), bound(), floor()), 0..4)
        .prop_map(|deletes| {
            let mut ranges = RangeFloors::new();
            for (from, to, floor) in deletes {
                ranges.cover(from, to, floor);
            }
            ranges
        })
        .boxed()
}

pub fn partition() -> BoxedStrategy<Partition> {
    let some_row = || row().prop_filter("not bottom", |row| !row.is_bottom());
    let rows = vec((clustering(), some_row()), 0..4).prop_map(|rows| rows.into_iter().collect());
    let some_ranges = prop_oneof![1 => Just(RangeFloors::new()), 1 => ranges()];
    (option::weighted(0.15, floor()), option::weighted(0.2, some_row().prop_map(Box::new)), some_ranges, rows)
        .prop_map(|(floor, statics, ranges, rows)| Partition { floor, statics, ranges, rows })
        .boxed()
}

pub fn mutation() -> BoxedStrategy<Mutation> {
    let key = vec(any::<u8>(), 0..20).prop_map(|bytes| PartitionKey(Bytes::from(bytes)));
    (any::<[u8; 16]>(), any::<i64>(), key, dot(), 1u64..5, partition())
        .prop_map(|(table, token, key, mid, gap, delta)| Mutation {
            table: TableId(table),
            token: Token(token),
            key,
            mid,
            previous: mid.seq().saturating_sub(gap),
            delta,
        })
        .boxed()
}

/// Dots ascend, as `open` gives them.
pub fn context() -> BoxedStrategy<Context> {
    (vec(chained_dot(), 0..8), option::of(floor()))
        .prop_map(|(dots, lww)| {
            let dots: SortedMap<Dot, u64> =
                dots.into_iter().map(|(dot, gap)| (dot, dot.seq().saturating_sub(gap))).collect();
            Context { dots: dots.into_iter().collect(), lww }
        })
        .boxed()
}
