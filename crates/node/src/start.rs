//! What a start refuses and why a node ends: each with its code, and what to do next.

use crate::config::ConfigError;
use kula_actor::Escalation;
use kula_catalog::CatalogError;
use kula_disk::{DiskError, atomic::StateError};
use kula_handoff::HandoffError;
use kula_http::HttpError;
use kula_operator::codes;
use kula_ring::RingError;
use kula_storage::StorageError;
use std::{
    io,
    net::{IpAddr, SocketAddr},
};

/// Why there is no running node. Up to `Http` nothing was lost and nothing was acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the configuration file {name} cannot be read: {why}")]
    ConfigFile { name: String, why: String },
    #[error("{address} is reachable from other machines, and this version has no authentication and no TLS")]
    Insecure { address: IpAddr },
    #[error("the data directory cannot be used: {0}")]
    Directory(#[source] DiskError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Ring(#[from] RingError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Handoff(#[from] HandoffError),
    /// Nobody can reach this node.
    #[error("the peer port cannot be opened at {address}: {source}")]
    PeerPort { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("signals cannot be received: {0}")]
    Signals(#[source] io::Error),
    /// The node ran, and had to end.
    #[error(transparent)]
    Ended(#[from] Escalation),
}

impl StartError {
    /// The code that `kula explain` knows.
    pub fn code(&self) -> &'static str {
        let code = match self {
            StartError::Config(ConfigError::UnknownKey { .. }) => codes::CONFIG_UNKNOWN_KEY,
            StartError::Config(ConfigError::Value { .. } | ConfigError::OutOfRange { .. }) => codes::CONFIG_BAD_VALUE,
            StartError::Config(ConfigError::NotThereYet { .. }) => codes::NOT_THERE_YET,
            StartError::ConfigFile { .. } => codes::CONFIG_UNREADABLE,
            StartError::Insecure { .. } => codes::INSECURE_ADDRESS,
            StartError::Directory(_) => codes::DIRECTORY_UNUSABLE,
            StartError::Storage(error) => of_storage(error),
            StartError::Ring(error) => of_ring(error),
            StartError::Catalog(error) => of_catalog(error),
            StartError::Handoff(_) => codes::DIRECTORY_UNUSABLE,
            StartError::Http(HttpError::PortInUse { .. }) => codes::PORT_IN_USE,
            StartError::PeerPort { source, .. } if source.kind() == io::ErrorKind::AddrInUse => codes::PORT_IN_USE,
            StartError::PeerPort { .. } => codes::ADDRESS_UNUSABLE,
            StartError::Http(HttpError::Address { .. }) => codes::ADDRESS_UNUSABLE,
            StartError::Signals(_) | StartError::Ended(Escalation::Intensity { .. } | Escalation::Lost { .. }) => {
                codes::PART_FAILED
            }
            StartError::Ended(Escalation::Fenced { cause, .. }) if cause.starts_with("panicked") => codes::PART_FAILED,
            StartError::Ended(Escalation::Fenced { .. }) => codes::DISK_FAILED,
        };
        code.code
    }

    /// What a person does next.
    pub fn next(&self) -> String {
        match self {
            StartError::Config(ConfigError::UnknownKey { .. } | ConfigError::NotThereYet { .. }) => {
                "kula config show lists every key".into()
            }
            StartError::Config(_) => "kula config explain KEY says what a key takes".into(),
            StartError::ConfigFile { .. } => "check the path after --config, and that this user may read it".into(),
            StartError::Insecure { .. } => "listen on 127.0.0.1, or accept the risk with --insecure".into(),
            StartError::Http(HttpError::PortInUse { address }) => {
                format!(
                    "stop what listens there, or choose another port: --set listen.http={}",
                    address.port().wrapping_add(1)
                )
            }
            StartError::PeerPort { address, source } if source.kind() == io::ErrorKind::AddrInUse => format!(
                "stop what listens there, or choose another port: --set listen.peer={}",
                address.port().wrapping_add(1)
            ),
            StartError::PeerPort { .. } | StartError::Http(HttpError::Address { .. }) => {
                "choose an address of this machine: --address 127.0.0.1".into()
            }
            StartError::Storage(StorageError::Locked) => {
                "use that node, or give this one a directory of its own: --data DIR".into()
            }
            StartError::Storage(StorageError::LogDamaged { .. }) => {
                "restore the directory from a copy; or accept the loss of what the damage held: --accept-loss".into()
            }
            StartError::Ended(_) => "read the last lines of the log; a start replays what was acknowledged".into(),
            _ if self.code() == codes::DIRECTORY_UNUSABLE.code => {
                "check that the directory exists, is writable, and that enough descriptors are allowed: ulimit -n"
                    .into()
            }
            _ => format!("kula explain {}", self.code()),
        }
    }

    /// Whether the user's words are at fault.
    pub fn is_usage(&self) -> bool {
        matches!(self, StartError::Config(_) | StartError::ConfigFile { .. } | StartError::Insecure { .. })
    }
}

fn of_storage(error: &StorageError) -> codes::Code {
    match error {
        StorageError::Locked => codes::DIRECTORY_LOCKED,
        StorageError::OtherCluster { .. } => codes::DIRECTORY_OF_ANOTHER_CLUSTER,
        StorageError::IdentityMissing | StorageError::IdentityDamaged { .. } => codes::IDENTITY_DAMAGED,
        StorageError::LogDamaged { .. } | StorageError::LogRecord { .. } => codes::COMMIT_LOG_DAMAGED,
        StorageError::ManifestDamaged { .. } => codes::STATE_FILE_DAMAGED,
        StorageError::Config(_) | StorageError::ShardsFixed { .. } => codes::CONFIG_BAD_VALUE,
        StorageError::Damaged { .. } => codes::RANGE_UNKNOWN,
        _ => codes::DIRECTORY_UNUSABLE,
    }
}

fn of_state(error: &StateError) -> codes::Code {
    match error {
        StateError::Newer { .. } => codes::DIRECTORY_TOO_NEW,
        StateError::Disk(_) => codes::DIRECTORY_UNUSABLE,
        _ => codes::STATE_FILE_DAMAGED,
    }
}

fn of_ring(error: &RingError) -> codes::Code {
    match error {
        RingError::OtherName { .. } | RingError::OtherCluster { .. } | RingError::NotAMember { .. } => {
            codes::DIRECTORY_OF_ANOTHER_CLUSTER
        }
        RingError::OtherPartitioner { .. } => codes::CONFIG_BAD_VALUE,
        RingError::Missing { .. }
        | RingError::BallotsAhead { .. }
        | RingError::Malformed(_)
        | RingError::Invalid(_) => codes::STATE_FILE_DAMAGED,
        RingError::Unreadable(error) => of_state(error),
        RingError::MovesData { .. } => codes::MOVES_DATA,
        RingError::Refused(_) => codes::CONFIG_BAD_VALUE,
        _ => codes::DIRECTORY_UNUSABLE,
    }
}

fn of_catalog(error: &CatalogError) -> codes::Code {
    match error {
        CatalogError::Missing { .. } | CatalogError::Form(_) => codes::STATE_FILE_DAMAGED,
        CatalogError::Unreadable(error) => of_state(error),
        _ => codes::DIRECTORY_UNUSABLE,
    }
}
