//! A disk in memory that behaves as badly as a real one may, from one seed.
//!
//! Each file is a durable image and an ordered list of unsynced changes; each directory likewise. A sync commits that
//! file or directory only. On top come faults (errors, lost writes, rot, a full disk), and power losses: `crash` makes
//! the disk one loss leaves, `journal` with `CrashImages` enumerates those of a whole recorded run (ALICE, OSDI 2014).
//! Nothing here reads a clock or a die: the same calls on the same seed give the same disk.

mod crash;
mod fault;
mod image;
mod journal;
mod state;
mod tree;

pub use crash::{CrashImage, CrashImages};
pub use fault::{Fault, SyncFault, Target};
pub use journal::Journal;

use crate::{
    Access, Disk, DiskError, DiskLock, File, Operation,
    name::{check_dir, check_name, last_part, parent_of},
};
use image::mix;
use state::{Call, State};
use std::{
    fmt,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tree::{Change, Entry, Inode, Naming, Tree};

/// A disk in memory. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// What of the unsynced changes a power loss leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survivors {
    /// Only what was synced.
    None,
    /// All of it.
    All,
    /// Each change by the toss of a seeded coin.
    Seeded(u64),
    /// As `Seeded`, and of the writes that survive some are torn at an edge of a sector or of a page, or at any byte.
    Torn(u64),
}

impl SimDisk {
    /// Empty; keeps no history. The seed decides its salts.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk::with(State::new(Tree::default(), seed, 0, false))
    }

    /// Empty; keeps its whole history for `journal`.
    pub fn recording(seed: u64) -> SimDisk {
        SimDisk::with(State::new(Tree::default(), seed, 0, true))
    }

    fn with(state: State) -> SimDisk {
        SimDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// The disk as a power loss now would leave it; this one stays as it is. Locks are gone, faults and space bound too.
    /// It records if this one does.
    pub fn crash(&self, survivors: Survivors) -> SimDisk {
        SimDisk::with(self.state().after_power_loss(|tree, index, change| match survivors {
            Survivors::None => {}
            Survivors::All => tree.apply(change),
            Survivors::Seeded(seed) | Survivors::Torn(seed) => {
                let die = mix(seed ^ mix(index as u64));
                match (survivors, die & 1 == 1) {
                    (_, false) => {}
                    (Survivors::Torn(_), true) if die & 2 == 2 => crash::apply_torn_somewhere(tree, change, die >> 2),
                    (_, true) => tree.apply(change),
                }
            }
        }))
    }

    /// The salts from here on are another seed's: an older image that runs again must not draw those of its first time.
    pub fn reseed(&self, seed: u64) {
        self.state().seed = seed;
    }

    /// Every file that readers see, with its length, in the order of names. Counts as no call.
    pub fn files(&self) -> Vec<(String, u64)> {
        self.state().cached.files_below("")
    }

    /// Faults that calls have met since this was asked last; a call that found no room counts as `Fault::Full`.
    pub fn take_met(&self) -> Vec<Fault> {
        std::mem::take(&mut self.state().faults.met)
    }

    /// The process died: its locks are released, the page cache stays. Handles still open keep working, so drop them.
    pub fn kill(&self) {
        self.state().locks.clear();
    }

    /// The recorded history; empty and without effect on a disk that does not record.
    pub fn journal(&self) -> Journal {
        let empty = || Journal { base: Tree::default(), steps: Vec::new(), marks: Vec::new(), seed: 0, salts_drawn: 0 };
        self.state().journal().unwrap_or_else(empty)
    }

    /// Steps recorded so far. What is acknowledged now must be in every crash image of this many operations or more;
    /// `mark` it too, or images that lack it may be left out as made before.
    pub fn operations(&self) -> usize {
        self.state().operations()
    }

    /// Notes a number, say of acknowledged writes, at this point of the history: crash images from here on carry it, and
    /// all those of this moment are made again with it.
    pub fn mark(&self, mark: u64) {
        self.state().mark(mark);
    }

    /// Plans a fault for a call that `target` counts: the next one after `calls_before` more of them.
    pub fn inject(&self, target: Target, calls_before: u64, fault: Fault) {
        self.state().faults.plan(target, calls_before, fault);
    }

    /// Forgets faults that were planned and not met.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// Calls made so far that `target` counts.
    pub fn calls(&self, target: Target) -> u64 {
        self.state().faults.count(target)
    }

    /// Files held open now, each as often as it was opened.
    pub fn open_files(&self) -> usize {
        self.state().open_files()
    }

    /// Bounds the bytes all files may take, in whole pages; `None` lifts the bound. Beyond it calls answer `Full`.
    pub fn set_space(&self, bytes_max: Option<u64>) {
        self.state().space_max = bytes_max;
    }

    /// Reads that touch these bytes fail until they are written over whole.
    pub fn fail_reads(&self, name: &str, bytes: Range<u64>) -> Result<(), DiskError> {
        let mut state = self.state();
        let inode = state.file_of(name, &Call { operation: Operation::Open, name })?;
        state.latent_error(inode, bytes);
        Ok(())
    }

    /// Flips one bit of what the device holds.
    pub fn flip_bit(&self, name: &str, byte: u64, bit: u8) -> Result<(), DiskError> {
        let mut state = self.state();
        let inode = state.file_of(name, &Call { operation: Operation::Open, name })?;
        let mut value = [0];
        if let Some(image) = state.cached.file(inode) {
            image.read(&mut value, byte);
        }
        state.rot(Change::Write { inode, offset: byte, bytes: [value[0] ^ 1 << (bit % 8)].into() });
        Ok(())
    }

    /// Bytes that readers see, up to the end of the file. Counts as no call.
    pub fn peek(&self, name: &str, offset: u64, bytes: usize) -> Result<Vec<u8>, DiskError> {
        let state = self.state();
        let inode = state.file_of(name, &Call { operation: Operation::Read, name })?;
        let mut found = vec![0; bytes];
        let length = state.cached.file(inode).map_or(0, |image| image.read(&mut found, offset));
        found.truncate(length);
        Ok(found)
    }

    /// Replaces bytes of what the device holds: a zeroed block, a stale one, a misdirected write.
    pub fn overwrite(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut state = self.state();
        let inode = state.file_of(name, &Call { operation: Operation::Open, name })?;
        state.rot(Change::Write { inode, offset, bytes: bytes.into() });
        Ok(())
    }

    /// Cuts what the device holds of a file.
    pub fn truncate(&self, name: &str, bytes: u64) -> Result<(), DiskError> {
        let mut state = self.state();
        let inode = state.file_of(name, &Call { operation: Operation::Open, name })?;
        state.rot(Change::SetLength { inode, bytes });
        Ok(())
    }

    /// A hash of all names and bytes that readers see.
    pub fn hash(&self) -> u64 {
        self.state().cached.hash()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere is that test's failure; the state is whole between calls.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call on a name and lets its planned fault happen.
    fn enter<'a>(&self, operation: Operation, name: &'a str) -> Result<(MutexGuard<'_, State>, Call<'a>), DiskError> {
        let call = Call { operation, name };
        let mut state = self.state();
        state.enter(&call)?;
        Ok((state, call))
    }

    fn handle(&self, state: &mut State, inode: Inode, name: &str, access: Access) -> Box<dyn File> {
        state.opened(inode);
        Box::new(SimFile { disk: self.clone(), inode, name: name.to_owned(), access })
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimDisk")
    }
}

/// The directory a name is in, and the name's last part.
fn place(state: &State, name: &str, call: &Call<'_>) -> Result<(Inode, Arc<str>), DiskError> {
    Ok((state.directory_of(parent_of(name), call)?, last_part(name).into()))
}

impl Disk for SimDisk {
    fn create(&self, name: &str) -> Result<Box<dyn File>, DiskError> {
        check_name(name)?;
        let (mut state, call) = self.enter(Operation::Create, name)?;
        let (directory, last) = place(&state, name, &call)?;
        if state.cached.lookup(name).is_some() {
            return Err(call.exists());
        }
        let inode = state.new_inode();
        state.assign(vec![Naming { directory, name: last, entry: Some(Entry::File(inode)) }]);
        Ok(self.handle(&mut state, inode, name, Access::ReadWrite))
    }

    fn open(&self, name: &str, access: Access) -> Result<Box<dyn File>, DiskError> {
        check_name(name)?;
        let (mut state, call) = self.enter(Operation::Open, name)?;
        let inode = state.file_of(name, &call)?;
        Ok(self.handle(&mut state, inode, name, access))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        check_name(from)?;
        check_name(to)?;
        let (mut state, call) = self.enter(Operation::Rename, from)?;
        let entry = state.cached.lookup(from).ok_or_else(|| call.not_found())?;
        let (from_directory, from_last) = place(&state, from, &call)?;
        let to_call = Call { operation: Operation::Rename, name: to };
        let (to_directory, to_last) = place(&state, to, &to_call)?;
        match (entry, state.cached.lookup(to)) {
            (_, None) | (Entry::File(_), Some(Entry::File(_))) => {}
            (_, Some(_)) => return Err(to_call.exists()),
        }
        if state.cached.lookup(to) == Some(entry) {
            return Ok(());
        }
        state.assign(vec![
            Naming { directory: from_directory, name: from_last, entry: None },
            Naming { directory: to_directory, name: to_last, entry: Some(entry) },
        ]);
        Ok(())
    }

    fn link(&self, from: &str, to: &str) -> Result<(), DiskError> {
        check_name(from)?;
        check_name(to)?;
        let (mut state, call) = self.enter(Operation::Link, from)?;
        let inode = state.file_of(from, &call)?;
        let to_call = Call { operation: Operation::Link, name: to };
        let (directory, name) = place(&state, to, &to_call)?;
        if state.cached.lookup(to).is_some() {
            return Err(to_call.exists());
        }
        state.assign(vec![Naming { directory, name, entry: Some(Entry::File(inode)) }]);
        Ok(())
    }

    fn unlink(&self, name: &str) -> Result<(), DiskError> {
        check_name(name)?;
        let (mut state, call) = self.enter(Operation::Unlink, name)?;
        state.file_of(name, &call)?;
        let (directory, name) = place(&state, name, &call)?;
        state.assign(vec![Naming { directory, name, entry: None }]);
        Ok(())
    }

    fn create_dir(&self, name: &str) -> Result<(), DiskError> {
        check_name(name)?;
        let (mut state, call) = self.enter(Operation::CreateDir, name)?;
        let (directory, last) = place(&state, name, &call)?;
        if state.cached.lookup(name).is_some() {
            return Err(call.exists());
        }
        let inode = state.new_inode();
        state.assign(vec![Naming { directory, name: last, entry: Some(Entry::Directory(inode)) }]);
        Ok(())
    }

    fn sync_dir(&self, name: &str) -> Result<(), DiskError> {
        check_dir(name)?;
        let (mut state, call) = self.enter(Operation::SyncDir, name)?;
        let directory = state.directory_of(name, &call)?;
        state.sync_dir(directory);
        Ok(())
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        check_dir(dir)?;
        let (state, call) = self.enter(Operation::List, dir)?;
        let directory = state.directory_of(dir, &call)?;
        let names = state.cached.directory(directory).map(|directory| directory.keys());
        Ok(names.into_iter().flatten().map(|name| name.to_string()).collect())
    }

    fn exists(&self, name: &str) -> Result<bool, DiskError> {
        check_dir(name)?;
        let (state, _) = self.enter(Operation::Exists, name)?;
        Ok(state.cached.lookup(name).is_some())
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        let (state, _) = self.enter(Operation::FreeBytes, "")?;
        Ok(state.free_bytes())
    }

    fn lock(&self, name: &str) -> Result<Box<dyn DiskLock>, DiskError> {
        check_name(name)?;
        let (mut state, call) = self.enter(Operation::Lock, name)?;
        let (directory, last) = place(&state, name, &call)?;
        if state.locks.contains_key(name) {
            return Err(DiskError::Locked { name: name.to_owned() });
        }
        if state.cached.lookup(name).is_none() {
            let inode = state.new_inode();
            state.assign(vec![Naming { directory, name: last, entry: Some(Entry::File(inode)) }]);
        }
        let holder = state.faults.count(Target::Any);
        state.locks.insert(name.to_owned(), holder);
        Ok(Box::new(SimLock { disk: self.clone(), name: name.to_owned(), holder }))
    }

    fn salt(&self) -> Result<u64, DiskError> {
        let (mut state, _) = self.enter(Operation::Salt, "")?;
        Ok(state.salt())
    }
}

struct SimFile {
    disk: SimDisk,
    inode: Inode,
    name: String,
    access: Access,
}

impl SimFile {
    fn call(&self, operation: Operation) -> Call<'_> {
        Call { operation, name: &self.name }
    }

    /// EBADF, as a real file opened for reading only would say.
    fn check_writable(&self, operation: Operation) -> Result<(), DiskError> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::Read | Access::ReadUncached => Err(self.call(operation).io(9)),
        }
    }

    fn sync(&self, operation: Operation) -> Result<(), DiskError> {
        let call = self.call(operation);
        let mut state = self.disk.state();
        let fault = state.enter(&call)?;
        state.sync(self.inode, fault, &call)
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFile({})", self.name)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.disk.state().closed(self.inode);
    }
}

impl File for SimFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, DiskError> {
        let (mut state, call) = self.disk.enter(Operation::Read, &self.name)?;
        state.read(self.inode, buffer, offset, self.access == Access::ReadUncached, &call)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        self.check_writable(Operation::Write)?;
        let call = self.call(Operation::Write);
        let mut state = self.disk.state();
        let fault = state.enter(&call)?;
        state.write(self.inode, bytes, offset, fault, &call)
    }

    fn set_len(&self, bytes: u64) -> Result<(), DiskError> {
        self.check_writable(Operation::SetLength)?;
        let (mut state, _) = self.disk.enter(Operation::SetLength, &self.name)?;
        state.set_len(self.inode, bytes);
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> Result<(), DiskError> {
        self.check_writable(Operation::Allocate)?;
        let (mut state, call) = self.disk.enter(Operation::Allocate, &self.name)?;
        state.allocate(self.inode, bytes, &call)
    }

    fn len(&self) -> Result<u64, DiskError> {
        let (state, _) = self.disk.enter(Operation::Length, &self.name)?;
        Ok(state.cached.file(self.inode).map_or(0, |image| image.len()))
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        self.sync(Operation::SyncData)
    }

    fn sync_all(&self) -> Result<(), DiskError> {
        self.sync(Operation::SyncAll)
    }
}

struct SimLock {
    disk: SimDisk,
    name: String,
    /// The count of the call that took it, so that a lock lost to `kill` does not release its successor.
    holder: u64,
}

impl fmt::Debug for SimLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimLock({})", self.name)
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.locks.get(&self.name) == Some(&self.holder) {
            state.locks.remove(&self.name);
        }
    }
}

impl DiskLock for SimLock {}
