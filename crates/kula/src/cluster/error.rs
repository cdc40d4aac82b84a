//! What `kula cluster` refuses, and what a person does next.

use super::limits::MISSING_SHOWN_MAX;
use crate::exit::Verdict;
use kula_node::{StartError, config::ConfigError};
use kula_operator::codes;
use std::{io, net::SocketAddr, time::Duration};

/// Why a command on a development cluster did not do what was asked. Each says what stands now.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Nothing was changed.
    #[error("there is no cluster in {directory}")]
    NoCluster { directory: String },
    /// Nothing was changed.
    #[error("{directory} holds files and no cluster.toml: it is not a cluster's directory")]
    NotOurs { directory: String },
    /// Nothing was started, nothing was stopped.
    #[error("{file} is not a cluster's file: {why}")]
    Unreadable { file: String, why: String },
    #[error("cannot {what}: {source}")]
    File { what: String, source: io::Error },
    /// Nothing was changed.
    #[error("this cluster is one of {have}, not of {asked}")]
    OtherSize { have: u32, asked: u32 },
    /// Nothing was changed.
    #[error("this cluster's addresses begin after {have}, not after {asked}")]
    OtherBase { have: String, asked: String },
    /// Nothing was changed.
    #[error("a cluster on one machine has 1 to {most} nodes, not {asked}")]
    Size { asked: u32, most: u32 },
    /// Nothing was changed.
    #[error("{nodes} nodes after {base} do not all stand on this machine's loopback, 127.0.0.1 to 127.255.255.254")]
    Base { base: String, nodes: u32 },
    /// Nothing was changed.
    #[error("{key} is not for --set here: {why}")]
    Reserved { key: String, why: &'static str },
    /// Nothing was changed.
    #[error("--set takes SECTION.KEY=VALUE, not {0:?}")]
    NotAPair(String),
    /// Nothing was changed.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Nothing was changed.
    #[error("there is no node {name:?}: the last of this cluster is n{nodes}")]
    NoSuchNode { name: String, nodes: u32 },
    /// No node was started.
    #[error("{address}, which {node} needs, is in use by {}", .holder.as_deref().unwrap_or("a process that this user may not see"))]
    PortInUse { node: String, address: SocketAddr, holder: Option<String> },
    #[error("{node} cannot be started: {source}")]
    Spawn { node: String, source: io::Error },
    /// The other nodes run on.
    #[error("{node} ended while it started{}", said(.last.as_deref()))]
    Ended { node: String, last: Option<String> },
    /// All nodes run on.
    #[error("after {} s: {}{}", .waited.as_secs(), few(.missing), said(.last.as_deref()))]
    NotReady { waited: Duration, missing: Vec<String>, last: Option<String> },
    /// Nothing was changed.
    #[error("{node} is not running")]
    NotRunning { node: String },
    /// Nothing was changed.
    #[error("{node} is paused")]
    Paused { node: String },
    #[error("{} did not end within {} s", .nodes.join(", "), .waited.as_secs())]
    StillRunning { nodes: Vec<String>, waited: Duration },
    #[error("{node} cannot be signalled: {source}")]
    Signal { node: String, source: io::Error },
}

/// The first of what is missing: among many nodes that do not see each other it is the same sentence many times.
fn few(missing: &[String]) -> String {
    let first = missing.iter().take(MISSING_SHOWN_MAX).cloned().collect::<Vec<_>>().join("; ");
    match missing.len().saturating_sub(MISSING_SHOWN_MAX) {
        0 => first,
        more => format!("{first}; and {more} more"),
    }
}

fn said(line: Option<&str>) -> String {
    line.map(|line| format!("\n  log: {line}")).unwrap_or_default()
}

impl ClusterError {
    /// A file that could not be used.
    pub fn file(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| ClusterError::File { what, source }
    }

    /// The page behind it, where there is one.
    pub fn code(&self) -> Option<&'static str> {
        match self {
            ClusterError::PortInUse { .. } => Some(codes::PORT_IN_USE.code),
            ClusterError::OtherSize { .. } => Some(codes::NOT_THERE_YET.code),
            ClusterError::Config(error) => Some(StartError::from(error.clone()).code()),
            ClusterError::NotReady { .. } => Some(codes::NOT_READY.code),
            _ => None,
        }
    }

    pub fn why(&self) -> Option<&'static str> {
        match self {
            ClusterError::OtherSize { .. } => {
                Some("adding or removing a node moves data: that is not there yet; a later version brings it")
            }
            ClusterError::OtherBase { .. } => Some("the nodes know each other by these addresses"),
            _ => None,
        }
    }

    /// The next command.
    pub fn next(&self) -> String {
        match self {
            ClusterError::NoCluster { .. } => "kula cluster up starts one; --dir names the directory of another".into(),
            ClusterError::NotOurs { .. } => "choose a directory that is empty or not there: --dir DIR".into(),
            ClusterError::Unreadable { file, .. } => format!("restore {file}, or remove the directory that holds it"),
            ClusterError::File { .. } => "check that the directory may be written by this user, and df -h".into(),
            ClusterError::OtherSize { have, .. } => format!(
                "kula cluster up {have}; or kula cluster down --wipe, which removes the data; or another --dir and --base"
            ),
            ClusterError::OtherBase { have, .. } => format!("leave --base out, or say --base {have}"),
            ClusterError::Size { .. } | ClusterError::Base { .. } => {
                "kula cluster up 3 --base 127.0.0.0 makes 127.0.0.1 to 127.0.0.3".into()
            }
            ClusterError::Reserved { .. } => "leave it out; kula cluster up --help says what can be chosen".into(),
            ClusterError::NotAPair(_) => {
                "say it as in --set storage.sync.mode=periodic; kula config show lists every key".into()
            }
            ClusterError::Config(error) => StartError::from(error.clone()).next(),
            ClusterError::NoSuchNode { .. } => "kula cluster list shows them".into(),
            ClusterError::PortInUse { .. } => {
                "stop that process, or take other addresses: --base 127.1.0.0 --dir ANOTHER".into()
            }
            ClusterError::Spawn { .. } => "check the limits of this user: ulimit -u, ulimit -n, free memory".into(),
            ClusterError::Ended { node, .. } => format!("kula cluster logs {node}; then kula cluster start {node}"),
            ClusterError::NotReady { .. } => "kula cluster list; kula cluster logs NODE; kula cluster down".into(),
            ClusterError::NotRunning { node } => format!("kula cluster start {node}"),
            ClusterError::Paused { node } => format!("kula cluster resume {node}"),
            ClusterError::StillRunning { nodes, .. } => format!("kula cluster kill {}", nodes.join(" ")),
            ClusterError::Signal { .. } => "it may belong to another user: kula cluster list shows the process".into(),
        }
    }

    pub fn verdict(&self) -> Verdict {
        match self {
            ClusterError::OtherSize { .. }
            | ClusterError::OtherBase { .. }
            | ClusterError::Size { .. }
            | ClusterError::Base { .. }
            | ClusterError::Reserved { .. }
            | ClusterError::NotAPair(_)
            | ClusterError::Config(_)
            | ClusterError::NoSuchNode { .. } => Verdict::Usage,
            ClusterError::Ended { .. } | ClusterError::NotReady { .. } => Verdict::Unavailable,
            ClusterError::NoCluster { .. }
            | ClusterError::NotOurs { .. }
            | ClusterError::Unreadable { .. }
            | ClusterError::File { .. }
            | ClusterError::PortInUse { .. }
            | ClusterError::Spawn { .. }
            | ClusterError::NotRunning { .. }
            | ClusterError::Paused { .. }
            | ClusterError::StillRunning { .. }
            | ClusterError::Signal { .. } => Verdict::Error,
        }
    }
}
