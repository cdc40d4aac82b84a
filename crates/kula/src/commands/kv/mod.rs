//! `kula get`, `put`, `del`: one key over HTTP.

mod told;

use crate::{
    cli::{Del, Get, Global, Keyed, Output, Put},
    client::{Answer, Client, Failure},
    exit::Verdict,
    stopwatch::now,
};
use anyhow::Context;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::io::{IsTerminal, Read, Write};
use told::{context, explained, summary};

/// What a key may hold unescaped in a path (RFC 3986, unreserved).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub fn get(get: &Get, global: &Global) -> Result<Verdict, Failure> {
    let client = Client::new(global)?;
    let mut path = path(&get.keyed)?;
    if get.newest {
        path.push_str("?resolve=lww");
    }
    let started = now();
    let answer = client.ask("GET", &path, &[("Kula-Consistency", &get.keyed.consistency)], b"")?;
    match answer.status {
        200 => {
            to_stdout(&answer.body)?;
            if std::io::stdout().is_terminal() && !answer.body.ends_with(b"\n") {
                // The value is printed as it is; on a terminal what follows begins its own line all the same.
                eprintln!();
            }
            eprintln!("{}", summary(&answer, started, global));
            explained(&answer, &get.keyed, global);
            Ok(Verdict::Ok)
        }
        300 => {
            to_stdout(&answer.body)?;
            println!();
            eprintln!("siblings: concurrent writes; put with --context {} replaces them all", context(&answer));
            explained(&answer, &get.keyed, global);
            Ok(Verdict::Error)
        }
        404 if is_absent(&answer) => {
            match global.output {
                Output::Json => eprintln!("{}", answer.json(&client.at)?),
                Output::Human => eprintln!("not found: {}", get.keyed.key),
            }
            explained(&answer, &get.keyed, global);
            Ok(Verdict::Error)
        }
        _ => Err(client.problem(&answer)),
    }
}

pub fn put(put: &Put, global: &Global) -> Result<Verdict, Failure> {
    let client = Client::new(global)?;
    let value = value(put)?;
    let path = path(&put.keyed)?;
    let started = now();
    // A bucket keeps what no context covers: read first, so that a second put replaces.
    let seen = match (&put.context, put.blind) {
        (Some(context), _) => Some(context.clone()),
        (None, true) => None,
        (None, false) => seen(&client, &path, &put.keyed)?,
    };
    let ttl = put.ttl.map(|ttl| ttl.as_secs().to_string());
    let mut headers = vec![("Kula-Consistency", put.keyed.consistency.as_str())];
    headers.extend(seen.as_deref().map(|context| ("Kula-Context", context)));
    headers.extend(ttl.as_deref().map(|ttl| ("Kula-TTL", ttl)));
    headers.push(("Content-Type", put.content_type.as_deref().unwrap_or("application/octet-stream")));
    let answer = client.expect("PUT", &path, &headers, &value)?;
    println!("{}", summary(&answer, started, global));
    explained(&answer, &put.keyed, global);
    Ok(Verdict::Ok)
}

pub fn del(del: &Del, global: &Global) -> Result<Verdict, Failure> {
    let client = Client::new(global)?;
    let started = now();
    let mut headers = vec![("Kula-Consistency", del.keyed.consistency.as_str())];
    headers.extend(del.context.as_deref().map(|context| ("Kula-Context", context)));
    let answer = client.expect("DELETE", &path(&del.keyed)?, &headers, b"")?;
    println!("{}", summary(&answer, started, global));
    explained(&answer, &del.keyed, global);
    Ok(Verdict::Ok)
}

/// The context of what stands there now, if a context exists for this table.
fn seen(client: &Client, path: &str, keyed: &Keyed) -> Result<Option<String>, Failure> {
    let answer = client.ask("GET", path, &[("Kula-Consistency", &keyed.consistency)], b"")?;
    match answer.status {
        200 | 300 => Ok(answer.header("Kula-Context").map(str::to_string)),
        404 if is_absent(&answer) => Ok(answer.header("Kula-Context").map(str::to_string)),
        _ => Err(client.problem(&answer)),
    }
}

/// A key that is not there, as against a table that is not there.
fn is_absent(answer: &Answer) -> bool {
    answer.json("").is_ok_and(|problem| problem["code"] == "K0404")
}

/// `/kv/keyspace/table/key`.
fn path(keyed: &Keyed) -> Result<String, Failure> {
    let (keyspace, table) = crate::commands::admin::split(&keyed.table)?;
    Ok(format!("/kv/{keyspace}/{table}/{}", utf8_percent_encode(&keyed.key, PLAIN)))
}

fn value(put: &Put) -> Result<Vec<u8>, Failure> {
    let mut value = Vec::new();
    match (&put.file, &put.value) {
        (Some(file), _) => {
            #[allow(clippy::disallowed_methods, reason = "a user's own file, not the database's")]
            let read = std::fs::read(file);
            value = read.with_context(|| format!("cannot read {}", file.display()))?;
        }
        (None, Some(text)) if text != "-" => value.extend_from_slice(text.as_bytes()),
        (None, _) => {
            std::io::stdin().read_to_end(&mut value).context("cannot read standard input")?;
        }
    }
    Ok(value)
}

fn to_stdout(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).context("cannot write to standard output").map_err(Failure::Local)
}
