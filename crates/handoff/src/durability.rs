//! What a crash, a full disk, a fault or damage makes of the hints.

use crate::{
    HandoffError,
    model::{SIZES, World, hint, node},
    step::Outcome,
    store::HintStore,
    target_log::{Finding, Trouble},
};
use kula_disk::{
    Disk, SimDisk, Survivors,
    log::{Damage, DamageKind, LogConfig, LogError, SegmentLog},
    sim::{CrashImages, Fault, SyncFault, Target},
};
use kula_types::NodeId;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

type Numbers = BTreeMap<NodeId, BTreeSet<u32>>;

/// What the targets apply in the end, if the node starts from `disk`.
fn delivered_from(disk: SimDisk) -> World {
    let mut world = World::new(disk);
    world.heal();
    world
}

fn deliver(world: &mut World, count: usize) {
    for _ in 0..count {
        world.answer(0, true, Outcome::Applied);
    }
}

/// A life: an outage of two nodes, a return that is cut short, hints of any size, a log drained and used again.
fn steps() -> Vec<fn(&mut World)> {
    vec![
        |world| world.keep(1, &[10, 300, 20]),
        |world| world.keep(2, &[40, 40]),
        |world| world.keep(1, &[3_000, 50]),
        |world| {
            world.reach(1, true);
            deliver(world, 2);
            world.reach(1, false);
        },
        |world| world.keep(1, &[60]),
        |world| {
            world.reach(1, true);
            deliver(world, 1);
        },
        |world| world.keep(1, &[70]),
        |world| {
            while !world.on_their_way.is_empty() {
                deliver(world, 1);
                world.advance(Duration::from_millis(100));
            }
        },
        |world| world.keep(1, &[80, 90]),
    ]
}

// Promise: P1, R21
/// Every power loss that such a life could meet, torn and reordered writes included: what was acknowledged and not yet
/// applied by its target is there.
#[test]
fn in_every_crash_image_a_hint_is_there_until_its_target_has_it() {
    let disk = SimDisk::recording(1);
    let mut world = World::new(disk.clone());
    disk.mark(1);
    let (mut acked, mut applied): (Vec<Numbers>, Vec<Numbers>) = (vec![Numbers::new()], vec![Numbers::new()]);
    for (mark, step) in (2..).zip(steps()) {
        step(&mut world);
        disk.mark(mark);
        acked.push(world.acked.clone());
        applied.push(world.applied.clone());
    }
    assert_eq!(applied[8][&node(1)].len(), 7, "the log was drained on the way");
    let mut images = 0;
    for image in CrashImages::of(&disk.journal(), 7) {
        let Some(done) = usize::try_from(image.mark()).unwrap().checked_sub(1) else { continue };
        let found = delivered_from(image.disk());
        images += 1;
        assert!(found.findings.is_empty() && found.lost == 0, "{image}: {:?}", found.findings);
        let may_be_applied = applied.get(done + 1).unwrap_or(&applied[done]);
        for (target, acked) in &acked[done] {
            let none = BTreeSet::new();
            let has = found.applied.get(target).unwrap_or(&none);
            let had = may_be_applied.get(target).unwrap_or(&none);
            let missing: Vec<_> =
                acked.iter().filter(|number| !has.contains(number) && !had.contains(number)).collect();
            assert!(missing.is_empty(), "{image}: {target} misses {missing:?} after step {done}");
        }
    }
    assert!(images > 300, "{images} images");
}

fn segments_of(disk: &SimDisk, target: u8) -> Vec<String> {
    let dir = format!("hints/{}", node(target));
    disk.list(&dir).unwrap().iter().map(|name| format!("{dir}/{name}")).collect()
}

/// Three batches, each of which says that the one before it is durable.
fn three_batches() -> SimDisk {
    let mut world = World::new(SimDisk::new(1));
    (0..3).for_each(|_| world.keep(1, &[100, 100]));
    world.disk
}

#[test]
fn damage_does_not_stop_the_node_and_the_rest_is_delivered_while_the_evidence_stays() {
    let disk = three_batches();
    let segment = segments_of(&disk, 1)[0].clone();
    // Record headers begin at 8 KiB; this is inside the second hint.
    disk.flip_bit(&segment, 8_192 + 160 + 60, 3).unwrap();
    let world = delivered_from(disk);
    assert_eq!(world.applied[&node(1)], BTreeSet::from([0, 2, 3, 4, 5]));
    let damaged = |finding: &Finding| matches!(finding, Finding::Damaged(Damage { kind: DamageKind::Records, .. }));
    assert!(world.findings.len() == 1 && world.findings.iter().all(damaged), "said once: {:?}", world.findings);
    assert_eq!(world.disk.list("hints/damaged").unwrap(), [format!("{}-{:020}.log", node(1), 1)]);
    assert_eq!(world.lost, 0, "it was not counted: the damage was there at the start");
}

#[test]
fn damage_that_comes_while_the_node_runs_is_counted_as_lost() {
    let mut world = World::new(three_batches());
    let segment = segments_of(&world.disk, 1)[0].clone();
    world.disk.flip_bit(&segment, 8_192 + 160 + 60, 3).unwrap();
    world.heal();
    assert_eq!((world.applied[&node(1)].len(), world.lost), (5, 1));
}

#[test]
fn a_segment_that_cannot_be_read_costs_its_own_hints_alone() {
    let mut world = World::new(SimDisk::new(1));
    for _ in 0..3 {
        // Seven of these fill a segment.
        world.keep(1, &[500, 500, 500, 500, 500, 500]);
    }
    let segments = segments_of(&world.disk, 1);
    assert!(segments.len() > 2, "{segments:?}");
    world.disk.fail_reads(&segments[0], 8_192..12_288).unwrap();
    let world = delivered_from(world.disk);
    assert!(world.findings.iter().any(|finding| matches!(finding, Finding::Unreadable { .. })), "{:?}", world.findings);
    let applied = &world.applied[&node(1)];
    assert!(applied.contains(&17) && applied.contains(&7) && !applied.contains(&0), "{applied:?}");
}

#[test]
fn a_log_that_cannot_be_opened_is_put_aside_whole() {
    let disk = SimDisk::new(1);
    disk.create_dir("hints").unwrap();
    let other = LogConfig { segment_bytes: 12 << 10, ..LogConfig::new(9, 100) };
    let dir = format!("hints/{}", node(1));
    SegmentLog::open(Arc::new(disk.clone()), &dir, other).unwrap().0.append(&[b"of another kind"]).unwrap();
    let mut world = delivered_from(disk);
    let aside = |finding: &Finding| matches!(finding, Finding::PutAside { cause: LogError::WrongKind { .. }, .. });
    assert!(world.findings.iter().any(aside), "{:?}", world.findings);
    assert!(world.disk.exists(&format!("{dir}.damaged-1/{:020}.log", 1)).unwrap());
    // The empty log in its place works.
    world.keep(1, &[10]);
    world.heal();
    assert_eq!(world.applied[&node(1)], BTreeSet::from([0]));
}

#[test]
fn a_damaged_place_only_means_that_hints_are_sent_again() {
    let mut world = delivered_from(three_batches());
    world.disk.flip_bit(&format!("hints/{}.delivered", node(1)), 30, 1).unwrap();
    world = delivered_from(world.disk);
    assert_eq!(world.applied[&node(1)].len(), 6);
    assert!(world.findings.iter().all(|finding| matches!(finding, Finding::PlaceLost { .. })));
}

/// Its table is unknown there: it goes to the end of the log, the rest of the log passes, a power loss takes nothing.
#[test]
fn a_hint_that_cannot_be_applied_yet_is_moved_to_the_end_of_the_log_durably() {
    let mut world = World::new(SimDisk::new(1));
    world.keep(1, &[10, 20]);
    world.reach(1, true);
    for _ in 0..3 {
        let first = world.on_their_way.iter().position(|(_, _, hint)| hint.token.0 == 0).unwrap();
        world.answer(first, false, Outcome::NotThis("it does not know the table"));
        world.advance(Duration::from_secs(2));
    }
    assert_eq!(world.on_their_way.len(), 1, "the other one");
    deliver(&mut world, 1);
    let owed: Vec<u64> = world.courier.owed().map(|(_, owed)| owed.count).collect();
    assert_eq!(owed, [1]);
    let again = delivered_from(world.disk.crash(Survivors::None));
    assert_eq!(again.applied[&node(1)].len(), 1);
    let all: BTreeSet<u32> = again.applied[&node(1)].union(&world.applied[&node(1)]).copied().collect();
    assert_eq!(all, BTreeSet::from([0, 1]));
}

#[test]
fn what_is_past_a_bound_is_refused_by_name_and_the_rest_of_the_batch_is_kept() {
    let mut store = HintStore::open(Arc::new(SimDisk::new(1)), SIZES).unwrap();
    let batch = vec![(node(1), hint(0, 10)), (node(1), hint(1, 5_000)), (node(2), hint(2, 10))];
    let answers = store.keep(batch).unwrap();
    assert!(answers[0].is_ok() && answers[2].is_ok());
    assert_eq!(answers[1], Err(HandoffError::TooLarge { bytes: 5_033, max: 4_000 }));
    let answers = store.keep((0..200).map(|number| (node(1), hint(number, 467))).collect()).unwrap();
    // 43 bytes are owed already, each more is of 500.
    let kept = answers.iter().take_while(|answer| answer.is_ok()).count();
    assert_eq!(kept, 79);
    assert_eq!(answers[79], Err(HandoffError::Full { target: node(1), bytes: 39_543, max: 40_000 }));
    assert_eq!(store.target(node(1)).unwrap().owed().count, 80);
    assert!(store.keep(vec![(node(2), hint(0, 400))]).unwrap()[0].is_ok(), "another target has bounds of its own");
}

#[test]
fn there_are_logs_for_as_many_targets_as_peers_and_no_more() {
    let mut store = HintStore::open(Arc::new(SimDisk::new(1)), SIZES).unwrap();
    let target = |number: u128| NodeId(uuid::Uuid::from_u128(number));
    let max = crate::limits::TARGETS_MAX;
    let answers = store.keep((0..=max as u128).map(|number| (target(number), hint(0, 4))).collect()).unwrap();
    assert!(answers[..max].iter().all(Result::is_ok));
    assert_eq!(answers[max], Err(HandoffError::TooManyTargets { max }));
}

// Promise: P11
#[test]
fn a_full_disk_refuses_and_takes_again_when_there_is_room() {
    let mut world = World::new(SimDisk::new(1));
    world.keep(1, &[10]);
    world.disk.set_space(Some(0));
    let store = |world: &mut World| world.keep(2, &[10]);
    store(&mut world);
    assert_eq!(world.acked.get(&node(2)).map(BTreeSet::len), Some(0));
    world.disk.set_space(None);
    store(&mut world);
    world.heal();
    assert_eq!((world.applied[&node(1)].len(), world.applied[&node(2)].len()), (1, 1));
}

// Promise: P12
#[test]
fn a_failed_sync_is_never_taken_for_a_good_one_nor_tried_again() {
    for fault in [SyncFault::Kept, SyncFault::Reverted] {
        let disk = SimDisk::new(1);
        let mut store = HintStore::open(Arc::new(disk.clone()), SIZES).unwrap();
        store.keep(vec![(node(1), hint(0, 10))]).unwrap();
        disk.inject(Target::Sync, 0, Fault::Sync(fault));
        let failed = store.keep(vec![(node(1), hint(1, 10))]);
        assert!(matches!(failed, Err(Trouble::Broken { .. })), "{failed:?}");
        assert!(matches!(store.keep(vec![(node(1), hint(2, 10))]), Err(Trouble::Broken { .. })));
    }
}
