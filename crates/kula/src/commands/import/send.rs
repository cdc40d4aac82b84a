//! Lanes: each puts the records of some keys, a batch at a time, and tries again until the cluster has them.
//!
//! Equal keys take the same lane, so they are put in the file's order: within a batch the later replaces the earlier, and a
//! batch begins when the one before it is acknowledged. An answer that did not come says nothing: in an LWW table the record's
//! timestamp makes putting it once more the same write; in a bucket the Idempotency-Key does, and the context, which is read
//! again, covers it.

use super::{
    TransferError,
    limits::{BATCH_BYTES_MAX, BATCH_CAUSAL_MAX, BATCH_RECORDS_MAX, PATIENCE, RETRY_FIRST, RETRY_MOST},
    members::Members,
    stamp,
    trouble::Trouble,
    window::Window,
};
use crate::{
    client::{Answer, Client, Failure},
    stopwatch::now,
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use kula_types::Map;
use serde::Deserialize;
use serde_json::Value;
use std::{
    borrow::Cow,
    sync::{Mutex, PoisonError, mpsc::Receiver},
    time::Duration,
};

/// A record on its way.
#[derive(Debug)]
pub struct Piece {
    pub number: u64,
    /// Of the file.
    pub line: u64,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub content_type: Cow<'static, str>,
}

/// What all lanes share.
pub struct Sending<'a> {
    pub members: &'a Members,
    pub window: &'a Window,
    pub trouble: &'a Trouble,
    /// `/kv/keyspace/table:batch`.
    pub path: String,
    pub consistency: &'a str,
    /// A bucket: what stands there is read first, and replaced.
    pub reads_first: bool,
    /// Of an LWW table: where timestamps begin.
    pub begun_at: Option<i64>,
    /// Of this run: makes idempotency keys its own.
    pub run: String,
    pub file: &'a str,
    pub can_resume: bool,
    /// The first that ended it.
    pub failed: Mutex<Option<Failure>>,
}

/// Records that go together; each key once.
#[derive(Default)]
struct Batch {
    pieces: Vec<Piece>,
    /// Of each piece, with those that it replaced.
    numbers: Vec<Vec<u64>>,
    places: Map<Vec<u8>, usize>,
    bytes: usize,
}

/// What one item of a batch came to.
#[derive(Deserialize)]
struct Outcome {
    status: u16,
    #[serde(default)]
    context: Option<String>,
    #[serde(default)]
    problem: Option<Value>,
}

#[derive(Deserialize)]
struct Outcomes {
    items: Vec<Outcome>,
}

/// Why some of a batch must be tried again.
struct Again {
    why: String,
    /// No answer at all.
    is_silent: bool,
    after: Duration,
}

/// What to do about an answer.
enum Judgement {
    Fine,
    TryAgain,
    Refused,
}

impl Sending<'_> {
    /// Puts what comes until nothing more comes, or the import is stopped.
    pub fn lane(&self, home: usize, clients: &[Client], pieces: &Receiver<Piece>) {
        let mut kept = None;
        while let Some(first) = kept.take().or_else(|| pieces.recv().ok()) {
            let mut batch = Batch::default();
            batch.take(first);
            while batch.has_room(self.reads_first) {
                match pieces.try_recv() {
                    Ok(piece) if batch.bytes + piece.value.len() > BATCH_BYTES_MAX => {
                        kept = Some(piece);
                        break;
                    }
                    Ok(piece) => batch.take(piece),
                    Err(_) => break,
                }
            }
            if let Err(failure) = self.deliver(home, clients, &batch) {
                self.fail(failure);
            }
            if self.window.is_stopped() {
                return;
            }
        }
    }

    pub fn fail(&self, failure: Failure) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        self.window.stop();
    }

    /// Until every record of the batch is acknowledged.
    fn deliver(&self, home: usize, clients: &[Client], batch: &Batch) -> Result<(), Failure> {
        let mut left: Vec<usize> = (0..batch.pieces.len()).collect();
        let (mut attempt, mut tries, mut since) = (0, 0, now());
        while !self.window.is_stopped() {
            let place = self.members.choose(home + attempt);
            let before = left.len();
            let again = self.attempt(&clients[place], batch, &mut left)?;
            let member = &self.members.all[place];
            let Some(again) = again else {
                member.answered();
                return Ok(());
            };
            let why = format!("{}: {}", member.name, again.why);
            self.trouble.met(left.len(), why.clone());
            if again.is_silent {
                member.was_silent();
            }
            if left.len() < before {
                (tries, since) = (0, now());
            }
            if since.elapsed() > PATIENCE {
                let (records, can_resume) = (self.window.done().records, self.can_resume);
                let waited = since.elapsed();
                return Err(TransferError::GaveUp { records, waited, why, can_resume }.into());
            }
            std::thread::sleep(wait(tries).max(again.after));
            (attempt, tries) = (attempt + 1, tries + 1);
        }
        Ok(())
    }

    /// Asks one node for what is left; what it acknowledged is taken out of `left`.
    fn attempt(&self, client: &Client, batch: &Batch, left: &mut Vec<usize>) -> Result<Option<Again>, Failure> {
        let mut contexts = Vec::new();
        if self.reads_first {
            match self.contexts(client, batch, left)? {
                Ok(seen) => contexts = seen,
                Err(again) => return Ok(Some(again)),
            }
        }
        let body = self.puts(batch, left, &contexts);
        let outcomes = match self.ask(client, &body, left.len())? {
            Ok(outcomes) => outcomes,
            Err(again) => return Ok(Some(again)),
        };
        let (mut rest, mut why) = (Vec::new(), None);
        for (&place, outcome) in left.iter().zip(outcomes) {
            let problem = outcome.problem.unwrap_or_default();
            match judge(outcome.status, &problem) {
                Judgement::Fine => self.window.acknowledge(&batch.numbers[place]),
                Judgement::TryAgain => {
                    why = Some(told(outcome.status, &problem));
                    rest.push(place);
                }
                Judgement::Refused => {
                    let line = batch.pieces[place].line;
                    return Err(TransferError::Refused { file: self.file.to_string(), line, problem }.into());
                }
            }
        }
        *left = rest;
        Ok(why.map(|why| Again { why, is_silent: false, after: Duration::ZERO }))
    }

    /// What stands under each key now.
    fn contexts(
        &self,
        client: &Client,
        batch: &Batch,
        left: &[usize],
    ) -> Result<Result<Vec<Option<String>>, Again>, Failure> {
        let items = left.iter().map(|&place| {
            let key = key_members(&batch.pieces[place].key);
            format!("{{\"op\":\"get\",\"resolve\":\"lww\",{key}}}")
        });
        let outcomes = match self.ask(client, &body_of(items), left.len())? {
            Ok(outcomes) => outcomes,
            Err(again) => return Ok(Err(again)),
        };
        let mut contexts = Vec::with_capacity(left.len());
        for outcome in outcomes {
            let problem = outcome.problem.unwrap_or_default();
            match outcome.status {
                200 | 300 => contexts.push(outcome.context),
                404 if problem["code"] == "K0404" => contexts.push(problem["context"].as_str().map(str::to_string)),
                status => {
                    let why = told(status, &problem);
                    return Ok(Err(Again { why, is_silent: false, after: Duration::ZERO }));
                }
            }
        }
        Ok(Ok(contexts))
    }

    fn puts(&self, batch: &Batch, left: &[usize], contexts: &[Option<String>]) -> String {
        let items = left.iter().enumerate().map(|(asked, &place)| {
            let piece = &batch.pieces[place];
            let mut item = format!("{{\"op\":\"put\",{},\"content_type\":", key_members(&piece.key));
            item.push_str(&Value::from(&*piece.content_type).to_string());
            if let Some(begun_at) = self.begun_at {
                item.push_str(&format!(",\"timestamp\":{}", stamp::of(begun_at, piece.number)));
            } else {
                item.push_str(&format!(",\"idempotency_key\":\"import-{}-{}\"", self.run, piece.number));
            }
            if let Some(Some(context)) = contexts.get(asked) {
                item.push_str(&format!(",\"context\":{}", Value::from(context.as_str())));
            }
            item.push_str(",\"value\":\"");
            STANDARD.encode_string(&piece.value, &mut item);
            item.push_str("\"}");
            item
        });
        body_of(items)
    }

    /// One batch. What no repetition mends is a failure.
    fn ask(&self, client: &Client, body: &str, count: usize) -> Result<Result<Vec<Outcome>, Again>, Failure> {
        let headers = [("Content-Type", "application/json"), ("Kula-Consistency", self.consistency)];
        let answer = match client.ask("POST", &self.path, &headers, body.as_bytes()) {
            Ok(answer) => answer,
            Err(Failure::Unreachable { why, .. } | Failure::Strange { why, .. }) => {
                return Ok(Err(Again { why, is_silent: true, after: Duration::ZERO }));
            }
            Err(other) => return Err(other),
        };
        if answer.status == 200 {
            let outcomes = serde_json::from_slice::<Outcomes>(&answer.body).map(|outcomes| outcomes.items);
            return Ok(match outcomes {
                Ok(items) if items.len() == count => Ok(items),
                _ => Err(Again { why: "an answer that is none".into(), is_silent: false, after: Duration::ZERO }),
            });
        }
        let problem = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        match judge(answer.status, &problem) {
            Judgement::Refused => Err(client.problem(&answer)),
            Judgement::Fine | Judgement::TryAgain => {
                let why = told(answer.status, &problem);
                Ok(Err(Again { why, is_silent: false, after: retry_after(&answer) }))
            }
        }
    }
}

impl Batch {
    /// The later of two with the same key replaces the earlier: it stands behind it in the file.
    fn take(&mut self, piece: Piece) {
        self.bytes += piece.value.len();
        match self.places.get(&piece.key) {
            Some(&place) => {
                self.numbers[place].push(piece.number);
                self.pieces[place] = piece;
            }
            None => {
                self.places.insert(piece.key.clone(), self.pieces.len());
                self.numbers.push(vec![piece.number]);
                self.pieces.push(piece);
            }
        }
    }

    fn has_room(&self, reads_first: bool) -> bool {
        let most = if reads_first { BATCH_CAUSAL_MAX } else { BATCH_RECORDS_MAX };
        self.pieces.len() < most && self.bytes < BATCH_BYTES_MAX
    }
}

fn body_of(items: impl Iterator<Item = String>) -> String {
    let mut body = String::from("{\"items\":[");
    for (place, item) in items.enumerate() {
        if place > 0 {
            body.push(',');
        }
        body.push_str(&item);
    }
    body.push_str("]}");
    body
}

fn key_members(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) => format!("\"key\":{}", Value::from(text)),
        Err(_) => format!("\"key_encoding\":\"base64url\",\"key\":\"{}\"", URL_SAFE_NO_PAD.encode(key)),
    }
}

/// What passes is tried again, at another node if there is one: too few replicas, a full mailbox, a deadline, a node that
/// has not heard of the table yet.
fn judge(status: u16, problem: &Value) -> Judgement {
    match status {
        200..=299 => Judgement::Fine,
        408 | 429 | 500 | 502..=504 | 507 => Judgement::TryAgain,
        404 if problem["code"] == "K0401" || problem["code"] == "K0402" => Judgement::TryAgain,
        _ => Judgement::Refused,
    }
}

/// `K0301 Too few replicas`, or the status.
fn told(status: u16, problem: &Value) -> String {
    match (problem["code"].as_str(), problem["title"].as_str()) {
        (Some(code), Some(title)) => format!("{code} {title}"),
        _ => format!("status {status}"),
    }
}

fn retry_after(answer: &Answer) -> Duration {
    let seconds = answer.header("Retry-After").and_then(|text| text.parse().ok()).unwrap_or(0);
    Duration::from_secs(seconds).min(RETRY_MOST)
}

/// Doubled each time, and up to a half more, so that lanes do not come back together.
fn wait(tries: u32) -> Duration {
    use rand::RngExt as _;
    let wait = RETRY_FIRST.saturating_mul(1 << tries.min(16)).min(RETRY_MOST);
    wait.mul_f64(rand::rng().random_range(1.0..1.5))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn piece(number: u64, key: &[u8], value: &str) -> Piece {
        let content_type = Cow::Borrowed("application/json");
        Piece { number, line: number + 1, key: key.to_vec(), value: value.into(), content_type }
    }

    #[test]
    fn in_a_batch_the_later_of_two_equal_keys_stands_for_both() {
        let mut batch = Batch::default();
        for (number, key, value) in [(0, "a", "1"), (1, "b", "2"), (2, "a", "3")] {
            batch.take(piece(number, key.as_bytes(), value));
        }
        let values: Vec<&[u8]> = batch.pieces.iter().map(|piece| piece.value.as_slice()).collect();
        assert_eq!(values, [b"3", b"2"]);
        assert_eq!(batch.numbers, [vec![0, 2], vec![1]]);
    }

    #[test]
    fn a_batch_has_an_end() {
        let mut batch = Batch::default();
        let big = "x".repeat(BATCH_BYTES_MAX);
        assert!(batch.has_room(true));
        batch.take(piece(0, b"a", &big));
        assert!(!batch.has_room(false));
        let mut batch = Batch::default();
        (0..BATCH_CAUSAL_MAX).for_each(|number| batch.take(piece(0, &[u8::try_from(number).unwrap()], "")));
        assert!(!batch.has_room(true) && batch.has_room(false));
    }

    #[test]
    fn items_are_json_whatever_the_key_is() {
        let body = body_of([b"a\"\n".as_slice(), b"\xff\0"].iter().map(|key| format!("{{{}}}", key_members(key))));
        let read: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(read, json!({ "items": [{ "key": "a\"\n" }, { "key_encoding": "base64url", "key": "_wA" }] }));
    }

    #[test]
    fn what_passes_is_tried_again_and_what_does_not_is_refused() {
        let again = |status, problem| matches!(judge(status, &problem), Judgement::TryAgain);
        for status in [408, 429, 500, 503, 504] {
            assert!(again(status, Value::Null), "{status}");
        }
        assert!(again(404, json!({ "code": "K0402" })));
        for status in [400, 404, 409, 413, 501] {
            assert!(matches!(judge(status, &Value::Null), Judgement::Refused), "{status}");
        }
        assert!(wait(0) >= RETRY_FIRST && wait(0) < RETRY_FIRST * 2);
        assert!(wait(u32::MAX) < RETRY_MOST * 2);
    }
}
