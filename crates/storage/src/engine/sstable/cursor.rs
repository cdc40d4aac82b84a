//! Reading fields from bytes that may lie: every length is checked against what is left, nothing is allocated.

use super::error::Why;

/// A place in a byte slice; moves forward only.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0 }
    }

    /// Starts at `at`, which must lie within the bytes.
    pub fn starting(bytes: &'a [u8], at: usize) -> Self {
        assert!(at <= bytes.len());
        Cursor { bytes, at }
    }

    /// Bytes consumed, counted from the beginning of the slice.
    pub fn position(&self) -> usize {
        self.at
    }

    pub fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Why> {
        let end = self.at.checked_add(length).ok_or(Why::Truncated)?;
        let taken = self.bytes.get(self.at..end).ok_or(Why::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Why> {
        self.take(N)?.first_chunk().copied().ok_or(Why::Truncated)
    }

    pub fn u8(&mut self) -> Result<u8, Why> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Result<u16, Why> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Why> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Why> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, Why> {
        self.array().map(i64::from_le_bytes)
    }

    /// LEB128, at most ten bytes, the shortest form only: equal numbers have equal bytes.
    pub fn varint(&mut self) -> Result<u64, Why> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 || shift > 0 && byte == 0 {
                return Err(Why::Varint);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Why::Varint)
    }

    /// A varint that counts bytes still to come.
    pub fn length(&mut self) -> Result<usize, Why> {
        usize::try_from(self.varint()?).map_err(|_| Why::Truncated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kula_lattice::codec::put_varint;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_varint_reads_back_and_has_one_form(shift in 0u32..64, raw: u64) {
            let value = raw >> shift;
            let mut out = Vec::new();
            put_varint(value, &mut out);
            prop_assert_eq!(Cursor::new(&out).varint(), Ok(value));
            // The same number with a padding byte is refused.
            if let Some(last) = out.last_mut() {
                *last |= 0x80;
            }
            out.push(0);
            prop_assert_eq!(Cursor::new(&out).varint(), Err(Why::Varint));
        }
    }
}
