#![doc = include_str!("../../../docs/format/state-file.md")]
//!
//! In code: `write_atomic` replaces the whole file or leaves the old one; `read_atomic` returns only what was written
//! whole, and what it returns is durable. One owner a file: two writers at once would share the temporary name.

use crate::{Access, Disk, DiskError, limits, name::parent_of};
use kula_fault::{Mutant, planted};

const HEADER_BYTES: usize = 24;
/// Where the checksum lies; it covers every byte but its own four.
const CHECKSUM_AT: usize = 12;

/// What a state file holds and in which version of its layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub magic: [u8; 8],
    pub version: u32,
}

/// Why a state file was not read. Nothing on disk changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file is not what was written: its checksum, its length or its magic is wrong.
    #[error("`{name}` is damaged: its {part} is wrong")]
    Damaged { name: String, part: &'static str },
    /// Written by a later release; this one must not touch it.
    #[error("`{name}` has layout version {found}, this release knows {known}")]
    Newer { name: String, found: u32, known: u32 },
    /// Written by an earlier release: read it with that version's `Format`, then write it anew.
    #[error("`{name}` has layout version {found}, older than {known}")]
    Older { name: String, found: u32, known: u32 },
}

/// Replaces the file's payload. On an error the old file or the new one is there, whole. Past
/// `limits::STATE_BYTES_MAX` it panics: what is kept in one state file is bounded by its owner.
pub fn write_atomic(disk: &dyn Disk, name: &str, format: Format, payload: &[u8]) -> Result<(), DiskError> {
    assert!(payload.len() <= limits::STATE_BYTES_MAX, "a state file of {} bytes", payload.len());
    let temporary = format!("{name}.tmp");
    if disk.exists(&temporary)? {
        disk.unlink(&temporary)?;
    }
    let written = write_temporary(disk, &temporary, &encode(format, payload));
    if let Err(error) = written {
        // A full disk should at least get its bytes back; that the first error is the one to report stays so.
        drop(disk.unlink(&temporary));
        return Err(error);
    }
    disk.rename(&temporary, name)?;
    if planted(Mutant::NameNotSynced) { Ok(()) } else { disk.sync_dir(parent_of(name)) }
}

fn write_temporary(disk: &dyn Disk, temporary: &str, bytes: &[u8]) -> Result<(), DiskError> {
    let file = disk.create(temporary)?;
    file.write_at(bytes, 0)?;
    if planted(Mutant::StateNotSynced) { Ok(()) } else { file.sync_all() }
}

/// The payload, or `None` if there is no such file. A temporary file left by a crash is not looked at.
pub fn read_atomic(disk: &dyn Disk, name: &str, format: Format) -> Result<Option<Vec<u8>>, StateError> {
    let file = match disk.open(name, Access::Read) {
        Ok(file) => file,
        Err(DiskError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // A killed process may have renamed and not yet synced the directory. What we act on from here must not be taken
    // back by a later power loss.
    file.sync_all()?;
    disk.sync_dir(parent_of(name))?;
    let damaged = |part| StateError::Damaged { name: name.to_owned(), part };
    let file_bytes = usize::try_from(file.len()?).map_err(|_| damaged("length"))?;
    if !(HEADER_BYTES..=HEADER_BYTES + limits::STATE_BYTES_MAX).contains(&file_bytes) {
        return Err(damaged("length"));
    }
    let mut bytes = vec![0; file_bytes];
    file.read_exact_at(&mut bytes, 0)?;
    match decode(&bytes, format) {
        Ok(()) => Ok(Some(bytes.split_off(HEADER_BYTES))),
        Err(Invalid::Damaged(part)) => Err(damaged(part)),
        Err(Invalid::Version(found)) if found > format.version => {
            Err(StateError::Newer { name: name.to_owned(), found, known: format.version })
        }
        Err(Invalid::Version(found)) => Err(StateError::Older { name: name.to_owned(), found, known: format.version }),
    }
}

fn encode(format: Format, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend_from_slice(&format.magic);
    bytes.extend_from_slice(&format.version.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    bytes.extend_from_slice(payload);
    let checksum = checksum_of(&bytes);
    bytes[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

enum Invalid {
    Damaged(&'static str),
    Version(u32),
}

fn decode(bytes: &[u8], format: Format) -> Result<(), Invalid> {
    let (Some(magic), Some(version), Some(checksum), Some(payload_bytes)) = (
        bytes.first_chunk::<8>(),
        bytes.get(8..).and_then(|rest| rest.first_chunk::<4>()),
        bytes.get(CHECKSUM_AT..).and_then(|rest| rest.first_chunk::<4>()),
        bytes.get(16..).and_then(|rest| rest.first_chunk::<8>()),
    ) else {
        return Err(Invalid::Damaged("length"));
    };
    if u32::from_le_bytes(*checksum) != checksum_of(bytes) {
        return Err(Invalid::Damaged("checksum"));
    }
    if u64::from_le_bytes(*payload_bytes) != (bytes.len() - HEADER_BYTES) as u64 {
        return Err(Invalid::Damaged("length"));
    }
    if *magic != format.magic {
        return Err(Invalid::Damaged("magic"));
    }
    match u32::from_le_bytes(*version) {
        version if version == format.version => Ok(()),
        version => Err(Invalid::Version(version)),
    }
}

fn checksum_of(bytes: &[u8]) -> u32 {
    let before = crc32c::crc32c(&bytes[..CHECKSUM_AT]);
    crc32c::crc32c_append(before, &bytes[CHECKSUM_AT + 4..])
}
