//! From conditions to one verdict and one sentence: what an operator reads first.
//!
//! Pure. The worst condition names the verdict and the code that `kula explain` is asked for next; the sentence says what
//! that means for reads and writes, and how many more nodes may be lost.

use crate::{
    codes::{self, Code},
    limits,
    readiness::Stage,
};
use serde::Serialize;
use std::time::Duration;

/// How the cluster does, as seen from one node. The exit code of `kula status` follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    Degraded,
    Unavailable,
}

/// What is true now.
#[derive(Clone, Debug)]
pub struct Conditions {
    pub stage: Stage,
    /// Nodes of the ring, and how many of them are up.
    pub nodes: usize,
    pub nodes_up: usize,
    /// The smallest effective replication factor of any keyspace.
    pub rf_min: u32,
    /// Free bytes of the data directory's file system; `None` if it could not be asked.
    pub free_bytes: Option<u64>,
    /// No timestamp can be given out.
    pub lease_lost: bool,
    /// How far this node's clock stamps ahead of physical time.
    pub clock_ahead: Duration,
    /// Shards that did not answer in time.
    pub shards_silent: usize,
    /// Paths of actors whose work does not move.
    pub stuck: Vec<String>,
}

/// The verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub level: Level,
    pub sentence: String,
    /// The page to read next; `None` if all is well.
    pub code: Option<&'static Code>,
}

impl Conditions {
    pub fn verdict(&self) -> Verdict {
        let (level, code, sentence) = self.worst();
        Verdict { level, sentence, code }
    }

    fn worst(&self) -> (Level, Option<&'static Code>, String) {
        match self.stage {
            Stage::Starting => {
                return unavailable(&codes::NOT_READY, "this node is starting and takes no requests yet");
            }
            Stage::Stopping => return unavailable(&codes::SHUTTING_DOWN, "this node is shutting down"),
            Stage::Ready => {}
        }
        if self.shards_silent > 0 {
            let sentence =
                format!("{} of this node's shards do not answer; their keys cannot be served", self.shards_silent);
            return (Level::Unavailable, Some(&codes::ACTOR_STUCK), sentence);
        }
        if self.lease_lost {
            return degraded(
                &codes::CLOCK_LEASE,
                "every key readable, none writable: the clock's lease has run out".into(),
            );
        }
        if self.clock_ahead > kula_clock::limits::CLIENT_AHEAD_MAX {
            let sentence = format!(
                "every key readable and writable; this node's writes are dated {} s ahead of the machine's clock",
                self.clock_ahead.as_secs()
            );
            return degraded(&codes::NODE_CLOCK_AHEAD, sentence);
        }
        if let Some(free) = self.free_bytes.filter(|&free| free < limits::FREE_BYTES_MIN) {
            let sentence =
                format!("every key readable, writes are or will be refused: the disk has {} MiB left", free >> 20);
            return degraded(&codes::DISK_FULL, sentence);
        }
        if !self.stuck.is_empty() {
            let named =
                self.stuck.iter().take(limits::NAMED_ACTORS_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
            return degraded(&codes::ACTOR_STUCK, format!("work does not move at {named}; requests may time out"));
        }
        let more = match self.spare() {
            1 => "1 more node".to_string(),
            spare => format!("{spare} more nodes"),
        };
        (Level::Ok, None, format!("every key readable and writable at QUORUM; can lose {more}"))
    }

    /// Nodes that may fail while every key keeps a quorum.
    fn spare(&self) -> usize {
        let quorum = self.rf_min / 2 + 1;
        let by_quorum = usize::try_from(self.rf_min.saturating_sub(quorum)).unwrap_or(0);
        by_quorum.saturating_sub(self.nodes - self.nodes_up.min(self.nodes))
    }
}

fn unavailable(code: &'static Code, sentence: &str) -> (Level, Option<&'static Code>, String) {
    (Level::Unavailable, Some(code), sentence.into())
}

fn degraded(code: &'static Code, sentence: String) -> (Level, Option<&'static Code>, String) {
    (Level::Degraded, Some(code), sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> Conditions {
        Conditions {
            stage: Stage::Ready,
            nodes: 1,
            nodes_up: 1,
            rf_min: 1,
            free_bytes: Some(10 << 30),
            lease_lost: false,
            clock_ahead: Duration::from_secs(5),
            shards_silent: 0,
            stuck: Vec::new(),
        }
    }

    #[test]
    fn the_worst_condition_speaks() {
        let conditions = [
            ("healthy", healthy()),
            ("three nodes", Conditions { nodes: 3, nodes_up: 3, rf_min: 3, ..healthy() }),
            ("starting", Conditions { stage: Stage::Starting, lease_lost: true, ..healthy() }),
            ("stopping", Conditions { stage: Stage::Stopping, ..healthy() }),
            ("a silent shard", Conditions { shards_silent: 1, stuck: vec!["storage/shard/0".into()], ..healthy() }),
            ("no lease", Conditions { lease_lost: true, free_bytes: Some(0), ..healthy() }),
            ("a clock set back", Conditions { clock_ahead: Duration::from_secs(3600), ..healthy() }),
            ("disk full", Conditions { free_bytes: Some(3 << 20), ..healthy() }),
            ("no word from the disk", Conditions { free_bytes: None, ..healthy() }),
            ("stuck", Conditions { stuck: ["a", "b", "c", "d"].map(String::from).to_vec(), ..healthy() }),
        ];
        let story = conditions.map(|(name, conditions)| {
            let verdict = conditions.verdict();
            let code = verdict.code.map_or("-", |code| code.code);
            format!("{name}: {:?} {code} {}", verdict.level, verdict.sentence)
        });
        insta::assert_snapshot!(story.join("\n"));
    }
}
