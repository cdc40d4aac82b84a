//! State files: the frame, as found and with its checksum made right again; and what storage keeps in such frames, the
//! manifest and the identity.
//!
//! Promise: P19

use crate::{
    files::{get, put},
    input::Input,
    meter::Meter,
    target,
};
use bytes::Bytes;
use kula_disk::{
    Disk, SimDisk,
    atomic::{Format, read_atomic, write_atomic},
    log::Position,
};
use kula_storage::{
    IdentityFile,
    engine::{
        Manifest, PartitionFence,
        sstable::{FileId, SstableMeta},
    },
};
use kula_testkit::Random;
use kula_types::{ClusterId, TableId, Timestamp, Token};
use std::sync::Arc;

const ANY: Format = Format { magic: *b"KulaFuzz", version: 3 };
const MANIFEST: Format = Format { magic: *b"KULAMANI", version: 1 };
const MANIFEST_FILE: &str = "shard-000/manifest";
const IDENTITY: Format = Format { magic: *b"KULAIDEN", version: 1 };
/// The file is read whole, once, and the payload split off it; a decoder's vectors double. The rest of it is what the
/// simulated disk keeps of each call.
const FACTOR: usize = 4;

fn state_files() -> Vec<Bytes> {
    let mut random = Random::new(5);
    let payloads = [0, 1, 2, 30, 100, 4_000, 20_000].map(|length| (0..length).map(|_| random.next() as u8).collect());
    let written = |payload: Vec<u8>| {
        let disk = SimDisk::new(1);
        write_atomic(&disk, "state", ANY, &payload).unwrap();
        get(&disk, "state")
    };
    payloads.map(written).into()
}

/// `docs/format/state-file.md`: a length and a checksum that fit the bytes.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut file = bytes.to_vec();
    if let Some(length) = file.len().checked_sub(24) {
        file[16..24].copy_from_slice(&(length as u64).to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&file[..12]), &file[16..]);
        file[12..16].copy_from_slice(&crc.to_le_bytes());
    }
    file
}

fn state_file(file: &[u8], meter: &Meter) -> bool {
    let disk = SimDisk::new(1);
    put(&disk, "state", file);
    let Ok(payload) = meter.bounded(file.len(), FACTOR, || read_atomic(&disk, "state", ANY)) else { return false };
    let payload = payload.unwrap();
    assert_eq!(payload, file[24..]);
    write_atomic(&disk, "state", ANY, &payload).unwrap();
    assert_eq!(get(&disk, "state"), file, "a state file has one form");
    true
}

fn as_found(input: &Input, meter: &Meter) -> bool {
    state_file(&input.bytes, meter)
}

fn reframed(input: &Input, meter: &Meter) -> bool {
    state_file(&framed(&input.bytes), meter)
}

/// A disk with one state file, its frame whole.
fn holding(name: &str, format: Format, payload: &[u8]) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.create_dir("shard-000").unwrap();
    write_atomic(&disk, name, format, payload).unwrap();
    disk
}

/// A manifest's payload, as it is written.
fn payload_of(manifest: &Manifest) -> Bytes {
    let disk = SimDisk::new(1);
    disk.create_dir("shard-000").unwrap();
    manifest.write(&disk).unwrap();
    Bytes::from(read_atomic(&disk, MANIFEST_FILE, MANIFEST).unwrap().unwrap())
}

fn manifests() -> Vec<Bytes> {
    let mut random = Random::new(6);
    let sizes = [(0, 0), (1, 0), (3, 0), (40, 0), (0, 2), (2, 30), (200, 1)];
    let manifest = |(tables, fences)| {
        let mut meta = || {
            let tokens = [random.next() as i64, random.next() as i64];
            SstableMeta {
                file: FileId([random.next() as u8; 16]),
                generation: random.next(),
                table: TableId([random.next() as u8; 16]),
                data_bytes: random.next() >> 20,
                index_bytes: random.next() >> 30,
                filter_bytes: random.next() >> 40,
                statistics_bytes: 300,
                statistics_crc: random.next() as u32,
                first: Token(tokens[0].min(tokens[1])),
                last: Token(tokens[0].max(tokens[1])),
            }
        };
        Manifest {
            shard: 0,
            generation: 9,
            flushed: Position { segment: 4, offset: 8_192 },
            tables: (0..tables).map(|_| meta()).collect(),
            fences: (0..fences).map(|partition| PartitionFence { partition, fence: 2, done: 1 }).collect(),
        }
    };
    sizes.map(manifest).iter().map(payload_of).collect()
}

fn manifest(input: &Input, meter: &Meter) -> bool {
    let disk = holding(MANIFEST_FILE, MANIFEST, &input.bytes);
    let Ok(manifest) = meter.bounded(input.bytes.len(), FACTOR, || Manifest::read(&disk, 0)) else { return false };
    assert_eq!(payload_of(&manifest.unwrap()), input.bytes, "a manifest has one form");
    true
}

fn identities() -> Vec<Bytes> {
    let identity = |shards, bound, leased: Option<i64>| {
        let disk = SimDisk::new(u64::from(shards));
        let mut file = IdentityFile::open_or_create(Arc::new(disk.clone()), Some(shards)).unwrap();
        if bound {
            file.bind_cluster(ClusterId(uuid::Uuid::from_u128(77))).unwrap();
        }
        if let Some(micros) = leased {
            let lease = Timestamp::from_micros(micros).unwrap();
            file.extend_lease(lease, Some(lease)).unwrap();
        }
        Bytes::from(read_atomic(&disk, "identity", IDENTITY).unwrap().unwrap())
    };
    vec![identity(1, false, None), identity(2, true, Some(5)), identity(64, true, Some(i64::MAX))]
}

fn identity(input: &Input, meter: &Meter) -> bool {
    let disk = holding("identity", IDENTITY, &input.bytes);
    let shared: Arc<SimDisk> = Arc::new(disk.clone());
    let opened = meter.bounded(input.bytes.len(), FACTOR, || IdentityFile::open_or_create(shared.clone(), None));
    let Ok(mut file) = opened else { return false };
    let found = file.identity();
    if found.lease < Some(Timestamp::MAX) {
        file.extend_lease(Timestamp::MAX, found.told).unwrap();
    }
    drop(file);
    let again = IdentityFile::open_or_create(shared, Some(found.shards)).unwrap().identity();
    assert_eq!(again, kula_storage::Identity { lease: Some(Timestamp::MAX), ..found });
    true
}

target!(a_state_file_of_any_bytes, 4, state_files(), as_found);
target!(a_state_file_of_any_bytes_with_a_right_checksum, 4, state_files(), reframed);
target!(a_manifest_of_any_bytes, 4, manifests(), manifest);
target!(an_identity_of_any_bytes, 4, identities(), identity);
