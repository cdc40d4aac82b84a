//! `KulaContext`: the actix context of every actor of the house. It meters each message, gives siblings their turn,
//! and lets an actor fence the node.
//!
//! actix offers one seam for this, `ToEnvelope`, which packs a message for a context: ours packs a `Metered` envelope,
//! so actors keep plain `Handler<M>` and write only `type Context = KulaContext<Self>`. A blanket handler for a wrapped
//! message would break coherence (E0210).

use crate::{
    door::Door,
    limits,
    stats::{self, MessageCount, Stats},
};
use actix::{
    dev::{AsyncContextParts, ContextParts, Envelope, EnvelopeProxy, Mailbox, MessageResponse, ToEnvelope},
    prelude::{Actor, ActorContext, ActorFuture, ActorState, Addr, AsyncContext, Handler, Message, SpawnHandle},
};
use std::{
    any::{TypeId, type_name},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{sync::oneshot, time::Instant};

/// Builds an actor, for its first start and for every restart.
pub(crate) type Factory<A> = Arc<dyn Fn() -> A + Send + Sync>;

/// The context of an actor behind a `Door`: `type Context = KulaContext<Self>`.
pub struct KulaContext<A: Actor<Context = KulaContext<A>>> {
    parts: ContextParts<A>,
    door: Door<A>,
    factory: Factory<A>,
    /// Messages this poll may still handle.
    turns_left: u32,
    after_drain: Option<DrainHook<A>>,
    fenced: Option<String>,
    /// A counter for each message type seen; a handful, so a scan beats a map.
    counts: Vec<(TypeId, Arc<MessageCount>)>,
}

type DrainHook<A> = fn(&mut A, &mut KulaContext<A>);

impl<A: Actor<Context = KulaContext<A>>> KulaContext<A> {
    pub(crate) fn new(mailbox: &Mailbox<A>, door: Door<A>, factory: Factory<A>) -> Self {
        KulaContext {
            parts: ContextParts::new(mailbox.sender_producer()),
            door,
            factory,
            turns_left: limits::HANDLED_PER_POLL,
            after_drain: None,
            fenced: None,
            counts: Vec::new(),
        }
    }

    /// The actor's own door. `address()` is actix's and bypasses bound and meter.
    pub fn door(&self) -> &Door<A> {
        &self.door
    }

    /// Where the actor stands in the tree.
    pub fn path(&self) -> &Arc<str> {
        self.door.path()
    }

    /// Ends this node: something about its data can no longer be trusted. The actor handles nothing more, the cause goes
    /// straight to the root of the tree, every actor is ended without drain, and `Supervisor::run` returns
    /// `Escalation::Fenced`. The first reason given stands.
    pub fn fence(&mut self, reason: impl Into<String>) {
        self.fenced.get_or_insert_with(|| reason.into());
        self.parts.terminate();
    }

    /// Runs `hook` once when the messages that now wait have been handled, or `limits::HANDLED_PER_POLL` of them: the end
    /// of a batch, where a group commit belongs. Asking again before it ran changes nothing but the hook; it runs once.
    /// The hook must not ask for itself. It is forgotten if the actor stops, fences or restarts first.
    pub fn after_drain(&mut self, hook: fn(&mut A, &mut KulaContext<A>)) {
        if self.after_drain.replace(hook).is_none() {
            self.parts.spawn(AfterDrain);
        }
    }

    /// A fresh actor from the factory. Used by `supervised!`.
    #[doc(hidden)]
    pub fn rebuild(&self) -> A {
        (self.factory)()
    }

    /// Gives the next poll its turns; says whether the last one used all of its own.
    pub(crate) fn refill(&mut self) -> bool {
        std::mem::replace(&mut self.turns_left, limits::HANDLED_PER_POLL) == 0
    }

    pub(crate) fn take_fence(&mut self) -> Option<String> {
        self.fenced.take()
    }

    /// Forgets what belonged to the generation that ended: its futures are gone, and with them `AfterDrain`.
    pub(crate) fn forget_generation(&mut self) {
        self.after_drain = None;
        self.fenced = None;
    }

    fn stats(&self) -> &Stats {
        self.door.stats()
    }

    #[inline]
    fn count<M: 'static>(&mut self) {
        self.turns_left = self.turns_left.saturating_sub(1);
        self.stats().count_taken();
        let id = TypeId::of::<M>();
        if let Some((_, count)) = self.counts.iter().find(|(known, _)| *known == id) {
            count.count();
        } else {
            let count = self.stats().message_count(type_name::<M>());
            count.count();
            self.counts.push((id, count));
        }
    }
}

impl<A: Actor<Context = Self>> ActorContext for KulaContext<A> {
    fn stop(&mut self) {
        self.parts.stop();
    }

    fn terminate(&mut self) {
        self.parts.terminate();
    }

    fn state(&self) -> ActorState {
        self.parts.state()
    }
}

impl<A: Actor<Context = Self>> AsyncContext<A> for KulaContext<A> {
    fn address(&self) -> Addr<A> {
        self.parts.address()
    }

    fn spawn<F: ActorFuture<A, Output = ()> + 'static>(&mut self, future: F) -> SpawnHandle {
        self.parts.spawn(future)
    }

    fn wait<F: ActorFuture<A, Output = ()> + 'static>(&mut self, future: F) {
        self.parts.wait(future);
    }

    /// actix takes messages while this is false, without any other bound: an actor that used up its turns therefore
    /// says that it waits. Its runner gives it new turns and wakes it behind its siblings.
    fn waiting(&self) -> bool {
        self.turns_left == 0 || self.parts.waiting()
    }

    fn cancel_future(&mut self, handle: SpawnHandle) -> bool {
        self.parts.cancel_future(handle)
    }
}

impl<A: Actor<Context = Self>> AsyncContextParts<A> for KulaContext<A> {
    fn parts(&mut self) -> &mut ContextParts<A> {
        &mut self.parts
    }
}

/// A future that a poll of the actor reaches after its mailbox: actix polls futures when no message is left to take.
struct AfterDrain;

impl<A: Actor<Context = KulaContext<A>>> ActorFuture<A> for AfterDrain {
    type Output = ();

    fn poll(self: Pin<&mut Self>, actor: &mut A, ctx: &mut KulaContext<A>, _: &mut Context<'_>) -> Poll<()> {
        if let Some(hook) = ctx.after_drain.take() {
            hook(actor, ctx);
        }
        Poll::Ready(())
    }
}

/// A message on its way, with what the meter needs.
struct Metered<M: Message> {
    message: Option<M>,
    asker: Option<oneshot::Sender<M::Result>>,
    /// A door counted it in; false for what came through actix's own address.
    admitted: bool,
    /// When it was sent, if it is one of those that are timed.
    sent: Option<Instant>,
}

impl<A, M> ToEnvelope<A, M> for KulaContext<A>
where
    A: Actor<Context = KulaContext<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    #[inline]
    fn pack(message: M, asker: Option<oneshot::Sender<M::Result>>) -> Envelope<A> {
        let (admitted, sent) = stats::stamp();
        Envelope::with_proxy(Box::new(Metered { message: Some(message), asker, admitted, sent }))
    }
}

impl<A, M> EnvelopeProxy<A> for Metered<M>
where
    A: Actor<Context = KulaContext<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn handle(&mut self, actor: &mut A, ctx: &mut KulaContext<A>) {
        let Some(message) = self.message.take() else { return };
        // Counted out before the handler runs: a panic must not leak depth.
        if self.admitted {
            ctx.stats().leave(1);
        }
        ctx.count::<M>();
        if let Some(sent) = self.sent {
            ctx.stats().waited(sent);
        }
        let asker = self.asker.take();
        if asker.as_ref().is_some_and(oneshot::Sender::is_closed) {
            ctx.stats().count_skipped();
            return;
        }
        <A as Handler<M>>::handle(actor, message, ctx).handle(ctx, asker);
    }
}

impl<M: Message> Drop for Metered<M> {
    fn drop(&mut self) {
        if self.message.is_some() && self.admitted {
            stats::discard_one();
        }
    }
}

/// Lets a supervisor restart these actors: a restart replaces the value by a fresh one from the factory that `child` was
/// given, behind the same door.
#[macro_export]
macro_rules! supervised {
    ($($actor:ty),+ $(,)?) => {$(
        impl ::actix::Supervised for $actor {
            fn restarting(&mut self, context: &mut $crate::KulaContext<$actor>) {
                *self = context.rebuild();
            }
        }
    )+};
}
