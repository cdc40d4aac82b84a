//! What was written is what is read: gets, slices, scans, statistics, with and without cache and filter.

use super::*;
use crate::engine::sstable::{BlockCache, ScanLimits, TimestampSpan, limits::BLOCK_BYTES_DEFAULT};
use kula_lattice::Slice;
use kula_testkit::lattice::{partition, slice};
use proptest::{
    collection::{btree_map, vec},
    prelude::*,
    sample::select,
};
use std::{ops::Bound, sync::Arc};

fn place() -> impl Strategy<Value = (Token, PartitionKey)> {
    let token = prop_oneof![3 => -2i64..3, 1 => any::<i64>(), 1 => select(vec![i64::MIN, i64::MAX])];
    let key = prop_oneof![4 => vec(select(vec![0u8, 1, 2, 0xff]), 0..3), 1 => vec(any::<u8>(), 0..80)];
    (token, key).prop_map(|(token, key)| (Token(token), PartitionKey(key.into())))
}

fn model() -> impl Strategy<Value = Model> {
    btree_map(place(), partition().prop_filter("not bottom", |partition| !partition.is_empty()), 1..12)
}

fn write_options() -> impl Strategy<Value = WriteOptions> {
    let block_bytes = select(vec![64, 200, 1000, BLOCK_BYTES_DEFAULT]);
    (block_bytes, select(vec![Compression::None, Compression::Lz4]))
        .prop_map(|(block_bytes, compression)| options(block_bytes, compression))
}

fn bound() -> impl Strategy<Value = Bound<(Token, PartitionKey)>> {
    prop_oneof![Just(Bound::Unbounded), place().prop_map(Bound::Included), place().prop_map(Bound::Excluded)]
}

fn within(
    place: &(Token, PartitionKey),
    from: &Bound<(Token, PartitionKey)>,
    to: &Bound<(Token, PartitionKey)>,
) -> bool {
    let above = match from {
        Bound::Unbounded => true,
        Bound::Included(from) => place >= from,
        Bound::Excluded(from) => place > from,
    };
    above
        && match to {
            Bound::Unbounded => true,
            Bound::Included(to) => place <= to,
            Bound::Excluded(to) => place < to,
        }
}

proptest! {
    #![proptest_config(kula_testkit::property())]

    #[test]
    fn a_table_gives_back_what_was_put_in(model in model(), options in write_options(), slice in slice(), strangers in vec(place(), 8)) {
        let (disk, meta, sstable) = table_of(options, &model);
        let cached = table_of(options, &model).2.with_cache(Arc::new(BlockCache::new(20_000)));
        for round in 0..2 {
            for ((token, key), partition) in &model {
                let table = if round == 0 { &sstable } else { &cached };
                prop_assert!(table.may_contain(*token, key));
                let whole = table.get(*token, key, &Slice::all()).unwrap();
                prop_assert_eq!(whole.as_ref(), Some(partition));
                prop_assert_eq!(table.get(*token, key, &slice).unwrap(), Some(partition.clone().clip(&slice)));
            }
        }
        for (token, key) in strangers {
            prop_assert_eq!(sstable.get(token, &key, &slice).unwrap(), model.get(&(token, key)).cloned().map(|found| found.clip(&slice)));
        }
        prop_assert_eq!(sstable.verify(&disk, ""), Ok(()));
        prop_assert_eq!(SstableMeta::from_bytes(&meta.to_bytes()), Some(meta));
    }

    #[test]
    fn a_scan_is_the_model_in_order(model in model(), options in write_options(), from in bound(), to in bound()) {
        let (_, _, sstable) = table_of(options, &model);
        let limits = ScanLimits { to: to.clone(), ..ScanLimits::all() };
        let found: Vec<_> = sstable.scan(from.clone(), limits).map(Result::unwrap).collect();
        let expected: Vec<_> = model.iter().filter(|(place, _)| within(place, &from, &to))
            .map(|((token, key), partition)| (*token, key.clone(), partition.clone())).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn statistics_are_those_of_the_model(model in model(), options in write_options()) {
        let (_, meta, sstable) = table_of(options, &model);
        let statistics = sstable.statistics();
        let all = || model.values().flat_map(|partition| partition.rows.values().chain(partition.statics.as_deref()));
        let cells = || all().flat_map(|row| row.cells.values());
        let values = all().flat_map(|row| row.marker.iter()).chain(cells().flat_map(|cell| cell.lww.iter())).map(|lww| lww.key.ts());
        let values: Vec<_> = values.chain(cells().flat_map(|cell| cell.dots.iter()).flat_map(|dots| dots.live.values()).map(|live| live.hlc)).collect();
        let floors = model.values().flat_map(|partition| partition.floor.into_iter().chain(partition.ranges.iter().filter_map(|(_, floor)| floor)));
        let floors = floors.chain(all().flat_map(|row| row.floor.into_iter().chain(row.collections.values().copied())));
        let floors: Vec<_> = floors.chain(cells().filter_map(|cell| cell.floor)).map(|floor| floor.ts()).collect();
        let span = |times: &[Timestamp]| Some(TimestampSpan { lowest: *times.iter().min()?, highest: *times.iter().max()? });
        prop_assert_eq!(statistics.values, span(&values));
        prop_assert_eq!(statistics.floors, span(&floors));
        prop_assert_eq!(sstable.highest_timestamp(), values.iter().chain(&floors).max().copied());
        prop_assert_eq!(sstable.has_causal(), cells().any(|cell| cell.dots.is_some()));
        prop_assert_eq!(statistics.partitions, model.len() as u64);
        prop_assert_eq!(statistics.cells, cells().count() as u64);
        prop_assert_eq!(statistics.rows, model.values().map(|partition| partition.rows.len() as u64).sum::<u64>());
        prop_assert_eq!((Some(&statistics.first), Some(&statistics.last)), (model.keys().next(), model.keys().last()));
        prop_assert_eq!(meta.bytes(), statistics.data.bytes + statistics.index.bytes + statistics.filter.bytes + meta.statistics_bytes);
    }
}

#[test]
fn bottom_is_not_written() {
    let mut model = small_model();
    let (_, expected, _) = table_of(options(200, Compression::None), &model);
    let place = (Token(i64::MAX - 5), PartitionKey::copy_from(b"bottom"));
    let row = Partition::of_row(ClusteringKey::default(), kula_lattice::Row::default());
    model.insert(place.clone(), row);
    model.insert((Token(i64::MIN), PartitionKey::copy_from(b"bottom")), Partition::default());
    let (_, meta, sstable) = table_of(options(200, Compression::None), &model);
    assert_eq!(meta, expected);
    assert_eq!(sstable.get(place.0, &place.1, &Slice::all()), Ok(None));
}

#[test]
#[should_panic(expected = "ascending")]
fn partitions_out_of_order_are_our_own_mistake() {
    let disk = SimDisk::new(1);
    let mut writer = SstableWriter::create(&disk, "", FILE, GENERATION, options(200, Compression::None)).unwrap();
    for token in [2, 1] {
        writer.add(Token(token), &PartitionKey::copy_from(b"k"), &one_row(b"", 1, "v")).unwrap();
    }
}

#[test]
fn a_small_answer_does_not_keep_its_block_alive() {
    let (mut model, place) =
        (Model::new(), |number: i64| (Token(number), PartitionKey::copy_from(&number.to_be_bytes())));
    (0..20).for_each(|number| drop(model.insert(place(number), one_row(b"", 1, noise(1, 500)))));
    model.insert(place(20), one_row(b"", 1, noise(2, 60_000)));
    let (_, _, sstable) = table_of(options(BLOCK_BYTES_DEFAULT, Compression::None), &model);
    let body = |number: i64| {
        let (token, key) = place(number);
        let partition = sstable.get(token, &key, &Slice::all()).unwrap().unwrap();
        let cell = partition.cell(&ClusteringKey::default(), &CellId::simple(ColumnId(1))).unwrap();
        let Some(kula_lattice::Lww { body: kula_lattice::Body::Full(bytes), .. }) = cell.lww.clone() else {
            panic!("a value")
        };
        bytes
    };
    // Unique memory can be taken over in place: what a result shares is only its own copy, or its own large block.
    for number in [0, 7, 19, 20] {
        assert!(body(number).try_into_mut().is_ok(), "{number}");
    }
    let cache = Arc::new(BlockCache::new(1 << 20));
    let sstable = sstable.with_cache(cache.clone());
    let (token, key) = place(3);
    for _ in 0..3 {
        drop(sstable.get(token, &key, &Slice::all()).unwrap());
    }
    let statistics = cache.statistics();
    assert_eq!((statistics.hits, statistics.misses, statistics.blocks), (4, 2, 2), "one index block, one data block");
}
