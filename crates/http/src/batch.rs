//! Many keys in one request: not atomic, no order among the items, an answer for each.

use crate::{
    answer::{self, Part, Siblings},
    body::{self, Room},
    data,
    front::Front,
    head::Head,
    limits,
    problem::Problem,
    refusal::Refusal,
    route::{self, KeyQuery},
    translate,
};
use actix_web::{HttpResponse, web::Payload};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{StreamExt, stream};
use kula_actor::Reply;
use kula_coordinator::{Change, Found, Read, Value, Write};
use kula_operator::codes;
use kula_types::{
    Consistency, Mono, PartitionKey, Timestamp,
    limits::{CONTENT_TYPE_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX, VALUE_BYTES_MAX},
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, SeqAccess, Visitor},
};
use std::{borrow::Cow, cell::Cell, fmt, time::Duration};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with items")]
struct Batch<'a> {
    #[serde(borrow)]
    items: Items<'a>,
}

/// At most `limits::BATCH_ITEMS_MAX`, refused while they are read: many tiny items must not become much memory.
#[derive(Debug)]
struct Items<'a>(Vec<Item<'a>>);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with op and key")]
struct Item<'a> {
    op: Op,
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(default)]
    key_encoding: KeyEncoding,
    /// Base64, as siblings have it.
    #[serde(borrow, default)]
    value: Option<Cow<'a, str>>,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    context: Option<String>,
    /// Seconds.
    #[serde(default)]
    ttl: Option<u64>,
    /// Microseconds since 1970.
    #[serde(default)]
    timestamp: Option<i64>,
    #[serde(default)]
    idempotency_key: Option<String>,
    /// As `?resolve=lww`.
    #[serde(default)]
    resolve: Option<Resolve>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Op {
    Get,
    Put,
    Delete,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KeyEncoding {
    /// The key is the text's UTF-8 bytes.
    #[default]
    Text,
    Base64Url,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Resolve {
    Lww,
}

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounded;
        impl<'de> Visitor<'de> for Bounded {
            type Value = Items<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of items")
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut sequence: S) -> Result<Items<'de>, S::Error> {
                let mut items = Vec::new();
                while let Some(item) = sequence.next_element()? {
                    if items.len() == limits::BATCH_ITEMS_MAX {
                        return Err(S::Error::custom(TOO_MANY));
                    }
                    items.push(item);
                }
                Ok(Items(items))
            }
        }
        deserializer.deserialize_seq(Bounded)
    }
}

const TOO_MANY: &str = "the batch has more than 1000 items";
const _: () = assert!(limits::BATCH_ITEMS_MAX == 1_000);

/// One item, checked and ready to be asked.
enum Asked {
    Get { key: PartitionKey, resolve_lww: bool },
    Write(Box<WriteAsked>),
}

struct WriteAsked {
    key: PartitionKey,
    change: Change,
    context: Option<String>,
    ttl: Option<Duration>,
    timestamp: Option<Timestamp>,
    idempotency_key: Option<Bytes>,
}

impl Item<'_> {
    fn checked(self) -> Result<Asked, Refusal> {
        let key = self.key_bytes()?;
        let resolve_lww = self.resolve.is_some();
        if self.op == Op::Get {
            self.only("context, ttl, timestamp and value belong to a put", |item| {
                item.value.is_none() && item.context.is_none() && item.ttl.is_none() && item.timestamp.is_none()
            })?;
            return Ok(Asked::Get { key, resolve_lww });
        }
        self.only("resolve belongs to a get", |item| item.resolve.is_none())?;
        let ttl = match self.ttl {
            None => None,
            Some(seconds @ 1..=limits::TTL_SECONDS_MAX) if self.op == Op::Put => Some(Duration::from_secs(seconds)),
            Some(_) => return Err(Refusal::Header { name: "ttl", accepts: "whole seconds, 1 to 630720000, on a put" }),
        };
        let timestamp = self.timestamp.map(Timestamp::from_micros).transpose();
        let timestamp =
            timestamp.map_err(|_| Refusal::Header { name: "timestamp", accepts: "microseconds since 1970" })?;
        let idempotency_key = self.idempotency_key.as_deref().map(|key| Bytes::copy_from_slice(key.as_bytes()));
        if idempotency_key.as_ref().is_some_and(|key| key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX) {
            return Err(Refusal::Header { name: "idempotency_key", accepts: "1 to 256 bytes" });
        }
        let change = match self.op {
            Op::Put => Change::Put { value: self.value_bytes()?, content_type: self.content_type()? },
            Op::Delete | Op::Get => Change::Delete,
        };
        let context = self.context;
        Ok(Asked::Write(Box::new(WriteAsked { key, change, context, ttl, timestamp, idempotency_key })))
    }

    fn only(&self, else_say: &str, is_fine: impl Fn(&Self) -> bool) -> Result<(), Refusal> {
        if is_fine(self) { Ok(()) } else { Err(Refusal::Json { what: else_say.into() }) }
    }

    fn key_bytes(&self) -> Result<PartitionKey, Refusal> {
        route::bounded(match self.key_encoding {
            KeyEncoding::Text => Bytes::copy_from_slice(self.key.as_bytes()),
            KeyEncoding::Base64Url => route::base64url(&self.key)?,
        })
    }

    fn value_bytes(&self) -> Result<Bytes, Refusal> {
        let text = self.value.as_deref().ok_or_else(|| Refusal::Json { what: "a put has a value".into() })?;
        let value = STANDARD.decode(text).map_err(|_| Refusal::Json { what: "value is not base64".into() })?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(Refusal::ValueTooLarge { max: VALUE_BYTES_MAX });
        }
        Ok(Bytes::from(value))
    }

    fn content_type(&self) -> Result<Option<String>, Refusal> {
        match &self.content_type {
            Some(text) if text.len() > CONTENT_TYPE_BYTES_MAX || !text.bytes().all(|b| matches!(b, b' '..=b'~')) => {
                Err(Refusal::Header { name: "content_type", accepts: "at most 255 visible ASCII characters" })
            }
            text => Ok(text.clone()),
        }
    }
}

/// What came of one item; `status` is what the same request alone would have answered.
#[derive(Serialize, Default)]
struct Outcome {
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    replicas: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    /// Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    siblings: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<serde_json::Value>,
}

#[derive(Serialize)]
struct Outcomes {
    items: Vec<Outcome>,
}

/// What all items of one batch share.
struct Run<'a> {
    front: &'a Front,
    keyspace: &'a str,
    table: &'a str,
    consistency: Consistency,
    deadline: Mono,
    /// One for the whole batch: its problems belong together.
    trace: String,
    /// Bytes that may still be answered.
    budget: Cell<usize>,
}

pub async fn run(
    front: &Front,
    keyspace: &str,
    table: &str,
    head: &Head<'_>,
    payload: &mut Payload,
) -> Result<HttpResponse, Problem> {
    front.open()?;
    data::check_write(head, &KeyQuery::default())?;
    if head.encoded {
        return Err(Refusal::BodyEncoded.into());
    }
    let past = |_| Refusal::BatchTooLarge { what: "the batch has more than 16 MiB" };
    let room = Room { bytes_max: limits::BATCH_BYTES_MAX, past };
    let body = body::read(payload, head.content_length, room, front.clock().as_ref()).await?;
    let items = parse(&body)?;
    let deadline = front.clock().mono().after(head.patience);
    let budget = Cell::new(limits::BATCH_ANSWER_BYTES_MAX);
    let trace = front.trace(head.trace);
    let run = Run { front, keyspace, table, consistency: head.consistency, deadline, trace, budget };
    let answers = items.into_iter().map(|item| run.one(item));
    let items = stream::iter(answers).buffered(limits::BATCH_IN_FLIGHT_MAX).collect().await;
    Ok(crate::admin::json(&Outcomes { items }))
}

fn parse(body: &Bytes) -> Result<Vec<Item<'_>>, Refusal> {
    match serde_json::from_slice::<Batch<'_>>(body) {
        Ok(batch) => Ok(batch.items.0),
        Err(error) if error.to_string().starts_with(TOO_MANY) => Err(Refusal::BatchTooLarge { what: TOO_MANY }),
        Err(error) => Err(Refusal::Json { what: error.to_string() }),
    }
}

impl Run<'_> {
    async fn one(&self, item: Item<'_>) -> Outcome {
        let outcome = match item.checked() {
            Ok(Asked::Get { key, resolve_lww }) => self.get(key, resolve_lww).await,
            Ok(Asked::Write(write)) => self.write(*write).await,
            Err(refusal) => Err(refusal.into()),
        };
        outcome.unwrap_or_else(|problem: Problem| Outcome {
            status: problem.status().as_u16(),
            problem: Some(problem.json(&self.trace)),
            ..Outcome::default()
        })
    }

    async fn write(&self, write: WriteAsked) -> Result<Outcome, Problem> {
        let (reply, pending) = Reply::pair();
        let WriteAsked { key, change, context, ttl, timestamp, idempotency_key } = write;
        let target = data::target(self.keyspace, self.table, key);
        let (consistency, deadline) = (self.consistency, self.deadline);
        let write = Write { target, change, context, timestamp, ttl, idempotency_key, consistency, deadline, reply };
        self.front.coordinators.write(write);
        let answer = self.front.await_answer(deadline, pending).await?;
        let replicas = Some(Part::of_write(&answer).replicas());
        let status = answer::written_status(&answer).as_u16();
        Ok(Outcome { status, replicas, context: answer.context, ..Outcome::default() })
    }

    async fn get(&self, key: PartitionKey, resolve_lww: bool) -> Result<Outcome, Problem> {
        let (reply, pending) = Reply::pair();
        let target = data::target(self.keyspace, self.table, key);
        let (consistency, deadline) = (self.consistency, self.deadline);
        self.front.coordinators.read(Read { target, resolve_lww, consistency, deadline, reply });
        let answer = self.front.await_answer(deadline, pending).await?;
        if !spend(&self.budget, &answer.found) {
            let detail = "the answers of this batch together are too large";
            return Err(Problem::new(&codes::BATCH_TOO_LARGE, detail, "get this key alone, or in a smaller batch"));
        }
        let replicas = Some(Part::of_read(&answer).replicas());
        let told =
            Outcome { replicas, context: answer.context.clone(), etag: answer.etag.clone(), ..Outcome::default() };
        match answer.found {
            Found::Nothing => Err(translate::no_such_key(answer.context)),
            Found::One(value) => Ok(Outcome {
                status: 200,
                content_type: Some(answer::content_type(&value).to_string()),
                value: Some(STANDARD.encode(&value.value)),
                ..told
            }),
            Found::Siblings { siblings, more } => {
                let siblings = Siblings::of(None, &siblings, more);
                Ok(Outcome { status: 300, siblings: serde_json::to_value(siblings).ok(), ..told })
            }
        }
    }
}

/// The answer of the whole batch is held in memory: once the items before have used the budget, what is left is asked for
/// alone. False if this one is. One item may go past the budget: an item is never too large by itself.
fn spend(budget: &Cell<usize>, found: &Found) -> bool {
    let bytes = |value: &Value| value.value.len();
    let needed = match found {
        Found::Nothing => 0,
        Found::One(value) => bytes(value),
        Found::Siblings { siblings, .. } => siblings.iter().map(|sibling| bytes(&sibling.value)).sum(),
    };
    let left = budget.get();
    budget.set(left.saturating_sub(needed));
    left > 0 || needed == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(json: &str) -> String {
        let body = Bytes::copy_from_slice(json.as_bytes());
        let story = |item: Item<'_>| match item.checked() {
            Ok(Asked::Get { key, resolve_lww }) => format!("get {key:?} {resolve_lww}"),
            Ok(Asked::Write(write)) => {
                let WriteAsked { key, change, context, ttl, timestamp, idempotency_key } = *write;
                format!("{change:?} {key:?} {context:?} {ttl:?} {timestamp:?} {idempotency_key:?}")
            }
            Err(refusal) => format!("refused: {refusal}"),
        };
        match parse(&body) {
            Ok(items) => items.into_iter().map(story).collect::<Vec<_>>().join(" | "),
            Err(refusal) => format!("the batch is refused: {refusal}"),
        }
    }

    #[test]
    fn each_item_is_checked_alone() {
        let bodies = [
            r#"{"items":[]}"#,
            r#"{"items":[{"op":"get","key":"a"},{"op":"get","key":"AAEC_w","key_encoding":"base64url","resolve":"lww"}]}"#,
            r#"{"items":[{"op":"put","key":"a","value":"bWlsaw==","content_type":"text/plain","ttl":60,"timestamp":5,"idempotency_key":"x","context":"AQ"}]}"#,
            r#"{"items":[{"op":"delete","key":"a","context":"AQ"},{"op":"delete","key":"a","ttl":1}]}"#,
            r#"{"items":[{"op":"put","key":"a"},{"op":"put","key":"a","value":"%%"},{"op":"put","key":"","value":""}]}"#,
            r#"{"items":[{"op":"get","key":"a","ttl":1},{"op":"put","key":"a","value":"","resolve":"lww"}]}"#,
            r#"{"items":[{"op":"put","key":"a","value":"","ttl":0},{"op":"put","key":"a","value":"","content_type":"é"}]}"#,
            r#"{"items":[{"op":"patch","key":"a"}]}"#,
            r#"{"items":[{"op":"get"}]}"#,
            r#"{"items":[{"op":"get","key":"a","wait":true}]}"#,
            r#"{"things":[]}"#,
            r#"not json"#,
        ];
        insta::assert_snapshot!(bodies.map(|json| format!("{json}\n    {}", checked(json))).join("\n"));
    }

    // Promise: P24
    #[test]
    fn a_batch_has_at_most_a_thousand_items() {
        let batch = |count: usize| format!(r#"{{"items":[{}]}}"#, vec![r#"{"op":"get","key":"a"}"#; count].join(","));
        let parsed = |count| parse(&Bytes::from(batch(count))).map(|items| items.len());
        assert_eq!(parsed(1_000), Ok(1_000));
        assert_eq!(parsed(1_001), Err(Refusal::BatchTooLarge { what: TOO_MANY }));
    }

    #[test]
    fn a_batch_answers_no_more_than_its_budget() {
        let value = |bytes: usize| {
            let written = Timestamp::MIN;
            Found::One(Value { value: Bytes::from(vec![0; bytes]), content_type: None, written, expires: None })
        };
        let budget = Cell::new(10_000);
        assert!(spend(&budget, &value(6_000)), "the first fits");
        assert!(spend(&budget, &value(6_000)), "the one that uses the rest");
        assert!(!spend(&budget, &value(1)), "used by those before");
        assert!(spend(&budget, &Found::Nothing));
        assert!(spend(&Cell::new(10), &value(6_000)), "none before it");
    }

    // Promise: P24
    #[test]
    fn nesting_without_end_is_refused() {
        let deep = format!(r#"{{"items":{}"#, "[".repeat(100_000));
        assert!(parse(&Bytes::from(deep)).is_err());
    }
}
