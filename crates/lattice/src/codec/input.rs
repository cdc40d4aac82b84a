//! Bytes being read: every step is checked against what is left, and every slice shares the input's memory.

use super::DecodeError;
use bytes::Bytes;
use kula_types::Timestamp;

/// A place in some bytes.
pub struct Input<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> Input<'a> {
    pub const fn new(bytes: &'a Bytes) -> Self {
        Input { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub const fn position(&self) -> usize {
        self.at
    }

    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Nothing may be left.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing { at: self.at, left }),
        }
    }

    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()) {
            Some(array) => {
                self.at += N;
                Ok(*array)
            }
            None => Err(DecodeError::Truncated { at: self.bytes.len() }),
        }
    }

    /// A slice of the input: no copy.
    pub fn slice(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        if len > self.remaining() {
            return Err(DecodeError::Truncated { at: self.bytes.len() });
        }
        let slice = self.bytes.slice(self.at..self.at + len);
        self.at += len;
        Ok(slice)
    }

    /// A length and as many bytes, at most `max`.
    pub fn bytes(&mut self, part: &'static str, max: usize) -> Result<Bytes, DecodeError> {
        let len = self.length()?;
        if len > max {
            return Err(DecodeError::TooLong { part, len, max });
        }
        self.slice(len)
    }

    /// LEB128, shortest form only.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let at = self.at;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if (shift == 63 && bits > 1) || (byte == 0 && shift > 0) {
                return Err(DecodeError::Number { at });
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Number { at })
    }

    fn length(&mut self) -> Result<usize, DecodeError> {
        let at = self.at;
        usize::try_from(self.varint()?).map_err(|_| DecodeError::Number { at })
    }

    /// A count of entries that take at least `each` bytes: never more than what is left can hold, so that room for them
    /// may be reserved.
    pub fn count(&mut self, each: usize) -> Result<usize, DecodeError> {
        let count = self.length()?;
        if count > self.remaining() / each {
            return Err(DecodeError::Truncated { at: self.bytes.len() });
        }
        Ok(count)
    }

    pub fn timestamp(&mut self) -> Result<Timestamp, DecodeError> {
        let at = self.at;
        Timestamp::from_micros(i64::from_le_bytes(self.array()?)).map_err(|_| DecodeError::Timestamp { at })
    }
}

/// LEB128: seven bits a byte, the lowest first, the top bit set on all but the last.
pub fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

pub fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_form() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put_varint(value, &mut out);
            let bytes = Bytes::from(out.clone());
            let mut input = Input::new(&bytes);
            assert_eq!(input.varint(), Ok(value));
            assert_eq!(input.finish(), Ok(()));
            // The same number with a superfluous byte, and without its last one.
            *out.last_mut().unwrap() |= 0x80;
            out.push(0);
            assert!(Input::new(&Bytes::from(out.clone())).varint().is_err(), "{value}");
            out.pop();
            assert!(Input::new(&Bytes::from(out)).varint().is_err(), "{value}");
        }
        let too_large = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]);
        assert_eq!(Input::new(&too_large).varint(), Err(DecodeError::Number { at: 0 }));
    }

    // Promise: P19
    #[test]
    fn a_count_beyond_the_input_is_refused_before_anything_is_reserved() {
        let bytes = Bytes::from_static(&[5, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Input::new(&bytes).count(2), Err(DecodeError::Truncated { at: 10 }));
        assert_eq!(Input::new(&bytes).count(1), Ok(5));
    }
}
