//! A whole table, page by page in the ring's order, through one node, or through another where that fails: where to go on
//! is good at every node.

use super::{
    limits::{PAGE_ENTRIES, PAGE_PATIENCE, RETRY_FIRST, RETRY_MOST},
    members::Members,
    trouble::Trouble,
};
use crate::{
    client::{Answer, Client, Failure},
    commands::admin::split,
    stopwatch::now,
};
use anyhow::Context;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::{Deserialize, de::IgnoredAny};
use std::borrow::Cow;

/// What stands under one key.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Vec<u8>,
    pub shown: Shown,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Shown {
    One { value: Vec<u8>, content_type: String, expires: bool },
    Siblings,
}

pub struct Pages<'a> {
    members: &'a Members,
    clients: &'a [Client],
    trouble: &'a Trouble,
    /// Which of them is asked first.
    home: usize,
    path: String,
    consistency: &'a str,
    /// Ready for the query.
    after: String,
    more: bool,
}

/// How a table is read.
pub struct Wanted<'a> {
    pub table: &'a str,
    pub consistency: &'a str,
    /// Of siblings the newest.
    pub newest: bool,
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    key: Option<Text<'a>>,
    #[serde(borrow)]
    key_base64url: Option<Text<'a>>,
    #[serde(borrow)]
    value: Option<Text<'a>>,
    content_type: Option<String>,
    expires: Option<IgnoredAny>,
    siblings: Option<IgnoredAny>,
}

impl<'a> Pages<'a> {
    /// `clients` are those of `members`, or one of them.
    pub fn new(
        wanted: &Wanted<'a>,
        members: &'a Members,
        clients: &'a [Client],
        trouble: &'a Trouble,
    ) -> Result<Self, Failure> {
        let (keyspace, table) = split(wanted.table)?;
        let newest = if wanted.newest { "&resolve=lww" } else { "" };
        let path = format!("/kv/{keyspace}/{table}?limit={PAGE_ENTRIES}{newest}&after=");
        let (consistency, after) = (wanted.consistency, String::new());
        Ok(Pages { members, clients, trouble, home: 0, path, consistency, after, more: true })
    }

    /// The next page, which may be empty; `None` behind the last.
    pub fn next(&mut self) -> Result<Option<Vec<Entry>>, Failure> {
        if !self.more {
            return Ok(None);
        }
        let began = now();
        let mut wait = RETRY_FIRST;
        loop {
            match self.page() {
                Err(failure) if !passes(&failure) || began.elapsed() > PAGE_PATIENCE => return Err(failure),
                Err(failure) => self.trouble.met(1, failure.to_string()),
                Ok(page) => return Ok(Some(page)),
            }
            self.home += 1;
            std::thread::sleep(wait);
            wait = (wait * 2).min(RETRY_MOST);
        }
    }

    fn page(&mut self) -> Result<Vec<Entry>, Failure> {
        let place = if self.clients.len() > 1 { self.members.choose(self.home) } else { 0 };
        let client = &self.clients[place];
        let path = format!("{}{}", self.path, self.after);
        let answer = client.expect("GET", &path, &[("Kula-Consistency", self.consistency)], b"")?;
        let page = entries(&answer.body).map_err(|error| strange(client, &error))?;
        self.go_on(&answer);
        Ok(page)
    }

    fn go_on(&mut self, answer: &Answer) {
        let next = answer.header("Kula-Next").unwrap_or_default();
        self.more = answer.header("Kula-More") == Some("true") && !next.is_empty();
        self.after = next.to_string();
    }
}

fn strange(client: &Client, error: &anyhow::Error) -> Failure {
    Failure::Strange { at: client.at.clone(), why: format!("{error:#}") }
}

/// Whether it may be well a moment later, or at another node.
fn passes(failure: &Failure) -> bool {
    match failure {
        Failure::Problem(problem) => matches!(problem["status"].as_u64(), Some(408 | 429 | 500 | 502..=504 | 507)),
        Failure::Unreachable { .. } => true,
        _ => false,
    }
}

fn entries(body: &[u8]) -> anyhow::Result<Vec<Entry>> {
    body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(entry).collect()
}

fn entry(line: &[u8]) -> anyhow::Result<Entry> {
    let line: Line<'_> = serde_json::from_slice(line)?;
    let key = match (line.key, line.key_base64url) {
        (Some(key), _) => key.0.into_owned().into_bytes(),
        (None, Some(key)) => URL_SAFE_NO_PAD.decode(key.0.as_bytes())?,
        (None, None) => anyhow::bail!("a line without a key"),
    };
    if line.siblings.is_some() {
        return Ok(Entry { key, shown: Shown::Siblings });
    }
    let value = STANDARD.decode(line.value.context("a line without a value")?.0.as_bytes())?;
    let content_type = line.content_type.unwrap_or_default();
    Ok(Entry { key, shown: Shown::One { value, content_type, expires: line.expires.is_some() } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_as_it_is_documented() {
        let page = br#"{"key":"cart:42","context":"AQOx","value":"bWlsaw==","content_type":"text/plain","written":"2026-11-03T07:40:12.345678Z"}
{"key_base64url":"_wA","context":"AQOy","siblings":[{"value":"..","content_type":"..","dot":"..","written":".."}],"more":0}
{"key":"e","value":"","content_type":"x","written":"..","expires":".."}
"#;
        let one = |value: &[u8], content_type: &str, expires| Shown::One {
            value: value.to_vec(),
            content_type: content_type.into(),
            expires,
        };
        let expected = [
            Entry { key: b"cart:42".to_vec(), shown: one(b"milk", "text/plain", false) },
            Entry { key: vec![255, 0], shown: Shown::Siblings },
            Entry { key: b"e".to_vec(), shown: one(b"", "x", true) },
        ];
        assert_eq!(entries(page).unwrap(), expected);
        assert!(entries(b"").unwrap().is_empty());
        for bad in [&b"{}"[..], b"{\"key\":\"a\"}", b"{\"key\":\"a\",\"value\":\"%\"}", b"x"] {
            assert!(entries(bad).is_err());
        }
    }
}
