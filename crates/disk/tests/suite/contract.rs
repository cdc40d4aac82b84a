//! The contract of `trait Disk`: every property here holds on the real disk and on the simulated one.

use kula_disk::{Access, Disk, DiskError, OsDisk, SimDisk};
use proptest::prelude::*;
use std::path::PathBuf;

/// Runs the same check on both disks, each empty.
fn check(name: &str, check: impl Fn(&dyn Disk)) {
    check(&SimDisk::new(1));
    check(&*os_disk(name));
}

fn os_disk(name: &str) -> Box<dyn Disk> {
    let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("disk").join(name);
    #[expect(clippy::disallowed_methods, reason = "a test clears the directory it then gives to the disk under test")]
    let removed = std::fs::remove_dir_all(&root);
    assert!(removed.is_ok() || !root.exists(), "{root:?} is cleared");
    Box::new(OsDisk::open_or_create(&root).unwrap())
}

fn contents(disk: &dyn Disk, name: &str) -> Vec<u8> {
    let file = disk.open(name, Access::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn put(disk: &dyn Disk, name: &str, bytes: &[u8]) {
    let file = disk.create(name).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn what_was_written_is_read_back_and_reads_end_with_the_file() {
    check("read_back", |disk| {
        let file = disk.create("a").unwrap();
        assert!(file.is_empty().unwrap());
        file.write_at(b"hello", 3).unwrap();
        assert_eq!(file.len().unwrap(), 8);
        let mut buffer = [9; 10];
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 8);
        assert_eq!(&buffer, b"\0\0\0hello\x09\x09");
        assert_eq!(file.read_at(&mut buffer, 8).unwrap(), 0);
        assert_eq!(file.read_at(&mut buffer, 1 << 40).unwrap(), 0);
        let error = file.read_exact_at(&mut buffer, 4).unwrap_err();
        assert!(matches!(error, DiskError::UnexpectedEnd { wanted_bytes: 10, read_bytes: 4, offset: 4, .. }));
        file.sync_data().unwrap();
        assert_eq!(contents(disk, "a"), b"\0\0\0hello");
    });
}

#[test]
fn set_len_cuts_and_grows_with_zeros() {
    check("set_len", |disk| {
        let file = disk.create("a").unwrap();
        file.write_at(&[7; 10_000], 0).unwrap();
        file.set_len(5).unwrap();
        file.set_len(9000).unwrap();
        let mut expected = vec![7; 5];
        expected.resize(9000, 0);
        assert_eq!(contents(disk, "a"), expected);
    });
}

#[test]
fn allocate_keeps_bytes_and_length_and_extends_with_zeros() {
    check("allocate", |disk| {
        let file = disk.create("a").unwrap();
        file.write_at(b"abc", 0).unwrap();
        file.allocate(5000).unwrap();
        assert_eq!(file.len().unwrap(), 5000);
        file.allocate(10).unwrap();
        file.allocate(0).unwrap();
        let mut expected = b"abc".to_vec();
        expected.resize(5000, 0);
        assert_eq!(contents(disk, "a"), expected);
    });
}

#[test]
fn create_refuses_what_exists_and_open_what_does_not() {
    check("create_open", |disk| {
        put(disk, "a", b"1");
        assert!(matches!(disk.create("a").unwrap_err(), DiskError::Exists { name, .. } if name == "a"));
        assert_eq!(contents(disk, "a"), b"1");
        for access in [Access::Read, Access::ReadWrite, Access::ReadUncached] {
            assert!(disk.open("b", access).unwrap_err().is_not_found());
            assert!(disk.open("d/b", access).unwrap_err().is_not_found());
        }
        assert!(disk.create("d/b").unwrap_err().is_not_found());
        assert!(disk.unlink("b").unwrap_err().is_not_found());
        assert!(disk.rename("b", "c").unwrap_err().is_not_found());
        assert!(disk.rename("a", "d/a").unwrap_err().is_not_found());
        assert!(disk.sync_dir("d").unwrap_err().is_not_found());
        assert!(disk.list("d").unwrap_err().is_not_found());
        assert!(!disk.exists("b").unwrap() && !disk.exists("d/b").unwrap() && disk.exists("a").unwrap());
        assert!(disk.exists("").unwrap());
    });
}

#[test]
fn a_file_opened_for_reading_takes_no_write() {
    check("read_only", |disk| {
        put(disk, "a", b"1");
        for access in [Access::Read, Access::ReadUncached] {
            let file = disk.open("a", access).unwrap();
            assert!(matches!(file.write_at(b"2", 0), Err(DiskError::Io { .. })));
            assert!(file.set_len(0).is_err() && file.allocate(10).is_err());
            file.sync_data().unwrap();
        }
        assert_eq!(contents(disk, "a"), b"1");
    });
}

#[test]
fn rename_replaces_and_open_files_follow() {
    check("rename", |disk| {
        disk.create_dir("d").unwrap();
        put(disk, "a", b"old");
        put(disk, "d/b", b"new");
        let (old, new) = (disk.open("a", Access::Read).unwrap(), disk.open("d/b", Access::ReadWrite).unwrap());
        disk.rename("d/b", "a").unwrap();
        disk.rename("a", "a").unwrap();
        new.write_at(b"!", 3).unwrap();
        assert_eq!(contents(disk, "a"), b"new!");
        let mut buffer = [0; 4];
        assert_eq!(old.read_at(&mut buffer, 0).unwrap(), 3);
        assert_eq!(&buffer, b"old\0");
        assert_eq!((disk.list("").unwrap(), disk.list("d").unwrap()), (vec!["a".into(), "d".into()], vec![]));
    });
}

#[test]
fn a_link_is_the_same_file_under_a_second_name() {
    check("link", |disk| {
        put(disk, "a", b"1");
        disk.link("a", "b").unwrap();
        assert!(matches!(disk.link("a", "b").unwrap_err(), DiskError::Exists { name, .. } if name == "b"));
        assert!(disk.link("c", "d").unwrap_err().is_not_found());
        disk.open("b", Access::ReadWrite).unwrap().write_at(b"2", 0).unwrap();
        disk.unlink("a").unwrap();
        assert_eq!(contents(disk, "b"), b"2");
    });
}

#[test]
fn an_unlinked_file_lives_until_it_is_closed() {
    check("unlink", |disk| {
        let file = disk.create("a").unwrap();
        disk.unlink("a").unwrap();
        disk.sync_dir("").unwrap();
        file.write_at(b"x", 0).unwrap();
        file.sync_data().unwrap();
        let mut buffer = [0];
        file.read_exact_at(&mut buffer, 0).unwrap();
        assert_eq!((buffer, disk.exists("a").unwrap()), (*b"x", false));
        put(disk, "a", b"other");
        file.read_exact_at(&mut buffer, 0).unwrap();
        assert_eq!(buffer, *b"x");
    });
}

#[test]
fn directories_list_their_names_in_order() {
    check("list", |disk| {
        disk.create_dir("d").unwrap();
        assert!(matches!(disk.create_dir("d").unwrap_err(), DiskError::Exists { .. }));
        disk.create_dir("d/e").unwrap();
        for name in ["d/b", "d/a", "d/e/x", "c"] {
            put(disk, name, b"");
        }
        disk.sync_dir("d/e").unwrap();
        disk.sync_dir("").unwrap();
        assert_eq!(disk.list("d").unwrap(), ["a", "b", "e"]);
        assert_eq!(disk.list("").unwrap(), ["c", "d"]);
    });
}

#[test]
fn a_lock_is_exclusive_until_dropped() {
    check("lock", |disk| {
        let held = disk.lock("LOCK").unwrap();
        assert!(matches!(disk.lock("LOCK").unwrap_err(), DiskError::Locked { name } if name == "LOCK"));
        let other = disk.lock("OTHER").unwrap();
        drop(held);
        let again = disk.lock("LOCK").unwrap();
        assert!(disk.lock("OTHER").is_err());
        drop((again, other));
        assert!(disk.exists("LOCK").unwrap());
    });
}

// Promise: P22
#[test]
fn a_name_outside_the_root_is_refused_by_every_call() {
    check("names", |disk| {
        put(disk, "a", b"");
        for name in ["..", "../a", "/a", "a/../a", "a//b", "b\0", "ä"] {
            let refused = [
                disk.create(name).map(drop),
                disk.open(name, Access::Read).map(drop),
                disk.open(name, Access::ReadUncached).map(drop),
                disk.rename("a", name),
                disk.rename(name, "a"),
                disk.link("a", name),
                disk.link(name, "b"),
                disk.unlink(name),
                disk.create_dir(name),
                disk.sync_dir(name),
                disk.list(name).map(drop),
                disk.exists(name).map(drop),
                disk.lock(name).map(drop),
            ];
            for answer in refused {
                assert!(matches!(answer, Err(DiskError::InvalidName { .. })), "{name:?}: {answer:?}");
            }
        }
        assert_eq!(disk.list("").unwrap(), ["a"]);
    });
}

#[test]
fn uncached_reads_give_what_was_synced_at_any_offset_and_length() {
    check("uncached", |disk| {
        let bytes: Vec<u8> = (0..20_001_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        put(disk, "a", &bytes);
        let file = disk.open("a", Access::ReadUncached).unwrap();
        for (offset, len) in
            [(0, 20_001), (0, 1), (1, 5000), (4095, 2), (4096, 4096), (19_999, 10), (20_001, 5), (9, 0)]
        {
            let mut buffer = vec![0; len];
            let read = file.read_at(&mut buffer, offset as u64).unwrap();
            assert_eq!(&buffer[..read], &bytes[offset..(offset + len).min(bytes.len())], "{offset}+{len}");
        }
        assert_eq!(file.len().unwrap(), 20_001);
    });
}

#[test]
fn salts_differ_and_there_is_room() {
    check("salts", |disk| {
        let salts: std::collections::BTreeSet<u64> = (0..100).map(|_| disk.salt().unwrap()).collect();
        assert_eq!(salts.len(), 100);
        assert!(disk.free_bytes().unwrap() > 1 << 20);
    });
}

#[derive(Clone, Debug)]
enum Step {
    Write { file: u8, offset: u64, bytes: Vec<u8> },
    SetLen { file: u8, bytes: u64 },
    Allocate { file: u8, bytes: u64 },
    Rename { from: u8, to: u8 },
    Unlink { file: u8 },
    Link { from: u8, to: u8 },
    Sync { file: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (file, bytes) = (0_u8..4, 0..20_000_u64);
    let data = prop::collection::vec(any::<u8>(), 0..6000);
    let step = prop_oneof![
        4 => (file.clone(), bytes.clone(), data).prop_map(|(file, offset, bytes)| Step::Write { file, offset, bytes }),
        1 => (file.clone(), bytes.clone()).prop_map(|(file, bytes)| Step::SetLen { file, bytes }),
        1 => (file.clone(), bytes).prop_map(|(file, bytes)| Step::Allocate { file, bytes }),
        1 => (file.clone(), file.clone()).prop_map(|(from, to)| Step::Rename { from, to }),
        1 => file.clone().prop_map(|file| Step::Unlink { file }),
        1 => (file.clone(), file.clone()).prop_map(|(from, to)| Step::Link { from, to }),
        1 => file.prop_map(|file| Step::Sync { file }),
    ];
    prop::collection::vec(step, 0..24)
}

/// Takes the step; answers what the caller saw of it.
fn take(disk: &dyn Disk, step: &Step) -> &'static str {
    let name = |file: u8| format!("f{file}");
    let on_file = |file: u8, act: &dyn Fn(&dyn kula_disk::File) -> Result<(), DiskError>| {
        let file = disk.open(&name(file), Access::ReadWrite).or_else(|_| disk.create(&name(file)))?;
        act(&*file)
    };
    let answer = match step {
        Step::Write { file, offset, bytes } => on_file(*file, &|file| file.write_at(bytes, *offset)),
        Step::SetLen { file, bytes } => on_file(*file, &|file| file.set_len(*bytes)),
        Step::Allocate { file, bytes } => on_file(*file, &|file| file.allocate(*bytes)),
        Step::Sync { file } => on_file(*file, &|file| file.sync_data()).and_then(|()| disk.sync_dir("")),
        Step::Rename { from, to } => disk.rename(&name(*from), &name(*to)),
        Step::Link { from, to } => disk.link(&name(*from), &name(*to)),
        Step::Unlink { file } => disk.unlink(&name(*file)),
    };
    match answer {
        Ok(()) => "ok",
        Err(DiskError::NotFound { .. }) => "not found",
        Err(DiskError::Exists { .. }) => "exists",
        Err(error) => panic!("{step:?}: {error}"),
    }
}

proptest! {
    // Each case syncs a real disk many times.
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn the_simulated_disk_answers_as_the_real_one(steps in steps()) {
        let (sim, os) = (SimDisk::recording(1), os_disk("same_answers"));
        for step in &steps {
            prop_assert_eq!(take(&sim, step), take(&*os, step), "{:?}", step);
        }
        let names = sim.list("").unwrap();
        prop_assert_eq!(&names, &os.list("").unwrap());
        for name in names {
            prop_assert_eq!(contents(&sim, &name), contents(&*os, &name));
        }
    }
}
