//! SSTables with a part of any bytes behind right checksums: opened, read in every way, verified; and what verifies is
//! read as one whole and can be written again.
//!
//! Promise: P19

use crate::{
    files::get,
    input::{Input, samples},
    meter::{Meter, shared},
    mutation::live_is_seen,
    regressions,
    table_parts::{FILE, GENERATION, Parts, Place, Whole},
    target,
};
use bytes::Bytes;
use kula_disk::SimDisk;
use kula_lattice::{Cell, CellId, Partition, Row, Slice};
use kula_storage::engine::sstable::{
    Component, Compression, FileId, ScanLimits, Sstable, SstableMeta, SstableWriter, WriteOptions,
};
use kula_testkit::lattice;
use kula_types::{Actor, ClusteringKey, ColumnId, Dot, Key, PartitionKey, TableId, Timestamp, Token};
use std::{ops::Bound, sync::LazyLock};

/// Files are read once an operation; what rows become is small beside a table of bodies.
const FACTOR: usize = 4;
/// A stored byte may become 256 (`limits::FRAME_RATIO_MAX`), and that is allocated before it is filled.
const FACTOR_COMPRESSED: usize = 256 + FACTOR;

type Entry = (Token, PartitionKey, Partition);

fn entries() -> Vec<Entry> {
    let key = |number: i64| PartitionKey::copy_from(&number.to_be_bytes());
    let mut entries: Vec<Entry> = (0..)
        .zip(samples(lattice::partition(), 14).into_iter().filter(|partition| !partition.clone().pruned().is_empty()))
        .map(|(number, partition)| (Token(number << 40), key(number), partition.pruned()))
        .collect();
    // One that goes on over several blocks.
    let value = Key::of(Timestamp::MIN, Dot::new(Actor(1), 0, 1).unwrap());
    let row = |number: u8| {
        let cell = Cell::put(value, None, Bytes::from(vec![number; 40]));
        (ClusteringKey::copy_from(&[number]), Row::of_cell(CellId::simple(ColumnId(1)), cell))
    };
    let wide = Partition { rows: (0..20).map(row).collect(), ..Partition::default() };
    entries.push((Token(7 << 50), key(99), wide));
    entries
}

fn write(disk: &SimDisk, file: FileId, options: WriteOptions, entries: &[Entry]) -> SstableMeta {
    let mut writer = SstableWriter::create(disk, "", file, GENERATION, options).unwrap();
    for (token, key, partition) in entries {
        writer.add(*token, key, partition).unwrap();
    }
    writer.finish().unwrap()
}

fn options(compression: Compression) -> WriteOptions {
    WriteOptions { block_bytes: 256, compression, ..WriteOptions::new(TableId([1; 16])) }
}

fn parts(compression: Compression) -> Parts {
    let disk = SimDisk::new(1);
    let meta = write(&disk, FILE, options(compression), &entries());
    Parts::of(&disk, meta)
}

static PLAIN: LazyLock<Parts> = LazyLock::new(|| parts(Compression::None));
static COMPRESSED: LazyLock<Parts> = LazyLock::new(|| parts(Compression::Lz4));

/// Reads in every way. Answers whether the table verifies.
fn read(whole: &Whole, factor: usize, meter: &Meter) -> bool {
    let Whole { disk, meta, bytes } = whole;
    let Ok(table) = meter.bounded(*bytes, factor, || Sstable::open(disk, "", meta)) else { return false };
    let scan =
        |limits: ScanLimits| meter.bounded(*bytes, factor, || table.scan(Bound::Unbounded, limits).collect::<Vec<_>>());
    let scanned: Result<Vec<Entry>, _> = scan(ScanLimits::all()).into_iter().collect();
    let pieces = scan(ScanLimits { piece_bytes: 64, ..ScanLimits::all() });
    assert!(pieces.len() <= *bytes, "a scan ends");
    for (_, _, partition) in pieces.iter().flatten() {
        live_is_seen(partition);
    }
    let row = ClusteringKey::copy_from(b"b");
    let slice = Slice { from: Bound::Excluded(row), to: Bound::Unbounded };
    for (token, key) in [(Token(0), 0i64), (Token(3 << 40), 3), (Token(7 << 50), 99), (Token::MAX, 5)] {
        let key = PartitionKey::copy_from(&key.to_be_bytes());
        for slice in [&Slice::all(), &slice] {
            let found = meter.bounded(*bytes, factor, || table.get(token, &key, slice));
            found.iter().flatten().for_each(live_is_seen);
        }
    }
    if meter.bounded(*bytes, factor, || table.verify(disk, "")).is_err() {
        return false;
    }
    is_one_whole(&table, &scanned.unwrap());
    true
}

fn is_one_whole(table: &Sstable, entries: &[Entry]) {
    assert!(entries.is_sorted_by(|left, right| (left.0, &left.1) < (right.0, &right.1)));
    for (token, key, partition) in entries {
        let found = table.get(*token, key, &Slice::all());
        assert_eq!(found.as_ref().map(Option::as_ref), Ok(Some(partition)), "{token}");
    }
    let rewritten: Vec<Entry> = entries
        .iter()
        .map(|(token, key, partition)| (*token, key.clone(), partition.clone().pruned()))
        .filter(|(_, _, partition)| !partition.is_empty())
        .collect();
    if !rewritten.is_empty() {
        let (disk, file) = (SimDisk::new(1), FileId([1; 16]));
        let meta = write(&disk, file, options(Compression::Lz4), &rewritten);
        let again = Sstable::open(&disk, "", &meta).unwrap();
        assert_eq!(again.verify(&disk, ""), Ok(()));
        let found: Vec<Entry> = again.scan(Bound::Unbounded, ScanLimits::all()).map(Result::unwrap).collect();
        assert_eq!(found, rewritten);
    }
}

fn bodies(component: Component) -> Vec<Bytes> {
    (0..PLAIN.count(component)).map(|at| Bytes::from(PLAIN.body(component, at))).collect()
}

fn body(component: Component, input: &Input, meter: &Meter) -> bool {
    read(&PLAIN.with(Place::Body(component, input.pick), &input.bytes), FACTOR, meter)
}

fn frames() -> Vec<Bytes> {
    (0..COMPRESSED.count(Component::Data)).map(|at| Bytes::from(COMPRESSED.frame(Component::Data, at))).collect()
}

fn frame(input: &Input, meter: &Meter) -> bool {
    read(&COMPRESSED.with(Place::Frame(Component::Data, input.pick), &input.bytes), FACTOR_COMPRESSED, meter)
}

fn files() -> Vec<Bytes> {
    Component::ALL.map(|component| Bytes::from(PLAIN.file(component))).into()
}

fn file(input: &Input, meter: &Meter) -> bool {
    read(&PLAIN.with(Place::File(Component::ALL[input.pick]), &input.bytes), FACTOR, meter)
}

target!(a_data_block_of_any_bytes, 20, bodies(Component::Data), |input, meter| body(Component::Data, input, meter));
target!(an_index_block_of_any_bytes, 20, bodies(Component::Index), |input, meter| body(Component::Index, input, meter));
target!(a_filter_of_any_bytes, 20, bodies(Component::Filter), |input, meter| body(Component::Filter, input, meter));
target!(statistics_of_any_bytes, 20, bodies(Component::Statistics), |input, meter| body(
    Component::Statistics,
    input,
    meter
));
target!(a_compressed_frame_of_any_bytes, 20, frames(), frame);
target!(an_sstable_file_of_any_bytes, 20, files(), file);

fn is_unchanged(parts: &Parts, component: Component, at: usize) {
    let whole = parts.with(Place::Frame(component, at), &parts.frame(component, at));
    assert_eq!(
        Sstable::open(&whole.disk, "", &whole.meta).unwrap().verify(&whole.disk, ""),
        Ok(()),
        "{component} {at}"
    );
    for component in Component::ALL {
        let file = get(&whole.disk, &component.file_name("", FILE));
        assert_eq!(file, parts.file(component), "{component}");
    }
}

/// What is taken apart and put together unchanged is the table that the writer made.
#[test]
fn an_unchanged_part_makes_the_table_it_came_from() {
    for parts in shared(|| [&*PLAIN, &*COMPRESSED]) {
        for component in Component::ALL {
            for at in 0..parts.count(component) {
                shared(|| is_unchanged(parts, component, at));
            }
        }
    }
}

#[test]
fn a_table_that_verifies_hides_nothing_behind_its_restarts() {
    for Input { pick, bytes } in regressions::of("an_index_block_of_any_bytes") {
        shared(|| read(&PLAIN.with(Place::Body(Component::Index, pick), &bytes), FACTOR, &Meter::default()));
    }
}
