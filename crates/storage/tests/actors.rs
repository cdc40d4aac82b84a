//! The storage actors under a real supervisor, on one thread over a simulated disk: what is answered, what is refused,
//! what fences, and that an ordered stop answers what was taken.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

mod siblings;
mod workload;

use kula_actor::{Backoff, Escalation, Intensity, Lost, Pending, Place, Registry, Reply, Strategy, Supervisor};
use kula_clock::{Clock, ManualClock};
use kula_disk::{
    SimDisk, Survivors,
    log::Loss,
    sim::{Fault, Target},
};
use kula_lattice::{Partition, Slice};
use kula_storage::{
    Apply, ApplyOp, BindCluster, ExtendLease, Flush, GetIdentity, Places, Read, ReadOp, ReadRange, Statistics,
    StorageConfig, StorageDoors, StorageError, SyncMode, open, spawn,
};
use kula_types::{ClusterId, PartitionKey, Token};
use siblings::sibling_of;
use std::{future::Future, sync::Arc, time::Duration};
use workload::{batches, clock, digest, open_on, place, places, tiny};

/// A running storage.
struct Running {
    doors: StorageDoors,
    clock: Arc<ManualClock>,
    hlc: Arc<kula_clock::Hlc>,
    registry: Registry,
}

/// Runs `body` beside a supervised storage and stops it in order; answers how the supervisor ended.
fn run<F: Future<Output = ()>>(
    disk: &SimDisk,
    config: &StorageConfig,
    body: impl FnOnce(Running) -> F,
) -> Result<(), Escalation> {
    actix_rt::System::new().block_on(async {
        let clock = Arc::new(clock());
        let opened = open(Arc::new(disk.clone()), config, &*clock, Loss::Refuse).unwrap();
        let (registry, log) = (Registry::new(), slog::Logger::root(slog::Discard, slog::o!()));
        let hlc = opened.hlc.clone();
        let places = Places {
            shards: vec![Place::Local; opened.engine.shards.len()],
            commit_log: Place::Local,
            flush: Place::Local,
            identity: Place::Local,
        };
        let (doors, children) = spawn(opened, &registry, places, clock.clone(), &log);
        let mut supervisor =
            Supervisor::new("storage", Strategy::OneForOne, Intensity::default(), Backoff::default(), log);
        children.into_iter().for_each(|child| supervisor.add(child));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = Running { doors, clock, hlc, registry };
        let body = async {
            body(running).await;
            drop(stop);
        };
        tokio::select! {
            biased;
            ended = supervisor.run(stopped) => ended,
            () = async { body.await; std::future::pending().await } => unreachable!("it waits for ever"),
        }
    })
}

type Answer<T> = Pending<Result<T, StorageError>>;

impl Running {
    fn apply(&self, batch: workload::Batch, sibling_cap: bool) -> Vec<Answer<()>> {
        let mut of_shard: Vec<Vec<ApplyOp>> = self.doors.shards.iter().map(|_| Vec::new()).collect();
        let mut answers = Vec::new();
        for (mutation, encoded) in batch {
            let (reply, answer) = Reply::pair();
            answers.push(answer);
            of_shard[self.doors.shard_of(mutation.token)].push(ApplyOp { mutation, encoded, sibling_cap, reply });
        }
        for (door, ops) in self.doors.shards.iter().zip(of_shard).filter(|(_, ops)| !ops.is_empty()) {
            door.tell(Apply { ops }).unwrap();
        }
        answers
    }

    async fn apply_one(
        &self,
        write: (kula_lattice::Mutation, bytes::Bytes),
        sibling_cap: bool,
    ) -> Result<(), StorageError> {
        self.apply(vec![write], sibling_cap).remove(0).await.unwrap()
    }

    async fn read(&self, (table, token, key): workload::Place) -> Result<Partition, StorageError> {
        let (reply, answer) = Reply::pair();
        let op = ReadOp { table, token, key, slice: Slice::all(), reply };
        self.doors.shards[self.doors.shard_of(token)].tell(Read { ops: vec![op] }).unwrap();
        answer.await.unwrap()
    }

    async fn flush(&self) -> Vec<Result<kula_storage::FlushReport, StorageError>> {
        let mut answers = Vec::new();
        for door in &self.doors.shards {
            let (reply, answer) = Reply::pair();
            door.tell(Flush { reply }).unwrap();
            answers.push(answer.await.unwrap());
        }
        answers
    }
}

// Promise: P1
#[test]
fn what_is_acknowledged_is_read_flushed_and_there_after_a_stop() {
    let disk = SimDisk::new(1);
    let mut expected = std::collections::BTreeMap::<workload::Place, Partition>::new();
    let batches = batches(11, 30);
    for (mutation, _) in batches.iter().flatten() {
        let place = (mutation.table, mutation.token, mutation.key.clone());
        kula_lattice::Join::join(expected.entry(place).or_default(), mutation.delta.clone());
    }
    let mut unanswered = Vec::new();
    let ended = run(&disk, &tiny(), |running| {
        let unanswered = &mut unanswered;
        async move {
            let (last, first) = batches.split_last().unwrap();
            for batch in first {
                for answer in running.apply(batch.clone(), false) {
                    answer.await.unwrap().unwrap();
                }
            }
            let reports = running.flush().await;
            assert!(reports.iter().all(|report| report.is_ok()));
            let (reply, answer) = Reply::pair();
            running.doors.shards[0].tell(Statistics { reply }).unwrap();
            let statistics = answer.await.unwrap();
            assert!(statistics.sstables > 0 && statistics.sstable_bytes > 0);
            // The stop comes while these are on their way: they are answered, and kept.
            *unanswered = running.apply(last.clone(), false);
            for place in places() {
                running.read(place).await.unwrap();
            }
            let metrics = running.registry.render_metrics();
            for name in ["kula_commitlog_syncs_total", "kula_storage_flushes_total", "kula_storage_memtable_bytes"] {
                assert!(metrics.contains(name), "{metrics}");
            }
        }
    });
    assert_eq!(ended, Ok(()));
    for answer in unanswered {
        let answer = actix_rt::System::new().block_on(answer);
        answer.unwrap().unwrap();
    }
    let storage = open_on(&disk).unwrap();
    for (table, token, key) in places() {
        let found = storage.engine.read(table, token, &key, &Slice::all()).unwrap();
        let wanted = expected.get(&(table, token, key)).cloned().unwrap_or_default();
        assert_eq!(digest(found), digest(wanted));
    }
}

#[test]
fn a_shard_answers_its_part_of_a_range_page_by_page() {
    let batches = batches(12, 20);
    let written: std::collections::BTreeSet<_> = (batches.iter().flatten())
        .filter(|(mutation, _)| mutation.table == place(0, 0).0)
        .map(|(mutation, _)| (mutation.token, mutation.key.clone()))
        .collect();
    let ended = run(&SimDisk::new(11), &tiny(), |running| async move {
        for batch in batches {
            for answer in running.apply(batch, false) {
                answer.await.unwrap().unwrap();
            }
        }
        let mut found = std::collections::BTreeSet::new();
        for door in &running.doors.shards {
            let mut after = (Token::MIN, PartitionKey::copy_from(&[]));
            loop {
                let (reply, answer) = Reply::pair();
                let (table, through) = (place(0, 0).0, Token::MAX);
                door.tell(ReadRange { table, after, through, partitions_max: 2, bytes_max: 1 << 20, reply }).unwrap();
                let page = answer.await.unwrap().unwrap();
                assert!(page.rows.len() <= 2);
                found.extend(page.rows.into_iter().map(|(token, key, _)| (token, key)));
                let Some(resume) = page.resume else { break };
                after = resume;
            }
        }
        assert_eq!(found, written);
        assert!(running.registry.render_metrics().contains("kula_storage_range_pages_total"));
    });
    assert_eq!(ended, Ok(()));
}

// Promise: P12
#[test]
fn a_failed_sync_acknowledges_nothing_and_fences_the_node() {
    let disk = SimDisk::new(2);
    let ended = run(&disk, &tiny(), |running| {
        let disk = disk.clone();
        async move {
            running.apply_one(sibling_of(0, 1, 10), false).await.unwrap();
            disk.inject(Target::Sync, 0, Fault::Io);
            let answers = running.apply(vec![sibling_of(0, 2, 10)], false);
            for answer in answers {
                assert_eq!(answer.await.unwrap_err(), Lost);
            }
            std::future::pending::<()>().await;
        }
    });
    assert!(matches!(&ended, Err(Escalation::Fenced { path, .. }) if &**path == "storage/commitlog"), "{ended:?}");
}

// Promise: P12
#[test]
fn a_flush_that_the_disk_fails_fences_the_node() {
    let disk = SimDisk::new(9);
    let ended = run(&disk, &tiny(), |running| {
        let disk = disk.clone();
        async move {
            running.apply_one(sibling_of(0, 1, 10), false).await.unwrap();
            disk.inject(Target::Sync, 0, Fault::Io);
            let (token, (reply, answer)) = (place(0, 0).1, Reply::pair());
            running.doors.shards[running.doors.shard_of(token)].tell(Flush { reply }).unwrap();
            assert_eq!(answer.await.unwrap_err(), Lost);
            std::future::pending::<()>().await;
        }
    });
    assert!(matches!(&ended, Err(Escalation::Fenced { path, .. }) if path.starts_with("storage/shard/")), "{ended:?}");
    // A restart finds the write in the log.
    let (table, token, key) = place(0, 0);
    assert!(!open_on(&disk).unwrap().engine.read(table, token, &key, &Slice::all()).unwrap().is_empty());
}

#[test]
fn a_log_past_half_of_its_bound_flushes_by_itself_also_what_a_replay_left() {
    let disk = SimDisk::new(10);
    // So much memory that only the log asks for flushes.
    let config = StorageConfig { memtable_heap: 64 << 20, ..tiny() };
    for round in 0..3 {
        let ended = run(&disk, &config, |running| async move {
            for sequence in 1..60 {
                running.apply_one(sibling_of(0, round * 100 + sequence, 500), false).await.unwrap();
            }
        });
        assert_eq!(ended, Ok(()));
    }
    let storage = open_on(&disk).unwrap();
    assert!(storage.engine.commit_log.bytes() < 48 << 10);
}

#[test]
fn a_write_without_context_is_refused_past_the_cap_and_others_pass() {
    let ended =
        run(&SimDisk::new(3), &StorageConfig { shards: Some(2), ..StorageConfig::default() }, |running| async move {
            for sequence in 1..=64 {
                running.apply_one(sibling_of(0, sequence, 10), true).await.unwrap();
            }
            let refused = running.apply_one(sibling_of(0, 65, 10), true).await;
            assert!(matches!(refused, Err(StorageError::SiblingCap { siblings: 64, bytes: 640 })), "{refused:?}");
            running.apply_one(sibling_of(0, 65, 10), false).await.unwrap();
            // A flush takes the siblings out of memory: from what memory knows there are none.
            running.flush().await;
            running.apply_one(sibling_of(0, 66, 700 << 10), true).await.unwrap();
            running.apply_one(sibling_of(0, 67, 700 << 10), true).await.unwrap();
            let refused = running.apply_one(sibling_of(0, 68, 1), true).await;
            assert!(matches!(refused, Err(StorageError::SiblingCap { siblings: 2, .. })), "{refused:?}");
        });
    assert_eq!(ended, Ok(()));
}

// Promise: P11
#[test]
fn a_full_disk_is_said_before_an_ack_reads_go_on_and_writes_resume() {
    let disk = SimDisk::new(4);
    let ended = run(&disk, &tiny(), |running| {
        let disk = disk.clone();
        async move {
            running.apply_one(sibling_of(0, 1, 10), false).await.unwrap();
            disk.set_space(Some(0));
            let mut sequence = 1;
            // The segment in use has its space; then there is no more.
            let error = loop {
                sequence += 1;
                if let Err(error) = running.apply_one(sibling_of(0, sequence, 500), false).await {
                    break error;
                }
            };
            assert!(matches!(error, StorageError::DiskFull { wrote: false }), "{error}");
            assert!(!running.read(place(0, 0)).await.unwrap().is_empty());
            assert!(running.flush().await.iter().any(|report| matches!(report, Err(StorageError::DiskFull { .. }))));
            disk.set_space(None);
            running.apply_one(sibling_of(0, sequence, 500), false).await.unwrap();
            // The flush that waits for room is tried again by itself.
            tokio::time::sleep(Duration::from_millis(600)).await;
            assert!(running.flush().await.iter().all(|report| report.is_ok()));
        }
    });
    assert_eq!(ended, Ok(()));
    assert!(!open_on(&disk).unwrap().engine.shards.is_empty());
}

// Promise: P11, P26
/// Whichever call the disk refuses for now, of log or flush: the write is refused or taken, and nothing is fenced.
#[test]
fn one_call_refused_for_now_fences_nothing() {
    // Room enough to go on while a refused flush waits.
    let config = StorageConfig { memtable_heap: 256 << 10, commitlog_total: 1 << 20, ..tiny() };
    for fault in [Fault::Full, Fault::TooManyFiles] {
        let mut refusals = 0;
        for call in 0..70 {
            let disk = SimDisk::new(4);
            let mut acked = 0;
            let ended = run(&disk, &config, |running| {
                let (disk, acked, refusals) = (disk.clone(), &mut acked, &mut refusals);
                async move {
                    disk.inject(Target::Any, call, fault);
                    for sequence in 1..40 {
                        match running.apply_one(sibling_of(0, sequence, 500), false).await {
                            Ok(()) => *acked += 1,
                            Err(error) => {
                                let is_refusal =
                                    matches!(&error, StorageError::DiskFull { .. } | StorageError::Overloaded { .. });
                                assert!(is_refusal, "{fault:?} at {call}: {error}");
                                *refusals += 1;
                            }
                        }
                    }
                    disk.clear_faults();
                    running.apply_one(sibling_of(0, 40, 500), false).await.unwrap();
                    *acked += 1;
                }
            });
            assert_eq!(ended, Ok(()), "{fault:?} at {call}");
            assert!(acked >= 39, "{fault:?} at {call}: {acked}");
            let (table, token, key) = place(0, 0);
            let engine = open_on(&disk.crash(Survivors::None)).unwrap().engine;
            let found = engine.read(table, token, &key, &Slice::all()).unwrap();
            let dots =
                found.rows.iter().flat_map(|(_, row)| row.cells.iter().filter_map(|(_, cell)| cell.dots.as_ref()));
            assert!(dots.map(|dots| dots.live.len()).sum::<usize>() >= acked, "{fault:?} at {call}");
        }
        assert!(refusals > 3, "{fault:?} refused {refusals}");
    }
}

// Promise: P9
#[test]
fn memory_is_bounded_when_flushes_cannot_keep_up() {
    let disk = SimDisk::new(5);
    let config = StorageConfig { commitlog_segment: 1 << 20, commitlog_total: 8 << 20, ..tiny() };
    let ended = run(&disk, &config, |running| {
        let disk = disk.clone();
        async move {
            running.apply_one(sibling_of(0, 1, 400), false).await.unwrap();
            // Tables find no room; the log's segment has its own.
            disk.set_space(Some(0));
            let mut sequence = 1;
            let error = loop {
                sequence += 1;
                if let Err(error) = running.apply_one(sibling_of(0, sequence, 400), false).await {
                    break error;
                }
            };
            // What the flush waits for is what the writer hears.
            assert!(matches!(error, StorageError::DiskFull { wrote: false }), "{error}");
            // Its share is 32 KiB.
            assert!((30..80).contains(&sequence), "{sequence} writes");
            disk.set_space(None);
            tokio::time::sleep(Duration::from_millis(600)).await;
            running.apply_one(sibling_of(0, sequence, 400), false).await.unwrap();
        }
    });
    assert_eq!(ended, Ok(()));
}

// Promise: P1
#[test]
fn periodic_acknowledges_before_the_sync_and_syncs_in_time() {
    let disk = SimDisk::new(6);
    let config = StorageConfig { sync: SyncMode::Periodic { ms: 100 }, ..tiny() };
    let ended = run(&disk, &config, |running| {
        let disk = disk.clone();
        async move {
            running.apply_one(sibling_of(0, 1, 10), false).await.unwrap();
            let syncs = disk.calls(Target::Sync);
            running.apply_one(sibling_of(0, 2, 10), false).await.unwrap();
            assert_eq!(disk.calls(Target::Sync), syncs, "acknowledged without a sync");
            // The timer is late: the writer waits for a sync of its own.
            running.clock.advance(Duration::from_millis(150));
            running.apply_one(sibling_of(0, 3, 10), false).await.unwrap();
            assert_eq!(disk.calls(Target::Sync), syncs + 1);
            running.apply_one(sibling_of(0, 4, 10), false).await.unwrap();
            tokio::time::sleep(Duration::from_millis(250)).await;
            assert_eq!(disk.calls(Target::Sync), syncs + 2);
        }
    });
    assert_eq!(ended, Ok(()));
}

// Promise: P14
#[test]
fn the_lease_is_durable_before_a_stamp_passes_the_old_one() {
    let disk = SimDisk::new(7);
    let mut last = None;
    let ended = run(&disk, &tiny(), |running| {
        let (disk, last) = (disk.clone(), &mut last);
        async move {
            let stamp = |running: &Running| running.hlc.stamp(running.clock.wall());
            stamp(&running).unwrap();
            running.clock.advance(Duration::from_secs(60));
            assert!(stamp(&running).is_err(), "the lease ended long ago");
            disk.set_space(Some(0));
            let (reply, extended) = Reply::pair();
            running.doors.identity.tell(ExtendLease { reply }).unwrap();
            assert!(matches!(extended.await.unwrap(), Err(StorageError::DiskFull { .. })));
            assert!(stamp(&running).is_err(), "nothing is stamped that is not leased");
            disk.set_space(None);
            let (reply, extended) = Reply::pair();
            running.doors.identity.tell(ExtendLease { reply }).unwrap();
            extended.await.unwrap().unwrap();
            *last = Some(stamp(&running).unwrap());
        }
    });
    assert_eq!(ended, Ok(()));
    // A start whose wall clock jumped back to before all this still stamps above it.
    let storage = open_on(&disk.crash(kula_disk::sim::Survivors::None)).unwrap();
    assert!(storage.hlc.stamp(clock().wall()).unwrap() > last.unwrap());
}

#[test]
fn a_directory_belongs_to_one_cluster() {
    let cluster = |number| ClusterId(uuid::Uuid::from_u128(number));
    let disk = SimDisk::new(8);
    let ended = run(&disk, &tiny(), |running| async move {
        for (number, expected) in [(1, true), (1, true), (2, false)] {
            let (reply, bound) = Reply::pair();
            running.doors.identity.tell(BindCluster { cluster: cluster(number), reply }).unwrap();
            assert_eq!(bound.await.unwrap().is_ok(), expected);
        }
        let (reply, identity) = Reply::pair();
        running.doors.identity.tell(GetIdentity { reply }).unwrap();
        assert_eq!(identity.await.unwrap().cluster, Some(cluster(1)));
    });
    assert_eq!(ended, Ok(()));
    assert_eq!(open_on(&disk).unwrap().identity().cluster, Some(cluster(1)));
}
