//! The simulated disk forgets what was not synced, and fails as it is told to.

use kula_disk::{
    Access, Disk, DiskError, File, SimDisk, Survivors,
    sim::{Fault, SyncFault, Target},
};

fn contents(disk: &SimDisk, name: &str, access: Access) -> Option<Vec<u8>> {
    let file = disk.open(name, access).ok()?;
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

fn seen(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    contents(disk, name, Access::Read)
}

fn after_loss(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    seen(&disk.crash(Survivors::None), name)
}

/// A disk with a durable file `a` of these bytes, and the file.
fn durable(bytes: &[u8]) -> (SimDisk, Box<dyn File>) {
    let disk = SimDisk::new(1);
    let file = disk.create("a").unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir("").unwrap();
    (disk, file)
}

#[test]
fn bytes_need_a_sync_of_their_file_and_names_one_of_their_directory() {
    let disk = SimDisk::new(1);
    let (a, b) = (disk.create("a").unwrap(), disk.create("b").unwrap());
    a.write_at(b"1", 0).unwrap();
    b.write_at(b"2", 0).unwrap();
    a.sync_data().unwrap();
    assert_eq!(after_loss(&disk, "a"), None, "its name was not synced");
    disk.sync_dir("").unwrap();
    assert_eq!((after_loss(&disk, "a"), after_loss(&disk, "b")), (Some(b"1".to_vec()), Some(vec![])));
    disk.rename("a", "c").unwrap();
    assert_eq!((after_loss(&disk, "a"), after_loss(&disk, "c")), (Some(b"1".to_vec()), None));
    disk.sync_dir("").unwrap();
    assert_eq!((after_loss(&disk, "a"), after_loss(&disk, "c")), (None, Some(b"1".to_vec())));
    disk.unlink("c").unwrap();
    assert!(after_loss(&disk, "c").is_some());
    disk.create_dir("d").unwrap();
    disk.create("d/x").unwrap();
    disk.sync_dir("d").unwrap();
    assert!(!disk.crash(Survivors::None).exists("d/x").unwrap(), "the directory itself has no durable name");
    assert!(disk.crash(Survivors::All).exists("d/x").unwrap());
}

#[test]
fn a_name_may_outlive_its_old_file_before_the_new_bytes_are_there() {
    let (disk, _) = durable(b"old");
    disk.create("t").unwrap().write_at(b"new", 0).unwrap();
    disk.rename("t", "a").unwrap();
    disk.sync_dir("").unwrap();
    assert_eq!((seen(&disk, "a"), after_loss(&disk, "a")), (Some(b"new".to_vec()), Some(vec![])));
}

#[test]
fn a_rename_between_directories_is_never_half_done() {
    for synced in ["", "d"] {
        let (disk, _) = durable(b"x");
        disk.create_dir("d").unwrap();
        disk.sync_dir("").unwrap();
        disk.rename("a", "d/a").unwrap();
        disk.sync_dir(synced).unwrap();
        assert_eq!((after_loss(&disk, "a"), after_loss(&disk, "d/a")), (None, Some(b"x".to_vec())));
    }
}

#[test]
fn a_failed_sync_loses_its_bytes_in_each_of_three_manners() {
    for failure in [SyncFault::Kept, SyncFault::Reverted, SyncFault::Late] {
        let (disk, file) = durable(b"old");
        file.write_at(b"new", 0).unwrap();
        disk.inject(Target::Sync, 0, Fault::Sync(failure));
        let (first, second) = (file.sync_data(), file.sync_data());
        let shown = seen(&disk, "a").unwrap();
        match failure {
            SyncFault::Kept => assert!(first.is_err() && second.is_ok() && shown == b"new"),
            SyncFault::Reverted => assert!(first.is_err() && second.is_ok() && shown == b"old"),
            SyncFault::Late => assert!(first.is_ok() && second.is_err() && shown == b"new"),
        }
        assert_eq!(after_loss(&disk, "a"), Some(b"old".to_vec()));
        assert_eq!(contents(&disk, "a", Access::ReadUncached), Some(b"old".to_vec()), "{failure:?}");
        file.write_at(b"N", 0).unwrap();
        assert_eq!(contents(&disk, "a", Access::ReadUncached), Some(b"Nld".to_vec()));
        file.sync_data().unwrap();
        assert_eq!(after_loss(&disk, "a"), Some(b"Nld".to_vec()));
    }
}

#[test]
fn a_lost_write_is_seen_until_the_power_goes() {
    let (disk, file) = durable(b"old");
    disk.inject(Target::Write, 0, Fault::LostWrite);
    file.write_at(b"new", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!((seen(&disk, "a"), after_loss(&disk, "a")), (Some(b"new".to_vec()), Some(b"old".to_vec())));
}

#[test]
fn a_full_disk_refuses_growth_until_space_comes_back() {
    let (disk, file) = durable(b"x");
    disk.set_space(Some(3 * 4096));
    assert_eq!(disk.free_bytes().unwrap(), 2 * 4096);
    let other = disk.create("b").unwrap();
    other.allocate(4096).unwrap();
    assert!(other.allocate(4096 * 4).unwrap_err().is_full());
    file.write_at(&[1; 4096], 4096).unwrap();
    file.write_at(&[2; 4096], 0).unwrap();
    assert!(other.write_at(b"y", 4096).unwrap_err().is_full());
    drop(other);
    disk.unlink("b").unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 4096);
    file.set_len(0).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 3 * 4096);
    disk.set_space(None);
    file.allocate(1 << 30).unwrap();
}

#[test]
fn faults_hit_the_call_they_were_planned_for_and_only_it() {
    let (disk, file) = durable(b"abcd");
    disk.inject(Target::Read, 1, Fault::Io);
    disk.inject(Target::Space, 1, Fault::Full);
    let mut buffer = [0];
    assert_eq!(file.read_at(&mut buffer, 0), Ok(1));
    assert!(matches!(file.read_at(&mut buffer, 0), Err(DiskError::Io { name, .. }) if name == "a"));
    assert_eq!(file.read_at(&mut buffer, 0), Ok(1));
    file.write_at(b"12", 0).unwrap();
    assert!(file.write_at(b"34", 2).unwrap_err().is_full());
    assert_eq!(seen(&disk, "a"), Some(b"123d".to_vec()), "half of a failed write is there");
    disk.inject(Target::SyncDir, 0, Fault::Io);
    disk.create("b").unwrap();
    assert!(disk.sync_dir("").is_err());
    assert_eq!(after_loss(&disk, "b"), None);
    disk.sync_dir("").unwrap();
    assert!(after_loss(&disk, "b").is_some());
    let calls = disk.calls(Target::Any);
    file.sync_data().unwrap();
    assert_eq!((disk.calls(Target::Any), disk.calls(Target::Sync)), (calls + 1, 2));
}

#[test]
fn a_bad_sector_fails_reads_until_it_is_written_over() {
    let (disk, file) = durable(&[1; 10_000]);
    disk.fail_reads("a", 4096..8192).unwrap();
    let mut buffer = [0; 10];
    assert_eq!(file.read_at(&mut buffer, 4086), Ok(10));
    for offset in [4087, 5000, 8191] {
        assert!(file.read_at(&mut buffer, offset).is_err());
    }
    file.write_at(&[2; 4095], 4096).unwrap();
    assert!(file.read_at(&mut buffer, 5000).is_err());
    file.write_at(&[2; 4096], 4096).unwrap();
    assert_eq!(file.read_at(&mut buffer, 5000), Ok(10));
}

#[test]
fn rot_changes_what_is_durable() {
    let (disk, _) = durable(b"abc");
    disk.flip_bit("a", 1, 0).unwrap();
    assert_eq!(after_loss(&disk, "a"), Some(b"acc".to_vec()));
    disk.overwrite("a", 0, b"zz").unwrap();
    disk.truncate("a", 2).unwrap();
    assert_eq!(after_loss(&disk, "a"), Some(b"zz".to_vec()));
}

#[test]
fn locks_end_with_their_process() {
    let disk = SimDisk::new(1);
    let lost = disk.lock("LOCK").unwrap();
    drop(disk.crash(Survivors::All).lock("LOCK").unwrap());
    assert!(disk.lock("LOCK").is_err());
    disk.kill();
    let held = disk.lock("LOCK").unwrap();
    drop(lost);
    assert!(disk.lock("LOCK").is_err(), "a dead process releases nothing");
    drop(held);
    disk.lock("LOCK").unwrap();
}

#[test]
fn equal_content_has_an_equal_hash_however_it_came_about() {
    let make = |order: [&str; 2]| {
        let disk = SimDisk::new(1);
        for name in order {
            let file = disk.create(name).unwrap();
            file.write_at(name.as_bytes(), 5000).unwrap();
        }
        disk
    };
    let (one, other) = (make(["a", "b"]), make(["b", "a"]));
    assert_eq!(one.hash(), other.hash());
    other.rename("a", "c").unwrap();
    assert_ne!(one.hash(), other.hash());
}

#[test]
fn a_torn_write_is_neither_old_nor_new_and_the_same_seed_tears_it_alike() {
    let (disk, file) = durable(&[1; 3_000]);
    file.write_at(&[2; 3_000], 0).unwrap();
    let left = |seed: u64| seen(&disk.crash(Survivors::Torn(seed)), "a").unwrap();
    let is_torn = |bytes: &Vec<u8>| *bytes != [1; 3_000] && *bytes != [2; 3_000];
    assert!((0..64).any(|seed| is_torn(&left(seed))));
    assert!((0..64).any(|seed| left(seed) == [1; 3_000]) && (0..64).any(|seed| left(seed) == [2; 3_000]));
    assert!((0..64).all(|seed| left(seed) == left(seed)));
}

#[test]
fn what_is_looked_at_from_outside_counts_as_no_call() {
    let (disk, _file) = durable(b"abcdef");
    let calls = disk.calls(Target::Any);
    assert_eq!(disk.files(), [("a".to_owned(), 6)]);
    assert_eq!(disk.peek("a", 4, 9).unwrap(), b"ef", "up to the end");
    assert_eq!(disk.calls(Target::Any), calls);
}

#[test]
fn an_older_image_that_runs_again_draws_other_salts() {
    let (disk, _file) = durable(b"x");
    let image = disk.crash(Survivors::None);
    image.reseed(77);
    let drawn: Vec<u64> = (0..8).map(|_| disk.salt().unwrap()).collect();
    assert!((0..8).all(|_| !drawn.contains(&image.salt().unwrap())));
}

#[test]
fn a_fault_counts_when_a_call_meets_it() {
    let (disk, file) = durable(b"x");
    disk.inject(Target::Open, 1, Fault::TooManyFiles);
    disk.inject(Target::Sync, 0, Fault::Full);
    drop(disk.open("a", Access::Read).unwrap());
    file.sync_data().unwrap();
    assert_eq!(disk.take_met(), [], "the first is for a later call, the other nothing that a sync can have");
    assert!(disk.open("a", Access::Read).is_err());
    disk.set_space(Some(0));
    assert!(file.write_at(&[0; 9_000], 0).is_err());
    assert_eq!(disk.take_met(), [Fault::TooManyFiles, Fault::Full]);
    assert_eq!(disk.take_met(), []);
}
