//! Bound, meter and turn-taking of a mailbox.

use crate::house::*;
use futures::{FutureExt, future::join_all};
use kula_actor::{DoorError, OnPanic, Place, Registry, Strategy, Subscriber, limits};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[test]
fn ten_thousand_clones_get_exactly_the_bound_accepted() {
    paused(async {
        let story = Story::default();
        let (door, spec) = worker(&Registry::new(), "a", &story);
        let answers: Vec<_> = (0..10_000).map(|_| door.clone().tell(Add(1))).collect();
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1_000);
        let refused = DoorError::Overloaded { path: "a".into(), depth: 1_000, cap: 1_000 };
        assert!(answers.iter().skip(1_000).all(|answer| *answer == Err(refused.clone())));
        assert_eq!((door.stats().depth(), door.stats().shed()), (1_000, 9_000));
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(spec);
        let tree = Tree::run(root);
        settle().await;
        assert_eq!((door.stats().depth(), door.ask(Add(0)).await), (0, Ok(1_000)));
        tree.stop().await.unwrap();
    });
}

// Promise: P9
#[test]
fn the_bound_is_exact_between_threads() {
    let story = Story::default();
    let (door, spec) = worker(&Registry::new(), "a", &story);
    let accepted = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let door = door.clone();
            scope.spawn(|| {
                let door = door;
                accepted.fetch_add((0..2_500).filter(|_| door.clone().tell(Add(1)).is_ok()).count(), Relaxed);
            });
        }
    });
    assert_eq!((accepted.load(Relaxed), door.stats().depth(), door.stats().shed()), (1_000, 1_000, 9_000));
    // A child that never ran: its mailbox goes with it.
    drop(spec);
    assert_eq!(door.tell(Add(1)), Err(DoorError::Closed { path: "a".into() }));
}

#[test]
fn a_refused_message_can_be_had_back_and_forced_ones_pass() {
    paused(async {
        let story = Story::default();
        let (door, spec) = worker(&Registry::new(), "a", &story);
        (0..1_000).for_each(|_| door.tell(Add(1)).unwrap());
        assert_eq!(door.try_tell(Add(7)).map_err(|refused| refused.message.0), Err(7));
        assert!(matches!(door.ask(Add(7)).await, Err(DoorError::Overloaded { .. })));
        door.tell_forced(Add(10)).unwrap();
        let sum = door.ask_forced(Add(0));
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(spec);
        let tree = Tree::run(root);
        assert_eq!(sum.await, Ok(1_010));
        assert_eq!(door.stats().depth(), 0);
        tree.stop().await.unwrap();
    });
}

#[test]
fn a_dropped_ask_is_skipped_and_still_counted_out() {
    paused(async {
        let story = Story::default();
        let (door, spec) = worker(&Registry::new(), "a", &story);
        drop(door.ask(Add(5)));
        let kept = door.ask(Add(1));
        drop(door.ask(Add(50)));
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(spec);
        let tree = Tree::run(root);
        assert_eq!(kept.await, Ok(1));
        settle().await;
        assert_eq!((door.stats().depth(), door.stats().skipped(), door.stats().taken()), (0, 2, 3));
        tree.stop().await.unwrap();
    });
}

#[test]
fn an_event_through_a_subscriber_keeps_the_meter_right() {
    paused(async {
        let story = Story::default();
        let (door, spec) = worker(&Registry::new(), "a", &story);
        let subscriber: Subscriber<Say> = Subscriber::from(&door);
        for _ in 0..1_000 {
            subscriber.clone().publish(Say("heard")).unwrap();
        }
        assert!(matches!(subscriber.publish(Say("heard")), Err(DoorError::Overloaded { .. })));
        subscriber.publish_forced(Say("heard past the bound")).unwrap();
        assert_eq!((door.stats().depth(), door.stats().shed()), (1_001, 1));
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(spec);
        let tree = Tree::run(root);
        settle().await;
        assert_eq!((door.stats().depth(), door.stats().taken()), (0, 1_001));
        assert_eq!(story.take().last().unwrap(), "a heard past the bound");
        tree.stop().await.unwrap();
        assert_eq!(subscriber.publish(Say("too late")), Err(DoorError::Closed { path: "a".into() }));
    });
}

#[test]
fn what_comes_past_the_door_does_not_upset_the_meter() {
    paused(async {
        let story = Story::default();
        let (door, spec) = worker(&Registry::new(), "a", &story);
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(spec);
        let tree = Tree::run(root);
        let address = door.ask(Address).await.unwrap();
        address.do_send(Say("past the door"));
        address.send(Say("past the door")).await.unwrap();
        assert_eq!((door.stats().depth(), door.stats().taken()), (0, 3));
        tree.stop().await.unwrap();
    });
}

#[test]
fn a_burst_is_one_batch_and_costs_one_wake() {
    paused(async {
        let story = Story::default();
        let (door, spec) = worker(&Registry::new(), "a", &story);
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(spec);
        let tree = Tree::run(root);
        settle().await;
        let polls = door.stats().polls();
        (0..100).for_each(|_| door.tell(Batch).unwrap());
        settle().await;
        assert_eq!(door.ask(Batches).await, Ok(vec![100]));
        assert_eq!(door.stats().polls() - polls, 2, "one wake for the burst, one for the question");
        (0..100).for_each(|_| door.tell(Batch).unwrap());
        (0..600).for_each(|_| door.tell(Add(1)).unwrap());
        settle().await;
        assert_eq!(door.ask(Batches).await, Ok(vec![100, 100]), "only who asked gets an end of batch");
        tree.stop().await.unwrap();
    });
}

#[test]
fn an_end_of_batch_waits_for_no_more_than_one_turn() {
    paused(async {
        let story = Story::default();
        let (door, spec) = worker(&Registry::new(), "a", &story);
        (0..600).for_each(|_| door.tell(Batch).unwrap());
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(spec);
        let tree = Tree::run(root);
        settle().await;
        let turn = u64::from(limits::HANDLED_PER_POLL);
        assert_eq!(door.ask(Batches).await, Ok(vec![turn, turn, 600 - 2 * turn]));
        tree.stop().await.unwrap();
    });
}

#[test]
fn a_full_mailbox_does_not_starve_its_siblings() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let (hog, hog_spec) = worker(&registry, "hog", &story);
        let (polite, polite_spec) = worker(&registry, "polite", &story);
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(hog_spec);
        root.add(polite_spec);
        let tree = Tree::run(root);
        settle().await;
        story.take();
        (0..1_000).for_each(|_| hog.tell(Say("is busy")).unwrap());
        polite.ask(Say("had its turn")).await.unwrap();
        settle().await;
        let told = story.take();
        let turn = usize::try_from(limits::HANDLED_PER_POLL).unwrap();
        assert_eq!(told.iter().position(|line| line == "polite had its turn"), Some(turn));
        assert_eq!(told.len(), 1_001);
        tree.stop().await.unwrap();
    });
}

#[test]
fn an_answer_comes_back_across_threads() {
    in_system(async {
        let arbiter = actix::Arbiter::new();
        let (registry, story) = (Registry::new(), Story::default());
        let place = Place::Arbiter(arbiter.handle());
        let (door, spec) = worker_at(&registry, "a", &story, OnPanic::Restart, place);
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(spec);
        let tree = Tree::run(root);
        let sums = join_all((0..500).map(|_| door.ask(Add(1)))).await;
        assert_eq!(sums.last(), Some(&Ok(500)));
        tree.stop().await.unwrap();
        assert_eq!(door.ask(Add(1)).now_or_never(), Some(Err(DoorError::Closed { path: "a".into() })));
        arbiter.stop();
        arbiter.join().unwrap();
    });
}
