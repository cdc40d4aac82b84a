//! Keeps the state of an import beside its file, as long as that can be written.

use super::{
    state::{self, State, Subject},
    window::Edge,
};
use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

pub struct Keeper<'a> {
    path: Option<PathBuf>,
    subject: &'a Subject,
    begun_at: i64,
    last: Mutex<Last>,
}

/// What was written last.
#[derive(Default)]
struct Last {
    state: Option<State>,
    failed: bool,
}

impl<'a> Keeper<'a> {
    /// Without a path nothing is kept.
    pub fn new(path: Option<PathBuf>, subject: &'a Subject, begun_at: i64) -> Self {
        Keeper { path, subject, begun_at, last: Mutex::new(Last::default()) }
    }

    /// Whether an import can go on from what is kept.
    pub fn works(&self) -> bool {
        self.path.is_some() && !self.last().failed
    }

    /// Whether there was something new to keep.
    pub fn keep(&self, edge: &Edge) -> bool {
        let Some(path) = &self.path else { return false };
        let mut last = self.last();
        let state = State::new(self.subject, self.begun_at, edge);
        if last.failed || edge.digest.records == 0 || last.state.as_ref() == Some(&state) {
            return false;
        }
        match state::save(path, &state) {
            Ok(()) => last.state = Some(state),
            Err(error) => {
                last.failed = true;
                eprintln!("note: {} cannot be written, so this import cannot be resumed: {error}", path.display());
            }
        }
        true
    }

    /// The import is complete: nothing is left to go on from.
    pub fn forget(&self) {
        let Some(path) = &self.path else { return };
        if let Err(error) = state::forget(path) {
            eprintln!("note: {} cannot be removed: {error}", path.display());
        }
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
