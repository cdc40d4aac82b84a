//! Who is restarted, when, and when a supervisor gives up: the pure half of supervision (after Erlang/OTP's `supervisor`).
//!
//! Time and dice are arguments. Bounded: it remembers `max` failures.

use crate::{config::Intensity, limits};
use std::{collections::BTreeSet, collections::VecDeque, fmt, sync::Arc, time::Duration};

/// Which siblings share the fate of a child that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// None.
    OneForOne,
    /// All.
    OneForAll,
    /// Those started after it.
    RestForOne,
}

/// How long to wait before a restart: it doubles with each failure in the window, from `first` to `max`.
#[derive(Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    jitter: f64,
    roll: Arc<dyn Fn() -> f64 + Send + Sync>,
}

impl Backoff {
    pub fn new(first: Duration, max: Duration) -> Self {
        Backoff { first, max, jitter: 0.0, roll: Arc::new(|| 0.0) }
    }

    /// Shortens each wait by a random part of up to `fraction` (0 to 1), so that many do not come back at once. `roll`
    /// gives numbers from 0 to 1.
    #[must_use]
    pub fn with_jitter(mut self, fraction: f64, roll: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        self.jitter = fraction.clamp(0.0, 1.0);
        self.roll = Arc::new(roll);
        self
    }

    /// The wait after the given number of failures in the window, from 1.
    pub fn delay(&self, failures: usize) -> Duration {
        let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX).min(20);
        let delay = self.first.saturating_mul(1 << doublings).min(self.max);
        delay.mul_f64(1.0 - self.jitter * (self.roll)().clamp(0.0, 1.0))
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff::new(limits::BACKOFF_FIRST, limits::BACKOFF_MAX)
    }
}

impl fmt::Debug for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Backoff({:?}..{:?}, jitter {})", self.first, self.max, self.jitter)
    }
}

/// One step of a start or a restart, by the child's place in the order of starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Halt(usize),
    Start(usize),
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Take `restart_steps` at this time.
    Restart {
        failures: usize,
        at: Duration,
    },
    GiveUp,
}

/// The ward: who stands, who failed, how often. Times are spans since the supervisor began.
pub(crate) struct Ward {
    strategy: Strategy,
    intensity: Intensity,
    /// Failures within the window, oldest first; at most `intensity.max`.
    failures: VecDeque<Duration>,
    standing: Vec<bool>,
    failed: BTreeSet<usize>,
    due: Option<Duration>,
}

impl Ward {
    pub fn new(strategy: Strategy, intensity: Intensity, children: usize) -> Self {
        Ward {
            strategy,
            intensity,
            failures: VecDeque::new(),
            standing: vec![false; children],
            failed: BTreeSet::new(),
            due: None,
        }
    }

    /// A new life of the whole supervisor: everything that stands is forgotten, all are to be started in order.
    pub fn start_steps(&mut self) -> VecDeque<Step> {
        self.failures.clear();
        self.failed.clear();
        self.due = None;
        self.standing.fill(false);
        (0..self.standing.len()).map(Step::Start).collect()
    }

    pub fn began(&mut self, child: usize) {
        self.standing[child] = true;
    }

    pub fn halted(&mut self, child: usize) {
        self.standing[child] = false;
    }

    pub fn stands(&self, child: usize) -> bool {
        self.standing[child]
    }

    pub fn due(&self) -> Option<Duration> {
        self.due
    }

    /// A child failed now. A failure while others wait for their restart joins them.
    pub fn failed(&mut self, now: Duration, child: usize, backoff: &Backoff) -> Verdict {
        self.standing[child] = false;
        self.failed.insert(child);
        while self.failures.front().is_some_and(|then| now.saturating_sub(*then) > self.intensity.within) {
            self.failures.pop_front();
        }
        if self.failures.len() >= self.intensity.max as usize {
            return Verdict::GiveUp;
        }
        self.failures.push_back(now);
        let failures = self.failures.len();
        let at = now.saturating_add(backoff.delay(failures));
        self.due = Some(at);
        Verdict::Restart { failures, at }
    }

    /// What the strategy makes of those that failed: halts in reverse order, then starts in order.
    pub fn restart_steps(&mut self) -> VecDeque<Step> {
        self.due = None;
        let failed = std::mem::take(&mut self.failed);
        let children = 0..self.standing.len();
        let fated: Vec<usize> = match (self.strategy, failed.first()) {
            (_, None) => Vec::new(),
            (Strategy::OneForOne, _) => failed.into_iter().collect(),
            (Strategy::OneForAll, _) => children.collect(),
            (Strategy::RestForOne, Some(first)) => children.skip(*first).collect(),
        };
        let halts = fated.iter().rev().filter(|child| self.standing[**child]).copied().map(Step::Halt);
        halts.chain(fated.iter().copied().map(Step::Start)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Step::{Halt, Start};

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn ward(strategy: Strategy) -> Ward {
        let mut ward = Ward::new(strategy, Intensity { max: 2, within: MS(1_000) }, 3);
        for step in ward.start_steps() {
            let Start(child) = step else { panic!("a start only starts") };
            ward.began(child);
        }
        ward
    }

    fn backoff() -> Backoff {
        Backoff::new(MS(10), MS(25))
    }

    #[test]
    fn each_strategy_restarts_whom_it_says() {
        let steps = |strategy| {
            let mut ward = ward(strategy);
            ward.failed(MS(0), 1, &backoff());
            ward.restart_steps()
        };
        assert_eq!(steps(Strategy::OneForOne), [Start(1)]);
        assert_eq!(steps(Strategy::OneForAll), [Halt(2), Halt(0), Start(0), Start(1), Start(2)]);
        assert_eq!(steps(Strategy::RestForOne), [Halt(2), Start(1), Start(2)]);
    }

    #[test]
    fn failures_that_wait_together_are_restarted_together() {
        let mut ward = ward(Strategy::OneForOne);
        assert_eq!(ward.failed(MS(0), 2, &backoff()), Verdict::Restart { failures: 1, at: MS(10) });
        assert_eq!(ward.failed(MS(5), 0, &backoff()), Verdict::Restart { failures: 2, at: MS(25) });
        assert_eq!(ward.due(), Some(MS(25)));
        assert_eq!(ward.restart_steps(), [Start(0), Start(2)]);
        assert_eq!((ward.due(), ward.restart_steps()), (None, VecDeque::new()));
    }

    // Promise: P17
    #[test]
    fn one_failure_too_many_within_the_window_gives_up_and_an_old_one_is_forgotten() {
        let mut first = ward(Strategy::OneForOne);
        let verdicts = [0, 500, 1_000].map(|at| first.failed(MS(at), 0, &backoff()));
        assert_eq!(verdicts[2], Verdict::GiveUp);
        let mut second = ward(Strategy::OneForOne);
        let verdicts = [0, 500, 1_001].map(|at| second.failed(MS(at), 0, &backoff()));
        assert_eq!(verdicts[2], Verdict::Restart { failures: 2, at: MS(1_021) });
    }

    #[test]
    fn a_wait_doubles_to_its_cap_and_jitter_only_shortens_it() {
        let delays = [1, 2, 3, 4, usize::MAX].map(|failures| backoff().delay(failures));
        assert_eq!(delays, [MS(10), MS(20), MS(25), MS(25), MS(25)]);
        assert_eq!(backoff().with_jitter(0.5, || 1.0).delay(1), MS(5));
        assert_eq!(backoff().with_jitter(0.5, || 0.0).delay(1), MS(10));
    }
}
