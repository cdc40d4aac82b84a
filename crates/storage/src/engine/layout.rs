//! The names of everything storage keeps on disk. Made of numbers only: no user's word ever becomes a path.

/// The directory of the node's one commit log.
pub const COMMIT_LOG: &str = "commitlog";
const SHARD: &str = "shard-";
const MANIFEST: &str = "manifest";

/// The directory of a shard: `shard-007`.
pub fn shard_dir(shard: u16) -> String {
    format!("{SHARD}{shard:03}")
}

pub fn is_shard(name: &str) -> bool {
    name.strip_prefix(SHARD)
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

pub fn manifest(shard: u16) -> String {
    format!("{}/{MANIFEST}", shard_dir(shard))
}
