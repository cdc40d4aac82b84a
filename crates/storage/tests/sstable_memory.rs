//! What a decoder may allocate is bounded by what it was given, whatever that is. A binary of its own: it counts the
//! allocations of the whole process, so nothing else may run beside it.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests; the lint knows only functions marked so")]

use bytes::Bytes;
use kula_disk::{Access, Disk, SimDisk};
use kula_lattice::{Cell, CellId, Partition, Row};
use kula_storage::engine::sstable::{
    Component, FileId, Sstable, SstableError, SstableWriter, Why, WriteOptions, probe,
};
use kula_testkit::Random;
use kula_types::{Actor, ClusteringKey, ColumnId, Dot, Key, PartitionKey, TableId, Timestamp, Token};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const FILE: FileId = FileId([3; 16]);
const FILE_HEADER_BYTES: usize = 48;
const FRAME_HEADER_BYTES: usize = 16;

/// A table of one data block, one index block and one filter part, and the plain bodies of its frames.
fn table() -> (SimDisk, kula_storage::engine::sstable::SstableMeta, Vec<(Component, Bytes)>) {
    let disk = SimDisk::new(1);
    let options = WriteOptions {
        compression: kula_storage::engine::sstable::Compression::None,
        block_bytes: 64,
        ..WriteOptions::new(TableId([1; 16]))
    };
    let mut writer = SstableWriter::create(&disk, "", FILE, 1, options).unwrap();
    for token in 0..40i64 {
        let key = Key::of(Timestamp::from_micros(token).unwrap(), Dot::new(Actor(1), 0, 1).unwrap());
        let mut partition = Partition::default();
        for row in 0..3u8 {
            let cell = Cell::put(key, None, Bytes::from(vec![row; 30]));
            partition.rows.insert(ClusteringKey::copy_from(&[row]), Row::of_cell(CellId::simple(ColumnId(1)), cell));
        }
        writer.add(Token(token << 40), &PartitionKey::copy_from(&token.to_be_bytes()), &partition).unwrap();
    }
    let meta = writer.finish().unwrap();
    let mut bodies = Vec::new();
    for component in Component::ALL {
        let file = disk.open(&component.file_name("", FILE), Access::Read).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let mut rest = &bytes[FILE_HEADER_BYTES..];
        while let Some((header, body)) = rest.split_at_checked(FRAME_HEADER_BYTES) {
            let length = usize::try_from(u32::from_le_bytes(header[4..8].try_into().unwrap())).unwrap();
            bodies.push((component, Bytes::copy_from_slice(&body[..length])));
            rest = &body[length..];
        }
    }
    (disk, meta, bodies)
}

fn within_bounds<T>(input_bytes: usize, mut work: impl FnMut() -> T) -> T {
    let region = Region::new(ALLOCATOR);
    let answer = work();
    let allocated = region.change().bytes_allocated;
    assert!(allocated <= (64 << 10) + 4 * input_bytes, "{allocated} bytes for an input of {input_bytes}");
    answer
}

// Promise: P19
#[test]
fn no_decoder_allocates_past_its_input() {
    let (disk, meta, bodies) = table();
    assert!(bodies.len() > 40 && Component::ALL.iter().all(|component| bodies.iter().any(|body| body.0 == *component)));
    let mut random = Random::new(7);
    let mut answers = [0u32; 2];
    for round in 0..20_000 {
        let (component, body) = random.pick(&bodies).clone();
        let mut bytes = body.to_vec();
        for _ in 0..round % 4 {
            let at = random.below(bytes.len());
            // Large lengths and counts above all.
            bytes[at] = *random.pick(&[0xff, 0x80, 0x7f, 0, 1, bytes[at] ^ 1]);
        }
        if random.percent(10) {
            bytes.truncate(random.below(bytes.len()));
        }
        let body = Bytes::from(bytes);
        let answer = within_bounds(body.len(), || probe(component, &body));
        answers[usize::from(answer.is_ok())] += 1;
    }
    assert!(answers.iter().all(|count| *count > 2_000), "{answers:?}: both ends must be met");
    for round in 0..5_000 {
        let bytes: Vec<u8> = (0..random.below(300)).map(|_| random.next().to_le_bytes()[0]).collect();
        let body = Bytes::from(bytes);
        let _answered = within_bounds(body.len(), || probe(Component::ALL[round % 4], &body)).is_ok();
    }
    a_frame_that_claims_too_much_is_not_believed(&disk, &meta);
}

/// A whole file: the length that a frame declares buys no memory before the frame is known to be ours.
fn a_frame_that_claims_too_much_is_not_believed(disk: &SimDisk, meta: &kula_storage::engine::sstable::SstableMeta) {
    let name = Component::Data.file_name("", FILE);
    for claim in [u32::MAX, 16 << 20, 1 << 20] {
        for field in [4, 8] {
            disk.overwrite(&name, (FILE_HEADER_BYTES + field) as u64, &claim.to_le_bytes()).unwrap();
        }
        let sstable = Sstable::open(disk, "", meta).unwrap();
        let found = within_bounds(0, || {
            sstable.scan(std::ops::Bound::Unbounded, kula_storage::engine::sstable::ScanLimits::all()).next()
        });
        assert!(
            matches!(found, Some(Err(SstableError::Damaged { why: Why::Truncated | Why::Checksum, .. }))),
            "{found:?}"
        );
    }
}
