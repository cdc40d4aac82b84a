//! From a method and a raw path to a route, and from a raw path segment to a key's bytes.
//!
//! The path is read as it came, before anybody decodes it: keys are arbitrary bytes, and `%2F` inside a key is not a
//! separator. After the table the rest of the path is the key, slashes included.

use crate::refusal::Refusal;
use actix_web::http::Method;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use kula_types::{PartitionKey, limits::HTTP_KEY_BYTES_MAX};
use std::borrow::Cow;

/// What a path means. Names are decoded, keys are not yet: their encoding stands in the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    Key { keyspace: Cow<'a, str>, table: Cow<'a, str>, key: &'a str },
    Scan { keyspace: Cow<'a, str>, table: Cow<'a, str> },
    Batch { keyspace: Cow<'a, str>, table: Cow<'a, str> },
    Replica { keyspace: Cow<'a, str>, table: Cow<'a, str>, key: &'a str },
    Status,
    Ring,
    Actors,
    Tasks,
    Hints,
    Keyspaces,
    Keyspace { keyspace: Cow<'a, str> },
    Tables { keyspace: Cow<'a, str> },
    Table { keyspace: Cow<'a, str>, table: Cow<'a, str> },
    Config,
    Events,
    Live,
    Ready,
    Metrics,
    OpenApi,
    Dashboard,
}

impl Route<'_> {
    /// The methods a route takes, as its `Allow` header says them.
    pub const fn allow(&self) -> &'static str {
        match self {
            Route::Key { .. } => "GET, HEAD, PUT, DELETE",
            Route::Batch { .. } | Route::Tables { .. } => "POST",
            Route::Keyspaces => "GET, HEAD, POST",
            Route::Keyspace { .. } => "GET, HEAD, PATCH, DELETE",
            Route::Table { .. } => "GET, HEAD, DELETE",
            Route::Scan { .. }
            | Route::Replica { .. }
            | Route::Status
            | Route::Ring
            | Route::Actors
            | Route::Tasks
            | Route::Hints
            | Route::Config
            | Route::Events
            | Route::Live
            | Route::Ready
            | Route::Metrics
            | Route::OpenApi
            | Route::Dashboard => "GET, HEAD",
        }
    }

    /// The route of `path`, if it takes `method`.
    pub fn of<'a>(method: &Method, path: &'a str) -> Result<Route<'a>, Refusal> {
        let route = path_of(path).ok_or(Refusal::NoSuchRoute)?;
        let allow = route.allow();
        if allow.split(", ").any(|known| known == method.as_str()) {
            Ok(route)
        } else {
            Err(Refusal::MethodNotAllowed { allow })
        }
    }
}

fn path_of(path: &str) -> Option<Route<'_>> {
    if let Some(rest) = path.strip_prefix("/kv/") {
        return data_path(rest);
    }
    if let Some(rest) = path.strip_prefix("/v1/replica/") {
        let (keyspace, rest) = rest.split_once('/')?;
        let (table, key) = rest.split_once('/')?;
        return Some(Route::Replica { keyspace: name(keyspace), table: name(table), key });
    }
    if let Some(rest) = path.strip_prefix("/v1/keyspaces/") {
        let mut parts = rest.split('/');
        let keyspace = parts.next().filter(|keyspace| !keyspace.is_empty()).map(name)?;
        return match (parts.next(), parts.next(), parts.next()) {
            (None, ..) => Some(Route::Keyspace { keyspace }),
            (Some("tables"), None, _) => Some(Route::Tables { keyspace }),
            (Some("tables"), Some(table), None) if !table.is_empty() => {
                Some(Route::Table { keyspace, table: name(table) })
            }
            _ => None,
        };
    }
    Some(match path {
        "/v1/status" => Route::Status,
        "/v1/ring" => Route::Ring,
        "/v1/actors" => Route::Actors,
        "/v1/tasks" => Route::Tasks,
        "/v1/hints" => Route::Hints,
        "/v1/keyspaces" => Route::Keyspaces,
        "/v1/config" => Route::Config,
        "/v1/events" => Route::Events,
        "/healthz/live" => Route::Live,
        "/healthz/ready" => Route::Ready,
        "/metrics" => Route::Metrics,
        "/openapi.json" => Route::OpenApi,
        "/" => Route::Dashboard,
        _ => return None,
    })
}

fn data_path(rest: &str) -> Option<Route<'_>> {
    let (keyspace, rest) = rest.split_once('/')?;
    let keyspace = name(keyspace);
    match rest.split_once('/') {
        Some((table, key)) => Some(Route::Key { keyspace, table: name(table), key }),
        None => Some(match name(rest) {
            Cow::Borrowed(table) => match table.strip_suffix(":batch") {
                Some(table) => Route::Batch { keyspace, table: Cow::Borrowed(table) },
                None => Route::Scan { keyspace, table: Cow::Borrowed(table) },
            },
            Cow::Owned(table) => match table.strip_suffix(":batch") {
                Some(table) => Route::Batch { keyspace, table: Cow::Owned(table.to_string()) },
                None => Route::Scan { keyspace, table: Cow::Owned(table) },
            },
        }),
    }
}

/// A keyspace's or table's name. What does not decode stays as it is: no such name exists, and the answer says so.
fn name(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    percent_encoding::percent_decode_str(segment).decode_utf8().unwrap_or(Cow::Borrowed(segment))
}

/// How the key is written in the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum KeyEncoding {
    #[default]
    Percent,
    Base64Url,
}

/// What may stand in the query of a key's route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct KeyQuery {
    pub encoding: KeyEncoding,
    pub resolve_lww: bool,
}

impl KeyQuery {
    pub fn parse(query: &str) -> Result<Self, Refusal> {
        let mut parsed = KeyQuery::default();
        for (name, value) in parameters(query) {
            if !parsed.take(name, value)? {
                return Err(parameter(name, "a key's routes know key-encoding and resolve"));
            }
        }
        Ok(parsed)
    }

    /// Reads one parameter; false if it is none of these.
    pub fn take(&mut self, name: &str, value: &str) -> Result<bool, Refusal> {
        match (name, value) {
            ("key-encoding", "base64url") => self.encoding = KeyEncoding::Base64Url,
            ("key-encoding", "percent") => self.encoding = KeyEncoding::Percent,
            ("key-encoding", _) => return Err(parameter("key-encoding", "it is base64url or percent")),
            ("resolve", "lww") => self.resolve_lww = true,
            ("resolve", _) => return Err(parameter("resolve", "it is lww")),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The pairs of a query as they are written.
pub fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

pub fn parameter(name: &str, accepts: &'static str) -> Refusal {
    Refusal::Parameter { name: name.chars().take(64).collect(), accepts }
}

/// The bytes of a key as the path spells it.
pub fn key(raw: &str, encoding: KeyEncoding) -> Result<PartitionKey, Refusal> {
    bounded(match encoding {
        KeyEncoding::Percent if !raw.contains('%') => Bytes::copy_from_slice(raw.as_bytes()),
        KeyEncoding::Percent => percent_decoded(raw.as_bytes())?,
        KeyEncoding::Base64Url => base64url(raw)?,
    })
}

/// A key of a length that this door takes.
pub fn bounded(bytes: Bytes) -> Result<PartitionKey, Refusal> {
    match bytes.len() {
        0 => Err(Refusal::KeyEmpty),
        1..=HTTP_KEY_BYTES_MAX => Ok(PartitionKey(bytes)),
        bytes => Err(Refusal::KeyTooLong { bytes, max: HTTP_KEY_BYTES_MAX }),
    }
}

/// A key or a value in base64url; the length was bounded by whoever read `text`.
pub fn base64url(text: &str) -> Result<Bytes, Refusal> {
    URL_SAFE_NO_PAD.decode(text).map(Bytes::from).map_err(|_| Refusal::KeyBase64)
}

/// Strict, unlike the library's: a broken escape must not become another key.
fn percent_decoded(raw: &[u8]) -> Result<Bytes, Refusal> {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        if byte == b'%' {
            let digits = (raw.get(at + 1).copied().and_then(hex), raw.get(at + 2).copied().and_then(hex));
            let (Some(high), Some(low)) = digits else { return Err(Refusal::KeyEscape { at }) };
            decoded.push(high << 4 | low);
            at += 3;
        } else {
            decoded.push(byte);
            at += 1;
        }
    }
    Ok(Bytes::from(decoded))
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(method: Method, path: &str) -> String {
        match Route::of(&method, path) {
            Ok(route) => format!("{route:?}"),
            Err(refusal) => format!("refused: {refusal}"),
        }
    }

    #[test]
    fn a_path_is_read_raw_and_after_the_table_all_is_key() {
        insta::assert_snapshot!(
            [
                (Method::GET, "/kv/kv/default/cart:42"),
                (Method::PUT, "/kv/kv/default/a%2Fb/c//"),
                (Method::GET, "/kv/kv/default/"),
                (Method::POST, "/kv/kv/default/x"),
                (Method::GET, "/kv/kv/default"),
                (Method::POST, "/kv/kv/default:batch"),
                (Method::POST, "/kv/kv/default%3Abatch"),
                (Method::GET, "/kv/kv/default:batch"),
                (Method::GET, "/kv/kv"),
                (Method::GET, "/v1/status"),
                (Method::DELETE, "/v1/status"),
                (Method::GET, "/v1/replica/kv/default/a/b"),
                (Method::POST, "/v1/keyspaces/shop/tables"),
                (Method::POST, "/v1/keyspaces/shop/tables/x"),
                (Method::DELETE, "/v1/keyspaces/shop/tables/x"),
                (Method::GET, "/v1/keyspaces/shop/tables/x/y"),
                (Method::PATCH, "/v1/keyspaces/shop"),
                (Method::GET, "/v1/keyspaces/shop/"),
                (Method::GET, "/healthz/ready"),
                (Method::GET, "/healthz/ready/"),
                (Method::OPTIONS, "*"),
                (Method::CONNECT, ""),
                (Method::GET, "/"),
            ]
            .map(|(method, path)| format!("{method} {path}\n    {}", route(method.clone(), path)))
            .join("\n")
        );
    }

    #[test]
    fn a_key_is_any_bytes_and_a_broken_escape_is_refused() {
        let percent = |raw: &str| key(raw, KeyEncoding::Percent).map(|key| key.0.to_vec());
        assert_eq!(percent("a+b%2Fc%00%ff"), Ok(b"a+b/c\0\xff".to_vec()));
        assert_eq!(percent("/"), Ok(b"/".to_vec()));
        assert_eq!(percent("%"), Err(Refusal::KeyEscape { at: 0 }));
        assert_eq!(percent("ab%2"), Err(Refusal::KeyEscape { at: 2 }));
        assert_eq!(percent("%zz"), Err(Refusal::KeyEscape { at: 0 }));
        assert_eq!(percent(""), Err(Refusal::KeyEmpty));
        assert_eq!(percent(&"%41".repeat(4096)), Ok(vec![b'A'; 4096]));
        assert_eq!(percent(&"a".repeat(4097)), Err(Refusal::KeyTooLong { bytes: 4097, max: 4096 }));
        let base64 = |raw: &str| key(raw, KeyEncoding::Base64Url).map(|key| key.0.to_vec());
        assert_eq!(base64("AAEC_w"), Ok(vec![0, 1, 2, 255]));
        assert_eq!(base64("AAEC/w"), Err(Refusal::KeyBase64));
        assert_eq!(base64("AAEC_w=="), Err(Refusal::KeyBase64));
    }

    #[test]
    fn a_query_knows_two_parameters() {
        let both = KeyQuery { encoding: KeyEncoding::Base64Url, resolve_lww: true };
        assert_eq!(KeyQuery::parse("resolve=lww&key-encoding=base64url"), Ok(both));
        assert_eq!(KeyQuery::parse(""), Ok(KeyQuery::default()));
        for bad in ["resolve=newest", "key-encoding=hex", "limit=1", "resolve", "=", "resolve=lww&x"] {
            assert!(KeyQuery::parse(bad).is_err(), "{bad}");
        }
    }
}
