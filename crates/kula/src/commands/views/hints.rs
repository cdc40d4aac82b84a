//! `kula hints`: the writes that a node keeps for others that missed them.

use super::{Look, list, text};
use crate::print;
use serde_json::Value;

pub fn page(hints: &Value, _look: Look) -> String {
    let all = list(&hints["hints"]);
    if all.is_empty() {
        return "no hints: this node owes no other node a write".into();
    }
    let row = |hint: &Value| {
        vec![
            text(&hint["target"]),
            text(&hint["count"]),
            hint["bytes"].as_u64().map_or("-".into(), print::bytes),
            hint["oldest_ms"].as_u64().map_or("-".into(), |millis| print::span(millis, " ")),
            hint["not_kept"].as_u64().filter(|&count| count > 0).map_or("-".into(), |count| count.to_string()),
        ]
    };
    let table = print::table(&["TARGET", "HINTS", "BYTES", "OLDEST", "NOT KEPT"], all.iter().map(row).collect());
    let wait = if hints["total"] == 1 { "hint waits" } else { "hints wait" };
    let mut page = format!("{} {wait} on this node for nodes that missed a write\n{table}", hints["total"]);
    if all.iter().any(|hint| hint["not_kept"].as_u64().unwrap_or(0) > 0) {
        page.push_str(
            "\nnot kept: past hints.max_bytes; a read repairs those, or the owner stays behind until a repair",
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn hints_are_listed_by_the_node_they_are_for() {
        let look = Look { colour: false, width: 80 };
        assert_eq!(page(&json!({ "hints": [], "total": 0 }), look), "no hints: this node owes no other node a write");
        let hints = json!({ "total": 1207, "hints": [
            { "target": "n2", "count": 1200, "bytes": 1_300_000, "oldest_ms": 15_000, "not_kept": 0 },
            { "target": "n3", "count": 7, "bytes": 900, "oldest_ms": 7_260_000, "not_kept": 12 },
        ]});
        insta::assert_snapshot!(page(&hints, look));
    }
}
