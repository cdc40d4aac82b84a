//! What was read and is not acknowledged yet, in the file's order: it bounds what an import holds, and its lower edge is
//! where an interrupted import goes on.
//!
//! Acknowledgements come in any order. Below the edge every record is acknowledged; beyond it some may be, and are put once
//! more after a crash, which changes nothing.

use super::limits::{WINDOW_BYTES_MAX, WINDOW_RECORDS_MAX};
use crate::records::Digest;
use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// Everything below it is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    /// Bytes of the file.
    pub offset: u64,
    /// The records before it, equal keys counted each time.
    pub digest: Digest,
}

/// What an import has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    pub records: u64,
    /// Bytes of the file that held them.
    pub bytes: u64,
}

pub struct Window {
    inner: Mutex<Inner>,
    moved: Condvar,
}

struct Inner {
    /// The number of the first entry.
    first: u64,
    entries: VecDeque<Entry>,
    /// Of values that are not acknowledged.
    bytes: usize,
    edge: Edge,
    done: Done,
    stopped: bool,
}

struct Entry {
    end: u64,
    file_bytes: u64,
    value_bytes: usize,
    record_hash: u128,
    acknowledged: bool,
}

impl Window {
    /// Everything below `edge` is acknowledged already.
    pub fn new(edge: Edge) -> Self {
        let done = Done { records: edge.digest.records, bytes: edge.offset };
        let inner =
            Inner { first: edge.digest.records, entries: VecDeque::new(), bytes: 0, edge, done, stopped: false };
        Window { inner: Mutex::new(inner), moved: Condvar::new() }
    }

    /// Takes a record that ends at this offset of the file and returns its number; waits for room. `None`: it was stopped.
    pub fn enter(&self, end: u64, file_bytes: u64, value_bytes: usize, record_hash: u128) -> Option<u64> {
        let is_full = |inner: &mut Inner| {
            let full = inner.entries.len() >= WINDOW_RECORDS_MAX || inner.bytes >= WINDOW_BYTES_MAX;
            full && !inner.stopped
        };
        let waited = self.moved.wait_while(self.lock(), is_full);
        let mut inner = waited.unwrap_or_else(PoisonError::into_inner);
        if inner.stopped {
            return None;
        }
        inner.bytes += value_bytes;
        inner.entries.push_back(Entry { end, file_bytes, value_bytes, record_hash, acknowledged: false });
        Some(inner.first + u64::try_from(inner.entries.len()).unwrap_or(u64::MAX) - 1)
    }

    pub fn acknowledge(&self, numbers: &[u64]) {
        let mut inner = self.lock();
        for &number in numbers {
            let place = number.checked_sub(inner.first).and_then(|place| usize::try_from(place).ok());
            let entry = place.and_then(|place| inner.entries.get_mut(place)).filter(|entry| !entry.acknowledged);
            let Some(entry) = entry else { continue };
            entry.acknowledged = true;
            let (value_bytes, file_bytes) = (entry.value_bytes, entry.file_bytes);
            inner.bytes -= value_bytes;
            inner.done.records += 1;
            inner.done.bytes += file_bytes;
        }
        while inner.entries.front().is_some_and(|entry| entry.acknowledged) {
            if let Some(entry) = inner.entries.pop_front() {
                inner.first += 1;
                inner.edge.offset = entry.end;
                inner.edge.digest.add(entry.record_hash);
            }
        }
        drop(inner);
        self.moved.notify_all();
    }

    /// Nothing is taken any more.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.moved.notify_all();
    }

    /// Everything that was taken is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.lock().entries.is_empty()
    }

    pub fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    pub fn edge(&self) -> Edge {
        self.lock().edge
    }

    pub fn done(&self) -> Done {
        self.lock().done
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edge_follows_the_oldest_that_is_not_acknowledged() {
        let window = Window::new(Edge::default());
        let numbers: Vec<u64> = (1..=4).map(|end| window.enter(end * 10, 10, 5, u128::from(end)).unwrap()).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
        window.acknowledge(&[1, 3]);
        assert_eq!((window.edge(), window.done()), (Edge::default(), Done { records: 2, bytes: 20 }));
        window.acknowledge(&[0, 0, 1]);
        assert_eq!(window.edge(), Edge { offset: 20, digest: Digest { records: 2, sum: 3 } });
        assert!(!window.is_empty());
        window.acknowledge(&[2]);
        assert!(window.is_empty());
        assert_eq!(window.edge(), Edge { offset: 40, digest: Digest { records: 4, sum: 10 } });
        assert_eq!(window.enter(50, 10, 5, 1), Some(4));
    }

    #[test]
    fn a_resumed_window_counts_on() {
        let edge = Edge { offset: 70, digest: Digest { records: 7, sum: 9 } };
        let window = Window::new(edge);
        assert_eq!(window.enter(80, 10, 1, 1), Some(7));
        window.acknowledge(&[7]);
        assert_eq!(window.done(), Done { records: 8, bytes: 80 });
        assert_eq!(window.edge().digest, Digest { records: 8, sum: 10 });
    }

    #[test]
    fn a_full_window_waits_for_room_and_a_stopped_one_takes_nothing() {
        let window = Window::new(Edge::default());
        window.enter(1, 1, WINDOW_BYTES_MAX, 0).unwrap();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| window.enter(2, 1, 1, 0));
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!waits.is_finished());
            window.acknowledge(&[0]);
            assert_eq!(waits.join().unwrap(), Some(1));
        });
        window.stop();
        assert_eq!(window.enter(3, 1, 1, 0), None);
    }
}
