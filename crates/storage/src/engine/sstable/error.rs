//! What can go wrong with an SSTable. No variant changes state: a table is immutable, and damage is never served.

use super::name::{Component, FileId};
use kula_disk::DiskError;
use kula_types::Token;
use std::fmt;

/// Tokens from `first` to `last`, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenSpan {
    pub first: Token,
    pub last: Token,
}

/// Why a read or a write of an SSTable failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SstableError {
    /// The bytes are not those that were written. Whatever this table holds for `tokens` is *unknown*, not absent;
    /// other tokens can still be read. `block` is the place in the component's file.
    #[error("{component} of sstable {file} is damaged at byte {block} ({why}); its tokens {tokens} are unknown")]
    Damaged { file: FileId, component: Component, block: u64, tokens: TokenSpan, why: Why },
    /// A later Kula wrote this table; this one must not guess. Nothing is damaged.
    #[error("sstable {file} has format version {version}, this program reads up to {}", super::FORMAT_VERSION)]
    TooNew { file: FileId, version: u16 },
    /// One row, or one partition's header, is larger than the format can hold. The table was not written.
    #[error("one entry of {bytes} bytes is more than an sstable holds")]
    EntryTooLarge { bytes: usize },
    /// The disk refused. After a failed write or sync the table does not exist: unlink its files.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// What is wrong with damaged bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Why {
    #[error("the checksum does not match")]
    Checksum,
    #[error("the file has {actual} bytes instead of {expected}")]
    FileLength { expected: u64, actual: u64 },
    #[error("the file is missing")]
    Missing,
    #[error("not a file of an sstable")]
    Magic,
    #[error("the file belongs to another sstable, generation or component")]
    Misplaced,
    #[error("a length runs past the end")]
    Truncated,
    #[error("bytes are left over")]
    LeftOver,
    #[error("a varint has another form than the shortest")]
    Varint,
    #[error("{plain} bytes claimed from {stored}")]
    Bomb { stored: u64, plain: u64 },
    #[error("unknown codec or flags")]
    Unsupported,
    #[error("decompression failed")]
    Decompression,
    #[error("positions are not in ascending order")]
    Order,
    #[error("fields contradict one another")]
    Contradiction,
    #[error("a row or partition header does not decode")]
    Entry,
}

impl TokenSpan {
    pub const ALL: TokenSpan = TokenSpan { first: Token::MIN, last: Token::MAX };

    pub fn contains(self, token: Token) -> bool {
        self.first <= token && token <= self.last
    }
}

impl fmt::Display for TokenSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}", self.first, self.last)
    }
}
