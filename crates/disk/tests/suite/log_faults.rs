//! The log when calls fail: nothing half-acknowledged, nothing forgotten, no second try on a file that failed.

use crate::support::{SMALL, append, collect, number_of, open, payload, payloads};
use kula_disk::{
    Disk, SimDisk, Survivors,
    log::{LogConfig, LogError, Loss},
    sim::{Fault, SyncFault, Target},
};
use std::collections::BTreeSet;

#[derive(Default)]
struct Outcome {
    acked: BTreeSet<u64>,
    rejected: BTreeSet<u64>,
    sent: BTreeSet<u64>,
    full: u64,
    error: Option<LogError>,
    opened: bool,
}

/// Appends and syncs until an error other than a full disk; after that every call must say `Poisoned`.
fn run(disk: &SimDisk) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut log, _) = match open(disk, SMALL) {
        Ok(opened) => opened,
        Err(error) => return Outcome { error: Some(error), ..outcome },
    };
    outcome.opened = true;
    let mut unsynced = Vec::new();
    for round in 0..10_u64 {
        let numbers = [round * 2, round * 2 + 1];
        let batch = numbers.map(|number| payload(number, 700 + 300 * round as usize));
        outcome.sent.extend(numbers);
        let appended = append(&mut log, &batch).map(|_| unsynced.extend(numbers));
        let synced = appended.and_then(|()| log.sync()).map(|()| outcome.acked.extend(unsynced.drain(..)));
        let retired = synced.and_then(|()| if round % 4 == 3 { log.seal() } else { Ok(()) });
        let retired = retired.and_then(|()| if round == 8 { log.prepare_spare() } else { Ok(()) });
        match retired {
            Ok(()) => {}
            Err(LogError::Full { wrote, .. }) => {
                outcome.full += 1;
                if !wrote && !outcome.acked.contains(&numbers[0]) && !unsynced.contains(&numbers[0]) {
                    outcome.rejected.extend(numbers);
                }
            }
            Err(error) => {
                assert!(matches!(error, LogError::Disk(_)), "{error}");
                outcome.error = Some(error);
                let empty: [&[u8]; 0] = [];
                let after = [log.append(&empty).map(drop), log.sync(), log.seal(), log.retire_before(log.end())];
                assert!(after.iter().all(|answer| *answer == Err(LogError::Poisoned)), "{after:?}");
                break;
            }
        }
    }
    outcome
}

fn replayed(disk: &SimDisk) -> Vec<u64> {
    payloads(disk, SMALL).iter().map(|payload| number_of(payload)).collect()
}

fn check(outcome: &Outcome, disk: &SimDisk, story: &str) {
    for (loss, disk) in [("killed", disk.clone())]
        .into_iter()
        .chain([Survivors::None, Survivors::All, Survivors::Seeded(1)].map(|left| ("power lost", disk.crash(left))))
    {
        let numbers = replayed(&disk);
        assert!(numbers.is_sorted_by(|before, after| before < after), "{story}, {loss}: {numbers:?}");
        let replayed_set: BTreeSet<u64> = numbers.iter().copied().collect();
        assert!(outcome.acked.is_subset(&replayed_set), "{story}, {loss}: {numbers:?}, acked {:?}", outcome.acked);
        assert!(replayed_set.is_subset(&outcome.sent), "{story}, {loss}");
        assert!(replayed_set.is_disjoint(&outcome.rejected), "{story}, {loss}: {numbers:?}");
        assert_eq!(replayed(&disk.crash(Survivors::None)), numbers, "{story}, {loss}: replayed means durable");
    }
}

/// Runs with the fault at the first call that `target` counts, at the second, … until it is past the last.
fn at_every_call(target: Target, fault: Fault, mut check: impl FnMut(&Outcome, &SimDisk, &str)) -> u64 {
    for call in 0.. {
        let disk = SimDisk::new(5);
        disk.inject(target, call, fault);
        let outcome = run(&disk);
        if disk.calls(target) <= call {
            assert_eq!((outcome.error, outcome.acked.len()), (None, 20));
            return call;
        }
        disk.clear_faults();
        check(&outcome, &disk, &format!("{fault:?} at {target:?} {call}"));
    }
    unreachable!("some call is the last");
}

// Promise: P12
#[test]
fn a_sync_that_fails_poisons_the_log_and_is_never_acknowledged() {
    for failure in [SyncFault::Kept, SyncFault::Reverted] {
        let calls = at_every_call(Target::Sync, Fault::Sync(failure), |outcome, disk, story| {
            assert!(outcome.error.is_some(), "{story}");
            check(outcome, disk, story);
        });
        assert!(calls > 12, "{calls}");
    }
}

// Promise: P12
#[test]
fn a_sync_whose_failure_shows_late_ends_the_log_at_the_next() {
    at_every_call(Target::Sync, Fault::Sync(SyncFault::Late), |outcome, disk, story| {
        // The disk said that it had what it had not: nobody can keep that batch. But nothing later may be acknowledged on
        // top of it in silence: either the log was poisoned, or a restart says what is missing.
        let opened = open(disk, SMALL).or_else(|error| match error {
            // The restart's own sync may be the one that is told; the next has nothing left to be told of.
            LogError::Disk(_) => open(disk, SMALL),
            error => Err(error),
        });
        let (_, replay) = opened.unwrap_or_else(|error| panic!("{story}: {error}"));
        let (records, account) = collect(&replay, Loss::Accept).unwrap();
        let replayed: BTreeSet<u64> = records.iter().map(|(_, payload)| number_of(payload)).collect();
        let lost: Vec<u64> = outcome.acked.difference(&replayed).copied().collect();
        assert!(lost.len() <= 2, "{story}: {lost:?}");
        let went_on = lost.iter().any(|lost| outcome.acked.last() > Some(&(lost | 1)));
        assert!(!went_on || account.damage_count > 0, "{story}: {lost:?}");
    });
}

// Promise: P26
#[test]
fn any_failing_call_is_survived() {
    let calls = at_every_call(Target::Any, Fault::Io, |outcome, disk, story| {
        assert!(outcome.error.is_some() || outcome.acked.len() == 20, "{story}");
        check(outcome, disk, story);
    });
    assert!(calls > 60, "{calls}");
}

// Promise: P11, P26
#[test]
fn a_full_disk_at_any_call_is_a_typed_refusal_and_the_log_goes_on() {
    let calls = at_every_call(Target::Space, Fault::Full, |outcome, disk, story| {
        assert!(outcome.error.is_none() || !outcome.opened, "{story}: {:?}", outcome.error);
        if outcome.opened {
            assert_eq!(outcome.full, 1, "{story}");
            assert!(outcome.acked.len() >= 18, "{story}");
        }
        check(outcome, disk, story);
    });
    assert!(calls > 20, "{calls}");
}

/// One call is refused, whichever: nothing is half-named, the log goes on by itself and every later batch is taken.
#[test]
fn one_refused_call_of_any_kind_needs_no_restart() {
    for (fault, calls_min) in [(Fault::Full, 40), (Fault::TooManyFiles, 15)] {
        let mut hits = 0;
        for call in 0.. {
            let disk = SimDisk::new(5);
            let (mut log, _) = open(&disk, SMALL).unwrap();
            let before = disk.calls(Target::Any);
            disk.inject(Target::Any, call, fault);
            let story = format!("{fault:?} at call {call}");
            let (mut acked, mut unsure, mut refused) = (Vec::new(), Vec::new(), 0);
            for number in 0..12 {
                let appended = append(&mut log, &[payload(number, 4000)]).and_then(|_| log.sync());
                let retired = if number % 4 == 3 { log.retire_before(log.end()) } else { Ok(()) };
                let spare = if number % 5 == 4 { log.prepare_spare() } else { Ok(()) };
                match &appended {
                    Ok(()) => acked.push(number),
                    Err(LogError::Full { wrote: true, .. }) => unsure.push(number),
                    Err(_) => {}
                }
                for error in [appended, retired, spare].into_iter().filter_map(Result::err) {
                    assert!(
                        matches!(&error, LogError::Full { source, .. } if source.is_temporary()),
                        "{story}: {error}"
                    );
                    refused += 1;
                }
            }
            assert!(refused <= 1 && acked.len() >= 11, "{story}: {refused} refused, {acked:?}");
            let is_past_the_last = disk.calls(Target::Any) <= before + call;
            disk.clear_faults();
            append(&mut log, &[payload(12, 4000)]).unwrap();
            log.sync().unwrap();
            acked.push(12);
            // All that no retirement took, after every end.
            for disk in [disk.crash(Survivors::None), disk.crash(Survivors::All), disk.crash(Survivors::Seeded(2))] {
                let mut found = replayed(&disk);
                found.retain(|number| !unsure.contains(number));
                assert!(found.last() == Some(&12) && acked.ends_with(&found), "{story}: {found:?}, {acked:?}");
            }
            if is_past_the_last {
                assert_eq!(refused, 0);
                break;
            }
            hits += refused;
        }
        assert!(hits > calls_min, "{fault:?} refused {hits}");
    }
}

/// The name is there and not durable: a record in it would be lost with it.
#[test]
fn no_record_is_taken_in_a_segment_whose_name_is_not_durable() {
    let disk = SimDisk::new(5);
    let (mut log, _) = open(&disk, SMALL).unwrap();
    append(&mut log, &[payload(0, 4000)]).unwrap();
    log.sync().unwrap();
    append(&mut log, &[payload(1, 3000)]).unwrap();
    for _ in 0..3 {
        disk.inject(Target::SyncDir, 0, Fault::Full);
        let refused = append(&mut log, &[payload(2, 4000)]);
        assert!(matches!(refused, Err(LogError::Full { wrote: false, .. })), "{refused:?}");
        assert_eq!(replayed(&disk), [0, 1], "what was appended before is durable");
    }
    // Small enough for what was left of the old segment, which must not grow past what the new header says of it.
    append(&mut log, &[payload(3, 8)]).unwrap();
    log.sync().unwrap();
    assert_eq!(replayed(&disk.crash(Survivors::None)), [0, 1, 3]);
}

#[test]
fn a_spare_that_could_not_be_removed_is_in_nobodys_way() {
    let disk = SimDisk::new(5);
    let (mut log, _) = open(&disk, SMALL).unwrap();
    disk.set_space(Some(4096));
    // Create, allocate, unlink.
    disk.inject(Target::Any, 2, Fault::Io);
    assert!(matches!(log.prepare_spare(), Err(LogError::Full { .. })));
    assert_eq!(disk.list("log").unwrap().len(), 1);
    disk.set_space(None);
    append(&mut log, &[payload(0, 10)]).unwrap();
    log.sync().unwrap();
    assert_eq!(replayed(&disk.crash(Survivors::None)), [0]);
}

#[test]
fn a_full_disk_refuses_segments_until_there_is_room_and_needs_no_restart() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, SMALL).unwrap();
    append(&mut log, &[payload(0, 4000)]).unwrap();
    log.sync().unwrap();
    disk.set_space(Some(5 * 4096));
    append(&mut log, &[payload(1, 4000)]).unwrap();
    for _ in 0..3 {
        let full = append(&mut log, &[payload(2, 4000)]).unwrap_err();
        assert!(matches!(&full, LogError::Full { wrote: false, source } if source.is_full()), "{full}");
        assert!(matches!(log.prepare_spare(), Err(LogError::Full { .. })));
        log.sync().unwrap();
        append(&mut log, &[payload(9, 8)]).unwrap();
        assert_eq!(disk.list("log").unwrap().len(), 1, "the half-made file is gone");
    }
    let full_restart = disk.crash(Survivors::None);
    full_restart.set_space(Some(5 * 4096));
    let (mut restarted, replay) = open(&full_restart, SMALL).unwrap();
    assert_eq!(collect(&replay, Loss::Refuse).unwrap().0.len(), 4);
    assert!(matches!(append(&mut restarted, &[payload(3, 10)]), Err(LogError::Full { wrote: false, .. })));
    full_restart.set_space(None);
    append(&mut restarted, &[payload(3, 10)]).unwrap();
    disk.set_space(None);
    append(&mut log, &[payload(2, 4000)]).unwrap();
    log.sync().unwrap();
    assert_eq!(replayed(&disk.crash(Survivors::None)), [0, 1, 9, 9, 9, 2]);
}

#[test]
fn what_a_refused_write_left_behind_never_follows_a_later_record() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, SMALL).unwrap();
    append(&mut log, &[payload(0, 50)]).unwrap();
    log.sync().unwrap();
    disk.inject(Target::Write, 0, Fault::Full);
    let refused: Vec<_> = (1..6).map(|number| payload(number, 50)).collect();
    assert!(matches!(append(&mut log, &refused), Err(LogError::Full { wrote: true, .. })));
    assert_eq!(replayed(&disk.crash(Survivors::All)), [0, 1, 2], "until then it may be found, as after a timeout");
    append(&mut log, &[payload(9, 50)]).unwrap();
    log.sync().unwrap();
    assert_eq!(replayed(&disk.crash(Survivors::None)), [0, 9]);
    assert_eq!(replayed(&disk), [0, 9]);
}

#[test]
fn retired_segments_are_enough_to_go_on_when_the_disk_is_full() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, SMALL).unwrap();
    for number in 0..4 {
        append(&mut log, &[payload(number, 4000)]).unwrap();
    }
    log.sync().unwrap();
    disk.set_space(Some(2 * 4 * 4096));
    assert!(append(&mut log, &[payload(4, 4000)]).is_err());
    log.retire_before(log.end()).unwrap();
    append(&mut log, &[payload(4, 4000)]).unwrap();
    log.sync().unwrap();
    assert_eq!(replayed(&disk.crash(Survivors::None)), [2, 3, 4]);
}

// Promise: P12
#[test]
fn a_restart_after_a_failed_sync_believes_the_disk_and_not_the_cache() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, SMALL).unwrap();
    append(&mut log, &[payload(0, 100)]).unwrap();
    log.sync().unwrap();
    append(&mut log, &[payload(1, 100)]).unwrap();
    disk.inject(Target::Sync, 0, Fault::Sync(SyncFault::Kept));
    assert!(log.sync().is_err());
    drop(log);
    assert_eq!(replayed(&disk), [0], "record 1 is in the cache, not on the disk");
    let (mut log, _) = open(&disk, SMALL).unwrap();
    append(&mut log, &[payload(2, 100)]).unwrap();
    log.sync().unwrap();
    assert_eq!(replayed(&disk), [0, 2]);
    assert_eq!(replayed(&disk.crash(Survivors::None)), [0, 2]);
}

/// It had the length that its failed sync left in the cache, and that the disk never got.
#[test]
fn a_restart_makes_no_segment_of_a_spare_whose_sync_failed() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, SMALL).unwrap();
    disk.inject(Target::Sync, 0, Fault::Sync(SyncFault::Kept));
    assert!(append(&mut log, &[payload(0, 100)]).is_err(), "the header's sync");
    assert_eq!(disk.list("log").unwrap(), ["00000000000000000001.spare"]);
    drop(log);
    disk.clear_faults();
    let (mut log, _) = open(&disk, SMALL).unwrap();
    append(&mut log, &[payload(7, 100)]).unwrap();
    log.sync().unwrap();
    assert_eq!(replayed(&disk.crash(Survivors::None)), [7]);
}

#[test]
fn what_cannot_fit_is_refused_untouched() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, SMALL).unwrap();
    let refused = append(&mut log, &[payload(0, 10), payload(1, (4 << 10) + 1)]);
    assert_eq!(refused, Err(LogError::RecordTooLarge { bytes: (4 << 10) + 1, bytes_max: 4 << 10 }));
    assert_eq!(disk.list("log").unwrap(), Vec::<String>::new());
    append(&mut log, &[payload(2, 4 << 10)]).unwrap();
    assert_eq!(replayed(&disk), [2]);
    for (segment_bytes, record_bytes_max) in
        [(0, 0), (8192, 0), (8192 + 16, 0), (16 << 10, u32::MAX), (u32::MAX, u32::MAX)]
    {
        let config = LogConfig { segment_bytes, record_bytes_max, ..SMALL };
        let refused = open(&disk, config).unwrap_err();
        assert_eq!(refused, LogError::SegmentTooSmall { segment_bytes, record_bytes_max });
    }
}
