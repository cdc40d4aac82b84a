//! The bytes of one value of a bucket: its content type and the value itself. The format is docs/format/value.md:
#![doc = include_str!("../../../docs/format/value.md")]

use bytes::{BufMut, Bytes, BytesMut};
use kula_types::limits::CONTENT_TYPE_BYTES_MAX;

/// Why bytes are not a value. They came from a peer or from a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    #[error("the value ends inside its content type")]
    Short,
    #[error("its content type is longer than {CONTENT_TYPE_BYTES_MAX} bytes")]
    LongContentType,
    #[error("its content type is not text")]
    ContentType,
}

/// A content type is at most 255 bytes long; its length takes at most two bytes.
const LENGTH_LOW_BITS: usize = 0x80;
const _: () = assert!(CONTENT_TYPE_BYTES_MAX < LENGTH_LOW_BITS * LENGTH_LOW_BITS);

/// `content_type` is empty for none. The caller has checked its length.
pub fn seal(content_type: &str, value: &[u8]) -> Bytes {
    assert!(content_type.len() <= CONTENT_TYPE_BYTES_MAX, "checked when the request was planned");
    let mut bytes = BytesMut::with_capacity(2 + content_type.len() + value.len());
    let length = content_type.len();
    let [low, high] = [length % LENGTH_LOW_BITS, length / LENGTH_LOW_BITS].map(|part| u8::try_from(part).unwrap_or(0));
    if high == 0 {
        bytes.put_u8(low);
    } else {
        bytes.put_u8(low | 0x80);
        bytes.put_u8(high);
    }
    bytes.put_slice(content_type.as_bytes());
    bytes.put_slice(value);
    bytes.freeze()
}

/// The content type, if there is one, and the value: a slice of the input.
pub fn open(body: &Bytes) -> Result<(Option<String>, Bytes), EnvelopeError> {
    let (length, head) = match body.as_ref() {
        [low, ..] if *low < 0x80 => (usize::from(*low), 1),
        // A longer form than the length needs would make two forms of one value.
        [low, high @ 1..0x80, ..] => (usize::from(*low & 0x7f) + LENGTH_LOW_BITS * usize::from(*high), 2),
        [_] | [] => return Err(EnvelopeError::Short),
        [_, _, ..] => return Err(EnvelopeError::LongContentType),
    };
    if length > CONTENT_TYPE_BYTES_MAX {
        return Err(EnvelopeError::LongContentType);
    }
    let content_type = body.get(head..head + length).ok_or(EnvelopeError::Short)?;
    let content_type = str::from_utf8(content_type).map_err(|_| EnvelopeError::ContentType)?;
    let content_type = (!content_type.is_empty()).then(|| content_type.to_string());
    Ok((content_type, body.slice(head + length..)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_bytes() {
        assert_eq!(seal("", b"milk").as_ref(), b"\x00milk");
        assert_eq!(seal("text/plain", b"milk").as_ref(), b"\x0atext/plainmilk");
        let long = "x".repeat(200);
        assert_eq!(seal(&long, b"").as_ref(), [b"\xc8\x01".as_slice(), long.as_bytes()].concat());
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens_to_the_same(content_type in "[ -~]{0,255}", value in prop::collection::vec(any::<u8>(), 0..64)) {
            let body = seal(&content_type, &value);
            let expected = (!content_type.is_empty()).then_some(content_type);
            prop_assert_eq!(open(&body), Ok((expected, Bytes::from(value))));
        }

        /// Any bytes: an answer, never a panic; and what opens seals to the same bytes, so a value has one form.
        #[test]
        fn any_bytes_open_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let body = Bytes::from(bytes);
            if let Ok((content_type, value)) = open(&body) {
                prop_assert_eq!(seal(content_type.as_deref().unwrap_or(""), &value), body);
            }
        }
    }
}
