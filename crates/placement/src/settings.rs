//! How a keyspace is replicated. Kept in the ring version, not in gossip: a quorum must not depend on rumour.

use crate::limits::RF_MAX;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Replication of one keyspace. `Default` is what users get who do not say (`interfaces.md`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyspaceSettings {
    /// Copies asked for in each data centre, 1 to `limits::RF_MAX`; a ring with fewer nodes keeps as many as it has.
    pub rf: u32,
    pub mode: Mode,
    pub read_repair: ReadRepair,
    /// Whether writes owed to an owner that is down are kept for it.
    pub hinted_handoff: bool,
    pub anti_entropy: bool,
}

/// Whose acknowledgement counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Owners only (Cassandra): R + W > N reads its own writes.
    #[default]
    Strict,
    /// Fallbacks too (Dynamo §4.6): a write is accepted while any suitable node lives.
    Sloppy,
}

/// When a read that found replicas apart brings them together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadRepair {
    /// Before it answers.
    #[default]
    Blocking,
    /// After it answered.
    Background,
    Off,
}

/// Why settings were refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("a replication factor is 1 to {RF_MAX}, not {rf}")]
    ReplicationFactor { rf: u32 },
    #[error("a replication factor is a number from 1 to {RF_MAX}, not {word:?}")]
    NotANumber { word: String },
    /// Asked for as `dc1=3,dc2=2`.
    #[error("a replication factor for each data centre is not there yet; give one number for all")]
    PerDatacentreNotThereYet,
}

/// Why a word is not a setting. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is not one of {known}")]
pub struct SettingsWordError {
    pub word: String,
    pub known: &'static str,
}

impl Default for KeyspaceSettings {
    fn default() -> Self {
        KeyspaceSettings {
            rf: 3,
            mode: Mode::Strict,
            read_repair: ReadRepair::Blocking,
            hinted_handoff: true,
            anti_entropy: true,
        }
    }
}

impl KeyspaceSettings {
    pub fn check(&self) -> Result<(), SettingsError> {
        match self.rf {
            1..=RF_MAX => Ok(()),
            rf => Err(SettingsError::ReplicationFactor { rf }),
        }
    }

    /// A replication factor as users write it.
    pub fn parse_rf(word: &str) -> Result<u32, SettingsError> {
        if word.contains('=') {
            return Err(SettingsError::PerDatacentreNotThereYet);
        }
        let not_a_number = |_| SettingsError::NotANumber { word: word.chars().take(32).collect() };
        let rf = word.parse().map_err(not_a_number)?;
        KeyspaceSettings { rf, ..KeyspaceSettings::default() }.check().map(|()| rf)
    }
}

impl FromStr for Mode {
    type Err = SettingsWordError;

    fn from_str(word: &str) -> Result<Self, SettingsWordError> {
        match word {
            "strict" => Ok(Mode::Strict),
            "sloppy" => Ok(Mode::Sloppy),
            other => Err(refuse(other, "strict, sloppy")),
        }
    }
}

impl FromStr for ReadRepair {
    type Err = SettingsWordError;

    fn from_str(word: &str) -> Result<Self, SettingsWordError> {
        match word {
            "blocking" => Ok(ReadRepair::Blocking),
            "background" => Ok(ReadRepair::Background),
            "off" => Ok(ReadRepair::Off),
            other => Err(refuse(other, "blocking, background, off")),
        }
    }
}

fn refuse(word: &str, known: &'static str) -> SettingsWordError {
    SettingsWordError { word: word.chars().take(32).collect(), known }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Strict => "strict",
            Mode::Sloppy => "sloppy",
        })
    }
}

impl fmt::Display for ReadRepair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReadRepair::Blocking => "blocking",
            ReadRepair::Background => "background",
            ReadRepair::Off => "off",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_as_they_print_and_the_factor_is_bounded() {
        for mode in [Mode::Strict, Mode::Sloppy] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        for read_repair in [ReadRepair::Blocking, ReadRepair::Background, ReadRepair::Off] {
            assert_eq!(read_repair.to_string().parse(), Ok(read_repair));
        }
        assert!("Strict".parse::<Mode>().is_err() && "on".parse::<ReadRepair>().is_err());
        let with = |rf| KeyspaceSettings { rf, ..KeyspaceSettings::default() }.check();
        assert_eq!(
            [with(0).is_ok(), with(1).is_ok(), with(RF_MAX).is_ok(), with(RF_MAX + 1).is_ok()],
            [false, true, true, false]
        );
        assert_eq!(KeyspaceSettings::parse_rf("3"), Ok(3));
        assert_eq!(KeyspaceSettings::parse_rf("dc1=3,dc2=2"), Err(SettingsError::PerDatacentreNotThereYet));
        assert!(["", "-1", "0", "3.0", "33"].iter().all(|word| KeyspaceSettings::parse_rf(word).is_err()));
    }
}
