//! Children that come and go under a running tree.

use crate::house::*;
use kula_actor::{
    Backoff, DoorError, Escalation, MailboxConfig, Nursery, NurseryDoor, NurseryError, OnPanic, Place, Registry,
    Strategy, child_passing,
};
use std::{sync::Arc, time::Duration};

fn tree(cap: usize) -> (NurseryDoor, Tree) {
    let backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
    let (door, nursery) = Nursery::new("nursery", cap, backoff, silent());
    let mut root = supervisor("node", Strategy::OneForOne);
    root.add(nursery.into_spec());
    (door, Tree::run(root))
}

#[test]
fn a_child_given_to_a_running_nursery_answers_is_stopped_by_name_and_can_come_again() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let (nursery, tree) = tree(4);
        settle().await;
        let (door, spec) = worker(&registry, "a", &story);
        nursery.start(spec).unwrap();
        assert_eq!(door.ask(Add(2)).await, Ok(2));
        nursery.stop(door.path());
        settle().await;
        assert!(matches!(door.ask(Add(2)).await, Err(DoorError::Closed { .. })));
        assert_eq!(
            (nursery.count(), story.take()),
            (0, ["a started", "a stopping", "a stopped"].map(str::to_owned).to_vec())
        );
        let (again, spec) = worker(&registry, "a", &story);
        nursery.start(spec).unwrap();
        assert_eq!(again.ask(Add(3)).await, Ok(3));
        tree.stop().await.unwrap();
        assert_eq!(story.take(), ["a started", "a stopping", "a stopped"]);
    });
}

#[test]
fn a_child_that_panics_for_ever_is_restarted_and_hurts_nobody() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let (nursery, tree) = tree(4);
        let (poisoned, spec) = worker(&registry, "a", &story);
        nursery.start(spec).unwrap();
        let (sibling, spec) = worker(&registry, "b", &story);
        nursery.start(spec).unwrap();
        for _ in 0..20 {
            assert!(poisoned.ask(Poison).await.is_err());
            assert_eq!(sibling.ask(Add(0)).await, Ok(0));
        }
        assert_eq!(poisoned.ask(Add(1)).await, Ok(1), "a fresh one answers");
        tree.stop().await.unwrap();
    });
}

#[test]
fn a_passing_child_ends_for_good_by_a_panic_or_by_itself_and_makes_room() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let (nursery, tree) = tree(1);
        let passing = || {
            let story = story.clone();
            let mailbox = MailboxConfig::default();
            child_passing(&registry, "a", mailbox, Place::Local, move || Worker::new("a", &story))
        };
        let (first, spec) = passing();
        nursery.start(spec).unwrap();
        assert_eq!(first.ask(Add(1)).await, Ok(1));
        let (_, spec) = passing();
        assert_eq!(nursery.start(spec), Err(NurseryError::Full { path: Arc::from("nursery"), cap: 1 }));
        assert!(first.ask(Poison).await.is_err());
        settle().await;
        assert!(!first.connected());
        let (second, spec) = passing();
        nursery.start(spec).unwrap();
        second.tell(Quit).unwrap();
        settle().await;
        assert_eq!((second.connected(), nursery.count()), (false, 0));
        tree.stop().await.unwrap();
        assert!(matches!(nursery.start(passing().1), Err(NurseryError::Closed { .. })));
    });
}

#[test]
fn a_fence_in_a_nursery_ends_the_node() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let (nursery, tree) = tree(2);
        let (door, spec) = worker_at(&registry, "a", &story, OnPanic::Restart, Place::Local);
        nursery.start(spec).unwrap();
        door.tell(Fence("broken")).unwrap();
        let ended = tree.ended().await.unwrap_err();
        assert!(matches!(&ended, Escalation::Fenced { path, .. } if path.as_ref() == "a"), "{ended}");
    });
}
