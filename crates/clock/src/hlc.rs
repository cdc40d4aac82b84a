//! The hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", 2014), one 64-bit microsecond number: the
//! larger of physical time and one past everything stamped or merged so far.
//!
//! Safe across restarts because its upper bound is leased durably before it is used: a start begins above the last
//! lease, so a wall clock that jumped back never makes a stamp that was given out before. A node that starts takes no
//! writes until physical time has come past that lease (`settles_in`), or its stamps would lie ahead of everybody else's
//! and win over later writes (ADR 0009). Lock-free: every coordinator core of a node shares one.

use kula_fault::{Mutant, Site, buggify, planted};
use kula_types::Timestamp;
use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

/// Bounds of the clock, each with its reason.
pub mod limits {
    use std::time::Duration;

    /// How far the durable lease reaches: how long a start after a crash may have to wait.
    pub const LEASE: Duration = Duration::from_secs(2);
    /// The lease is extended when less than this is left: once a second.
    pub const LEASE_RENEW_BELOW: Duration = Duration::from_millis(1_000);
    /// A remote stamp further ahead of local physical time than this is not merged: one bad clock must not drag the
    /// cluster's clocks with it.
    pub const REMOTE_AHEAD_MAX: Duration = Duration::from_millis(500);
    /// Owners refuse fresh client writes further ahead of themselves than this: such a write would win for ever.
    pub const CLIENT_AHEAD_MAX: Duration = Duration::from_millis(60_500);

    const _: () = assert!(LEASE_RENEW_BELOW.as_millis() < LEASE.as_millis());
}

/// A clock that only moves forward and never past its durable lease.
pub struct Hlc {
    /// The last stamp given out or merged. Invariant: `last <= bound`.
    last: AtomicI64,
    /// Stamps up to here are covered by the durable lease.
    bound: AtomicI64,
    /// Where it began: `last` is a stamp of this life only above this.
    floor: i64,
}

/// Why no stamp was given. Nothing has changed; renew the lease and ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the clock's durable lease ended at {bound:?}; the disk did not confirm a longer one")]
pub struct StampError {
    pub bound: Timestamp,
}

/// What came of a remote stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    Merged,
    /// Too far ahead of local physical time by this much: not merged, and worth showing.
    TooFarAhead(Duration),
}

impl Hlc {
    /// A clock that starts above `leased`, the durable lease of its last life (`None`: a new directory). No stamp is
    /// given until `extend` says what is durable now.
    pub fn starting_above(leased: Option<Timestamp>) -> Self {
        let leased = leased.filter(|_| !planted(Mutant::LeaseForgotten));
        let floor = leased.map_or(i64::MIN + 1, Timestamp::micros);
        Hlc { last: AtomicI64::new(floor), bound: AtomicI64::new(floor), floor }
    }

    /// A fresh stamp, later than every other of this clock.
    pub fn stamp(&self, wall: Timestamp) -> Result<Timestamp, StampError> {
        let bound = self.bound.load(Ordering::Acquire);
        let least = i64::from(!planted(Mutant::StampRepeats));
        let after = |last: i64| wall.micros().max(last.saturating_add(least));
        let next = |last: i64| {
            let stamp = after(last);
            (stamp <= bound && stamp.saturating_sub(last) >= least).then_some(stamp)
        };
        match self.last.fetch_update(Ordering::AcqRel, Ordering::Acquire, next) {
            Ok(last) => Ok(known(after(last))),
            Err(_) => Err(StampError { bound: known(bound) }),
        }
    }

    /// What goes with each message to another node: the later of physical time and the last stamp given or merged in this life.
    /// Not the lease of the last one: it lies ahead of everybody, and is no stamp (ADR 0009).
    pub fn reading(&self, wall: Timestamp) -> Timestamp {
        let last = self.last.load(Ordering::Acquire);
        if last > self.floor { wall.max(known(last)) } else { wall }
    }

    /// Merges a peer's reading, so that what is written here after it was seen is ordered after it. A client's own
    /// timestamp is never given to this.
    pub fn observe(&self, remote: Timestamp, wall: Timestamp) -> Observed {
        let ahead = remote.micros().saturating_sub(wall.micros());
        let ahead_max = i64::try_from(limits::REMOTE_AHEAD_MAX.as_micros()).unwrap_or(i64::MAX);
        if ahead > ahead_max {
            return Observed::TooFarAhead(Duration::from_micros(ahead.unsigned_abs()));
        }
        if planted(Mutant::ClockNotMerged) {
            return Observed::Merged;
        }
        self.last.fetch_max(remote.micros().min(self.bound.load(Ordering::Acquire)), Ordering::AcqRel);
        Observed::Merged
    }

    /// The lease to make durable now, if one is due: `LEASE` past physical time; past the last stamp where the wall clock was
    /// set back further than a lease reaches. Never past a last stamp that physical time comes up with: starts one after the
    /// other would push the lease away, each by its own, and the last would not wait for it (`settles_in`).
    pub fn lease_due(&self, wall: Timestamp) -> Option<Timestamp> {
        let from = if self.ahead_of(wall) > limits::LEASE { self.last() } else { wall };
        let renew_at = from.saturating_add(limits::LEASE_RENEW_BELOW).micros();
        let is_due = self.bound.load(Ordering::Acquire) < renew_at || buggify(Site::LeaseExtendedEarly);
        is_due.then(|| from.saturating_add(limits::LEASE))
    }

    /// Says that stamps up to `bound` are covered durably. Never shortens the lease.
    pub fn extend(&self, bound: Timestamp) {
        self.bound.fetch_max(bound.micros(), Ordering::AcqRel);
    }

    /// How far the last stamp lies ahead of physical time: more than the lease only if the wall clock was set back.
    pub fn ahead_of(&self, wall: Timestamp) -> Duration {
        Duration::from_micros(self.last().micros().saturating_sub(wall.micros()).max(0).unsigned_abs())
    }

    /// How long a node that starts waits before it takes writes: until physical time is past the lease of its last life.
    /// Zero if it is further behind than a lease reaches: then the wall clock was set back, and waiting would take as long.
    pub fn settles_in(&self, wall: Timestamp) -> Duration {
        let ahead = self.ahead_of(wall);
        if ahead > limits::LEASE || planted(Mutant::SettleSkipped) { Duration::ZERO } else { ahead }
    }

    /// The last stamp given or merged.
    pub fn last(&self) -> Timestamp {
        known(self.last.load(Ordering::Acquire))
    }
}

/// Every value this clock holds came from a `Timestamp` or lies above one.
fn known(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros).unwrap()
    }

    // Promise: P14
    #[test]
    fn no_stamp_before_or_past_the_lease() {
        let clock = Hlc::starting_above(Some(at(1_000)));
        assert_eq!(clock.stamp(at(500)), Err(StampError { bound: at(1_000) }));
        clock.extend(at(1_002));
        assert_eq!(clock.stamp(at(500)), Ok(at(1_001)));
        assert_eq!(clock.stamp(at(500)), Ok(at(1_002)));
        assert_eq!(clock.stamp(at(500)), Err(StampError { bound: at(1_002) }));
        assert_eq!(clock.stamp(at(2_000)), Err(StampError { bound: at(1_002) }));
    }

    // Promise: P14, R3
    #[test]
    fn a_start_waits_for_the_lease_of_its_last_life_and_not_for_a_clock_that_was_set_back() {
        let clock = Hlc::starting_above(Some(at(3_000_000)));
        assert_eq!(clock.settles_in(at(4_000_000)), Duration::ZERO);
        assert_eq!(clock.settles_in(at(2_500_000)), Duration::from_millis(500));
        assert_eq!(clock.settles_in(at(1_000_000)), limits::LEASE);
        assert_eq!(clock.settles_in(at(999_999)), Duration::ZERO);
        assert_eq!(Hlc::starting_above(None).settles_in(at(0)), Duration::ZERO);
    }

    // Promise: P14, R2
    #[test]
    fn starts_one_after_the_other_do_not_push_the_lease_away() {
        let mut leased = at(2_000_000);
        for wall in [100_000, 300_000, 600_000, 1_500_000, 1_600_000] {
            let clock = Hlc::starting_above(Some(leased));
            assert_eq!(clock.settles_in(at(wall)), leased_ahead(leased, wall), "it waits for what it may have stamped");
            if let Some(lease) = clock.lease_due(at(wall)) {
                clock.extend(lease);
                leased = leased.max(lease);
            }
            assert!(leased_ahead(leased, wall) <= limits::LEASE);
        }
    }

    fn leased_ahead(leased: Timestamp, wall: i64) -> Duration {
        Duration::from_micros((leased.micros() - wall).unsigned_abs())
    }

    // Promise: R3
    #[test]
    fn others_are_shown_physical_time_or_what_this_life_stamped_and_never_the_lease_of_the_last() {
        let clock = Hlc::starting_above(Some(at(2_000)));
        clock.extend(at(9_000));
        assert_eq!(clock.reading(at(1_000)), at(1_000));
        assert_eq!(clock.observe(at(1_500), at(1_000)), Observed::Merged);
        assert_eq!(clock.reading(at(1_000)), at(1_000), "below the lease nothing is stamped");
        assert_eq!(clock.observe(at(2_500), at(2_400)), Observed::Merged);
        assert_eq!(clock.reading(at(2_400)), at(2_500));
        assert_eq!(clock.stamp(at(2_400)), Ok(at(2_501)));
        assert_eq!(clock.reading(at(3_000)), at(3_000));
    }

    #[test]
    fn a_stamp_far_ahead_is_shown_and_not_merged() {
        let clock = Hlc::starting_above(None);
        clock.extend(at(10_000_000));
        assert_eq!(clock.observe(at(500_001), at(0)), Observed::TooFarAhead(Duration::from_micros(500_001)));
        assert_eq!(clock.stamp(at(7)), Ok(at(7)));
        assert_eq!(clock.observe(at(400_000), at(7)), Observed::Merged);
        assert_eq!(clock.stamp(at(8)), Ok(at(400_001)));
    }

    proptest! {
        // Promise: P14, R4
        /// Whatever the wall clock does, and however often the node restarts, no stamp is ever given twice.
        #[test]
        fn stamps_rise_across_jumps_and_restarts(steps in prop::collection::vec((0i64..10_000_000, 0u8..10), 1..200)) {
            let mut durable: Option<Timestamp> = None;
            let mut clock = Hlc::starting_above(durable);
            let mut given = Timestamp::MIN;
            for (wall, action) in steps {
                match action {
                    0 => clock = Hlc::starting_above(durable),
                    1..=3 => if let Some(lease) = clock.lease_due(at(wall)) {
                        durable = Some(lease);
                        clock.extend(lease);
                    },
                    _ => if let Ok(stamp) = clock.stamp(at(wall)) {
                        prop_assert!(stamp > given);
                        prop_assert!(Some(stamp) <= durable);
                        given = stamp;
                    },
                }
            }
        }
    }
}
