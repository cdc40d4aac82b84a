//! Virtual time: microseconds since the world began, and the two clocks of each simulated process.
//!
//! Nothing here reads a clock. `Mono` counts from a process's own start; the wall clock has what real ones have: an
//! offset, a drift, jumps, and moments at which it stands still.

use kula_clock::Clock;
use kula_types::{Mono, Timestamp};
use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

/// Microseconds since the world began.
pub type Micros = u64;

pub const MILLISECOND: Micros = 1_000;
pub const SECOND: Micros = 1_000_000;

/// What every good wall clock of the world shows when it begins: some day in 2026.
pub const WALL_START: i64 = 1_780_000_000_000_000;

/// A machine's wall clock, which outlives its processes.
#[derive(Clone, Debug, Default)]
pub struct WallClock {
    /// Microseconds that it is ahead of the world.
    pub offset: i64,
    /// Microseconds that it gains in a million.
    pub drift_ppm: i64,
    /// Stands still since, at what it showed then.
    pub frozen: Option<i64>,
}

impl WallClock {
    pub fn at(&self, now: Micros) -> i64 {
        self.frozen.unwrap_or_else(|| self.running(now))
    }

    pub fn freeze(&mut self, now: Micros) {
        self.frozen = Some(self.at(now));
    }

    /// Goes on from where it stood, as a machine that was suspended without its clock.
    pub fn thaw(&mut self, now: Micros) {
        if let Some(at) = self.frozen.take() {
            self.offset += at - self.running(now);
        }
    }

    fn running(&self, now: Micros) -> i64 {
        let now = i64::try_from(now).unwrap_or(i64::MAX / 4);
        WALL_START + now + self.offset + now / 1_000_000 * self.drift_ppm
    }
}

/// The clocks as one process reads them: set by the world before each of its steps.
pub struct SimClock {
    mono: AtomicU64,
    wall: AtomicI64,
}

impl SimClock {
    pub fn new(mono: Micros, wall: i64) -> SimClock {
        SimClock { mono: AtomicU64::new(mono), wall: AtomicI64::new(wall) }
    }

    pub fn set(&self, mono: Micros, wall: i64) {
        self.mono.store(mono, Ordering::Relaxed);
        self.wall.store(wall, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn mono(&self) -> Mono {
        mono(self.mono.load(Ordering::Relaxed))
    }

    fn wall(&self) -> Timestamp {
        stamp(self.wall.load(Ordering::Relaxed))
    }
}

pub fn mono(micros: Micros) -> Mono {
    Mono(Duration::from_micros(micros))
}

pub fn stamp(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap_or(Timestamp::MIN)
}

/// Rounded up: who is woken too early has nothing to do.
pub fn micros(span: Duration) -> Micros {
    u64::try_from(span.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX / 4).min(u64::MAX / 4)
}
