//! Context tokens: as they come from a client, and behind the MAC, made right again after the edits
//! (`docs/format/context.md`).
//!
//! Promise: P19

use crate::{
    input::{Input, samples},
    meter::Meter,
    target,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use kula_lattice::{Context, ContextError, ContextKey};
use kula_testkit::lattice;
use kula_types::{Actor, Dot, PartitionKey, TableId};

const TABLE: TableId = TableId([3; 16]);
const KEY: ContextKey = ContextKey { id: 7, secret: [9; 32] };
const BINDING_AT: usize = 5;
const HEAD_BYTES: usize = 21;
const MAC_BYTES: usize = 16;
/// A dot with its prev takes 32 bytes in memory and two in a token, in a vector that doubles; but a token is short, so
/// the most of them stay about what any decoder may allocate.
const FACTOR: usize = 4;

fn place() -> PartitionKey {
    PartitionKey::copy_from(b"cart")
}

fn keyed(purpose: u8, parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_keyed(&KEY.secret);
    hasher.update(&[purpose]);
    for part in parts {
        hasher.update(part);
    }
    let mut out = [0; 16];
    hasher.finalize_xof().fill(&mut out);
    out
}

/// As if the cluster itself had made it.
fn signed(token: &[u8]) -> Vec<u8> {
    let mut token = token.to_vec();
    token.truncate(3 << 10);
    if let Some(at) = token.len().checked_sub(MAC_BYTES).filter(|at| *at >= HEAD_BYTES) {
        token[1..BINDING_AT].copy_from_slice(&KEY.id.to_le_bytes());
        token[BINDING_AT..HEAD_BYTES].copy_from_slice(&keyed(1, &[&TABLE.0, place().as_bytes()]));
        let mac = keyed(2, &[&token[..at]]);
        token[at..].copy_from_slice(&mac);
    }
    token
}

fn open(text: &str, meter: &Meter) -> Result<Context, ContextError> {
    let key = place();
    meter.bounded(text.len(), FACTOR, || Context::open(text, TABLE, &key, &[KEY]))
}

fn tokens() -> Vec<Bytes> {
    // The most dots that a token holds.
    let dot = |seq| (Dot::new(Actor(1), 0, seq).unwrap(), seq - 1);
    let long = Context { dots: (1..2_000).map(dot).collect(), lww: None };
    let contexts = samples(lattice::context(), 300).into_iter().chain([long]);
    let texts = contexts.map(|context| context.seal(TABLE, &place(), &KEY));
    texts.map(|text| Bytes::from(URL_SAFE_NO_PAD.decode(text).unwrap())).collect()
}

/// No edit forges a token: the bytes of one, or the text itself.
fn unsigned(input: &Input, meter: &Meter) -> bool {
    let opened = open(&URL_SAFE_NO_PAD.encode(&input.bytes), meter);
    assert!(open(&String::from_utf8_lossy(&input.bytes), meter).is_err(), "no token is text of this kind");
    let Ok(context) = opened else { return false };
    let text = context.seal(TABLE, &place(), &KEY);
    assert_eq!(URL_SAFE_NO_PAD.decode(text).unwrap(), input.bytes, "only what was sealed opens");
    true
}

fn resigned(input: &Input, meter: &Meter) -> bool {
    let token = signed(&input.bytes);
    let Ok(context) = open(&URL_SAFE_NO_PAD.encode(&token), meter) else { return false };
    assert!(context.dots.is_sorted() && context.dots.iter().all(|(dot, prev)| *prev < dot.seq()));
    let again = context.seal(TABLE, &place(), &KEY);
    assert_eq!(open(&again, meter), Ok(context), "what opens seals to the same");
    true
}

target!(a_context_of_any_bytes, 1, tokens(), unsigned);
target!(a_context_of_any_bytes_behind_the_mac, 1, tokens(), resigned);
