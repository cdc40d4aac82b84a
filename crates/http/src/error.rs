//! Why the front door did not open.

use std::{io, net::SocketAddr};

#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Another process listens there (K0603).
    #[error("{address} is in use by another process")]
    PortInUse { address: SocketAddr },
    /// The operating system refused the address (K0612).
    #[error("{address} cannot be listened on: {source}")]
    Address { address: SocketAddr, source: io::Error },
}
