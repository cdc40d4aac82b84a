//! The listener: takes connections at the peer port and gives each a session. A stranger too many is hung up on.

use crate::{limits, session, shared::Shared};
use actix::prelude::{Actor, ActorFuture, AsyncContext};
use kula_actor::KulaContext;
use kula_net::Listener;
use slog::{debug, warn};
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tokio::time::{Sleep, sleep};

/// The port outlives a restart of its actor.
pub(crate) type Port = Arc<Mutex<Box<dyn Listener>>>;

pub(crate) struct ListenerActor {
    pub port: Port,
    pub shared: Arc<Shared>,
    pub pause: Option<Pin<Box<Sleep>>>,
}

struct Drive;

impl ActorFuture<ListenerActor> for Drive {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        listener: &mut ListenerActor,
        _: &mut KulaContext<ListenerActor>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        listener.drive(cx);
        Poll::Pending
    }
}

impl ListenerActor {
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return;
            }
            self.pause = None;
        }
        let port = Arc::clone(&self.port);
        let mut port = port.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..limits::ACCEPTS_PER_POLL {
            match port.poll_accept(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok((socket, from))) => self.take(socket, from),
                Poll::Ready(Err(error)) => {
                    warn!(self.shared.log, "cannot accept connections; trying again";
                        "event" => "accept_failed", "why" => %error);
                    let mut pause = Box::pin(sleep(limits::ACCEPT_PAUSE));
                    // Polled once, so that it wakes us.
                    if pause.as_mut().poll(cx).is_pending() {
                        self.pause = Some(pause);
                    }
                    return;
                }
            }
        }
        cx.waker().wake_by_ref();
    }

    fn take(&mut self, socket: kula_net::Socket, from: String) {
        let help = "Connections from nodes that were hung up on because there were too many";
        let shed = self.shared.registry.counter("kula_transport_hung_up", help, &[]);
        let Some(slot) = self.shared.take_slot() else {
            debug!(self.shared.log, "too many connections"; "event" => "hung_up", "from" => from);
            shed.inc();
            return;
        };
        if self.shared.nursery.start(session::spec(&self.shared, slot, socket, from)).is_err() {
            shed.inc();
        }
    }
}

impl Actor for ListenerActor {
    type Context = KulaContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(Drive);
    }
}

kula_actor::supervised!(ListenerActor);
