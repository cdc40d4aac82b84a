//! The mailbox log: which lines the observer writes, and how they read. Pure: reports in, lines out.
//!
//! One line for each actor that is busy, none for one that is idle. A mailbox past 75 % for three windows warns until it
//! is below 50 % again, which one `cleared` line says; one that is stuck warns at once. Bounded by the actors of the
//! last reports: an actor that is gone is forgotten.

use crate::report::{ActorReport, MailboxState};
use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    sync::Arc,
};

/// Fuller than this for `WARN_AFTER` windows warns.
const WARN_PERCENT: usize = 75;
/// A warning ends below this.
const CLEAR_PERCENT: usize = 50;
/// One full window may be a burst; three are not.
const WARN_AFTER: u32 = 3;
/// Cells of the bar.
const BAR_CELLS: usize = 6;

/// A line to write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub kind: LineKind,
    pub report: ActorReport,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineKind {
    /// INFO: it works.
    Busy,
    /// WARN: it does not keep up.
    Warning,
    /// INFO: it keeps up again.
    Cleared,
}

#[derive(Default)]
pub(crate) struct MailboxLog {
    alarms: BTreeMap<Arc<str>, Alarm>,
}

#[derive(Clone, Copy, Default)]
struct Alarm {
    windows_full: u32,
    warned: bool,
}

impl MailboxLog {
    /// The lines for the window that these reports cover.
    pub fn step(&mut self, reports: Vec<ActorReport>) -> Vec<Line> {
        let mut alarms = BTreeMap::new();
        let mut lines = Vec::new();
        for report in reports {
            let mut alarm = self.alarms.get(&report.path).copied().unwrap_or_default();
            let kind = alarm.step(&report);
            if alarm.warned || alarm.windows_full > 0 {
                alarms.insert(Arc::clone(&report.path), alarm);
            }
            lines.extend(kind.map(|kind| Line { kind, report }));
        }
        self.alarms = alarms;
        lines
    }
}

impl Alarm {
    fn step(&mut self, report: &ActorReport) -> Option<LineKind> {
        self.windows_full = if report.fuller_than(WARN_PERCENT) { self.windows_full.saturating_add(1) } else { 0 };
        if self.windows_full >= WARN_AFTER {
            self.warned = true;
            return Some(LineKind::Warning);
        }
        if self.warned && report.emptier_than(CLEAR_PERCENT) {
            self.warned = false;
            return Some(LineKind::Cleared);
        }
        match report.state {
            MailboxState::Idle => None,
            MailboxState::Busy | MailboxState::Rising => Some(LineKind::Busy),
            MailboxState::Stuck => Some(LineKind::Warning),
        }
    }
}

/// The line for people; time, level, node and actor are the drain's.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &self.report;
        let word = match (self.kind, report.state) {
            (LineKind::Cleared, _) => "mailbox cleared",
            (_, MailboxState::Stuck) => "mailbox stuck",
            (LineKind::Busy | LineKind::Warning, _) => "mailbox",
        };
        write!(f, "{word} {}/{} ", report.depth, report.cap)?;
        let filled = (report.depth.saturating_mul(BAR_CELLS)).div_ceil(report.cap.max(1)).min(BAR_CELLS);
        (0..BAR_CELLS).try_for_each(|cell| f.write_char(if cell < filled { '█' } else { '░' }))?;
        write!(f, " in {}/s out {}/s", Rate(report.in_s), Rate(report.out_s))?;
        let wait = report.wait_us;
        write!(f, " wait p50 {} p99 {} max {}", Micros(wait.p50), Micros(wait.p99), Micros(wait.max))?;
        if let Some((name, part)) = report.busiest() {
            write!(f, " busiest {name} {:.0}%", part * 100.0)?;
        }
        write!(f, " restarts {}", report.restarts)
    }
}

/// `950`, `18.2k`, `1.2M`.
struct Rate(u64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            rate @ 0..1_000 => write!(f, "{rate}"),
            rate @ 1_000..999_950 => write!(f, "{:.1}k", rate as f64 / 1e3),
            rate => write!(f, "{:.1}M", rate as f64 / 1e6),
        }
    }
}

/// `840µs`, `6.4ms`, `41ms`, `1.5s`.
struct Micros(u64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = match self.0 {
            micros @ 0..1_000 => return write!(f, "{micros}µs"),
            micros @ 1_000..999_500 => (micros as f64 / 1e3, "ms"),
            micros => (micros as f64 / 1e6, "s"),
        };
        let tenths = (value * 10.0).round() / 10.0;
        if value >= 10.0 || tenths.fract() == 0.0 {
            write!(f, "{value:.0}{unit}")
        } else {
            write!(f, "{tenths:.1}{unit}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Wait;

    /// Runs a script: `actor PATH key=value …` adds a report to the window, `tick` ends it and prints the lines.
    fn play(script: &str) -> String {
        let mut machine = MailboxLog::default();
        let mut window = Vec::new();
        let mut page = String::new();
        for line in script.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("actor") => window.push(report(words.next().unwrap(), words)),
                Some("tick") => {
                    writeln!(page, "tick {}", words.collect::<Vec<_>>().join(" ")).unwrap();
                    for line in machine.step(std::mem::take(&mut window)) {
                        let level = if line.kind == LineKind::Warning { "WARN" } else { "INFO" };
                        writeln!(page, "  {level} {} {line}", line.report.path).unwrap();
                    }
                }
                Some(_) | None => writeln!(page, "{line}").unwrap(),
            }
        }
        page
    }

    fn report<'a>(path: &str, pairs: impl Iterator<Item = &'a str>) -> ActorReport {
        let mut report = ActorReport {
            path: path.into(),
            depth: 0,
            cap: 1_024,
            in_s: 0,
            out_s: 0,
            wait_us: Wait::default(),
            busy: 0.0,
            by_msg: BTreeMap::new(),
            shed: 0,
            restarts: 0,
            state: MailboxState::Idle,
        };
        for (key, value) in pairs.map(|pair| pair.split_once('=').unwrap()) {
            match key {
                "depth" => report.depth = value.parse().unwrap(),
                "in" => report.in_s = value.parse().unwrap(),
                "out" => report.out_s = value.parse().unwrap(),
                "p50" => report.wait_us.p50 = value.parse().unwrap(),
                "p99" => report.wait_us.p99 = value.parse().unwrap(),
                "max" => report.wait_us.max = value.parse().unwrap(),
                "restarts" => report.restarts = value.parse().unwrap(),
                "state" => report.state = serde_json::from_value(value.into()).unwrap(),
                message => drop(report.by_msg.insert(message.into(), value.parse().unwrap())),
            }
        }
        report
    }

    #[test]
    fn a_mailbox_warns_after_three_full_windows_and_is_cleared_once() {
        insta::with_settings!({ snapshot_path => "../testdata", prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!("mailbox_fills_and_clears", play(include_str!("../testdata/mailbox_fills_and_clears.txt")));
        });
    }

    #[test]
    fn only_actors_that_work_or_are_stuck_have_a_line() {
        insta::with_settings!({ snapshot_path => "../testdata", prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!("mailbox_lines", play(include_str!("../testdata/mailbox_lines.txt")));
        });
    }
}
