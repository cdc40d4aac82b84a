//! `kula status`, `ring`, `actors`: what a node says of itself.

use crate::{
    cli::{Actors, Global, Output, Watch},
    client::{Client, Failure},
    exit::Verdict,
    print,
};
use serde_json::Value;
use std::time::Duration;

/// Between two looks of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(2);

pub fn status(watch: &Watch, global: &Global) -> Result<Verdict, Failure> {
    let client = Client::new(global)?;
    loop {
        let status = client.expect("GET", "/v1/status", &[], b"")?.json(&client.at)?;
        let verdict = match status["verdict"].as_str() {
            Some("ok") => Verdict::Ok,
            Some("degraded") => Verdict::Degraded,
            _ => Verdict::Unavailable,
        };
        if watch.json || global.output == Output::Json {
            println!("{status}");
        } else {
            println!("{}", status_page(&status));
        }
        if !watch.watch {
            return Ok(verdict);
        }
        std::thread::sleep(WATCH_EVERY);
    }
}

fn status_page(status: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let mut page = format!("{}  {}\n\n", text(&status["verdict"]).to_ascii_uppercase(), text(&status["sentence"]));
    let row = |node: &Value| {
        let owns = node["owns"].as_f64().map_or("-".into(), |share| format!("{:.1}%", share * 100.0));
        let load = node["load_bytes"].as_u64().map_or("-".into(), print::bytes);
        vec![text(&node["name"]), text(&node["state"]), text(&node["dc"]), text(&node["rack"]), load, owns]
    };
    let rows = status["nodes"].as_array().map_or(Vec::new(), |nodes| nodes.iter().map(row).collect());
    page.push_str(&print::table(&["NODE", "STATE", "DC", "RACK", "LOAD", "OWNS"], rows));
    for disagreement in status["disagreements"].as_array().into_iter().flatten() {
        page.push_str(&format!("\n{}", text(disagreement)));
    }
    if let Some(code) = status["code"].as_str() {
        page.push_str(&format!("\nnext: kula explain {code}"));
    }
    page
}

pub fn ring(global: &Global) -> Result<Verdict, Failure> {
    let client = Client::new(global)?;
    let ring = client.expect("GET", "/v1/ring", &[], b"")?.json(&client.at)?;
    if global.output == Output::Json {
        println!("{ring}");
        return Ok(Verdict::Ok);
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    println!(
        "ring {} of cluster {}: {} partitions, {}",
        ring["version"],
        text(&ring["cluster"]),
        ring["partitions"],
        text(&ring["partitioner"])
    );
    let row = |node: &Value| {
        let owns = node["owns"].as_f64().map_or("-".into(), |share| format!("{:.1}%", share * 100.0));
        vec![text(&node["name"]), text(&node["dc"]), text(&node["rack"]), node["weight"].to_string(), owns]
    };
    let rows = ring["nodes"].as_array().map_or(Vec::new(), |nodes| nodes.iter().map(row).collect());
    println!("{}", print::table(&["NODE", "DC", "RACK", "WEIGHT", "OWNS"], rows));
    Ok(Verdict::Ok)
}

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
