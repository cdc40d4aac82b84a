//! A table's keys in token order, a page at a time: one JSON object a line (NDJSON), where to go on in headers.
//!
//! `Kula-Next` is spelled as the next request's `after` is, so that a script puts one into the other without looking at
//! it. The page is whole before its head goes out: what is in the headers is known, and the body is bounded.

use crate::{
    answer::{self, Part, Siblings},
    front::Front,
    head::Head,
    problem::Problem,
    refusal::Refusal,
    route::{self, KeyEncoding, KeyQuery, parameter, parameters},
};
use actix_web::{
    HttpResponse,
    http::header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use kula_actor::Reply;
use kula_coordinator::{Found, Scan, ScanAnswer, ScanEntry, Value};
use kula_types::PartitionKey;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde::Serialize;
use std::borrow::Cow;

const KULA_MORE: HeaderName = HeaderName::from_static("kula-more");
const KULA_NEXT: HeaderName = HeaderName::from_static("kula-next");
const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");
const LIMIT_DEFAULT: u32 = 100;
const LIMIT_MAX: u32 = 1_000;
const _: () = assert!(LIMIT_MAX as usize == kula_coordinator::limits::SCAN_ENTRIES_MAX);
/// All but what RFC 3986 §2.3 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What may stand in the query.
#[derive(Debug, PartialEq, Eq)]
pub struct ScanQuery {
    after: Option<PartitionKey>,
    limit: u32,
    /// How keys are spelled, of the query and of the page, and what is shown of one.
    keys: KeyQuery,
}

impl ScanQuery {
    pub fn parse(query: &str) -> Result<Self, Refusal> {
        let (mut after, mut limit, mut keys) = ("", LIMIT_DEFAULT, KeyQuery::default());
        for (name, value) in parameters(query) {
            match name {
                "after" => after = value,
                "limit" => limit = limit_of(value)?,
                _ if keys.take(name, value)? => {}
                other => return Err(parameter(other, "a listing knows after, limit, key-encoding and resolve")),
            }
        }
        // Empty: from the beginning, so that a script's first page needs no case of its own.
        let after = (!after.is_empty()).then(|| route::key(after, keys.encoding)).transpose()?;
        Ok(ScanQuery { after, limit, keys })
    }
}

fn limit_of(text: &str) -> Result<u32, Refusal> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number @ 1..=LIMIT_MAX) if is_number => Ok(number),
        _ => Err(parameter("limit", "it is 1 to 1000")),
    }
}

pub async fn page(
    front: &Front,
    keyspace: &str,
    table: &str,
    query: &str,
    head: &Head<'_>,
) -> Result<HttpResponse, Problem> {
    front.open()?;
    if head.if_match {
        return Err(Refusal::NotThereYet { what: "If-Match on a read" }.into());
    }
    let ScanQuery { after, limit, keys } = ScanQuery::parse(query)?;
    let deadline = front.clock().mono().after(head.patience);
    let (reply, pending) = Reply::pair();
    front.coordinators.scan(Scan {
        keyspace: keyspace.to_string(),
        table: table.to_string(),
        after,
        limit,
        resolve_lww: keys.resolve_lww,
        consistency: head.consistency,
        deadline,
        reply,
    });
    let page = front.await_answer(deadline, pending).await?;
    Ok(response(&page, keys.encoding))
}

fn response(page: &ScanAnswer, encoding: KeyEncoding) -> HttpResponse {
    let mut body = Vec::new();
    for entry in &page.entries {
        // Strings and numbers always have a JSON form, and a vector takes it.
        let written = serde_json::to_writer(&mut body, &Line::of(entry, encoding));
        debug_assert!(written.is_ok());
        body.push(b'\n');
    }
    let mut response = HttpResponse::Ok();
    response.insert_header((CONTENT_TYPE, NDJSON));
    let more = if page.more() { "true" } else { "false" };
    response.insert_header((KULA_MORE, HeaderValue::from_static(more)));
    let next = page.next.as_ref().map(|key| HeaderValue::from_str(&spell(key, encoding)));
    if let Some(Ok(next)) = next {
        response.insert_header((KULA_NEXT, next));
    }
    let timing = Part { acked: 0, rf: 0, hinted: 0, replicas: &[], timing: page.timing }.server_timing();
    if let Ok(timing) = HeaderValue::from_str(&timing) {
        response.insert_header((answer::SERVER_TIMING, timing));
    }
    response.body(body)
}

/// A key as a query's `after` has it.
fn spell(key: &PartitionKey, encoding: KeyEncoding) -> String {
    match encoding {
        KeyEncoding::Percent => percent_encode(key.as_bytes(), RESERVED).to_string(),
        KeyEncoding::Base64Url => URL_SAFE_NO_PAD.encode(key.as_bytes()),
    }
}

/// One key with what it shows.
#[derive(Serialize)]
struct Line<'a> {
    /// The key, if it is text and was not asked for as base64url; else the other one.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64url: Option<String>,
    #[serde(flatten)]
    shown: Shown<'a>,
}

/// As a GET of the key shows it.
#[derive(Serialize)]
#[serde(untagged)]
enum Shown<'a> {
    One {
        #[serde(skip_serializing_if = "Option::is_none")]
        context: Option<&'a str>,
        /// Base64.
        value: String,
        content_type: Cow<'a, str>,
        written: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        expires: Option<String>,
    },
    Siblings(Siblings<'a>),
}

impl<'a> Line<'a> {
    fn of(entry: &'a ScanEntry, encoding: KeyEncoding) -> Self {
        let bytes = entry.key.as_bytes();
        let key = match encoding {
            KeyEncoding::Percent => str::from_utf8(bytes).ok(),
            KeyEncoding::Base64Url => None,
        };
        let key_base64url = key.is_none().then(|| URL_SAFE_NO_PAD.encode(bytes));
        let context = entry.context.as_deref();
        let shown = match &entry.found {
            Found::One(value) => one(context, value),
            Found::Siblings { siblings, more } => Shown::Siblings(Siblings::of(context, siblings, *more)),
            // A listing has no such entry.
            Found::Nothing => Shown::Siblings(Siblings::of(context, &[], 0)),
        };
        Line { key, key_base64url, shown }
    }
}

fn one<'a>(context: Option<&'a str>, value: &'a Value) -> Shown<'a> {
    Shown::One {
        context,
        value: STANDARD.encode(&value.value),
        content_type: answer::content_type(value).into(),
        written: answer::rfc3339(value.written),
        expires: value.expires.map(answer::rfc3339),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::body::MessageBody;
    use bytes::Bytes;
    use kula_coordinator::{Sibling, Timing};
    use kula_types::{Actor, Dot, Timestamp, Token};

    fn value(text: &str) -> Value {
        let written = Timestamp::from_micros(1_700_000_000_123_456).unwrap();
        Value { value: Bytes::copy_from_slice(text.as_bytes()), content_type: None, written, expires: None }
    }

    fn entry(key: &[u8], found: Found, context: Option<&str>) -> ScanEntry {
        ScanEntry { key: PartitionKey::copy_from(key), token: Token(1), found, context: context.map(str::to_string) }
    }

    fn show(page: &ScanAnswer, encoding: KeyEncoding) -> String {
        let response = response(page, encoding);
        let headers = response.headers().iter();
        let mut lines: Vec<_> = headers.map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect();
        lines.sort();
        let out = lines.concat();
        let body = response.into_body().try_into_bytes().unwrap();
        out + std::str::from_utf8(&body).unwrap()
    }

    #[test]
    fn a_page_is_a_line_a_key_and_says_where_to_go_on() {
        let sibling = |seq, text| Sibling { value: value(text), dot: Dot::new(Actor(0xab), 0, seq).unwrap() };
        let both = Found::Siblings { siblings: vec![sibling(1, "milk"), sibling(2, "eggs")], more: 3 };
        let mut page = ScanAnswer {
            entries: vec![
                entry("cart:42 \"é\"\n".as_bytes(), Found::One(value("milk")), Some("AQOx")),
                entry(b"\xff\0", Found::One(value("")), None),
                entry(b"k", both, Some("AQOy")),
            ],
            next: Some(PartitionKey::copy_from("a/b &é\u{0}".as_bytes())),
            timing: Timing::default(),
        };
        let percent = show(&page, KeyEncoding::Percent);
        let base64 = show(&page, KeyEncoding::Base64Url);
        page = ScanAnswer { entries: Vec::new(), next: None, ..page };
        let end = show(&page, KeyEncoding::Percent);
        insta::assert_snapshot!([percent, base64, end].join("\n"));
    }

    #[test]
    fn a_query_is_read_strictly() {
        let good = |query: &str| ScanQuery::parse(query).unwrap();
        let key = |bytes: &[u8]| Some(PartitionKey::copy_from(bytes));
        let first = good("");
        assert_eq!((first.after, first.limit, first.keys), (None, 100, KeyQuery::default()));
        assert_eq!(good("after=&limit=1000").after, None);
        assert_eq!(good("limit=1&after=a%2Fb%00%ff+").after, key(b"a/b\0\xff+"));
        // Whatever comes first.
        assert_eq!(good("after=AAEC_w&key-encoding=base64url&resolve=lww").after, key(&[0, 1, 2, 255]));
        for bad in [
            "limit=0",
            "limit=1001",
            "limit=",
            "limit=+5",
            "limit=1.0",
            "limit=99999999999",
            "after=%4",
            "before=a",
            "key-encoding=hex",
            "resolve=newest",
            "after=a=&key-encoding=base64url",
        ] {
            assert!(ScanQuery::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn where_to_go_on_is_read_as_it_was_spelled() {
        let all: Vec<u8> = (0..=255).collect();
        let all = PartitionKey::copy_from(&all);
        for (encoding, name) in [(KeyEncoding::Percent, "percent"), (KeyEncoding::Base64Url, "base64url")] {
            let query = format!("after={}&key-encoding={name}", spell(&all, encoding));
            assert_eq!(ScanQuery::parse(&query).unwrap().after.as_ref(), Some(&all));
        }
    }
}
