//! A child of a supervisor: what it is made of, and what it and its supervisor say to each other.
//!
//! The talk is bounded by its own rules, so its channels need no bound of their own. A supervisor has one order under way
//! with a child, plus at most the final one; a child reports once a generation, and once more if it is lost.

use crate::{
    config::MailboxConfig,
    context::{Factory, KulaContext},
    door::Door,
    limits,
    place::Place,
    registry::Registry,
    reply::Reply,
    runner::{Runner, Unread},
    stats::Stats,
};
use actix::{
    dev::channel,
    prelude::{Actor, Supervised},
};
use futures::future::LocalBoxFuture;
use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::mpsc;

/// What a panic of the actor, or its stopping by itself, means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPanic {
    /// A fresh actor from the factory answers what is queued. For actors whose state is a cache or a session.
    Restart,
    /// The node is fenced: nothing beside data may go on from an unknown state.
    Fence,
    /// It ends and is not missed; so it does when it stops by itself. Only in a `Nursery`: a conversation whose other
    /// side has to begin anew.
    End,
}

/// Why a tree gave up. Every door of the tree is closed when `Supervisor::run` returns it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Escalation {
    /// Children of the supervisor at `path` failed more often than its intensity allows; `cause` is the last failure.
    #[error("{path}: restarts used up ({max} within {within:?}); the last failure: {cause}")]
    Intensity { path: Arc<str>, max: u32, within: Duration, cause: String },
    /// The actor at `path` fenced the node, or panicked beside data.
    #[error("{path} fenced the node: {cause}")]
    Fenced { path: Arc<str>, cause: String },
    /// The thread that the actor at `path` ran on is gone.
    #[error("{path} is lost: its thread has ended")]
    Lost { path: Arc<str> },
}

impl Escalation {
    /// The actor or supervisor it began with.
    pub fn path(&self) -> &Arc<str> {
        match self {
            Escalation::Intensity { path, .. } | Escalation::Fenced { path, .. } | Escalation::Lost { path } => path,
        }
    }

    /// What was seen to go wrong.
    pub fn cause(&self) -> &str {
        match self {
            Escalation::Intensity { cause, .. } | Escalation::Fenced { cause, .. } => cause,
            Escalation::Lost { .. } => "its thread has ended",
        }
    }

    /// A parent supervisor may answer with a restart.
    pub(crate) fn may_restart(&self) -> bool {
        matches!(self, Escalation::Intensity { .. })
    }
}

/// How a generation of a child ended.
#[derive(Clone, Debug)]
pub(crate) enum Exit {
    Panicked(String),
    /// The actor stopped itself. Only its supervisor should, so this counts as a failure.
    Stopped,
    /// A nested supervisor gave up, in a way that its parent may answer with a restart.
    GaveUp(Escalation),
    /// Nothing below the root may answer this.
    Over(Escalation),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Panicked(message) => write!(f, "panicked: {message}"),
            Exit::Stopped => f.write_str("stopped by itself"),
            Exit::GaveUp(escalation) | Exit::Over(escalation) => write!(f, "{escalation}"),
        }
    }
}

/// What a supervisor tells a child. `done` is answered when it has been obeyed; dropped, the child is gone.
pub(crate) enum Order {
    /// Run a fresh generation; `done` when it is up, or has already failed.
    Start { generation: u64, done: Reply<()> },
    /// End this generation with its stop hooks; keep the mailbox for the next.
    Halt { done: Reply<()> },
    /// End for good, with stop hooks.
    Stop { done: Reply<()> },
    /// End for good, at once, without any hook.
    Kill { done: Reply<()> },
}

/// What a child tells its supervisor.
pub(crate) struct Report {
    pub child: usize,
    pub generation: u64,
    pub exit: Exit,
}

/// The way of reports. Dropped before it was settled, it reports the child as lost: its thread is gone.
pub(crate) struct Reporter {
    pub child: usize,
    pub path: Arc<str>,
    pub reports: mpsc::UnboundedSender<Report>,
    pub settled: bool,
}

impl Reporter {
    pub fn report(&self, generation: u64, exit: Exit) {
        // A supervisor that is gone needs no report.
        drop(self.reports.send(Report { child: self.child, generation, exit }));
    }

    /// The child was told to end and has; there is nothing more to report.
    pub fn settle(&mut self) {
        self.settled = true;
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if !self.settled {
            self.report(0, Exit::Over(Escalation::Lost { path: Arc::clone(&self.path) }));
        }
    }
}

pub(crate) type Orders = mpsc::UnboundedSender<Order>;
pub(crate) type Launch = Box<dyn FnOnce(Reporter) -> Orders + Send>;
pub(crate) type DrainHook = Box<dyn FnOnce() -> LocalBoxFuture<'static, ()> + Send>;

/// A child to be given to a supervisor with `Supervisor::add`.
pub struct ChildSpec {
    pub(crate) path: Arc<str>,
    pub(crate) on_panic: OnPanic,
    pub(crate) stop_within: Duration,
    pub(crate) drain: Option<DrainHook>,
    pub(crate) launch: Launch,
}

impl ChildSpec {
    /// Runs `hook` before the child is stopped in an ordered shutdown, while everything started before it still runs:
    /// typically `move || async move { door.ask_forced(Drain).await … }`. Not run on a fence, nor for a child that is
    /// down. Bounded, with the stop, by `stop_within`.
    #[must_use]
    pub fn drain<F: Future<Output = ()> + 'static>(mut self, hook: impl FnOnce() -> F + Send + 'static) -> Self {
        self.drain = Some(Box::new(move || Box::pin(hook())));
        self
    }

    /// How long its drain and stop may take together; `limits::STOP_WITHIN` unless said.
    #[must_use]
    pub fn stop_within(mut self, cap: Duration) -> Self {
        self.stop_within = cap;
        self
    }

    /// Where it stands in the tree.
    pub fn path(&self) -> &Arc<str> {
        &self.path
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChildSpec({}, {:?})", self.path, self.on_panic)
    }
}

/// An actor child and its door. The door exists before the actor runs and survives every restart: what is queued, or is
/// sent while the actor is down, waits for the next generation. `factory` builds each generation, on the actor's thread.
pub fn child<A>(
    registry: &Registry,
    path: &str,
    mailbox: MailboxConfig,
    on_panic: OnPanic,
    place: Place,
    factory: impl Fn() -> A + Send + Sync + 'static,
) -> (Door<A>, ChildSpec)
where
    A: Actor<Context = KulaContext<A>> + Supervised,
{
    let stats = Arc::new(Stats::new(path, mailbox.cap));
    registry.register(Arc::clone(&stats));
    // 0 turns actix's own bound off; the door's is strict.
    let (sender, receiver) = channel::channel(0);
    let door = Door::new(sender, stats);
    let unread = Unread::new(receiver, door.clone());
    let factory: Factory<A> = Arc::new(factory);
    let launch = move |reporter: Reporter| {
        let (orders, ordered) = mpsc::unbounded_channel();
        // If the place is gone the closure is dropped, and the reporter in it reports the loss.
        place.spawn(move || Runner::new(unread, factory, on_panic, ordered, reporter).run());
        orders
    };
    let spec = ChildSpec {
        path: path.into(),
        on_panic,
        stop_within: limits::STOP_WITHIN,
        drain: None,
        launch: Box::new(launch),
    };
    (door, spec)
}

/// As `child`, for an actor that owns what exists once, such as an open log: it is built once and never restarted, so a
/// panic fences the node.
pub fn child_once<A>(
    registry: &Registry,
    path: &str,
    mailbox: MailboxConfig,
    place: Place,
    factory: impl FnOnce() -> A + Send + 'static,
) -> (Door<A>, ChildSpec)
where
    A: Actor<Context = KulaContext<A>> + Supervised,
{
    child(registry, path, mailbox, OnPanic::Fence, place, only_once(factory))
}

/// As `child`, for an actor of a `Nursery` that owns what exists once and may be lost, such as an accepted socket: its
/// end, by a panic or by its own will, is final.
pub fn child_passing<A>(
    registry: &Registry,
    path: &str,
    mailbox: MailboxConfig,
    place: Place,
    factory: impl FnOnce() -> A + Send + 'static,
) -> (Door<A>, ChildSpec)
where
    A: Actor<Context = KulaContext<A>> + Supervised,
{
    child(registry, path, mailbox, OnPanic::End, place, only_once(factory))
}

fn only_once<A>(factory: impl FnOnce() -> A + Send + 'static) -> impl Fn() -> A + Send + Sync + 'static {
    let factory = Mutex::new(Some(factory));
    move || {
        let factory = factory.lock().unwrap_or_else(PoisonError::into_inner).take();
        match factory {
            Some(factory) => factory(),
            None => unreachable!("an actor that fences or ends is built once: it is never restarted"),
        }
    }
}
