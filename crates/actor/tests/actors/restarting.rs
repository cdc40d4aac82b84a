//! A panic restarts the actor behind the same door; too many escalate.

use crate::house::*;
use actix::Arbiter;
use futures::future::join_all;
use kula_actor::{DoorError, Escalation, MailboxConfig, OnPanic, Place, Registry, Strategy, child};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::Instant;

/// Ten asks, a poison message, ten asks, all queued at once in the middle one of three.
async fn poison_the_middle_one(strategy: Strategy, place: Place) -> [u64; 3] {
    let (registry, story) = (Registry::new(), Story::default());
    let mut root = supervisor("root", strategy);
    let doors = ["a", "b", "c"].map(|name| {
        let (door, spec) = worker_at(&registry, name, &story, OnPanic::Restart, place.clone());
        root.add(spec);
        door
    });
    let tree = Tree::run(root);
    for door in &doors {
        assert_eq!(door.ask(Add(5)).await, Ok(5));
    }
    let closed = Err(DoorError::Closed { path: "b".into() });
    let before = join_all((0..10).map(|_| doors[1].ask(Add(1))).collect::<Vec<_>>());
    let poisoned = doors[1].ask(Poison);
    let after = join_all((0..10).map(|_| doors[1].ask(Add(1))).collect::<Vec<_>>());
    assert_eq!(before.await, (6..=15).map(Ok).collect::<Vec<_>>());
    assert_eq!(poisoned.await, closed.map(|_: u64| ()));
    assert_eq!(after.await, (1..=10).map(Ok).collect::<Vec<_>>(), "a fresh actor answers what was queued");
    settle().await;
    let sums = join_all(doors.iter().map(|door| door.ask(Add(0)))).await;
    assert_eq!(doors.each_ref().map(|door| door.stats().depth()), [0, 0, 0]);
    let restarts = doors.each_ref().map(|door| door.stats().restarts());
    let fated = sums.iter().map(|sum| u64::from(*sum != Ok(5))).collect::<Vec<_>>();
    assert_eq!(restarts.as_slice(), fated);
    assert_eq!(tree.stop().await, Ok(()));
    assert_eq!(doors[1].ask(Add(0)).await, Err(DoorError::Closed { path: "b".into() }));
    [0, 1, 2].map(|index: usize| *sums[index].as_ref().unwrap())
}

const FATES: [(Strategy, [u64; 3]); 3] =
    [(Strategy::OneForOne, [5, 10, 5]), (Strategy::OneForAll, [0, 10, 0]), (Strategy::RestForOne, [5, 10, 0])];

#[test]
fn each_strategy_restarts_whom_it_says_on_one_thread() {
    for (strategy, sums) in FATES {
        assert_eq!(paused(poison_the_middle_one(strategy, Place::Local)), sums, "{strategy:?}");
    }
}

#[test]
fn each_strategy_restarts_whom_it_says_across_threads() {
    in_system(async {
        let arbiter = Arbiter::new();
        for (strategy, sums) in FATES {
            let place = Place::Arbiter(arbiter.handle());
            assert_eq!(poison_the_middle_one(strategy, place).await, sums, "{strategy:?}");
        }
        arbiter.stop();
        arbiter.join().unwrap();
    });
}

#[test]
fn siblings_are_stopped_in_reverse_and_started_in_order() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let mut root = supervisor("root", Strategy::OneForAll);
        let doors = ["a", "b", "c"].map(|name| {
            let (door, spec) = worker(&registry, name, &story);
            root.add(spec);
            door
        });
        let tree = Tree::run(root);
        settle().await;
        assert_eq!(story.take(), ["a started", "b started", "c started"]);
        doors[1].tell(Poison).unwrap();
        settle().await;
        let halts = ["c stopping", "c stopped", "a stopping", "a stopped"];
        let starts = ["a started", "b started", "c started"];
        assert_eq!(story.take(), [&halts[..], &starts[..]].concat(), "the one that panicked runs no stop hook");
        tree.stop().await.unwrap();
    });
}

#[test]
fn restarts_wait_longer_each_time_and_messages_wait_with_them() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let (door, spec) = worker(&registry, "a", &story);
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(spec);
        let tree = Tree::run(root);
        let mut waits = Vec::new();
        for _ in 0..3 {
            door.tell(Poison).unwrap();
            let asked = Instant::now();
            assert_eq!(door.ask(Add(1)).await, Ok(1));
            waits.push(asked.elapsed().as_millis());
        }
        // The timer's grain is a millisecond.
        for (wait, planned) in waits.iter().zip([10, 20, 40]) {
            assert!((planned..=planned + 2).contains(wait), "{waits:?}");
        }
        tree.stop().await.unwrap();
    });
}

#[test]
fn a_door_stays_open_and_bounded_while_its_actor_is_down() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let (door, spec) = worker(&registry, "a", &story);
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(spec);
        let tree = Tree::run(root);
        door.ask(Poison).await.unwrap_err();
        assert!(door.connected());
        let accepted = (0..1_500).filter(|_| door.tell(Add(1)).is_ok()).count();
        assert_eq!((accepted, door.stats().depth()), (1_000, 1_000));
        settle().await;
        assert_eq!((door.ask(Add(0)).await, door.stats().depth()), (Ok(1_000), 0));
        tree.stop().await.unwrap();
    });
}

#[test]
fn an_actor_that_stops_itself_is_restarted_like_one_that_failed() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let (door, spec) = worker(&registry, "a", &story);
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(spec);
        let tree = Tree::run(root);
        door.tell(Add(5)).unwrap();
        door.tell(Quit).unwrap();
        assert_eq!((door.ask(Add(1)).await, door.stats().restarts()), (Ok(1), 1));
        tree.stop().await.unwrap();
    });
}

#[test]
fn a_factory_that_panics_is_tried_again() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let tries = Arc::new(AtomicUsize::new(0));
        let (seen, told) = (Arc::clone(&tries), story.clone());
        let cap = MailboxConfig::default();
        let (door, spec) = child(&registry, "a", cap, OnPanic::Restart, Place::Local, move || {
            // The first build, and one of the rebuilds.
            assert!(![0, 2].contains(&seen.fetch_add(1, Relaxed)), "{}", "poisoned factory");
            Worker::new("a", &told)
        });
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(spec);
        let tree = Tree::run(root);
        assert_eq!(door.ask(Add(1)).await, Ok(1));
        door.tell(Poison).unwrap();
        assert_eq!((door.ask(Add(1)).await, tries.load(Relaxed)), (Ok(1), 4));
        tree.stop().await.unwrap();
    });
}

// Promise: P17
#[test]
fn one_failure_too_many_ends_the_tree_and_says_why() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let (bad, bad_spec) = worker(&registry, "bad", &story);
        let (good, good_spec) = worker(&registry, "good", &story);
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(bad_spec);
        root.add(good_spec);
        let tree = Tree::run(root);
        for _ in 0..4 {
            bad.tell(Poison).unwrap();
        }
        bad.tell(Add(1)).unwrap();
        let escalation = tree.ended().await.unwrap_err();
        let expected = Escalation::Intensity {
            path: "root".into(),
            max: 3,
            within: Duration::from_secs(5),
            cause: "bad panicked: poisoned at 0".into(),
        };
        assert_eq!(escalation, expected);
        assert_eq!(
            escalation.to_string(),
            "root: restarts used up (3 within 5s); the last failure: bad panicked: poisoned at 0"
        );
        assert_eq!(good.ask(Add(1)).await, Err(DoorError::Closed { path: "good".into() }));
        assert_eq!((bad.stats().depth(), good.stats().depth()), (0, 0));
        assert!(story.take().contains(&"good stopped".to_owned()), "the others end in order");
    });
}

#[test]
fn failures_far_apart_never_escalate() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let (door, spec) = worker(&registry, "a", &story);
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(spec);
        let tree = Tree::run(root);
        for _ in 0..20 {
            door.tell(Poison).unwrap();
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        assert_eq!((door.ask(Add(1)).await, door.stats().restarts()), (Ok(1), 20));
        tree.stop().await.unwrap();
    });
}

#[test]
fn a_nested_supervisor_that_gives_up_is_restarted_behind_the_same_doors() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let (bad, bad_spec) = worker(&registry, "bad", &story);
        let (good, good_spec) = worker(&registry, "good", &story);
        let mut below = supervisor("below", Strategy::OneForOne);
        below.add(bad_spec);
        below.add(good_spec);
        let (beside, beside_spec) = worker(&registry, "beside", &story);
        let mut root = supervisor("root", Strategy::OneForOne);
        root.nest(below);
        root.add(beside_spec);
        let tree = Tree::run(root);
        settle().await;
        assert_eq!(story.take(), ["bad started", "good started", "beside started"]);
        good.ask(Add(5)).await.unwrap();
        beside.ask(Add(5)).await.unwrap();
        for _ in 0..4 {
            bad.tell(Poison).unwrap();
        }
        let queued = bad.ask(Add(7));
        settle().await;
        assert_eq!(queued.await, Ok(7), "what was queued outlives the restart of the subtree");
        assert_eq!((good.ask(Add(1)).await, beside.ask(Add(1)).await), (Ok(1), Ok(6)));
        assert_eq!((good.stats().restarts(), beside.stats().restarts()), (1, 0));
        tree.stop().await.unwrap();
    });
}
