//! Large things: partitions over many blocks, values of megabytes, entries longer than a frame.

use super::*;
use crate::engine::sstable::{Scan, ScanLimits, limits::FRAME_PLAIN_BYTES_MAX};
use kula_lattice::{Join, RangeFloors, Row, Slice};
use std::ops::Bound;

const ROWS: u32 = 10_000;

fn clustering(number: u32) -> ClusteringKey {
    ClusteringKey::copy_from(&number.to_be_bytes())
}

fn place(token: i64) -> (Token, PartitionKey) {
    (Token(token), PartitionKey::copy_from(format!("partition {token}").as_bytes()))
}

fn wide() -> Partition {
    let floor = |micros| Key::delete_at(Timestamp::from_micros(micros).unwrap());
    let rows = (0..ROWS).map(|number| {
        let (id, cell) = register(number.into(), noise(number.into(), 30));
        (clustering(number), Row::of_cell(id, cell))
    });
    let (id, cell) = register(3, "static");
    Partition {
        floor: Some(floor(-10)),
        statics: Some(Box::new(Row::of_cell(id, cell))),
        ranges: RangeFloors::one(Bound::Included(clustering(100)), Bound::Excluded(clustering(9_000)), floor(-5)),
        rows: rows.collect(),
    }
}

fn model() -> Model {
    let narrow = || one_row(b"", 1, "narrow");
    Model::from([(place(-1), narrow()), (place(0), wide()), (place(1), narrow())])
}

#[test]
fn slices_of_a_wide_partition_are_its_clips_and_read_few_blocks() {
    let model = model();
    let (disk, _, sstable) = table_of(options(4096, Compression::Lz4), &model);
    assert!(sstable.statistics().blocks > 100);
    let (token, key) = place(0);
    let all = &model[&place(0)];
    let bounds = [0, 1, 100, 5_000, 5_077, 9_999, 10_000, u32::MAX];
    for (from, to) in bounds.iter().flat_map(|from| bounds.iter().map(move |to| (*from, *to))) {
        for slice in [
            Slice { from: Bound::Included(clustering(from)), to: Bound::Included(clustering(to)) },
            Slice { from: Bound::Excluded(clustering(from)), to: Bound::Excluded(clustering(to)) },
            Slice { from: Bound::Included(clustering(from)), to: Bound::Unbounded },
        ] {
            // Every other kind of slice is short: comparing thousands of rows takes longer than reading them.
            if slice.to != Bound::Unbounded && from < to && to - from > 1_000 && from != 100 {
                continue;
            }
            assert_eq!(sstable.get(token, &key, &slice), Ok(Some(all.clone().clip(&slice))), "{slice:?}");
        }
    }
    let before = disk.calls(kula_disk::sim::Target::Read);
    sstable.get(token, &key, &Slice::row(clustering(7_000))).unwrap();
    let reads = disk.calls(kula_disk::sim::Target::Read) - before;
    assert!(reads <= 4, "two index blocks, the header's block, the row's block; not {reads}");
    assert_eq!(sstable.verify(&disk, ""), Ok(()));
}

#[test]
fn neighbours_of_a_wide_partition_are_found_and_scans_start_anywhere() {
    let model = model();
    let (_, _, sstable) = table_of(options(4096, Compression::Lz4), &model);
    for number in [-1, 1] {
        let (token, key) = place(number);
        assert_eq!(sstable.get(token, &key, &Slice::all()).unwrap().as_ref(), Some(&model[&(token, key)]));
    }
    let tokens = |scan: Scan| scan.map(|found| found.unwrap().0.0).collect::<Vec<_>>();
    assert_eq!(tokens(sstable.scan(Bound::Unbounded, ScanLimits::all())), [-1, 0, 1]);
    assert_eq!(tokens(sstable.scan(Bound::Included(place(0)), ScanLimits::all())), [0, 1]);
    assert_eq!(tokens(sstable.scan(Bound::Excluded(place(0)), ScanLimits::all())), [1]);
    let limits = ScanLimits { to: Bound::Excluded(place(1)), ..ScanLimits::all() };
    assert_eq!(tokens(sstable.scan(Bound::Unbounded, limits)), [-1, 0]);
}

#[test]
fn a_wide_partition_passes_through_in_pieces() {
    let model = model();
    let (disk, meta, sstable) = table_of(options(4096, Compression::Lz4), &model);
    let limits = ScanLimits { piece_bytes: 20_000, ..ScanLimits::all() };
    let copy = FileId([2; 16]);
    let mut writer = SstableWriter::create(&disk, "", copy, GENERATION, options(4096, Compression::Lz4)).unwrap();
    let (mut pieces, mut joined) = (0, Model::new());
    for piece in sstable.scan(Bound::Unbounded, limits) {
        let (token, key, piece) = piece.unwrap();
        writer.add(token, &key, &piece).unwrap();
        pieces += 1;
        assert!(piece.rows.len() < 1_000);
        joined.entry((token, key)).or_default().join(piece);
    }
    assert!(pieces > 15, "{pieces}");
    assert!(joined == model);
    let copied = writer.finish().unwrap();
    assert_eq!(copied.data_bytes, meta.data_bytes);
    let copied = Sstable::open(&disk, "", &copied).unwrap();
    assert_eq!(copied.verify(&disk, ""), Ok(()));
    assert_eq!(copied.statistics().partitions, 3);
    let (token, key) = place(0);
    assert!(copied.get(token, &key, &Slice::all()).unwrap().as_ref() == Some(&model[&place(0)]));
}

#[test]
fn values_of_megabytes_lie_alone_and_entries_longer_than_a_frame_are_whole() {
    let mut model = Model::new();
    model.insert(place(0), one_row(b"", 1, "small"));
    model.insert(place(1), one_row(b"", 2, noise(1, 8 << 20)));
    model.insert(place(2), one_row(b"", 3, vec![7; 8 << 20]));
    // Three values of a row, as concurrent writes may leave them: longer than any frame.
    let mut row = Row::default();
    for column in 0..3 {
        let (_, cell) = register(column, noise(column, FRAME_PLAIN_BYTES_MAX / 2));
        row.cells.insert(CellId::simple(ColumnId(column)), cell);
    }
    model.insert(place(3), Partition::of_row(clustering(0), row));
    model.insert(place(4), one_row(b"", 1, "small"));
    let (disk, _, sstable) = table_of(options(16 << 10, Compression::Lz4), &model);
    for ((token, key), partition) in &model {
        assert!(sstable.get(*token, key, &Slice::all()).unwrap().as_ref() == Some(partition), "{token}");
    }
    assert_eq!(sstable.statistics().blocks, 5);
    assert_eq!(sstable.scan(Bound::Unbounded, ScanLimits::all()).count(), 5);
    assert_eq!(sstable.verify(&disk, ""), Ok(()));
}

#[test]
fn an_open_table_holds_two_files() {
    let model = Model::from([(place(1), one_row(b"a", 1, "body"))]);
    let (disk, _, sstable) = table_of(options(4096, Compression::None), &model);
    assert_eq!(disk.open_files(), 2, "data and index");
    assert_eq!(sstable.verify(&disk, ""), Ok(()));
    drop(sstable);
    assert_eq!(disk.open_files(), 0);
}
