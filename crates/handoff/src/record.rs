#![doc = include_str!("../../../docs/format/hint-log.md")]

use bytes::Bytes;
use kula_disk::{atomic::Format, log::Position};
use kula_types::{NodeId, Timestamp, Token, limits::MUTATION_BYTES_MAX};

/// What the segment log is told it holds.
pub(crate) const KIND: u16 = 2;
pub(crate) const DELIVERED: Format = Format { magic: *b"KulaHint", version: 1 };
pub(crate) const HEADER_BYTES: usize = 33;
pub(crate) const RECORD_BYTES_MAX: usize = MUTATION_BYTES_MAX + HEADER_BYTES;
const VERSION: u8 = 1;
const DELIVERED_BYTES: usize = 12;

/// A write that is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    pub token: Token,
    pub stored: Timestamp,
    pub mutation: Bytes,
}

/// Why a record with a good checksum is not a hint for this target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("a record of {bytes} bytes")]
    TooShort { bytes: usize },
    #[error("a record of layout version {version}; this release knows {VERSION}")]
    Version { version: u8 },
    #[error("a record for node {target}")]
    Target { target: NodeId },
    #[error("a record without a time")]
    Time,
}

impl Hint {
    /// What it takes in the log.
    pub fn bytes(&self) -> usize {
        HEADER_BYTES + self.mutation.len()
    }
}

/// Appends the record to `buffer`.
pub(crate) fn encode(target: NodeId, hint: &Hint, buffer: &mut Vec<u8>) {
    buffer.push(VERSION);
    buffer.extend_from_slice(target.0.as_bytes());
    buffer.extend_from_slice(&hint.token.0.to_le_bytes());
    buffer.extend_from_slice(&hint.stored.micros().to_le_bytes());
    buffer.extend_from_slice(&hint.mutation);
}

/// A record's parts; the mutation is borrowed. Any bytes are safe here.
pub fn parse(target: NodeId, record: &[u8]) -> Result<(Token, Timestamp, &[u8]), RecordError> {
    let too_short = RecordError::TooShort { bytes: record.len() };
    match record.first() {
        Some(&VERSION) => {}
        Some(&version) => return Err(RecordError::Version { version }),
        None => return Err(too_short),
    }
    let Some((header, mutation)) = record.split_first_chunk::<HEADER_BYTES>() else { return Err(too_short) };
    let number = |at: usize| header[at..].first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes));
    let written_for =
        header[1..].first_chunk().map_or(NodeId(uuid::Uuid::nil()), |id| NodeId(uuid::Uuid::from_bytes(*id)));
    if written_for != target {
        return Err(RecordError::Target { target: written_for });
    }
    let stored = Timestamp::from_micros(number(25)).map_err(|_| RecordError::Time)?;
    Ok((Token(number(17)), stored, mutation))
}

pub(crate) fn encode_delivered(before: Position) -> [u8; DELIVERED_BYTES] {
    let mut bytes = [0; DELIVERED_BYTES];
    bytes[..8].copy_from_slice(&before.segment.to_le_bytes());
    bytes[8..].copy_from_slice(&before.offset.to_le_bytes());
    bytes
}

pub(crate) fn decode_delivered(payload: &[u8]) -> Option<Position> {
    let payload: &[u8; DELIVERED_BYTES] = payload.try_into().ok()?;
    let segment = u64::from_le_bytes(*payload.first_chunk()?);
    let offset = u32::from_le_bytes(*payload[8..].first_chunk()?);
    // A number that leaves room for the segments to come.
    (segment <= u64::MAX / 2).then_some(Position { segment, offset })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(number: u128) -> NodeId {
        NodeId(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn the_bytes_of_version_1_stay_what_they_are() {
        let stored = Timestamp::from_micros(0x0102_0304_0506_0708).unwrap();
        let hint = Hint { token: Token(-2), stored, mutation: Bytes::from_static(b"mutation") };
        let mut record = Vec::new();
        encode(node(0x00112233_44556677_8899aabb_ccddeeff), &hint, &mut record);
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(&record), "0100112233445566778899aabbccddeefffeffffffffffffff08070605040302016d75746174696f6e");
        assert_eq!(hex(&encode_delivered(Position { segment: 3, offset: 0x2010 })), "030000000000000010200000");
    }

    #[test]
    fn what_is_not_a_hint_for_this_target_is_refused_by_name() {
        let hint = Hint { token: Token(1), stored: Timestamp::MIN, mutation: Bytes::new() };
        let mut record = Vec::new();
        encode(node(7), &hint, &mut record);
        assert_eq!(parse(node(8), &record), Err(RecordError::Target { target: node(7) }));
        assert_eq!(parse(node(7), &record[..32]), Err(RecordError::TooShort { bytes: 32 }));
        assert_eq!(parse(node(7), &[]), Err(RecordError::TooShort { bytes: 0 }));
        assert_eq!(parse(node(7), &[9, 1, 2]), Err(RecordError::Version { version: 9 }));
        record[25..33].copy_from_slice(&i64::MIN.to_le_bytes());
        assert_eq!(parse(node(7), &record), Err(RecordError::Time));
        assert_eq!(decode_delivered(&[0; 11]), None);
        assert_eq!(decode_delivered(&[0xff; 12]), None);
    }

    proptest! {
        #[test]
        fn a_record_decodes_to_itself(
            target: u128, token: i64, micros in i64::MIN + 1.., mutation in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let stored = Timestamp::from_micros(micros).unwrap();
            let hint = Hint { token: Token(token), stored, mutation: mutation.into() };
            let mut record = Vec::new();
            encode(node(target), &hint, &mut record);
            prop_assert_eq!(record.len(), hint.bytes());
            prop_assert_eq!(parse(node(target), &record), Ok((hint.token, hint.stored, &hint.mutation[..])));
        }

        #[test]
        fn a_place_decodes_to_itself(segment in 0..u64::MAX / 2, offset: u32) {
            let place = Position { segment, offset };
            prop_assert_eq!(decode_delivered(&encode_delivered(place)), Some(place));
        }

        // Promise: P19
        #[test]
        fn any_bytes_are_a_hint_or_an_error(target: u128, record in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok((_, _, mutation)) = parse(node(target), &record) {
                prop_assert_eq!(mutation.len() + HEADER_BYTES, record.len());
            }
        }
    }
}
