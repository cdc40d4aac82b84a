//! Why bytes are not what they should be. Nothing has changed: decoding has no effect but its result.

use kula_types::{Dot, DotError};

/// Positions are counted in bytes from the start of the input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the bytes end at {at}, where more belong")]
    Truncated { at: usize },
    #[error("{left} bytes are left over after the end, at {at}")]
    Trailing { at: usize, left: usize },
    #[error("version {found} of the format is not known here")]
    Version { found: u8 },
    #[error("the {part} at {at} has the unknown tag {found:#04x}")]
    Tag { part: &'static str, found: u8, at: usize },
    #[error("the cell at {at} has a counter, which this version cannot join")]
    Counter { at: usize },
    #[error("the number at {at} is not in its shortest form, or too large")]
    Number { at: usize },
    #[error("the {part} at {at} are not in ascending order")]
    Order { part: &'static str, at: usize },
    #[error("the {part} at {at} is not in its one valid form")]
    Form { part: &'static str, at: usize },
    #[error("the {part} has {len} bytes, at most {max} are allowed")]
    TooLong { part: &'static str, len: usize, max: usize },
    #[error("the timestamp at {at} is not one")]
    Timestamp { at: usize },
    #[error("the dot at {at} is not one: {source}")]
    Dot { at: usize, source: DotError },
    #[error("the sibling {dot:?} is live but was never seen")]
    LiveNotSeen { dot: Dot },
}
