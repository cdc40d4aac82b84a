#![doc = include_str!("../../../docs/format/context.md")]

use crate::{
    codec::{DecodeError, Input, decode_below, decode_epoch, put_varint},
    limits::{CONTEXT_BYTES_MAX, CONTEXT_TEXT_BYTES_MAX},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use kula_types::{Actor, Dot, Key, PartitionKey, TableId};
use std::fmt;

const VERSION: u8 = 1;
const BINDING_BYTES: usize = 16;
const MAC_BYTES: usize = 16;
/// Version, key id, binding.
const HEAD_BYTES: usize = 1 + 4 + BINDING_BYTES;

const LWW: u8 = 1;
const LWW_DELETE: u8 = 1 << 1;
const FLAGS_ALL: u8 = LWW | LWW_DELETE;

/// The fewest bytes a dot takes in a token, and a token's actor with one dot: more dots than that need not be tried.
const DOT_BYTES_MIN: usize = 2;
const ACTOR_BYTES_MIN: usize = 9 + DOT_BYTES_MIN;

/// What hashed bytes are for: a MAC can never be taken for a binding.
const FOR_BINDING: u8 = 1;
const FOR_MAC: u8 = 2;

/// What an answer showed: a write that returns it replaces exactly that.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Context {
    /// Dots with prev, most important first: what does not fit a token is left out from the end. `open` gives them in
    /// dot order.
    pub dots: Vec<(Dot, u64)>,
    /// The key of a shown LWW value.
    pub lww: Option<Key>,
}

/// A cluster's key for context tokens, drawn with ring 1 and kept in the ring version.
#[derive(Clone, PartialEq, Eq)]
pub struct ContextKey {
    pub id: u32,
    pub secret: [u8; 32],
}

/// Why a text is not a context for this table and key. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    #[error("this is not a context token")]
    Malformed,
    #[error("the context was made with key {id}, which this cluster does not have or has retired")]
    UnknownKey { id: u32 },
    #[error("the context was not made by this cluster, or was changed on its way")]
    Forged,
    #[error("the context belongs to another table or key")]
    Misplaced,
}

impl Context {
    /// Nothing was shown: a write with it replaces nothing.
    pub fn is_empty(&self) -> bool {
        self.dots.is_empty() && self.lww.is_none()
    }

    /// The token, at most `CONTEXT_TEXT_BYTES_MAX` long. What does not fit is left out from the end of `dots`; covering
    /// less is always safe.
    pub fn seal(&self, table: TableId, key: &PartitionKey, with: &ContextKey) -> String {
        let body = self.encode_within(CONTEXT_BYTES_MAX - HEAD_BYTES - MAC_BYTES);
        let mut token = Vec::with_capacity(HEAD_BYTES + body.len() + MAC_BYTES);
        token.push(VERSION);
        token.extend_from_slice(&with.id.to_le_bytes());
        token.extend_from_slice(&with.binding(table, key));
        token.extend_from_slice(&body);
        let mac = with.mac(&token);
        token.extend_from_slice(&mac);
        let text = URL_SAFE_NO_PAD.encode(&token);
        assert!(text.len() <= CONTEXT_TEXT_BYTES_MAX, "a token of {} bytes", text.len());
        text
    }

    /// The context, if the token was made for this table and key with one of `keys`.
    pub fn open(text: &str, table: TableId, key: &PartitionKey, keys: &[ContextKey]) -> Result<Context, ContextError> {
        if text.len() > CONTEXT_TEXT_BYTES_MAX {
            return Err(ContextError::Malformed);
        }
        let token = Bytes::from(URL_SAFE_NO_PAD.decode(text).map_err(|_| ContextError::Malformed)?);
        let Some((signed, mac)) = token.split_last_chunk::<MAC_BYTES>() else { return Err(ContextError::Malformed) };
        let Some((head, _)) = signed.split_first_chunk::<HEAD_BYTES>() else { return Err(ContextError::Malformed) };
        let [version, id0, id1, id2, id3, binding @ ..] = head;
        if *version != VERSION {
            return Err(ContextError::Malformed);
        }
        let id = u32::from_le_bytes([*id0, *id1, *id2, *id3]);
        let with = keys.iter().find(|key| key.id == id).ok_or(ContextError::UnknownKey { id })?;
        if !equal_in_constant_time(&with.mac(signed), mac) {
            return Err(ContextError::Forged);
        }
        // Past the MAC the cluster itself speaks: a binding that differs was made for something else.
        if *binding != with.binding(table, key) {
            return Err(ContextError::Misplaced);
        }
        decode(&token.slice(HEAD_BYTES..signed.len())).map_err(|_| ContextError::Malformed)
    }

    /// As many dots from the front as fit.
    fn encode_within(&self, room: usize) -> Vec<u8> {
        let mut taken = self.dots.len().min(room / DOT_BYTES_MIN);
        let whole = self.encode(taken);
        if whole.len() <= room {
            return whole;
        }
        // The length grows with the number taken, so halving finds the largest that fits.
        let (mut fits, mut too_many) = (0, taken);
        while too_many - fits > 1 {
            taken = fits + (too_many - fits) / 2;
            if self.encode(taken).len() <= room {
                fits = taken;
            } else {
                too_many = taken;
            }
        }
        self.encode(fits)
    }

    fn encode(&self, taken: usize) -> Vec<u8> {
        let mut dots: Vec<(Dot, u64)> = self.dots.iter().take(taken).copied().collect();
        dots.sort_unstable();
        dots.dedup_by_key(|(dot, _)| *dot);
        let mut out = Vec::with_capacity(32 + dots.len() * 8);
        encode_lww(self.lww, &mut out);
        put_varint(dots.chunk_by(same_actor).count() as u64, &mut out);
        for chain in dots.chunk_by(same_actor) {
            out.extend_from_slice(&chain[0].0.actor().0.to_le_bytes());
            let epochs = chain.iter().any(|(dot, _)| dot.epoch() != 0);
            put_varint((chain.len() as u64) << 1 | u64::from(epochs), &mut out);
            let mut last = 0;
            for (dot, prev) in chain {
                if epochs {
                    put_varint(u64::from(dot.epoch()), &mut out);
                }
                assert!(*prev < dot.seq(), "a chained dot lies above its predecessor: {prev} and {dot:?}");
                put_varint(dot.seq() - last, &mut out);
                put_varint(dot.seq() - prev, &mut out);
                last = dot.seq();
            }
        }
        out
    }
}

fn same_actor(left: &(Dot, u64), right: &(Dot, u64)) -> bool {
    left.0.actor() == right.0.actor()
}

fn encode_lww(lww: Option<Key>, out: &mut Vec<u8>) {
    let Some(key) = lww else { return out.push(0) };
    let (ts, mid) = key.parts();
    out.push(if mid.is_none() { LWW | LWW_DELETE } else { LWW });
    out.extend_from_slice(&ts.micros().to_le_bytes());
    if let Some((actor, epoch, seq)) = mid {
        out.extend_from_slice(&actor.0.to_le_bytes());
        put_varint(u64::from(epoch), out);
        put_varint(seq, out);
    }
}

fn decode_lww(input: &mut Input<'_>) -> Result<Option<Key>, DecodeError> {
    let at = input.position();
    let mid = match input.byte()? {
        0 => return Ok(None),
        flags if flags & !FLAGS_ALL == 0 && flags & LWW != 0 => flags & LWW_DELETE == 0,
        found => return Err(DecodeError::Tag { part: "context", found, at }),
    };
    let ts = input.timestamp()?;
    let mid = if mid {
        Some((Actor(u64::from_le_bytes(input.array()?)), decode_epoch(input)?, input.varint()?))
    } else {
        None
    };
    Key::from_parts(ts, mid).map(Some).map_err(|source| DecodeError::Dot { at, source })
}

fn decode(body: &Bytes) -> Result<Context, DecodeError> {
    let mut input = Input::new(body);
    let lww = decode_lww(&mut input)?;
    let mut dots = Vec::new();
    for _ in 0..input.count(ACTOR_BYTES_MIN)? {
        let actor = Actor(u64::from_le_bytes(input.array()?));
        let at = input.position();
        let form = || DecodeError::Form { part: "context", at };
        let head = input.varint()?;
        let (count, epochs) = (head >> 1, head & 1 == 1);
        let mut last = 0u64;
        // A count that lies runs into the end of the input; nothing was reserved for it.
        for _ in 0..count {
            let epoch = if epochs { decode_epoch(&mut input)? } else { 0 };
            let seq = last.checked_add(input.varint()?).ok_or_else(form)?;
            let dot = Dot::new(actor, epoch, seq).map_err(|source| DecodeError::Dot { at, source })?;
            let prev = decode_below(seq, &mut input)?;
            if dots.last().is_some_and(|(last, _)| *last >= dot) {
                return Err(DecodeError::Order { part: "context", at });
            }
            dots.push((dot, prev));
            last = seq;
        }
    }
    input.finish()?;
    Ok(Context { dots, lww })
}

impl ContextKey {
    /// What ties a token to its table and key. Keyed, so that nobody can look for two keys with one binding.
    fn binding(&self, table: TableId, key: &PartitionKey) -> [u8; BINDING_BYTES] {
        self.hash(FOR_BINDING, &[&table.0, &key.0])
    }

    fn mac(&self, signed: &[u8]) -> [u8; MAC_BYTES] {
        self.hash(FOR_MAC, &[signed])
    }

    /// Only the last of `parts` may vary in length.
    fn hash(&self, purpose: u8, parts: &[&[u8]]) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update(&[purpose]);
        for part in parts {
            hasher.update(part);
        }
        let mut out = [0; 16];
        hasher.finalize_xof().fill(&mut out);
        out
    }
}

fn equal_in_constant_time(left: &[u8; MAC_BYTES], right: &[u8; MAC_BYTES]) -> bool {
    std::hint::black_box(left.iter().zip(right).fold(0, |sum, (left, right)| sum | (left ^ right))) == 0
}

impl fmt::Debug for ContextKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextKey").field("id", &self.id).finish_non_exhaustive()
    }
}
