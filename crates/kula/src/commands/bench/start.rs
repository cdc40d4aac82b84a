//! How long a start takes, from `exec` to the first request answered, and what an idle node weighs.

use super::{
    meter::usage,
    own_node::{OwnNode, directory},
    report::{micros, write},
};
use crate::{cli::BenchStart, print, stopwatch::now};
use anyhow::{Context, ensure};
use serde_json::json;
use std::time::Duration;

/// After a start, before the memory is read: what start-up needed has been given back.
const SETTLE: Duration = Duration::from_millis(500);

pub fn run(wanted: &BenchStart) -> anyhow::Result<()> {
    ensure!(wanted.runs > 0, "--runs is at least 1");
    let (mut first_requests, mut residents) = (Vec::new(), Vec::new());
    for _ in 0..wanted.runs {
        let node = OwnNode::start(directory())?;
        let client = node.client(Duration::from_secs(5))?;
        let began = now();
        client.expect("PUT", "/kv/kv/default/first", &[], b"value").context("the first request")?;
        first_requests.push(micros(node.ready_after + began.elapsed()));
        std::thread::sleep(SETTLE);
        residents.push(usage(node.pid())?.resident_bytes);
    }
    first_requests.sort_unstable();
    residents.sort_unstable();
    let (first_request, resident) = (first_requests[wanted.runs / 2], residents[wanted.runs / 2]);
    println!(
        "start, empty directory, median of {}: first request after {}, idle memory {}",
        wanted.runs,
        print::micros(first_request),
        print::bytes(resident)
    );
    write(
        &json!({ "title": "start", "runs": wanted.runs, "first_request_us": first_request, "idle_resident_bytes": resident }),
        wanted.json.as_deref(),
    )
}
