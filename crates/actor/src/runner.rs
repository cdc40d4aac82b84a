//! The runner: the task that carries one actor child through its generations.
//!
//! It polls actix's own future of the actor inside `catch_unwind`, so a panic ends a generation and nothing else: mailbox,
//! address and door stay. Between generations it is parked and messages queue up to the bound. Dropped without an order
//! (a simulated crash, a dead thread) it runs no stop hook: a flush there would make a crash look durable.

use crate::{
    child::{Escalation, Exit, OnPanic, Order, Reporter},
    context::{Factory, KulaContext},
    door::Door,
    reply::Reply,
    stats,
};
use actix::{
    dev::{ContextFut, Mailbox, channel::AddressReceiver},
    prelude::{Actor, ActorContext, Supervised},
};
use std::{
    any::Any,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};
use tokio::sync::mpsc;

pub(crate) struct Runner<A: Actor<Context = KulaContext<A>> + Supervised> {
    body: Body<A>,
    on_panic: OnPanic,
    ordered: mpsc::UnboundedReceiver<Order>,
    reporter: Reporter,
    generation: u64,
    /// Answered when the generation that was ordered has been polled once: `started` has run.
    starting: Option<Reply<()>>,
}

enum Next {
    Ordered(Option<Order>),
    Ended(Exit),
}

impl<A: Actor<Context = KulaContext<A>> + Supervised> Runner<A> {
    pub fn new(
        unread: Unread<A>,
        factory: Factory<A>,
        on_panic: OnPanic,
        ordered: mpsc::UnboundedReceiver<Order>,
        reporter: Reporter,
    ) -> Self {
        let door = unread.door.clone();
        let body = Body { stage: Stage::Unborn(unread), alive: false, door, factory };
        Runner { body, on_panic, ordered, reporter, generation: 0, starting: None }
    }

    pub async fn run(mut self) {
        loop {
            match poll_fn(|cx| self.poll_next(cx)).await {
                Next::Ended(exit) => self.report(exit),
                Next::Ordered(Some(Order::Start { generation, done })) => self.start(generation, done),
                Next::Ordered(Some(Order::Halt { done })) => {
                    self.body.end_life(true);
                    done.send(());
                }
                Next::Ordered(Some(Order::Stop { done })) => return self.end(true, done),
                Next::Ordered(Some(Order::Kill { done })) => return self.end(false, done),
                // The supervisor's own task was dropped: so is this one.
                Next::Ordered(None) => return self.reporter.settle(),
            }
        }
    }

    /// Orders come first: an actor that is always busy must still be stopped.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if let Poll::Ready(order) = self.ordered.poll_recv(cx) {
            return Poll::Ready(Next::Ordered(order));
        }
        let life = self.body.poll_life(cx);
        if let Some(done) = self.starting.take() {
            done.send(());
        }
        life.map(Next::Ended)
    }

    fn start(&mut self, generation: u64, done: Reply<()>) {
        self.generation = generation;
        if generation > 1 {
            self.body.door.stats().count_restart();
        }
        match self.body.begin_life() {
            Ok(()) => self.starting = Some(done),
            Err(exit) => {
                self.report(exit);
                done.send(());
            }
        }
    }

    fn report(&mut self, exit: Exit) {
        let exit = match (self.on_panic, exit) {
            (OnPanic::Fence, exit @ (Exit::Panicked(_) | Exit::Stopped)) => {
                Exit::Over(Escalation::Fenced { path: Arc::clone(self.body.door.path()), cause: exit.to_string() })
            }
            (_, exit) => exit,
        };
        self.reporter.report(self.generation, exit);
    }

    fn end(mut self, hooks: bool, done: Reply<()>) {
        self.body.end_life(hooks);
        self.body.close();
        self.reporter.settle();
        done.send(());
    }
}

/// A mailbox that no actor reads yet. Dropped, it is closed, and what it held is counted out.
pub(crate) struct Unread<A: Actor<Context = KulaContext<A>>> {
    receiver: Option<AddressReceiver<A>>,
    door: Door<A>,
}

impl<A: Actor<Context = KulaContext<A>>> Unread<A> {
    pub fn new(receiver: AddressReceiver<A>, door: Door<A>) -> Self {
        Unread { receiver: Some(receiver), door }
    }

    fn open(mut self) -> Option<Mailbox<A>> {
        self.receiver.take().map(Mailbox::new)
    }
}

impl<A: Actor<Context = KulaContext<A>>> Drop for Unread<A> {
    fn drop(&mut self) {
        if let Some(receiver) = self.receiver.take() {
            close(&self.door, || drop(receiver));
        }
    }
}

/// Closes a door by dropping its mailbox; what was queued is discarded: asks get `Closed`, replies `Lost`.
fn close<A: Actor<Context = KulaContext<A>>>(door: &Door<A>, drop_mailbox: impl FnOnce()) {
    let discarded = stats::discarded_by(|| drop(catch_unwind(AssertUnwindSafe(drop_mailbox))));
    door.stats().leave(discarded);
    door.stats().close();
}

/// The actor's flesh: its mailbox and, while a generation lives, the actor.
struct Body<A: Actor<Context = KulaContext<A>>> {
    stage: Stage<A>,
    alive: bool,
    door: Door<A>,
    factory: Factory<A>,
}

enum Stage<A: Actor<Context = KulaContext<A>>> {
    /// The factory has not yet succeeded.
    Unborn(Unread<A>),
    Born(Pin<Box<ContextFut<A, KulaContext<A>>>>),
    Closed,
}

impl<A: Actor<Context = KulaContext<A>> + Supervised> Body<A> {
    /// A fresh actor before the mailbox. The old one, and every reply it held, is dropped here.
    fn begin_life(&mut self) -> Result<(), Exit> {
        assert!(!self.alive, "{:?}: one generation at a time", self.door);
        match std::mem::replace(&mut self.stage, Stage::Closed) {
            Stage::Unborn(unread) => match catch_unwind(AssertUnwindSafe(|| (self.factory)())) {
                Ok(actor) => {
                    let Some(mailbox) = unread.open() else { unreachable!("only its drop empties it") };
                    let context = KulaContext::new(&mailbox, self.door.clone(), Arc::clone(&self.factory));
                    self.stage = Stage::Born(Box::pin(ContextFut::new(context, actor, mailbox)));
                }
                Err(panic) => {
                    self.stage = Stage::Unborn(unread);
                    return Err(Exit::Panicked(message_of(&*panic)));
                }
            },
            Stage::Born(mut life) => {
                life.ctx().forget_generation();
                let restarted = catch_unwind(AssertUnwindSafe(|| life.restart()));
                if restarted.is_err() {
                    life.ctx().terminate();
                }
                self.stage = Stage::Born(life);
                // It can only say no when no door is left, and the runner holds one.
                let restarted = restarted.map_err(|panic| Exit::Panicked(message_of(&*panic)))?;
                assert!(restarted, "{:?}: a mailbox with a door refused to restart", self.door);
            }
            Stage::Closed => unreachable!("{:?}: started after its end", self.door),
        }
        self.alive = true;
        Ok(())
    }
}

impl<A: Actor<Context = KulaContext<A>>> Body<A> {
    /// One turn of the actor: at most `limits::HANDLED_PER_POLL` messages, then its futures.
    fn poll_life(&mut self, cx: &mut Context<'_>) -> Poll<Exit> {
        let Stage::Born(life) = &mut self.stage else { return Poll::Pending };
        if !self.alive {
            return Poll::Pending;
        }
        let stats = self.door.stats();
        let began = stats.poll_begins();
        let outcome = catch_unwind(AssertUnwindSafe(|| life.as_mut().poll(cx)));
        stats.poll_ends(began);
        let more = life.ctx().refill();
        let exit = match outcome {
            Ok(Poll::Pending) => {
                if more {
                    cx.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
            Ok(Poll::Ready(())) => life.ctx().take_fence().map_or(Exit::Stopped, |cause| {
                Exit::Over(Escalation::Fenced { path: Arc::clone(self.door.path()), cause })
            }),
            Err(panic) => Exit::Panicked(message_of(&*panic)),
        };
        self.alive = false;
        // Without this, dropping it would run the stop hooks of an actor that panicked.
        life.ctx().terminate();
        Poll::Ready(exit)
    }

    /// Ends the generation, if one lives.
    fn end_life(&mut self, hooks: bool) {
        let Stage::Born(life) = &mut self.stage else { return };
        if self.alive && hooks {
            life.ctx().stop();
            let mut cx = Context::from_waker(Waker::noop());
            // A hook that panics has stopped as well as it can, and `stopping` may not say no.
            drop(catch_unwind(AssertUnwindSafe(|| life.as_mut().poll(&mut cx).is_ready())));
        }
        life.ctx().terminate();
        self.alive = false;
    }

    fn close(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Closed) {
            Stage::Unborn(unread) => drop(unread),
            Stage::Born(life) => close(&self.door, || drop(life)),
            Stage::Closed => {}
        }
    }
}

impl<A: Actor<Context = KulaContext<A>>> Drop for Body<A> {
    fn drop(&mut self) {
        self.end_life(false);
        self.close();
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}
