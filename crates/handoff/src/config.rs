//! `[hints]`: what an operator may choose. Every key has a default; an unknown key is an error.

use crate::limits;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HandoffConfig {
    /// Bytes of hints kept for one target; past it a hint is refused and counted. 0 keeps none.
    pub max_bytes: u64,
    /// Bytes a second that are sent to one target: what a node that comes back takes beside its clients.
    pub rate: u64,
}

impl Default for HandoffConfig {
    fn default() -> Self {
        HandoffConfig { max_bytes: limits::MAX_BYTES_DEFAULT, rate: limits::RATE_DEFAULT }
    }
}

/// A value outside its range. Nothing was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("hints.rate is at least {min} bytes a second, not {rate}", min = limits::RATE_MIN)]
    Rate { rate: u64 },
}

impl HandoffConfig {
    /// Whether every value lies in its range.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.rate < limits::RATE_MIN { Err(ConfigError::Rate { rate: self.rate }) } else { Ok(()) }
    }
}
