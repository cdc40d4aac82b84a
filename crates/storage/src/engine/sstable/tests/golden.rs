//! A table of format version 1, as the first release wrote it, must stay readable for ever.
//!
//! `KULA_BLESS=1 cargo test -p kula-storage golden` writes the fixture anew: only ever for a new format version.

use super::*;
use crate::engine::sstable::{Component, ScanLimits};
use kula_disk::{Disk, OsDisk};
use kula_lattice::{Body, Context, Live, Lww, NewSibling, OpId, RangeFloors, Row};
use std::{ops::Bound, path::Path};

const META: &[u8] = include_bytes!("../../../../testdata/sstable-v1/meta");
const COMPONENTS: [(Component, &[u8]); 4] = [
    (Component::Data, include_bytes!("../../../../testdata/sstable-v1/a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1-Data.db")),
    (Component::Index, include_bytes!("../../../../testdata/sstable-v1/a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1-Index.db")),
    (Component::Filter, include_bytes!("../../../../testdata/sstable-v1/a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1-Filter.db")),
    (
        Component::Statistics,
        include_bytes!("../../../../testdata/sstable-v1/a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1-Statistics.db"),
    ),
];

/// The small model, and a partition with one of everything a cell can hold.
fn golden_model() -> Model {
    let time = |micros| Timestamp::from_micros(micros).unwrap();
    let dot = |seq| Dot::new(Actor(0x0123_4567_89ab_cdef), 3, seq).unwrap();
    let id = |column, path: &'static [u8]| CellId { column: ColumnId(column), path: bytes::Bytes::from_static(path) };
    let sibling =
        NewSibling { hlc: time(1_000), op_id: Some(OpId([8; 16])), exp: Some(time(9_000)), body: "sibling".into() };
    let context = Context { dots: vec![(dot(4), 2)], lww: Some(Key::of(time(500), dot(3))) };
    let causal = Cell::causal_put(&context, dot(20), 11, sibling);
    let mut stub = causal.clone();
    if let Some(live) = stub.dots.as_mut().and_then(|dots| dots.live.get_mut(&dot(20))) {
        *live = Live { body: Body::Stub, op_id: None, ..live.clone() };
    }
    let register =
        Lww { key: Key::of(time(i64::MAX), dot(Dot::SEQ_MAX)), exp: None, body: Body::Full("register".into()) };
    let full = Row {
        floor: Some(Key::before(time(1), dot(1))),
        marker: Some(register.clone()),
        collections: [(ColumnId(4), Key::delete_at(time(3)))].into_iter().collect(),
        cells: [
            (id(1, b""), causal),
            (id(2, b""), stub),
            (id(3, b""), Cell { lww: Some(register), floor: Some(Key::delete_at(time(-7))), dots: None }),
            (id(4, b"element"), Cell::causal_delete(&context, dot(30), 29)),
            (id(5, b""), Cell::delete(Timestamp::MIN)),
        ]
        .into_iter()
        .collect(),
    };
    let from_a = Bound::Included(ClusteringKey::copy_from(b"a"));
    let partition = Partition {
        floor: Some(Key::delete_at(Timestamp::MIN)),
        statics: Some(Box::new(full.clone())),
        ranges: RangeFloors::one(from_a, Bound::Unbounded, Key::delete_at(time(12))),
        rows: [(ClusteringKey::default(), full)].into_iter().collect(),
    };
    let mut model = small_model();
    model.insert((Token(i64::MAX), PartitionKey::copy_from(b"everything")), partition);
    model
}

#[test]
fn golden_bytes_of_version_1_stay_readable() {
    let model = golden_model();
    if std::env::var_os("KULA_BLESS").is_some() {
        return bless(&model);
    }
    let disk = SimDisk::new(6);
    for (component, bytes) in COMPONENTS {
        disk.create(&component.file_name("", FILE)).unwrap().write_at(bytes, 0).unwrap();
    }
    let meta = SstableMeta::from_bytes(META.try_into().unwrap()).unwrap();
    let sstable = Sstable::open(&disk, "", &meta).unwrap();
    assert_eq!(sstable.verify(&disk, ""), Ok(()));
    assert_eq!(sstable.filter_damage(), None);
    let found: Model = sstable
        .scan(Bound::Unbounded, ScanLimits::all())
        .map(Result::unwrap)
        .map(|(token, key, partition)| ((token, key), partition))
        .collect();
    assert_eq!(found, model);
    for ((token, key), partition) in &model {
        assert_eq!(sstable.get(*token, key, &kula_lattice::Slice::all()).unwrap().as_ref(), Some(partition));
    }
}

fn bless(model: &Model) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/sstable-v1");
    let disk = OsDisk::open(&root).unwrap();
    crate::engine::sstable::remove(&disk, "", FILE).unwrap();
    let mut writer = SstableWriter::create(&disk, "", FILE, GENERATION, options(200, Compression::Lz4)).unwrap();
    for ((token, key), partition) in model {
        writer.add(*token, key, partition).unwrap();
    }
    let meta = writer.finish().unwrap();
    let file = if disk.exists("meta").unwrap() {
        disk.open("meta", kula_disk::Access::ReadWrite)
    } else {
        disk.create("meta")
    };
    file.unwrap().write_at(&meta.to_bytes(), 0).unwrap();
}
