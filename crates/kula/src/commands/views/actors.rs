//! `kula actors`: every mailbox of a node.

use crate::{
    cli::{Actors, Global, Output},
    client::{Client, Failure},
    exit::Verdict,
    print,
};
use serde_json::Value;

pub fn actors(wanted: &Actors, global: &Global) -> Result<Verdict, Failure> {
    let client = Client::new(global)?;
    let mut all = client.expect("GET", "/v1/actors", &[], b"")?.json(&client.at)?;
    if let (Some(path), Some(actors)) = (&wanted.path, all["actors"].as_array_mut()) {
        actors.retain(|actor| actor["path"].as_str().is_some_and(|found| found.starts_with(path.as_str())));
    }
    if wanted.json || global.output == Output::Json {
        println!("{all}");
        return Ok(Verdict::Ok);
    }
    let row = |actor: &Value| {
        let number = |key: &str| actor[key].as_f64().map_or("-".into(), |rate| format!("{rate:.0}"));
        let wait = |quantile: &str| actor["wait_us"][quantile].as_u64().map_or("-".into(), print::micros);
        vec![
            actor["path"].as_str().unwrap_or_default().to_string(),
            actor["state"].as_str().unwrap_or_default().to_string(),
            format!("{}/{}", actor["depth"], actor["cap"]),
            number("in_s"),
            number("out_s"),
            wait("p50"),
            wait("p99"),
            wait("max"),
            actor["busy"].as_f64().map_or("-".into(), |busy| format!("{:.0}%", busy * 100.0)),
            actor["shed"].to_string(),
            actor["restarts"].to_string(),
        ]
    };
    let rows = all["actors"].as_array().map_or(Vec::new(), |actors| actors.iter().map(row).collect());
    let headers = ["ACTOR", "STATE", "MAILBOX", "IN/S", "OUT/S", "WAIT P50", "P99", "MAX", "BUSY", "SHED", "RESTARTS"];
    println!("{}", print::table(&headers, rows));
    Ok(Verdict::Ok)
}
