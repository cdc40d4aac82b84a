//! The segment log over any bytes: a segment as found, and one whose checksums were made right again after the edits
//! (`docs/format/segment-log.md`).
//!
//! An input is a header and the records behind it; the two copies of the header and the zeros around them are added.
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
    log::{LogConfig, LogError, Loss, Position, Replayed, SegmentLog},
};
use kula_testkit::Random;
use std::sync::{Arc, LazyLock};

const DIR: &str = "log";
const FIRST: &str = "log/00000000000000000001.log";
const SECOND: &str = "log/00000000000000000002.log";
const HEADER_BYTES: usize = 64;
const RECORDS_AT: usize = 8 << 10;
const SEGMENT_BYTES: usize = 12 << 10;
const RECORD_HEADER_BYTES: usize = 20;
/// Opening walks a segment twice and the replay once, each through a window of at most what the file has; delivered
/// payloads are copied once by this test.
const FACTOR: usize = 4;

fn config() -> LogConfig {
    LogConfig { segment_bytes: SEGMENT_BYTES as u32, ..LogConfig::new(1, 4_000) }
}

fn open(disk: &SimDisk) -> Result<(SegmentLog, kula_disk::log::Replay), LogError> {
    SegmentLog::open(Arc::new(disk.clone()), DIR, config())
}

fn payload(random: &mut Random, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|_| random.next() as u8).collect()
}

/// A log of one segment: batches of so many records of so many bytes, each batch synced, the last one sealed.
fn written(seed: u64, batches: &[(usize, usize)]) -> (SimDisk, SegmentLog) {
    let (disk, mut random) = (SimDisk::new(seed), Random::new(seed));
    let (mut log, _) = open(&disk).unwrap();
    for (records, bytes) in batches {
        let payloads: Vec<Vec<u8>> = (0..*records).map(|_| payload(&mut random, *bytes)).collect();
        log.append(&payloads.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        log.sync().unwrap();
    }
    log.seal().unwrap();
    log.sync().unwrap();
    (disk, log)
}

fn segments() -> Vec<Bytes> {
    let batches: [&[(usize, usize)]; 8] = [
        &[(1, 0)],
        &[(1, 5)],
        &[(2, 30), (1, 100)],
        &[(5, 8), (5, 8), (5, 8)],
        &[(1, 900), (2, 300)],
        &[(30, 20)],
        &[(1, 40); 20],
        &[(1, 3_900)],
    ];
    let compact = |(seed, batches): (u64, &&[(usize, usize)])| {
        let (disk, log) = written(seed, batches);
        let file = get(&disk, FIRST);
        [&file[..HEADER_BYTES], &file[RECORDS_AT..log.end().offset as usize]].concat().into()
    };
    (1..).zip(&batches).map(compact).collect()
}

/// A second segment with records of its own, which says that the first one ends after some of its records.
static SECOND_SEGMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let (disk, mut log) = written(9, &[(2, 100)]);
    let mut random = Random::new(9);
    while log.end().segment == 1 {
        log.append(&[&payload(&mut random, 2_000)]).unwrap();
    }
    log.sync().unwrap();
    get(&disk, SECOND)
});

/// Header and records at their places. `whole`: zeros up to the segment's length, as a log leaves them.
fn laid_out(bytes: &[u8], whole: bool) -> Vec<u8> {
    let (header, records) = bytes.split_at(bytes.len().min(HEADER_BYTES));
    let mut file = vec![0; RECORDS_AT];
    for at in [0, RECORDS_AT / 2] {
        file[at..at + header.len()].copy_from_slice(header);
    }
    file.extend_from_slice(records);
    if whole {
        file.resize(SEGMENT_BYTES, 0);
    }
    file
}

/// Makes the header's checksum right, and those of all records that follow one another from the first on.
fn sealed(file: &mut [u8]) {
    for at in [0, RECORDS_AT / 2] {
        let header = &mut file[at..at + HEADER_BYTES];
        header[..10].copy_from_slice(b"KulaSLog\x01\0");
        header[16..24].copy_from_slice(&1u64.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..]);
        header[12..16].copy_from_slice(&crc.to_le_bytes());
    }
    let segment = crc32c::crc32c_append(crc32c::crc32c(&file[24..32]), &file[16..24]);
    let mut at = RECORDS_AT;
    while let Some(record) = file.get_mut(at..).filter(|record| record.len() >= RECORD_HEADER_BYTES) {
        let seed = crc32c::crc32c_append(segment, &(at as u32).to_le_bytes());
        let length = u32::from_le_bytes(*record[8..].first_chunk().unwrap()) as usize;
        let Some(payload) = record.get(RECORD_HEADER_BYTES..RECORD_HEADER_BYTES.saturating_add(length)) else { break };
        let crc = crc32c::crc32c_append(seed, payload);
        record[4..8].copy_from_slice(&crc.to_le_bytes());
        let crc = crc32c::crc32c_append(seed, &record[4..RECORD_HEADER_BYTES]);
        record[..4].copy_from_slice(&crc.to_le_bytes());
        at += (RECORD_HEADER_BYTES + length).next_multiple_of(8);
    }
}

type Records = Vec<(Position, Vec<u8>)>;

/// What a replay delivers until its end or its refusal.
fn replayed(disk: &SimDisk, loss: Loss) -> Result<(Records, Result<Replayed, LogError>), LogError> {
    let (_, replay) = open(disk)?;
    let mut records = Records::new();
    let answer = replay.run(Position::START, loss, |position, payload| {
        records.push((position, payload.to_vec()));
        Ok::<_, LogError>(())
    });
    Ok((records, answer))
}

fn log_of(first: &[u8], second: bool, meter: &Meter) -> bool {
    let disk = SimDisk::new(1);
    disk.create_dir(DIR).unwrap();
    put(&disk, FIRST, first);
    let mut bytes = first.len();
    if second {
        put(&disk, SECOND, &SECOND_SEGMENT);
        bytes += SECOND_SEGMENT.len();
    }
    let Ok((records, answer)) = meter.bounded(bytes, FACTOR, || replayed(&disk, Loss::Accept)) else { return false };
    let replayed_whole = answer.unwrap();
    assert!(records.is_sorted_by(|(left, _), (right, _)| left < right));
    assert_eq!(records.len() as u64, replayed_whole.records);
    let (until_damage, refused) = replayed(&disk, Loss::Refuse).unwrap();
    assert_eq!(refused.is_ok(), replayed_whole.damage_count == 0);
    assert!(records.starts_with(&until_damage));
    // Whatever was found, the log goes on behind it and loses none of it.
    let (mut log, _) = open(&disk).unwrap();
    let position = log.append(&[b"after"]).unwrap();
    log.sync().unwrap();
    drop(log);
    let (mut again, answer) = replayed(&disk, Loss::Accept).unwrap();
    assert!(answer.is_ok());
    assert_eq!(again.pop(), Some((position, b"after".to_vec())));
    assert_eq!(again, records);
    records.iter().any(|(position, _)| position.segment == 1)
}

fn as_found(input: &Input, meter: &Meter) -> bool {
    log_of(&laid_out(&input.bytes, input.pick % 2 == 1), input.pick % 4 >= 2, meter)
}

fn resealed(input: &Input, meter: &Meter) -> bool {
    let mut file = laid_out(&input.bytes, true);
    sealed(&mut file);
    log_of(&file, input.pick % 4 >= 2, meter)
}

target!(a_segment_of_any_bytes, 10, segments(), as_found);
target!(a_segment_of_any_bytes_with_right_checksums, 10, segments(), resealed);
