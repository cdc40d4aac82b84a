//! Two times that must not be mixed: the timestamp of a write, and the monotonic reading that deadlines are made of.

use serde::{Deserialize, Serialize};
use std::{fmt, time::Duration};

/// Microseconds since the Unix epoch, from a hybrid logical clock at the coordinator or from the client.
/// `i64::MIN` is not a timestamp: it stands for "before everything" in comparisons and is refused from outside.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Timestamp(i64);

/// Why a timestamp was refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("i64::MIN is not a timestamp")]
pub struct TimestampError;

impl Timestamp {
    pub const MIN: Timestamp = Timestamp(i64::MIN + 1);
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    pub const fn from_micros(micros: i64) -> Result<Self, TimestampError> {
        if micros == i64::MIN { Err(TimestampError) } else { Ok(Timestamp(micros)) }
    }

    pub const fn micros(self) -> i64 {
        self.0
    }

    /// The next later timestamp; stays at `MAX`.
    #[must_use]
    pub const fn next(self) -> Self {
        Timestamp(self.0.saturating_add(1))
    }

    #[must_use]
    pub fn saturating_add(self, span: Duration) -> Self {
        let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Timestamp(self.0.saturating_add(micros))
    }
}

impl TryFrom<i64> for Timestamp {
    type Error = TimestampError;

    fn try_from(micros: i64) -> Result<Self, TimestampError> {
        Timestamp::from_micros(micros)
    }
}

impl From<Timestamp> for i64 {
    fn from(timestamp: Timestamp) -> i64 {
        timestamp.0
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A reading of this process's monotonic clock: the span since its own start. Never sent, never stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(pub Duration);

impl Mono {
    pub const fn from_millis(millis: u64) -> Self {
        Mono(Duration::from_millis(millis))
    }

    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Mono(self.0.saturating_add(span))
    }

    /// The span since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Mono) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Debug for Mono {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
