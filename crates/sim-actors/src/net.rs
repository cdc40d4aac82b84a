//! The socket seam over turmoil's TCP: delay, cuts and held messages are turmoil's, decided from outside.

use futures::future::BoxFuture;
use kula_net::{Listener, Net, Socket};
use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll, ready},
};
use turmoil::net::{TcpListener, TcpStream};

pub struct SimNet;

impl Net for SimNet {
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Socket>> {
        let address = address.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            Ok(Box::new(stream) as Socket)
        })
    }

    fn listen(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let address = address.to_owned();
        Box::pin(async move {
            let shown: SocketAddr = address.parse().map_err(io::Error::other)?;
            // A simulated host has one address, and listens at that whatever it says.
            let listener = Arc::new(TcpListener::bind(("0.0.0.0", shown.port())).await?);
            let accepting = accept(listener.clone());
            Ok(Box::new(Door { shown, listener, accepting }) as Box<dyn Listener>)
        })
    }
}

type Accepting = BoxFuture<'static, io::Result<(TcpStream, SocketAddr)>>;

fn accept(listener: Arc<TcpListener>) -> Accepting {
    Box::pin(async move { listener.accept().await })
}

struct Door {
    shown: SocketAddr,
    listener: Arc<TcpListener>,
    accepting: Accepting,
}

impl Listener for Door {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, String)>> {
        let accepted = ready!(self.accepting.as_mut().poll(cx));
        self.accepting = accept(self.listener.clone());
        Poll::Ready(accepted.map(|(stream, from)| (Box::new(stream) as Socket, from.to_string())))
    }

    fn address(&self) -> io::Result<String> {
        Ok(self.shown.to_string())
    }
}
