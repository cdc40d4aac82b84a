//! The test actor, the trees it stands in, and the two kinds of runtime.

use actix::prelude::*;
use kula_actor::{
    Backoff, ChildSpec, Door, Escalation, Intensity, KulaContext, MailboxConfig, OnPanic, Place, Registry, Strategy,
    Supervisor, child, supervised,
};
use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::oneshot,
    task::{JoinHandle, LocalSet, spawn_local},
};

/// What happened, in order.
#[derive(Clone, Default)]
pub struct Story(Arc<Mutex<Vec<String>>>);

impl Story {
    pub fn tell(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// Adds up what it is told.
pub struct Worker {
    name: String,
    story: Story,
    pub sum: u64,
    batches: Vec<u64>,
    since_batch: u64,
}

impl Worker {
    pub fn new(name: &str, story: &Story) -> Self {
        Worker { name: name.into(), story: story.clone(), sum: 0, batches: Vec::new(), since_batch: 0 }
    }
}

impl Actor for Worker {
    type Context = KulaContext<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.story.tell(format!("{} started", self.name));
    }

    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        self.story.tell(format!("{} stopping", self.name));
        if self.name == "stubborn" { Running::Continue } else { Running::Stop }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.story.tell(format!("{} stopped", self.name));
    }
}

supervised!(Worker);

#[derive(Message)]
#[rtype(result = "u64")]
pub struct Add(pub u64);

#[derive(Message)]
#[rtype(result = "()")]
pub struct Poison;

#[derive(Message)]
#[rtype(result = "()")]
pub struct Fence(pub &'static str);

/// Adds one, and wants the end of the batch.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Batch;

/// The sizes of the batches so far.
#[derive(Message)]
#[rtype(result = "Vec<u64>")]
pub struct Batches;

/// Stops itself.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Quit;

/// Writes a line when it is handled.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub struct Say(pub &'static str);

impl Handler<Add> for Worker {
    type Result = u64;

    fn handle(&mut self, add: Add, _: &mut Self::Context) -> u64 {
        self.sum += add.0;
        self.sum
    }
}

impl Handler<Poison> for Worker {
    type Result = ();

    fn handle(&mut self, _: Poison, _: &mut Self::Context) {
        panic!("poisoned at {}", self.sum);
    }
}

impl Handler<Fence> for Worker {
    type Result = ();

    fn handle(&mut self, fence: Fence, ctx: &mut Self::Context) {
        ctx.fence(fence.0);
    }
}

impl Handler<Batch> for Worker {
    type Result = ();

    fn handle(&mut self, _: Batch, ctx: &mut Self::Context) {
        self.since_batch += 1;
        ctx.after_drain(|worker, _| worker.batches.push(std::mem::take(&mut worker.since_batch)));
    }
}

impl Handler<Batches> for Worker {
    type Result = Vec<u64>;

    fn handle(&mut self, _: Batches, _: &mut Self::Context) -> Vec<u64> {
        self.batches.clone()
    }
}

impl Handler<Quit> for Worker {
    type Result = ();

    fn handle(&mut self, _: Quit, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// actix's own address, which bypasses door and meter.
#[derive(Message)]
#[rtype(result = "Addr<Worker>")]
pub struct Address;

impl Handler<Address> for Worker {
    type Result = Addr<Worker>;

    fn handle(&mut self, _: Address, ctx: &mut Self::Context) -> Addr<Worker> {
        ctx.address()
    }
}

impl Handler<Say> for Worker {
    type Result = ();

    fn handle(&mut self, say: Say, _: &mut Self::Context) {
        self.story.tell(format!("{} {}", self.name, say.0));
    }
}

pub const CAP: MailboxConfig = MailboxConfig { cap: 1_000 };

/// A worker that is restarted, on this thread.
pub fn worker(registry: &Registry, name: &str, story: &Story) -> (Door<Worker>, ChildSpec) {
    worker_at(registry, name, story, OnPanic::Restart, Place::Local)
}

pub fn worker_at(
    registry: &Registry,
    name: &str,
    story: &Story,
    on_panic: OnPanic,
    place: Place,
) -> (Door<Worker>, ChildSpec) {
    let (name_of_it, story) = (name.to_owned(), story.clone());
    child(registry, name, CAP, on_panic, place, move || Worker::new(&name_of_it, &story))
}

pub fn silent() -> slog::Logger {
    slog::Logger::root(slog::Discard, slog::o!())
}

/// Three failures in 5 s are answered, after 10 ms, 20 ms, 40 ms.
pub fn supervisor(path: &str, strategy: Strategy) -> Supervisor {
    let intensity = Intensity { max: 3, within: Duration::from_secs(5) };
    let backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
    Supervisor::new(path, strategy, intensity, backoff, silent())
}

/// A running tree.
pub struct Tree {
    stop: oneshot::Sender<()>,
    outcome: JoinHandle<Result<(), Escalation>>,
}

impl Tree {
    pub fn run(supervisor: Supervisor) -> Tree {
        let (stop, stopped) = oneshot::channel();
        Tree { stop, outcome: spawn_local(supervisor.run(stopped)) }
    }

    /// An ordered shutdown.
    pub async fn stop(self) -> Result<(), Escalation> {
        self.stop.send(()).unwrap();
        self.outcome.await.unwrap()
    }

    /// It ends by itself.
    pub async fn ended(self) -> Result<(), Escalation> {
        let outcome = self.outcome.await.unwrap();
        drop(self.stop);
        outcome
    }
}

/// Runs on this thread alone, on a paused clock.
pub fn paused<F: Future>(future: F) -> F::Output {
    quiet();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, future)
}

/// Runs in an actix system, where arbiters can be made, on the real clock.
pub fn in_system<F: Future>(future: F) -> F::Output {
    quiet();
    System::new().block_on(future)
}

/// Keeps the panics that tests plan off the screen. Others of this binary's threads are shown.
fn quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let show = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let planned = panic.payload().downcast_ref::<String>().is_some_and(|text| text.starts_with("poisoned"));
            if !planned {
                show(panic);
            }
        }));
    });
}

pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(200)).await;
}
