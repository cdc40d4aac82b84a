//! Meeting, announcing, dying, coming back and leaving.

use crate::house::*;
use bytes::Bytes;
use kula_gossip::{FactKey, GossipEvent, State};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn three_nodes_meet_and_hear_what_is_announced() {
    in_system(async {
        let (a, b, c) = (Node::start(1, 1, 1).await, Node::start(1, 2, 2).await, Node::start(1, 3, 3).await);
        let met = until(3 * SECOND, || a.sees_up(&[2, 3]) && b.sees_up(&[1, 3]) && c.sees_up(&[1, 2])).await;
        println!("three nodes saw each other up after {met:?}");
        a.gossip.announce(FactKey::RING, Bytes::copy_from_slice(&7u64.to_le_bytes()));
        let version = |node: &Node| node.gossip.membership().load().ring_version_of(id(1));
        let told = until(SECOND, || version(&b) == 7 && version(&c) == 7).await;
        println!("a fact was everywhere after {told:?}");
        let event = GossipEvent::FactChanged { node: id(1), key: FactKey::RING };
        until(SECOND, || b.has_heard(event) && c.has_heard(event)).await;
        assert_eq!(b.gossip.membership().load().get(id(3)).unwrap().about.http_address, "h3:7080");
        let metrics = a.registry.render_metrics();
        assert!(metrics.contains("kula_gossip_members{state=\"up\"} 3"), "{metrics}");
        for node in [a, b, c] {
            node.stop().await;
        }
    });
}

#[test]
fn a_killed_node_is_down_within_five_seconds_and_up_again_within_one() {
    in_system(async {
        let (a, b, c) = (Node::start(2, 1, 1).await, Node::start(2, 2, 2).await, Node::start(2, 3, 3).await);
        until(3 * SECOND, || a.sees_up(&[2, 3]) && b.sees_up(&[1, 3]) && c.sees_up(&[1, 2])).await;
        b.kill().await;
        let is_down = |node: &Node| node.state(2) == Some(State::Down);
        let down = until(5 * SECOND, || is_down(&a) && is_down(&c)).await;
        println!("a killed node was down everywhere after {down:?}");
        let view = a.gossip.membership().load().get(id(2)).unwrap().clone();
        assert_eq!((view.seen_by, view.suspected_here, view.left), (vec![id(1), id(3)], true, false));
        let events = [GossipEvent::PeerSuspected { node: id(2) }, GossipEvent::PeerDown { node: id(2) }];
        assert!(events.into_iter().all(|event| a.has_heard(event)));
        let b = Node::start(2, 2, 22).await;
        let up = until(2 * SECOND, || a.sees_up(&[2]) && c.sees_up(&[2]) && b.sees_up(&[1, 3])).await;
        println!("started again it was up everywhere after {up:?}");
        until(SECOND, || a.gossip.membership().load().get(id(2)).is_some_and(|view| view.introduction.boot == 22))
            .await;
        for node in [a, b, c] {
            node.stop().await;
        }
    });
}

#[test]
fn a_node_that_stops_cleanly_has_left_before_it_is_missed() {
    in_system(async {
        let (a, b) = (Node::start(3, 1, 1).await, Node::start(3, 2, 2).await);
        until(3 * SECOND, || a.sees_up(&[2]) && b.sees_up(&[1])).await;
        b.stop().await;
        until(SECOND, || a.state(2) == Some(State::Down)).await;
        assert!(a.gossip.membership().load().get(id(2)).unwrap().left);
        assert!(!a.has_heard(GossipEvent::PeerSuspected { node: id(2) }));
        a.stop().await;
    });
}

#[test]
fn whoever_subscribes_late_is_told_who_is_there() {
    in_system(async {
        let (a, b) = (Node::start(4, 1, 1).await, Node::start(4, 2, 2).await);
        until(3 * SECOND, || a.sees_up(&[2])).await;
        let late = a.listen();
        let told = [GossipEvent::Discovered { node: id(2) }, GossipEvent::PeerUp { node: id(2) }];
        until(SECOND, || late.lock().unwrap()[..] == told).await;
        for node in [a, b] {
            node.stop().await;
        }
    });
}
