//! The filter: which partition keys a table certainly does not hold.
#![doc = include_str!("../../../../../docs/format/sstable-filter.md")]

use super::{cursor::Cursor, error::Why, limits::FILTER_PART_KEYS};
use bytes::Bytes;
use kula_types::Token;
use xorf::BinaryFuse8;
use xxhash_rust::xxh3::xxh3_64;

const KIND_ALL: u8 = 0;
const KIND_FUSE8: u8 = 1;
/// The longest segment that the builder makes; also keeps every sum below 32 bits.
const SEGMENT_LENGTH_MAX: u32 = 1 << 18;
const FINGERPRINTS_MAX: usize = 16 << 20;

/// The pinned hash that filters are built over: XXH3, 64 bits, seed 0.
pub(super) fn hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// Gathers the keys of a part; memory is bounded by `FILTER_PART_KEYS`.
#[derive(Default)]
pub(super) struct FilterBuilder {
    hashes: Vec<u64>,
    last: Option<Token>,
}

impl FilterBuilder {
    /// Adds a key. Returns a finished part, to be written before the next one, when enough keys have come: a part ends
    /// only between two tokens, so that a token lies in one part.
    pub fn add(&mut self, token: Token, key: &[u8]) -> Option<Vec<u8>> {
        let full = self.hashes.len() >= FILTER_PART_KEYS && self.last != Some(token);
        let part = if full { self.finish() } else { None };
        self.hashes.push(hash(key));
        self.last = Some(token);
        part
    }

    /// The last part, if keys are left.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        let last = self.last.take()?;
        self.hashes.sort_unstable();
        self.hashes.dedup();
        let mut out = last.to_ordered_bytes().to_vec();
        // The builder retries with other seeds and gives up only on sets it cannot peel; then any key may be there.
        match BinaryFuse8::try_from(self.hashes.as_slice()) {
            Ok(filter) => {
                out.push(KIND_FUSE8);
                out.extend_from_slice(&filter.descriptor.seed.to_le_bytes());
                out.extend_from_slice(&filter.descriptor.segment_length.to_le_bytes());
                out.extend_from_slice(&filter.descriptor.segment_count_length.to_le_bytes());
                out.extend_from_slice(&filter.fingerprints);
            }
            Err(_) => out.push(KIND_ALL),
        }
        self.hashes.clear();
        Some(out)
    }
}

/// The parts of a table's filter, in token order.
#[derive(Debug, Default)]
pub(super) struct Filter {
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    last: Token,
    fuse: Option<Fuse>,
}

/// Our own reading of a binary fuse filter with 8-bit fingerprints: the format must not follow a crate's internals.
#[derive(Debug)]
struct Fuse {
    seed: u64,
    segment_length: u32,
    segment_count_length: u32,
    fingerprints: Bytes,
}

impl Filter {
    /// Adds the part that follows.
    pub fn push(&mut self, bytes: &Bytes) -> Result<(), Why> {
        let part = Part::parse(bytes)?;
        if self.parts.last().is_some_and(|before| before.last >= part.last) {
            return Err(Why::Order);
        }
        self.parts.push(part);
        Ok(())
    }

    /// False only if the table does not hold the key.
    pub fn may_contain(&self, token: Token, key: &[u8]) -> bool {
        let number = self.parts.partition_point(|part| part.last < token);
        self.parts.get(number).is_some_and(|part| part.fuse.as_ref().is_none_or(|fuse| fuse.may_contain(hash(key))))
    }

    pub fn last(&self) -> Option<Token> {
        self.parts.last().map(|part| part.last)
    }

    /// Bytes held in memory.
    pub fn heap_bytes(&self) -> usize {
        self.parts.iter().filter_map(|part| part.fuse.as_ref()).map(|fuse| fuse.fingerprints.len()).sum()
    }
}

impl Part {
    fn parse(bytes: &Bytes) -> Result<Self, Why> {
        let mut fields = Cursor::new(bytes);
        let last = Token::from_ordered_bytes(fields.array()?);
        let fuse = match fields.u8()? {
            KIND_ALL if fields.is_at_end() => None,
            KIND_ALL => return Err(Why::LeftOver),
            KIND_FUSE8 => {
                let (seed, segment_length, segment_count_length) = (fields.u64()?, fields.u32()?, fields.u32()?);
                let fingerprints = bytes.slice(fields.position()..);
                let fuse = Fuse { seed, segment_length, segment_count_length, fingerprints };
                Some(fuse.checked()?)
            }
            _ => return Err(Why::Unsupported),
        };
        Ok(Part { last, fuse })
    }
}

impl Fuse {
    /// Three places of any hash must lie within the fingerprints.
    fn checked(self) -> Result<Self, Why> {
        let (segment, count) = (self.segment_length, self.segment_count_length);
        let sane =
            segment.is_power_of_two() && segment <= SEGMENT_LENGTH_MAX && count > 0 && count.is_multiple_of(segment);
        let fits = self.fingerprints.len() <= FINGERPRINTS_MAX
            && u64::from(count) + 2 * u64::from(segment) == self.fingerprints.len() as u64;
        if sane && fits { Ok(self) } else { Err(Why::Contradiction) }
    }

    fn may_contain(&self, key: u64) -> bool {
        let hash = mix(key.wrapping_add(self.seed));
        let mask = u64::from(self.segment_length) - 1;
        // Below segment_count_length, hence below 2^32.
        let first = u64::try_from((u128::from(hash) * u128::from(self.segment_count_length)) >> 64).unwrap_or(0);
        let second = (first + u64::from(self.segment_length)) ^ ((hash >> 18) & mask);
        let third = (first + 2 * u64::from(self.segment_length)) ^ (hash & mask);
        let [fingerprint, ..] = (hash ^ (hash >> 32)).to_le_bytes();
        let at = |place: u64| {
            usize::try_from(place).ok().and_then(|place| self.fingerprints.get(place)).copied().unwrap_or(0)
        };
        fingerprint ^ at(first) ^ at(second) ^ at(third) == 0
    }
}

/// Murmur3's 64-bit finaliser.
fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn token(number: u64) -> Token {
        Token::from_unsigned(number << 20)
    }

    fn key(number: u64) -> [u8; 8] {
        number.to_be_bytes()
    }

    fn build(count: u64) -> Filter {
        let (mut builder, mut filter) = (FilterBuilder::default(), Filter::default());
        let mut push =
            |part: Option<Vec<u8>>| part.into_iter().for_each(|part| filter.push(&Bytes::from(part)).unwrap());
        (0..count).for_each(|number| push(builder.add(token(number), &key(number))));
        push(builder.finish());
        filter
    }

    #[test]
    fn no_key_is_ever_denied_whatever_their_number() {
        for count in (1..130).chain([1000, 4097]) {
            let filter = build(count);
            assert!((0..count).all(|number| filter.may_contain(token(number), &key(number))), "{count}");
        }
    }

    #[test]
    fn few_strangers_pass() {
        let count = 20_000;
        let filter = build(count);
        assert_eq!(filter.parts.len(), 1);
        // Same tokens, other keys: what gets past the bounds is for the fingerprints to stop.
        let passed = (0..count).filter(|number| filter.may_contain(token(*number), &key(number + (1 << 40)))).count();
        assert!(passed < 120, "{passed} of {count}: 0.6 % is far past the expected 0.4 %");
        assert!(filter.heap_bytes() * 8 < 20_000 * 11, "more than 11 bits a key");
    }

    #[test]
    fn a_part_ends_between_tokens_and_equal_hashes_are_one() {
        let (mut builder, mut filter) = (FilterBuilder::default(), Filter::default());
        let count = FILTER_PART_KEYS as u64 + 10;
        // The last tokens before the limit and a few after it are equal, and a key comes twice.
        let token =
            |number: u64| if number > count - 15 && number < count - 5 { token(count - 15) } else { token(number) };
        let mut parts = Vec::new();
        for number in 0..count {
            parts.extend(builder.add(token(number), &key(number.saturating_sub(1))));
        }
        parts.extend(builder.finish());
        assert_eq!(parts.len(), 2);
        for part in parts {
            filter.push(&Bytes::from(part)).unwrap();
        }
        assert!((0..count).all(|number| filter.may_contain(token(number), &key(number.saturating_sub(1)))));
        assert!(!filter.may_contain(Token::MAX, b"past the last part"));
    }

    proptest! {
        #[test]
        fn any_bytes_do_not_panic(mut bytes in vec(any::<u8>(), 0..80), shape in 0u32..4, probe: u64) {
            if bytes.len() > 25 {
                bytes[8] = 1;
                let length = u32::try_from(bytes.len() - 25).unwrap();
                bytes[17..21].copy_from_slice(&(1u32 << shape).to_le_bytes());
                bytes[21..25].copy_from_slice(&length.saturating_sub(2 << shape).to_le_bytes());
            }
            let mut filter = Filter::default();
            if filter.push(&Bytes::from(bytes)).is_ok() {
                let token = filter.last().unwrap();
                prop_assert!(filter.may_contain(token, &probe.to_le_bytes()) || filter.heap_bytes() > 0);
            }
        }
    }
}
