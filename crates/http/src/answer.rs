//! From a coordinator's answer to HTTP: status, headers, body, exactly as `docs/http.md` says.

use crate::{problem::KULA_CONTEXT, translate};
use actix_web::{
    HttpResponse, HttpResponseBuilder,
    http::{
        StatusCode,
        header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue},
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use kula_coordinator::{ReadAnswer, ReplicaOutcome, ReplicaReport, Sibling, Timing, Value, WriteAnswer};
use kula_types::{Dot, Timestamp};
use serde::Serialize;
use std::{
    fmt::Write,
    time::{Duration, UNIX_EPOCH},
};

const KULA_REPLICAS: HeaderName = HeaderName::from_static("kula-replicas");
const KULA_ACKED_BY: HeaderName = HeaderName::from_static("kula-acked-by");
pub const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const SIBLINGS_JSON: HeaderValue = HeaderValue::from_static("application/vnd.kula.siblings+json");
/// The last microsecond of the year 9999: RFC 3339 has four digits for a year.
const RFC3339_MICROS_MAX: u64 = 253_402_300_799_999_999;

/// How many owners took part, which, and where the time went.
pub struct Part<'a> {
    pub acked: u32,
    pub rf: u32,
    pub hinted: u32,
    pub replicas: &'a [ReplicaReport],
    pub timing: Timing,
}

impl<'a> Part<'a> {
    pub fn of_read(answer: &'a ReadAnswer) -> Self {
        Part { acked: answer.acked, rf: answer.rf, hinted: 0, replicas: &answer.replicas, timing: answer.timing }
    }

    pub fn of_write(answer: &'a WriteAnswer) -> Self {
        let WriteAnswer { acked, rf, hinted, ref replicas, timing, .. } = *answer;
        Part { acked, rf, hinted, replicas, timing }
    }

    /// `2/3` or `2/3; hinted=1`.
    pub fn replicas(&self) -> String {
        let mut text = String::with_capacity(16);
        number(&mut text, u64::from(self.acked));
        text.push('/');
        number(&mut text, u64::from(self.rf));
        if self.hinted > 0 {
            text.push_str("; hinted=");
            number(&mut text, u64::from(self.hinted));
        }
        text
    }

    /// The names of the owners that did what was asked, separated by commas.
    fn acked_by(&self) -> String {
        let mut names = String::with_capacity(16);
        for report in self.replicas.iter().filter(|report| is_ack(&report.outcome)) {
            if !names.is_empty() {
                names.push(',');
            }
            names.push_str(&report.name);
        }
        names
    }

    /// `queue;dur=0.012, replicas;dur=0.801, total;dur=0.822, n1;dur=0.801;desc="applied"` in milliseconds.
    pub fn server_timing(&self) -> String {
        let mut text = String::with_capacity(96);
        for (name, span) in
            [("queue", self.timing.queue), ("replicas", self.timing.replicas), ("total", self.timing.total)]
        {
            entry(&mut text, name, span);
        }
        for report in self.replicas {
            // A metric's name is a token (RFC 9110 §5.6.2); a node may be called otherwise.
            let is_token = !report.name.is_empty()
                && report.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            entry(&mut text, if is_token { &report.name } else { "replica" }, report.wait);
            text.push_str(";desc=\"");
            text.push_str(translate::outcome(&report.outcome));
            if let Some(digest) = &report.digest {
                text.push(' ');
                hex_64(&mut text, (digest.0 >> 64) as u64);
            }
            text.push_str(if report.repaired { " repaired\"" } else { "\"" });
        }
        text
    }

    /// A value that makes no header (a node's name may hold anything) is left out: it is information, not the answer.
    pub fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let texts =
            [(KULA_REPLICAS, self.replicas()), (KULA_ACKED_BY, self.acked_by()), (SERVER_TIMING, self.server_timing())];
        texts.into_iter().filter(|(_, text)| !text.is_empty()).filter_map(|(name, text)| Some((name, header(text)?)))
    }
}

const fn is_ack(outcome: &ReplicaOutcome) -> bool {
    matches!(outcome, ReplicaOutcome::Applied | ReplicaOutcome::Data | ReplicaOutcome::Digest)
}

fn header(text: String) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
}

fn entry(text: &mut String, name: &str, span: Duration) {
    if !text.is_empty() {
        text.push_str(", ");
    }
    text.push_str(name);
    text.push_str(";dur=");
    let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    number(text, micros / 1_000);
    text.push('.');
    let rest = micros % 1_000;
    for digit in [rest / 100, rest / 10 % 10, rest % 10] {
        number(text, digit);
    }
}

/// Writing to a `String` cannot fail; saying so once beats saying it at each place.
fn number(text: &mut String, number: u64) {
    let written = write!(text, "{number}");
    debug_assert!(written.is_ok());
}

fn hex_64(text: &mut String, number: u64) {
    let written = write!(text, "{number:016x}");
    debug_assert!(written.is_ok());
}

/// 204, or 202 where no owner has it yet.
pub fn written(answer: &WriteAnswer) -> HttpResponse {
    let mut response = HttpResponse::build(written_status(answer));
    for pair in Part::of_write(answer).headers() {
        response.insert_header(pair);
    }
    context(&mut response, answer.context.as_deref());
    response.finish()
}

pub fn written_status(answer: &WriteAnswer) -> StatusCode {
    if answer.acked == 0 && answer.hinted > 0 { StatusCode::ACCEPTED } else { StatusCode::NO_CONTENT }
}

/// What a GET of something that is there needs besides the body.
pub struct Shown<'a> {
    pub context: Option<&'a str>,
    pub etag: Option<&'a str>,
    pub part: Option<Part<'a>>,
}

impl Shown<'_> {
    fn start(&self, status: StatusCode) -> HttpResponseBuilder {
        let mut response = HttpResponse::build(status);
        if let Some(part) = &self.part {
            for pair in part.headers() {
                response.insert_header(pair);
            }
        }
        context(&mut response, self.context);
        if let Some(etag) = self.etag.and_then(|etag| header(quoted(etag))) {
            response.insert_header((ETAG, etag));
        }
        response
    }

    pub fn one(&self, value: Value) -> HttpResponse {
        let mut response = self.start(StatusCode::OK);
        let content_type = value.content_type.and_then(header);
        response.insert_header((CONTENT_TYPE, content_type.unwrap_or(OCTETS)));
        response.body(value.value)
    }

    pub fn siblings(&self, siblings: &[Sibling], more: u64) -> HttpResponse {
        let mut response = self.start(StatusCode::MULTIPLE_CHOICES);
        response.insert_header((CONTENT_TYPE, SIBLINGS_JSON));
        response.body(serde_json::to_vec(&Siblings::of(self.context, siblings, more)).unwrap_or_default())
    }

    pub fn not_modified(&self) -> HttpResponse {
        self.start(StatusCode::NOT_MODIFIED).finish()
    }
}

fn context(response: &mut HttpResponseBuilder, context: Option<&str>) {
    if let Some(value) = context.and_then(|text| HeaderValue::from_str(text).ok()) {
        response.insert_header((KULA_CONTEXT, value));
    }
}

fn quoted(etag: &str) -> String {
    let mut text = String::with_capacity(etag.len() + 2);
    text.push('"');
    text.push_str(etag);
    text.push('"');
    text
}

/// Whether `If-None-Match` names this state. Weak and strong are the same here (RFC 9110 §13.1.2).
pub fn matches(if_none_match: &str, etag: &str) -> bool {
    if_none_match.split(',').map(str::trim).any(|wanted| {
        let strong = wanted.strip_prefix("W/").unwrap_or(wanted);
        wanted == "*" || strong.strip_prefix('"').and_then(|text| text.strip_suffix('"')) == Some(etag)
    })
}

/// `application/vnd.kula.siblings+json`.
#[derive(Serialize)]
pub struct Siblings<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<&'a str>,
    siblings: Vec<SiblingJson<'a>>,
    /// How many are not shown.
    more: u64,
}

#[derive(Serialize)]
struct SiblingJson<'a> {
    value: String,
    content_type: &'a str,
    dot: String,
    written: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
}

impl<'a> Siblings<'a> {
    pub fn of(context: Option<&'a str>, siblings: &'a [Sibling], more: u64) -> Self {
        let json = |sibling: &'a Sibling| SiblingJson {
            value: STANDARD.encode(&sibling.value.value),
            content_type: content_type(&sibling.value),
            dot: dot(sibling.dot),
            written: rfc3339(sibling.value.written),
            expires: sibling.value.expires.map(rfc3339),
        };
        Siblings { context, siblings: siblings.iter().map(json).collect(), more }
    }
}

pub fn content_type(value: &Value) -> &str {
    value.content_type.as_deref().unwrap_or("application/octet-stream")
}

/// `actor:seq` in hexadecimal and decimal; with the epoch once there are any.
fn dot(dot: Dot) -> String {
    match dot.epoch() {
        0 => format!("{:016x}:{}", dot.actor().0, dot.seq()),
        epoch => format!("{:016x}:{}:{epoch}", dot.actor().0, dot.seq()),
    }
}

/// Times before 1970 and after 9999, which a client's own timestamp may be, are shown as the nearest that has a form.
pub fn rfc3339(ts: Timestamp) -> String {
    let micros = u64::try_from(ts.micros()).unwrap_or(0).min(RFC3339_MICROS_MAX);
    humantime::format_rfc3339_micros(UNIX_EPOCH + Duration::from_micros(micros)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kula_types::{Actor, NodeId};

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros).unwrap()
    }

    fn value(text: &str, micros: i64) -> Value {
        Value { value: Bytes::copy_from_slice(text.as_bytes()), content_type: None, written: at(micros), expires: None }
    }

    #[test]
    fn siblings_are_json_as_documented() {
        let sibling = |seq, text| Sibling {
            value: value(text, 1_700_000_000_123_456),
            dot: Dot::new(Actor(0xab), 0, seq).unwrap(),
        };
        let mut expiring = sibling(2, "eggs");
        expiring.value.content_type = Some("text/plain".into());
        expiring.value.expires = Some(at(i64::MAX));
        let siblings = [sibling(1, "milk"), expiring];
        insta::assert_snapshot!(serde_json::to_string_pretty(&Siblings::of(Some("AQOx"), &siblings, 3)).unwrap());
    }

    #[test]
    fn any_timestamp_has_a_date() {
        assert_eq!(rfc3339(Timestamp::MIN), "1970-01-01T00:00:00.000000Z");
        assert_eq!(rfc3339(Timestamp::MAX), "9999-12-31T23:59:59.999999Z");
        assert_eq!(rfc3339(at(1)), "1970-01-01T00:00:00.000001Z");
    }

    #[test]
    fn the_part_of_each_replica_is_told() {
        let node: NodeId = serde_json::from_str("\"6f1d1f2e-0000-4000-8000-000000000001\"").unwrap();
        let report = |name: &str, outcome, repaired| ReplicaReport {
            node,
            name: name.into(),
            outcome,
            wait: Duration::from_micros(801),
            digest: None,
            repaired,
        };
        let replicas = [report("n1", ReplicaOutcome::Data, true), report("a \"b\"", ReplicaOutcome::Waiting, false)];
        let timing = Timing {
            queue: Duration::from_micros(12),
            replicas: Duration::from_millis(1),
            total: Duration::from_micros(1_022),
        };
        let part = Part { acked: 1, rf: 2, hinted: 1, replicas: &replicas, timing };
        assert_eq!(part.replicas(), "1/2; hinted=1");
        assert_eq!(part.acked_by(), "n1");
        insta::assert_snapshot!(part.server_timing());
    }

    #[test]
    fn if_none_match_is_a_list() {
        for yes in ["\"abc\"", "W/\"abc\"", "\"x\", \"abc\"", "*"] {
            assert!(matches(yes, "abc"), "{yes}");
        }
        for no in ["", "abc", "\"ab\"", "\"x\",\"y\"", "\""] {
            assert!(!matches(no, "abc"), "{no}");
        }
    }
}
