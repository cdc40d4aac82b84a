//! Ordered shutdown, and what a crash does instead.

use crate::house::*;
use kula_actor::{DoorError, OnPanic, Place, Registry, Strategy};
use std::{future::pending, time::Duration};
use tokio::{task::LocalSet, time::Instant};

#[test]
fn children_stop_in_reverse_order_each_drained_while_the_earlier_ones_still_answer() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let (log, log_spec) = worker(&registry, "log", &story);
        let (shard, shard_spec) = worker(&registry, "shard", &story);
        let (front, front_spec) = worker(&registry, "front", &story);
        let mut storage = supervisor("storage", Strategy::OneForOne);
        storage.add(log_spec);
        let (log2, shard2) = (log.clone(), shard.clone());
        storage.add(shard_spec.drain(move || async move {
            shard2.ask_forced(Say("drained")).await.unwrap();
            log2.ask_forced(Say("took the last of it")).await.unwrap();
        }));
        let mut root = supervisor("root", Strategy::OneForOne);
        root.nest(storage);
        root.add(front_spec);
        let tree = Tree::run(root);
        settle().await;
        assert_eq!(story.take(), ["log started", "shard started", "front started"]);
        let queued = shard.ask(Say("served"));
        tree.stop().await.unwrap();
        let expected = [
            "shard served",
            "front stopping",
            "front stopped",
            "shard drained",
            "log took the last of it",
            "shard stopping",
            "shard stopped",
            "log stopping",
            "log stopped",
        ];
        let told = story.take();
        // The queued ask is handled when its actor gets its turn, before its own drain.
        let place = |line: &str| told.iter().position(|told| told == line).unwrap();
        assert!(place("shard served") < place("shard drained"));
        assert_eq!(
            told.iter().filter(|line| *line != "shard served").collect::<Vec<_>>(),
            expected[1..].iter().collect::<Vec<_>>()
        );
        assert_eq!(queued.await, Ok(()));
        for door in [&log, &shard, &front] {
            assert_eq!(door.ask(Add(1)).await, Err(DoorError::Closed { path: door.path().clone() }));
        }
    });
}

#[test]
fn a_drain_that_never_ends_or_panics_costs_its_cap_and_no_more() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let mut root = supervisor("root", Strategy::OneForOne);
        let cap = Duration::from_secs(3);
        root.add(worker(&registry, "a", &story).1);
        root.add(worker(&registry, "b", &story).1.drain(pending).stop_within(cap));
        root.add(worker(&registry, "c", &story).1.drain(|| async { panic!("{}", "poisoned drain") }));
        let tree = Tree::run(root);
        settle().await;
        story.take();
        let begun = Instant::now();
        assert_eq!(tree.stop().await, Ok(()));
        assert!((cap..cap + Duration::from_millis(5)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        let stops = ["c stopping", "c stopped", "b stopping", "b stopped", "a stopping", "a stopped"];
        assert_eq!(story.take(), stops);
    });
}

#[test]
fn an_actor_that_would_rather_stay_is_ended_and_one_that_is_down_is_not_drained() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let (stubborn, stubborn_spec) = worker(&registry, "stubborn", &story);
        let (down, down_spec) = worker(&registry, "down", &story);
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(stubborn_spec);
        root.add(down_spec.drain(pending));
        let tree = Tree::run(root);
        settle().await;
        down.ask(Poison).await.unwrap_err();
        tokio::task::yield_now().await;
        let begun = Instant::now();
        tree.stop().await.unwrap();
        assert!(begun.elapsed() < Duration::from_millis(1));
        assert!(!stubborn.connected() && !down.connected());
    });
}

#[test]
fn a_shutdown_with_full_mailboxes_leaves_no_depth_behind() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let (door, spec) = worker(&registry, "a", &story);
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(spec);
        let tree = Tree::run(root);
        settle().await;
        door.ask(Poison).await.unwrap_err();
        let asks: Vec<_> = (0..1_200).map(|_| door.ask(Add(1))).collect();
        assert_eq!((door.stats().depth(), door.stats().shed()), (1_000, 200));
        tree.stop().await.unwrap();
        let answers = futures::future::join_all(asks).await;
        let closed = answers.iter().filter(|answer| matches!(answer, Err(DoorError::Closed { .. }))).count();
        assert_eq!((closed, door.stats().depth()), (1_000, 0));
    });
}

#[test]
fn a_fence_that_a_drain_brings_to_light_is_told() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let (early, early_spec) = worker(&registry, "early", &story);
        let (shard, shard_spec) = worker_at(&registry, "shard", &story, OnPanic::Fence, Place::Local);
        let mut storage = supervisor("storage", Strategy::OneForOne);
        let door = shard.clone();
        storage.add(shard_spec.drain(move || async move {
            door.ask_forced(Fence("the last flush failed")).await.unwrap();
            pending::<()>().await;
        }));
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(early_spec);
        root.nest(storage);
        let tree = Tree::run(root);
        settle().await;
        let begun = Instant::now();
        let escalation = tree.stop().await.unwrap_err();
        assert_eq!(escalation.to_string(), "shard fenced the node: the last flush failed");
        assert!(begun.elapsed() < Duration::from_millis(1));
        assert!(!early.connected() && !shard.connected());
    });
}

#[test]
fn a_crash_runs_no_stop_hook_and_closes_every_door() {
    let (registry, story) = (Registry::new(), Story::default());
    let (door, spec) = worker(&registry, "a", &story);
    let mut below = supervisor("below", Strategy::OneForOne);
    below.add(spec);
    let mut root = supervisor("root", Strategy::OneForOne);
    root.nest(below);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let node = LocalSet::new();
    let task = node.spawn_local(root.run(pending::<()>()));
    node.block_on(&runtime, settle());
    (0..10).for_each(|_| door.tell(Add(1)).unwrap());
    drop((node, runtime, task));
    assert_eq!((story.take(), door.stats().depth()), (vec!["a started".to_owned()], 0));
    assert_eq!(door.tell(Add(1)), Err(DoorError::Closed { path: "a".into() }));
}
