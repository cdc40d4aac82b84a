//! Who is refused, by name, and who is hung up on.

use crate::house::*;
use bytes::{Bytes, BytesMut};
use kula_clock::Clock;
use kula_transport::{Admission, LinkState, Myself, RefusedPeer, limits};
use kula_types::{ClusterId, Life, Timestamp};
use kula_wire::{
    Frame, FrameDecoder, Kind, Lane, PROTOCOL_MAX, PROTOCOL_MIN, Verb, decode, encode,
    limits::HANDSHAKE_FRAME_BYTES_MAX,
    verbs::link::{Hello, Refusal, Welcome},
};
use std::sync::{Arc, Mutex};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::codec::Decoder;

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

// Promise: P2
#[test]
fn a_node_that_comes_back_with_an_older_directory_is_refused_by_name() {
    in_system(async {
        let (a, b) = (Node::start(1, 1, "127.88.29.1:0").await, Node::start(2, 2, "127.88.29.2:0").await);
        introduce(&[&a, &b]);
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000).unwrap();
        b.told.is_durable(Some(at(50)));
        b.connected(1).await;
        assert_eq!(b.echo(1).await.unwrap(), "hello", "a link's first ping goes before");
        let address = b.me.address.clone();
        b.stop().await;
        let older = |found: Option<i64>, boot: u64| Myself { lease_found: found.map(at), ..myself(2, boot, &address) };
        let restored = Node::start_as(older(Some(40), 3), 16).await;
        assert_eq!(refusal_of(&restored, &a).await, Refusal::WentBack { node: id(2), behind_ms: Some(10_000) });
        let refuses = || matches!(a.peers.link_state(id(2)), Some(LinkState::Refused(Refusal::WentBack { .. })));
        until(refuses).await;
        restored.stop().await;
        let accepted = Node::start_as(older(None, 4), 16).await;
        introduce(&[&a, &accepted]);
        a.connected(2).await;
        accepted.connected(1).await;
    });
}

/// Whether the other side hung up, having sent `bytes` at most.
async fn is_hung_up(socket: &mut TcpStream) -> bool {
    let mut sink = Vec::new();
    tokio::time::timeout(std::time::Duration::from_secs(9), socket.read_to_end(&mut sink)).await.is_ok()
}

// Promise: P19
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
        answer.write(Timestamp::MAX, &mut early);
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

/// The bytes of a request of verb `verb`.
fn request(verb: u16, request: u64, body: Bytes) -> BytesMut {
    let mut bytes = BytesMut::new();
    let frame = Frame { kind: Kind::Request, lane: Lane::Request, verb, request, deadline_ms: 0, trace: 0, body };
    frame.write(Timestamp::MAX, &mut bytes);
    bytes
}

fn hello_of(me: &Myself) -> Hello {
    let introduction = me.introduction(&Admission::default());
    Hello { protocol_min: PROTOCOL_MIN, protocol_max: PROTOCOL_MAX, introduction }
}

/// What a node answers to a first request, before it hangs up or goes on.
async fn answer_to(address: &str, body: Bytes) -> Result<Welcome, Refusal> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(&request(Hello::CODE, 1, body)).await.unwrap();
    let mut decoder = FrameDecoder::new(HANDSHAKE_FRAME_BYTES_MAX);
    let mut bytes = BytesMut::new();
    loop {
        assert!(socket.read_buf(&mut bytes).await.unwrap() > 0, "hung up on without a word");
        if let Some((frame, _)) = decoder.decode(&mut bytes).unwrap() {
            assert_eq!((frame.kind, frame.request), (Kind::Response, 1));
            return decode(&frame.body).unwrap();
        }
    }
}

#[test]
fn a_refusal_is_said_to_the_one_who_connected() {
    in_system(async {
        let a = Node::start(1, 1, "127.88.25.1:0").await;
        let hello = hello_of(&myself(3, 3, "127.88.25.3:1"));
        let newer = PROTOCOL_MAX + 1;
        let told = |hello: &Hello| answer_to(&a.me.address, encode(hello).unwrap());
        assert_eq!(
            told(&Hello { protocol_min: newer, protocol_max: newer, ..hello.clone() }).await,
            Err(Refusal::ProtocolTooNew { ours: PROTOCOL_MAX, theirs: newer })
        );
        assert_eq!(told(&Hello { protocol_min: 0, ..hello.clone() }).await, Err(Refusal::Malformed));
        let cut = encode(&hello).unwrap().slice(..20);
        assert_eq!(answer_to(&a.me.address, cut).await, Err(Refusal::Malformed));
        let mut long = encode(&hello).unwrap().to_vec();
        long.push(0);
        assert_eq!(answer_to(&a.me.address, long.into()).await, Err(Refusal::Malformed), "bytes behind the hello");
        assert!(told(&hello).await.is_ok());
    });
}

#[test]
fn another_cluster_of_the_same_name_is_refused_by_name_on_both_sides() {
    in_system(async {
        let (a, b) = (Node::start(1, 1, "127.88.26.1:0").await, Node::start(2, 2, "127.88.26.2:0").await);
        let cluster = |number: u8| ClusterId(uuid::Uuid::from_bytes([number; 16]));
        for (node, number) in [(&a, 1), (&b, 2)] {
            let cluster = Some(cluster(number));
            node.peers.admit(Admission { cluster, ring_version: 1, ..Admission::default() });
        }
        let expected = Refusal::OtherClusterId { name: "test".into(), ours: cluster(1), theirs: cluster(2) };
        assert_eq!(refusal_of(&b, &a).await, expected);
        let refused = a.peers.refused();
        assert_eq!((refused.len(), refused[0].node, &refused[0].why), (1, Some(id(2)), &expected));
    });
}

/// What people were warned of.
#[derive(Clone, Default)]
struct Warned(Arc<Mutex<Vec<String>>>);

impl slog::Drain for Warned {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &slog::Record<'_>, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
        if record.level().is_at_least(slog::Level::Warning) {
            self.0.lock().unwrap().push(record.msg().to_string());
        }
        Ok(())
    }
}

impl Warned {
    fn of(&self, message: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|warning| *warning == message).count()
    }

    fn log(&self) -> slog::Logger {
        slog::Logger::root(self.clone(), slog::o!())
    }
}

#[test]
fn a_refusal_that_goes_on_is_said_once_on_each_side() {
    in_system(async {
        let (warned_a, warned_b) = (Warned::default(), Warned::default());
        let a = Node::start_logging(myself(1, 1, "127.88.27.1:0"), 16, warned_a.log()).await;
        let foreign = Myself { cluster_name: "prod".into(), ..myself(2, 2, "127.88.27.2:0") };
        let b = Node::start_logging(foreign, 16, warned_b.log()).await;
        refusal_of(&b, &a).await;
        until(|| a.peers.refused().iter().any(|refused| refused.times >= 3)).await;
        assert_eq!((warned_a.of("refused a node"), warned_b.of("no connection")), (1, 1));
        let refused = a.peers.refused().remove(0);
        let expected = (Some(id(2)), "n2", b.me.address.as_str(), "127.0.0.1");
        let RefusedPeer { node, name, address, from, .. } = &refused;
        assert_eq!((*node, name.as_str(), address.as_str(), from.as_str()), expected);
    });
}

// Promise: P24
#[test]
fn half_open_connections_keep_no_peer_out() {
    in_system(async {
        let a = Node::start(1, 1, "127.88.28.1:0").await;
        let mut silent = Vec::new();
        for _ in 0..2 * limits::SHAKING_MAX {
            silent.push(TcpStream::connect(&a.me.address).await.unwrap());
        }
        let b = Node::start(2, 2, "127.88.28.2:0").await;
        let began = a.clock.mono();
        introduce(&[&a, &b]);
        b.connected(1).await;
        assert_eq!(b.echo(1).await.unwrap(), "hello");
        assert!(a.clock.mono().since(began) < limits::HANDSHAKE_WITHIN, "it waited until the strangers were gone");
        for mut evicted in silent.drain(..limits::SHAKING_MAX) {
            assert!(is_hung_up(&mut evicted).await);
        }
        for stranger in &mut silent {
            stranger.write_all(b"still here").await.unwrap();
        }
        for stranger in &mut silent {
            assert!(is_hung_up(stranger).await, "and not for ever");
        }
        assert_eq!(b.echo(1).await.unwrap(), "hello");
    });
}

// Promise: P9
#[test]
fn a_peer_that_stops_reading_is_cut() {
    in_system(async {
        let a = Node::start(1, 1, "127.88.24.1:0").await;
        let me = myself(3, 3, "127.88.24.3:1");
        let mut socket = TcpStream::connect(&a.me.address).await.unwrap();
        socket.write_all(&request(Hello::CODE, 1, encode(&hello_of(&me)).unwrap())).await.unwrap();
        let mut began = [0; 1];
        socket.read_exact(&mut began).await.unwrap();
        // Asks for more and more, and takes none of the answers.
        let ask = async {
            let body = Bytes::from(vec![1; 1 << 20]);
            for number in 2.. {
                if socket.write_all(&request(ECHO, number, body.clone())).await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(12), ask).await.unwrap();
    });
}
