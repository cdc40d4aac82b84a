//! A load that remembers: every write has a key of its own, and what was acknowledged must be found again.

use crate::harness::Client;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// What the clients do until they are told to stop.
pub struct Load<'a> {
    pub coordinators: &'a [Client],
    /// `keyspace/table`, used in turn.
    pub tables: &'a [&'a str],
    /// Makes keys differ from those of another load.
    pub tag: &'a str,
    pub deadline: Duration,
}

/// Clients, and the wait of each between two requests: bounded, so that what was written can be read back in a test's time.
const CLIENTS: usize = 8;
const PAUSE: Duration = Duration::from_millis(12);
/// What a machine with other things to do may add to a deadline.
const LATE_MAX: Duration = Duration::from_millis(1_500);

#[derive(Default)]
pub struct Outcome {
    /// Value by `keyspace/table/key`.
    pub acknowledged: BTreeMap<String, String>,
    /// Acknowledged with a hint, by the address of the coordinator.
    pub hinted: BTreeMap<String, u64>,
    pub asked: usize,
    /// What was answered in place of a success.
    pub failed: Vec<String>,
    /// Reads that did not find what was acknowledged before they began.
    pub wrong: Vec<String>,
    pub spans: Vec<Duration>,
}

impl Load<'_> {
    /// Runs while `during` does.
    pub fn run<R>(&self, during: impl FnOnce() -> R) -> (Outcome, R) {
        let (outcome, over) = (Mutex::new(Outcome::default()), AtomicBool::new(false));
        let result = std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (outcome, over) = (&outcome, &over);
                scope.spawn(move || {
                    for number in 0.. {
                        if over.load(Relaxed) {
                            break;
                        }
                        self.write_and_read(client, number, outcome);
                        std::thread::sleep(PAUSE);
                    }
                });
            }
            // Told to stop in a failing test too, or the clients would never end.
            let guard = Over(&over);
            let result = during();
            drop(guard);
            result
        });
        let mut outcome = outcome.into_inner().unwrap();
        outcome.spans.sort_unstable();
        (outcome, result)
    }

    /// One write, then on every second turn a read of it through another coordinator.
    fn write_and_read(&self, client: usize, number: usize, outcome: &Mutex<Outcome>) {
        let coordinator = |turn: usize| &self.coordinators[(client + turn) % self.coordinators.len()];
        let (tag, table) = (self.tag, self.tables[(client + number) % self.tables.len()]);
        let key = format!("{table}/{tag}-{client}-{number}");
        let value = format!("{key} {}", "x".repeat(200));
        let Some(answer) = self.timed(coordinator(number), "PUT", &key, value.as_bytes(), outcome) else { return };
        if answer.contains("hinted=") {
            *outcome.lock().unwrap().hinted.entry(coordinator(number).address.clone()).or_default() += 1;
        }
        outcome.lock().unwrap().acknowledged.insert(key.clone(), value.clone());
        if number.is_multiple_of(2)
            && let Some(found) = self.timed(coordinator(number + 1), "GET", &key, b"", outcome)
            && found != value
        {
            outcome.lock().unwrap().wrong.push(format!("{key}: {found:?}"));
        }
    }

    /// What a success says: the value of a read, `Kula-Replicas` of a write.
    fn timed(&self, to: &Client, method: &str, key: &str, body: &[u8], outcome: &Mutex<Outcome>) -> Option<String> {
        let deadline = self.deadline.as_millis().to_string();
        let began = Instant::now();
        let answer = to.try_ask(method, &format!("/kv/{key}"), &[("Kula-Deadline-Ms", &deadline)], body);
        let span = began.elapsed();
        let mut outcome = outcome.lock().unwrap();
        outcome.asked += 1;
        outcome.spans.push(span);
        match answer {
            Ok(answer) if answer.status == 204 => Some(answer.header("Kula-Replicas").to_owned()),
            Ok(answer) if answer.status == 200 => Some(answer.text()),
            Ok(answer) if method == "GET" && answer.status == 404 => Some("nothing".to_owned()),
            Ok(answer) => {
                outcome.failed.push(format!("{method} {key} at {}: {} {}", to.address, answer.status, answer.text()));
                None
            }
            Err(error) => {
                outcome.failed.push(format!("{method} {key} at {}: {error}", to.address));
                None
            }
        }
    }

    /// Less than one request of 200 failed, no read was wrong and none outlived its deadline.
    pub fn assert_good(&self, outcome: &Outcome) {
        let Outcome { asked, failed, wrong, spans, acknowledged, .. } = outcome;
        println!(
            "{}: {asked} requests, {} failed, p50 {:?}, p99 {:?}, slowest {:?}",
            self.tag,
            failed.len(),
            outcome.at(0.5),
            outcome.at(0.99),
            outcome.at(1.0)
        );
        assert!(acknowledged.len() > 200, "too few writes to mean anything: {} of {asked}", acknowledged.len());
        assert!(wrong.is_empty(), "{} reads did not find what was acknowledged: {:#?}", wrong.len(), first(wrong));
        assert!(failed.len() * 200 < *asked, "{} of {asked} requests failed: {:#?}", failed.len(), first(failed));
        let slowest = spans.last().copied().unwrap_or_default();
        assert!(slowest < self.deadline + LATE_MAX, "a request took {slowest:?}");
    }
}

impl Outcome {
    /// The span that this part of the requests did not pass.
    pub fn at(&self, part: f64) -> Duration {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index"
        )]
        let index = ((self.spans.len() as f64 * part) as usize).min(self.spans.len().saturating_sub(1));
        self.spans.get(index).copied().unwrap_or_default()
    }
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn first(lines: &[String]) -> &[String] {
    &lines[..lines.len().min(5)]
}

/// Reads every acknowledged key; `prefix` is `/kv` or `/v1/replica`.
pub fn assert_all_there(client: &Client, prefix: &str, level: &str, acknowledged: &BTreeMap<String, String>) {
    let (entries, next): (Vec<_>, _) = (acknowledged.iter().collect(), AtomicUsize::new(0));
    let missing = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while let Some((key, value)) = entries.get(next.fetch_add(1, Relaxed)) {
                    let headers = [("Kula-Consistency", level)];
                    let headers = if prefix == "/kv" { &headers[..] } else { &[] };
                    let answer = client.ask("GET", &format!("{prefix}/{key}"), headers, b"");
                    if answer.status != 200 || answer.body != value.as_bytes() {
                        missing.lock().unwrap().push(format!("{key}: {} {}", answer.status, answer.text()));
                    }
                }
            });
        }
    });
    let missing = missing.into_inner().unwrap();
    let all = acknowledged.len();
    assert!(
        missing.is_empty(),
        "{} of {all} acknowledged writes are not at {} {prefix} {level}: {:#?}",
        missing.len(),
        client.address,
        first(&missing)
    );
}
