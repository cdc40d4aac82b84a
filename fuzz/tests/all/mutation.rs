//! The lattice codec: mutations, partitions, rows.
//!
//! Promise: P19

use crate::{
    input::{Input, samples},
    meter::Meter,
    target,
};
use bytes::Bytes;
use kula_lattice::{
    Cell, CellId, DecodeError, Join, Mutation, Partition, Row, Seal,
    codec::{self, Input as Reader},
};
use kula_testkit::lattice;
use kula_types::{ClusteringKey, ColumnId, Timestamp};

/// The densest encoding, elements of a collection that repeat one floor at five bytes each, becomes entries of some 200
/// bytes, in a vector that doubles on its way: 48 times its size, which the lattice's own test of memory bounds too.
/// Anything that holds bodies stays below 4.
const FACTOR: usize = 50;
const SAMPLES: usize = 300;

/// A long list of the least entries.
fn dense() -> Partition {
    let cell = |at: u16| (CellId::element(ColumnId(1), Bytes::copy_from_slice(&at.to_be_bytes())), at);
    let cells = (0..3_000).map(|at| (cell(at).0, Cell::delete(Timestamp::MIN))).collect();
    Partition::of_row(ClusteringKey::default(), Row { cells, ..Row::default() })
}

fn partitions() -> Vec<Partition> {
    let minted = samples(lattice::history(12), SAMPLES / 3).into_iter().map(|history| history.whole());
    let mut partitions: Vec<Partition> = samples(lattice::partition(), SAMPLES).into_iter().chain(minted).collect();
    partitions.push(dense());
    partitions
}

fn encoded(partition: &Partition) -> Bytes {
    let mut out = Vec::new();
    codec::encode_partition(partition, &mut out);
    Bytes::from(out)
}

pub fn mutations() -> Vec<Bytes> {
    let mut mutations = samples(lattice::mutation(), SAMPLES);
    let frame = mutations[0].clone();
    mutations.extend(partitions().into_iter().map(|delta| Mutation { delta, ..frame.clone() }));
    mutations.iter().map(Mutation::encode).collect()
}

/// Property 6 of `cell.md`.
pub fn live_is_seen(partition: &Partition) {
    for row in partition.rows.values().chain(partition.statics.as_deref()) {
        row_is_sound(row);
    }
}

fn row_is_sound(row: &Row) {
    for dots in row.cells.values().filter_map(|cell| cell.dots.as_ref()) {
        assert_eq!(dots.unseen(), None);
    }
}

/// What decodes must be fit for all that is done to data.
fn is_sound(partition: Partition) {
    live_is_seen(&partition);
    let digest = partition.digest(None, Seal::NONE);
    let mut compacted = partition.clone();
    compacted.compact(Some(Timestamp::MAX), None);
    live_is_seen(&compacted);
    assert_eq!(compacted.digest(None, Seal::NONE), digest);
    compacted.join(partition.clone());
    live_is_seen(&compacted);
    assert_eq!(compacted.digest(None, Seal::NONE), digest);
    std::hint::black_box(partition.view(Timestamp::MIN, None));
}

fn mutation(input: &Input, meter: &Meter) -> bool {
    let decoded = meter.bounded(input.bytes.len(), FACTOR, || Mutation::decode(&input.bytes));
    let Ok(mutation) = decoded else { return false };
    assert_eq!(mutation.encode(), input.bytes, "a mutation has one form");
    is_sound(mutation.delta);
    true
}

/// The value and how many bytes it took.
fn taken<T>(
    input: &Input,
    meter: &Meter,
    decode: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Option<(T, usize)> {
    meter.bounded(input.bytes.len(), FACTOR, || {
        let mut reader = Reader::new(&input.bytes);
        decode(&mut reader).ok().map(|value| (value, reader.position()))
    })
}

fn partition(input: &Input, meter: &Meter) -> bool {
    let Some((partition, length)) = taken(input, meter, codec::decode_partition) else { return false };
    assert_eq!(encoded(&partition), input.bytes[..length]);
    is_sound(partition);
    true
}

fn row(input: &Input, meter: &Meter) -> bool {
    let Some((row, length)) = taken(input, meter, codec::decode_row) else { return false };
    let mut out = Vec::new();
    codec::encode_row(&row, &mut out);
    assert_eq!(out, input.bytes[..length]);
    row_is_sound(&row);
    true
}

fn rows() -> Vec<Bytes> {
    let encoded = |row: &Row| {
        let mut out = Vec::new();
        codec::encode_row(row, &mut out);
        Bytes::from(out)
    };
    let mut rows: Vec<Bytes> = samples(lattice::row(), SAMPLES).iter().map(encoded).collect();
    rows.extend(dense().rows.values().map(encoded));
    rows
}

target!(a_mutation_of_any_bytes, 1, mutations(), mutation);
target!(a_partition_of_any_bytes, 1, partitions().iter().map(encoded).collect::<Vec<_>>(), partition);
target!(a_row_of_any_bytes, 1, rows(), row);
