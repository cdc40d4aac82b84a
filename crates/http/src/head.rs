//! The headers of a request, read in one pass: each at most once, strictly, nothing of ours ignored.

use crate::{limits, refusal::Refusal};
use actix_web::{
    HttpRequest,
    http::header::{HeaderMap, HeaderValue},
};
use bytes::Bytes;
use kula_types::{
    Consistency, Timestamp,
    limits::{CONTENT_TYPE_BYTES_MAX, DEADLINE_MS_DEFAULT, DEADLINE_MS_MAX, IDEMPOTENCY_KEY_BYTES_MAX},
};
use std::{str, time::Duration};

/// What a request's headers ask for.
#[derive(Debug, PartialEq, Eq)]
pub struct Head<'a> {
    pub consistency: Consistency,
    /// How long the request may take from when it is complete.
    pub patience: Duration,
    /// Likewise for a change that all live nodes must hear of, which takes longer unless the client says otherwise.
    pub change_patience: Duration,
    pub context: Option<&'a str>,
    pub ttl: Option<Duration>,
    pub timestamp: Option<Timestamp>,
    pub idempotency_key: Option<&'a [u8]>,
    pub content_type: Option<&'a str>,
    /// What the body claims to have.
    pub content_length: Option<u64>,
    /// The body is compressed or otherwise not itself.
    pub encoded: bool,
    pub if_match: bool,
    pub if_none_match: Option<&'a str>,
    /// Of a valid `traceparent`: 32 hexadecimal digits.
    pub trace: Option<&'a str>,
}

impl<'a> Head<'a> {
    pub fn parse(request: &'a HttpRequest) -> Result<Self, Refusal> {
        Head::of(request.headers(), request.uri().path().len() + request.uri().query().map_or(0, str::len))
    }

    fn of(headers: &'a HeaderMap, line_bytes: usize) -> Result<Self, Refusal> {
        let mut level = None;
        let mut deadline = None;
        let mut head = Head {
            consistency: Consistency::Quorum,
            patience: Duration::from_millis(DEADLINE_MS_DEFAULT),
            change_patience: limits::CHANGE_PATIENCE,
            context: None,
            ttl: None,
            timestamp: None,
            idempotency_key: None,
            content_type: None,
            content_length: None,
            encoded: false,
            if_match: false,
            if_none_match: None,
            trace: None,
        };
        // Method, version and line ends: a round figure.
        let mut bytes = line_bytes + 24;
        for (name, value) in headers {
            let name = name.as_str();
            bytes += name.len() + value.len() + 4;
            match name {
                "kula-consistency" => once("Kula-Consistency", &mut level, || consistency(value))?,
                "kula-deadline-ms" => once("Kula-Deadline-Ms", &mut deadline, || patience(value))?,
                "kula-context" => once("Kula-Context", &mut head.context, || context(value))?,
                "kula-ttl" => once("Kula-TTL", &mut head.ttl, || ttl(value))?,
                "kula-timestamp" => once("Kula-Timestamp", &mut head.timestamp, || timestamp(value))?,
                "idempotency-key" => once("Idempotency-Key", &mut head.idempotency_key, || idempotency_key(value))?,
                "content-type" => once("Content-Type", &mut head.content_type, || content_type(value))?,
                "content-length" => head.content_length = value.to_str().ok().and_then(|text| text.parse().ok()),
                "content-encoding" => head.encoded |= !value.as_bytes().eq_ignore_ascii_case(b"identity"),
                "if-match" => head.if_match = true,
                // Several lines are one list (RFC 9110 §5.3); more than one line of this is rare: the last counts.
                "if-none-match" => head.if_none_match = Some(value.to_str().unwrap_or("")),
                "traceparent" => head.trace = trace(value),
                _ if name.starts_with("kula-") => {
                    return Err(Refusal::HeaderUnknown { name: name.chars().take(64).collect() });
                }
                _ => {}
            }
        }
        if bytes > limits::HEAD_BYTES_MAX {
            return Err(Refusal::HeadTooLarge { bytes });
        }
        head.consistency = level.unwrap_or(head.consistency);
        head.patience = deadline.unwrap_or(head.patience);
        head.change_patience = deadline.unwrap_or(head.change_patience);
        Ok(head)
    }
}

fn once<T>(name: &'static str, slot: &mut Option<T>, read: impl FnOnce() -> Result<T, Refusal>) -> Result<(), Refusal> {
    if slot.is_some() {
        return Err(Refusal::HeaderTwice { name });
    }
    *slot = Some(read()?);
    Ok(())
}

fn consistency(value: &HeaderValue) -> Result<Consistency, Refusal> {
    Ok(String::from_utf8_lossy(value.as_bytes()).parse::<Consistency>()?)
}

fn patience(value: &HeaderValue) -> Result<Duration, Refusal> {
    match number(value) {
        Some(millis @ 1..=DEADLINE_MS_MAX) => Ok(Duration::from_millis(millis)),
        _ => Err(Refusal::Header { name: "Kula-Deadline-Ms", accepts: "whole milliseconds, 1 to 60000" }),
    }
}

fn ttl(value: &HeaderValue) -> Result<Duration, Refusal> {
    match number(value) {
        Some(seconds @ 1..=limits::TTL_SECONDS_MAX) => Ok(Duration::from_secs(seconds)),
        _ => Err(Refusal::Header { name: "Kula-TTL", accepts: "whole seconds, 1 to 630720000" }),
    }
}

fn timestamp(value: &HeaderValue) -> Result<Timestamp, Refusal> {
    let micros = value.to_str().ok().and_then(|text| text.trim().parse::<i64>().ok());
    micros.and_then(|micros| Timestamp::from_micros(micros).ok()).ok_or(Refusal::Header {
        name: "Kula-Timestamp",
        accepts: "microseconds since 1970, a signed whole number of 64 bits",
    })
}

fn context(value: &HeaderValue) -> Result<&str, Refusal> {
    let accepts = "the text of an earlier answer, unchanged";
    value.to_str().map(str::trim).map_err(|_| Refusal::Header { name: "Kula-Context", accepts })
}

fn idempotency_key(value: &HeaderValue) -> Result<&[u8], Refusal> {
    match value.as_bytes() {
        key if (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) => Ok(key),
        _ => Err(Refusal::Header { name: "Idempotency-Key", accepts: "1 to 256 bytes" }),
    }
}

fn content_type(value: &HeaderValue) -> Result<&str, Refusal> {
    match value.to_str() {
        Ok(text) if text.len() <= CONTENT_TYPE_BYTES_MAX => Ok(text),
        _ => Err(Refusal::Header { name: "Content-Type", accepts: "at most 255 visible ASCII characters" }),
    }
}

fn number(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?.trim();
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The trace id of a W3C `traceparent`. A broken one is ignored, as that standard asks.
fn trace(value: &HeaderValue) -> Option<&str> {
    let mut parts = value.to_str().ok()?.split('-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let good = version.len() == 2 && hex(version) && version != "ff" && trace.len() == 32 && hex(trace);
    (good && trace.bytes().any(|byte| byte != b'0')).then_some(trace)
}

/// Owned, for a request that outlives its head.
pub fn owned(key: Option<&[u8]>) -> Option<Bytes> {
    key.map(Bytes::copy_from_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderName;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn every_header_is_understood() {
        let headers = map(&[
            ("kula-consistency", "Local_Quorum"),
            ("kula-deadline-ms", "250"),
            ("kula-context", "AQOx"),
            ("kula-ttl", "60"),
            ("kula-timestamp", "-5"),
            ("idempotency-key", "order 7"),
            ("content-type", "text/plain"),
            ("content-length", "12"),
            ("if-none-match", "\"abc\""),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ]);
        let expected = Head {
            consistency: Consistency::LocalQuorum,
            patience: Duration::from_millis(250),
            change_patience: Duration::from_millis(250),
            context: Some("AQOx"),
            ttl: Some(Duration::from_secs(60)),
            timestamp: Timestamp::from_micros(-5).ok(),
            idempotency_key: Some(b"order 7"),
            content_type: Some("text/plain"),
            content_length: Some(12),
            encoded: false,
            if_match: false,
            if_none_match: Some("\"abc\""),
            trace: Some("0af7651916cd43dd8448eb211c80319c"),
        };
        assert_eq!(Head::of(&headers, 10), Ok(expected));
    }

    #[test]
    fn without_headers_a_request_is_a_quorum_of_five_seconds() {
        let headers = map(&[("accept", "*/*")]);
        let head = Head::of(&headers, 10).unwrap();
        assert_eq!((head.consistency, head.patience), (Consistency::Quorum, Duration::from_secs(5)));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let long = "x".repeat(257);
        let refused = [
            ("kula-consistency", "most"),
            ("kula-consistency", "0"),
            ("kula-deadline-ms", "0"),
            ("kula-deadline-ms", "60001"),
            ("kula-deadline-ms", "+5"),
            ("kula-ttl", "0"),
            ("kula-ttl", "1.5"),
            ("kula-ttl", "99999999999999999999999"),
            ("kula-timestamp", "yesterday"),
            ("kula-timestamp", "-9223372036854775808"),
            ("kula-context", "\u{e9}"),
            ("idempotency-key", ""),
            ("idempotency-key", &long),
            ("content-type", &long),
            ("kula-consistancy", "one"),
        ]
        .map(|(name, value)| format!("{name}: {value:.20}\n    {}", Head::of(&map(&[(name, value)]), 0).unwrap_err()));
        insta::assert_snapshot!(refused.join("\n"));
        let twice = map(&[("kula-ttl", "1"), ("kula-ttl", "1")]);
        assert_eq!(Head::of(&twice, 0), Err(Refusal::HeaderTwice { name: "Kula-TTL" }));
        let wide = map(&[("cookie", &"x".repeat(33 << 10))]);
        assert!(matches!(Head::of(&wide, 0), Err(Refusal::HeadTooLarge { .. })));
    }

    #[test]
    fn a_broken_traceparent_is_ignored() {
        for bad in [
            "",
            "00",
            "00-zz",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b-01",
        ] {
            assert_eq!(Head::of(&map(&[("traceparent", bad)]), 0).unwrap().trace, None, "{bad}");
        }
    }
}
