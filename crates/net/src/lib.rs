//! The socket seam: `trait Net`, the door through which every connection between peers goes (`promises.md` §3).
//!
//! A connection is an ordered byte stream that may stall, break or lose an unknown suffix; nothing more is promised and
//! no policy lives here. `OsNet` is the operating system's TCP; a simulation brings its own.

mod os;

pub use os::OsNet;

use futures::future::BoxFuture;
use std::{
    io,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite};

/// A connected byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub type Socket = Box<dyn Stream>;

/// Where connections come from. Addresses are `host:port`.
pub trait Net: Send + Sync + 'static {
    /// A connection to whoever listens at `address`. No deadline: the caller has one.
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Socket>>;
    fn listen(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;
}

/// An open port.
pub trait Listener: Send {
    /// The next connection, and where it says it comes from. A poll, because a future of it that is dropped would take its
    /// waker along, and an actor keeps no future that borrows its own port.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, String)>>;
    /// `host:port`, with the port that was given for port 0.
    fn address(&self) -> io::Result<String>;
}
