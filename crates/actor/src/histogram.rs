//! A histogram of durations in fixed memory: eight buckets to each power of two, so a value is known to 12.5 %.
//!
//! One thread writes, with plain loads and stores; any thread copies the counts. A copy taken while a value is
//! recorded may miss that value, never invents one.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Buckets to a power of two, as a power of two.
const STEP_BITS: u32 = 3;
/// Powers of two covered: 2^41 ns are 36 minutes; longer waits count as that.
const POWERS: usize = 38;
const BUCKETS: usize = POWERS << STEP_BITS;

/// The live histogram.
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
}

/// A copy of its counts at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HistogramCounts {
    buckets: Box<[u64]>,
}

impl Histogram {
    pub fn new() -> Self {
        Histogram { buckets: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// Only the one writing thread may call this.
    pub fn record(&self, nanos: u64) {
        let bucket = &self.buckets[bucket_of(nanos)];
        bucket.store(bucket.load(Relaxed) + 1, Relaxed);
    }

    pub fn counts(&self) -> HistogramCounts {
        HistogramCounts { buckets: self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect() }
    }
}

impl HistogramCounts {
    /// What was recorded since `earlier`.
    pub fn since(&self, earlier: &HistogramCounts) -> HistogramCounts {
        let pairs = self.buckets.iter().zip(&earlier.buckets);
        HistogramCounts { buckets: pairs.map(|(now, then)| now.saturating_sub(*then)).collect() }
    }

    /// The upper edge, in nanoseconds, of the bucket that holds the given quantile (0 to 1); 0 if nothing was recorded.
    pub fn quantile(&self, quantile: f64) -> u64 {
        let total: u64 = self.buckets.iter().sum();
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if *count > 0 && seen as f64 >= total as f64 * quantile {
                return upper_edge(index);
            }
        }
        0
    }

    /// The upper edge of the highest bucket in use; 0 if nothing was recorded.
    pub fn max(&self) -> u64 {
        self.buckets.iter().rposition(|count| *count > 0).map_or(0, upper_edge)
    }
}

fn bucket_of(nanos: u64) -> usize {
    let nanos = nanos.max(1 << STEP_BITS);
    let power = nanos.ilog2() - STEP_BITS;
    let step = usize::try_from((nanos >> power) & ((1 << STEP_BITS) - 1)).unwrap_or(0);
    (((power as usize) << STEP_BITS) + step).min(BUCKETS - 1)
}

fn upper_edge(index: usize) -> u64 {
    let step = (index & ((1 << STEP_BITS) - 1)) as u64;
    ((1 << STEP_BITS) + step + 1) << (index >> STEP_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_at_most_an_eighth_above_the_value() {
        let histogram = Histogram::new();
        for value in 1..=100_000u64 {
            histogram.record(value * 10);
        }
        let counts = histogram.counts();
        for (quantile, exact) in [(0.5, 500_000), (0.99, 990_000), (1.0, 1_000_000)] {
            let found = counts.quantile(quantile);
            assert!((exact..=exact + exact / 8 + 1).contains(&found), "{quantile}: {found} for {exact}");
        }
        assert_eq!(counts.max(), counts.quantile(1.0));
    }

    #[test]
    fn a_window_counts_only_what_came_since() {
        let histogram = Histogram::new();
        histogram.record(1_000_000);
        let before = histogram.counts();
        assert_eq!(before.since(&before).quantile(0.99), 0);
        histogram.record(100);
        let window = histogram.counts().since(&before);
        assert!((100..=113).contains(&window.max()));
    }

    #[test]
    fn every_value_has_a_bucket_whose_edge_is_not_below_it() {
        for shift in 0..41 {
            for value in [1u64 << shift, (1u64 << shift) + 1, (1u64 << shift) * 3 / 2] {
                assert!(upper_edge(bucket_of(value)) >= value, "{value}");
            }
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }
}
