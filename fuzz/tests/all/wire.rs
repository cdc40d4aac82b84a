//! What a peer may send: frames of a stream, with wrong and with right checksums, and the bodies of every verb.
//!
//! Promise: P19

use crate::{input::Input, meter::Meter, target};
use bytes::{Bytes, BytesMut};
use kula_types::{NodeId, Timestamp};
use kula_wire::{
    Frame, FrameDecoder, Kind, Lane, decode, encode, limits,
    verbs::{catalog, gossip, link, replica, ring, status},
};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use tokio_util::codec::Decoder;

/// A frame's buffer is the input's own; bodies are slices of it.
const FRAME_FACTOR: usize = 2;
/// A digest of 4 bytes becomes a struct of 40, and a list grows by doubling.
const BODY_FACTOR: usize = 64;

/// The released bytes of protocol version 1, each with the name of its verb.
const GOLDEN: [&str; 4] = [
    include_str!("../../../crates/wire/testdata/protocol_1.snap"),
    include_str!("../../../crates/wire/testdata/protocol_1_gossip.snap"),
    include_str!("../../../crates/wire/testdata/protocol_1_ring_catalog.snap"),
    include_str!("../../../crates/wire/testdata/protocol_1_status.snap"),
];

fn bodies() -> Vec<Bytes> {
    let lines = GOLDEN.iter().flat_map(|page| page.lines()).filter_map(|line| line.split_once(' '));
    let bytes = |hex: &str| {
        let digit = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
        (0..hex.len()).step_by(2).map(digit).collect::<Option<Vec<u8>>>()
    };
    lines.filter_map(|(_, hex)| bytes(hex)).map(Bytes::from).collect()
}

/// What decodes says the same when it is sent on.
fn is<M: Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8], meter: &Meter) -> bool {
    let Ok(message) = meter.bounded(body.len(), BODY_FACTOR, || decode::<M>(body)) else { return false };
    let again = encode(&message).unwrap();
    assert!(again.len() <= body.len(), "the shortest form is ours");
    assert_eq!(decode::<M>(&again).unwrap(), message);
    true
}

macro_rules! any_of {
    ($input:expr, $meter:expr, $($message:ty),+ $(,)?) => {
        [$(is::<$message>(&$input.bytes, $meter)),+].contains(&true)
    };
}

fn of_links(input: &Input, meter: &Meter) -> bool {
    any_of!(input, meter, link::Hello, link::Welcome, link::Refusal, link::Fault)
}

fn of_gossip(input: &Input, meter: &Meter) -> bool {
    any_of!(input, meter, gossip::Syn, gossip::Ack, gossip::Push, gossip::Help)
}

fn of_values(input: &Input, meter: &Meter) -> bool {
    any_of!(
        input,
        meter,
        ring::Prepare,
        ring::Prepared,
        ring::Accept,
        ring::Accepted,
        ring::Learn,
        ring::PullRing,
        ring::PulledRing,
        catalog::SchemaIs,
        catalog::PullSchema,
        catalog::PulledSchema,
        status::NodeView,
    )
}

fn of_replicas(input: &Input, meter: &Meter) -> bool {
    any_of!(input, meter, replica::Apply, replica::Read, replica::ReadRange, replica::Answer)
}

fn frames() -> Vec<Bytes> {
    let parts = [(Kind::Request, Lane::Urgent), (Kind::Response, Lane::Request), (Kind::OneWay, Lane::Bulk)];
    let frame = |(at, body): (usize, Bytes)| {
        let (kind, lane) = parts[at % parts.len()];
        let mut out = BytesMut::new();
        let number = at as u64;
        Frame { kind, lane, verb: 0x0501, request: number, deadline_ms: 500, trace: number, body }
            .write(Timestamp::MAX, &mut out);
        out.freeze()
    };
    let all: Vec<Bytes> = bodies().into_iter().enumerate().map(frame).collect();
    // Alone, and several behind one another.
    all.chunks(5).map(|some| some.concat().into()).chain(all.iter().cloned()).collect()
}

fn read(bytes: &[u8], meter: &Meter) -> bool {
    let mut decoder = FrameDecoder::new(limits::FRAME_BYTES_MAX);
    let mut stream = BytesMut::from(bytes);
    let frames = meter.bounded(bytes.len(), FRAME_FACTOR, || {
        let mut frames = Vec::new();
        while let Ok(Some(frame)) = decoder.decode(&mut stream) {
            frames.push(frame);
        }
        frames
    });
    let mut again = BytesMut::new();
    frames.iter().for_each(|(frame, clock)| frame.write(*clock, &mut again));
    assert!(bytes.starts_with(&again), "a frame has one form");
    !frames.is_empty()
}

fn as_sent(input: &Input, meter: &Meter) -> bool {
    read(&input.bytes, meter)
}

/// `docs/format/frame.md`: length, checksum over the length and all that follows the checksum.
fn with_right_checksum(input: &Input, meter: &Meter) -> bool {
    const HEAD: usize = 8;
    let mut bytes = input.bytes.to_vec();
    if bytes.len() >= HEAD {
        let length = (bytes.len() - 4) as u32;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        let sum = crc32c::crc32c_append(crc32c::crc32c(&length.to_le_bytes()), &bytes[HEAD..]);
        bytes[4..HEAD].copy_from_slice(&sum.to_le_bytes());
    }
    read(&bytes, meter)
}

fn target_node() -> NodeId {
    NodeId(uuid::Uuid::from_bytes([1; 16]))
}

/// `docs/format/hint-log.md`: version, target, token, time, mutation.
fn hints() -> Vec<Bytes> {
    let record = |mutation: Bytes| {
        let [token, stored] = [(-5i64).to_le_bytes(), 1_000_000i64.to_le_bytes()];
        [&[1][..], target_node().0.as_bytes(), &token, &stored, &mutation].concat().into()
    };
    crate::mutation::mutations().into_iter().take(20).map(record).collect()
}

fn hint(input: &Input, meter: &Meter) -> bool {
    let parsed = meter.bounded(input.bytes.len(), 0, || kula_handoff::record::parse(target_node(), &input.bytes));
    let Ok((token, stored, mutation)) = parsed else { return false };
    let numbers = [token.0.to_le_bytes(), stored.micros().to_le_bytes()].concat();
    assert_eq!(input.bytes[17..], [&numbers, mutation].concat(), "a record has one form");
    true
}

target!(a_stream_of_any_bytes, 1, frames(), as_sent);
target!(a_frame_of_any_bytes_with_a_right_checksum, 1, frames(), with_right_checksum);
target!(a_body_of_links_of_any_bytes, 1, bodies(), of_links);
target!(a_body_of_gossip_of_any_bytes, 1, bodies(), of_gossip);
target!(a_body_of_ring_catalog_and_status_of_any_bytes, 1, bodies(), of_values);
target!(a_body_of_replicas_of_any_bytes, 1, bodies(), of_replicas);
target!(a_hint_of_any_bytes, 1, hints(), hint);
