//! What the lattice costs: `cargo run --release -p kula-lattice --example speed`.
//!
//! Each line is a round's time on one thread in the fastest and in the middle one of 400 batches of 1,000 rounds, and its
//! allocations. On a busy machine the fastest says what the code costs. One value is 1 KiB.

use bytes::Bytes;
use kula_clock::{Clock, SystemClock};
use kula_lattice::{Cell, CellId, Context, ContextKey, Join, Mutation, NewSibling, Partition, Row, Seal};
use kula_types::{Actor, ClusteringKey, ColumnId, Dot, Key, PartitionKey, TableId, Timestamp, Token};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::{alloc::System, hint::black_box};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const BATCHES: u32 = 400;
const ROUNDS: u32 = 1_000;

fn measure<T>(name: &str, mut round: impl FnMut(u64) -> T) {
    let clock = SystemClock::new();
    let region = Region::new(ALLOCATOR);
    let mut batches = Vec::with_capacity(BATCHES as usize);
    let mut count = 0;
    for _ in 0..BATCHES {
        let start = clock.mono();
        for _ in 0..ROUNDS {
            count += 1;
            black_box(round(count));
        }
        batches.push(clock.mono().since(start).as_nanos() / u128::from(ROUNDS));
    }
    batches.sort_unstable();
    let (fastest, median) = (batches[0], batches[batches.len() / 2]);
    let allocations = region.change().allocations / (BATCHES * ROUNDS) as usize;
    println!("{name:<44}{fastest:>7} ns {median:>7} ns {allocations:>4} allocations");
}

fn dot(seq: u64) -> Dot {
    match Dot::new(Actor(7), 0, seq) {
        Ok(dot) => dot,
        Err(error) => unreachable!("{error}"),
    }
}

fn mutation(delta: Partition, seq: u64) -> Mutation {
    let key = PartitionKey(Bytes::from_static(b"cart:0000042"));
    Mutation { table: TableId([1; 16]), token: Token(42), key, mid: dot(seq), previous: seq - 1, delta }
}

fn lww(seq: u64) -> Partition {
    let key = Key::of(Timestamp::MAX, dot(seq));
    let value = Cell::put(key, None, Bytes::from_static(&[7; 1024]));
    let marker = Cell::put(key, None, Bytes::new()).lww;
    let row = Row { marker, ..Row::of_cell(CellId::simple(ColumnId(1)), value) };
    Partition::of_row(ClusteringKey::default(), row)
}

fn causal(seq: u64) -> Partition {
    let context = Context { dots: vec![(dot(seq - 1), seq - 2)], lww: None };
    let body = Bytes::from_static(&[7; 1024]);
    let value = NewSibling { hlc: Timestamp::MAX, op_id: None, exp: None, body };
    let cell = Cell::causal_put(&context, dot(seq), seq - 1, value);
    Partition::of_cell(ClusteringKey::default(), CellId::simple(ColumnId(1)), cell)
}

fn codec(name: &str, delta: fn(u64) -> Partition) {
    let one = mutation(delta(9), 9);
    let bytes = one.encode();
    println!("{name}: {} bytes encoded", bytes.len());
    measure("  encode", |_| one.encode());
    measure("  decode", |_| Mutation::decode(&bytes));
    measure("  encode + decode", |_| Mutation::decode(&one.encode()));
    measure("  view", |_| one.delta.view(Timestamp::MIN, None));
    measure("  digest", |_| one.delta.digest(None, Seal::NONE));
    let mut state = Partition::default();
    measure("  make a delta, join it over the last", |seq| state.join(delta(seq + 10)));
}

fn main() {
    codec("LWW put with marker", lww);
    codec("causal put", causal);
    let key = ContextKey { id: 1, secret: [9; 32] };
    let context = Context { dots: vec![(dot(9), 8)], lww: None };
    let (table, partition_key) = (TableId([1; 16]), PartitionKey(Bytes::from_static(b"cart:0000042")));
    let text = context.seal(table, &partition_key, &key);
    println!("context token: {} characters", text.len());
    measure("  seal", |_| context.seal(table, &partition_key, &key));
    let keys = [key];
    measure("  open", |_| Context::open(&text, table, &partition_key, &keys));
}
