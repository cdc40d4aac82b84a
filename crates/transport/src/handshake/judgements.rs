//! Every refusal by name, on both sides: what a node is told that says this of itself.

use super::*;
use crate::admission::Member;
use kula_clock::Told;
use kula_types::{ClusterId, Life, Map, Timestamp};

fn id(number: u8) -> NodeId {
    NodeId(uuid::Uuid::from_bytes([number; 16]))
}

fn cluster(number: u8) -> ClusterId {
    ClusterId(uuid::Uuid::from_bytes([number; 16]))
}

fn myself() -> Myself {
    Myself {
        cluster_name: "c".into(),
        node: id(1),
        life: Life(1),
        boot: 11,
        name: "n1".into(),
        address: "h1:7".into(),
        lease_found: None,
    }
}

/// n1 and n2 are members.
fn admission() -> Admission {
    let member = |number: u8| {
        let (name, address) = (format!("n{number}"), format!("h{number}:7"));
        (id(number), Member { name, address, life: Some(Life(1)) })
    };
    Admission { cluster: Some(cluster(1)), ring_version: 3, members: Map::from_iter([member(1), member(2)]) }
}

/// n2 as it should be.
fn introduction() -> Introduction {
    Introduction {
        cluster: Some(cluster(1)),
        cluster_name: "c".into(),
        node: id(2),
        life: Life(1),
        boot: 22,
        name: "n2".into(),
        address: "h2:7".into(),
        ring_version: 3,
        lease_found: None,
    }
}

/// What both sides say to a node that introduces itself so, while another process of n2 is connected from `seat` if one is.
fn both_sides(introduction: &Introduction, seat: Option<u64>) -> Result<(), Refusal> {
    let (me, admission, told) = (myself(), admission(), Told::new(None, false));
    let judged = |judge: &dyn Fn(&mut World) -> Result<(), Refusal>| {
        let mut roster = Roster::default();
        seat.into_iter().for_each(|boot| roster.enter(id(2), boot, "h2:7"));
        judge(&mut World { me: &me, admission: &admission, roster: &mut roster, told: &told })
    };
    let hello = Hello { protocol_min: PROTOCOL_MIN, protocol_max: PROTOCOL_MAX, introduction: introduction.clone() };
    let welcome = Welcome { protocol: PROTOCOL_MAX, introduction: introduction.clone() };
    let by_hello = judged(&|world| judge_hello(world, &hello).map(drop));
    let by_welcome = judged(&|world| judge_welcome(world, "h2:7", None, &welcome));
    assert_eq!(by_hello, by_welcome, "both sides judge by the same rules");
    by_hello
}

#[test]
fn a_member_and_a_newcomer_are_welcome() {
    assert_eq!(both_sides(&introduction(), None), Ok(()));
    assert_eq!(both_sides(&introduction(), Some(22)), Ok(()), "a second connection of the same process");
    let newcomer = Introduction { cluster: None, node: id(3), life: Life(9), address: "h3:7".into(), ..introduction() };
    assert_eq!(both_sides(&newcomer, Some(22)), Ok(()));
    let moved = Introduction { address: "h9:7".into(), ..introduction() };
    assert_eq!(both_sides(&moved, None), Ok(()), "a member may come back at another address");
}

#[test]
fn each_wrong_node_is_refused_by_name() {
    let they = introduction;
    let other_name = Introduction { cluster_name: "d".into(), cluster: Some(cluster(2)), ..they() };
    assert_eq!(
        both_sides(&other_name, None),
        Err(Refusal::OtherCluster { ours: "c".into(), theirs: "d".into() }),
        "the name before the id"
    );
    let other_id = Introduction { cluster: Some(cluster(2)), ..they() };
    let (ours, theirs) = (cluster(1), cluster(2));
    assert_eq!(both_sides(&other_id, None), Err(Refusal::OtherClusterId { name: "c".into(), ours, theirs }));
    let copy = Refusal::SameNodeIdOtherBoot { node: id(2), address: "h2:7".into() };
    let clone = Introduction { boot: 23, address: "h5:7".into(), ..they() };
    assert_eq!(both_sides(&clone, Some(22)), Err(copy), "while the first one is connected");
    let copy_of_us = Refusal::SameNodeIdOtherBoot { node: id(1), address: "h1:7".into() };
    assert_eq!(both_sides(&Introduction { node: id(1), ..they() }, None), Err(copy_of_us));
    assert_eq!(both_sides(&Introduction { node: id(1), boot: 11, ..they() }, None), Err(Refusal::Yourself));
    let damaged = Introduction { life: Life(2), ..they() };
    assert_eq!(both_sides(&damaged, None), Err(Refusal::LifeChanged { node: id(2) }));
    let wiped = Introduction { node: id(8), ..they() };
    let stranger = Refusal::StrangerAtMembersAddress { address: "h2:7".into(), member: "n2".into() };
    assert_eq!(both_sides(&wiped, None), Err(stranger));
    for empty in [
        Introduction { cluster_name: String::new(), ..they() },
        Introduction { name: String::new(), ..they() },
        Introduction { address: "a".repeat(257), ..they() },
    ] {
        assert_eq!(both_sides(&empty, None), Err(Refusal::Malformed));
    }
}

#[test]
fn protocols_settle_on_the_highest_both_know_or_are_told_who_is_older() {
    let ours = (3, 5);
    let malformed = Err(Refusal::Malformed);
    let judgements = [
        ((1, 9), Ok(5)),
        ((1, 4), Ok(4)),
        ((1, 3), Ok(3)),
        ((5, 5), Ok(5)),
        ((1, 2), Err(Refusal::ProtocolTooOld { ours: 3, theirs: 2 })),
        ((6, 9), Err(Refusal::ProtocolTooNew { ours: 5, theirs: 6 })),
        ((0, 4), malformed.clone()),
        ((4, 3), malformed),
    ];
    for (theirs, judgement) in judgements {
        assert_eq!(settle(ours, theirs), judgement, "{theirs:?}");
    }
}

#[test]
fn a_welcome_in_a_version_nobody_offered_is_malformed() {
    let (me, admission, told) = (myself(), admission(), Told::new(None, false));
    for protocol in [PROTOCOL_MIN - 1, PROTOCOL_MAX + 1] {
        let mut roster = Roster::default();
        let mut world = World { me: &me, admission: &admission, roster: &mut roster, told: &told };
        let welcome = Welcome { protocol, introduction: introduction() };
        assert_eq!(judge_welcome(&mut world, "h2:7", None, &welcome), Err(Refusal::Malformed), "{protocol}");
    }
}

#[test]
fn a_link_that_finds_another_node_says_whom_it_expected() {
    let (me, admission, told, mut roster) = (myself(), admission(), Told::new(None, false), Roster::default());
    let mut world = World { me: &me, admission: &admission, roster: &mut roster, told: &told };
    let welcome = Welcome { protocol: PROTOCOL_MAX, introduction: introduction() };
    let (expected, found) = (id(4), id(2));
    let refused = judge_welcome(&mut world, "h4:7", Some(expected), &welcome);
    assert_eq!(refused, Err(Refusal::AnotherNode { address: "h4:7".into(), expected, found }));
}

#[test]
fn who_was_refused_holds_no_seat() {
    let (me, admission, told, mut roster) = (myself(), admission(), Told::new(None, false), Roster::default());
    let mut world = World { me: &me, admission: &admission, roster: &mut roster, told: &told };
    let hello = |boot: u64, life: u64| Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        introduction: Introduction { boot, life: Life(life), ..introduction() },
    };
    assert!(judge_hello(&mut world, &hello(1, 2)).is_err());
    assert!(judge_hello(&mut world, &hello(2, 1)).is_ok());
    assert!(judge_hello(&mut world, &hello(3, 1)).is_err());
    world.roster.leave(id(2));
    assert!(judge_hello(&mut world, &hello(3, 1)).is_ok(), "the first one is gone");
}

/// It had told nobody anything.
const NEVER: i64 = 0;

// Promise: P2
#[test]
fn a_directory_from_before_is_refused_by_name_until_its_loss_is_accepted() {
    let (me, admission, told, mut roster) = (myself(), admission(), Told::new(None, false), Roster::default());
    let mut world = World { me: &me, admission: &admission, roster: &mut roster, told: &told };
    let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000).unwrap();
    // A process of n2 connects, says how far its clock is leased, and ends.
    let mut runs = |boot: u64, found: Option<i64>, says: &[i64]| {
        let lease_found = found.map(|found| if found == NEVER { Timestamp::MIN } else { at(found) });
        let introduction = Introduction { boot, lease_found, ..introduction() };
        let welcome = Welcome { protocol: PROTOCOL_MAX, introduction };
        judge_welcome(&mut world, "h2:7", None, &welcome)?;
        says.iter().for_each(|leased| world.heard_lease(id(2), at(*leased)));
        let again = judge_welcome(&mut world, "h2:7", None, &welcome);
        assert_eq!(again, Ok(()), "a second connection, after it said more than it found");
        (0..2).for_each(|_| world.roster.leave(id(2)));
        Ok(())
    };
    let went_back = |behind_ms: u64| Err(Refusal::WentBack { node: id(2), behind_ms: Some(behind_ms) });
    assert_eq!(runs(1, Some(NEVER), &[10, 12, 11]), Ok(()), "nobody knows better");
    assert_eq!(runs(2, Some(11), &[]), went_back(1_000), "what was heard last counts least");
    let of_the_first_day = Err(Refusal::WentBack { node: id(2), behind_ms: None });
    assert_eq!(runs(2, Some(NEVER), &[]), of_the_first_day);
    assert_eq!(runs(3, Some(12), &[12, 60]), Ok(()), "a restart finds what was told at least");
    assert_eq!(runs(4, Some(11), &[]), went_back(49_000));
    assert_eq!(runs(5, None, &[11, 20]), Ok(()), "its operator accepts the loss");
    assert_eq!(runs(6, Some(20), &[20]), Ok(()), "which is not held against it again");
    assert_eq!(runs(7, Some(19), &[]), went_back(1_000), "but the next one is");
}

#[test]
fn the_welcome_of_a_process_that_is_gone_is_a_second_process_and_no_older_directory() {
    let (me, admission, told, mut roster) = (myself(), admission(), Told::new(None, false), Roster::default());
    let mut world = World { me: &me, admission: &admission, roster: &mut roster, told: &told };
    let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000).unwrap();
    let welcome = |boot: u64, found: i64| Welcome {
        protocol: PROTOCOL_MAX,
        introduction: Introduction { boot, lease_found: Some(at(found)), ..introduction() },
    };
    assert_eq!(judge_welcome(&mut world, "h2:7", None, &welcome(2, 10)), Ok(()));
    world.heard_lease(id(2), at(13));
    // What its last life wrote into a socket comes late.
    let second = Err(Refusal::SameNodeIdOtherBoot { node: id(2), address: "h2:7".into() });
    assert_eq!(judge_welcome(&mut world, "h2:7", None, &welcome(1, 7)), second);
}

#[test]
fn the_leases_of_members_that_are_connected_are_remembered() {
    let (me, admission, told, mut roster) = (myself(), admission(), Told::new(None, false), Roster::default());
    (2..9).for_each(|number| roster.enter(id(number), 1, "h:7"));
    let mut world = World { me: &me, admission: &admission, roster: &mut roster, told: &told };
    (1..=9).for_each(|number| world.heard_lease(id(number), Timestamp::MAX));
    let known = (1..=9).filter(|number| roster.went_back(id(*number), 2, Some(Timestamp::MIN)).is_some());
    assert_eq!(known.collect::<Vec<u8>>(), [2]);
}

// Promise: P2
#[test]
fn a_member_that_welcomes_us_proves_our_directory_and_one_that_knows_better_ends_that() {
    let (me, admission, mut roster) = (myself(), admission(), Roster::default());
    let told = Told::new(Some(Timestamp::MIN), false);
    let mut world = World { me: &me, admission: &admission, roster: &mut roster, told: &told };
    let tells = || told.next(Timestamp::MAX) == Some(Timestamp::MAX);
    let mut welcome = |introduction| {
        judge_welcome(&mut world, "h2:7", None, &Welcome { protocol: PROTOCOL_MAX, introduction }).unwrap();
    };
    welcome(Introduction { node: id(3), address: "h3:7".into(), ..introduction() });
    assert!(!tells(), "a newcomer knows nothing of us");
    welcome(introduction());
    assert!(tells());
    let other = Refusal::WentBack { node: id(2), behind_ms: None };
    world.heard_refusal(&other);
    assert!(tells(), "it means another");
    world.heard_refusal(&Refusal::WentBack { node: id(1), behind_ms: None });
    assert!(!tells());
}
