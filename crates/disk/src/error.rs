//! What a disk may answer instead: one variant for each thing a caller does about it.

use std::fmt;

/// The call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Create,
    Open,
    Read,
    Write,
    SetLength,
    Allocate,
    Length,
    SyncData,
    SyncAll,
    SyncDir,
    Rename,
    Link,
    Unlink,
    CreateDir,
    List,
    Exists,
    FreeBytes,
    Lock,
    Salt,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Create => "create",
            Operation::Open => "open",
            Operation::Read => "read",
            Operation::Write => "write",
            Operation::SetLength => "set the length of",
            Operation::Allocate => "allocate",
            Operation::Length => "measure",
            Operation::SyncData | Operation::SyncAll => "sync",
            Operation::SyncDir => "sync the directory",
            Operation::Rename => "rename",
            Operation::Link => "link",
            Operation::Unlink => "unlink",
            Operation::CreateDir => "create the directory",
            Operation::List => "list",
            Operation::Exists => "look for",
            Operation::FreeBytes => "count the free bytes of",
            Operation::Lock => "lock",
            Operation::Salt => "draw a salt for",
        })
    }
}

/// A failed disk call. Whether anything changed on disk: not for `NotFound`, `Exists`, `TooManyFiles`, `Locked` and
/// `InvalidName`; any part of the call may have happened for `Full` and `Io`. It is plain facts, so one failure can answer many waiters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    #[error("cannot {operation} `{name}`: it does not exist")]
    NotFound { operation: Operation, name: String },
    #[error("cannot {operation} `{name}`: it exists already")]
    Exists { operation: Operation, name: String },
    /// ENOSPC or EDQUOT. Space may come back; the call may then be tried again.
    #[error("cannot {operation} `{name}`: no space left (errno {errno})")]
    Full { operation: Operation, name: String, errno: i32 },
    /// EMFILE or ENFILE: the process or the machine has as many files open as it may. Nothing was done; the call may be
    /// tried again.
    #[error("cannot {operation} `{name}`: too many open files (errno {errno})")]
    TooManyFiles { operation: Operation, name: String, errno: i32 },
    #[error("`{name}` is locked by another process")]
    Locked { name: String },
    #[error("`{name}` is not a name below this root")]
    InvalidName { name: String },
    #[error("`{name}` ends too early: wanted {wanted_bytes} bytes at {offset}, there were {read_bytes}")]
    UnexpectedEnd { name: String, offset: u64, wanted_bytes: usize, read_bytes: usize },
    /// Anything else the system said. A failed write or sync is never tried again on the same file.
    #[error("cannot {operation} `{name}`: I/O error (errno {errno})")]
    Io { operation: Operation, name: String, errno: i32 },
}

impl DiskError {
    /// No space: refuse the write, keep serving reads, try again when there is room.
    pub fn is_full(&self) -> bool {
        matches!(self, DiskError::Full { .. })
    }

    /// Says nothing of the disk's health, and may pass by itself: refuse what needed the call, and try again later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, DiskError::Full { .. } | DiskError::TooManyFiles { .. })
    }

    pub fn is_not_found(&self) -> bool {
        matches!(self, DiskError::NotFound { .. })
    }
}
