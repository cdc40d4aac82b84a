//! `[gossip]`: what an operator may choose. Every key has a default; an unknown key is an error.

use crate::limits;
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GossipConfig {
    /// How often a node gossips and probes. Written like `1s`.
    #[serde(with = "span")]
    pub interval: Duration,
    /// How many nodes must have lost a node by their own probes before it counts as down.
    pub down_sources: u32,
}

impl Default for GossipConfig {
    fn default() -> Self {
        GossipConfig { interval: limits::INTERVAL_DEFAULT, down_sources: limits::DOWN_SOURCES_DEFAULT }
    }
}

/// A value outside its range. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("gossip.interval is 100ms to 10s, not {interval:?}")]
    Interval { interval: Duration },
    #[error("gossip.down_sources is 1 to {max}, not {sources}", max = limits::DOWN_SOURCES_MAX)]
    DownSources { sources: u32 },
}

impl GossipConfig {
    /// Whether every value lies in its range.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !(limits::INTERVAL_MIN..=limits::INTERVAL_MAX).contains(&self.interval) {
            return Err(ConfigError::Interval { interval: self.interval });
        }
        if !(1..=limits::DOWN_SOURCES_MAX).contains(&self.down_sources) {
            return Err(ConfigError::DownSources { sources: self.down_sources });
        }
        Ok(())
    }
}

mod span {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::time::Duration;

    pub fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*span))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_form_parses_and_values_out_of_range_are_refused() {
        let config: GossipConfig = toml::from_str("interval = \"250ms\"\ndown_sources = 3").unwrap();
        assert_eq!(config, GossipConfig { interval: Duration::from_millis(250), down_sources: 3 });
        assert_eq!(config.check(), Ok(()));
        assert!(toml::from_str::<GossipConfig>("interval = \"soon\"").is_err());
        assert!(toml::from_str::<GossipConfig>("fanout = 3").is_err());
        let hasty = GossipConfig { interval: Duration::from_millis(1), ..GossipConfig::default() };
        assert_eq!(hasty.check(), Err(ConfigError::Interval { interval: hasty.interval }));
        let lone = GossipConfig { down_sources: 0, ..GossipConfig::default() };
        assert_eq!(lone.check(), Err(ConfigError::DownSources { sources: 0 }));
    }
}
