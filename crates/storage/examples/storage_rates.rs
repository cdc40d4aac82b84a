//! Rates of this machine: replay of 1 KiB records, durable puts by 64 writers through the actors, the raw log beside
//! both, gets, and what it took in CPU.
//!
//! `cargo run --release -p kula-storage --example storage_rates -- DIR [log|replay|puts]` (DIR is made, and must
//! not exist).

use bytes::Bytes;
use kula_actor::{Backoff, Intensity, Place, Registry, Reply, Strategy, Supervisor};
use kula_clock::SystemClock;
use kula_disk::{
    OsDisk,
    log::{LogConfig, Loss, Position, SegmentLog},
};
use kula_lattice::{Cell, CellId, Mutation, Partition, Slice};
use kula_storage::{Apply, ApplyOp, OpenedStorage, Places, Read, ReadOp, StorageConfig, StorageDoors, open, spawn};
use kula_testkit::Random;
use kula_types::{Actor, ClusteringKey, ColumnId, Dot, Key, PartitionKey, TableId, Timestamp, Token};
use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// As in the node's binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VALUE_BYTES: usize = 1 << 10;
const WRITERS: usize = 64;
const SECONDS: u64 = 5;
const REPLAYED_RECORDS: u64 = 300_000;
const KEYS: usize = 200_000;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn put(random: &mut Random, sequence: u64) -> Outcome<(Mutation, Bytes)> {
    let number = random.below(KEYS);
    let key = PartitionKey(Bytes::from(format!("key-{number:010}")));
    let dot = Dot::new(Actor(1), 0, sequence)?;
    let at = Timestamp::from_micros(i64::try_from(sequence)?)?;
    let value: Vec<u8> = (0..VALUE_BYTES / 8).flat_map(|_| random.next().to_le_bytes()).collect();
    let cell = Cell::put(Key::of(at, dot), None, Bytes::from(value));
    let delta = Partition::of_cell(ClusteringKey::default(), CellId::simple(ColumnId(1)), cell);
    let mutation =
        Mutation { table: TableId([1; 16]), token: token_of(number), key, mid: dot, previous: sequence - 1, delta };
    let encoded = mutation.encode();
    Ok((Mutation::decode(&encoded)?, encoded))
}

/// Any even spread will do: partitioners live in another room.
fn token_of(number: usize) -> Token {
    let mixed = Random::new(number as u64).next();
    Token(mixed.cast_signed())
}

/// CPU seconds of this process so far, user and system.
fn cpu_seconds() -> Outcome<f64> {
    let stat = std::process::Command::new("cat").arg(format!("/proc/{}/stat", std::process::id())).output()?.stdout;
    let text = String::from_utf8(stat)?;
    let after = text.rsplit_once(')').ok_or("stat")?.1;
    let ticks = |at: usize| after.split_whitespace().nth(at).and_then(|ticks| ticks.parse::<f64>().ok());
    Ok((ticks(11).ok_or("utime")? + ticks(12).ok_or("stime")?) / 100.0)
}

#[allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn measure<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<(T, Duration, f64)> {
    let (cpu, start) = (cpu_seconds()?, Instant::now());
    let result = work()?;
    Ok((result, start.elapsed(), cpu_seconds()? - cpu))
}

fn storage(root: &Path) -> Outcome<OpenedStorage> {
    let disk = OsDisk::open_or_create(root)?;
    Ok(open(Arc::new(disk), &StorageConfig::default(), &SystemClock::new(), Loss::Refuse)?)
}

fn replay(root: &Path) -> Outcome<()> {
    let mut opened = storage(root)?;
    let mut random = Random::new(1);
    for first in (1..=REPLAYED_RECORDS).step_by(64) {
        let batch = (first..first + 64).map(|sequence| put(&mut random, sequence)).collect::<Outcome<Vec<_>>>()?;
        opened.engine.apply(batch)?;
    }
    drop(opened);
    let (opened, took, cpu) = measure(|| storage(root))?;
    let report = &opened.replay;
    let megabytes = report.bytes as f64 / 1e6;
    println!(
        "replay: {} records, {megabytes:.0} MB in {took:?}: {:.0} MB/s, {:.2} CPU-us a record",
        report.joined,
        megabytes / took.as_secs_f64(),
        cpu * 1e6 / report.records as f64
    );
    Ok(())
}

fn raw_log(root: &Path) -> Outcome<()> {
    let disk = Arc::new(OsDisk::open_or_create(root)?);
    let (mut log, _) = SegmentLog::open(disk.clone(), "raw", LogConfig::new(9, 1 << 20))?;
    let record = vec![7u8; VALUE_BYTES];
    let batch: Vec<&[u8]> = vec![&record; WRITERS];
    let rounds = 2_000u64;
    let ((), took, cpu) = measure(|| {
        for _ in 0..rounds {
            log.append(&batch)?;
            log.sync()?;
            // Segments are used again, as those of a node are.
            let end = log.end();
            log.retire_before(Position { segment: end.segment, offset: 0 })?;
        }
        Ok(())
    })?;
    let puts = (rounds * WRITERS as u64) as f64;
    println!(
        "raw log, {WRITERS} records a sync: {:.0} records/s, {:.2} CPU-us each",
        puts / took.as_secs_f64(),
        cpu * 1e6 / puts
    );
    let (_, replay) = SegmentLog::open(disk, "raw", LogConfig::new(9, 1 << 20))?;
    let (replayed, took, _) =
        measure(|| Ok(replay.run(Position::START, Loss::Refuse, |_, _| Ok::<_, kula_disk::log::LogError>(()))?))?;
    println!("raw log replay: {:.0} MB/s", replayed.payload_bytes as f64 / 1e6 / took.as_secs_f64());
    Ok(())
}

/// One writer: each put waits for its ack.
async fn writer(doors: StorageDoors, number: usize, until: tokio::time::Instant) -> Outcome<Vec<Duration>> {
    let mut random = Random::new(number as u64 + 100);
    let mut waits = Vec::new();
    let mut sequence = number as u64 * 10_000_000;
    while tokio::time::Instant::now() < until {
        sequence += 1;
        let (mutation, encoded) = put(&mut random, sequence)?;
        let (reply, answer) = Reply::pair();
        let began = tokio::time::Instant::now();
        let door = &doors.shards[doors.shard_of(mutation.token)];
        door.tell(Apply { ops: vec![ApplyOp { mutation, encoded, sibling_cap: false, reply }] })?;
        answer.await??;
        waits.push(began.elapsed());
    }
    Ok(waits)
}

async fn reader(doors: StorageDoors, number: usize, until: tokio::time::Instant) -> Outcome<u64> {
    let mut random = Random::new(number as u64 + 500);
    let mut count = 0;
    while tokio::time::Instant::now() < until {
        let number = random.below(KEYS);
        let (reply, answer) = Reply::pair();
        let key = PartitionKey(Bytes::from(format!("key-{number:010}")));
        let token = token_of(number);
        let op = ReadOp { table: TableId([1; 16]), token, key, slice: Slice::all(), reply };
        doors.shards[doors.shard_of(token)].tell(Read { ops: vec![op] })?;
        drop(answer.await??);
        count += 1;
    }
    Ok(count)
}

fn puts(root: &Path) -> Outcome<()> {
    let opened = storage(root)?;
    actix_rt::System::new().block_on(async {
        let registry = Registry::new();
        let log = slog::Logger::root(slog::Discard, slog::o!());
        let arbiter = || Place::Arbiter(actix_rt::Arbiter::new().handle());
        let places = Places {
            shards: opened.engine.shards.iter().map(|_| arbiter()).collect(),
            commit_log: arbiter(),
            flush: arbiter(),
            identity: arbiter(),
        };
        let (doors, children) = spawn(opened, &registry, places, Arc::new(SystemClock::new()), &log);
        let mut supervisor = Supervisor::new("storage", Strategy::OneForOne, Intensity::default(), Backoff::default(), log);
        children.into_iter().for_each(|child| supervisor.add(child));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let work = async {
            let cpu = cpu_seconds()?;
            let until = tokio::time::Instant::now() + Duration::from_secs(SECONDS);
            let writers = (0..WRITERS).map(|number| writer(doors.clone(), number, until));
            let waits = futures::future::try_join_all(writers).await?;
            let mut waits: Vec<Duration> = waits.into_iter().flatten().collect();
            waits.sort_unstable();
            let at = |share: usize| waits.get(waits.len() * share / 1_000).copied().unwrap_or_default();
            println!(
                "actors, {WRITERS} writers, 1 KiB, group commit: {} durable puts/s, p50 {:?} p99 {:?} p99.9 {:?}, {:.2} CPU-us a put (writers included)",
                waits.len() as u64 / SECONDS,
                at(500),
                at(990),
                at(999),
                (cpu_seconds()? - cpu) * 1e6 / waits.len() as f64
            );
            let cpu = cpu_seconds()?;
            let until = tokio::time::Instant::now() + Duration::from_secs(SECONDS);
            let readers = (0..WRITERS).map(|number| reader(doors.clone(), number, until));
            let count: u64 = futures::future::try_join_all(readers).await?.into_iter().sum();
            println!(
                "actors, {WRITERS} readers: {} gets/s, {:.2} CPU-us a get",
                count / SECONDS,
                (cpu_seconds()? - cpu) * 1e6 / count as f64
            );
            drop(stop);
            Ok::<_, Box<dyn Error>>(())
        };
        let (ended, worked) = futures::future::join(supervisor.run(stopped), work).await;
        ended?;
        worked
    })
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let root = PathBuf::from(arguments.next().ok_or("say a directory that does not exist yet")?);
    let only = arguments.next();
    type Part = fn(&Path) -> Outcome<()>;
    let parts: [(&str, Part); 3] = [("log", raw_log), ("replay", replay), ("puts", puts)];
    for (name, part) in parts {
        if only.as_deref().is_none_or(|only| only == name) {
            part(&root.join(name))?;
        }
    }
    Ok(())
}
