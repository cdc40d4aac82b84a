//! Asking, being overloaded, losing and finding a peer again.

use crate::house::*;
use bytes::Bytes;
use futures::future::join_all;
use kula_transport::{LinkState, TransportError, limits};
use kula_wire::Lane;

#[test]
fn three_nodes_answer_each_other_in_all_directions() {
    in_system(async {
        let (a, b, c) = (
            Node::start(1, 1, "127.88.1.1:0").await,
            Node::start(2, 2, "127.88.1.2:0").await,
            Node::start(3, 3, "127.88.1.3:0").await,
        );
        introduce(&[&a, &b, &c]);
        for (node, others) in [(&a, [2, 3]), (&b, [1, 3]), (&c, [1, 2])] {
            for other in others {
                node.connected(other).await;
                assert_eq!(node.echo(other).await.unwrap(), "hello");
            }
        }
        let big = Bytes::from(vec![7; 3 << 20]);
        assert_eq!(a.send(2, Lane::Bulk, ECHO, big.clone(), 5_000).await.unwrap(), big);
        for node in [a, b, c] {
            node.stop().await;
        }
    });
}

#[test]
fn a_dialled_address_becomes_a_peer_and_its_own_address_does_not() {
    in_system(async {
        let (a, b) = (Node::start(1, 1, "0.0.0.0:0").await, Node::start(2, 2, "127.88.2.2:0").await);
        let port = a.me.address.rsplit(':').next().unwrap();
        a.peers.dial(&format!("127.88.2.1:{port}"));
        a.peers.dial(&b.me.address);
        a.connected(2).await;
        assert_eq!(a.echo(2).await.unwrap(), "hello");
        assert_eq!(b.echo(1).await, Err(TransportError::NotConnected), "links are one way");
        until(|| a.peers.known().len() == 1).await;
    });
}

#[test]
fn a_lost_peer_is_told_apart_and_found_again() {
    in_system(async {
        let (a, b) = (Node::start(1, 1, "127.88.3.1:0").await, Node::start(2, 2, "127.88.3.2:0").await);
        introduce(&[&a, &b]);
        a.connected(2).await;
        let kept = a.send(2, Lane::Request, KEEP, Bytes::new(), 5_000);
        until(|| !b.seen.lock().unwrap().is_empty()).await;
        let address = b.me.address.clone();
        b.stop().await;
        assert_eq!(kept.await, Err(TransportError::Lost), "it was sent");
        until(|| matches!(a.peers.link_state(id(2)), Some(LinkState::Down { .. }))).await;
        assert_eq!(a.echo(2).await, Err(TransportError::NotConnected));
        let again = Node::start(2, 22, &address).await;
        a.connected(2).await;
        assert_eq!(a.echo(2).await.unwrap(), "hello");
        drop(again);
    });
}

#[test]
fn a_request_without_an_answer_times_out_and_a_dropped_one_is_lost() {
    in_system(async {
        let (a, b) = (Node::start(1, 1, "127.88.4.1:0").await, Node::start(2, 2, "127.88.4.2:0").await);
        introduce(&[&a, &b]);
        a.connected(2).await;
        assert_eq!(a.send(2, Lane::Request, KEEP, Bytes::new(), 60).await, Err(TransportError::TimedOut));
        assert_eq!(a.send(2, Lane::Request, DROP, Bytes::new(), 2_000).await, Err(TransportError::Lost));
        assert_eq!(a.send(2, Lane::Request, ECHO, Bytes::new(), 0).await, Err(TransportError::Expired));
        let unknown = a.send(2, Lane::Request, 0x0777, Bytes::new(), 2_000).await;
        assert_eq!(unknown, Err(TransportError::UnknownVerb { verb: 0x0777 }));
    });
}

#[test]
fn a_full_link_says_so_and_nothing_was_sent() {
    in_system(async {
        let (a, b) = (Node::start(1, 1, "127.88.5.1:0").await, Node::start(2, 2, "127.88.5.2:0").await);
        introduce(&[&a, &b]);
        a.connected(2).await;
        let mut waiting = Vec::new();
        for _ in 0..limits::REQUESTS_MAX / 64 {
            waiting.extend((0..64).map(|_| a.send(2, Lane::Request, KEEP, Bytes::new(), 500)));
            tokio::task::yield_now().await;
        }
        until(|| b.seen.lock().unwrap().len() == limits::REQUESTS_MAX).await;
        let more = a.echo(2).await.unwrap_err();
        assert!(matches!(more, TransportError::Overloaded { .. }), "{more:?}");
        assert!(more.nothing_was_done());
        let outcomes = join_all(waiting).await;
        assert!(outcomes.iter().all(|outcome| *outcome == Err(TransportError::TimedOut)));
    });
}

#[test]
fn a_full_room_at_the_peer_is_named() {
    in_system(async {
        let a = Node::start(1, 1, "127.88.6.1:0").await;
        let b = Node::start_as(myself(2, 2, "127.88.6.2:0"), 1).await;
        introduce(&[&a, &b]);
        a.connected(2).await;
        // A message that waits fills the room when the session runs before it.
        let mut named = 0;
        for _ in 0..200 {
            let asked = a.echo(2);
            b.room.tell(Fill).ok();
            let filler = async {
                for _ in 0..20 {
                    b.room.tell(Fill).ok();
                    tokio::task::yield_now().await;
                }
            };
            let (outcome, ()) = futures::join!(asked, filler);
            match outcome {
                Ok(_) => {}
                Err(TransportError::Overloaded { path, cap, .. }) => {
                    assert_eq!((path.as_ref(), cap), ("n2:room", 1));
                    named += 1;
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        assert!(named > 0);
    });
}

#[test]
fn an_urgent_frame_overtakes_a_flood_of_bulk() {
    in_system(async {
        let (a, b) = (Node::start(1, 1, "127.88.7.1:0").await, Node::start(2, 2, "127.88.7.2:0").await);
        introduce(&[&a, &b]);
        a.connected(2).await;
        let body = Bytes::from(vec![1; 128 << 10]);
        let flood: Vec<_> = (0..250).map(|_| a.send(2, Lane::Bulk, DROP, body.clone(), 5_000)).collect();
        until(|| !b.seen.lock().unwrap().is_empty()).await;
        let urgent = a.send(2, Lane::Urgent, ECHO, Bytes::new(), 5_000);
        assert!(urgent.await.is_ok());
        join_all(flood).await;
        let seen = b.seen.lock().unwrap();
        let place = seen.iter().position(|(verb, _)| *verb == ECHO).unwrap();
        assert_eq!(seen.len(), 251);
        assert!(place < 125, "the urgent frame came behind {place} of 250 bulk frames");
    });
}
