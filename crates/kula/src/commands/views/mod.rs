//! What a node says of itself and of the others: one look, or one every two seconds.

mod actors;
mod hints;
mod ring;
mod status;

pub use actors::actors;

use crate::{
    cli::{Global, Output, Watch},
    client::{Client, Failure},
    exit::Verdict,
    print,
};
use serde_json::Value;
use std::{io::IsTerminal, time::Duration};

/// Between two looks of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(2);
/// Puts the cursor home and clears what is below it.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// One page: where it comes from, how people read it, and what it says for scripts.
struct View {
    path: &'static str,
    page: fn(&Value, Look) -> String,
    verdict: fn(&Value) -> Verdict,
}

/// What standard output takes.
#[derive(Clone, Copy, Debug)]
struct Look {
    colour: bool,
    /// Characters of a line.
    width: usize,
}

pub fn status(watch: &Watch, global: &Global) -> Result<Verdict, Failure> {
    look(&View { path: "/v1/status", page: status::page, verdict: status::verdict }, watch, global)
}

pub fn ring(watch: &Watch, global: &Global) -> Result<Verdict, Failure> {
    look(&View { path: "/v1/ring", page: ring::page, verdict: |_| Verdict::Ok }, watch, global)
}

pub fn hints(watch: &Watch, global: &Global) -> Result<Verdict, Failure> {
    look(&View { path: "/v1/hints", page: hints::page, verdict: |_| Verdict::Ok }, watch, global)
}

fn look(view: &View, watch: &Watch, global: &Global) -> Result<Verdict, Failure> {
    let client = Client::new(global)?;
    let json = watch.json || global.output == Output::Json;
    let clear = watch.watch && !json && std::io::stdout().is_terminal();
    loop {
        let asked = client.expect("GET", view.path, &[], b"").and_then(|answer| answer.json(&client.at));
        let shown = asked.map(|value| {
            let look = Look { colour: print::colour_of_stdout(global), width: print::width() };
            let page = if json { value.to_string() } else { (view.page)(&value, look) };
            println!("{}{page}", if clear { CLEAR } else { "" });
            (view.verdict)(&value)
        });
        match shown {
            shown if !watch.watch => return shown,
            // Whoever watches wants to see it come back.
            Err(failure) => print::failure(&failure, global),
            Ok(_) => {}
        }
        std::thread::sleep(WATCH_EVERY);
    }
}

/// A text as it is, anything else as JSON writes it; what was not told is a dash.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A list, or nothing.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// `33.4%`.
fn share(value: &Value) -> String {
    value.as_f64().map_or("-".into(), |share| format!("{:.1}%", share * 100.0))
}
