//! The listening server: bound here, run by actix-web's workers, stopped with a cap.

use crate::{HttpError, front::Front, limits};
use actix_web::{
    App,
    dev::{Server, ServerHandle},
    web,
};
use kula_coordinator::Coordinators;
use kula_operator::Operator;
use std::{any::Any, io, net::SocketAddr, time::Duration};

/// Where and how wide the door is.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Port 0 takes a free one; `HttpServer::address` says which.
    pub address: SocketAddr,
    /// Threads that serve connections, 1 to `limits::WORKERS_MAX`.
    pub workers: usize,
    /// Connections at once, at most `limits::CONNECTIONS_MAX`: sockets must leave descriptors for the disk.
    pub connections: usize,
    /// A peer that takes nothing of its answer for this long is cut; `limits::ANSWER_GAP_MAX` in production.
    pub answer_gap: Duration,
}

/// A running server.
pub struct HttpServer {
    /// Where it listens.
    pub address: SocketAddr,
    handle: ServerHandle,
    ended: actix_web::rt::task::JoinHandle<io::Result<()>>,
}

/// Binds and serves. Must be called inside an actix `System`. Requests for data are turned away with a typed answer until
/// the operator's readiness says that the node is ready, so the door may open early.
pub fn serve(
    config: &HttpConfig,
    coordinators: Coordinators,
    operator: Operator,
    log: slog::Logger,
) -> Result<HttpServer, HttpError> {
    let workers = config.workers.clamp(1, limits::WORKERS_MAX);
    let front = web::Data::new(Front::new(coordinators, operator, log.clone()));
    let app = move || App::new().app_data(front.clone()).default_service(web::to(crate::front::serve));
    let connections = config.connections.clamp(workers, limits::CONNECTIONS_MAX);
    let answer_gap = config.answer_gap;
    let bound = actix_web::HttpServer::new(app)
        .workers(workers)
        .max_connections(connections / workers)
        .on_connect(move |connection, _| cut_when_stalled(connection, answer_gap))
        .keep_alive(limits::IDLE_TIME_MAX)
        .client_request_timeout(limits::HEAD_TIME_MAX)
        .client_disconnect_timeout(Duration::from_secs(1))
        .shutdown_timeout(limits::STOP_TIME_MAX.as_secs())
        .tcp_nodelay(true)
        .disable_signals()
        .bind(config.address)
        .map_err(|source| refused(config.address, source))?;
    let address = bound.addrs().first().copied().unwrap_or(config.address);
    let server: Server = bound.run();
    let handle = server.handle();
    slog::info!(log, "http listens on {address}"; "event" => "http_listening", "address" => address.to_string());
    Ok(HttpServer { address, handle, ended: actix_web::rt::spawn(server) })
}

/// Linux counts unacknowledged bytes and a window that stays shut alike (tcp(7), TCP_USER_TIMEOUT).
fn cut_when_stalled(connection: &dyn Any, after: Duration) {
    if let Some(stream) = connection.downcast_ref::<actix_web::rt::net::TcpStream>() {
        let millis = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
        // It fails only for a socket that is gone already.
        rustix::net::sockopt::set_tcp_user_timeout(stream, millis).ok();
    }
}

fn refused(address: SocketAddr, source: io::Error) -> HttpError {
    match source.kind() {
        io::ErrorKind::AddrInUse => HttpError::PortInUse { address },
        _ => HttpError::Address { address, source },
    }
}

impl HttpServer {
    /// No new connection; requests under way are finished, at most for `limits::STOP_TIME_MAX`; then all are cut.
    pub async fn stop(self) {
        let patience = limits::STOP_TIME_MAX + Duration::from_secs(1);
        if tokio::time::timeout(patience, self.handle.stop(true)).await.is_err() {
            self.handle.stop(false).await;
        }
    }

    /// Waits until the server has ended by itself, which it does only if something is badly wrong.
    pub async fn ended(&mut self) -> io::Result<()> {
        match (&mut self.ended).await {
            Ok(result) => result,
            Err(error) => Err(io::Error::other(error)),
        }
    }
}
