//! Crash-point enumeration (ALICE, Pillai et al., OSDI 2014): a recorded run of writes, flushes and log recycling loses
//! power after every operation, with what was not synced there, not there, in part, torn; recovery must then show
//! exactly what was acknowledged and at most a prefix of the batch that was on its way. Sampled images crash once more
//! inside recovery and the writes after it.
//!
//! `KULA_CRASH_IMAGES=50000` says how many distinct images to try; a plain run tries a few.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

mod workload;

use kula_disk::{
    SimDisk,
    sim::{CrashImage, CrashImages},
};
use kula_lattice::{Digest, Join, Mutation, Partition, Slice};
use kula_storage::{
    OpenedStorage,
    engine::{FlushJob, Sharding},
};
use kula_testkit::Random;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use workload::{Batch, Place, batches, digest, open_on, places};

/// What a plain `cargo test` tries.
const IMAGES_DEFAULT: usize = 600;
/// Batches of one recorded run: enough that every log segment is flushed, retired and used again.
const BATCHES: usize = 60;
/// Images of one moment: the rest are of other seeds.
const PER_MOMENT_MAX: usize = 40;
/// One image in so many is recovered, written to, flushed and crashed again.
const DEEPER_ONE_IN: usize = 40;
const DEEPER_PER_MOMENT_MAX: usize = 4;

/// What every place holds after the first so many batches, and after each prefix of the next.
struct Truth {
    batches: Vec<Batch>,
    /// States after 0, 1, 2, … batches.
    states: Vec<State>,
}

#[derive(Clone, Default)]
struct State {
    places: BTreeMap<Place, Partition>,
}

impl State {
    fn join(&mut self, mutation: &Mutation) {
        let place = (mutation.table, mutation.token, mutation.key.clone());
        self.places.entry(place).or_default().join(mutation.delta.clone());
    }

    /// As a reader sees it: the normal form of every place.
    fn digests(&self) -> Vec<Digest> {
        places().map(|place| digest(self.places.get(&place).cloned().unwrap_or_default())).collect()
    }

    /// This one, and with each longer prefix of a batch, as the log orders it.
    fn with_prefixes(&self, batch: &Batch) -> Vec<State> {
        let mut states = vec![self.clone()];
        let mut state = self.clone();
        for (mutation, _) in batch {
            state.join(mutation);
            states.push(state.clone());
        }
        states
    }
}

impl Truth {
    fn new(batches: Vec<Batch>) -> Truth {
        let mut states = vec![State::default()];
        for batch in &batches {
            let after = states.last().unwrap().with_prefixes(batch).pop().unwrap();
            states.push(after);
        }
        Truth { batches, states }
    }

    /// What may be there once so many batches are acknowledged: they, and a prefix of the next.
    fn legal(&self, acked: usize) -> Vec<State> {
        match self.batches.get(acked) {
            Some(next) => self.states[acked].with_prefixes(next),
            None => vec![self.states[acked].clone()],
        }
    }
}

fn shown(storage: &OpenedStorage) -> Result<Vec<Digest>, String> {
    let read = |(table, token, key): Place| storage.engine.read(table, token, &key, &Slice::all());
    places().map(|place| read(place).map(digest).map_err(|error| error.to_string())).collect()
}

/// A run that is recorded; each acknowledged batch is a mark.
fn record(seed: u64) -> (SimDisk, Sharding, Truth) {
    let disk = SimDisk::recording(seed);
    let mut batches = batches(seed, BATCHES);
    let mut storage = open_on(&disk).unwrap();
    let sharding = storage.engine.sharding;
    batches.iter_mut().for_each(|batch| in_log_order(batch, sharding));
    let mut random = Random::new(seed);
    let mut jobs = Vec::new();
    for (acked, batch) in (1..).zip(&batches) {
        storage.engine.apply(batch.clone()).unwrap();
        disk.mark(acked);
        // Some flushes end only after later writes.
        for shard in &mut storage.engine.shards {
            if shard.wants_flush() && random.percent(40) {
                jobs.extend(shard.freeze());
            }
        }
        if random.percent(50) {
            end_flushes(&mut storage, &disk, &mut jobs);
            storage.engine.flush_due().unwrap();
        }
        if random.percent(20) {
            storage.engine.commit_log.settle().unwrap();
        }
    }
    end_flushes(&mut storage, &disk, &mut jobs);
    let log = &storage.engine.commit_log;
    assert!(log.bytes() / (12 << 10) + 3 < log.end().segment, "segments were retired and used again: {:?}", log.end());
    (disk, sharding, Truth::new(batches))
}

/// The log takes a batch shard by shard: what a torn write leaves is a prefix in that order.
fn in_log_order(batch: &mut Batch, sharding: Sharding) {
    batch.sort_by_key(|(mutation, _)| sharding.shard_of(mutation.token));
}

fn end_flushes(storage: &mut OpenedStorage, disk: &SimDisk, jobs: &mut Vec<FlushJob>) {
    for mut job in jobs.drain(..) {
        storage.engine.install(job.run(disk).unwrap()).unwrap();
    }
}

/// Recovers an image; answers which of the legal states it shows.
fn recover(disk: &SimDisk, legal: &[State]) -> Result<(OpenedStorage, State), String> {
    let storage = open_on(disk).map_err(|error| format!("does not open: {error}"))?;
    let shown = shown(&storage)?;
    match legal.iter().find(|state| state.digests() == shown) {
        Some(state) => Ok((storage, state.clone())),
        None => Err(format!("shows {shown:?}, none of {} legal states", legal.len())),
    }
}

/// Recovers, writes and flushes, and loses power at any point of that. Answers the keys of the images it tried.
fn crash_again(image: &CrashImage, legal: &[State], extra: &Batch, seed: u64) -> Result<Vec<u64>, String> {
    let disk = image.disk();
    let (mut storage, recovered) = recover(&disk, legal)?;
    disk.mark(1);
    storage.engine.apply(extra.clone()).map_err(|error| error.to_string())?;
    disk.mark(2);
    for shard in 0..storage.engine.sharding.shards() {
        storage.engine.flush(shard).map_err(|error| error.to_string())?;
    }
    drop(storage);
    let with_extra = recovered.with_prefixes(extra);
    let whole = with_extra.last().cloned().into_iter().collect::<Vec<_>>();
    let mut keys = Vec::new();
    for second in CrashImages::of(&disk.journal(), seed).per_moment(DEEPER_PER_MOMENT_MAX).distinct() {
        let legal = match second.mark() {
            0 => legal,
            1 => &with_extra[..],
            _ => &whole[..],
        };
        recover(&second.disk(), legal).map_err(|wrong| format!("{wrong}; crashed again: {}", second.describe()))?;
        keys.push(second.key() ^ image.key().rotate_left(17));
    }
    Ok(keys)
}

struct Tally {
    images: Mutex<BTreeSet<u64>>,
    wrong: AtomicUsize,
    wanted: usize,
}

impl Tally {
    /// False once there are enough.
    fn count(&self, keys: impl IntoIterator<Item = u64>) -> bool {
        let mut images = self.images.lock().unwrap();
        images.extend(keys);
        images.len() < self.wanted
    }

    fn wrong(&self, seed: u64, image: &CrashImage, what: &str) {
        self.wrong.fetch_add(1, Ordering::Relaxed);
        eprintln!("seed {seed}, {}: {what}", image.describe());
    }
}

/// Enumerates the images of one recorded run. False once there are enough.
fn enumerate(seed: u64, tally: &Tally) -> bool {
    let (disk, sharding, truth) = record(seed);
    let mut extra = batches(seed ^ 0xe, 1).remove(0);
    in_log_order(&mut extra, sharding);
    let mut legal = (usize::MAX, Vec::new(), Vec::new());
    for (number, image) in CrashImages::of(&disk.journal(), seed).per_moment(PER_MOMENT_MAX).distinct().enumerate() {
        let acked = usize::try_from(image.mark()).unwrap();
        if legal.0 != acked {
            let states = truth.legal(acked);
            let digests: Vec<Vec<Digest>> = states.iter().map(State::digests).collect();
            legal = (acked, states, digests);
        }
        let outcome = open_on(&image.disk())
            .map_err(|error| format!("does not open: {error}"))
            .and_then(|storage| shown(&storage));
        match outcome {
            Ok(shown) if legal.2.contains(&shown) => {}
            Ok(shown) => tally.wrong(seed, &image, &format!("{acked} acknowledged, shows {shown:?}")),
            Err(what) => tally.wrong(seed, &image, &what),
        }
        let mut keys = vec![image.key()];
        if number % DEEPER_ONE_IN == 0 {
            match crash_again(&image, &legal.1, &extra, seed ^ image.key()) {
                Ok(more) => keys.extend(more),
                Err(what) => tally.wrong(seed, &image, &what),
            }
        }
        if !tally.count(keys) {
            return false;
        }
    }
    true
}

// Promise: P1, R29, R39
#[test]
fn every_crash_image_recovers_to_what_was_acknowledged() {
    let wanted = std::env::var("KULA_CRASH_IMAGES").map_or(IMAGES_DEFAULT, |text| text.parse().unwrap());
    let tally = Tally { images: Mutex::default(), wrong: AtomicUsize::new(0), wanted };
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let tally = &tally;
            scope.spawn(move || {
                let seeds = (1u64..).skip(thread).step_by(threads);
                seeds.take_while(|seed| enumerate(*seed, tally)).count()
            });
        }
    });
    let distinct = tally.images.into_inner().unwrap().len();
    let wrong = tally.wrong.into_inner();
    println!("distinct images {distinct}, wrong {wrong}");
    assert_eq!(wrong, 0);
    assert!(distinct >= wanted);
}
