//! Murmur3 x64 128, the variant of Cassandra's partitioner: the bytes of the tail are sign-extended, so keys with bytes
//! from 0x80 on hash unlike the published Murmur3. Seed 0, the first 64 of the 128 bits.
//!
//! CQL drivers compute the same to route their requests; a difference would cost a hop, never correctness.

const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;

pub(crate) fn first_64_bits(key: &[u8]) -> i64 {
    let (mut h1, mut h2) = (0u64, 0u64);
    let (blocks, tail) = key.as_chunks::<16>();
    for block in blocks {
        let block = u128::from_le_bytes(*block);
        let (k1, k2) = (low(block), low(block >> 64));
        h1 ^= mix1(k1);
        h1 = h1.rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 ^= mix2(k2);
        h2 = h2.rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let (low_tail, high_tail) = tail.split_at(tail.len().min(8));
    h2 ^= mix2(sign_extended(high_tail));
    h1 ^= mix1(sign_extended(low_tail));
    let len = key.len() as u64;
    (h1, h2) = (h1 ^ len, h2 ^ len);
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    finish(h1).wrapping_add(finish(h2)).cast_signed()
}

/// The low 64 bits.
#[allow(clippy::cast_possible_truncation, reason = "the mask says which bits are meant")]
const fn low(block: u128) -> u64 {
    (block & u64::MAX as u128) as u64
}

/// Up to eight bytes, little-endian, each extended by its sign before it is shifted: Cassandra's Java does
/// `((long) byte) << n` where the original has an unsigned byte. An empty tail gives 0, which mixes to 0.
fn sign_extended(tail: &[u8]) -> u64 {
    let word = |(i, byte): (usize, &u8)| i64::from(byte.cast_signed()).cast_unsigned() << (8 * i);
    tail.iter().enumerate().map(word).fold(0, |all, word| all ^ word)
}

const fn mix1(k: u64) -> u64 {
    k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2)
}

const fn mix2(k: u64) -> u64 {
    k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1)
}

const fn finish(mut h: u64) -> u64 {
    h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Cassandra's algorithm once more, slowly and otherwise written: signed 128-bit integers reduced modulo 2^64 after
    /// every step, rotation by division, the tail byte by byte from its end as in the Java source.
    fn reference(key: &[u8]) -> i64 {
        const M: i128 = 1 << 64;
        let rotate = |x: i128, by: u32| (x * (1 << by)) % M + x / (M >> by);
        let times = |a: i128, b: i128| {
            let (high, low) = (b >> 32, b & 0xffff_ffff);
            (((a * high) % M) * (1 << 32) + a * low) % M
        };
        let xor = |a: i128, b: i128| (a ^ b).rem_euclid(M);
        let (c1, c2) = (i128::from(C1), i128::from(C2));
        let byte = |i: usize| i128::from(key[i]);
        let (mut h1, mut h2) = (0i128, 0i128);
        let whole = key.len() / 16;
        for block in 0..whole {
            let word = |at: usize| (0..8).map(|i| byte(block * 16 + at + i) << (8 * i)).sum::<i128>();
            h1 = xor(h1, times(rotate(times(word(0), c1), 31), c2));
            h1 = (times((rotate(h1, 27) + h2) % M, 5) + 0x52dc_e729) % M;
            h2 = xor(h2, times(rotate(times(word(8), c2), 33), c1));
            h2 = (times((rotate(h2, 31) + h1) % M, 5) + 0x3849_5ab5) % M;
        }
        let (mut k1, mut k2) = (0i128, 0i128);
        for i in (0..key.len() % 16).rev() {
            let unsigned = byte(whole * 16 + i);
            let signed = if unsigned > 127 { unsigned - 256 } else { unsigned };
            let k = if i >= 8 { &mut k2 } else { &mut k1 };
            *k = xor(*k, (signed * (1 << (8 * (i % 8)))).rem_euclid(M));
        }
        h2 = xor(h2, times(rotate(times(k2, c2), 33), c1));
        h1 = xor(h1, times(rotate(times(k1, c1), 31), c2));
        let len = i128::try_from(key.len()).unwrap();
        (h1, h2) = (xor(h1, len), xor(h2, len));
        h1 = (h1 + h2) % M;
        h2 = (h2 + h1) % M;
        let finish = |mut h: i128| {
            for factor in [0xff51_afd7_ed55_8ccdu64, 0xc4ce_b9fe_1a85_ec53] {
                h = times(xor(h, h >> 33), i128::from(factor));
            }
            xor(h, h >> 33)
        };
        u64::try_from((finish(h1) + finish(h2)) % M).unwrap().cast_signed()
    }

    #[test]
    fn published_vectors_hold() {
        for (key, token) in [
            (b"123".as_slice(), -7_468_325_962_851_647_638),
            ("café".as_bytes(), -5_777_272_221_172_978_824),
            (&[0x00, 0xff, 0x10, 0xfa, 0x99], -7_014_524_706_476_729_975),
            (b"", 0),
        ] {
            assert_eq!(first_64_bits(key), token, "{key:?}");
            assert_eq!(reference(key), token, "the reference, {key:?}");
        }
    }

    /// Byte i is 0xff - 7 i, so most tails have high bytes. Computed with the published Python CQL driver.
    #[test]
    fn every_tail_length_agrees_with_the_python_driver() {
        let vectors = [
            (0usize, 0),
            (1, -4_442_228_696_663_692_417),
            (2, -2_062_774_559_483_033_959),
            (3, 4_664_449_048_734_607_403),
            (4, -3_137_667_457_123_985_950),
            (5, 5_196_761_624_337_915_574),
            (6, -4_156_402_959_971_016_447),
            (7, 1_285_812_995_793_384_022),
            (8, 4_283_474_080_575_724_166),
            (9, 3_372_097_326_892_303_166),
            (10, 5_610_532_154_656_967_292),
            (11, -3_982_726_197_670_645_776),
            (12, -5_376_632_670_112_030_766),
            (13, 2_399_245_384_227_333_124),
            (14, 4_076_409_681_868_606_009),
            (15, -1_001_731_882_189_536_736),
            (16, 9_142_094_630_292_602_337),
            (17, -1_796_486_441_991_153_638),
            (31, 801_263_828_349_082_446),
            (32, -6_041_126_383_646_859_770),
            (33, 6_992_460_642_269_699_522),
            (47, -4_030_637_101_953_876_539),
            (48, 5_402_436_333_684_773_700),
            (63, 4_560_616_068_448_822_719),
            (64, 6_647_235_386_277_723_165),
            (65, 1_439_488_817_764_150_817),
            (255, -1_011_150_926_416_604_216),
            (256, -4_457_249_333_729_371_520),
        ];
        for (len, token) in vectors {
            let key: Vec<u8> = (0..len).map(|i| u8::try_from((0xffff - 7 * i) % 256).unwrap()).collect();
            assert_eq!(first_64_bits(&key), token, "length {len}");
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_slow_reference(key in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(first_64_bits(&key), reference(&key));
        }
    }
}
