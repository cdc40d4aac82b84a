//! `trait Clock`: the only door to physical time. The real one, and one that tests move by hand.

use kula_types::{Mono, Timestamp};
use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// The two clocks of a machine. `mono` never goes back; `wall` may do anything.
pub trait Clock: Send + Sync + 'static {
    fn mono(&self) -> Mono;
    /// Microseconds since the Unix epoch as the operating system believes.
    fn wall(&self) -> Timestamp;
}

/// The operating system's clocks.
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    #[allow(clippy::new_without_default, reason = "reading a clock is not a default value")]
    #[allow(clippy::disallowed_methods, reason = "this is the adapter")]
    pub fn new() -> Self {
        SystemClock { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn mono(&self) -> Mono {
        Mono(self.started.elapsed())
    }

    #[allow(clippy::disallowed_methods, reason = "this is the adapter")]
    fn wall(&self) -> Timestamp {
        let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(span) => i64::try_from(span.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(-i64::MAX, |micros| -micros),
        };
        Timestamp::from_micros(micros).unwrap_or(Timestamp::MIN)
    }
}

/// A clock that stands still until a test moves it.
pub struct ManualClock {
    mono_nanos: AtomicU64,
    wall_micros: AtomicI64,
}

impl ManualClock {
    pub fn at(wall: Timestamp) -> Self {
        ManualClock { mono_nanos: AtomicU64::new(0), wall_micros: AtomicI64::new(wall.micros()) }
    }

    /// Moves both clocks on, as time does.
    pub fn advance(&self, span: Duration) {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        self.mono_nanos.fetch_add(nanos, Ordering::Relaxed);
        self.wall_micros.fetch_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Moves the wall clock alone, as an operator or a bad NTP server does.
    pub fn jump_wall(&self, to: Timestamp) {
        self.wall_micros.store(to.micros(), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn mono(&self) -> Mono {
        Mono(Duration::from_nanos(self.mono_nanos.load(Ordering::Relaxed)))
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_micros(self.wall_micros.load(Ordering::Relaxed)).unwrap_or(Timestamp::MIN)
    }
}
