//! A log under test, and what its users may expect of it.

use kula_disk::{
    Disk, SimDisk,
    log::{LogConfig, LogError, Loss, Position, Replay, Replayed, SegmentLog},
};
use std::sync::Arc;

pub const DIR: &str = "log";

/// Small enough that a few records fill a segment.
pub const SMALL: LogConfig =
    LogConfig { kind: 1, segment_bytes: 16 << 10, record_bytes_max: 4 << 10, spares_max: 2, first_segment: 1 };

pub fn open(disk: &SimDisk, config: LogConfig) -> Result<(SegmentLog, Replay), LogError> {
    SegmentLog::open(Arc::new(disk.clone()) as Arc<dyn Disk>, DIR, config)
}

pub type Records = Vec<(Position, Vec<u8>)>;

/// Every record the replay delivers, and its account.
pub fn collect(replay: &Replay, loss: Loss) -> Result<(Records, Replayed), LogError> {
    let mut records = Records::new();
    let replayed = replay.run(Position::START, loss, |position, payload| {
        records.push((position, payload.to_vec()));
        Ok::<_, LogError>(())
    })?;
    assert!(records.is_sorted_by(|(before, _), (after, _)| before < after), "positions ascend");
    assert_eq!(replayed.records, records.len() as u64);
    Ok((records, replayed))
}

/// Opens and replays; no damage is expected.
pub fn payloads(disk: &SimDisk, config: LogConfig) -> Vec<Vec<u8>> {
    let (_, replay) = open(disk, config).unwrap();
    let (records, _) = collect(&replay, Loss::Refuse).unwrap();
    records.into_iter().map(|(_, payload)| payload).collect()
}

/// Payload number `number`: its number, then bytes that depend on it. 8 to about `bytes` long.
pub fn payload(number: u64, bytes: usize) -> Vec<u8> {
    let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let filler = (8..bytes.max(8)).map(|index| spread.rotate_left((index % 64) as u32).to_le_bytes()[index % 8]);
    number.to_le_bytes().into_iter().chain(filler).collect()
}

pub fn number_of(payload: &[u8]) -> u64 {
    u64::from_le_bytes(*payload.first_chunk().unwrap())
}

pub fn append(log: &mut SegmentLog, batch: &[Vec<u8>]) -> Result<Position, LogError> {
    let slices: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
    log.append(&slices)
}

pub fn segment_files(disk: &SimDisk) -> Vec<String> {
    let names = disk.list(DIR).unwrap().into_iter();
    names.filter(|name| name.ends_with(".log")).map(|name| format!("{DIR}/{name}")).collect()
}
