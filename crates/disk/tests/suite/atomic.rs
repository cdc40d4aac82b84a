//! The state file: the old value or the new one, whole, or a typed answer.

use kula_disk::{
    Access, Disk, Survivors,
    atomic::{Format, StateError, read_atomic, write_atomic},
    sim::{CrashImages, Fault, SimDisk, SyncFault, Target},
};
use proptest::prelude::*;

const FORMAT: Format = Format { magic: *b"KulaTest", version: 2 };
const NAME: &str = "d/state";

fn read(disk: &SimDisk) -> Result<Option<Vec<u8>>, StateError> {
    read_atomic(disk, NAME, FORMAT)
}

fn disk_with_dir() -> SimDisk {
    let disk = SimDisk::recording(1);
    disk.create_dir("d").unwrap();
    disk.sync_dir("").unwrap();
    disk
}

#[test]
fn a_value_is_read_back_and_the_layout_stays_what_it_is() {
    let disk = disk_with_dir();
    assert_eq!(read(&disk), Ok(None));
    write_atomic(&disk, NAME, FORMAT, b"one").unwrap();
    write_atomic(&disk, NAME, FORMAT, b"kula").unwrap();
    assert_eq!(read(&disk), Ok(Some(b"kula".to_vec())));
    assert_eq!(disk.list("d").unwrap(), ["state"]);
    let mut bytes = [0; 28];
    disk.open(NAME, Access::Read).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    insta::assert_snapshot!(hex);
}

// Promise: P10
#[test]
fn every_flipped_bit_and_every_cut_is_seen() {
    let disk = disk_with_dir();
    write_atomic(&disk, NAME, FORMAT, b"kula").unwrap();
    for byte in 0..28 {
        for bit in 0..8 {
            disk.flip_bit(NAME, byte, bit).unwrap();
            assert!(matches!(read(&disk), Err(StateError::Damaged { .. })), "byte {byte} bit {bit}");
            disk.flip_bit(NAME, byte, bit).unwrap();
        }
    }
    assert_eq!(read(&disk), Ok(Some(b"kula".to_vec())));
    for cut in (0..28).rev() {
        disk.truncate(NAME, cut).unwrap();
        assert!(matches!(read(&disk), Err(StateError::Damaged { .. })), "cut at {cut}");
    }
}

#[test]
fn other_versions_and_other_kinds_are_told_from_damage() {
    let disk = disk_with_dir();
    write_atomic(&disk, NAME, FORMAT, b"kula").unwrap();
    let as_version = |version| read_atomic(&disk, NAME, Format { version, ..FORMAT });
    let name = || NAME.to_owned();
    assert_eq!(as_version(1), Err(StateError::Newer { name: name(), found: 2, known: 1 }));
    assert_eq!(as_version(3), Err(StateError::Older { name: name(), found: 2, known: 3 }));
    let other = read_atomic(&disk, NAME, Format { magic: *b"KulaRing", version: 2 });
    assert_eq!(other, Err(StateError::Damaged { name: name(), part: "magic" }));
}

// Promise: P1
#[test]
fn every_power_loss_leaves_the_old_value_or_the_new_one() {
    let disk = disk_with_dir();
    for value in 1..=8_u8 {
        write_atomic(&disk, NAME, FORMAT, &vec![value; 1500 * usize::from(value)]).unwrap();
        disk.mark(u64::from(value));
    }
    let mut images = 0;
    for image in CrashImages::of(&disk.journal(), 3).distinct() {
        images += 1;
        let disk = image.disk();
        if !disk.exists("d").unwrap() {
            assert_eq!(image.mark(), 0);
            continue;
        }
        let value = read(&disk).unwrap_or_else(|error| panic!("{image}: {error}"));
        let number = value.as_ref().map_or(0, |value| u64::from(value[0]));
        assert!(number == image.mark() || number == image.mark() + 1, "{image}: {number}");
        assert!(value.is_none_or(|value| value == vec![value[0]; 1500 * usize::from(value[0])]));
        // What was answered stays so, and a left-over temporary file is in nobody's way.
        assert_eq!(read(&disk.crash(Survivors::None)).unwrap().map_or(0, |value| u64::from(value[0])), number);
        write_atomic(&disk, NAME, FORMAT, b"next").unwrap();
        assert_eq!(read(&disk.crash(Survivors::None)), Ok(Some(b"next".to_vec())));
        assert_eq!(disk.list("d").unwrap(), ["state"]);
    }
    assert!(images > 100, "{images} images");
}

// Promise: P26
#[test]
fn every_failing_call_leaves_the_old_value_or_the_new_one() {
    let faults = [Fault::Io, Fault::Full, Fault::Sync(SyncFault::Kept), Fault::Sync(SyncFault::Reverted)];
    for fault in faults {
        for call in 0.. {
            let disk = disk_with_dir();
            write_atomic(&disk, NAME, FORMAT, b"old").unwrap();
            let calls_before = disk.calls(Target::Any);
            disk.inject(Target::Any, call, fault);
            let answer = write_atomic(&disk, NAME, FORMAT, b"new");
            if call >= disk.calls(Target::Any) - calls_before {
                break;
            }
            disk.clear_faults();
            for seed in 0..8 {
                let value = read(&disk.crash(Survivors::Seeded(seed))).unwrap().unwrap();
                assert!(value == b"new" || (value == b"old" && answer.is_err()), "{fault:?} at {call}: {answer:?}");
            }
            // The process is killed and starts again: what it reads, no power loss takes back.
            let seen = read(&disk);
            assert_eq!(read(&disk.crash(Survivors::None)), seen, "{fault:?} at {call}");
            write_atomic(&disk, NAME, FORMAT, b"again").unwrap();
            assert_eq!(read(&disk), Ok(Some(b"again".to_vec())));
        }
    }
}

proptest! {
    // Promise: P19
    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let disk = disk_with_dir();
        disk.create(NAME).unwrap().write_at(&bytes, 0).unwrap();
        let answer = read(&disk);
        prop_assert!(matches!(answer, Err(StateError::Damaged { .. })), "{:?}", answer);
    }

    #[test]
    fn any_payload_is_read_back(payload in prop::collection::vec(any::<u8>(), 0..9000)) {
        let disk = disk_with_dir();
        write_atomic(&disk, NAME, FORMAT, &payload).unwrap();
        prop_assert_eq!(read(&disk.crash(Survivors::None)), Ok(Some(payload)));
    }
}
