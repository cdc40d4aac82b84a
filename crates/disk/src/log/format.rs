//! The bytes of a segment; the table and the rules are on the page this module's parent includes.

use super::Position;

pub(super) const VERSION: u16 = 1;
pub(super) const HEADER_BYTES: usize = 64;
/// Each copy of the header has a 4 KiB block of its own, so that one bad block never takes both, and no record shares a
/// block with either.
pub(super) const HEADER_COPIES_AT: [u32; 2] = [0, 4096];
pub(super) const RECORDS_AT: u32 = 8192;
pub(super) const RECORD_HEADER_BYTES: u32 = 20;
/// Records begin at multiples of this: a search for them tries an eighth of all bytes.
pub(super) const ALIGNMENT: u32 = 8;

const MAGIC: [u8; 8] = *b"KulaSLog";
const CHECKSUM_AT: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub kind: u16,
    pub segment: u64,
    pub salt: u64,
    pub segment_bytes: u32,
    /// The segment before this one and where its records end; 0 and 0 if there is none, end 0 if it is not known.
    pub previous: Position,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged,
    Newer { found: u16 },
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.kind.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.segment.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.salt.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.segment_bytes.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.previous.offset.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.previous.segment.to_le_bytes());
        let checksum = header_checksum(&bytes);
        bytes[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<SegmentHeader, BadHeader> {
        if bytes[0..8] != MAGIC || u32_at(bytes, CHECKSUM_AT) != header_checksum(bytes) {
            return Err(BadHeader::Damaged);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(BadHeader::Newer { found: version });
        }
        let header = SegmentHeader {
            kind: u16::from_le_bytes([bytes[10], bytes[11]]),
            segment: u64_at(bytes, 16),
            salt: u64_at(bytes, 24),
            segment_bytes: u32_at(bytes, 32),
            previous: Position { segment: u64_at(bytes, 40), offset: u32_at(bytes, 36) },
        };
        if header.segment_bytes < RECORDS_AT { Err(BadHeader::Damaged) } else { Ok(header) }
    }

    pub(super) fn seed(&self) -> Seed {
        let salted = crc32c::crc32c(&self.salt.to_le_bytes());
        Seed(crc32c::crc32c_append(salted, &self.segment.to_le_bytes()))
    }
}

fn header_checksum(bytes: &[u8; HEADER_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..CHECKSUM_AT]), &bytes[CHECKSUM_AT + 4..])
}

/// Where every checksum of one segment starts from. For the same bytes, different seeds always give different
/// checksums: a record left over from the file's earlier life is never valid again at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seed(u32);

impl Seed {
    fn at(self, offset: u32) -> u32 {
        crc32c::crc32c_append(self.0, &offset.to_le_bytes())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    Data = 1,
    /// Carries only `synced_upto`.
    Marker = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub kind: RecordKind,
    pub payload_bytes: u32,
    /// Everything in the segment before this offset was durable when the record was written.
    pub synced_upto: u32,
    payload_checksum: u32,
}

impl RecordHeader {
    /// Cheap tests first: a search calls this for every eighth byte of a segment.
    pub(super) fn decode(bytes: &[u8], seed: Seed, offset: u32, end: u32) -> Option<RecordHeader> {
        let bytes = bytes.first_chunk::<{ RECORD_HEADER_BYTES as usize }>()?;
        let kind = match bytes[16..20] {
            [1, 0, 0, 0] => RecordKind::Data,
            [2, 0, 0, 0] => RecordKind::Marker,
            _ => return None,
        };
        let header = RecordHeader {
            kind,
            payload_bytes: u32_at(bytes, 8),
            synced_upto: u32_at(bytes, 12),
            payload_checksum: u32_at(bytes, 4),
        };
        let fits = u64::from(offset) + record_bytes(header.payload_bytes) <= u64::from(end);
        let is_plausible = fits && (RECORDS_AT..=offset).contains(&header.synced_upto);
        let is_valid = || u32_at(bytes, 0) == crc32c::crc32c_append(seed.at(offset), &bytes[4..]);
        (is_plausible && is_valid()).then_some(header)
    }

    pub(super) fn matches(&self, payload: &[u8], seed: Seed, offset: u32) -> bool {
        crc32c::crc32c_append(seed.at(offset), payload) == self.payload_checksum
    }

    /// Where the next record begins.
    pub(super) fn end(&self, offset: u32) -> u32 {
        let end = u64::from(offset) + record_bytes(self.payload_bytes);
        // `decode` saw it fit below a `u32`.
        u32::try_from(end).unwrap_or(u32::MAX)
    }
}

/// Bytes that a record takes with its header and padding.
pub(super) fn record_bytes(payload_bytes: u32) -> u64 {
    (u64::from(RECORD_HEADER_BYTES) + u64::from(payload_bytes)).next_multiple_of(u64::from(ALIGNMENT))
}

/// Appends a record that will lie at `offset` to `buffer`.
pub(super) fn encode_record(
    buffer: &mut Vec<u8>,
    kind: RecordKind,
    payload: &[u8],
    payload_bytes: u32,
    synced_upto: u32,
    seed: Seed,
    offset: u32,
) {
    let seed = seed.at(offset);
    let mut header = [0; RECORD_HEADER_BYTES as usize];
    header[4..8].copy_from_slice(&crc32c::crc32c_append(seed, payload).to_le_bytes());
    header[8..12].copy_from_slice(&payload_bytes.to_le_bytes());
    header[12..16].copy_from_slice(&synced_upto.to_le_bytes());
    header[16] = kind as u8;
    let checksum = crc32c::crc32c_append(seed, &header[4..]);
    header[0..4].copy_from_slice(&checksum.to_le_bytes());
    buffer.extend_from_slice(&header);
    buffer.extend_from_slice(payload);
    buffer.resize(buffer.len().next_multiple_of(ALIGNMENT as usize), 0);
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: SegmentHeader = SegmentHeader {
        kind: 7,
        segment: 0x0102_0304,
        salt: 0x1122_3344_5566_7788,
        segment_bytes: 1 << 20,
        previous: Position { segment: 3, offset: 9000 },
    };

    #[test]
    fn the_bytes_of_version_1_stay_what_they_are() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let mut record = Vec::new();
        encode_record(&mut record, RecordKind::Data, b"kula", 4, 8192, HEADER.seed(), 8200);
        insta::assert_snapshot!(format!("{}\n{}", hex(&HEADER.encode()), hex(&record)));
    }

    proptest! {
        #[test]
        fn a_header_decodes_to_itself_and_any_flipped_bit_is_seen(
            segment in any::<u64>(), salt in any::<u64>(), kind in any::<u16>(), bit in 0..HEADER_BYTES * 8,
        ) {
            let header = SegmentHeader { segment, salt, kind, ..HEADER };
            let mut bytes = header.encode();
            prop_assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(SegmentHeader::decode(&bytes), Err(BadHeader::Damaged));
        }

        #[test]
        fn a_record_is_valid_only_in_its_segment_at_its_place(
            payload in prop::collection::vec(any::<u8>(), 0..200),
            place in (RECORDS_AT / 8..9000).prop_map(|n| n * 8),
            other_place in (RECORDS_AT / 8..9000).prop_map(|n| n * 8),
            other_salt in any::<u64>(),
        ) {
            let payload_bytes = payload.len() as u32;
            let mut record = Vec::new();
            encode_record(&mut record, RecordKind::Data, &payload, payload_bytes, RECORDS_AT, HEADER.seed(), place);
            prop_assert_eq!(record.len() as u64, record_bytes(payload_bytes));
            let decoded = RecordHeader::decode(&record, HEADER.seed(), place, 1 << 20).unwrap();
            prop_assert!(decoded.matches(&payload, HEADER.seed(), place));
            prop_assert_eq!(u64::from(decoded.end(place)), u64::from(place) + record.len() as u64);
            let other = SegmentHeader { salt: other_salt, ..HEADER };
            if other_salt != HEADER.salt && other.seed() != HEADER.seed() {
                prop_assert_eq!(RecordHeader::decode(&record, other.seed(), place, 1 << 20), None);
            }
            if other_place != place {
                prop_assert_eq!(RecordHeader::decode(&record, HEADER.seed(), other_place, 1 << 20), None);
            }
        }
    }
}
