//! What an import says at its end.

use super::{
    progress::{grouped, many},
    trouble::Kinds,
    verify::ReadBack,
};
use crate::{print, records::Digest};
use serde_json::{Value, json};
use std::time::Duration;

pub struct Summary<'a> {
    pub table: &'a str,
    pub nodes: Vec<&'a str>,
    pub consistency: &'a str,
    /// Of the file, those of an earlier import included.
    pub records: u64,
    /// Of its distinct keys.
    pub digest: Digest,
    pub bytes: u64,
    pub resumed: u64,
    pub left_out: u64,
    /// Puts that were tried again, and why.
    pub failures: Kinds,
    pub took: Duration,
}

impl Summary<'_> {
    pub fn page(&self) -> String {
        let took = print::micros(micros(self.took));
        let mut lines = vec![format!(
            "imported {}, {}, {} into {} in {took}: {}/s through {}, each at {}",
            many(self.records, "record"),
            many(self.digest.records, "distinct key"),
            print::bytes(self.bytes),
            self.table,
            grouped(rate(self.records - self.resumed, self.took)),
            self.nodes.join(" "),
            self.consistency.to_ascii_uppercase(),
        )];
        lines.push(format!("digest {}", self.digest));
        for (count, what) in
            [(self.resumed, "of them stored by an earlier import"), (self.left_out, "left out, unreadable")]
        {
            if count > 0 {
                lines.push(format!("{} {what}", many(count, "record")));
            }
        }
        for (why, &count) in &self.failures {
            lines.push(format!("{} tried again: {why}", many(count, "put")));
        }
        lines.join("\n")
    }

    pub fn json(&self, read_back: &[ReadBack]) -> Value {
        json!({
            "table": self.table, "records": self.records, "keys": self.digest.records, "bytes": self.bytes,
            "digest": self.digest.to_string(), "resumed": self.resumed, "left_out": self.left_out,
            "failures": self.failures.values().sum::<u64>(), "failures_by": self.failures, "seconds": self.took.as_secs_f64(), "nodes": self.nodes,
            "consistency": self.consistency,
            "read_back": read_back.iter().map(ReadBack::json).collect::<Vec<_>>(),
        })
    }
}

impl ReadBack {
    pub fn line(&self) -> String {
        let through = format!("read back through {}:", self.node);
        match &self.outcome {
            Err(why) => format!("{through} not done: {why}"),
            Ok(found) if found.missing + found.different > 0 => {
                format!("{through} {} missing, {} different", grouped(found.missing), grouped(found.different))
            }
            Ok(found) => {
                let others = match found.others {
                    0 => String::new(),
                    others => format!("; the table has {} more", many(others, "key")),
                };
                let took = print::micros(micros(self.took));
                format!("{through} {}, the same digest, {took}{others}", many(found.digest.records, "key"))
            }
        }
    }
}

pub fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

fn rate(records: u64, took: Duration) -> u64 {
    records.saturating_mul(1_000_000).checked_div(micros(took)).unwrap_or(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::import::verify::{self, Comparison};

    fn summary() -> Summary<'static> {
        Summary {
            table: "demo.packages",
            nodes: vec!["n1", "n2", "n3"],
            consistency: "quorum",
            records: 63_666,
            digest: Digest { records: 63_665, sum: 0xabc },
            bytes: 50_164_600,
            resumed: 0,
            left_out: 0,
            failures: Kinds::new(),
            took: Duration::from_millis(6_400),
        }
    }

    fn read(node: &str, outcome: Result<Comparison, String>) -> ReadBack {
        ReadBack { node: node.into(), took: Duration::from_millis(1_500), outcome }
    }

    #[test]
    fn what_was_imported_and_read_back_is_told() {
        let same = Comparison { digest: summary().digest, ..Comparison::default() };
        let all = [
            read("n1", Ok(same)),
            read("n2", Ok(Comparison { others: 1, ..same })),
            read("n3", Ok(Comparison { missing: 3, different: 1, ..same })),
            read("n4", Err("it does not answer".into())),
        ];
        let failures = Kinds::from([("n2: no answer in time".to_string(), 300)]);
        let resumed = Summary { resumed: 60_000, left_out: 1, failures, ..summary() };
        let lines: Vec<String> = all.iter().map(ReadBack::line).collect();
        insta::assert_snapshot!([summary().page(), resumed.page(), lines.join("\n")].join("\n\n"));
        let told = summary().json(&all);
        assert_eq!((&told["keys"], &told["read_back"][3]["unread"]), (&json!(63_665), &json!("it does not answer")));
    }

    #[test]
    fn a_difference_weighs_more_than_a_node_that_was_not_read() {
        let same = Comparison { digest: summary().digest, ..Comparison::default() };
        let verdict = |all: &[ReadBack]| verify::judge(all, 5).map_err(|error| error.code().unwrap());
        assert_eq!(verdict(&[]), Ok(()));
        assert_eq!(verdict(&[read("n1", Ok(Comparison { others: 9, ..same }))]), Ok(()));
        let unread = || read("n2", Err("it does not answer".into()));
        assert_eq!(verdict(&[unread(), read("n1", Ok(same))]), Err("K0907"));
        assert_eq!(verdict(&[unread(), read("n1", Ok(Comparison { missing: 1, ..same }))]), Err("K0906"));
    }
}
