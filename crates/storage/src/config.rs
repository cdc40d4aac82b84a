//! `[storage]`: what an operator may choose. Every key has a default; an unknown key is an error.

use crate::limits;
use serde::{Deserialize, Serialize};

/// Sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// Absent: one a core. Fixed when the data directory is made; a different number later is an error.
    pub shards: Option<u16>,
    /// Memtables of all shards together.
    pub memtable_heap: u64,
    /// The fraction of a shard's share at which it starts a flush.
    pub memtable_cleanup_threshold: f64,
    /// The commit log on disk.
    pub commitlog_total: u64,
    /// One file of the commit log.
    pub commitlog_segment: u64,
    pub sync: SyncMode,
    pub compression: Compression,
}

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "lowercase", deny_unknown_fields)]
pub enum SyncMode {
    /// After the log is synced; all that wait share one sync.
    Group {},
    /// After the log is written; it is synced every `ms` milliseconds. A power loss may take acknowledged writes
    /// younger than that and one sync.
    Periodic {
        #[serde(default = "sync_period_ms_default")]
        ms: u64,
    },
}

const fn sync_period_ms_default() -> u64 {
    limits::SYNC_PERIOD_MS_DEFAULT
}

/// How blocks of SSTables are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    Lz4,
    None,
}

impl Default for StorageConfig {
    fn default() -> Self {
        StorageConfig {
            shards: None,
            memtable_heap: limits::MEMTABLE_HEAP_DEFAULT,
            memtable_cleanup_threshold: limits::MEMTABLE_CLEANUP_THRESHOLD_DEFAULT,
            commitlog_total: limits::COMMITLOG_TOTAL_DEFAULT,
            commitlog_segment: limits::COMMITLOG_SEGMENT_DEFAULT,
            sync: SyncMode::Group {},
            compression: Compression::Lz4,
        }
    }
}

/// A value outside its range. Nothing was opened.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    #[error("storage.shards is 1 to {max}, not {shards}", max = limits::SHARDS_MAX)]
    Shards { shards: u16 },
    #[error("storage.memtable_heap is at least {min} bytes, not {bytes}", min = limits::MEMTABLE_HEAP_MIN)]
    MemtableHeap { bytes: u64 },
    #[error("storage.memtable_cleanup_threshold is above 0 and below 1, not {threshold}")]
    CleanupThreshold { threshold: f64 },
    #[error("storage.commitlog_segment is {min} bytes to 1 GiB, not {bytes}", min = limits::COMMITLOG_SEGMENT_MIN)]
    Segment { bytes: u64 },
    #[error("storage.commitlog_total holds at least {min} segments of {segment} bytes, {total} bytes do not", min = limits::COMMITLOG_SEGMENTS_MIN)]
    Total { total: u64, segment: u64 },
    #[error("storage.sync.ms is 1 to {max}, not {ms}", max = limits::SYNC_PERIOD_MS_MAX)]
    SyncPeriod { ms: u64 },
}

impl StorageConfig {
    /// Whether every value lies in its range.
    pub fn check(&self) -> Result<(), ConfigError> {
        if let Some(shards) = self.shards
            && !(1..=limits::SHARDS_MAX).contains(&shards)
        {
            return Err(ConfigError::Shards { shards });
        }
        if self.memtable_heap < limits::MEMTABLE_HEAP_MIN {
            return Err(ConfigError::MemtableHeap { bytes: self.memtable_heap });
        }
        let threshold = self.memtable_cleanup_threshold;
        if !(threshold > 0.0 && threshold < 1.0) {
            return Err(ConfigError::CleanupThreshold { threshold });
        }
        if !(limits::COMMITLOG_SEGMENT_MIN..=1 << 30).contains(&self.commitlog_segment) {
            return Err(ConfigError::Segment { bytes: self.commitlog_segment });
        }
        if self.commitlog_total / self.commitlog_segment < limits::COMMITLOG_SEGMENTS_MIN {
            return Err(ConfigError::Total { total: self.commitlog_total, segment: self.commitlog_segment });
        }
        match self.sync {
            SyncMode::Periodic { ms } if !(1..=limits::SYNC_PERIOD_MS_MAX).contains(&ms) => {
                Err(ConfigError::SyncPeriod { ms })
            }
            SyncMode::Periodic { .. } | SyncMode::Group {} => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_forms_parse_and_unknown_keys_do_not() {
        let config: StorageConfig = toml::from_str("sync = { mode = \"periodic\", ms = 50 }\nshards = 2").unwrap();
        assert_eq!((config.sync, config.shards), (SyncMode::Periodic { ms: 50 }, Some(2)));
        let config: StorageConfig = toml::from_str("sync = { mode = \"group\" }\ncompression = \"none\"").unwrap();
        assert_eq!(config.sync, SyncMode::Group {});
        assert!(toml::from_str::<StorageConfig>("cache = 1").is_err());
        assert!(toml::from_str::<StorageConfig>("sync = { mode = \"group\", ms = 1 }").is_err());
        assert!(toml::from_str::<StorageConfig>("sync = { mode = \"batch\" }").is_err());
        assert_eq!(toml::from_str::<StorageConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
    }

    #[test]
    fn every_default_lies_in_its_range_and_what_does_not_is_named() {
        let good = StorageConfig::default();
        assert_eq!(good.check(), Ok(()));
        let bad = |change: fn(&mut StorageConfig)| {
            let mut config = StorageConfig::default();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        insta::assert_snapshot!(
            [
                bad(|c| c.shards = Some(0)),
                bad(|c| c.shards = Some(65)),
                bad(|c| c.memtable_heap = 1),
                bad(|c| c.memtable_cleanup_threshold = f64::NAN),
                bad(|c| c.commitlog_segment = 1),
                bad(|c| c.commitlog_total = 1 << 20),
                bad(|c| c.sync = SyncMode::Periodic { ms: 0 }),
            ]
            .join("\n"),
            @r"
        storage.shards is 1 to 64, not 0
        storage.shards is 1 to 64, not 65
        storage.memtable_heap is at least 65536 bytes, not 1
        storage.memtable_cleanup_threshold is above 0 and below 1, not NaN
        storage.commitlog_segment is 12288 bytes to 1 GiB, not 1
        storage.commitlog_total holds at least 4 segments of 33554432 bytes, 1048576 bytes do not
        storage.sync.ms is 1 to 60000, not 0
        "
        );
    }
}
