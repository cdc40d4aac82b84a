//! The log under every power loss: acknowledged ⊆ replayed ⊆ sent, in order, nothing reported as damage.

use crate::support::{DIR, SMALL, append, collect, number_of, open, payload, payloads};
use kula_disk::{
    Disk, SimDisk, Survivors,
    log::{LogConfig, Loss, Position},
    sim::CrashImages,
};

/// What the log's owner knew, by the number of operations the disk had seen.
#[derive(Default)]
struct History {
    disk_operations_at_send: Vec<(usize, u64)>,
    disk_operations_at_retire: Vec<(usize, u64)>,
}

impl History {
    /// Records that may have reached the disk by then: those of calls that had begun.
    fn sent(&self, operations: usize) -> u64 {
        upto(&self.disk_operations_at_send, operations)
    }

    fn retired(&self, operations: usize) -> u64 {
        upto(&self.disk_operations_at_retire, operations)
    }
}

fn upto(events: &[(usize, u64)], operations: usize) -> u64 {
    events.iter().rev().find(|(at, _)| *at < operations).map_or(0, |(_, number)| *number)
}

/// Appends batches 1, 2, … records long, syncs most, seals some, retires old segments so that files are recycled.
fn run(disk: &SimDisk, config: LogConfig, batches: u64) -> History {
    let mut history = History::default();
    let (mut log, _) = open(disk, config).unwrap();
    let (mut sent, mut firsts): (u64, Vec<(Position, u64)>) = (0, Vec::new());
    for batch in 0..batches {
        let records: Vec<_> =
            (sent..sent + 1 + batch % 3).map(|number| payload(number, 40 + (number * 977 % 1900) as usize)).collect();
        sent += records.len() as u64;
        history.disk_operations_at_send.push((disk.operations(), sent));
        firsts.push((append(&mut log, &records).unwrap(), sent - records.len() as u64));
        if batch % 4 != 2 {
            log.sync().unwrap();
            disk.mark(sent);
        }
        if batch % 5 == 0 {
            log.seal().unwrap();
        }
        if batch % 7 == 6 {
            // Keep the last two batches' worth of segments.
            let (position, first_kept) = firsts[firsts.len() - 2];
            let first_kept_segment = firsts.iter().find(|(at, _)| at.segment >= position.segment);
            let first_kept = first_kept_segment.map_or(first_kept, |(_, number)| *number);
            history.disk_operations_at_retire.push((disk.operations(), first_kept));
            log.retire_before(position).unwrap();
        }
    }
    history
}

// Promise: P1
#[test]
fn acknowledged_records_survive_every_power_loss_in_order_and_none_is_invented() {
    let disk = SimDisk::recording(11);
    let history = run(&disk, SMALL, 150);
    let (mut images, mut depth_two) = (0, 0);
    for image in CrashImages::of(&disk.journal(), 3).distinct() {
        images += 1;
        let booted = image.disk();
        let (mut log, replay) = open(&booted, SMALL).unwrap_or_else(|error| panic!("{image}: {error}"));
        let (records, _) = collect(&replay, Loss::Refuse).unwrap_or_else(|error| panic!("{image}: {error}"));
        let numbers: Vec<u64> = records.iter().map(|(_, payload)| number_of(payload)).collect();
        assert!(numbers.is_sorted_by(|before, after| after - before == 1), "{image}: {numbers:?}");
        for (_, record) in &records {
            let number = number_of(record);
            assert_eq!(*record, payload(number, 40 + (number * 977 % 1900) as usize), "{image}");
        }
        let next = numbers.last().map_or(0, |last| last + 1);
        assert!(image.mark() <= next, "{image}: {} acknowledged, {next} replayed", image.mark());
        assert!(next <= history.sent(image.operations()), "{image}: {next} replayed, not all sent");
        let retired = history.retired(image.operations());
        assert!(numbers.first().is_none_or(|first| *first <= retired), "{image}: {numbers:?}, retired {retired}");
        assert!(next > 0 || image.mark() == 0, "{image}");

        // What was replayed stays, whatever happens next; a new batch follows it.
        let before = disk_numbers(&booted.crash(Survivors::None));
        assert_eq!(before, numbers, "{image}");
        if images % 32 == 0 {
            append(&mut log, &[payload(next, 3000), payload(next + 1, 20)]).unwrap();
            log.sync().unwrap();
            booted.mark(2);
            for second in CrashImages::of(&booted.journal(), images).per_moment(6).distinct() {
                depth_two += 1;
                let numbers_after = disk_numbers(&second.disk());
                let expected: Vec<u64> = numbers.iter().copied().chain(next..next + 2).collect();
                let least = numbers.len() + second.mark() as usize;
                assert!(numbers_after.len() >= least, "{image}; then {second}");
                assert_eq!(numbers_after, expected[..numbers_after.len()], "{image}; then {second}");
            }
        }
    }
    assert!(images > 3000 && depth_two > 1000, "{images} images, {depth_two} in recovery");
}

fn disk_numbers(disk: &SimDisk) -> Vec<u64> {
    payloads(disk, SMALL).iter().map(|payload| number_of(payload)).collect()
}

// Promise: P1
#[test]
fn a_killed_process_loses_nothing_that_a_later_power_loss_could_take_back() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, SMALL).unwrap();
    append(&mut log, &[payload(0, 100)]).unwrap();
    log.sync().unwrap();
    append(&mut log, &[payload(1, 100)]).unwrap();
    drop(log);
    assert_eq!(disk_numbers(&disk), [0, 1]);
    assert_eq!(disk_numbers(&disk.crash(Survivors::None)), [0, 1], "replayed, so durable");
}

// Promise: P13, R31
#[test]
fn recycled_files_are_read_neither_as_new_records_nor_as_damage() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, SMALL).unwrap();
    for number in 0..30 {
        append(&mut log, &[payload(number, 1000)]).unwrap();
        log.sync().unwrap();
        log.retire_before(log.end()).unwrap();
    }
    assert!(log.begin().segment >= 3 && log.spare_bytes() > 0, "{log:?}");
    let names = disk.list(DIR).unwrap();
    assert!(names.len() <= 1 + SMALL.spares_max, "{names:?}");
    let kept = disk_numbers(&disk);
    assert_eq!(kept.last(), Some(&29));
    assert!(kept.is_sorted_by(|before, after| after - before == 1));
}

#[test]
fn a_spare_made_for_a_number_and_a_retired_segment_of_that_number_stay_two_files() {
    for lag in 1..5 {
        let disk = SimDisk::new(1);
        let (mut log, _) = open(&disk, SMALL).unwrap();
        for number in 0..400 {
            append(&mut log, &[payload(number, 1000)]).unwrap();
            log.sync().unwrap();
            log.prepare_spare().unwrap();
            let until = log.end().segment.saturating_sub(lag);
            log.retire_before(Position { segment: until, offset: 0 }).unwrap();
            let spares = disk.list(DIR).unwrap().iter().filter(|name| name.ends_with(".spare")).count() as u64;
            assert_eq!(log.spare_bytes(), spares * u64::from(SMALL.segment_bytes), "lag {lag}, record {number}");
        }
        assert_eq!(disk_numbers(&disk).last(), Some(&399));
    }
}

#[test]
fn segments_are_retired_whole_and_the_newest_keeps_its_number() {
    let disk = SimDisk::new(1);
    let config = LogConfig { spares_max: 1, ..SMALL };
    let (mut log, _) = open(&disk, config).unwrap();
    for number in 0..12 {
        append(&mut log, &[payload(number, 4000)]).unwrap();
    }
    log.sync().unwrap();
    assert_eq!(log.bytes(), 12 / 2 * u64::from(config.segment_bytes));
    log.retire_before(Position { segment: u64::MAX, offset: 0 }).unwrap();
    assert_eq!((log.bytes(), log.spare_bytes()), (16 << 10, 16 << 10));
    let newest = log.end().segment;
    drop(log);
    let (mut log, replay) = open(&disk, config).unwrap();
    assert_eq!(collect(&replay, Loss::Refuse).unwrap().0.len(), 2);
    log.retire_before(Position { segment: u64::MAX, offset: 0 }).unwrap();
    assert_eq!(log.end().segment, newest);
    assert!(append(&mut log, &[payload(12, 10)]).unwrap().segment > newest);
}

#[test]
fn replay_from_a_position_delivers_exactly_what_is_at_or_after_it() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, SMALL).unwrap();
    let positions: Vec<Position> = (0..20).map(|number| append(&mut log, &[payload(number, 900)]).unwrap()).collect();
    let end = log.end();
    drop(log);
    let (log, replay) = open(&disk, SMALL).unwrap();
    assert_eq!((log.end(), log.synced(), log.begin().segment), (end, end, 1));
    for (index, from) in positions.iter().chain([&end]).enumerate() {
        let mut met = Vec::new();
        let run = replay.run(*from, Loss::Refuse, |position, payload| {
            met.push((position, number_of(payload)));
            Ok::<_, kula_disk::log::LogError>(())
        });
        run.unwrap();
        let expected: Vec<_> = (index..20).map(|index| (positions[index], index as u64)).collect();
        assert_eq!(met, expected);
    }
}

#[test]
fn a_batch_larger_than_a_segment_is_spread_over_several() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, SMALL).unwrap();
    let batch: Vec<_> = (0..40).map(|number| payload(number, 1500)).collect();
    append(&mut log, &[payload(99, 10)]).unwrap();
    let first = append(&mut log, &batch).unwrap();
    assert_eq!(first.segment, 2, "it does not fit the first segment, so it begins the next");
    log.sync().unwrap();
    let numbers = disk_numbers(&disk.crash(Survivors::None));
    assert_eq!(numbers, [99].into_iter().chain(0..40).collect::<Vec<_>>());
}

#[test]
fn numbers_begin_where_the_owner_asks_though_the_directory_was_emptied() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, LogConfig { first_segment: 700, ..SMALL }).unwrap();
    assert_eq!((log.end(), log.begin()), (Position::START, Position::START));
    assert_eq!(append(&mut log, &[vec![1]]).unwrap().segment, 700);
}
