//! The simulated device: what readers see, what is durable, and the operations between the two.
//!
//! Invariant: `durable` plus every pending change in order is what readers see, except where a fault made the page
//! cache lie (`lying`). A file's pending changes become durable by its own sync, a name's by its directory's.

use super::{
    fault::{EIO, EMFILE, ENOSPC, Fault, Faults, SyncFault},
    image::{PAGE_BYTES, mix},
    journal::{Journal, Step},
    tree::{Change, Entry, Inode, Naming, ROOT, Tree},
};
use crate::{DiskError, Operation};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

/// What a file system knows of a file beside its bytes.
#[derive(Default)]
struct FileState {
    /// Names readers see.
    links: usize,
    handles: usize,
    /// Space taken, in bytes of whole pages: up to the highest byte ever written or allocated.
    space: u64,
    /// Reads that touch these answer EIO until they are written over.
    latent_errors: Vec<Range<u64>>,
    /// The next sync answers EIO, once.
    late_error: bool,
    /// Readers see bytes that are neither durable nor pending.
    lying: bool,
}

pub(super) struct State {
    pub durable: Tree,
    pub cached: Tree,
    pending: Vec<(u64, Arc<Change>)>,
    files: BTreeMap<Inode, FileState>,
    next_inode: u64,
    next_change: u64,
    pub faults: Faults,
    /// The holder's number, by name.
    pub locks: BTreeMap<String, u64>,
    space_used: u64,
    pub space_max: Option<u64>,
    recording: Option<Recording>,
    pub seed: u64,
    salts_drawn: u64,
}

struct Recording {
    base: Tree,
    steps: Vec<Step>,
    marks: Vec<(usize, u64)>,
}

/// The call that is being made, for errors.
pub(super) struct Call<'a> {
    pub operation: Operation,
    pub name: &'a str,
}

impl Call<'_> {
    pub(super) fn not_found(&self) -> DiskError {
        DiskError::NotFound { operation: self.operation, name: self.name.to_owned() }
    }
    pub(super) fn exists(&self) -> DiskError {
        DiskError::Exists { operation: self.operation, name: self.name.to_owned() }
    }
    pub(super) fn io(&self, errno: i32) -> DiskError {
        DiskError::Io { operation: self.operation, name: self.name.to_owned(), errno }
    }
    fn full(&self) -> DiskError {
        DiskError::Full { operation: self.operation, name: self.name.to_owned(), errno: ENOSPC }
    }
    fn too_many_files(&self) -> DiskError {
        DiskError::TooManyFiles { operation: self.operation, name: self.name.to_owned(), errno: EMFILE }
    }
}

impl State {
    /// A disk that just came up with `tree` on it.
    pub(super) fn new(mut tree: Tree, seed: u64, salts_drawn: u64, recording: bool) -> State {
        tree.directories.entry(ROOT).or_default();
        let mut files: BTreeMap<Inode, FileState> = BTreeMap::new();
        for entry in tree.directories.values().flat_map(|directory| directory.values()) {
            if let Entry::File(inode) = entry {
                files.entry(*inode).or_default().links += 1;
            }
        }
        let mut space_used = 0;
        for (inode, file) in &mut files {
            file.space = whole_pages(tree.file(*inode).map_or(0, |image| image.len()));
            space_used += file.space;
        }
        let next_inode = tree.files.keys().chain(tree.directories.keys()).map(|inode| inode.0 + 1).max().unwrap_or(1);
        let recording = recording.then(|| Recording { base: tree.clone(), steps: Vec::new(), marks: Vec::new() });
        State {
            durable: tree.clone(),
            cached: tree,
            pending: Vec::new(),
            files,
            next_inode,
            next_change: 0,
            faults: Faults::default(),
            locks: BTreeMap::new(),
            space_used,
            space_max: None,
            recording,
            seed,
            salts_drawn,
        }
    }

    /// Counts the call. An error means that it did nothing; a fault is for the call itself to act out.
    pub(super) fn enter(&mut self, call: &Call<'_>) -> Result<Option<Fault>, DiskError> {
        let fault = self.faults.meet(call.operation);
        let acts_it_out = matches!(call.operation, Operation::Write | Operation::SyncData | Operation::SyncAll);
        match fault {
            Some(Fault::Io) if !acts_it_out => Err(call.io(EIO)),
            Some(Fault::Full) if !acts_it_out => Err(call.full()),
            Some(Fault::TooManyFiles) => Err(call.too_many_files()),
            fault => Ok(fault),
        }
    }

    pub(super) fn salt(&mut self) -> u64 {
        self.salts_drawn += 1;
        mix(self.seed ^ mix(self.salts_drawn))
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.space_max.map_or(1 << 50, |max| max.saturating_sub(self.space_used))
    }

    // Names.

    pub(super) fn directory_of(&self, path: &str, call: &Call<'_>) -> Result<Inode, DiskError> {
        match self.cached.lookup(path) {
            Some(Entry::Directory(inode)) => Ok(inode),
            Some(Entry::File(_)) | None => Err(call.not_found()),
        }
    }

    pub(super) fn file_of(&self, path: &str, call: &Call<'_>) -> Result<Inode, DiskError> {
        match self.cached.lookup(path) {
            Some(Entry::File(inode)) => Ok(inode),
            Some(Entry::Directory(_)) | None => Err(call.not_found()),
        }
    }

    pub(super) fn new_inode(&mut self) -> Inode {
        self.next_inode += 1;
        Inode(self.next_inode - 1)
    }

    pub(super) fn assign(&mut self, namings: Vec<Naming>) {
        for Naming { directory, name, entry } in &namings {
            let before = self.cached.directory(*directory).and_then(|directory| directory.get(name).copied());
            if let Some(Entry::File(inode)) = before {
                self.file_state(inode).links -= 1;
            }
            if let Some(Entry::File(inode)) = entry {
                self.file_state(*inode).links += 1;
            }
        }
        self.issue(Change::Name(namings));
        self.free_unused();
    }

    pub(super) fn sync_dir(&mut self, directory: Inode) {
        // Names are journalled in order: whatever came before, in any directory that a committed rename touches, is
        // committed with it.
        let mut directories = BTreeSet::from([directory]);
        let mut numbers = Vec::new();
        for (number, change) in self.pending.iter().rev() {
            if change.namings().iter().any(|naming| directories.contains(&naming.directory)) {
                directories.extend(change.namings().iter().map(|naming| naming.directory));
                numbers.push(*number);
            }
        }
        numbers.reverse();
        self.commit(numbers);
        self.free_unused();
    }

    // Bytes.

    pub(super) fn write(
        &mut self,
        inode: Inode,
        bytes: &[u8],
        offset: u64,
        fault: Option<Fault>,
        call: &Call<'_>,
    ) -> Result<(), DiskError> {
        let half = &bytes[..bytes.len() / 2];
        let (written, answer) = match fault {
            Some(Fault::Io) => (half, Err(call.io(EIO))),
            Some(Fault::Full) => (half, Err(call.full())),
            Some(Fault::LostWrite | Fault::Sync(_) | Fault::TooManyFiles) | None => (bytes, Ok(())),
        };
        self.take_space(inode, offset + written.len() as u64, call)?;
        let range = offset..offset + written.len() as u64;
        self.file_state(inode).latent_errors.retain(|bad| !(range.start <= bad.start && bad.end <= range.end));
        let change = Change::Write { inode, offset, bytes: written.into() };
        if fault == Some(Fault::LostWrite) {
            self.cached.apply(&change);
            self.file_state(inode).lying = true;
        } else if !written.is_empty() {
            self.issue(change);
        }
        answer
    }

    pub(super) fn set_len(&mut self, inode: Inode, bytes: u64) {
        let space_after = whole_pages(bytes);
        let space_before = self.file_state(inode).space;
        if space_after < space_before {
            self.space_used -= space_before - space_after;
            self.file_state(inode).space = space_after;
        }
        self.issue(Change::SetLength { inode, bytes });
    }

    pub(super) fn allocate(&mut self, inode: Inode, bytes: u64, call: &Call<'_>) -> Result<(), DiskError> {
        self.take_space(inode, bytes, call)?;
        self.issue(Change::Allocate { inode, bytes });
        Ok(())
    }

    fn take_space(&mut self, inode: Inode, end: u64, call: &Call<'_>) -> Result<(), DiskError> {
        let wanted = whole_pages(end).saturating_sub(self.file_state(inode).space);
        if wanted > self.free_bytes() {
            self.faults.meets(Fault::Full);
            return Err(call.full());
        }
        self.space_used += wanted;
        self.file_state(inode).space += wanted;
        Ok(())
    }

    pub(super) fn read(
        &mut self,
        inode: Inode,
        buffer: &mut [u8],
        offset: u64,
        uncached: bool,
        call: &Call<'_>,
    ) -> Result<usize, DiskError> {
        let range = offset..offset.saturating_add(buffer.len() as u64);
        let file = self.file_state(inode);
        if file.latent_errors.iter().any(|bad| bad.start < range.end && range.start < bad.end) {
            return Err(call.io(EIO));
        }
        if !(uncached && file.lying) {
            return Ok(self.cached.file(inode).map_or(0, |image| image.read(buffer, offset)));
        }
        // A direct read first sends what is dirty to the device, and then asks the device.
        let mut device = self.durable.file(inode).cloned().unwrap_or_default();
        for (_, change) in self.pending.iter().filter(|(_, change)| change.file() == Some(inode)) {
            let mut alone = Tree::default();
            alone.files.insert(inode, Arc::new(device));
            alone.apply(change);
            device = alone.file(inode).cloned().unwrap_or_default();
        }
        Ok(device.read(buffer, offset))
    }

    pub(super) fn sync(&mut self, inode: Inode, fault: Option<Fault>, call: &Call<'_>) -> Result<(), DiskError> {
        if std::mem::take(&mut self.file_state(inode).late_error) {
            return Err(call.io(EIO));
        }
        let of_file = self.pending.iter().filter(|(_, change)| change.file() == Some(inode));
        let numbers: Vec<u64> = of_file.map(|(number, _)| *number).collect();
        let failure = match fault {
            Some(Fault::Sync(failure)) => failure,
            Some(Fault::Io) => SyncFault::Kept,
            Some(Fault::Full | Fault::LostWrite | Fault::TooManyFiles) | None => {
                self.commit(numbers);
                return Ok(());
            }
        };
        self.forget(numbers);
        match failure {
            SyncFault::Kept => self.file_state(inode).lying = true,
            SyncFault::Reverted => {
                let durable = self.durable.files.entry(inode).or_default().clone();
                self.cached.files.insert(inode, durable);
                self.file_state(inode).lying = false;
            }
            SyncFault::Late => {
                self.file_state(inode).lying = true;
                self.file_state(inode).late_error = true;
                return Ok(());
            }
        }
        Err(call.io(EIO))
    }

    /// Changes bytes behind everybody's back, on the device and in the cache.
    pub(super) fn rot(&mut self, change: Change) {
        let change = Arc::new(change);
        self.durable.apply(&change);
        self.cached.apply(&change);
        self.record(Step::Rotted(change));
    }

    pub(super) fn latent_error(&mut self, inode: Inode, range: Range<u64>) {
        self.file_state(inode).latent_errors.push(range);
    }

    // Handles and unused files.

    pub(super) fn opened(&mut self, inode: Inode) {
        self.file_state(inode).handles += 1;
    }

    pub(super) fn closed(&mut self, inode: Inode) {
        self.file_state(inode).handles -= 1;
        self.free_unused();
    }

    pub(super) fn open_files(&self) -> usize {
        self.files.values().map(|file| file.handles).sum()
    }

    fn file_state(&mut self, inode: Inode) -> &mut FileState {
        self.files.entry(inode).or_default()
    }

    /// Forgets files without name and handle; what is still durable under some name waits for that name's end.
    fn free_unused(&mut self) {
        let is_unused = |file: &FileState| file.links == 0 && file.handles == 0;
        let unused: Vec<Inode> =
            self.files.iter().filter(|(_, file)| is_unused(file)).map(|(inode, _)| *inode).collect();
        for inode in unused {
            self.space_used -= self.files.remove(&inode).map_or(0, |file| file.space);
            self.cached.files.remove(&inode);
        }
        if self.durable.files.len() <= self.files.len() {
            return;
        }
        let named = |entry: &Entry| entry.inode();
        let mut reachable: BTreeSet<Inode> = self.files.keys().copied().collect();
        reachable.extend(self.durable.directories.values().flat_map(|directory| directory.values().map(named)));
        let pending_names = self.pending.iter().flat_map(|(_, change)| change.namings());
        reachable.extend(pending_names.filter_map(|naming| naming.entry.as_ref().map(named)));
        self.durable.files.retain(|inode, _| reachable.contains(inode));
        let is_gone = |change: &Change| change.file().is_some_and(|inode| !reachable.contains(&inode));
        self.forget(self.pending.iter().filter(|(_, change)| is_gone(change)).map(|(number, _)| *number).collect());
    }

    // Changes on their way to the device.

    fn issue(&mut self, change: Change) {
        let change = Arc::new(change);
        self.cached.apply(&change);
        self.pending.push((self.next_change, change.clone()));
        self.record(Step::Issued { number: self.next_change, change });
        self.next_change += 1;
    }

    fn commit(&mut self, numbers: Vec<u64>) {
        for change in self.take_pending(&numbers) {
            self.durable.apply(&change);
        }
        if !numbers.is_empty() {
            self.record(Step::Committed(numbers.into()));
        }
    }

    fn forget(&mut self, numbers: Vec<u64>) {
        self.take_pending(&numbers);
        if !numbers.is_empty() {
            self.record(Step::Forgotten(numbers.into()));
        }
    }

    fn take_pending(&mut self, numbers: &[u64]) -> Vec<Arc<Change>> {
        let is_taken = |(number, _): &mut (u64, Arc<Change>)| numbers.binary_search(number).is_ok();
        self.pending.extract_if(.., is_taken).map(|(_, change)| change).collect()
    }

    /// What a power loss now may leave: everything durable, and what `survive` makes of those pending.
    pub(super) fn after_power_loss(&self, mut survive: impl FnMut(&mut Tree, usize, &Change)) -> State {
        let mut tree = self.durable.clone();
        for (index, (_, change)) in self.pending.iter().enumerate() {
            survive(&mut tree, index, change);
        }
        State::new(tree, self.seed, self.salts_drawn, self.recording.is_some())
    }

    // The record.

    fn record(&mut self, step: Step) {
        if let Some(recording) = &mut self.recording {
            recording.steps.push(step);
        }
    }

    pub(super) fn mark(&mut self, mark: u64) {
        if let Some(Recording { steps, marks, .. }) = &mut self.recording {
            marks.push((steps.len(), mark));
        }
    }

    pub(super) fn operations(&self) -> usize {
        self.recording.as_ref().map_or(0, |recording| recording.steps.len())
    }

    pub(super) fn journal(&self) -> Option<Journal> {
        let Recording { base, steps, marks } = self.recording.as_ref()?;
        Some(Journal {
            base: base.clone(),
            steps: steps.clone(),
            marks: marks.clone(),
            seed: self.seed,
            salts_drawn: self.salts_drawn,
        })
    }
}

fn whole_pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE_BYTES as u64)
}
