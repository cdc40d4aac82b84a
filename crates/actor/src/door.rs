//! `Door`: the one way to an actor. Bounded over all its clones, metered, and the same across restarts.
//!
//! actix's own bound is off: it counts for each clone of an address, and `do_send` ignores it. Here a message is counted
//! in before it is handed over and counted out when it is taken, before the handler runs, so neither a panic nor a
//! closed mailbox leaks depth. A full mailbox is an answer: nothing was sent, and the caller learns whose it is.

use crate::{
    context::KulaContext,
    stats::{self, Stats},
};
use actix::{
    dev::channel::AddressSender,
    prelude::{Actor, Handler, Message, SendError},
};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::sync::oneshot;

/// Why a message was not delivered, or not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DoorError {
    /// The mailbox is full: nothing was sent. Try later, or elsewhere.
    #[error("{path} is overloaded: {depth} of {cap} messages wait")]
    Overloaded { path: Arc<str>, depth: usize, cap: usize },
    /// From `tell`: the actor is gone for good, nothing was sent. From an awaited `ask`: the actor stopped or panicked
    /// before it answered; whether it did the work is unknown.
    #[error("{path} is closed")]
    Closed { path: Arc<str> },
}

impl DoorError {
    /// The actor whose door it was.
    pub fn path(&self) -> &Arc<str> {
        match self {
            DoorError::Overloaded { path, .. } | DoorError::Closed { path } => path,
        }
    }
}

/// A message handed back, with the reason.
#[derive(Debug)]
pub struct Refused<M> {
    pub message: M,
    pub error: DoorError,
}

/// The handle to an actor: cheap to clone, usable from any thread, valid for all generations of the actor.
pub struct Door<A: Actor> {
    shared: Arc<Shared<A>>,
}

struct Shared<A: Actor> {
    sender: AddressSender<A>,
    stats: Arc<Stats>,
}

impl<A: Actor<Context = KulaContext<A>>> Door<A> {
    pub(crate) fn new(sender: AddressSender<A>, stats: Arc<Stats>) -> Self {
        Door { shared: Arc::new(Shared { sender, stats }) }
    }

    /// Sends a message, unless the mailbox is full. The message is dropped if it is refused; `try_tell` hands it back.
    #[inline]
    pub fn tell<M>(&self, message: M) -> Result<(), DoorError>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.try_tell(message).map_err(|refused| refused.error)
    }

    /// As `tell`; a refused message comes back, with the `Reply` it may carry.
    #[inline]
    pub fn try_tell<M>(&self, message: M) -> Result<(), Refused<M>>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        match self.shared.stats.admit() {
            Ok(()) => self.post(message),
            Err(depth) => Err(Refused { message, error: self.overloaded(depth) }),
        }
    }

    /// Sends a message past the bound: for the control plane and for replies, which must not wait behind the requests
    /// they would relieve. Fails only if the actor is gone.
    pub fn tell_forced<M>(&self, message: M) -> Result<(), DoorError>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.try_tell_forced(message).map_err(|refused| refused.error)
    }

    /// As `tell_forced`; a refused message comes back, with the `Reply` it may carry.
    pub fn try_tell_forced<M>(&self, message: M) -> Result<(), Refused<M>>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.shared.stats.admit_forced();
        self.post(message)
    }

    /// Sends a message now, unless the mailbox is full, and returns the future of its answer. If that future is dropped
    /// before the message is taken, the message is skipped.
    #[inline]
    pub fn ask<M>(&self, message: M) -> Ask<M::Result>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        match self.shared.stats.admit() {
            Ok(()) => self.request(message),
            Err(depth) => Ask { answer: Err(Some(self.overloaded(depth))), stats: Arc::clone(&self.shared.stats) },
        }
    }

    /// As `ask`, past the bound.
    pub fn ask_forced<M>(&self, message: M) -> Ask<M::Result>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.shared.stats.admit_forced();
        self.request(message)
    }

    /// The actor has not ended for good. It may be waiting for a restart: then messages queue.
    pub fn connected(&self) -> bool {
        self.shared.sender.connected()
    }

    /// Where the actor stands in the tree.
    pub fn path(&self) -> &Arc<str> {
        self.shared.stats.path()
    }

    /// The meter of this mailbox.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.shared.stats
    }

    #[inline]
    fn post<M>(&self, message: M) -> Result<(), Refused<M>>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        // `do_send` because the bound is ours; the sender's own, unlike `Addr`'s, says when the mailbox is closed.
        stats::admitted(|| self.shared.sender.do_send(message)).map_err(|refused| {
            self.shared.stats.leave(1);
            Refused { message: message_of(refused), error: self.closed() }
        })
    }

    #[inline]
    fn request<M>(&self, message: M) -> Ask<M::Result>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let answer = stats::admitted(|| self.shared.sender.send(message)).map_err(|_| {
            self.shared.stats.leave(1);
            Some(self.closed())
        });
        Ask { answer, stats: Arc::clone(&self.shared.stats) }
    }

    #[cold]
    fn overloaded(&self, depth: usize) -> DoorError {
        DoorError::Overloaded { path: Arc::clone(self.path()), depth, cap: self.shared.stats.cap() }
    }

    #[cold]
    fn closed(&self) -> DoorError {
        DoorError::Closed { path: Arc::clone(self.path()) }
    }
}

fn message_of<M>(refused: SendError<M>) -> M {
    match refused {
        SendError::Full(message) | SendError::Closed(message) => message,
    }
}

impl<A: Actor> Clone for Door<A> {
    fn clone(&self) -> Self {
        Door { shared: Arc::clone(&self.shared) }
    }
}

impl<A: Actor> fmt::Debug for Door<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Door({})", self.shared.stats.path())
    }
}

/// The future of an answer. The message is already on its way.
#[must_use = "an ask whose future is dropped may be skipped"]
pub struct Ask<T> {
    answer: Result<oneshot::Receiver<T>, Option<DoorError>>,
    stats: Arc<Stats>,
}

impl<T> Future for Ask<T> {
    type Output = Result<T, DoorError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = match &mut self.answer {
            Ok(answer) => ready!(Pin::new(answer).poll(cx)).map_err(|_| None),
            Err(refused) => Err(refused.take()),
        };
        let closed = || DoorError::Closed { path: Arc::clone(self.stats.path()) };
        Poll::Ready(answer.map_err(|refused| refused.unwrap_or_else(closed)))
    }
}
