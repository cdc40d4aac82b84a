//! Who is refused, by name, and who is hung up on.

use crate::house::*;
use bytes::{Bytes, BytesMut};
use kula_transport::{Admission, LinkState, Myself};
use kula_types::Life;
use kula_wire::{
    Frame, Kind, Lane, PROTOCOL_MAX, PROTOCOL_MIN, Verb, encode,
    verbs::link::{Hello, Refusal},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

async fn refusal_of(node: &Node, dials: &Node) -> Refusal {
    node.peers.dial(&dials.me.address);
    let mut refusal = None;
    until(|| {
        refusal = node.peers.known().into_iter().find_map(|peer| match peer.link {
            LinkState::Refused(refusal) if peer.address == dials.me.address => Some(refusal),
            _ => None,
        });
        refusal.is_some()
    })
    .await;
    refusal.unwrap()
}

#[test]
fn another_cluster_is_refused_by_name() {
    in_system(async {
        let a = Node::start(1, 1, "127.88.20.1:0").await;
        let foreign = Myself { cluster_name: "prod".into(), ..myself(2, 2, "127.88.20.2:0") };
        let b = Node::start_as(foreign, 16).await;
        let expected = Refusal::OtherCluster { ours: "test".into(), theirs: "prod".into() };
        assert_eq!(refusal_of(&b, &a).await, expected);
    });
}

#[test]
fn a_cloned_directory_is_refused_by_name() {
    in_system(async {
        let (a, b) = (Node::start(1, 1, "127.88.21.1:0").await, Node::start(2, 2, "127.88.21.2:0").await);
        introduce(&[&a, &b]);
        a.connected(2).await;
        b.connected(1).await;
        let clone = Node::start(2, 3, "127.88.21.3:0").await;
        let expected = Refusal::SameNodeIdOtherBoot { node: id(2), address: b.me.address.clone() };
        assert_eq!(refusal_of(&clone, &a).await, expected);
        assert_eq!(a.echo(2).await.unwrap(), "hello", "the first one is not disturbed");
    });
}

#[test]
fn a_changed_life_and_a_stranger_at_a_members_address_are_refused_by_name() {
    in_system(async {
        let (a, b) = (Node::start(1, 1, "127.88.22.1:0").await, Node::start(2, 2, "127.88.22.2:0").await);
        introduce(&[&a, &b]);
        a.connected(2).await;
        let address = b.me.address.clone();
        b.stop().await;
        let reborn = Myself { life: Life(9), ..myself(2, 4, &address) };
        let reborn = Node::start_as(reborn, 16).await;
        assert_eq!(refusal_of(&reborn, &a).await, Refusal::LifeChanged { node: id(2) });
        reborn.stop().await;
        let wiped = Node::start(7, 5, &address).await;
        let expected = Refusal::StrangerAtMembersAddress { address, member: "n2".into() };
        assert_eq!(refusal_of(&wiped, &a).await, expected);
        let refuses = || matches!(a.peers.link_state(id(2)), Some(LinkState::Refused(Refusal::AnotherNode { .. })));
        until(refuses).await;
    });
}

/// Whether the other side hung up, having sent `bytes` at most.
async fn is_hung_up(socket: &mut TcpStream) -> bool {
    let mut sink = Vec::new();
    tokio::time::timeout(std::time::Duration::from_secs(9), socket.read_to_end(&mut sink)).await.is_ok()
}

#[test]
fn garbage_is_hung_up_on_and_hurts_nobody() {
    in_system(async {
        let (a, b) = (Node::start(1, 1, "127.88.23.1:0").await, Node::start(2, 2, "127.88.23.2:0").await);
        introduce(&[&a, &b]);
        b.connected(1).await;
        let answer = Frame {
            kind: Kind::OneWay,
            lane: Lane::Bulk,
            verb: ECHO,
            request: 0,
            deadline_ms: 0,
            trace: 0,
            body: Bytes::new(),
        };
        let mut early = BytesMut::new();
        answer.write(&mut early);
        let texts: [&[u8]; 4] = [b"GET / HTTP/1.1\r\n\r\n", &[0xFF; 64], &[0; 64], &early];
        for text in texts {
            let mut socket = TcpStream::connect(&a.me.address).await.unwrap();
            socket.write_all(text).await.unwrap();
            assert!(is_hung_up(&mut socket).await, "{text:?}");
        }
        assert_eq!(b.echo(1).await.unwrap(), "hello");
        assert!(a.seen.lock().unwrap().iter().all(|(_, bytes)| *bytes == 5), "nothing early reached a room");
    });
}

#[test]
fn a_peer_that_stops_reading_is_cut() {
    in_system(async {
        let a = Node::start(1, 1, "127.88.24.1:0").await;
        let me = myself(3, 3, "127.88.24.3:1");
        let introduction = me.introduction(&Admission::default());
        let hello = Hello { protocol_min: PROTOCOL_MIN, protocol_max: PROTOCOL_MAX, introduction };
        let frame = |verb: u16, request: u64, body: Bytes| {
            let mut bytes = BytesMut::new();
            let frame =
                Frame { kind: Kind::Request, lane: Lane::Request, verb, request, deadline_ms: 0, trace: 0, body };
            frame.write(&mut bytes);
            bytes
        };
        let mut socket = TcpStream::connect(&a.me.address).await.unwrap();
        socket.write_all(&frame(Hello::CODE, 1, encode(&hello).unwrap())).await.unwrap();
        let mut began = [0; 1];
        socket.read_exact(&mut began).await.unwrap();
        // Asks for more and more, and takes none of the answers.
        let ask = async {
            let body = Bytes::from(vec![1; 1 << 20]);
            for request in 2.. {
                if socket.write_all(&frame(ECHO, request, body.clone())).await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(12), ask).await.unwrap();
    });
}
