//! What is wrong with a machine's disk, as far as its process may be expected to say so.

use kula_disk::sim::Fault;
use std::collections::BTreeSet;

#[derive(Default)]
pub struct DiskFaults {
    /// Numbers in the plan. Faults overlap.
    under_way: BTreeSet<usize>,
    /// Since the process started there was one that does not pass: it may end itself.
    may_fence: bool,
    /// A start was refused for one, and none came about since.
    refused_a_start: bool,
}

impl DiskFaults {
    pub fn begin(&mut self, number: usize, fault: Fault) {
        self.under_way.insert(number);
        self.may_fence |= matches!(fault, Fault::Io | Fault::Sync(_) | Fault::LostWrite);
    }

    pub fn end(&mut self, number: usize) {
        self.under_way.remove(&number);
    }

    /// The nemesis is done; what it did is not undone.
    pub fn end_all(&mut self) {
        self.under_way.clear();
    }

    pub fn are_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    pub fn may_fence(&self) -> bool {
        self.may_fence
    }

    pub fn may_refuse_a_start(&self) -> bool {
        self.may_fence || self.are_under_way()
    }

    /// One that is no fault of the plan's was met.
    pub fn met(&mut self) {
        self.may_fence = true;
    }

    /// They refused a start. Somebody looks after the disk.
    pub fn refused_a_start(&mut self) {
        *self = DiskFaults { refused_a_start: true, ..DiskFaults::default() };
    }

    /// A process runs. Whether one of them may have taken what was not synced when it started.
    pub fn started(&mut self) -> bool {
        let were_there = self.may_refuse_a_start() || self.refused_a_start;
        (self.may_fence, self.refused_a_start) = (self.may_fence && self.are_under_way(), false);
        were_there
    }
}

#[cfg(test)]
mod tests {
    use super::{DiskFaults, Fault};

    #[test]
    fn what_a_disk_did_is_known_until_a_start_comes_about() {
        let mut faults = DiskFaults::default();
        assert!(!faults.started());
        faults.begin(1, Fault::Io);
        faults.end(1);
        assert!(faults.may_fence() && !faults.are_under_way());
        // Another one refuses the start that follows.
        faults.begin(2, Fault::Io);
        faults.refused_a_start();
        faults.end(2);
        assert!(!faults.may_refuse_a_start(), "it was looked after: the next one must come about");
        assert!(faults.started(), "what was young before the first one may be gone");
        assert!(!faults.started());
    }

    #[test]
    fn faults_that_overlap_end_one_by_one() {
        let mut faults = DiskFaults::default();
        faults.begin(1, Fault::Full);
        faults.refused_a_start();
        faults.begin(2, Fault::Io);
        faults.end(1);
        assert!(faults.are_under_way(), "the first one ended before");
        assert!(faults.started() && faults.may_fence(), "it is still there");
        faults.end(2);
        assert!(faults.started() && !faults.may_fence());
    }
}
