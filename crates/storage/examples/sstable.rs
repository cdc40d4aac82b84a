//! How fast tables are written, read and scanned: `cargo run --release -p kula-storage --example sstable [directory]`.
//!
//! 200,000 partitions of one 1 KB value, read from the page cache or from a block cache that holds them all. All figures
//! are CPU time of one thread, a MB is 10^6 plain bytes; time spent waiting for the disk's syncs is not in them.

use kula_disk::{Disk, OsDisk};
use kula_lattice::{Cell, CellId, Partition, Slice};
use kula_storage::engine::sstable::{
    BlockCache, Compression, FileId, ScanLimits, Sstable, SstableMeta, SstableWriter, WriteOptions, remove,
};
use kula_types::{Actor, ClusteringKey, ColumnId, Dot, Key, PartitionKey, TableId, Timestamp, Token};
use rustix::time::{ClockId, clock_gettime};
use std::{ops::Bound, path::PathBuf, sync::Arc};

const PARTITIONS: u64 = 200_000;
const VALUE_BYTES: usize = 1000;
const GETS: u64 = 400_000;

/// SplitMix64: distinct and spread out.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn key(number: u64) -> PartitionKey {
    PartitionKey::copy_from(format!("user:{number:012}").as_bytes())
}

fn token(number: u64) -> Token {
    Token::from_unsigned(mix(number))
}

/// Words, so that LZ4 finds something like what it finds in documents (ratio about 1.8).
fn value(number: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(VALUE_BYTES + 24);
    let mut seed = number;
    while out.len() < VALUE_BYTES {
        seed = mix(seed.wrapping_add(1));
        if seed.is_multiple_of(3) {
            out.extend_from_slice(b"\"name\": \"value\", ");
        } else {
            out.extend_from_slice(format!("{seed:016x}").as_bytes());
        }
    }
    out.truncate(VALUE_BYTES);
    out
}

fn partition(number: u64) -> Partition {
    let time = Timestamp::from_micros(i64::try_from(number).unwrap_or(0)).unwrap_or(Timestamp::MIN);
    let dot = Dot::new(Actor(1), 0, number + 1).unwrap_or_else(|error| unreachable!("{error}"));
    let cell = Cell::put(Key::of(time, dot), None, value(number).into());
    Partition::of_cell(ClusteringKey::default(), CellId::simple(ColumnId(1)), cell)
}

/// Microseconds of this thread's CPU time that `work` took: wall time on a shared machine says little.
fn micros(work: impl FnOnce()) -> f64 {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
    };
    let begin = now();
    work();
    now() - begin
}

fn write(disk: &OsDisk, compression: Compression, partitions: &[(u64, Partition)]) -> SstableMeta {
    let file = FileId([if compression == Compression::None { 1 } else { 2 }; 16]);
    remove(disk, "", file).unwrap_or_else(|error| panic!("{error}"));
    let options = WriteOptions { compression, ..WriteOptions::new(TableId([1; 16])) };
    let written = || {
        let mut writer = SstableWriter::create(disk, "", file, 1, options)?;
        for (number, partition) in partitions {
            writer.add(token(*number), &key(*number), partition)?;
        }
        writer.finish()
    };
    written().unwrap_or_else(|error: kula_storage::engine::sstable::SstableError| panic!("{error}"))
}

fn gets(name: &str, sstable: &Sstable, absent: u64, spread: u64) {
    let keys: Vec<_> =
        (0..GETS).map(|number| mix(number) % spread + absent).map(|number| (token(number), key(number))).collect();
    let mut found = 0u64;
    let time = micros(|| {
        for (token, key) in &keys {
            let partition = sstable.get(*token, key, &Slice::all()).unwrap_or_else(|error| panic!("{error}"));
            found += u64::from(partition.is_some());
        }
    });
    println!("  get {name:28} {:6.2} µs ({found} of {GETS} found)", time / GETS as f64);
}

fn main() {
    let directory =
        std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from).join("kula-sstable-bench");
    let disk = OsDisk::open_or_create(&directory).unwrap_or_else(|error| panic!("{error}"));
    let mut partitions: Vec<_> = (0..PARTITIONS).map(|number| (number, partition(number))).collect();
    partitions.sort_by_key(|(number, _)| (token(*number), key(*number)));
    for compression in [Compression::None, Compression::Lz4] {
        let mut meta = None;
        let time = micros(|| meta = Some(write(&disk, compression, &partitions)));
        let Some(meta) = meta else { return };
        let sstable = Sstable::open(&disk, "", &meta).unwrap_or_else(|error| panic!("{error}"));
        let plain = sstable.statistics().plain_bytes as f64;
        println!(
            "{compression:?}: {:.1} MB plain, {:.1} MB stored, ratio {:.2}",
            plain / 1e6,
            meta.data_bytes as f64 / 1e6,
            plain / meta.data_bytes as f64
        );
        println!("  write with four syncs            {:6.0} MB/s", plain / time);
        println!(
            "  index {:.4} % of plain, filter {:.2} bits a key, {} bytes held open",
            meta.index_bytes as f64 * 100.0 / plain,
            meta.filter_bytes as f64 * 8.0 / PARTITIONS as f64,
            sstable.heap_bytes()
        );
        let time = micros(|| drop((0..100).map(|_| Sstable::open(&disk, "", &meta)).collect::<Vec<_>>()));
        println!("  open                             {:6.0} µs", time / 100.0);
        let time = micros(|| assert_eq!(sstable.scan(Bound::Unbounded, ScanLimits::all()).count() as u64, PARTITIONS));
        println!("  scan, decoded                    {:6.0} MB/s", plain / time);
        let time = micros(|| assert_eq!(sstable.verify(&disk, ""), Ok(())));
        println!("  verify                           {:6.0} MB/s", plain / time);
        gets("page cache, no block cache", &sstable, 0, PARTITIONS);
        gets("absent", &sstable, 1 << 40, PARTITIONS);
        let cache = Arc::new(BlockCache::new(512 << 20));
        let sstable = sstable.with_cache(cache.clone());
        gets("filling a block cache", &sstable, 0, PARTITIONS);
        gets("block cache, uniform", &sstable, 0, PARTITIONS);
        gets("block cache, 2,000 hot keys", &sstable, 0, 2_000);
        println!("  {:?}", cache.statistics());
        drop(sstable);
        remove(&disk, "", meta.file).unwrap_or_else(|error| panic!("{error}"));
    }
    let left = disk.list("").unwrap_or_default();
    assert!(left.is_empty(), "{left:?}");
}
