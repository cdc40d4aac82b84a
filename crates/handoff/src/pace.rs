//! How fast: a bucket of bytes that fills at the configured rate. Integers and arguments only.

use crate::limits;
use kula_types::Mono;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Bucket {
    /// Bytes a second.
    rate: u64,
    /// Bytes that may be sent now. Below zero after a hint larger than what was there: it is paid off first, so that the
    /// rate holds for hints of any size. Invariant: at most `rate / BURST_PART`, or 1.
    level: i64,
    at: Mono,
}

impl Bucket {
    pub fn new(rate: u64, now: Mono) -> Self {
        let mut bucket = Bucket { rate, level: 0, at: now };
        bucket.level = bucket.burst();
        bucket
    }

    pub fn is_open(&mut self, now: Mono) -> bool {
        let gained = u128::from(self.rate) * now.since(self.at).as_nanos() / 1_000_000_000;
        // Below one byte the time goes on counting.
        if gained > 0 {
            self.at = now;
            self.level = self.level.saturating_add(i64::try_from(gained).unwrap_or(i64::MAX)).min(self.burst());
        }
        self.level > 0
    }

    pub fn take(&mut self, bytes: usize) {
        self.level = self.level.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// When it is open next, seen from a moment at which it is not.
    pub fn opens_at(&self) -> Mono {
        let missing = u128::from(1_i64.saturating_sub(self.level).max(0).unsigned_abs());
        let nanos = (missing * 1_000_000_000).div_ceil(u128::from(self.rate.max(1)));
        self.at.after(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    fn burst(&self) -> i64 {
        i64::try_from(self.rate / limits::BURST_PART).unwrap_or(i64::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is sent as soon as it may be: never more than the rate, the burst and one hint; never less than the rate.
        #[test]
        fn what_goes_out_keeps_to_the_rate(rate in 1_000u64..10_000_000, sizes in prop::collection::vec(1usize..300_000, 1..200)) {
            let mut now = Mono::from_millis(5);
            let began = now;
            let mut bucket = Bucket::new(rate, now);
            let mut sent = 0;
            let largest = sizes.iter().copied().max().unwrap() as u64;
            for bytes in sizes {
                if !bucket.is_open(now) {
                    now = bucket.opens_at();
                    prop_assert!(bucket.is_open(now), "it opens when it said");
                }
                bucket.take(bytes);
                sent += bytes as u64;
                let allowed = u128::from(rate) * now.since(began).as_nanos() / 1_000_000_000;
                prop_assert!(u128::from(sent) <= allowed + u128::from(rate / limits::BURST_PART + largest) + 1);
                prop_assert!(u128::from(sent) >= allowed.saturating_sub(u128::from(largest)));
            }
        }
    }
}
