//! `cluster.toml`: what a development cluster is, so that later commands need only its directory.

use super::{
    address,
    error::ClusterError,
    limits::{NODES_DEFAULT, NODES_MAX},
};
use crate::cli::Launched;
use kula_node::config::{Layers, load};
use serde::{Deserialize, Serialize};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

/// The file's name below the cluster's directory. A directory without it is not ours to remove.
pub const FILE: &str = "cluster.toml";

const HEADER: &str = "# A development cluster of Kula. `kula cluster` writes and reads this file.\n";

/// What the user asked of `kula cluster up`.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    pub nodes: Option<u32>,
    pub base: Option<Ipv4Addr>,
    pub set: Vec<String>,
}

/// The file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Node `i` listens on base + `i`.
    pub base: Ipv4Addr,
    pub nodes: u32,
    /// `SECTION.KEY=VALUE` for every node.
    #[serde(default)]
    pub set: Vec<String>,
}

/// One node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub http: SocketAddr,
    pub peer: SocketAddr,
    /// Its own directory: data, log, pid.
    pub directory: PathBuf,
}

impl Member {
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub fn log(&self) -> PathBuf {
        self.directory.join("log.jsonl")
    }

    pub fn pid_file(&self) -> PathBuf {
        self.directory.join("pid")
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }
}

/// Keys that make a node this one and not another.
const RESERVED: &[(&str, &str)] = &[
    ("node.name", "the cluster names its nodes n1, n2, .."),
    ("node.data", "each node has a directory of its own below the cluster's"),
    ("listen.address", "each node has an address of its own: --base"),
    ("join.seeds", "the cluster's nodes are the seeds"),
    ("join.expect", "it is the number of nodes"),
];

impl Plan {
    /// What was stored, changed by what is asked where that is possible.
    pub fn merge(stored: Option<Plan>, wish: &Wish) -> Result<Plan, ClusterError> {
        let plan = match stored {
            None => Plan {
                base: wish.base.unwrap_or(address::BASE),
                nodes: wish.nodes.unwrap_or(NODES_DEFAULT),
                set: wish.set.clone(),
            },
            Some(stored) => {
                if let Some(asked) = wish.nodes.filter(|&asked| asked != stored.nodes) {
                    return Err(ClusterError::OtherSize { have: stored.nodes, asked });
                }
                if let Some(asked) = wish.base.filter(|&asked| asked != stored.base) {
                    let (have, asked) = (stored.base.to_string(), asked.to_string());
                    return Err(ClusterError::OtherBase { have, asked });
                }
                let set = if wish.set.is_empty() { stored.set } else { wish.set.clone() };
                Plan { set, ..stored }
            }
        };
        plan.check()?;
        Ok(plan)
    }

    fn check(&self) -> Result<(), ClusterError> {
        if !(1..=NODES_MAX).contains(&self.nodes) {
            return Err(ClusterError::Size { asked: self.nodes, most: NODES_MAX });
        }
        if address::of(self.base, 1).is_none() || address::of(self.base, self.nodes).is_none() {
            return Err(ClusterError::Base { base: self.base.to_string(), nodes: self.nodes });
        }
        self.ports().map(|_| ())
    }

    /// `set` in pairs.
    fn settings(&self) -> Result<Vec<(String, String)>, ClusterError> {
        let pair = |text: &String| {
            let (key, value) = text.split_once('=').ok_or_else(|| ClusterError::NotAPair(text.clone()))?;
            let key = key.trim();
            match RESERVED.iter().find(|(reserved, _)| *reserved == key) {
                Some(&(key, why)) => Err(ClusterError::Reserved { key: key.into(), why }),
                None => Ok((key.to_string(), value.trim().to_string())),
            }
        };
        self.set.iter().map(pair).collect()
    }

    /// The ports of HTTP and of peers, the same at every node. All settings are checked on the way, before any start.
    fn ports(&self) -> Result<(u16, u16), ClusterError> {
        let config = load(&Layers { flags: self.settings()?, ..Layers::default() })?.config;
        for (key, port) in [("listen.http", config.listen.http), ("listen.peer", config.listen.peer)] {
            if port == 0 {
                let why = "every node of a cluster has the same ports, so none can be drawn";
                return Err(ClusterError::Reserved { key: format!("{key}=0"), why });
            }
        }
        Ok((config.listen.http, config.listen.peer))
    }

    /// The nodes, n1 first.
    pub fn members(&self, directory: &Path) -> Result<Vec<Member>, ClusterError> {
        let (http, peer) = self.ports()?;
        let member = |number: u32| {
            let base = || ClusterError::Base { base: self.base.to_string(), nodes: self.nodes };
            let address = address::of(self.base, number).ok_or_else(base)?;
            let name = format!("n{number}");
            Ok(Member {
                directory: directory.join(&name),
                name,
                http: SocketAddr::from((address, http)),
                peer: SocketAddr::from((address, peer)),
            })
        };
        (1..=self.nodes).map(member).collect()
    }

    /// The words after `kula` that run one of `members`.
    pub fn command(&self, member: &Member, members: &[Member], launched: Launched) -> Vec<String> {
        let data = member.data().display().to_string();
        let address = member.http.ip().to_string();
        let words = ["node", "--launched", launched.word(), "--name", &member.name, "--address", &address];
        let mut words = words.map(String::from).to_vec();
        words.extend(["--data".into(), data]);
        for seed in members {
            words.extend(["--seed".into(), seed.peer.to_string()]);
        }
        words.extend(["--expect".into(), self.nodes.to_string()]);
        let (http, peer) =
            (format!("listen.http={}", member.http.port()), format!("listen.peer={}", member.peer.port()));
        for setting in ["log.format=json".into(), http, peer].into_iter().chain(self.set.iter().cloned()) {
            words.extend(["--set".into(), setting]);
        }
        words
    }

    pub fn to_text(&self) -> Result<String, ClusterError> {
        let body = toml::to_string(self).map_err(|error| unreadable(FILE, &error))?;
        Ok(format!("{HEADER}{body}"))
    }

    /// Reads `text` of `file`, whose content may be anybody's.
    pub fn from_text(file: &str, text: &str) -> Result<Plan, ClusterError> {
        let plan: Plan = toml::from_str(text).map_err(|error| unreadable(file, &error))?;
        plan.check().map_err(|error| unreadable(file, &error))?;
        Ok(plan)
    }
}

fn unreadable(file: &str, why: &dyn ToString) -> ClusterError {
    ClusterError::Unreadable { file: file.into(), why: why.to_string().trim_end().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(nodes: Option<u32>, base: Option<[u8; 4]>, set: &[&str]) -> Wish {
        Wish { nodes, base: base.map(Ipv4Addr::from), set: set.iter().map(|text| text.to_string()).collect() }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let plan =
            Plan::merge(None, &wish(Some(5), Some([127, 3, 0, 0]), &["log.level=debug", "node.dc=a=b"])).unwrap();
        let text = plan.to_text().unwrap();
        insta::assert_snapshot!(text);
        assert_eq!(Plan::from_text("cluster.toml", &text).unwrap(), plan);
        let short = "base = \"127.0.0.0\"\nnodes = 3\n";
        assert_eq!(Plan::from_text("cluster.toml", short).unwrap(), Plan::merge(None, &Wish::default()).unwrap());
    }

    #[test]
    fn the_stored_plan_stays_and_only_settings_may_change() {
        let stored = || Some(Plan::merge(None, &wish(Some(2), None, &["log.level=debug"])).unwrap());
        assert_eq!(Plan::merge(stored(), &Wish::default()).unwrap(), stored().unwrap());
        assert_eq!(Plan::merge(stored(), &wish(Some(2), Some([127, 0, 0, 0]), &[])).unwrap(), stored().unwrap());
        assert_eq!(Plan::merge(stored(), &wish(None, None, &["log.level=info"])).unwrap().set, ["log.level=info"]);
    }

    #[test]
    fn a_node_is_told_its_name_its_place_and_all_seeds() {
        let plan = Plan::merge(None, &wish(Some(2), None, &["listen.http=7180", "log.level=debug"])).unwrap();
        let members = plan.members(Path::new("/c")).unwrap();
        assert_eq!(members[1].url(), "http://127.0.0.2:7180");
        insta::assert_snapshot!(plan.command(&members[1], &members, Launched::Background).join(" "));
    }

    #[test]
    fn what_cannot_be_is_refused_before_anything_starts() {
        let stored = || Some(Plan::merge(None, &wish(Some(3), None, &[])).unwrap());
        let refusals = [
            Plan::merge(stored(), &wish(Some(4), None, &[])),
            Plan::merge(stored(), &wish(None, Some([127, 1, 0, 0]), &[])),
            Plan::merge(None, &wish(Some(0), None, &[])),
            Plan::merge(None, &wish(Some(65), None, &[])),
            Plan::merge(None, &wish(None, Some([10, 0, 0, 0]), &[])),
            Plan::merge(None, &wish(Some(6), Some([127, 255, 255, 250]), &[])),
            Plan::merge(None, &wish(None, None, &["node.name=n9"])),
            Plan::merge(None, &wish(None, None, &["listen.http=0"])),
            Plan::merge(None, &wish(None, None, &["log.level"])),
            Plan::merge(None, &wish(None, None, &["storage.shard=2"])),
            Plan::merge(None, &wish(None, None, &["log.level=loud"])),
            Plan::from_text("D/cluster.toml", "base = 7\n"),
            Plan::from_text("D/cluster.toml", "base = \"127.0.0.0\"\nnodes = 3\nport = 1\n"),
            Plan::from_text("D/cluster.toml", "base = \"127.0.0.0\"\nnodes = 900\n"),
        ];
        let told = refusals.map(|refused| {
            let refused = refused.unwrap_err();
            let code = refused.code().unwrap_or("-");
            format!("{:?} {code} {refused}\n  next: {}", refused.verdict(), refused.next())
        });
        insta::assert_snapshot!(told.join("\n"));
    }
}
