//! `Registry`: every meter of a node by path, and the counters, gauges and histograms of its rooms.
//!
//! Readers never reset anything, so any number of them may look: rates are always those since a common mark, which the
//! observer sets every `mailbox_every`. Bounded by the tree (one meter an actor) and by the code (names and labels are
//! written in it; a key or a client must never become a label).

use crate::{
    limits,
    metrics::Metrics,
    report::ActorReport,
    stats::{Counts, Stats},
};
use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::time::Instant;

/// All meters and metrics of one node. Clones share them.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    actors: Mutex<BTreeMap<Arc<str>, Metered>>,
    metrics: Mutex<Metrics>,
}

/// A meter with the marks that rates are taken from.
struct Metered {
    stats: Arc<Stats>,
    last: Mark,
    /// For whoever looks right after a mark was set.
    before: Option<Mark>,
}

struct Mark {
    at: Instant,
    counts: Counts,
}

impl Registry {
    pub fn new() -> Self {
        Registry { shared: Arc::new(Shared { actors: Mutex::default(), metrics: Mutex::default() }) }
    }

    /// Every actor, by path, over the window since the last mark (or the one before, if that was just now).
    pub fn snapshot(&self) -> Vec<ActorReport> {
        let now = Instant::now();
        self.actors().values().map(|metered| metered.report(now)).collect()
    }

    /// Ends a window and begins the next: the reports of the one that ended. Only the observer calls this.
    pub fn mark(&self) -> Vec<ActorReport> {
        let now = Instant::now();
        let mut actors = self.actors();
        actors.retain(|_, metered| !metered.stats.closed());
        actors.values_mut().map(|metered| metered.mark(now)).collect()
    }

    /// The meter of an actor.
    pub fn actor(&self, path: &str) -> Option<Arc<Stats>> {
        self.actors().get(path).map(|metered| Arc::clone(&metered.stats))
    }

    /// The counter of this name and these labels, made on first use; the exposition adds `_total`.
    pub fn counter(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        self.metrics().counter(name, help, labels)
    }

    /// The gauge of this name and these labels, made on first use.
    pub fn gauge(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        self.metrics().gauge(name, help, labels)
    }

    /// The histogram of this name and these labels, made on first use with these upper edges, in the unit of its name.
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        edges: &[f64],
    ) -> Histogram {
        self.metrics().histogram(name, help, labels, edges)
    }

    /// Everything, as OpenMetrics text; serve it as `METRICS_CONTENT_TYPE`.
    pub fn render_metrics(&self) -> String {
        let now = Instant::now();
        let actors = self.actors().values().map(|metered| (metered.stats.counts(), metered.report(now))).collect();
        self.metrics().render(actors)
    }

    /// A path names one actor; a new one takes the place of one that ended.
    pub(crate) fn register(&self, stats: Arc<Stats>) {
        let last = Mark { at: Instant::now(), counts: stats.counts() };
        self.actors().insert(Arc::clone(stats.path()), Metered { stats, last, before: None });
    }

    fn actors(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Metered>> {
        self.shared.actors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn metrics(&self) -> MutexGuard<'_, Metrics> {
        self.shared.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Metered {
    fn report(&self, now: Instant) -> ActorReport {
        let fresh = now - self.last.at < limits::WINDOW_MIN;
        let since = self.before.as_ref().filter(|_| fresh).unwrap_or(&self.last);
        self.between(since, &self.stats.counts(), now)
    }

    fn mark(&mut self, now: Instant) -> ActorReport {
        let counts = self.stats.counts();
        let report = self.between(&self.last, &counts, now);
        self.before = Some(std::mem::replace(&mut self.last, Mark { at: now, counts }));
        report
    }

    fn between(&self, since: &Mark, counts: &Counts, now: Instant) -> ActorReport {
        ActorReport::between(self.stats.path(), self.stats.cap(), &since.counts, counts, now - since.at)
    }
}

impl Default for Registry {
    fn default() -> Self {
        Registry::new()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registry({} actors)", self.actors().len())
    }
}
