//! Whatever a disk does to the files, no read gives anything but what was written, or says which tokens are unknown.

use super::*;
use crate::engine::sstable::{
    Component, ScanLimits, TokenSpan, Why,
    frame::{FrameWriter, Seed},
    remove,
};
use kula_disk::{
    Access, Disk, DiskError,
    sim::{Fault, Survivors, SyncFault, Target},
};
use kula_lattice::Slice;
use kula_testkit::Random;
use std::ops::Bound;

fn small() -> (SimDisk, SstableMeta, Model) {
    let model = small_model();
    let (disk, meta, _) = table_of(options(200, Compression::Lz4), &model);
    (disk, meta, model)
}

fn read(disk: &SimDisk, component: Component, file: FileId) -> Vec<u8> {
    let file = disk.open(&component.file_name("", file), Access::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Reads everything in every way. Answers are the model's, or name a span that holds the token. Returns the errors met.
fn check(disk: &SimDisk, meta: &SstableMeta, model: &Model) -> Vec<SstableError> {
    let sstable = match Sstable::open(disk, "", meta) {
        Ok(sstable) => sstable,
        Err(error) => return vec![error],
    };
    let mut errors: Vec<_> = sstable.filter_damage().cloned().into_iter().collect();
    for ((token, key), partition) in model {
        match sstable.get(*token, key, &Slice::all()) {
            Ok(found) => assert_eq!(found.as_ref(), Some(partition)),
            Err(error) => {
                assert!(
                    matches!(&error, SstableError::Damaged { tokens, .. } if tokens.contains(*token)),
                    "{token}: {error}"
                );
                errors.push(error);
            }
        }
        let stranger = PartitionKey::copy_from(b"stranger");
        assert!(!matches!(sstable.get(*token, &stranger, &Slice::all()), Ok(Some(_))));
    }
    let mut from = Bound::Unbounded;
    let mut scanned = 0;
    loop {
        let mut unknown = None;
        for found in sstable.scan(from.clone(), ScanLimits::all()) {
            match found {
                Ok((token, key, partition)) => {
                    assert_eq!(model.get(&(token, key)), Some(&partition));
                    scanned += 1;
                }
                Err(error) => {
                    let SstableError::Damaged { tokens, .. } = error else { panic!("{error}") };
                    unknown = Some(tokens);
                    errors.push(error);
                }
            }
        }
        match unknown {
            None => break,
            Some(TokenSpan { last, .. }) if last >= meta.last => break,
            // The scan goes on past the tokens that are unknown.
            Some(TokenSpan { last, .. }) => from = Bound::Included((Token(last.0 + 1), PartitionKey::copy_from(b""))),
        }
    }
    assert!(!errors.is_empty() || scanned == model.len());
    if let Err(error) = sstable.verify(disk, "") {
        errors.push(error);
    } else {
        assert_eq!(errors, [], "what a read notices, scrub notices");
    }
    errors
}

// Promise: P10
#[test]
fn every_flipped_byte_is_noticed_and_hides_only_what_it_names() {
    let (disk, meta, model) = small();
    let mut narrow = 0;
    for component in Component::ALL {
        let name = component.file_name("", FILE);
        for (at, byte) in (0u64..).zip(read(&disk, component, FILE)) {
            let flip = if at % 9 == 8 { 0xff } else { 1 << (at % 9) };
            disk.overwrite(&name, at, &[byte ^ flip]).unwrap();
            let errors = check(&disk, &meta, &model);
            assert!(!errors.is_empty(), "{component} byte {at}");
            for error in &errors {
                let SstableError::Damaged { component: named, tokens, .. } = error else { panic!("{error}") };
                assert_eq!(*named, component);
                narrow += u64::from(tokens.first > meta.first || tokens.last < meta.last);
            }
            disk.overwrite(&name, at, &[byte]).unwrap();
        }
    }
    assert!(narrow > 1_000, "damage in a block must not hide the whole table");
    assert_eq!(check(&disk, &meta, &model), []);
}

// Promise: P10
#[test]
fn a_cut_grown_zeroed_or_missing_file_is_noticed() {
    for component in Component::ALL {
        let (disk, meta, model) = small();
        let name = component.file_name("", FILE);
        let bytes = read(&disk, component, FILE);
        let length = bytes.len() as u64;
        disk.overwrite(&name, length, &[0]).unwrap();
        assert_eq!(check(&disk, &meta, &model).len(), 1, "{component} grown");
        for cut in [length - 1, length / 2, 48, 47, 0] {
            disk.truncate(&name, cut).unwrap();
            assert_eq!(check(&disk, &meta, &model).len(), 1, "{component} cut to {cut}");
        }
        disk.overwrite(&name, 0, &bytes).unwrap();
        assert_eq!(check(&disk, &meta, &model), []);
        for at in (0..length).step_by(64) {
            let end = (at + 64).min(length);
            let place = usize::try_from(at).unwrap()..usize::try_from(end).unwrap();
            disk.overwrite(&name, at, &vec![0; place.len()]).unwrap();
            assert_ne!(check(&disk, &meta, &model), [], "{component} zeroed at {at}");
            disk.overwrite(&name, at, &bytes[place]).unwrap();
        }
        disk.unlink(&name).unwrap();
        assert!(matches!(check(&disk, &meta, &model)[..], [SstableError::Damaged { why: Why::Missing, .. }]));
    }
}

// Promise: P10
/// Same content, same lengths: only identity tells the two apart.
#[test]
fn a_file_or_block_of_another_table_or_an_older_generation_is_noticed() {
    let model = small_model();
    let (mine, meta, _) = table_of(options(200, Compression::Lz4), &model);
    for (file, generation) in [(FileId([0xa2; 16]), GENERATION), (FILE, GENERATION - 1)] {
        let other = SimDisk::new(2);
        let other_meta = write(&other, file, generation, options(200, Compression::Lz4), &model).unwrap();
        assert_eq!(other_meta.data_bytes, meta.data_bytes);
        for component in Component::ALL {
            let name = component.file_name("", FILE);
            let (bytes, theirs) = (read(&mine, component, FILE), read(&other, component, file));
            mine.overwrite(&name, 0, &theirs).unwrap();
            assert_ne!(check(&mine, &meta, &model), [], "{component} swapped");
            // Under a header of this table: block by block, as a lost write leaves them.
            mine.overwrite(&name, 0, &bytes[..48]).unwrap();
            assert_ne!(check(&mine, &meta, &model), [], "{component} stale");
            mine.overwrite(&name, 0, &bytes).unwrap();
        }
        assert!(matches!(check(&mine, &other_meta, &model)[..], [SstableError::Damaged { .. }]), "a stale manifest");
    }
    assert_eq!(check(&mine, &meta, &model), []);
}

// Promise: P10
#[test]
fn a_block_in_the_place_of_another_is_noticed() {
    // Blocks of equal length, in one file: a misdirected write or read.
    let place = |number: i64| (Token(number), PartitionKey::copy_from(&number.to_be_bytes()));
    let model: Model = (0..6).map(|number| (place(number), one_row(b"", 1, noise(5, 100)))).collect();
    let (disk, meta, sstable) = table_of(options(128, Compression::None), &model);
    assert_eq!(sstable.statistics().blocks, 6);
    let (name, bytes) = (Component::Data.file_name("", FILE), read(&disk, Component::Data, FILE));
    let (header, block) = (48, (bytes.len() - 48) / 6);
    let at = |number: usize| header + number * block;
    disk.overwrite(&name, at(2) as u64, &bytes[at(4)..at(5)]).unwrap();
    let errors = check(&disk, &meta, &model);
    let only_it = |error: &SstableError| matches!(error, SstableError::Damaged { tokens, why: Why::Checksum, .. } if tokens.first <= Token(2) && tokens.last >= Token(2) && tokens.last < Token(4));
    assert!(errors.iter().all(only_it) && !errors.is_empty(), "{errors:?}");
}

// Promise: P19
/// Bytes that no disk makes, but an attacker or a bug may: lies under a right checksum. They must not panic or hang, and
/// the whole file's checksum tells on them.
#[test]
fn lies_under_a_right_checksum_do_no_harm() {
    let model = small_model();
    let (disk, meta, _) = table_of(options(200, Compression::None), &model);
    let mut random = Random::new(11);
    for component in [Component::Data, Component::Index, Component::Filter] {
        let (name, bytes) = (component.file_name("", FILE), read(&disk, component, FILE));
        let mut frames = Vec::new();
        let mut at = 48;
        while at < bytes.len() {
            let length = usize::try_from(u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap())).unwrap();
            frames.push((at, at + 16..at + 16 + length));
            at += 16 + length;
        }
        for _ in 0..400 {
            let (offset, body) = random.pick(&frames).clone();
            let mut lie = bytes[body].to_vec();
            for _ in 0..=random.below(3) {
                let at = random.below(lie.len());
                lie[at] = *random.pick(&[0, 1, 0x7f, 0x80, 0xff, lie[at] ^ 1, lie[at] ^ 4]);
            }
            let mut frame = Vec::new();
            FrameWriter::new(Seed::new(FILE, GENERATION, component), Compression::None).put(
                offset as u64,
                &lie,
                &mut frame,
            );
            disk.overwrite(&name, offset as u64, &frame).unwrap();
            let noticed = match Sstable::open(&disk, "", &meta) {
                Ok(sstable) => {
                    for (token, key) in model.keys() {
                        drop(sstable.get(*token, key, &Slice::all()));
                    }
                    assert!(sstable.scan(Bound::Unbounded, ScanLimits::all()).count() <= 100);
                    sstable.verify(&disk, "").is_err()
                }
                Err(_) => true,
            };
            assert!(noticed || frame == bytes[offset..offset + frame.len()], "{component} at {offset}");
            disk.overwrite(&name, offset as u64, &bytes[offset..offset + frame.len()]).unwrap();
        }
    }
    assert_eq!(check(&disk, &meta, &model), []);
}

// Promise: P10
#[test]
fn a_damaged_filter_costs_no_answers() {
    let (disk, meta, model) = small();
    disk.flip_bit(&Component::Filter.file_name("", FILE), 60, 3).unwrap();
    let sstable = Sstable::open(&disk, "", &meta).unwrap();
    assert!(matches!(sstable.filter_damage(), Some(SstableError::Damaged { component: Component::Filter, .. })));
    for ((token, key), partition) in &model {
        assert_eq!(sstable.get(*token, key, &Slice::all()).unwrap().as_ref(), Some(partition));
    }
}

#[test]
fn a_table_of_a_later_version_is_not_called_damaged() {
    let (disk, meta, model) = small();
    for component in Component::ALL {
        let (name, bytes) = (component.file_name("", FILE), read(&disk, component, FILE));
        let mut newer = bytes[..48].to_vec();
        newer[6] = 9;
        let crc = crc32c::crc32c(&newer[..44]);
        newer[44..].copy_from_slice(&crc.to_le_bytes());
        disk.overwrite(&name, 0, &newer).unwrap();
        assert_eq!(check(&disk, &meta, &model), [SstableError::TooNew { file: FILE, version: 9 }], "{component}");
        disk.overwrite(&name, 0, &bytes).unwrap();
    }
}

// Promise: P10
#[test]
fn an_unreadable_sector_is_an_error_and_no_answer() {
    let (disk, meta, model) = small();
    let sstable = Sstable::open(&disk, "", &meta).unwrap();
    disk.fail_reads(&Component::Data.file_name("", FILE), 48..meta.data_bytes).unwrap();
    for (token, key) in model.keys() {
        assert!(matches!(sstable.get(*token, key, &Slice::all()), Err(SstableError::Disk(DiskError::Io { .. }))));
    }
}

#[test]
fn a_write_that_fails_anywhere_leaves_nothing_that_opens_and_can_be_removed() {
    let model = small_model();
    for (target, fault) in
        [(Target::Space, Fault::Full), (Target::Write, Fault::Io), (Target::Sync, Fault::Sync(SyncFault::Kept))]
    {
        let mut failures = 0;
        for number in 0.. {
            let disk = SimDisk::new(3);
            disk.inject(target, number, fault);
            match write(&disk, FILE, GENERATION, options(200, Compression::Lz4), &model) {
                Ok(_) => break,
                Err(SstableError::Disk(error)) => assert_eq!(error.is_full(), fault == Fault::Full),
                Err(error) => panic!("{error}"),
            }
            failures += 1;
            remove(&disk, "", FILE).unwrap();
            assert_eq!(disk.list(""), Ok(vec![]));
        }
        assert!(failures >= 4, "{target:?} was met {failures} times");
    }
}

// Promise: P10
#[test]
fn what_was_synced_survives_a_power_loss_and_a_lost_write_is_noticed() {
    let model = small_model();
    let disk = SimDisk::new(4);
    let meta = write(&disk, FILE, GENERATION, options(200, Compression::Lz4), &model).unwrap();
    assert!(matches!(
        check(&disk.crash(Survivors::None), &meta, &model)[..],
        [SstableError::Damaged { why: Why::Missing, .. }]
    ));
    disk.sync_dir("").unwrap();
    assert_eq!(check(&disk.crash(Survivors::None), &meta, &model), []);
    for number in 0..4 {
        let disk = SimDisk::new(5);
        disk.inject(Target::Write, number, Fault::LostWrite);
        let meta = write(&disk, FILE, GENERATION, options(200, Compression::Lz4), &model).unwrap();
        disk.sync_dir("").unwrap();
        assert_ne!(check(&disk.crash(Survivors::All), &meta, &model), [], "write {number}");
    }
}
