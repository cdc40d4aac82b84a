//! How far a long command is: a bar on a terminal, a plain line every few seconds anywhere else; always on standard error.

use super::limits::{DRAW_EVERY, LINE_EVERY};
use crate::{print, stopwatch::now};
use std::{
    collections::VecDeque,
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

/// Over how long the rate is taken.
const RATE_OVER: Duration = Duration::from_secs(5);
/// Characters of the bar.
const BAR: usize = 24;

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    pub records: u64,
    pub bytes: u64,
    /// The whole, where it is known: of bytes, or else of records.
    pub bytes_total: Option<u64>,
    pub records_total: Option<u64>,
    pub failures: u64,
    pub left_out: u64,
    /// What is amiss just now.
    pub trouble: Option<String>,
}

pub struct Progress {
    verb: &'static str,
    /// Of a terminal's line; `None` elsewhere.
    width: Option<usize>,
    shown: Instant,
    samples: VecDeque<(Instant, u64, u64)>,
}

impl Progress {
    pub fn new(verb: &'static str) -> Self {
        let stderr = std::io::stderr();
        let size = rustix::termios::tcgetwinsize(&stderr).ok().map(|size| usize::from(size.ws_col));
        let width = stderr.is_terminal().then(|| size.filter(|&columns| columns > 0).unwrap_or(80));
        Progress { verb, width, shown: now(), samples: VecDeque::new() }
    }

    /// Shows it, if it is time to.
    pub fn show(&mut self, look: &Look) {
        let time = now();
        let every = if self.width.is_some() { DRAW_EVERY } else { LINE_EVERY };
        if self.samples.back().is_none_or(|(at, ..)| time - *at >= DRAW_EVERY) {
            self.samples.push_back((time, look.records, look.bytes));
        }
        while self.samples.len() > 2 && self.samples.front().is_some_and(|(at, ..)| time - *at > RATE_OVER) {
            self.samples.pop_front();
        }
        if time - self.shown < every {
            return;
        }
        self.shown = time;
        let rates = self.rates();
        let mut err = std::io::stderr().lock();
        // Nobody may be watching.
        match self.width {
            Some(width) => {
                write!(err, "\r\x1b[K{}", cut(&bar(self.verb, look, rates), width - 1)).and_then(|()| err.flush())
            }
            None => writeln!(err, "{}", line(self.verb, look, rates)),
        }
        .ok();
    }

    /// Takes the bar away, so that what follows begins its own line.
    pub fn clear(&self) {
        if self.width.is_some() {
            eprint!("\r\x1b[K");
        }
    }

    /// Records and bytes a second.
    fn rates(&self) -> (u64, u64) {
        let Some(((began, records, bytes), (ended, more_records, more_bytes))) =
            self.samples.front().zip(self.samples.back())
        else {
            return (0, 0);
        };
        let millis = u64::try_from((*ended - *began).as_millis()).unwrap_or(u64::MAX);
        let rate = |from: u64, to: u64| to.saturating_sub(from).saturating_mul(1000).checked_div(millis).unwrap_or(0);
        (rate(*records, *more_records), rate(*bytes, *more_bytes))
    }
}

/// Percent of the whole, and seconds left.
fn left(look: &Look, rates: (u64, u64)) -> (Option<u64>, Option<u64>) {
    let whole = match (look.bytes_total, look.records_total) {
        (Some(total), _) => Some((look.bytes, total, rates.1)),
        (None, Some(total)) => Some((look.records, total, rates.0)),
        (None, None) => None,
    };
    let Some((done, total, rate)) = whole else { return (None, None) };
    let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100).min(100);
    (Some(percent), total.saturating_sub(done).checked_div(rate))
}

fn bar(verb: &str, look: &Look, rates: (u64, u64)) -> String {
    let (percent, _) = left(look, rates);
    let drawn = percent.map_or(String::new(), |percent| {
        let full = usize::try_from(percent).unwrap_or(0) * BAR / 100;
        format!("{}{} ", "█".repeat(full), "░".repeat(BAR - full))
    });
    let text = line(verb, look, rates);
    let rest = text.strip_prefix(verb).unwrap_or(&text).trim_start();
    format!("{verb} {drawn}{rest}")
}

/// `import 52%  33,104 records  25 MiB of 47 MiB  6.4k/s  4 s left  0 failures`
fn line(verb: &str, look: &Look, rates: (u64, u64)) -> String {
    let (percent, seconds) = left(look, rates);
    let mut parts = vec![percent.map_or(verb.to_string(), |percent| format!("{verb} {percent:>2}%"))];
    parts.push(match look.records_total {
        Some(total) => format!("{} of {} records", grouped(look.records), grouped(total)),
        None => format!("{} records", grouped(look.records)),
    });
    parts.push(match look.bytes_total {
        Some(total) => format!("{} of {}", print::bytes(look.bytes), print::bytes(total)),
        None => print::bytes(look.bytes),
    });
    parts.push(format!("{}/s", print::count(rates.0)));
    parts.extend(seconds.map(|seconds| format!("{} left", print::span(seconds.max(1) * 1000, " "))));
    parts.push(many(look.failures, "failure"));
    if look.left_out > 0 {
        parts.push(format!("{} left out", grouped(look.left_out)));
    }
    parts.extend(look.trouble.clone());
    parts.join("  ")
}

/// `1 failure`, `2 failures`.
pub fn many(count: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// `63,666`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn cut(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_reads_as_people_speak() {
        let look = Look {
            records: 33_104,
            bytes: 26_214_400,
            bytes_total: Some(50_164_600),
            failures: 1,
            trouble: Some("n2: connection refused".into()),
            ..Look::default()
        };
        let told = line("import", &look, (6_400, 5_000_000));
        let expected =
            "import 52%  33,104 records  25 MiB of 47 MiB  6.4k/s  4 s left  1 failure  n2: connection refused";
        assert_eq!(told, expected);
        let drawn = bar("import", &look, (6_400, 5_000_000));
        assert!(drawn.starts_with("import ████████████░░░░░░░░░░░░ 52%  33,104"), "{drawn}");
        let unknown = Look { bytes_total: None, trouble: None, left_out: 2, failures: 0, ..look };
        assert_eq!(line("import", &unknown, (0, 0)), "import  33,104 records  25 MiB  0/s  0 failures  2 left out");
        let of_records = Look { records: 5, records_total: Some(10), ..Look::default() };
        assert_eq!(line("verify", &of_records, (5, 0)), "verify 50%  5 of 10 records  0 B  5/s  1 s left  0 failures");
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!([0, 999, 1_000, 63_666, 1_234_567].map(grouped), ["0", "999", "1,000", "63,666", "1,234,567"]);
        assert_eq!(cut("█░x", 2), "█░");
    }
}
