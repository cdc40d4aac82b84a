//! What an operator may set about actors: the `[actors.*]` sections.
//!
//! ```toml
//! [actors.coordinator]
//! instances = 2
//! mailbox = 1024
//! restart = { max = 5, within = "30s" }
//! ```

use crate::limits;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::time::Duration;

/// How many messages may wait. Written as a plain number, 1 to `limits::MAILBOX_CAP_MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "usize", into = "usize")]
pub struct MailboxConfig {
    pub cap: usize,
}

/// How many restarts of its children a supervisor makes within a sliding window; one more escalates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Intensity {
    pub max: u32,
    /// Written as `"30s"`, `"5m"`.
    #[serde(serialize_with = "write_duration", deserialize_with = "read_duration")]
    pub within: Duration,
}

/// One `[actors.NAME]` section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ActorConfig {
    /// How many of it run, each on an arbiter of its own; the room decides if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<usize>,
    pub mailbox: MailboxConfig,
    pub restart: Intensity,
}

/// A mailbox bound outside its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a mailbox holds 1 to {max} messages, not {cap}")]
pub struct MailboxCapError {
    pub cap: usize,
    pub max: usize,
}

impl Default for MailboxConfig {
    fn default() -> Self {
        MailboxConfig { cap: limits::MAILBOX_CAP_DEFAULT }
    }
}

impl TryFrom<usize> for MailboxConfig {
    type Error = MailboxCapError;

    fn try_from(cap: usize) -> Result<Self, Self::Error> {
        let max = limits::MAILBOX_CAP_MAX;
        if (1..=max).contains(&cap) { Ok(MailboxConfig { cap }) } else { Err(MailboxCapError { cap, max }) }
    }
}

impl From<MailboxConfig> for usize {
    fn from(mailbox: MailboxConfig) -> usize {
        mailbox.cap
    }
}

impl Default for Intensity {
    fn default() -> Self {
        Intensity { max: limits::RESTARTS_MAX, within: limits::RESTARTS_WITHIN }
    }
}

fn write_duration<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*span))
}

fn read_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|error| de::Error::custom(format!("{text:?} is not a duration such as \"30s\": {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_reads_as_documented_and_writes_back() {
        let text = "instances = 2\nmailbox = 64\nrestart = { max = 3, within = \"1m\" }\n";
        let config: ActorConfig = toml::from_str(text).unwrap();
        let expected = ActorConfig {
            instances: Some(2),
            mailbox: MailboxConfig { cap: 64 },
            restart: Intensity { max: 3, within: Duration::from_secs(60) },
        };
        assert_eq!(config, expected);
        assert_eq!(toml::from_str::<ActorConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
        assert_eq!(toml::from_str::<ActorConfig>("").unwrap(), ActorConfig::default());
    }

    #[test]
    fn an_unknown_key_and_a_value_out_of_range_are_refused_by_name() {
        let fault = |text: &str| toml::from_str::<ActorConfig>(text).unwrap_err().to_string();
        assert!(fault("mailboxes = 3").contains("mailboxes"));
        assert!(fault("restart = { max = 1, inside = \"1s\" }").contains("inside"));
        assert!(fault("mailbox = 0").contains("a mailbox holds 1 to 1048576 messages, not 0"));
        assert!(fault("restart = { within = \"soon\" }").contains("not a duration such as"));
    }
}
