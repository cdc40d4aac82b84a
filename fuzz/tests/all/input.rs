//! What a decoder is fed: an entry of a corpus with some edits, or bytes of any kind.

use bolero::{Driver, ValueGenerator};
use bytes::Bytes;
use kula_lattice::codec::put_varint;
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use std::fmt;

/// Inputs a full target runs when `KULA_FUZZ_INPUTS` does not say: together a few seconds, unoptimised.
const INPUTS_DEFAULT: usize = 2_000;
/// Longer inputs only cost time: no decoder has a bound between this and the largest corpus entry.
const INPUT_BYTES_MAX: usize = 64 << 10;
/// How many edits: mostly few, for one too many only meets the first check that it breaks.
const EDITS: [usize; 8] = [0, 1, 1, 1, 2, 2, 3, 6];
/// Numbers that lengths, counts and places are wrong by.
const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x3fff,
    0xffff,
    1 << 20,
    16 << 20,
    (16 << 20) + 1,
    (1 << 31) - 1,
    u32::MAX as u64,
    (1 << 40) - 1,
    i64::MAX as u64,
    u64::MAX,
];

/// What a target is given. `pick` is the entry of its corpus that the bytes came from; a target may read more into it.
#[derive(Clone)]
pub struct Input {
    pub pick: usize,
    pub bytes: Bytes,
}

/// As a line of `testdata/regressions.txt` has it.
impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.pick)?;
        self.bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Inputs a target runs: one of `share` of what a full one does.
pub fn count(share: usize) -> usize {
    let asked = std::env::var("KULA_FUZZ_INPUTS").ok().and_then(|text| text.parse().ok());
    (asked.unwrap_or(INPUTS_DEFAULT) / share).max(100)
}

/// Values of a strategy, always the same ones.
pub fn samples<T>(strategy: impl Strategy<Value = T>, count: usize) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// Entries of a corpus, edited.
pub struct Edited<'a>(pub &'a [Bytes]);

impl ValueGenerator for Edited<'_> {
    type Output = Input;

    fn generate<D: Driver>(&self, driver: &mut D) -> Option<Input> {
        let pick = usize::from(driver.produce::<u16>()?) % self.0.len();
        let shape = driver.produce::<u8>()?;
        let mut bytes;
        if shape < 16 {
            bytes = some_bytes(driver, 300)?;
        } else {
            bytes = self.0[pick].to_vec();
            for _ in 0..EDITS[usize::from(shape) % EDITS.len()] {
                edit(self.0, driver, &mut bytes)?;
            }
        }
        bytes.truncate(INPUT_BYTES_MAX);
        Some(Input { pick, bytes: Bytes::from(bytes) })
    }
}

fn some_bytes<D: Driver>(driver: &mut D, most: usize) -> Option<Vec<u8>> {
    let length = usize::from(driver.produce::<u16>()?) % most;
    (0..length).map(|_| driver.produce()).collect()
}

fn edit<D: Driver>(corpus: &[Bytes], driver: &mut D, bytes: &mut Vec<u8>) -> Option<()> {
    let at = driver.produce::<u32>()? as usize % (bytes.len() + 1);
    let (kind, detail) = (driver.produce::<u8>()? % 12, driver.produce::<u16>()? as usize);
    let rest = bytes.len() - at;
    match kind {
        0 => change(bytes, at, |byte| byte ^ 1 << (detail % 8)),
        1 => change(bytes, at, |_| detail as u8),
        2 => change(bytes, at, |byte| byte.wrapping_add(if detail.is_multiple_of(2) { 1 } else { 0xff })),
        3 => drop(bytes.splice(at..at, some_bytes(driver, 9)?)),
        4 => drop(bytes.drain(at..at + rest.min(1 + detail % 16))),
        5 => bytes.truncate(at),
        6 => blow_up_varint(bytes, at, number(detail)),
        7 => overwrite(bytes, at, &(number(detail) as u32).to_le_bytes()),
        8 => overwrite(bytes, at, &number(detail).to_le_bytes()),
        9 => blow_up_digits(bytes, at, number(detail)),
        10 => {
            // The rest of another entry, or of this one, from some place on.
            let other = &corpus[driver.produce::<u16>()? as usize % corpus.len()];
            let part = &other[detail % (other.len() + 1)..];
            let whole = driver.produce::<bool>()?;
            let taken = if whole { part } else { &part[..part.len().min(1 + detail % 64)] };
            let replaced = if whole { bytes.len() } else { at + rest.min(taken.len()) };
            drop(bytes.splice(at..replaced, taken.iter().copied()));
        }
        _ => {
            let twice = bytes[at..at + rest.min(1 + detail % 64)].to_vec();
            drop(bytes.splice(at..at, twice));
        }
    }
    Some(())
}

fn number(detail: usize) -> u64 {
    let near = (detail / NUMBERS.len() % 3) as u64;
    NUMBERS[detail % NUMBERS.len()].wrapping_add(near).wrapping_sub(1)
}

fn change(bytes: &mut [u8], at: usize, how: impl FnOnce(u8) -> u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = how(*byte);
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    for (byte, new) in bytes[at..].iter_mut().zip(with) {
        *byte = *new;
    }
}

/// Puts a number in the place of the varint at `at`.
fn blow_up_varint(bytes: &mut Vec<u8>, at: usize, number: u64) {
    let old = bytes[at..].iter().take(10).position(|byte| *byte < 0x80).map_or(0, |last| last + 1);
    let mut new = Vec::new();
    put_varint(number, &mut new);
    drop(bytes.splice(at..at + old, new));
}

/// Puts a number in the place of the next decimal one: for texts.
fn blow_up_digits(bytes: &mut Vec<u8>, at: usize, number: u64) {
    let Some(from) = bytes[at..].iter().position(u8::is_ascii_digit).map(|found| at + found) else { return };
    let digits = bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    drop(bytes.splice(from..from + digits, number.to_string().into_bytes()));
}
