//! What went wrong and was tried again: how often, and the last of it, for whoever watches.

use crate::stopwatch::now;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How long the last trouble is shown.
const SHOWN_FOR: Duration = Duration::from_secs(3);

/// Kinds of trouble that are counted one by one; the rest together.
const KINDS_MAX: usize = 16;
const OTHERS: &str = "others";

/// How often each kind was met.
pub type Kinds = BTreeMap<String, u64>;

#[derive(Default)]
pub struct Trouble {
    count: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    last: Option<(Instant, String)>,
    kinds: Kinds,
}

impl Trouble {
    pub fn met(&self, times: usize, what: String) {
        let times = u64::try_from(times).unwrap_or(u64::MAX);
        self.count.fetch_add(times, Ordering::Relaxed);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = inner.kinds.len() >= KINDS_MAX && !inner.kinds.contains_key(&what);
        *inner.kinds.entry(if is_new { OTHERS.into() } else { what.clone() }).or_insert(0) += times;
        inner.last = Some((now(), what));
    }

    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub fn kinds(&self) -> Kinds {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).kinds.clone()
    }

    /// If it is not long ago.
    pub fn last(&self) -> Option<String> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.last.as_ref().filter(|(at, _)| at.elapsed() < SHOWN_FOR).map(|(_, what)| what.clone())
    }
}
