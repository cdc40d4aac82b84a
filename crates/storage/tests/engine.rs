//! The engine against a map of joins: whatever is written, flushed, crashed and reopened, a read is the join of what was
//! acknowledged, and a disk that fails never makes it less.
#![allow(clippy::unwrap_used, reason = "a test may stop")]

mod ranges;
mod siblings;
mod workload;

use kula_disk::{
    Disk, SimDisk,
    log::{DamageKind, Loss},
    sim::{Fault, Survivors, SyncFault, Target},
};
use kula_lattice::{Join, Mutation, Partition, Slice};
use kula_storage::{OpenedStorage, StorageConfig, StorageError, engine::FlushJob, open};
use kula_testkit::lattice;
use kula_types::{PartitionKey, TableId, Token};
use proptest::prelude::*;
use siblings::sibling_of;
use std::{collections::BTreeMap, ops::Bound, sync::Arc};
use workload::{Batch, KEYS, Place, TABLES, batches, clock, digest, mutation, open_on, place, places, tiny};

/// What must be there, the join of all that was acknowledged; and what may be, the join of all that was sent.
#[derive(Default, Clone)]
struct Model {
    acked: BTreeMap<Place, Partition>,
    sent: BTreeMap<Place, Partition>,
}

impl Model {
    fn sent<'a>(&mut self, mutations: impl IntoIterator<Item = &'a Mutation>) {
        join_into(&mut self.sent, mutations);
    }

    fn acked<'a>(&mut self, mutations: impl IntoIterator<Item = &'a Mutation>) {
        join_into(&mut self.acked, mutations);
    }

    /// Every place is between the two: acked ≤ found ≤ sent.
    fn check(&self, storage: &OpenedStorage, slice: &Slice) -> Result<(), String> {
        for (table, token, key) in places() {
            let found = storage.engine.read(table, token, &key, slice).map_err(|error| error.to_string())?;
            let place = (table, token, key);
            let of = |places: &BTreeMap<Place, Partition>| places.get(&place).cloned().unwrap_or_default().clip(slice);
            let (acked, sent) = (of(&self.acked), of(&self.sent));
            if digest(joined(found.clone(), &acked)) != digest(found.clone()) {
                return Err(format!("{place:?} lost something acknowledged: {found:?} lacks some of {acked:?}"));
            }
            if digest(joined(sent.clone(), &found)) != digest(sent.clone()) {
                return Err(format!("{place:?} holds something never sent: {found:?} has more than {sent:?}"));
            }
        }
        let absent = PartitionKey::copy_from(b"absent");
        let found =
            storage.engine.read(TableId([9; 16]), Token(1), &absent, slice).map_err(|error| error.to_string())?;
        if found.is_empty() { Ok(()) } else { Err(format!("an absent key holds {found:?}")) }
    }
}

/// A scan of every shard shows each place once, in token order, as reads do.
fn check_scans(storage: &OpenedStorage) {
    for (shard, table) in storage.engine.shards.iter().flat_map(|shard| (0..TABLES).map(move |table| (shard, table))) {
        let (table, _, _) = place(table, 0);
        let scanned: Vec<_> = shard.scan(table, Bound::Unbounded).map(Result::unwrap).collect();
        assert!(scanned.is_sorted_by(|(left, ..), (right, ..)| left < right));
        let here =
            places().filter(|place| place.0 == table && storage.engine.sharding.shard_of(place.1) == shard.index());
        let mut found = 0;
        for (_, token, key) in here {
            let read = shard.read(table, token, &key, &Slice::all()).unwrap();
            match scanned.iter().find(|(at, ..)| *at == token) {
                Some((_, _, partition)) => assert_eq!(digest(partition.clone()), digest(read)),
                None => assert!(read.is_empty()),
            }
            found += usize::from(scanned.iter().any(|(at, ..)| *at == token));
        }
        assert_eq!(found, scanned.len());
        if let Some((token, key, _)) = scanned.first() {
            let rest = shard.scan(table, Bound::Excluded((*token, key.clone()))).count();
            assert_eq!(rest, scanned.len() - 1);
        }
    }
}

fn join_into<'a>(places: &mut BTreeMap<Place, Partition>, mutations: impl IntoIterator<Item = &'a Mutation>) {
    for mutation in mutations {
        let place = (mutation.table, mutation.token, mutation.key.clone());
        places.entry(place).or_default().join(mutation.delta.clone());
    }
}

fn joined(mut left: Partition, right: &Partition) -> Partition {
    left.join(right.clone());
    left
}

#[derive(Clone, Debug)]
enum Step {
    /// The next of the minted deltas of each of these tables and keys, in one batch.
    Write(Vec<(u8, u8)>),
    Flush(u16),
    /// A flush whose end comes later: writes go on meanwhile.
    Freeze(u16),
    EndFlush(u16),
    FlushDue,
    Read(Slice),
    /// Power loss; what was acknowledged stays, whatever else goes.
    Crash(Option<u64>),
    /// kill -9.
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => prop::collection::vec((0..TABLES, 0..KEYS), 1..6).prop_map(Step::Write),
        1 => (0u16..2).prop_map(Step::Flush),
        1 => (0u16..2).prop_map(Step::Freeze),
        2 => (0u16..2).prop_map(Step::EndFlush),
        2 => Just(Step::FlushDue),
        3 => lattice::slice().prop_map(Step::Read),
        1 => prop::option::of(any::<u64>()).prop_map(Step::Crash),
        1 => Just(Step::Kill),
    ]
}

proptest! {
    #![proptest_config(kula_testkit::property())]

    #[test]
    fn a_read_is_the_join_of_what_was_acknowledged(
        histories in prop::collection::vec(lattice::history(12), usize::from(TABLES * KEYS)),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut deltas: Vec<_> = histories.iter().map(|history| history.minted.iter().cycle()).collect();
        let mut disk = SimDisk::new(1);
        let mut storage = open_on(&disk).unwrap();
        let mut model = Model::default();
        let mut jobs: BTreeMap<u16, FlushJob> = BTreeMap::new();
        let mut sequence = 0;
        for step in steps {
            match step {
                Step::Write(writes) => {
                    let batch: Vec<_> = writes.into_iter().filter_map(|(table, key)| {
                        sequence += 1;
                        let (_, _, delta) = deltas[usize::from(table * KEYS + key)].next()?;
                        Some(mutation(table, key, sequence, delta.clone()))
                    }).collect();
                    model.sent(batch.iter().map(|(mutation, _)| mutation));
                    model.acked(batch.iter().map(|(mutation, _)| mutation));
                    storage.engine.apply(batch).unwrap();
                }
                Step::Flush(shard) => drop(storage.engine.flush(shard).unwrap()),
                Step::Freeze(shard) => jobs.extend(storage.engine.shards[usize::from(shard)].freeze().map(|job| (shard, job))),
                Step::EndFlush(shard) => if let Some(mut job) = jobs.remove(&shard) {
                    storage.engine.install(job.run(&disk).unwrap()).unwrap();
                },
                Step::FlushDue => drop(storage.engine.flush_due().unwrap()),
                Step::Read(slice) => model.check(&storage, &slice).unwrap(),
                Step::Crash(survivors) => {
                    drop(storage);
                    jobs.clear();
                    disk = disk.crash(survivors.map_or(Survivors::None, Survivors::Seeded));
                    storage = open_on(&disk).unwrap();
                    model.check(&storage, &Slice::all()).unwrap();
                }
                Step::Kill => {
                    drop(storage);
                    jobs.clear();
                    disk.kill();
                    storage = open_on(&disk).unwrap();
                    model.check(&storage, &Slice::all()).unwrap();
                }
            }
        }
        model.check(&storage, &Slice::all()).unwrap();
        check_scans(&storage);
    }
}

/// Writes and flushes until something is refused for good. Full disks pass: what they refused is sent, not acknowledged.
fn drive(storage: &mut OpenedStorage, model: &mut Model, batches: &[Batch]) -> Result<(), StorageError> {
    for batch in batches {
        model.sent(batch.iter().map(|(mutation, _)| mutation));
        match storage.engine.apply(batch.clone()) {
            Ok(()) => model.acked(batch.iter().map(|(mutation, _)| mutation)),
            Err(StorageError::DiskFull { .. }) => {}
            Err(error) => return Err(error),
        }
        match storage.engine.flush_due() {
            Ok(_) | Err(StorageError::DiskFull { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Every call is failed in CI's fast profile, one of so many in a plain run.
fn steps_of(stride: usize) -> usize {
    if std::env::var_os("KULA_LONG").is_some() { 1 } else { stride }
}

// Promise: P11, P26
#[test]
fn a_disk_full_at_any_call_refuses_and_goes_on() {
    let batches = batches(3, 24);
    let mut hit = 0;
    for calls_before in (0..).step_by(steps_of(9)) {
        let disk = SimDisk::new(calls_before);
        let mut model = Model::default();
        let mut storage = open_on(&disk).unwrap();
        let calls = disk.calls(Target::Space);
        disk.inject(Target::Space, calls_before, Fault::Full);
        drive(&mut storage, &mut model, &batches).unwrap();
        let is_hit = disk.calls(Target::Space) - calls > calls_before;
        disk.clear_faults();
        model.check(&storage, &Slice::all()).unwrap();
        // A flush that found no room is run again, and nothing is left of the first try.
        for shard in 0..2 {
            storage.engine.flush(shard).unwrap();
            storage.engine.flush(shard).unwrap();
        }
        model.check(&storage, &Slice::all()).unwrap();
        drop(storage);
        let after = open_on(&disk.crash(Survivors::None)).unwrap();
        model.check(&after, &Slice::all()).unwrap();
        if !is_hit {
            break;
        }
        hit += 1;
    }
    assert!(hit * steps_of(9) > 50, "{hit} calls met a full disk");
}

// Promise: P11
#[test]
fn while_the_disk_is_full_reads_go_on_and_writes_resume_when_there_is_room() {
    let batches = batches(4, 60);
    let disk = SimDisk::new(4);
    let mut model = Model::default();
    let mut storage = open_on(&disk).unwrap();
    drive(&mut storage, &mut model, &batches[..20]).unwrap();
    disk.set_space(Some(0));
    let mut refused = 0;
    for batch in &batches[20..40] {
        model.sent(batch.iter().map(|(mutation, _)| mutation));
        match storage.engine.apply(batch.clone()) {
            Ok(()) => model.acked(batch.iter().map(|(mutation, _)| mutation)),
            Err(StorageError::DiskFull { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        model.check(&storage, &Slice::all()).unwrap();
    }
    assert!(refused > 0 && matches!(storage.engine.flush(0), Err(StorageError::DiskFull { wrote: false })));
    disk.set_space(None);
    drive(&mut storage, &mut model, &batches[40..]).unwrap();
    model.check(&storage, &Slice::all()).unwrap();
}

/// After a failure that is not a full disk nothing more is acknowledged by this process, and the next one has all that
/// was.
fn check_failure(target: Target, fault: Fault, survivors: Survivors, stride: usize) -> usize {
    let batches = batches(5, 16);
    let mut hit = 0;
    for calls_before in (0..).step_by(steps_of(stride)) {
        let disk = SimDisk::new(calls_before);
        let mut model = Model::default();
        disk.inject(target, calls_before, fault);
        let is_open = match open_on(&disk) {
            Ok(mut storage) => {
                let failed = drive(&mut storage, &mut model, &batches).is_err();
                let again = storage.engine.apply(batches[0].clone());
                if failed && again.is_ok() {
                    // It was a flush that failed: the log is whole, and the actor fences the node.
                    model.acked(batches[0].iter().map(|(mutation, _)| mutation));
                }
                failed
            }
            Err(_) => true,
        };
        let is_hit = disk.calls(target) > calls_before;
        disk.clear_faults();
        let after = disk.crash(survivors);
        match open_on(&after) {
            Ok(storage) => {
                model.check(&storage, &Slice::all()).unwrap_or_else(|wrong| panic!("at call {calls_before}: {wrong}"))
            }
            Err(error) => panic!("after a failure at call {calls_before} the directory does not open: {error}"),
        }
        if !is_hit {
            assert!(!is_open, "nothing fails without a fault");
            break;
        }
        hit += 1;
    }
    hit
}

// Promise: P1, P26
#[test]
fn after_an_io_error_at_any_call_nothing_acknowledged_is_lost() {
    let writes = check_failure(Target::Write, Fault::Io, Survivors::Seeded(1), 5);
    let any = check_failure(Target::Any, Fault::Io, Survivors::None, 23);
    assert!(writes > 30 && any > 50, "{writes} writes, {any} calls");
}

// Promise: P12
#[test]
fn after_a_failed_sync_nothing_is_acknowledged_that_the_disk_forgot() {
    for flavour in [SyncFault::Kept, SyncFault::Reverted] {
        let syncs = check_failure(Target::Sync, Fault::Sync(flavour), Survivors::None, 5);
        assert!(syncs > 30, "{syncs} syncs");
    }
    let directories = check_failure(Target::SyncDir, Fault::Io, Survivors::None, 3);
    assert!(directories > 15, "{directories} syncs of directories");
}

#[test]
fn one_process_holds_a_directory_and_a_held_one_is_refused() {
    let disk = SimDisk::new(6);
    let storage = open_on(&disk).unwrap();
    let identity = storage.identity();
    assert!(matches!(open_on(&disk), Err(StorageError::Locked)));
    drop(storage);
    assert_eq!(open_on(&disk).unwrap().identity().node, identity.node);
}

/// A storage with some of its data in tables and some in the log.
fn filled(seed: u64) -> (SimDisk, Model) {
    let disk = SimDisk::new(seed);
    let mut model = Model::default();
    let mut storage = open_on(&disk).unwrap();
    let batches = batches(seed, 14);
    drive(&mut storage, &mut model, &batches[..8]).unwrap();
    storage.engine.flush(0).unwrap();
    storage.engine.flush(1).unwrap();
    drive(&mut storage, &mut model, &batches[8..]).unwrap();
    assert!(storage.engine.shards.iter().all(|shard| shard.statistics().sstables > 0));
    (disk, model)
}

#[test]
fn a_damaged_or_missing_identity_is_said_and_never_drawn_anew() {
    let (disk, _) = filled(7);
    for byte in (0..150).step_by(7) {
        disk.flip_bit("identity", byte, 3).unwrap();
        assert!(matches!(open_on(&disk), Err(StorageError::IdentityDamaged { .. })), "byte {byte}");
        disk.flip_bit("identity", byte, 3).unwrap();
    }
    let config = StorageConfig { shards: Some(3), ..tiny() };
    let asked = open(Arc::new(disk.clone()), &config, &clock(), Loss::Refuse);
    assert!(matches!(asked, Err(StorageError::ShardsFixed { have: 2, asked: 3 })));
    disk.unlink("identity").unwrap();
    assert!(matches!(open_on(&disk), Err(StorageError::IdentityMissing)));
}

// Promise: P10
#[test]
fn a_damaged_or_missing_manifest_is_said() {
    let (disk, model) = filled(8);
    let bytes = disk.open("shard-001/manifest", kula_disk::Access::Read).unwrap().len().unwrap();
    for byte in (0..bytes).step_by(5) {
        disk.flip_bit("shard-001/manifest", byte, 6).unwrap();
        assert!(matches!(open_on(&disk), Err(StorageError::ManifestDamaged { shard: 1, .. })), "byte {byte}");
        disk.flip_bit("shard-001/manifest", byte, 6).unwrap();
    }
    model.check(&open_on(&disk).unwrap(), &Slice::all()).unwrap();
    disk.unlink("shard-001/manifest").unwrap();
    assert!(matches!(open_on(&disk), Err(StorageError::ManifestDamaged { shard: 1, .. })));
}

// Promise: P10
#[test]
fn a_damaged_table_is_unknown_and_not_absent() {
    let (disk, model) = filled(9);
    let names = disk.list("shard-000").unwrap();
    let data = names.iter().find(|name| name.ends_with("-Data.db")).unwrap();
    let name = format!("shard-000/{data}");
    let bytes = disk.open(&name, kula_disk::Access::Read).unwrap().len().unwrap();
    (60..bytes).step_by(40).for_each(|byte| disk.flip_bit(&name, byte, 1).unwrap());
    let storage = open_on(&disk).unwrap();
    assert!(model.check(&storage, &Slice::all()).unwrap_err().contains("is damaged here, so this range is unknown"));
}

// Promise: P13
#[test]
fn damage_before_valid_records_is_said_and_left_behind_once_it_is_accepted() {
    let disk = SimDisk::new(10);
    let mut storage = open_on(&disk).unwrap();
    let batches = batches(10, 6);
    let mut model = Model::default();
    for batch in &batches {
        model.sent(batch.iter().map(|(mutation, _)| mutation));
        storage.engine.apply(batch.clone()).unwrap();
    }
    drop(storage);
    let segment = disk.list("commitlog").unwrap().into_iter().find(|name| name.ends_with(".log")).unwrap();
    // In the first records, behind the segment's header.
    disk.flip_bit(&format!("commitlog/{segment}"), (8 << 10) + 30, 0).unwrap();
    let refused = open_on(&disk).map(|storage| storage.replay);
    let Err(StorageError::LogDamaged(damage)) = refused else { panic!("{refused:?}") };
    assert!(damage.kind == DamageKind::Records && damage.records_after > 5, "{damage}");

    let accepted = open(Arc::new(disk.clone()), &tiny(), &clock(), Loss::Accept).unwrap();
    assert!(accepted.replay.damaged_places == 1 && accepted.replay.joined == damage.records_after);
    for batch in &batches[1..] {
        model.acked(batch.iter().map(|(mutation, _)| mutation));
    }
    model.check(&accepted, &Slice::all()).unwrap();
    drop(accepted);
    let again = open_on(&disk.crash(Survivors::None)).unwrap();
    assert_eq!(again.replay.damaged_places, 0);
    model.check(&again, &Slice::all()).unwrap();
}

// Promise: P13, R28
#[test]
fn a_missing_commit_log_is_said() {
    let (disk, _) = filled(14);
    for name in disk.list("commitlog").unwrap() {
        disk.unlink(&format!("commitlog/{name}")).unwrap();
    }
    disk.rename("commitlog", "elsewhere").unwrap();
    assert!(matches!(open_on(&disk), Err(StorageError::LogMissing)));
    assert!(open(Arc::new(disk.clone()), &tiny(), &clock(), Loss::Accept).is_ok());
}

// Promise: P1
#[test]
fn what_an_unfinished_flush_left_is_removed_and_other_files_are_not() {
    let (disk, model) = filled(11);
    let before = disk.list("shard-000").unwrap();
    let leftover = format!("shard-000/{}-Data.db", "0123456789abcdef".repeat(2));
    for name in [&leftover[..], "shard-000/notes.txt"] {
        disk.create(name).unwrap().write_at(b"something", 0).unwrap();
    }
    model.check(&open_on(&disk).unwrap(), &Slice::all()).unwrap();
    let after = disk.list("shard-000").unwrap();
    assert_eq!(after.iter().filter(|name| !before.contains(name)).collect::<Vec<_>>(), ["notes.txt"]);
}

// Promise: P1, R32
#[test]
fn a_replay_longer_than_memory_flushes_on_the_way() {
    let disk = SimDisk::new(12);
    let roomy = StorageConfig { memtable_heap: 64 << 20, commitlog_total: 4 << 20, ..tiny() };
    let mut storage = open(Arc::new(disk.clone()), &roomy, &clock(), Loss::Refuse).unwrap();
    let mut model = Model::default();
    for first in (1u64..1_000).step_by(10) {
        let batch: Batch =
            (first..first + 10).map(|sequence| sibling_of(sequence.to_le_bytes()[0] % KEYS, sequence, 200)).collect();
        model.sent(batch.iter().map(|(mutation, _)| mutation));
        model.acked(batch.iter().map(|(mutation, _)| mutation));
        storage.engine.apply(batch).unwrap();
    }
    let held = |storage: &OpenedStorage| {
        storage.engine.shards.iter().map(|shard| shard.statistics().memtable_bytes).sum::<u64>()
    };
    let held_before = held(&storage);
    drop(storage);
    let storage = open_on(&disk).unwrap();
    assert!(storage.replay.joined == 1_000 && held(&storage) < held_before, "{:?}", storage.replay);
    assert!(storage.engine.shards.iter().all(|shard| shard.statistics().sstables > 0));
    model.check(&storage, &Slice::all()).unwrap();
}

#[test]
fn siblings_are_counted_in_memory_active_and_frozen() {
    let disk = SimDisk::new(13);
    let mut storage = open_on(&disk).unwrap();
    let sibling = |sequence| sibling_of(0, sequence, 5);
    let (_, token, _) = place(0, 0);
    let index = storage.engine.sharding.shard_of(token);
    storage.engine.apply(vec![sibling(1), sibling(2)]).unwrap();
    let mut job = storage.engine.shards[usize::from(index)].freeze().unwrap();
    storage.engine.apply(vec![sibling(3)]).unwrap();
    let known = storage.engine.shards[usize::from(index)].siblings(&sibling(4).0);
    assert_eq!((known.count, known.bytes), (3, 15));
    storage.engine.install(job.run(&disk).unwrap()).unwrap();
    assert_eq!(storage.engine.shards[usize::from(index)].siblings(&sibling(4).0).count, 1);
}

/// Whichever call of a flush the disk refuses for now: the same flush succeeds later and leaves no file behind.
#[test]
fn a_flush_refused_for_now_is_run_again_and_leaves_nothing_behind() {
    for fault in [Fault::Full, Fault::TooManyFiles] {
        let mut refusals = 0;
        for call in 0..60 {
            let disk = SimDisk::new(3);
            let mut engine = open_on(&disk).unwrap().engine;
            engine.apply(vec![sibling_of(0, 1, 100)]).unwrap();
            let (table, token, key) = place(0, 0);
            let shard = engine.sharding.shard_of(token);
            disk.inject(Target::Any, call, fault);
            refusals += usize::from(engine.flush(shard).is_err());
            disk.clear_faults();
            engine.flush(shard).unwrap();
            let names = disk.list(&format!("shard-{shard:03}")).unwrap();
            assert_eq!(names.len(), 5, "{fault:?} at {call}: four files of a table, the manifest: {names:?}");
            assert!(!engine.read(table, token, &key, &Slice::all()).unwrap().is_empty());
        }
        assert!(refusals > 5, "{fault:?} refused {refusals}");
    }
}
