//! All hints of this node: a log a target, a batch of several targets at a time.
//!
//! Synchronous over `Disk`, free of threads and actix: the actor's shell calls it. What it acknowledges is synced.

use crate::{
    error::HandoffError,
    limits,
    record::Hint,
    target_log::{HINTS, Sizes, TargetLog, Trouble},
};
use kula_disk::Disk;
use kula_fault::{Mutant, Site, buggify, planted};
use kula_types::NodeId;
use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

pub struct HintStore {
    disk: Arc<dyn Disk>,
    sizes: Sizes,
    targets: BTreeMap<NodeId, TargetLog>,
}

impl HintStore {
    /// Opens what earlier lives kept; nothing is made but the directory.
    pub fn open(disk: Arc<dyn Disk>, sizes: Sizes) -> Result<HintStore, HandoffError> {
        if !disk.exists(HINTS)? {
            disk.create_dir(HINTS)?;
        }
        disk.sync_dir("")?;
        let mut store = HintStore { disk, sizes, targets: BTreeMap::new() };
        for name in store.disk.list(HINTS)? {
            // Whatever has another name is not ours to deliver.
            let target = uuid::Uuid::try_parse(&name).map(NodeId).ok().filter(|target| target.to_string() == name);
            if let Some(target) = target {
                let log = TargetLog::open(Arc::clone(&store.disk), target, sizes).map_err(HandoffError::NotOpened)?;
                store.targets.insert(target, log);
            }
        }
        Ok(store)
    }

    /// Keeps hints of several targets. Answers in their order what became of each; `Ok` is durable.
    pub fn keep(&mut self, owed: Vec<(NodeId, Hint)>) -> Result<Vec<Result<(), HandoffError>>, Trouble> {
        let mut answers: Vec<Result<(), HandoffError>> = owed.iter().map(|_| Ok(())).collect();
        let mut batches: BTreeMap<NodeId, Vec<(usize, Hint)>> = BTreeMap::new();
        for (index, (target, hint)) in owed.into_iter().enumerate() {
            batches.entry(target).or_default().push((index, hint));
        }
        for (target, batch) in batches {
            let (mut indices, mut hints, mut bytes) = (Vec::new(), Vec::new(), 0);
            let kept = match self.log_of(target) {
                Ok(log) => {
                    for (index, hint) in batch {
                        match admit(target, log, bytes, hint.bytes()) {
                            Ok(()) => {
                                bytes += hint.bytes() as u64;
                                indices.push(index);
                                hints.push(hint);
                            }
                            Err(refusal) => answers[index] = Err(refusal),
                        }
                    }
                    if planted(Mutant::HintForgotten) {
                        hints.clear();
                    }
                    let is_unsynced = planted(Mutant::HintNotSynced);
                    log.append(&hints).and_then(|()| if is_unsynced { Ok(()) } else { log.sync() })
                }
                Err(NoLog::TooMany) => {
                    let refusal = HandoffError::TooManyTargets { max: limits::TARGETS_MAX };
                    batch.iter().for_each(|(index, _)| answers[*index] = Err(refusal.clone()));
                    continue;
                }
                Err(NoLog::Trouble(trouble)) => {
                    indices = batch.iter().map(|(index, _)| *index).collect();
                    Err(trouble)
                }
            };
            match kept {
                Ok(()) => {}
                Err(Trouble::NoRoom) => indices.iter().for_each(|index| answers[*index] = Err(HandoffError::DiskFull)),
                Err(broken) => return Err(broken),
            }
        }
        Ok(answers)
    }

    /// The log of a target that anything was ever kept for.
    pub fn target(&mut self, target: NodeId) -> Option<&mut TargetLog> {
        self.targets.get_mut(&target)
    }

    pub fn targets(&self) -> impl Iterator<Item = (NodeId, &TargetLog)> {
        self.targets.iter().map(|(target, log)| (*target, log))
    }

    pub fn targets_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut TargetLog)> {
        self.targets.iter_mut().map(|(target, log)| (*target, log))
    }

    fn log_of(&mut self, target: NodeId) -> Result<&mut TargetLog, NoLog> {
        let known = self.targets.len();
        match self.targets.entry(target) {
            Entry::Occupied(log) => Ok(log.into_mut()),
            Entry::Vacant(_) if known >= limits::TARGETS_MAX => Err(NoLog::TooMany),
            Entry::Vacant(place) => {
                let log = TargetLog::open(Arc::clone(&self.disk), target, self.sizes).map_err(NoLog::Trouble)?;
                Ok(place.insert(log))
            }
        }
    }
}

enum NoLog {
    TooMany,
    Trouble(Trouble),
}

/// Whether one more hint of a batch, of which so many bytes are taken, fits the log's bounds.
fn admit(target: NodeId, log: &TargetLog, taken: u64, bytes: usize) -> Result<(), HandoffError> {
    let (owed, max) = (log.owed().bytes.saturating_add(taken), log.owed_bytes_max());
    if bytes > log.hint_bytes_max() {
        return Err(HandoffError::TooLarge { bytes, max: log.hint_bytes_max() });
    }
    if owed.saturating_add(bytes as u64) > max || buggify(Site::HintNotTaken) {
        Err(HandoffError::Full { target, bytes: owed, max })
    } else {
        Ok(())
    }
}
