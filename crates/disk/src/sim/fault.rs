//! What may go wrong on a simulated disk, and when.

use crate::Operation;

/// Which calls a fault counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every call on the disk and its files.
    Any,
    Read,
    Write,
    /// `sync_data` and `sync_all`.
    Sync,
    SyncDir,
    /// Calls that may take space: create, write, set the length, allocate, rename, link, create a directory.
    Space,
    /// Calls that open a file or a directory.
    Open,
}

/// What happens to the call. A fault that the call cannot have passes over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// EIO. A write has written half; a sync behaves as `SyncFault::Kept`; any other call did nothing.
    Io,
    /// ENOSPC, on calls that take space and when a directory is synced. A write has written half.
    Full,
    /// EMFILE, on calls that open a file or a directory.
    TooManyFiles,
    /// The write is answered with success and shown to readers, and never reaches the disk.
    LostWrite,
    /// The sync fails in this manner.
    Sync(SyncFault),
}

/// How file systems behave when a sync fails (Rebello et al., ATC 2020).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncFault {
    /// EIO; readers keep seeing the bytes, the disk never gets them, the next sync succeeds (ext4, XFS).
    Kept,
    /// EIO; readers see the old bytes again, the next sync succeeds (Btrfs).
    Reverted,
    /// The sync that loses the bytes succeeds; the next one on that file says EIO, once (ext4 data=journal).
    Late,
}

pub(super) const EIO: i32 = 5;
pub(super) const ENOSPC: i32 = 28;
pub(super) const EMFILE: i32 = 24;

#[derive(Default)]
pub(super) struct Faults {
    counts: [u64; Target::COUNT],
    planned: Vec<Planned>,
    /// What calls have met and nobody has asked for yet.
    pub met: Vec<Fault>,
}

struct Planned {
    target: Target,
    /// The count of the call it hits.
    call: u64,
    fault: Fault,
}

impl Target {
    const ALL: [Target; Self::COUNT] =
        [Target::Any, Target::Read, Target::Write, Target::Sync, Target::SyncDir, Target::Space, Target::Open];
    const COUNT: usize = 7;

    fn counts(self, operation: Operation) -> bool {
        match self {
            Target::Any => true,
            Target::Read => operation == Operation::Read,
            Target::Write => operation == Operation::Write,
            Target::Sync => matches!(operation, Operation::SyncData | Operation::SyncAll),
            Target::SyncDir => operation == Operation::SyncDir,
            Target::Space => matches!(
                operation,
                Operation::Create
                    | Operation::Write
                    | Operation::SetLength
                    | Operation::Allocate
                    | Operation::Rename
                    | Operation::Link
                    | Operation::CreateDir
            ),
            Target::Open => matches!(
                operation,
                Operation::Create | Operation::Open | Operation::SyncDir | Operation::List | Operation::Lock
            ),
        }
    }
}

impl Fault {
    fn can_hit(self, operation: Operation) -> bool {
        match self {
            Fault::Io => true,
            Fault::Full => Target::Space.counts(operation) || operation == Operation::SyncDir,
            Fault::TooManyFiles => Target::Open.counts(operation),
            Fault::LostWrite => Target::Write.counts(operation),
            Fault::Sync(_) => Target::Sync.counts(operation),
        }
    }
}

impl Faults {
    pub(super) fn plan(&mut self, target: Target, calls_before: u64, fault: Fault) {
        let call = self.count(target) + calls_before;
        self.planned.push(Planned { target, call, fault });
    }

    pub(super) fn clear(&mut self) {
        self.planned.clear();
    }

    pub(super) fn count(&self, target: Target) -> u64 {
        self.counts[target as usize]
    }

    /// Notes that a call met this; of equal ones in a row, one.
    pub(super) fn meets(&mut self, fault: Fault) {
        if self.met.last() != Some(&fault) {
            self.met.push(fault);
        }
    }

    /// Counts a call; answers the fault planned for it.
    pub(super) fn meet(&mut self, operation: Operation) -> Option<Fault> {
        let counts = self.counts;
        for target in Target::ALL {
            if target.counts(operation) {
                self.counts[target as usize] += 1;
            }
        }
        let hit = self
            .planned
            .iter()
            .position(|planned| planned.target.counts(operation) && counts[planned.target as usize] == planned.call)?;
        let fault = self.planned.swap_remove(hit).fault;
        if !fault.can_hit(operation) {
            return None;
        }
        self.meets(fault);
        Some(fault)
    }
}
