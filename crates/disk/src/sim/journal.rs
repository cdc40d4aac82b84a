//! What happened to a recording disk, in order: enough to rebuild what the device held after each step.

use super::tree::{Change, Tree};
use std::sync::Arc;

/// One step of the device's history. Numbers identify changes issued earlier.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A call returned; the device may hold its change, or not, until it is committed.
    Issued { number: u64, change: Arc<Change> },
    /// A sync made these durable.
    Committed(Arc<[u64]>),
    /// A failed sync: these will never be durable.
    Forgotten(Arc<[u64]>),
    /// The device's own bytes changed by themselves.
    Rotted(Arc<Change>),
}

/// The recorded history of a disk since it was made. `CrashImages::of` turns it into power losses.
#[derive(Clone)]
pub struct Journal {
    pub(super) base: Tree,
    pub(super) steps: Vec<Step>,
    /// `(operations before it, mark)`, ascending in the first.
    pub(super) marks: Vec<(usize, u64)>,
    pub(super) seed: u64,
    pub(super) salts_drawn: u64,
}

impl Journal {
    /// Steps recorded: a crash may come after 0 to this many.
    pub fn operations(&self) -> usize {
        self.steps.len()
    }

    /// Every step in words.
    pub fn describe(&self) -> String {
        use std::fmt::Write;
        let mut text = String::new();
        for (index, step) in self.steps.iter().enumerate() {
            let written = match step {
                Step::Issued { number, change } => writeln!(text, "{index}: #{number} {change}"),
                Step::Committed(numbers) => writeln!(text, "{index}: synced {numbers:?}"),
                Step::Forgotten(numbers) => writeln!(text, "{index}: failed to sync {numbers:?}"),
                Step::Rotted(change) => writeln!(text, "{index}: rotted: {change}"),
            };
            assert!(written.is_ok(), "a String takes all text");
        }
        text
    }
}
