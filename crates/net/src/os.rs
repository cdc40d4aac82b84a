//! The operating system's TCP.

use crate::{Listener, Net, Socket};
use futures::future::BoxFuture;
use std::{
    io,
    task::{Context, Poll, ready},
};
use tokio::net::{TcpListener, TcpStream};

/// TCP as the operating system does it, without Nagle's wait: frames are already gathered into few writes.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsNet;

impl Net for OsNet {
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Socket>> {
        let address = address.to_owned();
        Box::pin(async move { prepared(TcpStream::connect(address).await?) })
    }

    fn listen(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let address = address.to_owned();
        // tokio binds with SO_REUSEADDR, so that a node comes back at once, and with a backlog of 1,024.
        Box::pin(async move { Ok(Box::new(TcpListener::bind(address).await?) as Box<dyn Listener>) })
    }
}

impl Listener for TcpListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, String)>> {
        let accepted = ready!(TcpListener::poll_accept(self, cx));
        Poll::Ready(accepted.and_then(|(stream, from)| Ok((prepared(stream)?, from.to_string()))))
    }

    fn address(&self) -> io::Result<String> {
        Ok(self.local_addr()?.to_string())
    }
}

fn prepared(stream: TcpStream) -> io::Result<Socket> {
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn bytes_arrive_in_order_and_the_end_is_seen() {
        let mut listener = OsNet.listen("127.0.0.1:0").await.unwrap();
        let address = listener.address().unwrap();
        let accepted = std::future::poll_fn(|cx| listener.poll_accept(cx));
        let (mut near, (mut far, from)) = tokio::try_join!(OsNet.connect(&address), accepted).unwrap();
        assert!(from.starts_with("127.0.0.1:"));
        near.write_all(b"one two").await.unwrap();
        drop(near);
        let mut seen = String::new();
        far.read_to_string(&mut seen).await.unwrap();
        assert_eq!(seen, "one two");
    }

    #[tokio::test]
    async fn nobody_listening_is_an_error_at_once() {
        let listener = OsNet.listen("127.0.0.1:0").await.unwrap();
        let address = listener.address().unwrap();
        drop(listener);
        assert_eq!(
            OsNet.connect(&address).await.err().map(|error| error.kind()),
            Some(io::ErrorKind::ConnectionRefused)
        );
    }
}
