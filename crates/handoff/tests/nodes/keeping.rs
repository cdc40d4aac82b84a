//! What waits for a sync, and what is refused instead.

use crate::house::{APPLIED, Node, id, in_system, until};
use bytes::Bytes;
use kula_actor::Reply;
use kula_disk::{SimDisk, sim::Survivors};
use kula_handoff::{Handoff, HandoffError, StoreHint};
use kula_types::Token;

#[test]
fn what_is_told_before_a_stop_is_synced_before_the_exit() {
    in_system(async {
        let node = Node::start(1, SimDisk::new(1), APPLIED).await;
        for answer in node.store(2, 500..501) {
            answer.await.unwrap().unwrap();
        }
        let answers = node.store(2, 0..500);
        let disk = node.stop().await;
        for answer in answers {
            answer.await.unwrap().unwrap();
        }
        let again = Node::start(1, disk.crash(Survivors::None), APPLIED).await;
        assert_eq!(again.owed(2), 501);
        again.stop().await;
    });
}

#[test]
fn more_than_may_wait_is_refused_at_once_and_shown() {
    in_system(async {
        // Nobody takes messages yet.
        let made = Node::make(1, SimDisk::new(1), APPLIED).await;
        let large = Bytes::from(vec![7; 15 << 20]);
        let mut answers = Vec::new();
        for token in 0..6 {
            let (reply, answer) = Reply::pair();
            answers.push(answer);
            let hint = StoreHint { target: id(2), token: Token(token), mutation: large.clone(), reply };
            made.handoff().store(vec![hint]);
        }
        let node = made.run();
        let mut refused = 0;
        for answer in answers {
            match answer.await.unwrap() {
                // Eight megabytes are owed to one target at most.
                Err(HandoffError::Full { max, .. }) => assert_eq!(max, 8 << 20),
                Err(HandoffError::Overloaded { .. }) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(refused, 2, "64 MiB wait at most");
        until(|| node.handoff.counts().load().of(id(2)).is_some_and(|hints| hints.not_kept == 6)).await;
        assert_eq!(node.owed(2), 0);
        node.stop().await;
    });
}

#[test]
fn a_node_without_hand_off_refuses() {
    in_system(async {
        let (reply, answer) = Reply::pair();
        let hint = StoreHint { target: id(2), token: Token(1), mutation: Bytes::new(), reply };
        Handoff::none().store(vec![hint]);
        assert_eq!(answer.await.unwrap(), Err(HandoffError::Closed));
        assert!(Handoff::none().counts().load().targets.is_empty());
    });
}
