//! The clocks of a simulated process: tokio's paused one, and a wall clock that the nemesis sets.

use kula_clock::Clock;
use kula_sim::time::{Micros, WALL_START, micros, stamp};
use kula_types::{Mono, Timestamp};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// How far a machine's wall clock is ahead of the world's, microseconds. Outlives its processes.
pub type Offset = Arc<AtomicI64>;

pub struct HostClock {
    born: Instant,
    /// The world's time then.
    born_at: Duration,
    offset: Offset,
}

impl HostClock {
    /// Must be made inside the host.
    pub fn new(offset: Offset) -> HostClock {
        HostClock { born: Instant::now(), born_at: turmoil::sim_elapsed().unwrap_or_default(), offset }
    }
}

impl Clock for HostClock {
    fn mono(&self) -> Mono {
        Mono(self.born.elapsed())
    }

    fn wall(&self) -> Timestamp {
        stamp(wall_at(micros(self.born_at + self.born.elapsed()), &self.offset))
    }
}

/// What a machine's wall clock shows.
pub fn wall_at(now: Micros, offset: &Offset) -> i64 {
    WALL_START + i64::try_from(now).unwrap_or(i64::MAX / 4) + offset.load(Ordering::Relaxed)
}
