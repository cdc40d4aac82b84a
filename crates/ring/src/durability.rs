//! What a crash, a fault or a foreign file makes of `ring.state` and `ring.ballots`.

use crate::{
    Acceptor, AskId, Effect, Event, RingError, Told, ballots,
    scripts::{join, machine, node, opening, ring_of},
    state::{self, FILE, Opening},
};
use kula_disk::{
    SimDisk,
    atomic::StateError,
    sim::{CrashImages, Fault, Survivors, Target},
};
use kula_placement::{Ring, RingFacts, RingNode, Secret};
use kula_types::{ClusterId, Mono};
use kula_wire::verbs::ring::{Accept, Accepted, Ballot, Prepare, Prepared};

fn bound_to(ring: &Ring, number: u128) -> Opening {
    Opening { bound: Some(ring.cluster), ..opening(number) }
}

/// A power loss, leaving nothing, all or some of what was not synced.
fn losses() -> impl Iterator<Item = Survivors> {
    [Survivors::None, Survivors::All].into_iter().chain((0..16).map(Survivors::Seeded))
}

#[test]
fn ring_1_is_formed_alone_and_found_again() {
    let disk = SimDisk::new(1);
    let formed = state::open(&disk, opening(1)).unwrap();
    assert_eq!((formed.version, formed.nodes.len(), formed.load(node(1).id)), (1, 1, 1.0));
    assert!(formed.settings(&"kv".parse().unwrap()).is_some());
    assert_eq!(state::open(&disk.crash(Survivors::None), bound_to(&formed, 1)).unwrap(), formed);
}

#[test]
fn a_crash_anywhere_leaves_the_old_ring_or_the_new_one() {
    let before = SimDisk::new(1);
    let old = state::open(&before, opening(1)).unwrap();
    let mut facts = RingFacts { version: 2, ..old.facts().clone() };
    facts.keyspaces.clear();
    let new = Ring::new(facts).unwrap();
    let (mut news, mut olds, mut stopped) = (0, 0, true);
    for call in 0.. {
        if !stopped {
            break;
        }
        // Whatever was synced before stays: start from what a clean stop leaves.
        let disk = before.crash(Survivors::None);
        disk.inject(Target::Any, call, Fault::Io);
        stopped = state::store(&disk, &new).is_err();
        for loss in losses() {
            let after = disk.crash(loss);
            let found = state::open(&after, bound_to(&old, 1)).unwrap();
            assert!(found == old || found == new, "call {call}, {loss:?}");
            assert!(stopped || found == new, "a ring reported durable is there, {loss:?}");
            (olds, news) = (olds + u32::from(found == old), news + u32::from(found == new));
            // A crash inside that recovery changes nothing: what was read stays.
            assert_eq!(state::open(&after.crash(Survivors::None), bound_to(&old, 1)).unwrap(), found);
        }
    }
    assert!(olds > 0 && news > 0, "both were seen: {olds} old, {news} new");
}

// Promise: P1
/// Every power loss that forming a ring and changing it three times could meet, torn and reordered writes included: what
/// is found is at least what was acknowledged, at most what was begun, and it is whole.
#[test]
fn in_every_crash_image_the_ring_is_one_that_was_written_and_no_older_than_acknowledged() {
    let disk = SimDisk::recording(1);
    let mut rings = vec![state::open(&disk, opening(1)).unwrap()];
    disk.mark(1);
    for version in 2..=4 {
        let mut facts = RingFacts { version, ..rings[0].facts().clone() };
        facts.keyspaces.insert(format!("k{version}").parse().unwrap(), Default::default());
        let next = Ring::new(facts).unwrap();
        state::store(&disk, &next).unwrap();
        disk.mark(version);
        rings.push(next);
    }
    let (mut images, mut seen) = (0, std::collections::BTreeSet::new());
    for image in CrashImages::of(&disk.journal(), 7) {
        let acknowledged = image.mark();
        let mut again = opening(1);
        again.drawn.cluster = ClusterId(uuid::Uuid::from_u128(0xd));
        let found = state::open(&image.disk(), again).unwrap();
        images += 1;
        seen.insert(found.version);
        assert!(found.version >= acknowledged && found.version <= acknowledged + 1, "{image}");
        let is_written = rings.contains(&found);
        // Before anything was acknowledged the next start may form a ring of its own.
        assert!(is_written || (acknowledged == 0 && found.cluster != rings[0].cluster), "{image}");
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(images > 100, "{images} images");
}

#[test]
fn a_crash_while_ring_1_is_formed_leaves_none_or_all_of_it() {
    for call in 0..16 {
        let disk = SimDisk::new(1);
        disk.inject(Target::Any, call, Fault::Io);
        let first = state::open(&disk, opening(1));
        for loss in losses() {
            // The next start draws another cluster id: it forms its own ring or keeps the first, whole.
            let mut again = opening(1);
            again.drawn.cluster = ClusterId(uuid::Uuid::from_u128(0xd));
            let found = state::open(&disk.crash(loss), again).unwrap();
            match &first {
                Ok(formed) => assert_eq!(&found, formed, "call {call}"),
                Err(_) => assert_eq!(found.version, 1),
            }
        }
    }
}

// Promise: P11
#[test]
fn a_full_disk_changes_nothing_and_says_so() {
    let disk = SimDisk::new(1);
    let old = state::open(&disk, opening(1)).unwrap();
    let new = Ring::new(RingFacts { version: 2, ..old.facts().clone() }).unwrap();
    for call in 0..2 {
        disk.inject(Target::Space, call, Fault::Full);
        assert!(matches!(state::store(&disk, &new), Err(RingError::DiskFull)));
        disk.clear_faults();
        assert_eq!(state::open(&disk.crash(Survivors::All), bound_to(&old, 1)).unwrap(), old);
    }
    state::store(&disk, &new).unwrap();
}

// Promise: P10
#[test]
fn a_damaged_ring_is_an_error_at_every_byte_and_never_a_ring() {
    let disk = SimDisk::new(1);
    let ring = state::open(&disk, opening(1)).unwrap();
    for byte in 0..400 {
        let damaged = disk.crash(Survivors::None);
        damaged.flip_bit(FILE, byte, u8::try_from(byte % 8).unwrap()).unwrap();
        let found = state::open(&damaged, bound_to(&ring, 1));
        assert!(matches!(found, Err(RingError::Unreadable(StateError::Damaged { .. }))), "byte {byte}: {found:?}");
    }
}

#[test]
fn a_directory_of_another_cluster_or_node_is_refused_with_what_and_what_next() {
    let disk = SimDisk::new(1);
    let ring = state::open(&disk, opening(1)).unwrap();
    let refusal = |opening: Opening| state::open(&disk, opening).unwrap_err().to_string();

    let other_name = Opening { cluster_name: "prod".into(), ..bound_to(&ring, 1) };
    assert_eq!(
        refusal(other_name),
        "this data directory belongs to cluster \"test\", the configuration says \"prod\"; point it at another data directory, or set cluster = \"test\""
    );
    let other_cluster = Opening { bound: Some(ClusterId(uuid::Uuid::from_u128(0xbad))), ..opening(1) };
    assert!(matches!(state::open(&disk, other_cluster), Err(RingError::OtherCluster { .. })));
    assert!(matches!(state::open(&disk, bound_to(&ring, 2)), Err(RingError::NotAMember { .. })));
    // The directory once had a ring: it must not form another one over its data.
    let empty = SimDisk::new(2);
    assert!(matches!(state::open(&empty, bound_to(&ring, 1)), Err(RingError::Missing { .. })));
    assert_eq!(kula_disk::Disk::list(&empty, "").unwrap(), Vec::<String>::new());
}

#[test]
fn a_sole_member_that_is_configured_anew_makes_the_next_version() {
    let disk = SimDisk::new(1);
    let ring = state::open(&disk, opening(1)).unwrap();
    let moved = RingNode { address: "10.0.0.1:7000".into(), dc: "dc2".into(), ..node(1) };
    let next = state::open(&disk, Opening { me: moved.clone(), ..bound_to(&ring, 1) }).unwrap();
    assert_eq!((next.version, next.node(moved.id)), (2, Some(&moved)));
    // The first data centre keeps its place, which shifts the tokens of the second.
    let datacentres: Vec<_> = next.datacentres.iter().map(|dc| (dc.name.as_str(), dc.owners.len())).collect();
    assert_eq!(datacentres, [("dc1", 0), ("dc2", 256)]);
    assert_eq!(state::open(&disk, Opening { me: moved, ..bound_to(&ring, 1) }).unwrap(), next);
}

#[test]
fn the_secret_is_in_the_file_and_in_no_other_text() {
    let disk = SimDisk::new(1);
    let mut with_canary = opening(1);
    with_canary.drawn.context_secret = Secret::new([0xab; 32]);
    let ring = state::open(&disk, with_canary.clone()).unwrap();
    for text in [format!("{ring:?}"), format!("{:?}", ring.context_key()), format!("{with_canary:?}")] {
        assert!(!text.contains("abab") && !text.contains("171, 171"), "{text}");
        assert!(text.contains("Secret(..)"));
    }
    assert_eq!(state::open(&disk, opening(1)).unwrap().context_key().secret.expose(), &[0xab; 32]);
}

#[test]
fn with_seeds_a_new_directory_has_ring_0_and_keeps_nothing() {
    let disk = SimDisk::new(1);
    let none = state::open(&disk, Opening { seeds: true, ..opening(1) }).unwrap();
    assert!(none.is_none() && none.name == "test");
    assert_eq!(kula_disk::Disk::list(&disk, "").unwrap(), Vec::<String>::new());
    let bound = Opening { seeds: true, bound: Some(ClusterId(uuid::Uuid::from_u128(0xc))), ..opening(1) };
    assert!(matches!(state::open(&disk, bound), Err(RingError::Missing { .. })));
}

#[test]
fn a_member_of_several_keeps_its_ring_though_it_is_configured_anew() {
    let disk = SimDisk::new(1);
    let ring = ring_of(3);
    state::store(&disk, &ring).unwrap();
    let me = RingNode { address: "10.0.0.1:7000".into(), rack: "z".into(), ..node(1) };
    assert_eq!(state::open(&disk, Opening { me, seeds: true, ..bound_to(&ring, 1) }).unwrap(), ring);
}

#[test]
fn without_descriptors_nothing_changes_and_the_node_goes_on() {
    let before = SimDisk::new(1);
    let old = state::open(&before, opening(1)).unwrap();
    let new = Ring::new(RingFacts { version: 2, ..old.facts().clone() }).unwrap();
    let mut refusals = 0;
    for call in 0..8 {
        let disk = before.crash(Survivors::None);
        disk.inject(Target::Any, call, Fault::TooManyFiles);
        let outcome = state::store(&disk, &new);
        disk.clear_faults();
        let found = state::open(&disk.crash(Survivors::All), bound_to(&old, 1)).unwrap();
        match outcome {
            Err(RingError::TooManyFiles) => assert!(found == old, "call {call}"),
            Err(error) => assert!(error.may_have_changed() && !error.fences(), "call {call}: {error}"),
            Ok(()) => assert!(found == new, "call {call}"),
        }
        refusals += u32::from(found == old);
    }
    assert!(refusals > 0);
}

fn ballot(round: u64, member: u128) -> Ballot {
    Ballot { round, node: node(member).id }
}

/// What the member promised or accepted, in the order of the script below.
fn weight(acceptor: &Acceptor) -> u64 {
    match (acceptor.promised, &acceptor.vote) {
        (None, _) => 0,
        (Some(_), None) => 1,
        (Some(promised), Some(vote)) if promised == vote.ballot => 2,
        (Some(_), Some(_)) => 3,
    }
}

// Promise: P1
/// A member promises n2, accepts its ring and promises n3. Whatever power loss comes when, it never finds less than what
/// it had told.
#[test]
fn a_promise_that_was_told_survives_every_crash() {
    let disk = SimDisk::recording(1);
    let ring = ring_of(3);
    state::store(&disk, &ring).unwrap();
    let mut member = machine(1, ring.clone(), join(false, 3, 3));
    let mut next = RingFacts { version: 2, ..ring.facts().clone() };
    next.keyspaces.clear();
    let next = state::to_bytes(&Ring::new(next).unwrap()).unwrap();
    let (cluster, version) = (ring.cluster, 2);
    let prepare = |id, member| {
        let from = node(member).id;
        Event::Prepare { id: AskId(id), from, prepare: Prepare { cluster, version, ballot: ballot(id, member) } }
    };
    let accept = Accept { cluster, version, ballot: ballot(1, 2), ring: next.into() };
    let events = [prepare(1, 2), Event::Accept { id: AskId(2), from: node(2).id, accept }, prepare(3, 3)];
    for (event, mark) in events.into_iter().zip(1u64..) {
        let (mut effects, mut told) = (Vec::new(), Vec::new());
        member.step(Mono::default(), 0.5, event, &mut effects);
        assert!(matches!(effects[..], [Effect::StoreBallots { .. }]), "nothing is told before it is durable");
        for effect in effects {
            let Effect::StoreBallots { acceptor } = effect else { continue };
            ballots::store(&disk, &acceptor).unwrap();
            member.step(Mono::default(), 0.5, Event::Stored { outcome: Ok(()) }, &mut told);
        }
        let yes = |effect: &Effect| match effect {
            Effect::Reply { reply: Told::Prepared(Prepared::Promised { .. }), .. } => true,
            Effect::Reply { reply, .. } => *reply == Told::Accepted(Accepted::Yes),
            _ => false,
        };
        assert!(told.iter().all(yes) && told.len() == 1, "{told:?}");
        disk.mark(mark);
    }
    let mut seen = std::collections::BTreeSet::new();
    for image in CrashImages::of(&disk.journal(), 7) {
        let disk = image.disk();
        let told = image.mark();
        // Before anything was told the ring itself may not be there yet.
        if told == 0 && !matches!(state::open(&disk, Opening { seeds: true, ..opening(1) }), Ok(found) if found == ring)
        {
            continue;
        }
        let found = ballots::load(&disk, 1).unwrap();
        assert!((told..=told + 1).contains(&weight(&found)), "{image}: {found:?}");
        seen.insert(weight(&found));
        // What the next version is told does not depend on it.
        assert_eq!(ballots::load(&disk, 2).unwrap(), Acceptor::of(3));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[test]
fn promises_that_cannot_be_read_or_are_ahead_stop_the_start() {
    let disk = SimDisk::new(1);
    let ring = ring_of(3);
    state::store(&disk, &ring).unwrap();
    ballots::store(&disk, &Acceptor { promised: Some(ballot(1, 2)), ..Acceptor::of(2) }).unwrap();
    assert_eq!(state::open(&disk, bound_to(&ring, 1)).unwrap(), ring);
    for byte in 0..60 {
        let damaged = disk.crash(Survivors::None);
        damaged.flip_bit(ballots::FILE, byte, u8::try_from(byte % 8).unwrap()).unwrap();
        let opened = state::open(&damaged, bound_to(&ring, 1));
        assert!(matches!(opened, Err(RingError::Unreadable(StateError::Damaged { .. }))), "byte {byte}");
    }
    ballots::store(&disk, &Acceptor::of(7)).unwrap();
    assert!(matches!(state::open(&disk, bound_to(&ring, 1)), Err(RingError::BallotsAhead { version: 7, ring: 1 })));
}
