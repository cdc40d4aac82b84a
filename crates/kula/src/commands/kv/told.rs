//! What a node tells with an answer: who acknowledged, who has a hint, how long each replica took.

use crate::{
    cli::{Global, Keyed, Output},
    client::Answer,
    print,
};
use serde_json::{Value, json};
use std::time::Instant;

/// `ok  3/3 replicas  n1 n2 n3  1.1 ms  context AQOx..`
pub fn summary(answer: &Answer, started: Instant, global: &Global) -> String {
    let took = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    let replicas = Replicas::of(answer.header("Kula-Replicas").unwrap_or("?/?"));
    let by: Vec<&str> = answer.header("Kula-Acked-By").unwrap_or_default().split(',').map(str::trim).collect();
    let context = context(answer);
    match global.output {
        Output::Json => {
            let mut told = json!({
                "status": answer.status, "replicas": replicas.acked, "hinted": replicas.hinted,
                "acked_by": by.iter().filter(|name| !name.is_empty()).collect::<Vec<_>>(),
                "context": context, "took_us": took,
            });
            if let Some(timing) = answer.header("Server-Timing") {
                told["timing"] = entries(timing).iter().map(Entry::json).collect();
            }
            told.to_string()
        }
        Output::Human => line(&replicas, &by.join(" "), took, context),
    }
}

fn line(replicas: &Replicas, by: &str, took: u64, context: &str) -> String {
    let mut line = format!("ok  {} replicas", replicas.acked);
    let hinted = if replicas.hinted > 0 { format!("{} hinted", replicas.hinted) } else { String::new() };
    let context = if context.is_empty() { String::new() } else { format!("context {context}") };
    for part in [by, &hinted, &print::micros(took), &context] {
        if !part.is_empty() {
            line.push_str("  ");
            line.push_str(part);
        }
    }
    line
}

pub fn context(answer: &Answer) -> &str {
    answer.header("Kula-Context").unwrap_or_default()
}

/// `--explain`, on standard error: what each replica did, then where the time went.
pub fn explained(answer: &Answer, keyed: &Keyed, global: &Global) {
    // As JSON the summary holds it already.
    if keyed.explain && global.output == Output::Human {
        eprintln!("{}", explanation(answer.header("Server-Timing").unwrap_or_default()));
    }
}

fn explanation(timing: &str) -> String {
    let (replicas, spans): (Vec<Entry>, Vec<Entry>) =
        entries(timing).into_iter().partition(|entry| entry.told.is_some());
    let row = |entry: &Entry| {
        let told = entry.told.clone().unwrap_or_default();
        let digest = told.digest.unwrap_or_else(|| "-".into());
        let repaired = if told.repaired { "repaired" } else { "-" };
        vec![entry.name.clone(), told.outcome, digest, print::micros(entry.micros), repaired.into()]
    };
    let rows = replicas.iter().map(row).collect();
    let table = print::table(&["REPLICA", "ANSWER", "DIGEST", "WAIT", "REPAIRED"], rows);
    let spans: Vec<String> =
        spans.iter().map(|entry| format!("{} {}", entry.name, print::micros(entry.micros))).collect();
    format!("{table}\ntime: {}", spans.join(", "))
}

/// `2/3; hinted=1`.
struct Replicas {
    acked: String,
    hinted: u64,
}

impl Replicas {
    fn of(header: &str) -> Self {
        let mut parts = header.split(';').map(str::trim);
        let acked = parts.next().unwrap_or_default().to_string();
        let hinted = parts.find_map(|part| part.strip_prefix("hinted=")?.parse().ok()).unwrap_or(0);
        Replicas { acked, hinted }
    }
}

/// One entry of `Server-Timing`: a span of the request, or a replica and what it did.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    micros: u64,
    told: Option<Told>,
}

/// `data 1f2e3d4c5b6a7988 repaired`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    outcome: String,
    digest: Option<String>,
    repaired: bool,
}

impl Entry {
    fn json(&self) -> Value {
        let mut entry = json!({ "name": self.name, "us": self.micros });
        if let Some(told) = &self.told {
            entry["outcome"] = told.outcome.as_str().into();
            entry["digest"] = told.digest.as_deref().into();
            entry["repaired"] = told.repaired.into();
        }
        entry
    }
}

/// Reads `queue;dur=0.012, n1;dur=0.801;desc="data 1f2e3d4c5b6a7988 repaired"`; what it does not know it leaves out.
fn entries(timing: &str) -> Vec<Entry> {
    let entry = |text: &str| {
        let mut parts = text.trim().split(';');
        let name = parts.next().filter(|name| !name.is_empty())?.to_string();
        let (mut micros, mut told) = (0, None);
        for part in parts {
            match part.trim().split_once('=') {
                Some(("dur", millis)) => micros = micros_of(millis)?,
                Some(("desc", text)) => told = Some(Told::of(text.trim_matches('"'))),
                _ => {}
            }
        }
        Some(Entry { name, micros, told })
    };
    timing.split(',').filter_map(entry).collect()
}

/// `0.801` milliseconds.
fn micros_of(millis: &str) -> Option<u64> {
    let (whole, fraction) = millis.split_once('.').unwrap_or((millis, ""));
    let thousandths: String = fraction.chars().chain("000".chars()).take(3).collect();
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(thousandths.parse().ok()?)
}

impl Told {
    fn of(text: &str) -> Self {
        let (text, repaired) = text.strip_suffix(" repaired").map_or((text, false), |rest| (rest, true));
        let is_digest = |word: &str| word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        match text.rsplit_once(' ').filter(|(_, word)| is_digest(word)) {
            Some((outcome, digest)) => Told { outcome: outcome.into(), digest: Some(digest.into()), repaired },
            None => Told { outcome: text.into(), digest: None, repaired },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: &str = "queue;dur=0.012, replicas;dur=1.801, total;dur=1.822, n1;dur=0.801;desc=\"data 1f2e3d4c5b6a7988\", \
        n2;dur=1.790;desc=\"digest 0000000000000001 repaired\", n3;dur=0.000;desc=\"refused: its ring is older\"";

    #[test]
    fn an_explanation_has_a_line_for_each_replica() {
        insta::assert_snapshot!(explanation(TIMING));
        insta::assert_snapshot!(
            entries(TIMING).iter().map(|entry| entry.json().to_string()).collect::<Vec<_>>().join("\n")
        );
    }

    #[test]
    fn a_summary_says_who_has_it_and_who_is_owed() {
        let told = |header, by, context| line(&Replicas::of(header), by, 1_100, context);
        assert_eq!(told("3/3", "n1 n2 n3", "AQOx"), "ok  3/3 replicas  n1 n2 n3  1.1 ms  context AQOx");
        assert_eq!(told("2/3; hinted=1", "n1 n3", ""), "ok  2/3 replicas  n1 n3  1 hinted  1.1 ms");
        assert_eq!(told("?/?", "", ""), "ok  ?/? replicas  1.1 ms");
    }

    #[test]
    fn what_is_not_an_entry_is_left_out() {
        assert_eq!(entries(""), []);
        assert_eq!(entries("a;dur=x, ;dur=1"), []);
        assert_eq!(
            entries("a;dur=2, b;dur=0.5;later=1").iter().map(|entry| entry.micros).collect::<Vec<_>>(),
            [2000, 500]
        );
    }
}
