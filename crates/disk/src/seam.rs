//! The seam itself: what Kula may ask of a file system, and what it may count on.
//!
//! The promises are those that a journalling file system keeps across a power loss, and no more: `sync_data` makes the
//! bytes and the length of that one file durable, never its name; a name (made, renamed, linked or unlinked) is durable
//! after `sync_dir` of the directory that holds it; between the two any part of what was not synced may be there. There
//! is no memory map: a fault could not be injected into it.

use crate::DiskError;
use std::fmt;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    ReadWrite,
    /// Reads what the device holds, past the page cache where the file system can. After a failed sync the cache may
    /// show bytes that no disk ever took; a restart that must trust what it reads opens files like this.
    ReadUncached,
}

/// A directory tree. Names are relative to its root, parts separated by `/`, ASCII, no `.` or `..` part, and never come
/// from a user; any other name is refused with `DiskError::InvalidName`. The root itself is `""`.
pub trait Disk: Send + Sync + 'static {
    /// A new empty file, open for reading and writing. It must not exist.
    fn create(&self, name: &str) -> Result<Box<dyn File>, DiskError>;
    fn open(&self, name: &str, access: Access) -> Result<Box<dyn File>, DiskError>;
    /// Replaces `to` if there is one. Files stay open under either name. Durable after `sync_dir` of both directories.
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;
    /// A second name for the same file; `to` must not exist.
    fn link(&self, from: &str, to: &str) -> Result<(), DiskError>;
    /// Removes a file's name. An open file lives on until it is closed.
    fn unlink(&self, name: &str) -> Result<(), DiskError>;
    /// A new directory; its parent must exist and it must not.
    fn create_dir(&self, name: &str) -> Result<(), DiskError>;
    /// Makes the names in this directory (`""` = the root) durable. It says nothing of the files' bytes.
    fn sync_dir(&self, name: &str) -> Result<(), DiskError>;
    /// The names in a directory, sorted, without their directory.
    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError>;
    fn exists(&self, name: &str) -> Result<bool, DiskError>;
    /// Bytes this process may still write.
    fn free_bytes(&self) -> Result<u64, DiskError>;
    /// An exclusive lock on a file of this name (made if absent), held until the value drops or the process dies.
    /// `DiskError::Locked` if somebody, this process included, holds it.
    fn lock(&self, name: &str) -> Result<Box<dyn DiskLock>, DiskError>;
    /// A number nobody can guess and that does not come twice: the salt of a file. Not a secret key.
    fn salt(&self) -> Result<u64, DiskError>;
}

/// An open file. Calls from several threads may overlap; each is whole by itself only as far as a disk is.
pub trait File: Send + Sync + fmt::Debug {
    /// The name it was opened under; for messages.
    fn name(&self) -> &str;
    /// Fills `buffer` from `offset`; fewer bytes come only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, DiskError>;
    /// As `read_at`; a file that ends too early is `DiskError::UnexpectedEnd`.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), DiskError> {
        let read_bytes = self.read_at(buffer, offset)?;
        if read_bytes == buffer.len() {
            return Ok(());
        }
        Err(DiskError::UnexpectedEnd { name: self.name().to_owned(), offset, wanted_bytes: buffer.len(), read_bytes })
    }
    /// Writes all of `bytes`, growing the file as needed. After an error any part of them may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError>;
    /// Cuts the file, or grows it with zeros that take no space yet.
    fn set_len(&self, bytes: u64) -> Result<(), DiskError>;
    /// Reserves space for the first `bytes` bytes and makes the file at least that long; what is new reads as zero.
    fn allocate(&self, bytes: u64) -> Result<(), DiskError>;
    fn len(&self) -> Result<u64, DiskError>;
    fn is_empty(&self) -> Result<bool, DiskError> {
        Ok(self.len()? == 0)
    }
    /// Makes bytes and length durable. After an error nobody may call it on this file again and believe the answer: the
    /// system may have forgotten what it failed to write.
    fn sync_data(&self) -> Result<(), DiskError>;
    /// As `sync_data`, with the file's other attributes.
    fn sync_all(&self) -> Result<(), DiskError>;
}

/// A held lock; dropping it lets go.
pub trait DiskLock: Send + Sync + fmt::Debug {}
