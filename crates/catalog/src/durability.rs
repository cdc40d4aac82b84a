//! What a crash, a fault or a foreign file makes of `schema.state`.

use crate::{
    CatalogError,
    state::{self, FILE},
};
use kula_disk::{
    Disk, SimDisk,
    atomic::StateError,
    sim::{CrashImages, Fault, Survivors, Target},
};
use kula_lattice::Join;
use kula_schema::{Schema, TableDefinition, TableKind, TableOptions};
use kula_types::{ClusterId, Timestamp};

fn cluster() -> Option<ClusterId> {
    Some(ClusterId("00000000-0000-0000-0000-00000000000c".parse().unwrap()))
}

fn with_a_table(schema: &Schema, name: &str) -> Schema {
    let definition =
        TableDefinition { name: name.parse().unwrap(), kind: TableKind::Lww, options: TableOptions::default() };
    let (delta, _) =
        schema.create_table(&"kv".parse().unwrap(), &definition, Timestamp::from_micros(1).unwrap()).unwrap();
    let mut next = schema.clone();
    next.join(delta);
    next
}

#[test]
fn the_first_schema_is_made_once_and_found_again() {
    let disk = SimDisk::new(1);
    assert_eq!(state::open(&disk, None).unwrap(), Schema::first());
    assert_eq!(state::open(&disk.crash(Survivors::None), cluster()).unwrap(), Schema::first());
}

#[test]
fn a_crash_anywhere_leaves_the_old_schema_or_the_new_one() {
    let before = SimDisk::new(1);
    let old = state::open(&before, None).unwrap();
    let new = with_a_table(&old, "t");
    let (mut news, mut olds, mut stopped) = (0, 0, true);
    for call in 0.. {
        if !stopped {
            break;
        }
        let disk = before.crash(Survivors::None);
        disk.inject(Target::Any, call, Fault::Io);
        stopped = state::store(&disk, &new).is_err();
        for loss in [Survivors::None, Survivors::All].into_iter().chain((0..16).map(Survivors::Seeded)) {
            let found = state::open(&disk.crash(loss), cluster()).unwrap();
            assert!(found == old || found == new, "call {call}, {loss:?}");
            assert!(stopped || found == new, "a schema reported durable is there, {loss:?}");
            (olds, news) = (olds + u32::from(found == old), news + u32::from(found == new));
        }
    }
    assert!(olds > 0 && news > 0, "both were seen: {olds} old, {news} new");
}

// Promise: P1
/// Every power loss that two changes could meet, torn and reordered writes included.
#[test]
fn in_every_crash_image_the_schema_is_one_that_was_written_and_no_older_than_acknowledged() {
    let disk = SimDisk::recording(1);
    let mut schemas = vec![state::open(&disk, None).unwrap()];
    disk.mark(1);
    for mark in 2u64..=3 {
        let next = with_a_table(&schemas[schemas.len() - 1], &format!("t{mark}"));
        state::store(&disk, &next).unwrap();
        disk.mark(mark);
        schemas.push(next);
    }
    let mut seen = std::collections::BTreeSet::new();
    for image in CrashImages::of(&disk.journal(), 7) {
        let found = state::open(&image.disk(), None).unwrap();
        let version = 1 + schemas.iter().position(|schema| *schema == found).unwrap() as u64;
        // The first schema is the same wherever it is made: it may be made anew before it is acknowledged.
        assert!(version >= image.mark() && version <= image.mark() + 1, "{image}");
        seen.insert(version);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
}

// Promise: P11
#[test]
fn a_full_disk_changes_nothing_and_says_so() {
    let disk = SimDisk::new(1);
    let old = state::open(&disk, None).unwrap();
    for call in 0..2 {
        disk.inject(Target::Space, call, Fault::Full);
        assert!(matches!(state::store(&disk, &with_a_table(&old, "t")), Err(CatalogError::DiskFull)));
        disk.clear_faults();
        assert_eq!(state::open(&disk.crash(Survivors::All), cluster()).unwrap(), old);
    }
}

// Promise: P10
#[test]
fn a_damaged_schema_is_an_error_at_every_byte_and_never_a_schema() {
    let disk = SimDisk::new(1);
    state::open(&disk, None).unwrap();
    for byte in 0..400 {
        let damaged = disk.crash(Survivors::None);
        damaged.flip_bit(FILE, byte, u8::try_from(byte % 8).unwrap()).unwrap();
        let found = state::open(&damaged, cluster());
        assert!(matches!(found, Err(CatalogError::Unreadable(StateError::Damaged { .. }))), "byte {byte}: {found:?}");
    }
}

#[test]
fn a_directory_that_lost_its_schema_does_not_pretend_it_never_had_tables() {
    let disk = SimDisk::new(1);
    assert!(matches!(state::open(&disk, cluster()), Err(CatalogError::Missing { .. })));
    assert_eq!(disk.list("").unwrap(), Vec::<String>::new());
}
