//! The laws of frames and messages: round trips, any bytes, any split, any flipped byte, golden bytes.

use crate::{
    Blob, Frame, FrameDecoder, FrameError, Kind, Lane, MessageError, Room, Verb, decode, encode, limits,
    verbs::{
        catalog::{PullSchema, PulledSchema, SchemaIs},
        gossip::{About, Ack, Delta, Digest, Help, Probe, Push, Saying, Suspicion, Syn},
        link::{Fault, Hello, Introduction, Ping, Refusal, Welcome},
        replica::{Answer, Apply, Fence, Origin, RangePage, RangeRow, Read, ReadRange, Refused, Served, Wanted},
        ring::{Accept, Accepted, Ballot, Learn, Objection, Prepare, Prepared, PullRing, PulledRing, Vote},
        status::{self, AskView, Health, HintsFor, NodeView, RefusedPeer, Sight, SlowestMailbox},
    },
};
use bytes::{Bytes, BytesMut};
use kula_types::{ClusterId, Life, NodeId, TableId, Timestamp, Token};
use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt::Debug, fmt::Write as _, ops::Bound, time::Duration};
use tokio_util::codec::Decoder as _;

fn frames() -> impl Strategy<Value = Frame> {
    let kind = prop_oneof![Just(Kind::Request), Just(Kind::Response), Just(Kind::OneWay), Just(Kind::Fault)];
    let lane = prop_oneof![Just(Lane::Urgent), Just(Lane::Request), Just(Lane::Bulk)];
    let body = prop::collection::vec(any::<u8>(), 0..300);
    let parts = (kind, lane, any::<u16>(), any::<u64>(), any::<u32>(), any::<u64>(), body);
    parts.prop_map(|(kind, lane, verb, request, deadline_ms, trace, body)| Frame {
        kind,
        lane,
        verb,
        request,
        deadline_ms,
        trace,
        body: body.into(),
    })
}

const CLOCK: Timestamp = Timestamp::MAX;

fn bytes_of(frames: &[Frame]) -> BytesMut {
    let mut bytes = BytesMut::new();
    frames.iter().for_each(|frame| frame.write(CLOCK, &mut bytes));
    bytes
}

/// All frames of a stream that comes in pieces.
fn read(decoder: &mut FrameDecoder, pieces: &[&[u8]]) -> Result<Vec<Frame>, FrameError> {
    let (mut input, mut frames) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        while let Some((frame, clock)) = decoder.decode(&mut input)? {
            assert_eq!(clock, CLOCK);
            frames.push(frame);
        }
    }
    Ok(frames)
}

fn trusting() -> FrameDecoder {
    FrameDecoder::new(limits::FRAME_BYTES_MAX)
}

proptest! {
    #[test]
    fn any_split_of_a_stream_gives_the_same_frames(sent in prop::collection::vec(frames(), 0..5), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let bytes = bytes_of(&sent);
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(read(&mut trusting(), &pieces).unwrap(), sent);
    }

    // Promise: P19, R42
    #[test]
    fn any_flipped_byte_is_refused(frame in frames(), at in any::<prop::sample::Index>(), flip in 1..=255u8) {
        let mut bytes = bytes_of(std::slice::from_ref(&frame));
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        // A changed length may want more bytes: give it some.
        let more = vec![0; 400];
        let read = read(&mut trusting(), &[&bytes, &more]);
        prop_assert!(read.as_ref().map_or(true, Vec::is_empty), "{:?}", read);
    }

    // Promise: P19
    #[test]
    fn any_bytes_never_panic_nor_grow_a_strangers_buffer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut input = BytesMut::from(&bytes[..]);
        let mut decoder = FrameDecoder::new(limits::HANDSHAKE_FRAME_BYTES_MAX);
        while let Ok(Some(_)) = decoder.decode(&mut input) {}
        prop_assert!(input.capacity() <= bytes.len() + 2 * limits::HANDSHAKE_FRAME_BYTES_MAX);
    }

    // Promise: P19
    #[test]
    fn any_body_never_panics(body in prop::collection::vec(any::<u8>(), 0..120)) {
        drop(decode::<Hello>(&body));
        drop(decode::<Result<Welcome, Refusal>>(&body));
        drop(decode::<Fault>(&body));
        drop(decode::<Apply>(&body));
        drop(decode::<Read>(&body));
        drop(decode::<ReadRange>(&body));
        drop(decode::<Answer>(&body));
        drop(decode::<Syn>(&body));
        drop(decode::<Ack>(&body));
        drop(decode::<Push>(&body));
        drop(decode::<Help>(&body));
        drop(decode::<AskView>(&body));
        drop(decode::<Prepare>(&body));
        drop(decode::<Prepared>(&body));
        drop(decode::<Accept>(&body));
        drop(decode::<Accepted>(&body));
        drop(decode::<PulledRing>(&body));
        drop(decode::<PulledSchema>(&body));
        drop(decode::<NodeView>(&body));
    }

    #[test]
    fn a_mutation_comes_back_whole(mutation in prop::collection::vec(any::<u8>(), 0..5_000), token: i64, version: u64) {
        let origin = Origin::Client { contextless: token > 0 };
        let fence = Fence { ring_version: version, phase: 3 };
        let apply = Apply { fence, token: Token(token), mutation: Bytes::from(mutation).into(), origin };
        prop_assert_eq!(decode::<Apply>(&encode(&apply).unwrap()).unwrap(), apply);
    }
}

// Promise: P19
#[test]
fn a_length_past_the_bound_is_refused_before_its_bytes() {
    let stranger = read(&mut FrameDecoder::new(limits::HANDSHAKE_FRAME_BYTES_MAX), &[&5_000u32.to_le_bytes()]);
    assert!(matches!(stranger, Err(FrameError::TooLong { max: limits::HANDSHAKE_FRAME_BYTES_MAX })));
    let peer = read(&mut trusting(), &[&u32::MAX.to_le_bytes()]);
    assert!(matches!(peer, Err(FrameError::TooLong { max: limits::FRAME_BYTES_MAX })));
}

#[test]
fn a_length_alone_reserves_nothing() {
    let mut decoder = trusting();
    let mut input = BytesMut::from(&u32::try_from(limits::FRAME_BYTES_MAX).unwrap().to_le_bytes()[..]);
    for _ in 0..2 {
        assert!(decoder.decode(&mut input).unwrap().is_none());
        assert!(input.capacity() < 1_000, "{} bytes reserved", input.capacity());
        input.extend_from_slice(&[0; 100]);
    }
}

#[test]
fn a_time_that_is_none_is_refused() {
    let none = encode(&i64::MIN).unwrap();
    assert_eq!(decode::<Timestamp>(&none), Err(MessageError::Malformed));
    assert_eq!(decode::<Timestamp>(&encode(&-5i64).unwrap()).unwrap(), Timestamp::from_micros(-5).unwrap());
}

// Promise: P19
#[test]
fn a_body_that_claims_a_terabyte_or_goes_on_is_refused() {
    // bincode's mark for a 64-bit length, and a terabyte.
    let claim = [253, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    assert_eq!(decode::<String>(&claim), Err(MessageError::Malformed));
    assert_eq!(decode::<Blob>(&claim), Err(MessageError::Malformed));
    assert_eq!(decode::<u8>(&[7, 7]), Err(MessageError::Trailing { extra: 1 }));
    let long = Blob(vec![0; limits::BODY_BYTES_MAX].into());
    assert!(matches!(encode(&long), Err(MessageError::TooLarge { .. })));
}

#[test]
fn a_verbs_code_names_its_room() {
    assert_eq!(
        (Hello::ROOM, Ping::ROOM, Apply::ROOM, Read::ROOM),
        (Room::Link, Room::Link, Room::Replica, Room::Replica)
    );
}

fn golden<M: Serialize + DeserializeOwned + PartialEq + Debug>(out: &mut String, name: &str, message: &M) {
    let body = encode(message).unwrap();
    assert_eq!(decode::<M>(&body).unwrap(), *message);
    let hex: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(out, "{name} {hex}").unwrap();
}

#[test]
fn the_bytes_of_protocol_version_1() {
    let node = NodeId(uuid::Uuid::from_bytes([1; 16]));
    let cluster = ClusterId(uuid::Uuid::from_bytes([2; 16]));
    let introduction = Introduction {
        cluster: Some(cluster),
        cluster_name: "c".into(),
        node,
        life: Life(3),
        boot: 4,
        name: "n1".into(),
        address: "h:7".into(),
        ring_version: 5,
        lease_found: Timestamp::from_micros(6).ok(),
    };
    let hello = Hello { protocol_min: 1, protocol_max: 2, introduction: introduction.clone() };
    let blob = |bytes: &'static [u8]| Blob(Bytes::from_static(bytes));
    let (fence, table) = (Fence { ring_version: 6, phase: 1 }, TableId([9; 16]));
    let mut out = String::new();
    golden(&mut out, "hello", &hello);
    golden::<Result<Welcome, Refusal>>(&mut out, "welcome", &Ok(Welcome { protocol: 1, introduction }));
    let refusals = [
        Refusal::OtherCluster { ours: "a".into(), theirs: "b".into() },
        Refusal::OtherClusterId { name: "a".into(), ours: cluster, theirs: cluster },
        Refusal::SameNodeIdOtherBoot { node, address: "h".into() },
        Refusal::LifeChanged { node },
        Refusal::WentBack { node, behind_ms: Some(6) },
        Refusal::WentBack { node, behind_ms: None },
        Refusal::StrangerAtMembersAddress { address: "h".into(), member: "m".into() },
        Refusal::AnotherNode { address: "h".into(), expected: node, found: node },
        Refusal::Yourself,
        Refusal::ProtocolTooOld { ours: 2, theirs: 1 },
        Refusal::ProtocolTooNew { ours: 1, theirs: 2 },
        Refusal::Malformed,
    ];
    refusals.into_iter().for_each(|refusal| golden::<Result<Welcome, Refusal>>(&mut out, "refusal", &Err(refusal)));
    golden(&mut out, "ping", &Ping { leased: Timestamp::from_micros(7).ok() });
    for fault in [
        Fault::Overloaded { path: "p".into(), depth: 1, cap: 2 },
        Fault::UnknownVerb { verb: 3 },
        Fault::Expired,
        Fault::Lost,
    ] {
        golden(&mut out, "fault", &fault);
    }
    for origin in [Origin::Client { contextless: true }, Origin::Hint, Origin::Repair, Origin::Stream] {
        golden(&mut out, "apply", &Apply { fence, token: Token(-7), mutation: blob(b"mu"), origin });
    }
    let now = Timestamp::from_micros(8).unwrap();
    let bounds = [
        (Bound::Unbounded, Wanted::Data),
        (Bound::Included(blob(b"a")), Wanted::Digest),
        (Bound::Excluded(blob(b"b")), Wanted::Data),
    ];
    for (from, answer) in bounds {
        let read = Read { fence, table, token: Token(7), key: blob(b"k"), from, to: Bound::Unbounded, answer, now };
        golden(&mut out, "read", &read);
    }
    for served in [Served::Applied, Served::Data(blob(b"pa")), Served::Digest { digest: 11, seal: 12 }] {
        golden::<Answer>(&mut out, "served", &Ok(served));
    }
    let refused = [
        Refused::StaleRing { have: 1 },
        Refused::Behind,
        Refused::UnknownTable { table },
        Refused::Overloaded { path: "p".into(), depth: 1, cap: 2 },
        Refused::Expired,
        Refused::ClockAhead { by: Duration::from_millis(1) },
        Refused::DiskFull { wrote: true },
        Refused::TooLarge { bytes: 1, max: 2 },
        Refused::SiblingCap { siblings: 1, bytes: 2 },
        Refused::Damaged,
        Refused::InvalidMutation,
        Refused::Misplaced,
        Refused::Closed,
        Refused::Fenced,
    ];
    refused.into_iter().for_each(|refused| golden::<Answer>(&mut out, "refused", &Err(refused)));
    let (after, through) = ((Token(7), blob(b"k")), Token(8));
    golden(&mut out, "read_range", &ReadRange { fence, table, after, through, partitions_max: 9, bytes_max: 10 });
    let rows = vec![RangeRow { token: Token(8), key: blob(b"k"), partition: blob(b"pa") }];
    for resume in [None, Some((Token(8), blob(b"k")))] {
        golden::<Answer>(&mut out, "served", &Ok(Served::Range(RangePage { rows: rows.clone(), resume })));
    }
    let body = Bytes::from_static(b"body");
    let frame = Frame { kind: Kind::Fault, lane: Lane::Bulk, verb: 0x0102, request: 3, deadline_ms: 4, trace: 5, body };
    let hex: String = bytes_of(&[frame]).iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(out, "frame {hex}").unwrap();
    insta::with_settings!({ snapshot_path => "../testdata", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("protocol_1", out);
    });
}

#[test]
fn the_bytes_of_gossip() {
    let node = NodeId(uuid::Uuid::from_bytes([1; 16]));
    let introduction = Introduction {
        cluster: None,
        cluster_name: "c".into(),
        node,
        life: Life(3),
        boot: 4,
        name: "n1".into(),
        address: "h:7".into(),
        ring_version: 5,
        lease_found: None,
    };
    let about = About { http_address: "h:8".into(), dc: "d".into(), rack: "r".into(), weight: 6 };
    let suspicion = Suspicion { target: node, generation: 7, refutation: 8, missed: 9 };
    let sayings = [
        Saying::Introduction(introduction),
        Saying::About(about),
        Saying::Heartbeat(10),
        Saying::Refutation(11),
        Saying::Leaving,
        Saying::Fact { key: 12, value: Blob(Bytes::from_static(b"fact")) },
        Saying::Suspicions(vec![suspicion]),
    ];
    let news = (1..).zip(sayings).collect();
    let deltas = vec![Delta { node, generation: 13, base: 0, version: 14, news }];
    let digests = vec![Digest { node, generation: 15, version: 16 }];
    let mut out = String::new();
    golden(&mut out, "syn", &Syn { digests: digests.clone() });
    golden(&mut out, "ack", &Ack { deltas: deltas.clone(), wants: digests });
    golden(&mut out, "push", &Push { deltas });
    golden(&mut out, "probe", &Probe);
    golden(&mut out, "help", &Help { target: node });
    insta::with_settings!({ snapshot_path => "../testdata", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("protocol_1_gossip", out);
    });
}

fn node_view() -> NodeView {
    let (node, other) = (NodeId(uuid::Uuid::from_bytes([1; 16])), NodeId(uuid::Uuid::from_bytes([2; 16])));
    let healths = [Health::Up, Health::Slow, Health::Suspect, Health::Down];
    NodeView {
        node,
        name: "n1".into(),
        stage: status::Stage::Ready,
        load_bytes: Some(3),
        shards_silent: 4,
        hints: vec![HintsFor { target: other, count: 5, bytes: 6, not_kept: 7 }],
        schema: 8,
        ring_version: 9,
        clock: Timestamp::from_micros(10).unwrap(),
        stamps_ahead_ms: 11,
        lease_lost: true,
        free_bytes: None,
        slowest: Some(SlowestMailbox { path: "p".into(), p99_us: 12 }),
        stuck: vec!["s".into()],
        cut_off: false,
        sees: healths.map(|health| Sight { node: other, name: "n2".into(), health, since_ms: 13 }).to_vec(),
        refused: vec![RefusedPeer { peer: "n3".into(), why: "w".into() }],
    }
}

#[test]
fn the_bytes_of_a_view() {
    let mut out = String::new();
    golden(&mut out, "ask_view", &AskView);
    for stage in [status::Stage::Starting, status::Stage::Ready, status::Stage::Stopping] {
        golden(&mut out, "node_view", &NodeView { stage, ..node_view() });
    }
    insta::with_settings!({ snapshot_path => "../testdata", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("protocol_1_status", out);
    });
}

#[test]
fn a_view_without_bounds_is_no_view() {
    assert!(node_view().is_sound());
    let sight = node_view().sees[0].clone();
    let crowd = NodeView { sees: vec![sight; status::MEMBERS_MAX + 1], ..node_view() };
    let chatty = NodeView { stuck: vec!["x".repeat(10_000)], ..node_view() };
    let named = NodeView { name: "n".repeat(limits::TEXT_BYTES_MAX + 1), ..node_view() };
    assert!(![crowd, chatty, named].iter().any(NodeView::is_sound));
}

#[test]
fn the_bytes_of_the_ring_and_the_catalogue() {
    let (node, cluster) = (NodeId(uuid::Uuid::from_bytes([1; 16])), ClusterId(uuid::Uuid::from_bytes([2; 16])));
    let (ballot, ring) = (Ballot { round: 3, node }, Blob(Bytes::from_static(b"ring")));
    let mut out = String::new();
    golden(&mut out, "prepare", &Prepare { cluster, version: 4, ballot });
    golden(&mut out, "prepared", &Prepared::Promised { vote: None });
    golden(&mut out, "prepared", &Prepared::Promised { vote: Some(Vote { ballot, ring: ring.clone() }) });
    golden(&mut out, "accept", &Accept { cluster, version: 4, ballot, ring: ring.clone() });
    golden(&mut out, "accepted", &Accepted::Yes);
    let objections = [
        Objection::Promised { ballot },
        Objection::Decided { ring: ring.clone() },
        Objection::Behind { have: 5 },
        Objection::Stranger,
        Objection::NotKept,
    ];
    for objection in objections {
        golden(&mut out, "prepared", &Prepared::No(objection.clone()));
        golden(&mut out, "accepted", &Accepted::No(objection));
    }
    golden(&mut out, "learn", &Learn { ring: ring.clone() });
    golden(&mut out, "pull_ring", &PullRing { have: 6 });
    let not_a_member = PulledRing::NotAMember { cluster, version: 7, members: 8 };
    for pulled in [PulledRing::Nothing, PulledRing::Newer { ring }, not_a_member] {
        golden(&mut out, "pulled_ring", &pulled);
    }
    golden(&mut out, "schema_is", &SchemaIs { digest: 9, ring_version: 10 });
    golden(&mut out, "pull_schema", &PullSchema { digest: u128::MAX });
    for pulled in [PulledSchema::Same, PulledSchema::Schema(Blob(Bytes::from_static(b"schema")))] {
        golden(&mut out, "pulled_schema", &pulled);
    }
    let rooms = [Prepare::ROOM, Accept::ROOM, Learn::ROOM, PullRing::ROOM, SchemaIs::ROOM, PullSchema::ROOM];
    assert_eq!(rooms, [Room::Ring, Room::Ring, Room::Ring, Room::Ring, Room::Catalog, Room::Catalog]);
    insta::with_settings!({ snapshot_path => "../testdata", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("protocol_1_ring_catalog", out);
    });
}
