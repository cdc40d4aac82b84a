//! Pages of a token range against a map of joins: whatever was put, deleted and flushed, the pages of a shard laid one behind
//! the other are the range of the map, whatever their size.

use crate::workload::{digest, open_on};
use bytes::Bytes;
use kula_disk::SimDisk;
use kula_lattice::{Cell, CellId, Join, Mutation, Partition};
use kula_storage::{
    RangePage, StorageError,
    engine::{FlushJob, PageBudget, Shard},
    limits,
};
use kula_types::{Actor, ClusteringKey, ColumnId, Dot, Key, PartitionKey, TableId, Timestamp, Token};
use proptest::prelude::*;
use std::{collections::BTreeMap, ops::Bound};

const TABLE: TableId = TableId([1; 16]);
const KEYS: u16 = 60;

type Place = (Token, PartitionKey);

/// Keys that share tokens, at both ends and in between.
fn place(key: u16) -> Place {
    let token = match key % 10 {
        0 => Token::MAX,
        1 => Token(i64::MIN + 1),
        2 => Token(77),
        _ => Token(i64::from(key / 2).wrapping_mul(0x0123_4567_89ab_cdef)),
    };
    (token, PartitionKey::copy_from(format!("{key}").repeat(usize::from(key % 3) + 1).as_bytes()))
}

fn before(token: Token) -> Place {
    (token, PartitionKey::copy_from(&[]))
}

fn write(key: u16, sequence: u64, bytes: Option<usize>) -> (Mutation, Bytes) {
    let dot = Dot::new(Actor(9), 0, sequence).unwrap();
    let at = Timestamp::from_micros(i64::try_from(sequence).unwrap()).unwrap();
    let delta = match bytes {
        Some(bytes) => {
            let cell = Cell::put(Key::of(at, dot), None, Bytes::from(vec![b'v'; bytes]));
            Partition::of_cell(ClusteringKey::default(), CellId::simple(ColumnId(1)), cell)
        }
        None => Partition { floor: Some(Key::delete_at(at)), ..Partition::default() },
    };
    let (token, key) = place(key);
    let mutation = Mutation { table: TABLE, token, key, mid: dot, previous: sequence - 1, delta };
    let encoded = mutation.encode();
    (Mutation::decode(&encoded).unwrap(), encoded)
}

fn bytes_of((_, key, partition): &(Token, PartitionKey, Partition)) -> usize {
    key.as_bytes().len() + partition.heap_bytes()
}

/// All pages of a shard's range.
fn walk(shard: &Shard, after: &Place, through: Token, budget: PageBudget) -> Result<Vec<RangePage>, StorageError> {
    let (mut pages, mut after) = (Vec::new(), after.clone());
    loop {
        let page = shard.read_range(TABLE, after.clone(), through, budget)?;
        let resume = page.resume.clone();
        pages.push(page);
        let Some(resume) = resume else { return Ok(pages) };
        assert!(resume > after && resume.0 <= through, "a page goes on");
        assert!(pages.len() <= usize::from(KEYS) + 1, "the pages come to an end");
        after = resume;
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u16, usize),
    Delete(u16),
    /// A run of deletes, of keys that never were.
    DeleteAll,
    Flush,
    /// A flush whose end comes later.
    Freeze,
    EndFlush,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0..KEYS, prop_oneof![9 => 0usize..60, 1 => 800usize..1_300]).prop_map(|(key, bytes)| Step::Put(key, bytes)),
        6 => (0..KEYS).prop_map(Step::Delete),
        1 => Just(Step::DeleteAll),
        2 => Just(Step::Flush),
        1 => Just(Step::Freeze),
        1 => Just(Step::EndFlush),
    ]
}

proptest! {
    #![proptest_config(kula_testkit::property())]

    // Promise: P3, R26
    #[test]
    fn pages_laid_one_behind_the_other_are_the_range(
        steps in prop::collection::vec(step(), 1..150),
        partitions in 1usize..12,
        bytes in prop_oneof![Just(0usize), 1usize..5_000, Just(usize::MAX)],
        from in prop::option::of(0..KEYS),
        to in prop::option::of(0..KEYS),
    ) {
        let disk = SimDisk::new(1);
        let mut storage = open_on(&disk).unwrap();
        let mut model: BTreeMap<Place, Partition> = BTreeMap::new();
        let mut jobs: BTreeMap<u16, FlushJob> = BTreeMap::new();
        let mut sequence = 0;
        let shards = 0..u16::try_from(storage.engine.shards.len()).unwrap();
        for step in steps {
            let batch: Vec<(u16, Option<usize>)> = match step {
                Step::Put(key, bytes) => vec![(key, Some(bytes))],
                Step::Delete(key) => vec![(key, None)],
                Step::DeleteAll => (0..KEYS).map(|key| (key, None)).collect(),
                Step::Flush => {
                    for shard in shards.clone() {
                        storage.engine.flush(shard).unwrap();
                    }
                    Vec::new()
                }
                Step::Freeze => {
                    for shard in shards.clone() {
                        jobs.extend(storage.engine.shards[usize::from(shard)].freeze().map(|job| (shard, job)));
                    }
                    Vec::new()
                }
                Step::EndFlush => {
                    while let Some((_, mut job)) = jobs.pop_first() {
                        storage.engine.install(job.run(&disk).unwrap()).unwrap();
                    }
                    Vec::new()
                }
            };
            for (key, bytes) in batch {
                sequence += 1;
                let (mutation, encoded) = write(key, sequence, bytes);
                model.entry(place(key)).or_default().join(mutation.delta.clone());
                storage.engine.apply(vec![(mutation, encoded)]).unwrap();
            }
        }
        let after = from.map_or(before(Token::MIN), place);
        let through = to.map_or(Token::MAX, |key| place(key).0);
        let budget = PageBudget::of(partitions, bytes);
        for shard in &storage.engine.shards {
            let pages = walk(shard, &after, through, budget).unwrap();
            for page in &pages {
                prop_assert!(page.rows.len() <= partitions);
                prop_assert!(page.rows.len() <= 1 || page.rows.iter().map(bytes_of).sum::<usize>() <= bytes);
                prop_assert!(page.rows.last().is_none_or(|(token, key, _)| page.resume.as_ref().is_none_or(|(at, of)| (token, key) <= (at, of))));
            }
            let found: Vec<_> =
                pages.into_iter().flat_map(|page| page.rows).map(|(token, key, of)| ((token, key), digest(of))).collect();
            let is_wanted = |place: &Place| *place > after && place.0 <= through;
            let is_here = |place: &Place| storage.engine.sharding.shard_of(place.0) == shard.index();
            let here = model.iter().filter(|(place, _)| is_wanted(place) && is_here(place));
            let wanted: Vec<_> = here.map(|(place, of)| (place.clone(), digest(of.clone()))).collect();
            prop_assert_eq!(found, wanted);
        }
    }
}

// Promise: P9
#[test]
fn a_page_is_bounded_however_much_is_asked_for() {
    let storage_disk = SimDisk::new(2);
    let mut storage = open_on(&storage_disk).unwrap();
    let budget = PageBudget::of(usize::MAX, usize::MAX);
    assert_eq!((budget.partitions, budget.bytes), (limits::RANGE_PARTITIONS_MAX, limits::RANGE_BYTES_MAX));
    // Nothing is asked for: a page still goes on.
    storage.engine.apply(vec![write(3, 1, Some(1)), write(5, 2, Some(1))]).unwrap();
    let found: usize = (storage.engine.shards.iter())
        .map(|shard| walk(shard, &before(Token::MIN), Token::MAX, PageBudget::of(0, 0)).unwrap())
        .map(|pages| pages.iter().map(|page| page.rows.len()).sum::<usize>())
        .sum();
    assert_eq!(found, 2);
}

#[test]
fn what_lies_before_damage_is_a_page_and_the_next_one_is_the_error() {
    let disk = SimDisk::new(3);
    let mut storage = open_on(&disk).unwrap();
    // Many blocks in one shard: tokens of one slot, ascending by key.
    let many = |number: u64| {
        let (mut mutation, _) = write(0, number + 1, Some(400));
        mutation.token = Token(1_000);
        mutation.key = PartitionKey::copy_from(&number.to_be_bytes());
        let encoded = mutation.encode();
        (Mutation::decode(&encoded).unwrap(), encoded)
    };
    let shard = storage.engine.sharding.shard_of(Token(1_000));
    for number in 0..100 {
        // Noise does not compress.
        let (mut mutation, _) = many(number);
        let noise: Vec<u8> =
            (0..400u64).map(|at| (((at + 1) * (number + 7) * 0x9e37_79b9) >> 13).to_le_bytes()[0]).collect();
        let key = Key::of(Timestamp::from_micros(1).unwrap(), mutation.mid);
        mutation.delta = Partition::of_cell(
            ClusteringKey::default(),
            CellId::simple(ColumnId(1)),
            Cell::put(key, None, noise.into()),
        );
        let encoded = mutation.encode();
        storage.engine.apply(vec![(Mutation::decode(&encoded).unwrap(), encoded)]).unwrap();
    }
    storage.engine.flush(shard).unwrap();
    drop(storage);
    let directory = format!("shard-{shard:03}");
    let names = kula_disk::Disk::list(&disk, &directory).unwrap();
    let data = names.iter().find(|name| name.ends_with("Data.db")).unwrap();
    let name = format!("{directory}/{data}");
    let file = kula_disk::Disk::open(&disk, &name, kula_disk::Access::ReadWrite).unwrap();
    let middle = file.len().unwrap() / 2;
    file.write_at(b"damage", middle).unwrap();
    file.sync_all().unwrap();

    let storage = open_on(&disk).unwrap();
    let shard = &storage.engine.shards[usize::from(shard)];
    let page = shard.read_range(TABLE, before(Token::MIN), Token::MAX, PageBudget::default()).unwrap();
    assert!((1..100).contains(&page.rows.len()), "{} rows", page.rows.len());
    let resume = page.resume.unwrap();
    let last = page.rows.last().unwrap();
    assert_eq!((resume.0, &resume.1), (last.0, &last.1));
    let error = shard.read_range(TABLE, resume.clone(), Token::MAX, PageBudget::default()).unwrap_err();
    assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
    assert!(shard.scan(TABLE, Bound::Excluded(resume)).next().unwrap().is_err());
}
