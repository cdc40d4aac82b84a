//! The dot store: seen first, as runs under each actor; then the live dots, which refer to those actors in order.

use super::{
    DecodeError, Input, decode_below, decode_entries, decode_epoch, parts::decode_body, put_bytes, put_varint,
};
use crate::{Body, Dots, Live, OpId, Run, Seen, SortedMap};
use kula_types::{Actor, Dot};

const LIVE_STUB: u8 = 1;
const LIVE_EXPIRES: u8 = 1 << 1;
const LIVE_OPERATION: u8 = 1 << 2;
const LIVE_EPOCH: u8 = 1 << 3;
const LIVE_ALL: u8 = LIVE_STUB | LIVE_EXPIRES | LIVE_OPERATION | LIVE_EPOCH;

const ACTOR_BYTES_MIN: usize = 11;
const RUN_BYTES_MIN: usize = 2;
const LIVE_BYTES_MIN: usize = 12;

pub(super) fn encode(dots: &Dots, out: &mut Vec<u8>) {
    assert_eq!(dots.unseen(), None, "a live dot was never seen");
    encode_seen(&dots.seen, out);
    put_varint(dots.live.len() as u64, out);
    let mut actors = dots.seen.chains();
    let mut actor = actors.next().map(actor_of);
    for (dot, live) in dots.live.iter() {
        let mut step = 0;
        while actor != Some(dot.actor()) {
            actor = actors.next().map(actor_of);
            assert!(actor.is_some(), "the actor of the live dot {dot:?} was never seen");
            step += 1;
        }
        encode_live(step, *dot, live, out);
    }
}

pub(super) fn decode(input: &mut Input<'_>) -> Result<Dots, DecodeError> {
    let seen = decode_seen(input)?;
    let live = decode_siblings(&seen, input)?;
    let dots = Dots { live, seen };
    match dots.unseen() {
        Some(dot) => Err(DecodeError::LiveNotSeen { dot }),
        None => Ok(dots),
    }
}

fn decode_siblings(seen: &Seen, input: &mut Input<'_>) -> Result<SortedMap<Dot, Live>, DecodeError> {
    let at = input.position();
    let count = input.count(LIVE_BYTES_MIN)?;
    let mut actors = seen.chains();
    let mut actor = actors.next().map(actor_of);
    let live = decode_entries(count, input, |input| {
        let at = input.position();
        let flags = input.byte()?;
        if flags & !LIVE_ALL != 0 {
            return Err(DecodeError::Tag { part: "sibling", found: flags, at });
        }
        let form = || DecodeError::Form { part: "sibling", at };
        let step = usize::try_from(input.varint()?).map_err(|_| form())?;
        if let Some(skipped) = step.checked_sub(1) {
            actor = actors.nth(skipped).map(actor_of);
        }
        decode_live(actor.ok_or_else(form)?, flags, input)
    })?;
    SortedMap::from_sorted(live).ok_or(DecodeError::Order { part: "siblings", at })
}

fn encode_seen(seen: &Seen, out: &mut Vec<u8>) {
    put_varint(seen.chains().count() as u64, out);
    for chain in seen.chains() {
        out.extend_from_slice(&actor_of(chain).0.to_le_bytes());
        let epochs = chain.iter().any(|run| run.epoch != 0);
        put_varint((chain.len() as u64) << 1 | u64::from(epochs), out);
        let mut last: Option<&Run> = None;
        for run in chain {
            if epochs {
                put_varint(u64::from(run.epoch), out);
            }
            let floor = last.filter(|last| last.epoch == run.epoch).map_or(0, |last| last.seq);
            put_varint(run.prev - floor, out);
            put_varint(run.seq - run.prev, out);
            last = Some(run);
        }
    }
}

fn decode_seen(input: &mut Input<'_>) -> Result<Seen, DecodeError> {
    let at = input.position();
    let form = || DecodeError::Form { part: "seen set", at };
    let actor_count = input.count(ACTOR_BYTES_MIN)?;
    if actor_count == 0 {
        return Err(form());
    }
    let mut runs: Vec<Run> = Vec::new();
    for _ in 0..actor_count {
        let actor = Actor(u64::from_le_bytes(input.array()?));
        let head = input.varint()?;
        let (run_count, epochs) = (head >> 1, head & 1 == 1);
        let run_count = usize::try_from(run_count).map_err(|_| form())?;
        if run_count == 0 || run_count > input.remaining() / RUN_BYTES_MIN {
            return Err(form());
        }
        if actor_count == 1 {
            runs.reserve_exact(run_count.min(input.remaining() / size_of::<Run>() + 1));
        }
        let first = runs.len();
        if runs.last().is_some_and(|last| last.actor >= actor) {
            return Err(form());
        }
        for _ in 0..run_count {
            let epoch = if epochs { decode_epoch(input)? } else { 0 };
            let last = runs.get(first..).and_then(|chain| chain.last()).filter(|last| last.epoch == epoch);
            let floor = last.map_or(0, |last| last.seq);
            let prev = floor.checked_add(input.varint()?).ok_or_else(form)?;
            let seq = prev.checked_add(input.varint()?).ok_or_else(form)?;
            runs.push(Run { actor, epoch, prev, seq });
        }
        // Epochs are written only where one is not 0; otherwise the same set would have two forms.
        if epochs && runs[first..].iter().all(|run| run.epoch == 0) {
            return Err(form());
        }
    }
    runs.shrink_to_fit();
    Seen::from_runs(runs).ok_or_else(form)
}

fn encode_live(step: u64, dot: Dot, live: &Live, out: &mut Vec<u8>) {
    let mut flags = 0;
    for (flag, present) in [
        (LIVE_STUB, live.body == Body::Stub),
        (LIVE_EXPIRES, live.exp.is_some()),
        (LIVE_OPERATION, live.op_id.is_some()),
        (LIVE_EPOCH, dot.epoch() != 0),
    ] {
        flags |= if present { flag } else { 0 };
    }
    out.push(flags);
    put_varint(step, out);
    if dot.epoch() != 0 {
        put_varint(u64::from(dot.epoch()), out);
    }
    put_varint(dot.seq(), out);
    put_varint(dot.seq() - live.prev, out);
    out.extend_from_slice(&live.hlc.micros().to_le_bytes());
    if let Some(op_id) = live.op_id {
        out.extend_from_slice(&op_id.0);
    }
    if let Some(exp) = live.exp {
        out.extend_from_slice(&exp.micros().to_le_bytes());
    }
    if let Body::Full(bytes) = &live.body {
        put_bytes(bytes, out);
    }
}

fn decode_live(actor: Actor, flags: u8, input: &mut Input<'_>) -> Result<(Dot, Live), DecodeError> {
    let at = input.position();
    let epoch = if flags & LIVE_EPOCH != 0 { decode_epoch(input)? } else { 0 };
    if flags & LIVE_EPOCH != 0 && epoch == 0 {
        return Err(DecodeError::Form { part: "sibling", at });
    }
    let seq = input.varint()?;
    let dot = Dot::new(actor, epoch, seq).map_err(|source| DecodeError::Dot { at, source })?;
    let prev = decode_below(seq, input)?;
    let hlc = input.timestamp()?;
    let op_id = if flags & LIVE_OPERATION != 0 { Some(OpId(input.array()?)) } else { None };
    let exp = if flags & LIVE_EXPIRES != 0 { Some(input.timestamp()?) } else { None };
    let body = decode_body(flags & LIVE_STUB != 0, input)?;
    Ok((dot, Live { hlc, op_id, exp, body, prev }))
}

/// The runs of one actor: never empty.
fn actor_of(chain: &[Run]) -> Actor {
    chain[0].actor
}

pub(super) fn hint(dots: &Dots) -> usize {
    let bodies = dots.live.values().map(|live| 64 + live.body.bytes().map_or(0, |bytes| bytes.len()));
    16 + dots.seen.len() * 24 + bodies.sum::<usize>()
}
