//! `ActorReport`: what an operator sees of one actor, made from two copies of its meter.

use crate::stats::Counts;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// One actor over a window of time, as `GET /v1/actors` and the mailbox log show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActorReport {
    /// Where it stands in the tree.
    pub path: Arc<str>,
    /// Messages that wait now.
    pub depth: usize,
    /// Messages that may wait.
    pub cap: usize,
    /// Messages a second that came.
    pub in_s: u64,
    /// Messages a second that were taken.
    pub out_s: u64,
    /// How long messages waited; of one message in `limits::SAMPLE_ONE_IN`. All zero if none was timed.
    pub wait_us: Wait,
    /// The part of the window in which the actor ran, 0 to 1.
    pub busy: f64,
    /// The part of the taken messages that each type made up, 0 to 1, by the type's short name.
    pub by_msg: BTreeMap<Arc<str>, f64>,
    /// Messages refused since the node started.
    pub shed: u64,
    /// Restarts since the node started.
    pub restarts: u64,
    pub state: MailboxState,
}

/// Microseconds from sending to taking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

/// A mailbox in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailboxState {
    /// Fewer than ten messages a second, and at most a quarter full.
    Idle,
    Busy,
    /// Past a quarter full, and fuller than a window ago.
    Rising,
    /// For the whole window something waited and nothing was taken, or one message was being handled.
    Stuck,
}

impl MailboxState {
    pub fn name(self) -> &'static str {
        match self {
            MailboxState::Idle => "idle",
            MailboxState::Busy => "busy",
            MailboxState::Rising => "rising",
            MailboxState::Stuck => "stuck",
        }
    }
}

/// Messages a second from which an actor counts as busy.
const BUSY_PER_SECOND: u64 = 10;

impl ActorReport {
    /// What happened between `then` and `now`, `window` apart.
    pub(crate) fn between(path: &Arc<str>, cap: usize, then: &Counts, now: &Counts, window: Duration) -> ActorReport {
        let seconds = window.as_secs_f64().max(f64::MIN_POSITIVE);
        let taken = now.taken.saturating_sub(then.taken);
        let came = (taken + now.depth as u64).saturating_sub(then.depth as u64);
        let (in_s, out_s) = (rounded(came as f64 / seconds), rounded(taken as f64 / seconds));
        let ran = now.busy.saturating_sub(then.busy) + now.polling.min(window);
        let wait = now.wait.since(&then.wait);
        ActorReport {
            path: Arc::clone(path),
            depth: now.depth,
            cap,
            in_s,
            out_s,
            wait_us: Wait {
                p50: wait.quantile(0.50).div_ceil(1_000),
                p99: wait.quantile(0.99).div_ceil(1_000),
                max: wait.max().div_ceil(1_000),
            },
            busy: hundredths((ran.as_secs_f64() / seconds).min(1.0)),
            by_msg: shares(then, now),
            shed: now.shed,
            restarts: now.restarts,
            state: state(cap, then, now, window, in_s.max(out_s)),
        }
    }

    /// The message type that made up most of the window, with its part.
    pub fn busiest(&self) -> Option<(&str, f64)> {
        let by_part = |one: &(&Arc<str>, &f64), other: &(&Arc<str>, &f64)| one.1.total_cmp(other.1);
        self.by_msg.iter().max_by(by_part).map(|(name, part)| (name.as_ref(), *part))
    }

    /// The mailbox holds more than this part of its bound.
    pub(crate) fn fuller_than(&self, percent: usize) -> bool {
        self.depth.saturating_mul(100) > self.cap.saturating_mul(percent)
    }

    /// The mailbox holds less than this part of its bound.
    pub(crate) fn emptier_than(&self, percent: usize) -> bool {
        self.depth.saturating_mul(100) < self.cap.saturating_mul(percent)
    }
}

fn state(cap: usize, then: &Counts, now: &Counts, window: Duration, per_second: u64) -> MailboxState {
    let waited_in_vain = then.depth > 0 && now.depth > 0 && now.taken == then.taken;
    let past_a_quarter = now.depth.saturating_mul(4) > cap;
    if !window.is_zero() && (waited_in_vain || now.polling >= window) {
        MailboxState::Stuck
    } else if past_a_quarter && now.depth > then.depth {
        MailboxState::Rising
    } else if past_a_quarter || per_second >= BUSY_PER_SECOND {
        MailboxState::Busy
    } else {
        MailboxState::Idle
    }
}

fn shares(then: &Counts, now: &Counts) -> BTreeMap<Arc<str>, f64> {
    let mut taken: BTreeMap<Arc<str>, u64> = BTreeMap::new();
    for (name, count) in &now.by_message {
        *taken.entry(Arc::clone(name)).or_default() += count;
    }
    for (name, count) in &then.by_message {
        taken.entry(Arc::clone(name)).and_modify(|now| *now = now.saturating_sub(*count));
    }
    let total: u64 = taken.values().sum();
    let share = |count: u64| hundredths(count as f64 / total as f64);
    taken.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name, share(count))).collect()
}

fn hundredths(part: f64) -> f64 {
    (part * 100.0).round() / 100.0
}

fn rounded(rate: f64) -> u64 {
    // A rate is never negative and never near 2^53.
    #[allow(clippy::cast_possible_truncation, reason = "saturates, by the rules of `as` from floating point")]
    let whole = rate.round() as u64;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Histogram;

    fn counts(depth: usize, taken: u64, by_message: &[(&str, u64)]) -> Counts {
        Counts {
            depth,
            shed: 0,
            taken,
            restarts: 0,
            busy: Duration::ZERO,
            polling: Duration::ZERO,
            wait: Histogram::new().counts(),
            by_message: by_message.iter().map(|(name, count)| ((*name).into(), *count)).collect(),
        }
    }

    fn report(then: Counts, now: Counts) -> ActorReport {
        ActorReport::between(&"a/0".into(), 100, &then, &now, Duration::from_secs(10))
    }

    #[test]
    fn rates_parts_and_the_json_keys_are_those_of_the_interface() {
        let mut now = counts(30, 1_100, &[("Apply", 810), ("Read", 290)]);
        now.busy = Duration::from_millis(9_900);
        let text = serde_json::to_string(&report(counts(10, 100, &[("Apply", 0), ("Read", 100)]), now)).unwrap();
        let expected =
            r#"{"path":"a/0","depth":30,"cap":100,"in_s":102,"out_s":100,"wait_us":{"p50":0,"p99":0,"max":0},"#
                .to_owned()
                + r#""busy":0.99,"by_msg":{"Apply":0.81,"Read":0.19},"shed":0,"restarts":0,"state":"rising"}"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn the_state_follows_the_window() {
        let state = |then, now| report(then, now).state;
        assert_eq!(state(counts(0, 0, &[]), counts(25, 90, &[])), MailboxState::Busy);
        assert_eq!(state(counts(0, 0, &[]), counts(0, 90, &[])), MailboxState::Idle);
        assert_eq!(state(counts(0, 0, &[]), counts(0, 95, &[])), MailboxState::Busy);
        assert_eq!(state(counts(40, 0, &[]), counts(30, 5, &[])), MailboxState::Busy);
        assert_eq!(state(counts(1, 7, &[]), counts(2, 7, &[])), MailboxState::Stuck);
        let mut endless = counts(0, 7, &[]);
        endless.polling = Duration::from_secs(11);
        assert_eq!(state(counts(0, 7, &[]), endless), MailboxState::Stuck);
    }
}
