//! What `kula sim` prints: the verdict, what ran, what writes and reads met, examples of what is gone, and the command again.

use crate::{
    commands::import::progress::{grouped, many},
    exit::Verdict,
    print,
};
use clap::ValueEnum;
use kula_sim::{
    account::{Account, LostWrite, Outranked, Served, per_mille, seconds},
    history::Action,
    scenario::Scenario,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

/// Lost writes told of each kind, so that a page fits a screen.
const TOLD_MAX: usize = 3;
/// Lines of broken promises told, and letters of each.
const BROKEN_MAX: usize = 4;

pub struct Page<'a> {
    pub scenario: &'a Scenario,
    pub again: String,
    pub runs: u64,
    pub account: &'a Account,
    pub took: Duration,
    /// Whether the story has been told already.
    pub traced: bool,
}

impl Page<'_> {
    pub fn verdict(&self) -> Verdict {
        if self.account.violations.is_empty() { Verdict::Ok } else { Verdict::Error }
    }

    pub fn text(&self, colour: bool) -> String {
        let (word, paint, sentence) = self.sentence();
        let mut lines = vec![format!("{}  {sentence}", print::painted(word, paint, colour)), self.what_ran()];
        lines.push(format!("faults: {}", counted(&self.account.faults)));
        lines.push(String::new());
        lines.push(self.table());
        lines.push(String::new());
        self.broken(&mut lines);
        self.gone(&mut lines);
        if let Some(siblings) = self.siblings() {
            lines.push(siblings);
        }
        if let Some(next) = self.next() {
            lines.push(format!("next: {next}"));
        }
        let story = if self.traced || self.runs > 1 { "" } else { "        the story: --trace" };
        lines.push(format!("again: {}{story}", self.again));
        lines.join("\n")
    }

    /// What would be worth a look after this.
    fn next(&self) -> Option<&'static str> {
        let (lost, outranked) = self.account.losses();
        let is_stale = self.account.reads.values().any(|served| !served.ages.is_empty());
        if !self.account.violations.is_empty() {
            Some("a report of this command, and of what it prints with --seed of the broken run and --trace")
        } else if lost > 0 {
            Some(match self.scenario.synced_every {
                Some(_) => "the same with --sync group: nothing is acknowledged before it is synced",
                None => "the same with --write quorum: a write is acknowledged when most owners have it",
            })
        } else if outranked > 0 {
            Some("the same with --workload bucket: it orders nothing by clocks and keeps both values")
        } else if is_stale {
            Some("the same with --write quorum --read quorum: each read meets an owner that has the write")
        } else {
            None
        }
    }

    fn sentence(&self) -> (&'static str, &'static str, String) {
        let account = self.account;
        if !account.violations.is_empty() {
            return ("BROKEN", "31", "a promise of Kula's did not hold: this is a bug".into());
        }
        let acked: u64 = account.writes.values().map(|served| served.answered).sum();
        let of = format!("of {}", many(acked, "acknowledged write"));
        let are = |count: u64| if count == 1 { "is" } else { "are" };
        let (lost, outranked) = account.losses();
        let lie = |count: u64| if count == 1 { "lies below an older one" } else { "lie below older ones" };
        let what = match (lost, outranked) {
            (0, 0) => return ("OK", "32", format!("nothing lost {of}; every promise held")),
            (lost, 0) => format!("{} {of} {} gone", grouped(lost), are(lost)),
            (0, outranked) => format!("{} {of} {}", grouped(outranked), lie(outranked)),
            (lost, outranked) => {
                format!("{} {of} {} gone, {} {}", grouped(lost), are(lost), grouped(outranked), lie(outranked))
            }
        };
        ("LOST", "33", format!("{what}; every promise held"))
    }

    fn what_ran(&self) -> String {
        let Scenario { nodes, write, read, read_repair, .. } = self.scenario;
        let levels = |levels: &[_]| super::levels(levels, "/").to_ascii_uppercase();
        let sync = match self.scenario.synced_every {
            None => "synced before each acknowledgement".to_string(),
            Some(every) => format!("synced every {}", print::micros(every)),
        };
        let several = if self.runs == 1 { String::new() } else { format!("{} of ", many(self.runs, "run")) };
        format!(
            "{}, rf {}, write {}, read {}, read repair {}, log {sync}\n{several}{} of load in {}: {} by {}",
            many(*nodes as u64, "node"),
            self.scenario.copies(),
            levels(write),
            levels(read),
            format!("{read_repair:?}").to_ascii_lowercase(),
            print::span(self.scenario.lasts / 1_000, " "),
            print::micros(u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX)),
            many(self.account.operations, "operation"),
            many(self.scenario.clients as u64, "client"),
        )
    }

    fn table(&self) -> String {
        let headers = [
            "",
            "LEVEL",
            "ASKED",
            "OK",
            "REFUSED",
            "UNKNOWN",
            "NO NODE",
            "p50",
            "p99",
            "LOST",
            "OUTRANKED",
            "STALE",
            "BEHIND p50",
            "p99",
            "MAX",
        ];
        let mut rows = Vec::new();
        for (what, by_level) in self.kinds() {
            for (level, served) in by_level {
                let took = |at| per_mille(&served.latencies, at).map_or("-".into(), print::micros);
                let behind = |at| per_mille(&served.ages, at).map_or("-".into(), print::micros);
                let mut row = vec![what.to_string(), level.to_ascii_uppercase()];
                row.extend(counts(served).map(grouped));
                row.extend([took(500), took(990)]);
                row.extend(match what {
                    "writes" => [grouped(served.lost), grouped(served.outranked), String::new()],
                    "reads" => [String::new(), String::new(), share(served.ages.len() as u64, served.answered)],
                    _ => [String::new(), String::new(), String::new()],
                });
                row.extend(if what == "reads" { [500, 990, 1_000].map(behind) } else { Default::default() });
                rows.push(row);
            }
        }
        print::table(&headers, rows)
    }

    fn kinds(&self) -> [(&'static str, &BTreeMap<String, Served>); 3] {
        [("writes", &self.account.writes), ("reads", &self.account.reads), ("pages", &self.account.pages)]
    }

    fn broken(&self, lines: &mut Vec<String>) {
        for (seed, what) in self.account.violations.iter().take(BROKEN_MAX) {
            lines.push(format!("broken, seed {seed}: {}", what.lines().next().unwrap_or_default()));
        }
    }

    fn gone(&self, lines: &mut Vec<String>) {
        let Account { lost, outranked, seeds_with_losses, .. } = self.account;
        if self.runs > 1 && !seeds_with_losses.is_empty() {
            let seeds: Vec<String> = seeds_with_losses.iter().take(8).map(u64::to_string).collect();
            let more = if seeds_with_losses.len() > 8 { ", .." } else { "" };
            lines.push(format!("runs that lost: {}, seeds {}{more}", seeds_with_losses.len(), seeds.join(", ")));
        }
        let (lost_count, outranked_count) = self.account.losses();
        lines.extend(lost.iter().take(TOLD_MAX).map(|write| format!("lost: {}", lost_line(write))));
        lines.extend(more(lost_count, lost.len()));
        lines.extend(outranked.iter().take(TOLD_MAX).map(|write| format!("outranked: {}", outranked_line(write))));
        lines.extend(more(outranked_count, outranked.len()));
    }

    fn siblings(&self) -> Option<String> {
        let siblings = self.account.siblings;
        (siblings.keys > 0).then(|| {
            let end = match siblings.keys_with_in_the_end {
                0 => "none in the end".to_string(),
                keys => format!("{} in the end", grouped(keys)),
            };
            let keys = many(siblings.keys, "key");
            match siblings.keys_with {
                0 => format!("siblings: none of {keys} of the bucket showed more than one value"),
                with => format!(
                    "siblings: {} of {keys} of the bucket showed more than one value, {} at most; {end}",
                    grouped(with),
                    siblings.most
                ),
            }
        })
    }

    pub fn json(&self) -> Value {
        let account = self.account;
        let Scenario { nodes, clients, rate, keys, read_repair, .. } = self.scenario;
        let levels = |levels: &[kula_types::Consistency]| levels.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (lost, outranked) = account.losses();
        let kinds = self.kinds().map(|(what, by_level)| {
            let rows: serde_json::Map<String, Value> =
                by_level.iter().map(|(level, served)| (level.clone(), served_json(what, served))).collect();
            (what.to_string(), Value::Object(rows))
        });
        let siblings = account.siblings;
        let broken: Vec<Value> =
            account.violations.iter().map(|(seed, what)| json!({ "seed": seed, "what": what })).collect();
        let mut object = json!({
            "verdict": if account.violations.is_empty() { "held" } else { "broken" },
            "again": self.again, "seed": self.scenario.seed, "runs": account.runs,
            "scenario": {
                "nodes": nodes, "rf": self.scenario.copies(), "load_us": self.scenario.lasts, "clients": clients, "rate": rate,
                "keys": keys, "workload": self.scenario.workloads.iter().map(word).collect::<Vec<_>>(),
                "write": levels(&self.scenario.write), "read": levels(&self.scenario.read),
                "read_repair": format!("{read_repair:?}").to_ascii_lowercase(), "synced_every_us": self.scenario.synced_every,
                "faults": self.scenario.troubles.iter().map(word).collect::<Vec<_>>(),
            },
            "loaded_us": account.loaded, "virtual_us": account.virtual_time, "seconds": self.took.as_secs_f64(),
            "operations": account.operations, "faults": account.faults, "lost": lost, "outranked": outranked,
            "seeds_with_losses": account.seeds_with_losses,
            "lost_writes": account.lost.iter().map(lost_json).collect::<Vec<_>>(),
            "outranked_writes": account.outranked.iter().map(outranked_json).collect::<Vec<_>>(),
            "siblings": {
                "keys": siblings.keys, "keys_with": siblings.keys_with, "most": siblings.most,
                "keys_with_in_the_end": siblings.keys_with_in_the_end,
            },
            "broken": broken,
        });
        if let Value::Object(object) = &mut object {
            object.extend(kinds);
        }
        object
    }
}

/// A choice as it is typed.
pub fn word<T: ValueEnum>(value: &T) -> String {
    value.to_possible_value().map(|value| value.get_name().to_string()).unwrap_or_default()
}

fn counts(served: &Served) -> [u64; 5] {
    [served.asked, served.answered, served.refused, served.unknown, served.nobody_there]
}

fn counted(faults: &BTreeMap<&str, u64>) -> String {
    let all: Vec<String> = faults.iter().map(|(name, times)| format!("{name} {times}")).collect();
    if all.is_empty() { "none".into() } else { all.join(", ") }
}

/// `12 (2.0%)`.
fn share(part: u64, whole: u64) -> String {
    match part {
        0 => "0".into(),
        _ => {
            let tenths = part * 1_000 / whole.max(1);
            format!("{} ({}.{}%)", grouped(part), tenths / 10, tenths % 10)
        }
    }
}

fn more(count: u64, examples: usize) -> Option<String> {
    let left = count.saturating_sub(examples.min(TOLD_MAX) as u64);
    (left > 0).then(|| format!("  and {} more; --json tells up to twenty", grouped(left)))
}

const fn done(action: Action) -> &'static str {
    match action {
        Action::Put => "put",
        Action::Delete => "delete",
        Action::Get => "get",
        Action::List => "list",
    }
}

fn lost_line(write: &LostWrite) -> String {
    let holders: Vec<String> = write
        .holders
        .iter()
        .map(|(node, took)| match took {
            Some((fault, at)) => format!("{node} ({fault} at {})", seconds(*at)),
            None => node.clone(),
        })
        .collect();
    let LostWrite { operation, table, key, action, level, acked_at, .. } = write;
    format!(
        "{} {key} in {table} (op {operation}), acknowledged at {} by {}; held by {}",
        done(*action),
        seconds(*acked_at),
        level.to_string().to_ascii_uppercase(),
        if holders.is_empty() { "nobody".into() } else { holders.join(", ") }
    )
}

fn outranked_line(write: &Outranked) -> String {
    format!(
        "{} {} (op {}), acknowledged at {}; op {}, acknowledged {} earlier, has a stamp {} ahead",
        done(write.action),
        write.key,
        write.operation,
        seconds(write.acked_at),
        write.by,
        print::micros(write.acked_at.saturating_sub(write.by_acked_at)),
        print::micros(write.ahead)
    )
}

fn served_json(what: &str, served: &Served) -> Value {
    let [asked, answered, refused, unknown, no_node] = counts(served);
    let most =
        |of: &[u64]| json!({ "p50": per_mille(of, 500), "p99": per_mille(of, 990), "max": per_mille(of, 1_000) });
    let mut object = json!({
        "asked": asked, "answered": answered, "refused": refused, "unknown": unknown, "no_node": no_node,
        "took_us": most(&served.latencies),
    });
    match what {
        "writes" => {
            object["lost"] = served.lost.into();
            object["outranked"] = served.outranked.into();
        }
        "reads" => {
            object["stale"] = served.ages.len().into();
            object["behind_us"] = most(&served.ages);
        }
        _ => {}
    }
    object
}

fn lost_json(write: &LostWrite) -> Value {
    let holder = |(node, took): &(String, Option<(&str, u64)>)| json!({ "node": node, "taken_by": took.map(|(fault, _)| fault), "at_us": took.map(|(_, at)| at) });
    json!({
        "seed": write.seed, "operation": write.operation, "table": write.table, "key": write.key, "action": done(write.action),
        "level": write.level.to_string(), "acked_at_us": write.acked_at,
        "holders": write.holders.iter().map(holder).collect::<Vec<_>>(),
    })
}

fn outranked_json(write: &Outranked) -> Value {
    json!({
        "seed": write.seed, "operation": write.operation, "key": write.key, "action": done(write.action),
        "acked_at_us": write.acked_at, "by": write.by, "by_acked_at_us": write.by_acked_at, "ahead_us": write.ahead,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_a_tenth_of_a_percent() {
        assert_eq!(
            [(0, 0), (1, 3), (2, 1_000)].map(|(part, whole)| share(part, whole)),
            ["0", "1 (33.3%)", "2 (0.2%)"]
        );
    }
}
