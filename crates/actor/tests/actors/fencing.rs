//! A fence ends the whole tree at once.

use crate::house::*;
use actix::{Arbiter, prelude::*};
use kula_actor::{
    DoorError, Escalation, KulaContext, MailboxConfig, OnPanic, Place, Registry, Strategy, child_once, supervised,
};
use std::time::Duration;
use tokio::time::Instant;

fn closed<T>(path: &str) -> Result<T, DoorError> {
    Err(DoorError::Closed { path: path.into() })
}

fn fenced(path: &str, cause: &str) -> Result<(), Escalation> {
    Err(Escalation::Fenced { path: path.into(), cause: cause.into() })
}

#[test]
fn a_fence_below_ends_every_level_at_once_and_without_stop_hooks() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let (shard, shard_spec) = worker_at(&registry, "shard", &story, OnPanic::Fence, Place::Local);
        let (beside, beside_spec) = worker(&registry, "beside", &story);
        let (above, above_spec) = worker(&registry, "above", &story);
        let (mut storage, mut middle, mut root) = (
            supervisor("storage", Strategy::OneForOne),
            supervisor("middle", Strategy::OneForOne),
            supervisor("root", Strategy::OneForOne),
        );
        storage.add(shard_spec);
        storage.add(beside_spec);
        middle.nest(storage);
        root.add(above_spec.drain(|| async { panic!("poisoned: no drain on a fence") }));
        root.nest(middle);
        let tree = Tree::run(root);
        settle().await;
        story.take();
        let before = shard.ask(Add(1));
        let fence = shard.ask(Fence("the disk lied"));
        let after = shard.ask(Add(1));
        let begun = Instant::now();
        assert_eq!(before.await, Ok(1));
        assert_eq!((fence.await, after.await), (Ok(()), closed("shard")));
        assert_eq!(tree.ended().await, fenced("shard", "the disk lied"));
        assert!(begun.elapsed() < Duration::from_millis(1), "no wait of any kind");
        for door in [&shard, &beside, &above] {
            assert_eq!(door.ask(Add(1)).await, closed(door.path()));
            assert_eq!(door.stats().depth(), 0);
        }
        assert_eq!(story.take(), ["shard stopped"], "only the one that fenced ends by itself");
    });
}

// Promise: P17
#[test]
fn a_panic_beside_data_fences() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let (door, spec) = worker_at(&registry, "ring", &story, OnPanic::Fence, Place::Local);
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(spec);
        let tree = Tree::run(root);
        door.tell(Add(3)).unwrap();
        door.tell(Poison).unwrap();
        let queued = door.ask(Add(1));
        assert_eq!(tree.ended().await, fenced("ring", "panicked: poisoned at 3"));
        assert_eq!((queued.await, door.stats().depth()), (closed("ring"), 0));
    });
}

#[test]
fn a_subtree_beside_data_that_gives_up_ends_the_tree_in_order() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let (shard, shard_spec) = worker_at(&registry, "shard", &story, OnPanic::Fence, Place::Local);
        let (session, session_spec) = worker(&registry, "session", &story);
        let mut storage = supervisor("storage", Strategy::OneForOne);
        let drained = shard.clone();
        storage.add(shard_spec.drain(move || async move { drained.ask_forced(Say("drained")).await.unwrap() }));
        storage.add(session_spec);
        let (mut middle, mut root) =
            (supervisor("middle", Strategy::OneForOne), supervisor("root", Strategy::OneForOne));
        middle.nest(storage);
        root.nest(middle);
        let tree = Tree::run(root);
        settle().await;
        story.take();
        (0..4).for_each(|_| session.tell(Poison).unwrap());
        let escalation = tree.ended().await.unwrap_err();
        assert!(matches!(&escalation, Escalation::Intensity { path, .. } if **path == *"storage"), "{escalation}");
        let told = story.take();
        assert_eq!(told[told.len() - 3..], ["shard drained", "shard stopping", "shard stopped"]);
        assert_eq!((shard.stats().restarts(), shard.connected()), (0, false));
    });
}

#[test]
fn a_fence_does_not_wait_for_a_restart_under_way() {
    paused(async {
        let (registry, story) = (Registry::new(), Story::default());
        let (shard, shard_spec) = worker_at(&registry, "shard", &story, OnPanic::Fence, Place::Local);
        let (session, session_spec) = worker(&registry, "session", &story);
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(shard_spec);
        root.add(session_spec);
        let tree = Tree::run(root);
        settle().await;
        session.ask(Poison).await.unwrap_err();
        let begun = Instant::now();
        shard.tell(Quit).unwrap();
        assert_eq!(tree.ended().await, fenced("shard", "stopped by itself"));
        assert!(begun.elapsed() < Duration::from_millis(5), "the backoff of the session was 10 ms");
        assert_eq!(session.ask(Add(1)).await, closed("session"));
    });
}

#[test]
fn a_fence_reaches_other_threads() {
    in_system(async {
        let arbiters = [Arbiter::new(), Arbiter::new()];
        let (registry, story) = (Registry::new(), Story::default());
        let place = |index: usize| Place::Arbiter(arbiters[index].handle());
        let (shard, shard_spec) = worker_at(&registry, "shard", &story, OnPanic::Fence, place(0));
        let (other, other_spec) = worker_at(&registry, "other", &story, OnPanic::Fence, place(1));
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(shard_spec);
        root.add(other_spec);
        let tree = Tree::run(root);
        other.ask(Add(1)).await.unwrap();
        shard.tell(Poison).unwrap();
        assert_eq!(tree.ended().await, fenced("shard", "panicked: poisoned at 0"));
        assert_eq!((other.ask(Add(1)).await, other.stats().depth()), (closed("other"), 0));
        for arbiter in arbiters {
            arbiter.stop();
            arbiter.join().unwrap();
        }
    });
}

#[test]
fn a_thread_that_ends_under_its_actors_ends_the_tree() {
    in_system(async {
        let arbiter = Arbiter::new();
        let (registry, story) = (Registry::new(), Story::default());
        let place = Place::Arbiter(arbiter.handle());
        let (door, spec) = worker_at(&registry, "a", &story, OnPanic::Restart, place);
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(spec);
        let tree = Tree::run(root);
        door.ask(Add(1)).await.unwrap();
        story.take();
        arbiter.stop();
        arbiter.join().unwrap();
        assert_eq!(tree.ended().await, Err(Escalation::Lost { path: "a".into() }));
        assert_eq!((door.ask(Add(1)).await, story.take()), (closed("a"), vec![]), "a crash runs no stop hook");
    });
}

#[test]
fn a_child_on_a_thread_that_is_gone_ends_the_tree() {
    in_system(async {
        let arbiter = Arbiter::new();
        let handle = arbiter.handle();
        arbiter.stop();
        arbiter.join().unwrap();
        let (registry, story) = (Registry::new(), Story::default());
        let (door, spec) = worker_at(&registry, "a", &story, OnPanic::Restart, Place::Arbiter(handle));
        door.tell(Add(1)).unwrap();
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(spec);
        assert_eq!(Tree::run(root).ended().await, Err(Escalation::Lost { path: "a".into() }));
        assert_eq!((door.tell(Add(1)), door.stats().depth()), (closed("a"), 0));
    });
}

/// Owns what exists once.
struct Owner(Box<u64>);

impl Actor for Owner {
    type Context = KulaContext<Self>;
}

supervised!(Owner);

impl Handler<Add> for Owner {
    type Result = u64;

    fn handle(&mut self, add: Add, _: &mut Self::Context) -> u64 {
        assert!(add.0 != 0, "{}", "poisoned by nothing");
        *self.0 += add.0;
        *self.0
    }
}

#[test]
fn an_actor_that_owns_what_exists_once_is_built_once_and_fences() {
    paused(async {
        let only = Box::new(40);
        let (door, spec) =
            child_once(&Registry::new(), "log", MailboxConfig::default(), Place::Local, move || Owner(only));
        let mut root = supervisor("root", Strategy::OneForOne);
        root.add(spec);
        let tree = Tree::run(root);
        assert_eq!(door.ask(Add(2)).await, Ok(42));
        door.tell(Add(0)).unwrap();
        assert_eq!(tree.ended().await, fenced("log", "panicked: poisoned by nothing"));
    });
}

#[test]
#[should_panic(expected = "a child that fences would be restarted with its siblings")]
fn a_child_that_fences_may_not_share_the_fate_of_one_that_restarts() {
    let (registry, story) = (Registry::new(), Story::default());
    let mut root = supervisor("root", Strategy::RestForOne);
    root.add(worker(&registry, "session", &story).1);
    root.add(worker_at(&registry, "shard", &story, OnPanic::Fence, Place::Local).1);
}
