//! Torn tails are trimmed silently; damage to what was durable is always said.

use crate::support::{DIR, Records, SMALL, append, collect, number_of, open, payload, segment_files};
use kula_disk::{
    Access, Disk, SimDisk, Survivors,
    log::{Damage, DamageKind, LogError, Loss, Position, SegmentLog},
};
use proptest::prelude::*;

const FIRST: &str = "log/00000000000000000001.log";
const RECORDS_AT: u64 = 8192;

fn numbers(records: &Records) -> Vec<u64> {
    records.iter().map(|(_, payload)| number_of(payload)).collect()
}

/// The numbers replayed with the loss accepted, and the damage listed. Refusal must agree on whether there is any.
fn read(disk: &SimDisk) -> (Vec<u64>, Vec<Damage>) {
    let (_, replay) = open(disk, SMALL).unwrap();
    let (records, replayed) = collect(&replay, Loss::Accept).unwrap();
    assert_eq!(replayed.damage_count, replayed.damage.len() as u64);
    match collect(&replay, Loss::Refuse) {
        Ok((refused, _)) => assert_eq!((refused, replayed.damage.len()), (records.clone(), 0)),
        Err(LogError::Corrupt(damage)) => assert_eq!(Some(&damage), replayed.damage.first()),
        Err(error) => panic!("{error}"),
    }
    (numbers(&records), replayed.damage)
}

/// Batches of `(records, bytes each)`, every one synced but the last, which is only written. Answers the positions too.
fn written(batches: &[(u64, usize)]) -> (SimDisk, SegmentLog, Vec<Position>) {
    let disk = SimDisk::new(3);
    let (mut log, _) = open(&disk, SMALL).unwrap();
    let (mut number, mut positions) = (0, Vec::new());
    for (index, (records, bytes)) in batches.iter().enumerate() {
        let batch: Vec<_> = (number..number + records).map(|number| payload(number, *bytes)).collect();
        number += records;
        positions.push(append(&mut log, &batch).unwrap());
        if index + 1 < batches.len() {
            log.sync().unwrap();
        }
    }
    (disk, log, positions)
}

// Promise: P13
#[test]
fn an_unsynced_batch_torn_at_any_byte_is_trimmed_silently() {
    let (disk, log, positions) = written(&[(2, 50), (3, 70)]);
    let (from, to) = (u64::from(positions[1].offset), u64::from(log.end().offset));
    for cut in from..to {
        for rest in [vec![0; (to - cut) as usize], (cut..to).map(|byte| (byte * 37 % 251) as u8).collect()] {
            let torn = disk.crash(Survivors::All);
            torn.overwrite(FIRST, cut, &rest).unwrap();
            let (numbers, damage) = read(&torn);
            assert_eq!(damage, [], "cut at {cut}");
            assert!(numbers.len() >= 2 && numbers.iter().copied().eq(0..numbers.len() as u64), "{numbers:?}");
            let whole = (cut - from) / record_bytes(70);
            assert!(numbers.len() as u64 >= 2 + whole, "cut at {cut}: {numbers:?}");
        }
    }
}

fn record_bytes(payload: u64) -> u64 {
    (20 + payload).next_multiple_of(8)
}

#[test]
fn a_later_part_of_an_unsynced_batch_without_the_earlier_is_trimmed_silently() {
    let (disk, _, positions) = written(&[(2, 50), (3, 70)]);
    let at = u64::from(positions[1].offset);
    for damaged in 0..3 {
        let torn = disk.crash(Survivors::All);
        torn.overwrite(FIRST, at + damaged * record_bytes(70) + 3, &[0x55; 40]).unwrap();
        assert_eq!(read(&torn), ((0..2 + damaged).collect(), vec![]));
        // What was trimmed never comes back behind a new record, however the sizes fall.
        let (mut log, _) = open(&torn, SMALL).unwrap();
        append(&mut log, &[payload(7, 70)]).unwrap();
        log.sync().unwrap();
        assert_eq!(read(&torn), ((0..2 + damaged).chain([7]).collect(), vec![]));
    }
}

// Promise: P13
#[test]
fn a_flipped_bit_anywhere_in_a_batch_known_to_be_durable_is_reported_and_the_rest_is_read() {
    let (disk, _, positions) = written(&[(1, 50), (3, 77), (1, 50)]);
    let (from, to) = (u64::from(positions[1].offset), u64::from(positions[2].offset));
    for byte in from..to {
        disk.flip_bit(FIRST, byte, (byte % 8) as u8).unwrap();
        let (record, in_record) = ((byte - from) / record_bytes(77), (byte - from) % record_bytes(77));
        let (numbers, damage) = read(&disk);
        if in_record < 20 + 77 {
            assert_eq!(numbers, (0..5).filter(|number| *number != 1 + record).collect::<Vec<_>>(), "byte {byte}");
            let offset = (from + record * record_bytes(77)) as u32;
            let bytes = record_bytes(77);
            assert_eq!(
                damage,
                [Damage { kind: DamageKind::Records, segment: 1, offset, bytes, records_after: 3 - record }]
            );
        } else {
            assert_eq!((numbers.len(), damage.len()), (5, 0), "padding means nothing");
        }
        disk.flip_bit(FIRST, byte, (byte % 8) as u8).unwrap();
    }
}

#[test]
fn a_whole_header_is_believed_though_its_payload_is_torn() {
    let (disk, _, positions) = written(&[(1, 50), (1, 50)]);
    disk.flip_bit(FIRST, u64::from(positions[0].offset) + 30, 0).unwrap();
    disk.flip_bit(FIRST, u64::from(positions[1].offset) + 30, 0).unwrap();
    // Record 1 was never synced and is trimmed; that record 0 was, only record 1 says.
    let (offset, bytes) = (positions[0].offset, record_bytes(50));
    let lost = Damage { kind: DamageKind::Records, segment: 1, offset, bytes, records_after: 0 };
    assert_eq!(read(&disk), (vec![], vec![lost]));
}

#[test]
fn a_refused_loss_delivers_nothing_after_the_damage() {
    let (disk, _, positions) = written(&[(1, 50), (1, 50), (2, 50)]);
    disk.flip_bit(FIRST, u64::from(positions[1].offset) + 30, 0).unwrap();
    let (_, replay) = open(&disk, SMALL).unwrap();
    let mut met = Vec::new();
    let answer = replay.run(Position::START, Loss::Refuse, |_, payload| {
        met.push(number_of(payload));
        Ok(())
    });
    assert!(matches!(answer, Err(LogError::Corrupt(Damage { segment: 1, records_after: 2, .. }))), "{answer:?}");
    assert_eq!(met, [0]);
    let from_behind = replay.run(positions[2], Loss::Refuse, |_, _| Ok::<_, LogError>(()));
    assert_eq!(from_behind.map(|replayed| replayed.records), Ok(2), "damage before the position concerns nobody");
}

#[test]
fn the_last_synced_batch_is_safe_from_silence_once_it_is_sealed_or_followed() {
    let damage_last = |disk: &SimDisk, at: Position| disk.flip_bit(FIRST, u64::from(at.offset) + 25, 1).unwrap();
    let make = || {
        let (disk, mut log, positions) = written(&[(1, 50), (1, 50)]);
        log.sync().unwrap();
        (disk, log, positions[1])
    };
    // Nothing says yet that it was durable: this is the one thing a single copy cannot tell.
    let (disk, log, last) = make();
    drop(log);
    damage_last(&disk, last);
    assert_eq!(read(&disk), (vec![0], vec![]));

    let (disk, mut log, last) = make();
    let end = log.end();
    log.seal().unwrap();
    let sealed_end = log.end();
    assert!(sealed_end > end);
    log.seal().unwrap();
    log.sync().unwrap();
    log.seal().unwrap();
    assert_eq!(log.end(), sealed_end, "one marker is enough");
    assert_eq!(read(&disk), (vec![0, 1], vec![]));
    damage_last(&disk, last);
    assert_eq!(read(&disk).1.len(), 1);

    let (disk, mut log, last) = make();
    while log.end().segment == 1 {
        append(&mut log, &[payload(9, 4000)]).unwrap();
    }
    damage_last(&disk, last);
    assert_eq!(read(&disk).1.len(), 1);

    let (disk, log, last) = make();
    drop(log);
    let (mut log, _) = open(&disk, SMALL).unwrap();
    append(&mut log, &[payload(9, 10)]).unwrap();
    damage_last(&disk, last);
    assert_eq!(read(&disk).1.len(), 1, "the next segment's header says where the records end");
}

/// Three segments, all full and durable, each with two records.
fn three_segments() -> SimDisk {
    let (disk, mut log, _) = written(&[(2, 3900), (2, 3900), (2, 3900)]);
    log.sync().unwrap();
    assert_eq!(segment_files(&disk).len(), 3);
    disk
}

// Promise: P13
#[test]
fn any_zeroed_block_is_reported_or_harmless() {
    for segment in 0..2 {
        for block in 0..4 {
            let disk = three_segments();
            disk.overwrite(&segment_files(&disk)[segment], block * 4096, &[0; 4096]).unwrap();
            let (numbers, damage) = read(&disk);
            if block < 2 {
                assert_eq!((numbers.len(), damage.len()), (6, 0), "the other copy of the header serves");
            } else {
                assert!(numbers.len() < 6 && damage.len() == 1, "{segment} {block}: {numbers:?} {damage:?}");
                assert_eq!(damage[0].segment, segment as u64 + 1);
            }
        }
    }
}

// Promise: P13, R30
#[test]
fn a_segment_without_a_header_is_reported_and_the_others_are_read() {
    for (segment, kept) in [(0, [2, 3, 4, 5]), (1, [0, 1, 4, 5]), (2, [0, 1, 2, 3])] {
        let disk = three_segments();
        disk.overwrite(&segment_files(&disk)[segment], 0, &[0; 8192]).unwrap();
        let (numbers, damage) = read(&disk);
        assert_eq!(numbers, kept);
        let records_after = 4 - 2 * segment as u64;
        let (segment, bytes) = (segment as u64 + 1, 16 << 10);
        assert_eq!(damage, [Damage { kind: DamageKind::Header, segment, offset: 0, bytes, records_after }]);
        let (mut log, _) = open(&disk, SMALL).unwrap();
        assert!(append(&mut log, &[payload(9, 9)]).unwrap().segment > 3);
        log.sync().unwrap();
        assert_eq!(read(&disk).0, kept.into_iter().chain([9]).collect::<Vec<_>>());
    }
}

#[test]
fn a_missing_segment_is_reported_unless_it_is_the_oldest() {
    for (removed, kept, missing) in [(0, [2, 3, 4, 5], false), (1, [0, 1, 4, 5], true)] {
        let disk = three_segments();
        disk.unlink(&segment_files(&disk)[removed]).unwrap();
        let (numbers, damage) = read(&disk);
        assert_eq!(numbers, kept);
        assert_eq!(
            damage.iter().map(|damage| damage.kind).collect::<Vec<_>>(),
            vec![DamageKind::Missing; missing.into()]
        );
    }
}

// Promise: P13
#[test]
fn a_file_cut_short_is_reported_wherever_it_was_cut() {
    for segment in 0..3 {
        for bytes in [0, 10, 4096, RECORDS_AT, RECORDS_AT + 500, 13_000] {
            let disk = three_segments();
            disk.truncate(&segment_files(&disk)[segment], bytes).unwrap();
            let (numbers, damage) = read(&disk);
            assert!(numbers.len() < 6 && damage.len() == 1, "{segment} cut to {bytes}: {numbers:?} {damage:?}");
            assert_eq!(damage[0].segment, segment as u64 + 1);
            assert_eq!(damage[0].records_after, 4 - 2 * segment as u64);
        }
    }
}

// Promise: P13
#[test]
fn a_segment_moved_to_another_number_is_not_read() {
    let disk = three_segments();
    let names = segment_files(&disk);
    disk.rename(&names[0], "log/x").unwrap();
    disk.rename(&names[1], &names[0]).unwrap();
    disk.rename("log/x", &names[1]).unwrap();
    let (numbers, damage) = read(&disk);
    assert_eq!((numbers, damage.len()), (vec![4, 5], 2));
}

#[test]
fn a_newer_layout_and_another_kind_are_refused_before_anything_changes() {
    let disk = three_segments();
    let before = disk.hash();
    let other = kula_disk::log::LogConfig { kind: 2, ..SMALL };
    assert_eq!(open(&disk, other).unwrap_err(), LogError::WrongKind { segment: 1, found: 1, wanted: 2 });
    let mut header = [0; 64];
    let name = &segment_files(&disk)[1];
    disk.open(name, Access::Read).unwrap().read_exact_at(&mut header, 0).unwrap();
    header[8] = 9;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..]);
    header[12..16].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(disk.hash(), before);
    disk.overwrite(name, 0, &header).unwrap();
    let before = disk.hash();
    assert_eq!(open(&disk, SMALL).unwrap_err(), LogError::Newer { segment: 2, found: 9, known: 1 });
    assert_eq!(disk.hash(), before);
}

proptest! {
    // Promise: P19
    #[test]
    fn any_bytes_as_a_segment_are_read_without_panic(
        name in 1_u64..4, bytes in prop::collection::vec(any::<u8>(), 0..20_000),
    ) {
        let disk = SimDisk::new(1);
        disk.create_dir(DIR).unwrap();
        disk.create(&format!("{DIR}/{name:020}.log")).unwrap().write_at(&bytes, 0).unwrap();
        let (numbers, damage) = read(&disk);
        prop_assert!(numbers.is_empty() && damage.len() == 1);
    }

    // Promise: P13, P19
    #[test]
    fn any_damage_to_records_never_panics_and_never_invents_one(
        patches in prop::collection::vec((0..8192_u64, prop::collection::vec(any::<u8>(), 1..300)), 1..4),
    ) {
        let (disk, mut log, _) = written(&[(3, 300), (4, 200), (2, 900), (5, 100)]);
        log.sync().unwrap();
        for (at, bytes) in &patches {
            let room = (8192 - at).min(bytes.len() as u64) as usize;
            disk.overwrite(FIRST, RECORDS_AT + at, &bytes[..room]).unwrap();
        }
        let (_, replay) = open(&disk, SMALL).unwrap();
        let (records, _) = collect(&replay, Loss::Accept).unwrap();
        for (_, record) in records {
            prop_assert_eq!(&record, &payload(number_of(&record), record.len()));
        }
    }
}

// Promise: P19
#[test]
fn a_length_that_the_file_does_not_have_allocates_nothing() {
    let disk = three_segments();
    let mut header = [0; 64];
    let name = &segment_files(&disk)[2];
    disk.open(name, Access::Read).unwrap().read_exact_at(&mut header, 0).unwrap();
    header[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..]);
    header[12..16].copy_from_slice(&checksum.to_le_bytes());
    disk.overwrite(name, 0, &header).unwrap();
    let (numbers, damage) = read(&disk);
    assert_eq!((numbers.len(), damage.len()), (6, 1));
    assert!(damage[0].bytes > 1 << 31);
}
