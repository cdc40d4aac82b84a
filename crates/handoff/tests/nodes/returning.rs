//! A target that was away has its hints soon after it is there.

use crate::house::{APPLIED, Node, id, in_system, introduce, until};
use kula_disk::SimDisk;
use kula_wire::verbs::replica::{Refused, Served};

#[test]
fn hints_survive_a_restart_and_are_delivered_when_their_target_returns() {
    in_system(async {
        let first = Node::start(1, SimDisk::new(1), APPLIED).await;
        for answer in first.store(2, 0..3_000) {
            answer.await.unwrap().unwrap();
        }
        assert_eq!(first.owed(2), 3_000, "counted before it is answered");
        let disk = first.stop().await;

        let again = Node::start(1, disk, APPLIED).await;
        assert_eq!(again.owed(2), 3_000, "counted before the tree runs");
        let oldest = again.handoff.counts().load().of(id(2)).unwrap().oldest;
        assert!(oldest.micros() > 0);
        let target = Node::start(2, SimDisk::new(2), APPLIED).await;
        introduce(&[&again, &target]);
        until(|| again.owed(2) == 0).await;
        assert_eq!(target.applied.lock().unwrap().len(), 3_000);

        // What comes now is delivered at once: the target is there.
        for answer in again.store(2, 3_000..3_010) {
            answer.await.unwrap().unwrap();
        }
        until(|| again.owed(2) == 0).await;
        assert_eq!(target.applied.lock().unwrap().len(), 3_010);
        let disk = again.stop().await;
        target.stop().await;

        let last = Node::start(1, disk, APPLIED).await;
        assert_eq!(last.owed(2), 0, "what was delivered is not owed again");
        last.stop().await;
    });
}

#[test]
fn a_target_that_refuses_and_loses_answers_has_all_of_them_in_the_end() {
    in_system(async {
        let owing = Node::start(1, SimDisk::new(1), APPLIED).await;
        for answer in owing.store(2, 0..300) {
            answer.await.unwrap().unwrap();
        }
        let target = Node::start(2, SimDisk::new(2), |asked| match asked {
            0..10 => Some(Err(Refused::Behind)),
            10..20 => None,
            20..30 => Some(Err(Refused::Overloaded { path: "storage/shard/0".into(), depth: 9, cap: 9 })),
            _ => Some(Ok(Served::Applied)),
        });
        let target = target.await;
        introduce(&[&owing, &target]);
        until(|| owing.owed(2) == 0).await;
        assert_eq!(target.applied.lock().unwrap().len(), 300);
        owing.stop().await;
        target.stop().await;
    });
}

/// The link is cut again and again while hints go over it.
#[test]
fn a_target_that_comes_and_goes_has_all_of_them_in_the_end() {
    in_system(async {
        let owing = Node::start(1, SimDisk::new(1), APPLIED).await;
        let target = Node::start(2, SimDisk::new(2), APPLIED).await;
        for round in 0..3_i64 {
            let answers = owing.store(2, round * 1_000..(round + 1) * 1_000);
            introduce(&[&owing, &target]);
            for answer in answers {
                answer.await.unwrap().unwrap();
            }
            let some = usize::try_from(round * 1_000 + 100).unwrap();
            until(|| target.applied.lock().unwrap().len() >= some).await;
            // Nobody is a member any more: the link goes.
            owing.peers.admit(Default::default());
        }
        introduce(&[&owing, &target]);
        until(|| owing.owed(2) == 0).await;
        assert_eq!(target.applied.lock().unwrap().len(), 3_000);
        owing.stop().await;
        target.stop().await;
    });
}
