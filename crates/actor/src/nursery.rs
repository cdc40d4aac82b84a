//! `Nursery`: a supervisor whose children come and go while it runs: a link for each peer, a session for each connection.
//!
//! It is a child of a `Supervisor`, which starts and stops it like an actor. Its children face the outer world, so their
//! failures never end the node: one that restarts waits longer each time, one that passes is let go. A fence passes
//! through to the root as everywhere. Bounded: `cap` children, and its orders are one start and one stop for each.

use crate::{
    child::{ChildSpec, Escalation, Exit, OnPanic, Order, Orders, Report, Reporter},
    limits,
    reply::{Pending, Reply},
    restart::Backoff,
};
use slog::{Logger, debug, warn};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

/// Why a nursery did not take a child. The child was not started; its door is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NurseryError {
    #[error("{path} has {cap} children already")]
    Full { path: Arc<str>, cap: usize },
    #[error("{path} is closed")]
    Closed { path: Arc<str> },
}

/// A nursery that does not run yet.
pub struct Nursery {
    path: Arc<str>,
    backoff: Backoff,
    log: Logger,
    wishes: mpsc::UnboundedReceiver<Wish>,
    count: Arc<AtomicUsize>,
}

/// The way to a nursery, from any thread. A child given before the nursery runs is started with it.
#[derive(Clone)]
pub struct NurseryDoor {
    path: Arc<str>,
    cap: usize,
    wishes: mpsc::UnboundedSender<Wish>,
    /// Children that were let in and have not left.
    count: Arc<AtomicUsize>,
}

enum Wish {
    Start(ChildSpec),
    Stop(Arc<str>),
}

impl NurseryDoor {
    /// Launches a child on the nursery's thread, or in the place it was made for.
    pub fn start(&self, child: ChildSpec) -> Result<(), NurseryError> {
        let room = self.count.fetch_update(Relaxed, Relaxed, |count| (count < self.cap).then_some(count + 1));
        if room.is_err() {
            return Err(NurseryError::Full { path: Arc::clone(&self.path), cap: self.cap });
        }
        self.wishes.send(Wish::Start(child)).map_err(|_| {
            self.count.fetch_sub(1, Relaxed);
            NurseryError::Closed { path: Arc::clone(&self.path) }
        })
    }

    /// Stops the child with this path, with its stop hooks. One that is not there needs no stop.
    pub fn stop(&self, path: &Arc<str>) {
        // A nursery that is gone has stopped it.
        drop(self.wishes.send(Wish::Stop(Arc::clone(path))));
    }

    /// How many children there are.
    pub fn count(&self) -> usize {
        self.count.load(Relaxed)
    }
}

impl Nursery {
    /// A nursery of at most `cap` children. A child that restarts waits as `backoff` says.
    pub fn new(path: &str, cap: usize, backoff: Backoff, log: Logger) -> (NurseryDoor, Nursery) {
        let path: Arc<str> = path.into();
        let (sender, wishes) = mpsc::unbounded_channel();
        let count = Arc::new(AtomicUsize::new(0));
        let door = NurseryDoor { path: Arc::clone(&path), cap, wishes: sender, count: Arc::clone(&count) };
        (door, Nursery { path, backoff, log, wishes, count })
    }

    /// To be added to a supervisor. Halted with its siblings, it stops its children for good: whoever wanted them is
    /// restarted too, and asks again.
    pub fn into_spec(self) -> ChildSpec {
        let path = Arc::clone(&self.path);
        let launch = move |reporter: Reporter| {
            let (orders, ordered) = mpsc::unbounded_channel();
            drop(tokio::task::spawn_local(Ward::new(self).serve(ordered, reporter)));
            orders
        };
        let stop_within = limits::STOP_WITHIN.saturating_mul(2);
        ChildSpec { path, on_panic: OnPanic::Restart, stop_within, drain: None, launch: Box::new(launch) }
    }
}

/// A running nursery.
struct Ward {
    path: Arc<str>,
    backoff: Backoff,
    log: Logger,
    wishes: mpsc::UnboundedReceiver<Wish>,
    count: Arc<AtomicUsize>,
    running: bool,
    members: BTreeMap<usize, Member>,
    next: usize,
    reports: mpsc::UnboundedReceiver<Report>,
    reporting: mpsc::UnboundedSender<Report>,
}

struct Member {
    path: Arc<str>,
    passing: bool,
    orders: Orders,
    generation: u64,
    began: Instant,
    /// In a row, each within `limits::RESTARTS_WITHIN` of its start.
    failures: usize,
    due: Option<Instant>,
}

impl Ward {
    fn new(nursery: Nursery) -> Ward {
        let Nursery { path, backoff, log, wishes, count } = nursery;
        let (reporting, reports) = mpsc::unbounded_channel();
        Ward {
            path,
            backoff,
            log,
            wishes,
            count,
            running: false,
            members: BTreeMap::new(),
            next: 0,
            reports,
            reporting,
        }
    }

    async fn serve(mut self, mut ordered: mpsc::UnboundedReceiver<Order>, mut reporter: Reporter) {
        loop {
            let due = self.members.values().filter_map(|member| member.due).min();
            tokio::select! {
                biased;
                order = ordered.recv() => match order {
                    None => return reporter.settle(),
                    Some(Order::Start { done, .. }) => {
                        self.running = true;
                        done.send(());
                    }
                    Some(Order::Halt { done }) => {
                        self.running = false;
                        self.end(|done| Order::Stop { done }, limits::STOP_WITHIN).await;
                        done.send(());
                    }
                    Some(Order::Stop { done }) => {
                        self.end(|done| Order::Stop { done }, limits::STOP_WITHIN).await;
                        reporter.settle();
                        return done.send(());
                    }
                    Some(Order::Kill { done }) => {
                        self.end(|done| Order::Kill { done }, limits::KILL_WITHIN).await;
                        reporter.settle();
                        return done.send(());
                    }
                },
                Some(report) = self.reports.recv() => {
                    if let Some(escalation) = self.judge(report) {
                        reporter.report(0, Exit::Over(escalation));
                    }
                }
                Some(wish) = self.wishes.recv(), if self.running => self.grant(wish),
                () = at(due) => self.restart_due(),
            }
        }
    }

    fn grant(&mut self, wish: Wish) {
        match wish {
            Wish::Start(child) => {
                let index = self.next;
                self.next += 1;
                let path = Arc::clone(&child.path);
                let reports = self.reporting.clone();
                let reporter = Reporter { child: index, path: Arc::clone(&path), reports, settled: false };
                let orders = (child.launch)(reporter);
                let passing = child.on_panic == OnPanic::End;
                let member =
                    Member { path, passing, orders, generation: 0, began: Instant::now(), failures: 0, due: None };
                start(self.members.entry(index).or_insert(member));
            }
            Wish::Stop(path) => {
                let named = self.members.iter().find(|(_, member)| member.path == path);
                if let Some(index) = named.map(|(index, _)| *index) {
                    self.leave(index);
                }
            }
        }
    }

    /// Decides about a report; what it returns is for the root.
    fn judge(&mut self, report: Report) -> Option<Escalation> {
        let Report { child, generation, exit } = report;
        if let Exit::Over(escalation) = exit {
            return Some(escalation);
        }
        let member = self.members.get_mut(&child).filter(|member| member.generation == generation)?;
        let path = member.path.as_ref();
        if member.passing {
            match exit {
                Exit::Stopped => debug!(self.log, "has ended"; "actor" => path, "event" => "actor_ended"),
                _ => warn!(self.log, "has ended"; "actor" => path, "event" => "actor_failed", "cause" => %exit),
            }
            self.leave(child);
            return None;
        }
        let lasted = member.began.elapsed() > limits::RESTARTS_WITHIN;
        member.failures = if lasted { 1 } else { member.failures + 1 };
        let delay = self.backoff.delay(member.failures);
        warn!(self.log, "restarting";
            "actor" => path, "event" => "actor_failed", "cause" => %exit, "failures" => member.failures,
            "delay_ms" => u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        member.due = Some(Instant::now() + delay);
        None
    }

    fn restart_due(&mut self) {
        let now = Instant::now();
        self.members.values_mut().filter(|member| member.due.is_some_and(|due| due <= now)).for_each(start);
    }

    /// Closes a child. Its runner obeys behind whatever it is doing now.
    fn leave(&mut self, index: usize) {
        if let Some(member) = self.members.remove(&index) {
            drop(member.orders.send(Order::Stop { done: Reply::ignored() }));
            self.count.fetch_sub(1, Relaxed);
        }
    }

    /// Ends all children, latest first, all at once, and waits for them within `cap`.
    async fn end(&mut self, order: impl Fn(Reply<()>) -> Order, cap: std::time::Duration) {
        let members = std::mem::take(&mut self.members);
        self.count.fetch_sub(members.len(), Relaxed);
        let ending: Vec<Pending<()>> = members
            .values()
            .rev()
            .map(|member| {
                let (done, wait) = Reply::pair();
                drop(member.orders.send(order(done)));
                wait
            })
            .collect();
        if timeout(cap, futures::future::join_all(ending)).await.is_err() {
            warn!(self.log, "some children did not end in time; they are left behind";
                "actor" => self.path.as_ref(), "event" => "actor_late");
        }
    }
}

/// Orders a fresh generation; nobody waits for it to be up.
fn start(member: &mut Member) {
    member.generation += 1;
    member.due = None;
    member.began = Instant::now();
    drop(member.orders.send(Order::Start { generation: member.generation, done: Reply::ignored() }));
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

impl fmt::Debug for NurseryDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NurseryDoor({}, {} of {})", self.path, self.count(), self.cap)
    }
}
