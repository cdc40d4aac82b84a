//! Lines of a file with their numbers and the offset behind them. A line that is too long is passed over, not held.

use std::io::{self, BufRead, ErrorKind};

/// UTF-8's mark at the beginning of a file, as spreadsheets write it.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A line was appended, with its end.
    Line,
    /// A line was passed over: with it the buffer would have held more than it may.
    TooLong,
    End,
}

pub struct Lines<R> {
    source: R,
    offset: u64,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub fn new(source: R) -> Self {
        Lines { source, offset: 0, number: 0 }
    }

    /// Bytes read so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Of the line that was read last; the first is 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Appends the next line, with its end, to `into`, which holds at most `most` bytes afterwards.
    pub fn next(&mut self, into: &mut Vec<u8>, most: usize) -> io::Result<Next> {
        let (began, is_first) = (into.len(), self.offset == 0);
        let (mut any, mut fits) = (false, true);
        loop {
            let chunk = match self.source.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if chunk.is_empty() {
                break;
            }
            any = true;
            let end = chunk.iter().position(|&byte| byte == b'\n');
            let taken = end.map_or(chunk.len(), |end| end + 1);
            fits &= into.len() + taken <= most;
            if fits {
                into.extend_from_slice(&chunk[..taken]);
            }
            self.source.consume(taken);
            self.offset += u64::try_from(taken).unwrap_or(u64::MAX);
            if end.is_some() {
                break;
            }
        }
        if !any {
            return Ok(Next::End);
        }
        self.number += 1;
        if !fits {
            into.truncate(began);
            return Ok(Next::TooLong);
        }
        if is_first && into[began..].starts_with(MARK) {
            into.drain(began..began + MARK.len());
        }
        Ok(Next::Line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8], most: usize) -> Vec<(Next, Vec<u8>, u64, u64)> {
        // A small buffer: lines span its ends.
        let mut lines = Lines::new(io::BufReader::with_capacity(3, bytes));
        let mut all = Vec::new();
        loop {
            let mut line = Vec::new();
            let next = lines.next(&mut line, most).unwrap();
            all.push((next, line, lines.number(), lines.offset()));
            if next == Next::End {
                return all;
            }
        }
    }

    #[test]
    fn lines_end_at_lf_and_at_the_end_of_the_file() {
        let read = lines(b"ab\r\n\nlonger line\nx", 64);
        let expected: [(Next, &[u8], u64, u64); 5] = [
            (Next::Line, b"ab\r\n", 1, 4),
            (Next::Line, b"\n", 2, 5),
            (Next::Line, b"longer line\n", 3, 17),
            (Next::Line, b"x", 4, 18),
            (Next::End, b"", 4, 18),
        ];
        assert_eq!(read, expected.map(|(next, line, number, offset)| (next, line.to_vec(), number, offset)));
        assert_eq!(lines(b"", 64).len(), 1);
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_and_the_next_one_read() {
        let read = lines(b"0123456789\nok\n", 4);
        assert_eq!((read[0].0, read[0].3), (Next::TooLong, 11));
        assert_eq!((read[1].0, read[1].1.as_slice(), read[1].2), (Next::Line, b"ok\n".as_slice(), 2));
    }

    #[test]
    fn the_mark_of_utf8_is_no_part_of_the_first_line() {
        assert_eq!(lines(b"\xef\xbb\xbfa\n\xef\xbb\xbfb", 9)[0].1, b"a\n");
        assert_eq!(lines(b"\xef\xbb\xbfa\n\xef\xbb\xbfb", 9)[1].1, b"\xef\xbb\xbfb");
    }
}
