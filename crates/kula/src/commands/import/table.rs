//! The table that records go into.

use crate::{
    cli::{Global, Output},
    client::{Client, Failure},
    commands::admin::split,
};
use serde_json::Value;

/// Where an import goes that was not told where to: a keyspace of three copies, last writer wins.
const DEFAULT: &str = "demo.packages";
const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];

pub struct Target {
    /// `keyspace.table`.
    pub name: String,
    /// Of this making of it: dropped and made again it is another one.
    pub id: String,
    /// A bucket.
    pub is_causal: bool,
}

impl Target {
    /// The table of that name; without a name the default one, which is made if it is not there.
    pub fn find_or_make(client: &Client, name: Option<&str>, global: &Global) -> Result<Self, Failure> {
        let (keyspace, table) = split(name.unwrap_or(DEFAULT))?;
        if name.is_none() {
            let is_new = make(client, "/v1/keyspaces", &format!("{{\"name\":\"{keyspace}\",\"rf\":3}}"))?;
            let body = format!("{{\"name\":\"{table}\",\"kind\":\"lww\"}}");
            let is_new = make(client, &format!("/v1/keyspaces/{keyspace}/tables"), &body)? || is_new;
            if is_new && global.output == Output::Human {
                eprintln!("created the table {DEFAULT}: last writer wins, 3 copies where there are 3 nodes");
            }
        }
        let path = format!("/v1/keyspaces/{keyspace}/tables/{table}");
        let found: Value = client.expect("GET", &path, &[], b"")?.json(&client.at)?;
        Ok(Target {
            name: format!("{keyspace}.{table}"),
            id: found["id"].as_str().unwrap_or_default().to_string(),
            is_causal: found["kind"] == "causal",
        })
    }
}

/// Whether it was not there before. A node that has not heard of it yet will: that is no reason to wait.
fn make(client: &Client, path: &str, body: &str) -> Result<bool, Failure> {
    let answer = client.ask("POST", path, JSON, body.as_bytes())?;
    let is_made_here = answer.status == 504 && answer.json(&client.at)?["done_here"] == true;
    match answer.status {
        409 => Ok(false),
        status if status < 300 || is_made_here => Ok(true),
        _ => Err(client.problem(&answer)),
    }
}
