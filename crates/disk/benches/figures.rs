//! Figures of the disk room: `cargo bench -p kula-disk`. Napkin first: replay and append are a CRC and a copy, so near a
//! gigabyte a second and core; a crash image is some pages and pointers, so tens of microseconds.

#![allow(clippy::unwrap_used, reason = "a bench that fails has no figures")]

use kula_clock::{Clock, SystemClock};
use kula_disk::{
    Disk, OsDisk, SimDisk,
    log::{LogConfig, LogError, Loss, Position, SegmentLog},
    sim::CrashImages,
};
use std::{path::PathBuf, sync::Arc, time::Duration};

const BATCH_RECORDS: usize = 64;
const RECORD_BYTES: usize = 1024;
const MIB: f64 = (1 << 20) as f64;

fn main() {
    let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("figures");
    #[expect(clippy::disallowed_methods, reason = "a bench clears the directory it then gives to the disk")]
    let removed = std::fs::remove_dir_all(&root);
    assert!(removed.is_ok() || !root.exists());
    let os: Arc<dyn Disk> = Arc::new(OsDisk::open_or_create(&root).unwrap());
    append_and_replay(&os, 256);
    sync_latency(&os);
    crash_images();
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let clock = SystemClock::new();
    let answer = work();
    (answer, clock.mono().0)
}

fn append_and_replay(disk: &Arc<dyn Disk>, mib: usize) {
    let config = LogConfig::new(1, 16 << 20);
    let payload = vec![0xA5; RECORD_BYTES];
    let batch = vec![&payload[..]; BATCH_RECORDS];
    let (mut log, _) = SegmentLog::open(disk.clone(), "replay", config).unwrap();
    let batches = mib * (1 << 20) / (BATCH_RECORDS * RECORD_BYTES);
    let ((), took) = timed(|| (0..batches).for_each(|_| assert!(log.append(&batch).is_ok())));
    log.sync().unwrap();
    let each = took / u32::try_from(batches).unwrap();
    println!("append 64 x 1 KiB, no sync: {each:?} a batch, {:.0} MiB/s", mib as f64 / took.as_secs_f64());
    drop(log);
    let (opened, took) = timed(|| SegmentLog::open(disk.clone(), "replay", config).unwrap());
    println!("open {mib} MiB: {took:?}");
    for round in 1..=3 {
        let count = |_: Position, _: &[u8]| Ok::<_, LogError>(());
        let (replayed, took) = timed(|| opened.1.run(Position::START, Loss::Refuse, count).unwrap());
        let rate = replayed.payload_bytes as f64 / MIB / took.as_secs_f64();
        println!("replay of {} records, round {round}: {rate:.0} MiB/s", replayed.records);
    }
}

fn sync_latency(disk: &Arc<dyn Disk>) {
    let config = LogConfig { segment_bytes: 4 << 20, ..LogConfig::new(1, 1 << 20) };
    let (mut log, _) = SegmentLog::open(disk.clone(), "sync", config).unwrap();
    let payload = vec![0x5A; 4096];
    let payload = &payload[..];
    let fill = |log: &mut SegmentLog| {
        let segment = log.end().segment;
        while log.end().segment == segment {
            log.append(&[payload]).unwrap();
        }
    };
    for kind in ["allocated", "recycled"] {
        (0..3).for_each(|_| fill(&mut log));
        if kind == "recycled" {
            log.retire_before(log.end()).unwrap();
            fill(&mut log);
        }
        let mut times: Vec<Duration> = (0..800)
            .map(|_| {
                let ((), took) = timed(|| {
                    log.append(&[payload]).unwrap();
                    log.sync().unwrap();
                });
                took
            })
            .collect();
        times.sort_unstable();
        println!("append 4 KiB + sync, {kind} segment: median {:?}, p99 {:?}", times[400], times[792]);
    }
}

fn crash_images() {
    let disk = SimDisk::recording(1);
    let config = LogConfig { segment_bytes: 64 << 10, ..LogConfig::new(1, 8 << 10) };
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let (mut log, _) = SegmentLog::open(shared, "log", config).unwrap();
    for batch in 0..400_u64 {
        let payload = vec![batch.to_le_bytes()[0]; 100 + (batch * 977 % 1900) as usize];
        log.append(&[&payload, &payload]).unwrap();
        if batch % 3 != 1 {
            log.sync().unwrap();
            disk.mark(batch);
        }
    }
    let journal = disk.journal();
    let (count, took) = timed(|| CrashImages::of(&journal, 1).count());
    println!("crash images, made: {count}, {:?} each", took / u32::try_from(count).unwrap());
    let (count, took) = timed(|| CrashImages::of(&journal, 1).distinct().count());
    println!("crash images, distinct: {count}, {:?} each", took / u32::try_from(count).unwrap());
    let boot = |image: kula_disk::sim::CrashImage| {
        let disk: Arc<dyn Disk> = Arc::new(image.disk());
        let (_, replay) = SegmentLog::open(disk, "log", config).unwrap();
        replay.run(Position::START, Loss::Refuse, |_, _| Ok::<_, LogError>(())).unwrap().records
    };
    let (records, took) = timed(|| CrashImages::of(&journal, 1).distinct().map(boot).sum::<u64>());
    println!("crash images, booted and replayed: {:?} each ({records} records)", took / u32::try_from(count).unwrap());
}
