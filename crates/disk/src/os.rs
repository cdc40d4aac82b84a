//! The real disk: a directory, through rustix.
//!
//! Names are resolved against an open directory handle, so moving the root under a running node changes nothing. Every
//! call is repeated after a signal, and short reads and writes are carried on, so callers see whole calls or an error.

use crate::{
    Access, Disk, DiskError, DiskLock, File, Operation, limits,
    name::{check_dir, check_name},
};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{self, Advice, AtFlags, CWD, Dir, FallocateFlags, FlockOperation, Mode, OFlags},
    io::{self, Errno, retry_on_intr},
};
use std::{num::NonZeroU64, path::Path};

/// Direct reads begin and end at multiples of this, and so does their memory; no device asks for more.
const DIRECT_ALIGNMENT: usize = 4096;

#[derive(Debug)]
pub struct OsDisk {
    root: OwnedFd,
}

/// Turns an errno into what the caller can do about it.
fn failed<'a>(operation: Operation, name: &'a str) -> impl Fn(Errno) -> DiskError + 'a {
    move |errno| {
        let (name, code) = (name.to_owned(), errno.raw_os_error());
        match errno {
            Errno::NOENT | Errno::NOTDIR => DiskError::NotFound { operation, name },
            Errno::EXIST => DiskError::Exists { operation, name },
            Errno::NOSPC | Errno::DQUOT => DiskError::Full { operation, name, errno: code },
            Errno::MFILE | Errno::NFILE => DiskError::TooManyFiles { operation, name, errno: code },
            _ => DiskError::Io { operation, name, errno: code },
        }
    }
}

/// The path that `openat` takes for a directory name of ours.
fn dir_path(name: &str) -> &str {
    if name.is_empty() { "." } else { name }
}

impl OsDisk {
    /// The tree below `root`, which must be a directory that exists.
    pub fn open(root: &Path) -> Result<OsDisk, DiskError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let shown = root.to_string_lossy();
        let root = retry_on_intr(|| fs::openat(CWD, root, flags, Mode::empty()));
        Ok(OsDisk { root: root.map_err(failed(Operation::Open, &shown))? })
    }

    /// As `open`; makes the directory, and those above it, where they are missing, and makes their names durable.
    pub fn open_or_create(root: &Path) -> Result<OsDisk, DiskError> {
        let missing: Vec<&Path> = root
            .ancestors()
            .take_while(|path| path.components().next().is_some())
            .filter(|path| !is_there(path))
            .collect();
        for path in missing.into_iter().rev() {
            let shown = path.to_string_lossy();
            match retry_on_intr(|| fs::mkdirat(CWD, path, Mode::RWXU)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed(Operation::CreateDir, &shown)(errno)),
            }
            let parent = path.parent().filter(|parent| parent.components().next().is_some());
            OsDisk::open(parent.unwrap_or(Path::new(".")))?.sync_dir("")?;
        }
        OsDisk::open(root)
    }

    fn open_file(&self, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let mode = Mode::RUSR | Mode::WUSR;
        retry_on_intr(|| fs::openat(&self.root, name, flags | OFlags::CLOEXEC, mode))
    }

    fn open_dir(&self, name: &str, operation: Operation) -> Result<OwnedFd, DiskError> {
        check_dir(name)?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY;
        self.open_file(dir_path(name), flags).map_err(failed(operation, name))
    }

    /// Past the page cache; where the file system has no direct reads, from a cache emptied of this file.
    fn open_uncached(&self, name: &str) -> Result<OsFile, DiskError> {
        let error = failed(Operation::Open, name);
        let direct = self.open_file(name, OFlags::RDONLY | OFlags::DIRECT).and_then(|file| {
            let file = OsFile { file, name: name.to_owned(), is_direct: true };
            // Some file systems take the flag and refuse the first read.
            file.read_direct(&mut [0], 0).map(|_| file)
        });
        match direct {
            Ok(file) => return Ok(file),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(error(errno)),
        }
        let file = self.open_file(name, OFlags::RDONLY).map_err(&error)?;
        fs::fadvise(&file, 0, None::<NonZeroU64>, Advice::DontNeed).map_err(error)?;
        Ok(OsFile { file, name: name.to_owned(), is_direct: false })
    }
}

fn is_there(path: &Path) -> bool {
    retry_on_intr(|| fs::stat(path)).is_ok()
}

impl Disk for OsDisk {
    fn create(&self, name: &str) -> Result<Box<dyn File>, DiskError> {
        check_name(name)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
        let file = self.open_file(name, flags).map_err(failed(Operation::Create, name))?;
        Ok(Box::new(OsFile { file, name: name.to_owned(), is_direct: false }))
    }

    fn open(&self, name: &str, access: Access) -> Result<Box<dyn File>, DiskError> {
        check_name(name)?;
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::ReadWrite => OFlags::RDWR,
            Access::ReadUncached => return Ok(Box::new(self.open_uncached(name)?)),
        };
        let file = self.open_file(name, flags).map_err(failed(Operation::Open, name))?;
        Ok(Box::new(OsFile { file, name: name.to_owned(), is_direct: false }))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        check_name(from)?;
        check_name(to)?;
        retry_on_intr(|| fs::renameat(&self.root, from, &self.root, to)).map_err(failed(Operation::Rename, from))
    }

    fn link(&self, from: &str, to: &str) -> Result<(), DiskError> {
        check_name(from)?;
        check_name(to)?;
        let linked = retry_on_intr(|| fs::linkat(&self.root, from, &self.root, to, AtFlags::empty()));
        linked.map_err(|errno| failed(Operation::Link, if errno == Errno::EXIST { to } else { from })(errno))
    }

    fn unlink(&self, name: &str) -> Result<(), DiskError> {
        check_name(name)?;
        let unlinked = retry_on_intr(|| fs::unlinkat(&self.root, name, AtFlags::empty()));
        unlinked.map_err(failed(Operation::Unlink, name))
    }

    fn create_dir(&self, name: &str) -> Result<(), DiskError> {
        check_name(name)?;
        retry_on_intr(|| fs::mkdirat(&self.root, name, Mode::RWXU)).map_err(failed(Operation::CreateDir, name))
    }

    fn sync_dir(&self, name: &str) -> Result<(), DiskError> {
        let directory = self.open_dir(name, Operation::SyncDir)?;
        retry_on_intr(|| fs::fsync(&directory)).map_err(failed(Operation::SyncDir, name))
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        let error = failed(Operation::List, dir);
        let directory = self.open_dir(dir, Operation::List)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&directory).map_err(&error)? {
            // A name that is not text is not ours.
            if let Ok(name) = entry.map_err(&error)?.file_name().to_str()
                && !matches!(name, "." | "..")
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, name: &str) -> Result<bool, DiskError> {
        check_dir(name)?;
        match retry_on_intr(|| fs::statat(&self.root, dir_path(name), AtFlags::empty())) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(errno) => Err(failed(Operation::Exists, name)(errno)),
        }
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        let figures = retry_on_intr(|| fs::fstatvfs(&self.root)).map_err(failed(Operation::FreeBytes, ""))?;
        Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
    }

    fn lock(&self, name: &str) -> Result<Box<dyn DiskLock>, DiskError> {
        check_name(name)?;
        let error = failed(Operation::Lock, name);
        let file = self.open_file(name, OFlags::CREATE | OFlags::RDWR).map_err(&error)?;
        match retry_on_intr(|| fs::flock(&file, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => Ok(Box::new(OsLock { _file: file })),
            Err(Errno::WOULDBLOCK) => Err(DiskError::Locked { name: name.to_owned() }),
            Err(errno) => Err(error(errno)),
        }
    }

    fn salt(&self) -> Result<u64, DiskError> {
        let error = |_| DiskError::Io { operation: Operation::Salt, name: String::new(), errno: 0 };
        getrandom::u64().map_err(error)
    }
}

/// The system releases it when the last handle closes, also when the process is killed.
#[derive(Debug)]
struct OsLock {
    _file: OwnedFd,
}

impl DiskLock for OsLock {}

#[derive(Debug)]
struct OsFile {
    file: OwnedFd,
    name: String,
    is_direct: bool,
}

impl OsFile {
    fn failed(&self, operation: Operation) -> impl Fn(Errno) -> DiskError {
        failed(operation, &self.name)
    }

    fn read_buffered(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        let mut filled = 0;
        while filled < buffer.len() {
            match retry_on_intr(|| io::pread(&self.file, &mut buffer[filled..], offset + filled as u64))? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(filled)
    }

    /// Reads whole blocks into memory that lies as the device wants it, and copies out what was asked for.
    fn read_direct(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        let skipped = usize::try_from(offset % DIRECT_ALIGNMENT as u64).unwrap_or(0);
        let wanted = (skipped + buffer.len()).next_multiple_of(DIRECT_ALIGNMENT);
        let mut memory = vec![0; wanted + DIRECT_ALIGNMENT];
        let lead = memory.as_ptr().align_offset(DIRECT_ALIGNMENT);
        let aligned = memory.get_mut(lead..lead.saturating_add(wanted)).ok_or(Errno::INVAL)?;
        let from = offset - skipped as u64;
        let mut filled = 0;
        while filled < wanted {
            let read = retry_on_intr(|| io::pread(&self.file, &mut aligned[filled..], from + filled as u64))?;
            filled += read;
            // An odd length is the end of the file, and no place to go on from.
            if read == 0 || !filled.is_multiple_of(DIRECT_ALIGNMENT) {
                break;
            }
        }
        let found = filled.saturating_sub(skipped).min(buffer.len());
        buffer[..found].copy_from_slice(&aligned[skipped..skipped + found]);
        Ok(found)
    }

    /// Space by writing zeros behind the end, where the file system cannot reserve it.
    fn allocate_by_writing(&self, bytes: u64) -> Result<(), DiskError> {
        let zeros = vec![0; limits::ZERO_FILL_BYTES];
        let mut at = self.len()?;
        while at < bytes {
            let piece = usize::try_from(bytes - at).unwrap_or(usize::MAX).min(zeros.len());
            self.write_at(&zeros[..piece], at)?;
            at += piece as u64;
        }
        Ok(())
    }
}

impl File for OsFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, DiskError> {
        let read = if self.is_direct { self.read_direct(buffer, offset) } else { self.read_buffered(buffer, offset) };
        read.map_err(self.failed(Operation::Read))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        let error = self.failed(Operation::Write);
        let mut written = 0;
        while written < bytes.len() {
            match retry_on_intr(|| io::pwrite(&self.file, &bytes[written..], offset + written as u64)) {
                Ok(0) => return Err(error(Errno::IO)),
                Ok(count) => written += count,
                Err(errno) => return Err(error(errno)),
            }
        }
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> Result<(), DiskError> {
        retry_on_intr(|| fs::ftruncate(&self.file, bytes)).map_err(self.failed(Operation::SetLength))
    }

    fn allocate(&self, bytes: u64) -> Result<(), DiskError> {
        if bytes == 0 {
            return Ok(());
        }
        match retry_on_intr(|| fs::fallocate(&self.file, FallocateFlags::empty(), 0, bytes)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.allocate_by_writing(bytes),
            allocated => allocated.map_err(self.failed(Operation::Allocate)),
        }
    }

    fn len(&self) -> Result<u64, DiskError> {
        let figures = retry_on_intr(|| fs::fstat(self.file.as_fd())).map_err(self.failed(Operation::Length))?;
        Ok(u64::try_from(figures.st_size).unwrap_or(0))
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        retry_on_intr(|| fs::fdatasync(&self.file)).map_err(self.failed(Operation::SyncData))
    }

    fn sync_all(&self) -> Result<(), DiskError> {
        retry_on_intr(|| fs::fsync(&self.file)).map_err(self.failed(Operation::SyncAll))
    }
}
