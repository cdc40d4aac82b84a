//! One node: configuration, logging, the order in which rooms start and stop, and who listens to whom.
//!
//! Nothing here decides about data. `wiring` is the whole supervisor tree on one screen; `start` is what a start may
//! refuse, with its code and the next step.

pub mod config;
mod descriptors;
mod logging;
mod membership;
mod start;
mod wiring;
mod world;

pub use start::StartError;
pub use wiring::{Assembled, StartOptions, assemble};
pub use world::{Threads, World};

use config::{Layers, Loaded, load};
use kula_http::{HttpConfig, serve};
use std::{net::SocketAddr, time::Duration};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs a node until SIGTERM or SIGINT, or until it must not go on.
pub fn run(layers: &Layers, options: &StartOptions) -> Result<(), StartError> {
    let loaded = load(layers)?;
    let listen = &loaded.config.listen;
    if !listen.address.is_loopback() && !options.insecure {
        return Err(StartError::Insecure { address: listen.address });
    }
    let log = &loaded.config.log;
    let logging = logging::start(log.format, log.level, loaded.config.node.name.as_str());
    let system = actix_rt::System::new();
    system.block_on(until_stopped(&loaded, options, &logging.log))
}

async fn until_stopped(loaded: &Loaded, options: &StartOptions, log: &slog::Logger) -> Result<(), StartError> {
    let mut signals = [stop_signal(SignalKind::terminate())?, stop_signal(SignalKind::interrupt())?];
    // Before the first file is opened.
    let connections = descriptors::raise(&actor_log(log, "node"));
    let config = &loaded.config;
    let assembled = assemble(loaded, options, World::system(config)?, log).await?;
    let http = HttpConfig {
        address: SocketAddr::new(config.listen.address, config.listen.http),
        workers: config.listen.http_workers,
        connections,
        answer_gap: kula_http::limits::ANSWER_GAP_MAX,
    };
    let server = serve(&http, assembled.coordinators.clone(), assembled.operator.clone(), actor_log(log, "http"))?;
    let address = server.address;
    let (readiness, clock, ring) = (assembled.readiness.clone(), assembled.clock.clone(), assembled.ring.load());
    let settled_at = assembled.settled_at;
    let started = || {
        let state = match settled_at.since(clock.mono()) {
            _ if ring.version == 0 => "waiting for a ring".to_string(),
            Duration::ZERO => "ready".to_string(),
            rest => format!("ready in {} ms, when its clock is past its last life's stamps", millis(rest)),
        };
        slog::info!(actor_log(log, "node"), "{state}: http://{address}"; "event" => "started", "address" => address.to_string(),
            "data" => config.node.data.display().to_string(), "cluster" => &ring.name, "ring" => ring.version,
            "took_ms" => millis(clock.mono().0));
    };
    let stop = async {
        let [terminate, interrupt] = &mut signals;
        futures::future::select(Box::pin(terminate.recv()), Box::pin(interrupt.recv())).await;
        slog::info!(actor_log(log, "node"), "stopping: requests under way are finished"; "event" => "stopping");
        readiness.set_stopping();
        server.stop().await;
    };
    let ended = assembled.supervise(started, stop).await;
    match &ended {
        Ok(()) => slog::info!(actor_log(log, "node"), "stopped"; "event" => "stopped"),
        Err(error) => {
            slog::crit!(actor_log(log, "node"), "the node ends: {}", error; "event" => "failed", "code" => error.code())
        }
    }
    ended
}

fn stop_signal(kind: SignalKind) -> Result<Signal, StartError> {
    signal(kind).map_err(StartError::Signals)
}

fn actor_log(log: &slog::Logger, actor: &'static str) -> slog::Logger {
    log.new(slog::o!("actor" => actor))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
