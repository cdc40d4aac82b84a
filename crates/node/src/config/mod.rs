//! One node's configuration: TOML, every key with a default, unknown keys refused with line, caret and suggestion.

pub mod keys;
mod load;

pub use load::{Layers, Loaded, Origin, effective, load};

use kula_actor::ActorConfig;
use kula_gossip::GossipConfig;
use kula_handoff::HandoffConfig;
use kula_placement::Partitioner;
use kula_storage::StorageConfig;
use kula_types::Name;
use serde::{Deserialize, Serialize};
use std::{net::IpAddr, path::PathBuf, time::Duration};

/// What a node is told. Sections are named as in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub cluster: String,
    pub partitioner: Partitioner,
    pub node: NodeSection,
    pub listen: ListenSection,
    pub join: JoinSection,
    pub gossip: GossipConfig,
    pub hints: HandoffConfig,
    pub storage: StorageConfig,
    pub actors: ActorsSection,
    pub log: LogSection,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeSection {
    pub name: Name,
    pub dc: String,
    pub rack: String,
    pub weight: u32,
    pub data: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenSection {
    pub address: IpAddr,
    pub peer: u16,
    pub http: u16,
    pub http_workers: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JoinSection {
    pub seeds: Vec<String>,
    pub expect: u32,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ActorsSection {
    pub coordinator: ActorConfig,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSection {
    pub format: LogFormat,
    pub level: LogLevel,
    #[serde(with = "span")]
    pub mailbox_every: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Term,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    #[serde(alias = "warn")]
    Warning,
    Error,
    Critical,
}

/// Why a configuration was refused. Nothing was started and nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("{at}: unknown key `{key}`{}{}", framed(.shown), .nearest.as_ref().map(|near| format!("\ndid you mean `{near}`?")).unwrap_or_default())]
    UnknownKey { key: String, at: String, shown: String, nearest: Option<String> },
    #[error("{at}: {why}{}", framed(.shown))]
    Value { at: String, shown: String, why: String },
    #[error("`{key}` is not there yet: a later version of Kula brings it")]
    NotThereYet { key: String },
    #[error("`{key}` is \"{value}\", but it must be {must}")]
    OutOfRange { key: &'static str, value: String, must: &'static str },
}

fn framed(shown: &str) -> String {
    if shown.is_empty() { String::new() } else { format!("\n{shown}") }
}

/// Threads the machine can run at once; at least one.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

impl Default for Config {
    fn default() -> Self {
        Config {
            cluster: "kula".into(),
            partitioner: Partitioner::Murmur3,
            node: NodeSection::default(),
            listen: ListenSection::default(),
            join: JoinSection::default(),
            gossip: GossipConfig::default(),
            hints: HandoffConfig::default(),
            storage: StorageConfig::default(),
            actors: ActorsSection::default(),
            log: LogSection::default(),
        }
    }
}

impl Default for NodeSection {
    fn default() -> Self {
        let name = Name::try_from("n1".to_string()).unwrap_or_else(|_| unreachable!("n1 is a name"));
        NodeSection { name, dc: "dc1".into(), rack: "rack1".into(), weight: 1, data: "./kula-data".into() }
    }
}

impl Default for ListenSection {
    fn default() -> Self {
        ListenSection { address: IpAddr::from([127, 0, 0, 1]), peer: 7000, http: 7080, http_workers: cores().min(64) }
    }
}

impl Default for JoinSection {
    fn default() -> Self {
        JoinSection { seeds: Vec::new(), expect: 1 }
    }
}

impl Default for LogSection {
    fn default() -> Self {
        LogSection { format: LogFormat::Term, level: LogLevel::Info, mailbox_every: Duration::from_secs(10) }
    }
}

impl Config {
    /// Coordinators to run: as many as cores unless told otherwise.
    pub fn coordinators(&self) -> usize {
        self.actors.coordinator.instances.unwrap_or_else(|| cores().min(64))
    }

    /// Bounds that types alone do not hold.
    fn check(&self) -> Result<(), ConfigError> {
        let out =
            |key, value: &dyn ToString, must| Err(ConfigError::OutOfRange { key, value: value.to_string(), must });
        if self.cluster.is_empty() || self.cluster.len() > 64 || self.cluster.chars().any(char::is_control) {
            return out("cluster", &self.cluster.escape_debug(), "1 to 64 printable characters");
        }
        if !(1..=1000).contains(&self.node.weight) {
            return out("node.weight", &self.node.weight, "1 to 1000");
        }
        for (key, value) in [("node.dc", &self.node.dc), ("node.rack", &self.node.rack)] {
            if value.is_empty() || value.len() > 48 || value.chars().any(char::is_control) {
                return out(key, &value.escape_debug(), "1 to 48 printable characters");
            }
        }
        if !(1..=64).contains(&self.listen.http_workers) {
            return out("listen.http_workers", &self.listen.http_workers, "1 to 64");
        }
        if !(1..=64).contains(&self.coordinators()) {
            return out("actors.coordinator.instances", &self.coordinators(), "1 to 64");
        }
        if !(1..=1000).contains(&self.join.expect) {
            return out("join.expect", &self.join.expect, "1 to 1000");
        }
        let is_address = |seed: &&String| {
            seed.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        if let Some(seed) = self.join.seeds.iter().find(|seed| !is_address(seed)) {
            return out("join.seeds", seed, "a list of host:port");
        }
        let of_a_room = |why: String| ConfigError::Value { at: "the configuration".into(), shown: String::new(), why };
        self.gossip.check().map_err(|error| of_a_room(error.to_string()))?;
        self.hints.check().map_err(|error| of_a_room(error.to_string()))?;
        self.storage.check().map_err(|error| of_a_room(error.to_string()))
    }
}

/// A span as people write it: "10s", "500ms", "2m".
mod span {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::time::Duration;

    pub fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*span))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text)
            .map_err(|error| D::Error::custom(format!("{text:?} is not a span of time like \"10s\": {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
        let owned =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let file = (!file.is_empty()).then(|| ("kula.toml".to_string(), file.to_string()));
        load(&Layers { file, environment: owned(environment), flags: owned(flags) })
    }

    fn refused(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
        read(file, environment, flags).unwrap_err().to_string()
    }

    #[test]
    fn without_any_word_the_defaults_are_a_node_on_loopback() {
        let loaded = read("", &[], &[]).unwrap();
        assert_eq!(loaded.config.listen.address, IpAddr::from([127, 0, 0, 1]));
        assert_eq!((loaded.config.listen.http, loaded.config.node.data.to_str()), (7080, Some("./kula-data")));
        assert!(loaded.origins.is_empty());
    }

    #[test]
    fn flags_beat_the_environment_which_beats_the_file() {
        let file = "[node]\nname = \"file\"\nrack = \"a\"\ndc = \"x\"";
        let environment = [("KULA_NODE_NAME", "env"), ("KULA_NODE_RACK", "b"), ("KULA_OTHER", "ignored")];
        let loaded = read(file, &environment, &[("node.name", "flag")]).unwrap();
        let node = &loaded.config.node;
        assert_eq!((node.name.as_str(), node.rack.as_str(), node.dc.as_str()), ("flag", "b", "x"));
        let origins: Vec<_> = loaded.origins.iter().map(|(key, origin)| (key.as_str(), *origin)).collect();
        assert_eq!(
            origins,
            [("node.dc", Origin::File), ("node.name", Origin::Flag), ("node.rack", Origin::Environment)]
        );
    }

    #[test]
    fn one_word_turns_periodic_sync_or_fewer_logs_on() {
        let loaded = read("", &[("KULA_STORAGE_SYNC_MODE", "periodic")], &[("log.level", "warn")]).unwrap();
        assert_eq!(loaded.config.storage.sync, kula_storage::SyncMode::Periodic { ms: 10 });
        assert_eq!(loaded.config.log.level, LogLevel::Warning);
    }

    #[test]
    fn an_unknown_key_is_refused_with_line_caret_and_suggestion() {
        let refusals = [
            refused("cluster = \"a\"\n\n[storage]\nmemtabel_heap = 5\n", &[], &[]),
            refused("clutser = \"a\"", &[], &[]),
            refused("[listen]\nhttp = \"abc\"", &[], &[]),
            refused("[log]\nmailbox_every = \"soon\"", &[], &[]),
            refused("cluster = ", &[], &[]),
            refused("[storage]\nshards = 900", &[], &[]),
            refused("", &[("KULA_STORAGE_SHARD", "2")], &[]),
            refused("", &[], &[("node.nmae", "x")]),
            refused("", &[], &[("listen.http", "x")]),
            refused("[repair]\ninterval = 1", &[], &[]),
            refused("[gossip]\ninterval = 1", &[], &[]),
            refused("[gossip]\ninterval = \"1ms\"", &[], &[]),
            refused("[hints]\nrate = 1", &[], &[]),
            refused("[join]\nseeds = [\"here\"]", &[], &[]),
            refused("[node]\nweight = 0", &[], &[]),
            refused("", &[], &[("listen.address", "localhost")]),
            refused("[listen]\nhttp = 1", &[("KULA_LISTEN_HTTP", "99999")], &[]),
            refused("", &[("KULA_STORAGE_SYNC_MODE", "foo"), ("KULA_NODE_RACK", "a")], &[]),
            refused("", &[("KULA_STORAGE_MEMTABLE_HEAP", "-1")], &[]),
            refused("", &[("KULA_STORAGE_MEMTABLE_HEAP", "lots")], &[]),
            refused("", &[("KULA_LOG_LEVEL", "loud")], &[]),
            refused("node = 5", &[], &[]),
            refused("[storage]\nsync = 5", &[], &[]),
            refused("[storage]\nmemtable_heap = \"a\"", &[], &[]),
        ];
        insta::assert_snapshot!(refusals.join("\n\n"));
    }

    #[test]
    fn the_table_of_keys_is_the_configuration() {
        let table = toml::Table::try_from(Config::default()).unwrap();
        let mut found = Vec::new();
        leaves("", &table, &mut found);
        let known: std::collections::BTreeSet<&str> = keys::KEYS.iter().map(|key| key.name).collect();
        for name in &found {
            assert!(known.contains(name.as_str()), "`{name}` is missing in keys::KEYS");
        }
        for key in keys::KEYS {
            let value = if key.kind == keys::Kind::Text { None } else { Some("1") };
            let value = value.or(Some(key.default)).filter(|value| !value.is_empty());
            if let Some(value) = value {
                let accepted = read("", &[], &[(key.name, value)]);
                let known = !matches!(accepted, Err(ConfigError::UnknownKey { .. }));
                assert!(known, "{}: {accepted:?}", key.name);
            }
        }
    }

    fn leaves(prefix: &str, table: &toml::Table, found: &mut Vec<String>) {
        for (key, value) in table {
            let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match value.as_table() {
                Some(inner) => leaves(&name, inner, found),
                None => found.push(name),
            }
        }
    }
}
