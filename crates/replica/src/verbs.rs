//! A request to another node's replica as a verb, and a verb's answer as an outcome: the same words on both sides.
//!
//! Bytes that came from a peer are copied out of its frame once (`kula_wire::Blob`) on purpose: what storage keeps of a
//! mutation would otherwise hold the whole read buffer it came in.

use crate::{Answer, Fence, Op, Origin, Outcome, RangePage, ReplicaError, Request};
use bytes::Bytes;
use kula_actor::{Lost, Reply};
use kula_lattice::{
    Digest, Partition, Seal, Slice,
    codec::{Input, decode_partition, encode_partition},
};
use kula_transport::{Inbound, TransportError};
use kula_types::{ClusteringKey, Mono, PartitionKey, Token};
use kula_wire::{
    Blob, Lane, MessageError, Verb, decode, encode,
    verbs::replica::{self as verbs, Refused, Served, Wanted},
};
use std::{ops::Bound, sync::Arc};

/// A request as a link takes it.
#[derive(Debug)]
pub struct Encoded {
    pub verb: u16,
    pub lane: Lane,
    pub body: Bytes,
}

/// A request as the link to another node takes it.
pub struct Outbound {
    pub encoded: Encoded,
    pub deadline: Mono,
    pub reply: Reply<Result<Bytes, TransportError>>,
}

/// What the replica named `peer` is sent; none if the request was answered here, because nothing can be sent. Of what was
/// sent, a loss that was certainly no beginning is a refusal with the reason; any other drops the reply: *unknown*.
pub fn outbound(request: Request, token: Token, peer: Arc<str>, now: Mono) -> Option<Outbound> {
    let Request { from: _, fence, deadline, op, reply } = request;
    let refused = if deadline <= now {
        ReplicaError::Expired
    } else {
        match encode_op(fence, token, &op) {
            Ok(encoded) => return Some(Outbound { encoded, deadline, reply: way_back(peer, reply) }),
            Err(MessageError::TooLarge { bytes, max }) => ReplicaError::TooLarge { bytes, max },
            // Plain structs can be encoded.
            Err(MessageError::Malformed | MessageError::Trailing { .. }) => ReplicaError::Malformed,
        }
    };
    reply.send(Err(refused));
    None
}

fn way_back(peer: Arc<str>, reply: Reply<Result<Outcome, ReplicaError>>) -> Reply<Result<Bytes, TransportError>> {
    Reply::new(move |answer: Result<Result<Bytes, TransportError>, Lost>| {
        let served = match answer {
            Ok(Ok(body)) => decode(&body).ok().and_then(|answer| outcome_of(&peer, answer)),
            Ok(Err(error)) => not_begun(error).map(Err),
            Err(Lost) => None,
        };
        // Dropped otherwise: whether it was served is unknown.
        if let Some(served) = served {
            reply.send(served);
        }
    })
}

/// What another node's replica is sent for `op` of a key with this token.
fn encode_op(fence: Fence, token: Token, op: &Op) -> Result<Encoded, MessageError> {
    match op {
        Op::Apply { mutation, origin } => encoded(&verbs::Apply {
            fence: fence.into(),
            token,
            mutation: mutation.clone().into(),
            origin: (*origin).into(),
        }),
        Op::Read { table, key, slice, answer, now } => encoded(&verbs::Read {
            fence: fence.into(),
            table: *table,
            token,
            key: key.0.clone().into(),
            from: bound(&slice.from),
            to: bound(&slice.to),
            answer: match answer {
                Answer::Data => Wanted::Data,
                Answer::Digest => Wanted::Digest,
            },
            now: *now,
        }),
        Op::ReadRange { table, after, through, partitions_max, bytes_max } => encoded(&verbs::ReadRange {
            fence: fence.into(),
            table: *table,
            after: (after.0, Blob(after.1.0.clone())),
            through: *through,
            partitions_max: wide(*partitions_max),
            bytes_max: wide(*bytes_max),
        }),
    }
}

fn encoded<V: Verb>(verb: &V) -> Result<Encoded, MessageError> {
    Ok(Encoded { verb: V::CODE, lane: V::LANE, body: encode(verb)? })
}

fn bound(bound: &Bound<ClusteringKey>) -> Bound<Blob> {
    bound.as_ref().map(|key| Blob(key.0.clone()))
}

/// A peer's request with the token it names, or the frame back if it cannot be read: then nothing was done.
pub fn request_of(inbound: Inbound) -> Result<(Token, Request), Inbound> {
    match inbound.verb {
        verbs::Apply::CODE => match inbound.read::<verbs::Apply>() {
            Ok(verbs::Apply { fence, token, mutation, origin }) => {
                let op = Op::Apply { mutation: mutation.0, origin: origin.into() };
                Ok((token, request::<verbs::Apply>(inbound, fence, op)))
            }
            Err(_) => Err(inbound),
        },
        verbs::Read::CODE => match inbound.read::<verbs::Read>() {
            Ok(verbs::Read { fence, table, token, key, from, to, answer, now }) => {
                let key_of = |bound: Bound<Blob>| bound.map(|blob| ClusteringKey(blob.0));
                let slice = Slice { from: key_of(from), to: key_of(to) };
                let answer = match answer {
                    Wanted::Data => Answer::Data,
                    Wanted::Digest => Answer::Digest,
                };
                let op = Op::Read { table, key: PartitionKey(key.0), slice, answer, now };
                Ok((token, request::<verbs::Read>(inbound, fence, op)))
            }
            Err(_) => Err(inbound),
        },
        verbs::ReadRange::CODE => match inbound.read::<verbs::ReadRange>() {
            Ok(verbs::ReadRange { fence, table, after: (token, key), through, partitions_max, bytes_max }) => {
                let after = (token, PartitionKey(key.0));
                let (partitions_max, bytes_max) = (narrow(partitions_max), narrow(bytes_max));
                let op = Op::ReadRange { table, after, through, partitions_max, bytes_max };
                Ok((token, request::<verbs::ReadRange>(inbound, fence, op)))
            }
            Err(_) => Err(inbound),
        },
        _ => Err(inbound),
    }
}

fn request<V: Verb<Answer = verbs::Answer>>(inbound: Inbound, fence: verbs::Fence, op: Op) -> Request {
    let (from, deadline) = (Some(inbound.from), inbound.deadline);
    let back = inbound.reply_of::<V>();
    // A lost outcome drops the way back, which says the same to the peer.
    let reply = kula_actor::Reply::new(move |served: Result<Result<Outcome, ReplicaError>, kula_actor::Lost>| {
        if let Ok(served) = served {
            back.send(answer_of(served));
        }
    });
    Request { from, fence: Fence { ring_version: fence.ring_version, phase: fence.phase }, deadline, op, reply }
}

/// Answers a frame that was not made a request. A verb of a later version is left unanswered: what its answer looks like
/// is not known here, and the peer learns that it is lost.
pub fn refuse(inbound: Inbound, error: ReplicaError) {
    match inbound.verb {
        verbs::Apply::CODE => inbound.reply_of::<verbs::Apply>().send(answer_of(Err(error))),
        verbs::Read::CODE => inbound.reply_of::<verbs::Read>().send(answer_of(Err(error))),
        verbs::ReadRange::CODE => inbound.reply_of::<verbs::ReadRange>().send(answer_of(Err(error))),
        _ => drop(inbound),
    }
}

/// An outcome as it travels.
pub fn answer_of(served: Result<Outcome, ReplicaError>) -> verbs::Answer {
    match served {
        Ok(Outcome::Applied) => Ok(Served::Applied),
        Ok(Outcome::Data(partition)) => {
            let mut bytes = Vec::new();
            encode_partition(&partition, &mut bytes);
            Ok(Served::Data(Blob(bytes.into())))
        }
        Ok(Outcome::Digest { digest, seal }) => Ok(Served::Digest { digest: digest.0, seal: seal.0 }),
        Ok(Outcome::Range(RangePage { rows, resume })) => {
            let row = |(token, PartitionKey(key), partition): (Token, PartitionKey, Partition)| {
                let mut bytes = Vec::new();
                encode_partition(&partition, &mut bytes);
                verbs::RangeRow { token, key: key.into(), partition: Blob(bytes.into()) }
            };
            let resume = resume.map(|(token, key)| (token, key.0.into()));
            Ok(Served::Range(verbs::RangePage { rows: rows.into_iter().map(row).collect(), resume }))
        }
        Err(error) => Err(refused_of(error)),
    }
}

fn refused_of(error: ReplicaError) -> Refused {
    match error {
        ReplicaError::StaleRing { have } => Refused::StaleRing { have },
        ReplicaError::Behind => Refused::Behind,
        ReplicaError::UnknownTable { table } => Refused::UnknownTable { table },
        ReplicaError::Overloaded { path, depth, cap } => {
            Refused::Overloaded { path: path.to_string(), depth: wide(depth), cap: wide(cap) }
        }
        ReplicaError::Expired => Refused::Expired,
        ReplicaError::ClockAhead { by } => Refused::ClockAhead { by },
        ReplicaError::DiskFull { wrote } => Refused::DiskFull { wrote },
        ReplicaError::TooLarge { bytes, max } => Refused::TooLarge { bytes: wide(bytes), max: wide(max) },
        ReplicaError::SiblingCap { siblings, bytes } => {
            Refused::SiblingCap { siblings: wide(siblings), bytes: wide(bytes) }
        }
        ReplicaError::Damaged => Refused::Damaged,
        ReplicaError::InvalidMutation(_) | ReplicaError::Malformed => Refused::InvalidMutation,
        ReplicaError::Misplaced => Refused::Misplaced,
        // A replica never says that there is no way to itself.
        ReplicaError::Unreachable | ReplicaError::Closed => Refused::Closed,
        ReplicaError::Fenced => Refused::Fenced,
    }
}

/// What a peer named `peer` answered; none for bytes that are no answer: what it did is *unknown*.
fn outcome_of(peer: &str, answer: verbs::Answer) -> Option<Result<Outcome, ReplicaError>> {
    Some(match answer {
        Ok(Served::Applied) => Ok(Outcome::Applied),
        Ok(Served::Data(bytes)) => Ok(Outcome::Data(partition_of(&bytes.0)?)),
        Ok(Served::Digest { digest, seal }) => Ok(Outcome::Digest { digest: Digest(digest), seal: Seal(seal) }),
        Ok(Served::Range(verbs::RangePage { rows, resume })) => {
            let row =
                |row: verbs::RangeRow| Some((row.token, PartitionKey(row.key.0), partition_of(&row.partition.0)?));
            let rows = rows.into_iter().map(row).collect::<Option<Vec<_>>>()?;
            Ok(Outcome::Range(RangePage { rows, resume: resume.map(|(token, key)| (token, PartitionKey(key.0))) }))
        }
        Err(refused) => Err(error_of(peer, refused)),
    })
}

fn partition_of(bytes: &Bytes) -> Option<Partition> {
    let mut input = Input::new(bytes);
    let partition = decode_partition(&mut input).ok()?;
    input.finish().ok()?;
    Some(partition)
}

fn error_of(peer: &str, refused: Refused) -> ReplicaError {
    match refused {
        Refused::StaleRing { have } => ReplicaError::StaleRing { have },
        Refused::Behind => ReplicaError::Behind,
        Refused::UnknownTable { table } => ReplicaError::UnknownTable { table },
        Refused::Overloaded { path, depth, cap } => ReplicaError::Overloaded {
            path: Arc::from(format!("{peer}:{path}")),
            depth: narrow(depth),
            cap: narrow(cap),
        },
        Refused::Expired => ReplicaError::Expired,
        Refused::ClockAhead { by } => ReplicaError::ClockAhead { by },
        Refused::DiskFull { wrote } => ReplicaError::DiskFull { wrote },
        Refused::TooLarge { bytes, max } => ReplicaError::TooLarge { bytes: narrow(bytes), max: narrow(max) },
        Refused::SiblingCap { siblings, bytes } => {
            ReplicaError::SiblingCap { siblings: narrow(siblings), bytes: narrow(bytes) }
        }
        Refused::Damaged => ReplicaError::Damaged,
        Refused::InvalidMutation => ReplicaError::Malformed,
        Refused::Misplaced => ReplicaError::Misplaced,
        Refused::Closed => ReplicaError::Closed,
        Refused::Fenced => ReplicaError::Fenced,
    }
}

/// What a request that did not come through says, if it is certain that the peer did nothing; else none.
fn not_begun(error: TransportError) -> Option<ReplicaError> {
    if !error.nothing_was_done() {
        return None;
    }
    Some(match error {
        TransportError::Overloaded { path, depth, cap } => ReplicaError::Overloaded { path, depth, cap },
        TransportError::Expired => ReplicaError::Expired,
        TransportError::TooLarge { bytes, max } => ReplicaError::TooLarge { bytes, max },
        // No connection, a peer of another version, or whatever else leaves it unasked.
        _ => ReplicaError::Unreachable,
    })
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn narrow(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl From<Fence> for verbs::Fence {
    fn from(Fence { ring_version, phase }: Fence) -> Self {
        verbs::Fence { ring_version, phase }
    }
}

impl From<Origin> for verbs::Origin {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Client { contextless } => verbs::Origin::Client { contextless },
            Origin::Hint => verbs::Origin::Hint,
            Origin::Repair => verbs::Origin::Repair,
            Origin::Stream => verbs::Origin::Stream,
        }
    }
}

impl From<verbs::Origin> for Origin {
    fn from(origin: verbs::Origin) -> Self {
        match origin {
            verbs::Origin::Client { contextless } => Origin::Client { contextless },
            verbs::Origin::Hint => Origin::Hint,
            verbs::Origin::Repair => Origin::Repair,
            verbs::Origin::Stream => Origin::Stream,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kula_actor::Reply;
    use kula_lattice::{Cell, CellId};
    use kula_types::{Actor, ColumnId, Dot, Key, Mono, NodeId, TableId, Timestamp};
    use std::{fmt::Debug, sync::mpsc, time::Duration};

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros).unwrap()
    }

    fn partition() -> Partition {
        let key = Key::of(at(5), Dot::new(Actor(1), 0, 2).unwrap());
        let cell = Cell::put(key, None, Bytes::from_static(b"value"));
        Partition::of_cell(ClusteringKey::default(), CellId::simple(ColumnId(9)), cell)
    }

    fn inbound(encoded: Encoded, reply: Reply<Bytes>) -> Inbound {
        let Encoded { verb, body, .. } = encoded;
        let (from, deadline) = (NodeId("00000000-0000-0000-0000-000000000002".parse().unwrap()), Mono::from_millis(7));
        Inbound { from, verb, body, deadline, trace: 0, reply }
    }

    fn shown(value: &impl Debug) -> String {
        format!("{value:?}")
    }

    #[test]
    fn a_request_arrives_as_it_was_sent() {
        let (table, key) = (TableId([3; 16]), PartitionKey::copy_from(b"key"));
        let slice = Slice {
            from: Bound::Excluded(ClusteringKey::copy_from(b"a")),
            to: Bound::Included(ClusteringKey::copy_from(b"b")),
        };
        let read = |slice, answer| Op::Read { table, key: key.clone(), slice, answer, now: at(4) };
        let apply = |origin| Op::Apply { mutation: Bytes::from_static(b"mutation"), origin };
        let ops = [
            apply(Origin::Client { contextless: true }),
            apply(Origin::Client { contextless: false }),
            apply(Origin::Hint),
            apply(Origin::Repair),
            apply(Origin::Stream),
            read(Slice::all(), Answer::Data),
            read(slice, Answer::Digest),
            Op::ReadRange {
                table,
                after: (Token(-5), key.clone()),
                through: Token::MAX,
                partitions_max: 9,
                bytes_max: 10,
            },
        ];
        for op in ops {
            let (fence, token) = (Fence { ring_version: 6, phase: 1 }, Token(-5));
            let frame = inbound(encode_op(fence, token, &op).unwrap(), Reply::ignored());
            let (named, request) = request_of(frame).unwrap();
            assert_eq!((named, request.fence, shown(&request.op)), (token, fence, shown(&op)));
            assert!(request.from.is_some() && request.deadline == Mono::from_millis(7));
        }
    }

    #[test]
    fn an_answer_arrives_as_it_was_given_and_a_refusal_names_its_node() {
        let overloaded = |path: &str| ReplicaError::Overloaded { path: path.into(), depth: 1, cap: 2 };
        let given = [
            Ok(Outcome::Applied),
            Ok(Outcome::Data(partition())),
            Ok(Outcome::Digest { digest: Digest(11), seal: Seal(12) }),
            Ok(Outcome::Range(RangePage {
                rows: vec![(Token(-5), PartitionKey::copy_from(b"key"), partition())],
                resume: Some((Token(7), PartitionKey::copy_from(b""))),
            })),
            Ok(Outcome::Range(RangePage::default())),
            Err(ReplicaError::StaleRing { have: 4 }),
            Err(ReplicaError::Behind),
            Err(ReplicaError::UnknownTable { table: TableId([3; 16]) }),
            Err(overloaded("replica/0")),
            Err(ReplicaError::Expired),
            Err(ReplicaError::ClockAhead { by: Duration::from_millis(61_000) }),
            Err(ReplicaError::DiskFull { wrote: true }),
            Err(ReplicaError::TooLarge { bytes: 2, max: 1 }),
            Err(ReplicaError::SiblingCap { siblings: 64, bytes: 65 }),
            Err(ReplicaError::Damaged),
            Err(ReplicaError::Malformed),
            Err(ReplicaError::Misplaced),
            Err(ReplicaError::Closed),
            Err(ReplicaError::Fenced),
        ];
        for answer in given {
            let expected = match &answer {
                Err(ReplicaError::Overloaded { .. }) => shown(&Err::<Outcome, _>(overloaded("n2:replica/0"))),
                answer => shown(answer),
            };
            let unapplied = answer.as_ref().err().map(ReplicaError::refused_before_applying);
            let arrived = outcome_of("n2", answer_of(answer)).unwrap();
            assert_eq!(shown(&arrived), expected);
            // What a client is told about its write survives the way.
            assert_eq!(arrived.err().as_ref().map(ReplicaError::refused_before_applying), unapplied);
        }
        assert!(outcome_of("n2", Ok(Served::Data(Blob(Bytes::from_static(b"no partition"))))).is_none());
    }

    #[test]
    fn a_frame_that_cannot_be_read_is_refused_and_one_of_a_later_version_is_lost() {
        for verb in [verbs::Apply::CODE, verbs::Read::CODE, verbs::ReadRange::CODE] {
            let (sender, answers) = mpsc::channel();
            let reply = Reply::new(move |answer| sender.send(answer).unwrap());
            let garbage = Encoded { verb, lane: Lane::Request, body: Bytes::from_static(&[7; 20]) };
            refuse(request_of(inbound(garbage, reply)).unwrap_err(), ReplicaError::Malformed);
            let body: Bytes = answers.recv().unwrap().unwrap();
            assert_eq!(kula_wire::decode::<verbs::Answer>(&body), Ok(Err(Refused::InvalidMutation)));
        }
        let (sender, answers) = mpsc::channel();
        let reply = Reply::new(move |answer: Result<Bytes, _>| sender.send(answer.is_err()).unwrap());
        let later = Encoded { verb: 0x05FF, lane: Lane::Request, body: Bytes::new() };
        refuse(request_of(inbound(later, reply)).unwrap_err(), ReplicaError::Malformed);
        assert!(answers.recv().unwrap());
    }

    #[test]
    fn only_what_was_certainly_not_begun_is_a_refusal() {
        assert!(matches!(not_begun(TransportError::NotConnected), Some(ReplicaError::Unreachable)));
        assert!(matches!(not_begun(TransportError::UnknownVerb { verb: 1 }), Some(ReplicaError::Unreachable)));
        assert!(matches!(not_begun(TransportError::Expired), Some(ReplicaError::Expired)));
        for unknown in [TransportError::Lost, TransportError::TimedOut, TransportError::Malformed] {
            assert!(not_begun(unknown).is_none());
        }
    }
}
