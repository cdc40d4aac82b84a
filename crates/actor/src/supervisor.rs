//! `Supervisor`: starts its children in order, restarts those that fail, stops them in reverse order, gives up when it
//! no longer helps. The async half; `restart.rs` decides.
//!
//! Children are actors or supervisors; both obey the same orders (`child.rs`). A nested supervisor that gives up halts
//! its children with their mailboxes, so a restart by its parent finds the same doors. A fence passes every level at
//! once, without waiting for a restart or a start that is under way.

use crate::{
    child::{ChildSpec, DrainHook, Escalation, Exit, OnPanic, Order, Orders, Report, Reporter},
    config::Intensity,
    limits,
    reply::{Pending, Reply},
    restart::{Backoff, Step, Strategy, Verdict, Ward},
};
use futures::FutureExt;
use slog::{Logger, crit, debug, error, warn};
use std::{
    future::{Future, pending},
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout, timeout_at},
};

/// A supervisor that does not run yet.
pub struct Supervisor {
    path: Arc<str>,
    strategy: Strategy,
    intensity: Intensity,
    backoff: Backoff,
    children: Vec<ChildSpec>,
    log: Logger,
}

impl Supervisor {
    pub fn new(path: &str, strategy: Strategy, intensity: Intensity, backoff: Backoff, log: Logger) -> Self {
        Supervisor { path: path.into(), strategy, intensity, backoff, children: Vec::new(), log }
    }

    /// Adds a child; children start in the order they are added and stop in reverse.
    ///
    /// A child that fences, or a supervisor that holds one, is never restarted, so it may not stand where a sibling's failure would restart it: anywhere
    /// under `OneForAll` beside a child that restarts, or after one under `RestForOne`.
    pub fn add(&mut self, child: ChildSpec) {
        assert!(child.on_panic != OnPanic::End, "{}: a child that ends for good stands in a nursery", child.path);
        self.children.push(child);
        let restarts = |child: &ChildSpec| child.on_panic == OnPanic::Restart;
        let fences = |child: &ChildSpec| child.on_panic == OnPanic::Fence;
        let torn = match self.strategy {
            Strategy::OneForOne => false,
            Strategy::OneForAll => self.children.iter().any(restarts) && self.children.iter().any(fences),
            Strategy::RestForOne => self.children.iter().skip_while(|child| fences(child)).any(fences),
        };
        assert!(!torn, "{}: a child that fences would be restarted with its siblings", self.path);
    }

    /// Adds a supervisor as a child. It runs on this supervisor's thread. If it gives up it is restarted with all its
    /// children, behind the same doors; if one of them fences, it cannot be, and the tree ends in order.
    pub fn nest(&mut self, child: Supervisor) {
        let path = Arc::clone(&child.path);
        let fences = child.children.iter().any(|child| child.on_panic == OnPanic::Fence);
        let on_panic = if fences { OnPanic::Fence } else { OnPanic::Restart };
        let launch = move |reporter: Reporter| {
            let (orders, ordered) = mpsc::unbounded_channel();
            drop(tokio::task::spawn_local(Crew::launch(child).serve(ordered, reporter)));
            orders
        };
        // Its children bring their own caps; a cap on the whole would cut them short.
        let stop_within = limits::STOP_WITHIN.saturating_mul(64);
        let launch = Box::new(launch);
        self.add(ChildSpec { path, on_panic, stop_within, drain: None, launch });
    }

    /// Runs the tree on this thread, in a `LocalSet` or an actix `System`. `Ok`: `stop` came and the shutdown was ordered.
    /// `Err`: the tree gave up; after a fence its actors were ended at once, otherwise in order. In both cases every door
    /// of the tree is closed, except those of children that did not obey within their cap.
    pub async fn run(self, stop: impl Future) -> Result<(), Escalation> {
        let mut crew = Crew::launch(self);
        let mut stop = pin!(stop);
        let outcome = match crew.work(stop.as_mut(), None).await {
            Ok(_) => crew.stop().await,
            Err(escalation) if escalation.may_restart() => {
                // Nobody above can restart: the acks that are due go out, then the node ends.
                crew.stop().await.and(Err(escalation))
            }
            Err(escalation) => Err(escalation),
        };
        if let Err(escalation) = &outcome {
            match escalation {
                Escalation::Fenced { path, cause } => crit!(crew.log, "fenced: the node ends";
                    "actor" => path.as_ref(), "event" => "fenced", "cause" => cause),
                Escalation::Intensity { .. } | Escalation::Lost { .. } => crit!(crew.log, "gave up: the node ends";
                    "actor" => escalation.path().as_ref(), "event" => "gave_up", "cause" => escalation.cause()),
            }
            if !escalation.may_restart() {
                crew.kill().await;
            }
        }
        outcome
    }
}

/// A running supervisor.
struct Crew {
    path: Arc<str>,
    intensity: Intensity,
    backoff: Backoff,
    log: Logger,
    members: Vec<Member>,
    ward: Ward,
    /// A child beside data is among them: they cannot be restarted together.
    fences: bool,
    reports: mpsc::UnboundedReceiver<Report>,
    began: Instant,
}

/// A launched child.
struct Member {
    path: Arc<str>,
    orders: Orders,
    generation: u64,
    stop_within: std::time::Duration,
    drain: Option<DrainHook>,
}

/// A step under way.
struct Underway {
    child: usize,
    done: Pending<()>,
    until: Instant,
}

impl Crew {
    /// Puts every child in its place, parked.
    fn launch(supervisor: Supervisor) -> Crew {
        let (sender, reports) = mpsc::unbounded_channel();
        let Supervisor { path, strategy, intensity, backoff, children, log } = supervisor;
        let fences = children.iter().any(|child| child.on_panic == OnPanic::Fence);
        let members = children.into_iter().enumerate().map(|(child, spec)| {
            let reporter = Reporter { child, path: Arc::clone(&spec.path), reports: sender.clone(), settled: false };
            let orders = (spec.launch)(reporter);
            Member { path: spec.path, orders, generation: 0, stop_within: spec.stop_within, drain: spec.drain }
        });
        let members: Vec<Member> = members.collect();
        let ward = Ward::new(strategy, intensity, members.len());
        Crew { path, intensity, backoff, log, members, ward, fences, reports, began: Instant::now() }
    }

    /// Starts the children in order and minds them until `interrupt` is ready or something has to be escalated. `up` is
    /// answered when all have been started.
    async fn work<I: Future + Unpin>(
        &mut self,
        mut interrupt: I,
        mut up: Option<Reply<()>>,
    ) -> Result<I::Output, Escalation> {
        let mut steps = self.ward.start_steps();
        let mut underway: Option<Underway> = None;
        loop {
            if underway.is_none() {
                underway = steps.pop_front().map(|step| self.take_step(step));
            }
            if underway.is_none()
                && let Some(up) = up.take()
            {
                up.send(());
            }
            let due = self.ward.due().filter(|_| underway.is_none()).map(|due| self.began + due);
            tokio::select! {
                biased;
                interrupted = &mut interrupt => return Ok(interrupted),
                report = next_report(&mut self.reports) => self.judge(report)?,
                obeyed = obeyed(&mut underway) => self.step_taken(obeyed, &mut underway),
                () = until(due) => steps = self.ward.restart_steps(),
            }
        }
    }

    /// Orders a step of a start or restart.
    fn take_step(&mut self, step: Step) -> Underway {
        let (done, wait) = Reply::pair();
        let (child, order, within) = match step {
            Step::Start(child) => {
                let member = &mut self.members[child];
                member.generation += 1;
                self.ward.began(child);
                (child, Order::Start { generation: member.generation, done }, limits::START_WITHIN)
            }
            Step::Halt(child) => {
                self.ward.halted(child);
                (child, Order::Halt { done }, self.members[child].stop_within)
            }
        };
        send(&self.members[child].orders, order);
        Underway { child, done: wait, until: Instant::now() + within }
    }

    fn step_taken(&self, in_time: bool, underway: &mut Option<Underway>) {
        if let Some(step) = underway.take()
            && !in_time
        {
            let path = self.members[step.child].path.as_ref();
            warn!(self.log, "does not obey its supervisor, which goes on without it";
                "actor" => path, "event" => "actor_late");
        }
    }

    /// Decides about a report; an error is to be escalated.
    fn judge(&mut self, report: Report) -> Result<(), Escalation> {
        let Report { child, generation, exit } = report;
        let member = &self.members[child];
        let current = generation == member.generation && self.ward.stands(child);
        match exit {
            Exit::Over(escalation) => Err(escalation),
            // Of a generation that was halted or replaced meanwhile.
            Exit::Panicked(_) | Exit::Stopped | Exit::GaveUp(_) if !current => Ok(()),
            Exit::Panicked(_) | Exit::Stopped | Exit::GaveUp(_) => {
                let path = Arc::clone(&member.path);
                let Intensity { max, within } = self.intensity;
                match self.ward.failed(self.began.elapsed(), child, &self.backoff) {
                    Verdict::Restart { failures, at } => {
                        let delay = at.saturating_sub(self.began.elapsed());
                        warn!(self.log, "restarting";
                            "actor" => path.as_ref(), "event" => "actor_failed", "cause" => %exit,
                            "failures" => failures, "failures_max" => max,
                            "delay_ms" => u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
                        Ok(())
                    }
                    Verdict::GiveUp => {
                        error!(self.log, "not restarted: it failed too often";
                            "actor" => path.as_ref(), "event" => "escalated", "cause" => %exit,
                            "failures_max" => max, "within_s" => within.as_secs());
                        let cause = format!("{path} {exit}");
                        Err(Escalation::Intensity { path: Arc::clone(&self.path), max, within, cause })
                    }
                }
            }
        }
    }

    /// Ordered shutdown: in reverse order, each child drained and stopped within its cap. An error is a fence that a
    /// drain brought to light; the rest is not stopped then.
    async fn stop(&mut self) -> Result<(), Escalation> {
        for child in (0..self.members.len()).rev() {
            let stands = self.ward.stands(child);
            self.ward.halted(child);
            let Crew { members, reports, log, .. } = self;
            let one = stop_member(&mut members[child], stands, log);
            tokio::select! {
                biased;
                escalation = next_escalation(reports) => return Err(escalation),
                () = one => {}
            }
        }
        // A child reports before it answers: a fence of the last one is already here.
        next_escalation(&mut self.reports).now_or_never().map_or(Ok(()), Err)
    }

    /// Halts every child that stands, in reverse order; mailboxes stay.
    async fn halt(&mut self) {
        for child in (0..self.members.len()).rev() {
            if self.ward.stands(child) {
                let mut step = Some(self.take_step(Step::Halt(child)));
                let in_time = obeyed(&mut step).await;
                self.step_taken(in_time, &mut step);
            }
        }
    }

    /// Ends every child at once, without hooks.
    async fn kill(&mut self) {
        let order = |member: &Member| {
            let (done, wait) = Reply::pair();
            send(&member.orders, Order::Kill { done });
            wait
        };
        let silent: Vec<_> = self.members.iter().rev().map(order).collect();
        if timeout(limits::KILL_WITHIN, futures::future::join_all(silent)).await.is_err() {
            warn!(self.log, "some actors are still busy; ending without them";
                "actor" => self.path.as_ref(), "event" => "actor_late");
        }
    }

    /// Runs as a nested supervisor, by its parent's orders.
    async fn serve(mut self, mut ordered: mpsc::UnboundedReceiver<Order>, mut reporter: Reporter) {
        let mut order = None;
        loop {
            let next = match order.take() {
                Some(next) => next,
                None => tokio::select! {
                    biased;
                    next = ordered.recv() => next,
                    // Parked children are silent, but one's thread may end.
                    escalation = next_escalation(&mut self.reports) => { reporter.report(0, Exit::Over(escalation)); continue }
                },
            };
            match next {
                // The parent's own task was dropped: dropping the orders ends the children likewise.
                None => return reporter.settle(),
                Some(Order::Start { generation, done }) => {
                    match self.work(Box::pin(ordered.recv()), Some(done)).await {
                        Ok(interrupted) => order = Some(interrupted),
                        Err(escalation) if escalation.may_restart() && !self.fences => {
                            self.halt().await;
                            reporter.report(generation, Exit::GaveUp(escalation));
                        }
                        // The others stand until the root stops the tree in order.
                        Err(escalation) if escalation.may_restart() => {
                            reporter.report(generation, Exit::Over(escalation));
                        }
                        Err(escalation) => {
                            reporter.report(generation, Exit::Over(escalation));
                            self.kill().await;
                        }
                    }
                }
                Some(Order::Halt { done }) => {
                    self.halt().await;
                    done.send(());
                }
                Some(Order::Stop { done }) => {
                    if let Err(escalation) = self.stop().await {
                        reporter.report(0, Exit::Over(escalation));
                        self.kill().await;
                    }
                    reporter.settle();
                    return done.send(());
                }
                Some(Order::Kill { done }) => {
                    self.kill().await;
                    reporter.settle();
                    return done.send(());
                }
            }
        }
    }
}

/// Drains and stops one child within its cap.
async fn stop_member(member: &mut Member, stands: bool, log: &Logger) {
    let path = member.path.as_ref();
    let until = Instant::now() + member.stop_within;
    if let Some(drain) = member.drain.take().filter(|_| stands) {
        match timeout_at(until, AssertUnwindSafe(drain()).catch_unwind()).await {
            Ok(Ok(())) => debug!(log, "drained"; "actor" => path, "event" => "actor_drained"),
            Ok(Err(_)) => error!(log, "its drain panicked"; "actor" => path, "event" => "actor_late"),
            Err(_) => warn!(log, "was not drained in time"; "actor" => path, "event" => "actor_late"),
        }
    }
    let (done, wait) = Reply::pair();
    send(&member.orders, Order::Stop { done });
    // A drain that used up the time leaves the stop this much, or it would never be given a chance.
    let until = until.max(Instant::now() + limits::KILL_WITHIN);
    if timeout_at(until, wait).await.is_err() {
        warn!(log, "did not stop in time; it is left behind"; "actor" => path, "event" => "actor_late");
    }
}

/// A child that is gone reported so, or was told to go.
fn send(orders: &Orders, order: Order) {
    drop(orders.send(order));
}

/// The next report. Pending for ever once all children are gone, which each has reported.
async fn next_report(reports: &mut mpsc::UnboundedReceiver<Report>) -> Report {
    match reports.recv().await {
        Some(report) => report,
        None => pending().await,
    }
}

/// The next report that cannot be answered with a restart.
async fn next_escalation(reports: &mut mpsc::UnboundedReceiver<Report>) -> Escalation {
    loop {
        if let Exit::Over(escalation) = next_report(reports).await.exit {
            return escalation;
        }
    }
}

/// Whether the step under way was obeyed in time. Pending for ever if there is none.
async fn obeyed(underway: &mut Option<Underway>) -> bool {
    match underway {
        Some(step) => timeout_at(step.until, &mut step.done).await.is_ok(),
        None => pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}
