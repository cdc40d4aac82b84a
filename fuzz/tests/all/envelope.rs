//! The envelope of a bucket's value.
//!
//! Promise: P19

use crate::{input::Input, meter::Meter, target};
use bytes::Bytes;
use kula_coordinator::envelope;

/// The value is a slice; only the content type, at most 255 bytes, is copied.
const FACTOR: usize = 0;

fn values() -> Vec<Bytes> {
    let kinds = ["", "a", "text/plain", "application/json; charset=utf-8", &"x".repeat(128), &"é".repeat(127)];
    kinds.iter().flat_map(|kind| [envelope::seal(kind, b""), envelope::seal(kind, &[7; 300])]).collect()
}

fn value(input: &Input, meter: &Meter) -> bool {
    let opened = meter.bounded(input.bytes.len(), FACTOR, || envelope::open(&input.bytes));
    let Ok((content_type, value)) = opened else { return false };
    assert_eq!(envelope::seal(content_type.as_deref().unwrap_or(""), &value), input.bytes, "a value has one form");
    true
}

target!(an_envelope_of_any_bytes, 1, values(), value);
