//! Every configuration key: its name, kind, default and what it does. `kula config` speaks from this table, the
//! environment is matched against it, and a test holds it to the structs that serde reads.

/// How a text from the environment or a flag becomes a TOML value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Number,
    Boolean,
    /// Texts, with commas between them in the environment and in a flag.
    List,
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// `section.key`.
    pub name: &'static str,
    pub kind: Kind,
    /// The default as a person would write it; empty where it follows from the machine.
    pub default: &'static str,
    /// What it does, its unit and its bounds.
    pub about: &'static str,
}

impl Key {
    /// `KULA_STORAGE_SYNC_MODE` for `storage.sync.mode`.
    pub fn variable(&self) -> String {
        format!("KULA_{}", self.name.replace('.', "_").to_ascii_uppercase())
    }
}

const fn text(name: &'static str, default: &'static str, about: &'static str) -> Key {
    Key { name, kind: Kind::Text, default, about }
}

const fn list(name: &'static str, default: &'static str, about: &'static str) -> Key {
    Key { name, kind: Kind::List, default, about }
}

const fn number(name: &'static str, default: &'static str, about: &'static str) -> Key {
    Key { name, kind: Kind::Number, default, about }
}

pub const KEYS: &[Key] = &[
    text("cluster", "kula", "The cluster's name. A data directory of another cluster is refused."),
    text("partitioner", "murmur3", "How keys become tokens; fixed when the cluster is formed. murmur3 is Cassandra's."),
    text("node.name", "n1", "This node's name, as status and logs show it: 1 to 48 of a-z, 0-9 and _."),
    text("node.dc", "dc1", "The data centre this node stands in."),
    text("node.rack", "rack1", "The rack this node stands in."),
    number("node.weight", "1", "How much of the ring this node owns, relative to the others: 1 to 1000."),
    text("node.data", "./kula-data", "The data directory. One running node owns it."),
    text("listen.address", "127.0.0.1", "The address to listen on. A non-loopback address needs --insecure."),
    number("listen.peer", "7000", "The port that the cluster's other nodes speak to; 0 takes a free one."),
    number("listen.http", "7080", "The HTTP port; 0 takes a free one and logs it."),
    number("listen.http_workers", "", "Threads that serve HTTP; as many as cores unless told otherwise, 1 to 64."),
    list(
        "join.seeds",
        "",
        "Peer addresses of the cluster's first nodes, host:port; the same list at every node. Without any, a new node forms a ring alone.",
    ),
    number("join.expect", "1", "How many nodes the first seed waits for before it forms the ring: 1 to 1000."),
    text("gossip.interval", "1s", "How often a node gossips and probes the others: 100ms to 10s."),
    number("gossip.down_sources", "2", "How many nodes must have lost a node before it counts as down: 1 to 5."),
    number("hints.max_bytes", "1073741824", "Bytes of hints kept for one node; past it they are counted, not kept."),
    number("hints.rate", "16777216", "Bytes of hints a second delivered to one node."),
    number(
        "storage.shards",
        "",
        "Storage shards, one thread each; as many as cores; fixed when the directory is made.",
    ),
    number("storage.memtable_heap", "268435456", "Bytes of memory that the memtables of all shards may take together."),
    number(
        "storage.memtable_cleanup_threshold",
        "0.4",
        "A shard flushes when its memtable passes this part of its share; above 0, below 1.",
    ),
    number("storage.commitlog_total", "1073741824", "Bytes of commit log past which the oldest shard flushes."),
    number("storage.commitlog_segment", "33554432", "Bytes of one commit-log segment."),
    text("storage.sync.mode", "group", "group: acknowledged after fdatasync. periodic: synced every storage.sync.ms."),
    number(
        "storage.sync.ms",
        "",
        "Milliseconds between syncs in periodic mode, 10 unless told otherwise; writers wait once a sync is 1.5 of them late.",
    ),
    text("storage.compression", "lz4", "How blocks are compressed: lz4 or none."),
    number("actors.coordinator.instances", "", "Coordinators, one thread each; as many as cores."),
    number("actors.coordinator.mailbox", "1024", "Messages a coordinator's mailbox holds before it sheds."),
    number("actors.coordinator.restart.max", "5", "Restarts within the window before the node gives up."),
    text("actors.coordinator.restart.within", "30s", "The window that restarts are counted in."),
    text("log.format", "term", "term for people, json for machines: one object a line."),
    text("log.level", "info", "trace, debug, info, warning, error or critical."),
    text("log.mailbox_every", "10s", "How often busy actors' mailboxes are logged; 0s turns it off."),
];

/// Sections that later versions bring: asked for today, they are refused as not there yet, never ignored.
pub const LATER: &[&str] = &["join.auto_commit", "repair", "listen.cql", "storage.cache", "coordinator"];

/// The known key nearest to `wrong`, if one is near.
pub fn nearest(wrong: &str) -> Option<&'static str> {
    let distance = |key: &&'static str| strsim::damerau_levenshtein(key, wrong);
    let last = wrong.rsplit('.').next().unwrap_or(wrong);
    let names = || KEYS.iter().map(|key| key.name);
    let whole = names().min_by_key(distance).filter(|key| distance(key) <= 1 + wrong.len() / 4);
    whole.or_else(|| {
        names().find(|key| key.rsplit('.').next().is_some_and(|end| strsim::damerau_levenshtein(end, last) <= 2))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_found_and_nonsense_has_none() {
        assert_eq!(nearest("storage.memtabel_heap"), Some("storage.memtable_heap"));
        assert_eq!(nearest("node.nmae"), Some("node.name"));
        assert_eq!(nearest("listen.https"), Some("listen.http"));
        assert_eq!(nearest("zzzzzzzzzzzzzzzzzzzz"), None);
    }
}
