//! `kula status`: one verdict sentence, then the table, then what nodes see differently and what to read next.

use super::{Look, list, share, text};
use crate::{exit::Verdict, print};
use serde_json::Value;

pub fn verdict(status: &Value) -> Verdict {
    match status["verdict"].as_str() {
        Some("ok") => Verdict::Ok,
        Some("degraded") => Verdict::Degraded,
        _ => Verdict::Unavailable,
    }
}

pub fn page(status: &Value, look: Look) -> String {
    let word = text(&status["verdict"]).to_ascii_uppercase();
    let paint = match verdict(status) {
        Verdict::Ok => "32",
        Verdict::Degraded => "33",
        Verdict::Error | Verdict::Usage | Verdict::Unavailable => "31",
    };
    let mut page = format!("{}  {}", print::painted(&word, paint, look.colour), sentence(status));
    let rows = list(&status["nodes"]).iter().map(row).collect();
    let headers = ["NODE", "STATE", "DC", "RACK", "LOAD", "OWNS", "HINTS→", "MAILBOX p99", "TASKS"];
    page.push_str(&format!("\n{}", print::table(&headers, rows)));
    for disagreement in list(&status["disagreements"]) {
        page.push_str(&format!("\ndisagree: {}", text(disagreement)));
    }
    if let Some(code) = status["code"].as_str() {
        page.push_str(&format!("\nnext: kula explain {code}"));
    }
    page
}

/// The node's sentence; and who is not up since when, unless it says so itself.
fn sentence(status: &Value) -> String {
    let told = text(&status["sentence"]);
    let away: Vec<String> = list(&status["nodes"])
        .iter()
        .filter(|node| {
            node["state"] != "up" && !told.contains(&format!("{} {}", text(&node["name"]), text(&node["state"])))
        })
        .map(|node| {
            let since =
                node["since_ms"].as_u64().map(|millis| format!(" {}", print::span(millis, " "))).unwrap_or_default();
            let seen_by: Vec<String> = list(&node["seen_by"]).iter().map(text).collect();
            let seen_by = if seen_by.is_empty() { String::new() } else { format!(" (seen by {})", seen_by.join(", ")) };
            format!("{} {}{since}{seen_by}", text(&node["name"]), text(&node["state"]))
        })
        .collect();
    if away.is_empty() { told } else { format!("{}.  {}", told.trim_end_matches('.'), away.join("; ")) }
}

fn row(node: &Value) -> Vec<String> {
    let state = match node["state"].as_str() {
        Some("up") => "up".to_string(),
        _ => {
            let since = node["since_ms"].as_u64().map(|millis| print::span(millis, "")).unwrap_or_default();
            format!("{} {since}", text(&node["state"])).trim_end().to_string()
        }
    };
    vec![
        text(&node["name"]),
        state,
        text(&node["dc"]),
        text(&node["rack"]),
        node["load_bytes"].as_u64().map_or("-".into(), print::bytes),
        share(&node["owns"]),
        hints(node),
        node["mailbox_p99_us"].as_u64().map_or("-".into(), print::micros),
        tasks(node),
    ]
}

/// `1.2k→n2`, for each node it keeps hints for.
fn hints(node: &Value) -> String {
    let to: Vec<String> = list(&node["hints_to"])
        .iter()
        .filter_map(|hints| Some(format!("{}→{}", print::count(hints["count"].as_u64()?), hints["target"].as_str()?)))
        .collect();
    match (to.is_empty(), node["hints"].as_u64()) {
        (false, _) => to.join(" "),
        (true, Some(count)) if count > 0 => print::count(count),
        (true, _) => "-".into(),
    }
}

/// Long jobs come with later versions; a node that has them says so in one line each.
fn tasks(node: &Value) -> String {
    let tasks: Vec<String> = list(&node["tasks"]).iter().map(text).collect();
    if tasks.is_empty() { "-".into() } else { tasks.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PLAIN: Look = Look { colour: false, width: 80 };

    fn node(name: &str, state: &str, since_ms: u64, more: &Value) -> Value {
        let mut node = json!({
            "name": name, "state": state, "since_ms": since_ms, "seen_by": [], "dc": "dc1", "rack": "a",
            "load_bytes": 190_840_832u64, "owns": 0.334, "hints": 0, "hints_to": [], "mailbox_p99_us": 812,
        });
        for (key, value) in more.as_object().unwrap() {
            node[key] = value.clone();
        }
        node
    }

    #[test]
    fn the_verdict_comes_first_and_the_next_command_last() {
        let down = json!({ "seen_by": ["n1", "n3"], "load_bytes": null, "mailbox_p99_us": null, "hints": null, "hints_to": null });
        let status = json!({
            "verdict": "degraded", "code": "K0207",
            "sentence": "every key readable and writable at QUORUM; can lose 0 more nodes",
            "nodes": [
                node("n1", "up", 100_000, &json!({ "hints": 1234, "hints_to": [{ "target": "n2", "count": 1234 }] })),
                node("n2", "down", 14_200, &down),
                node("n3", "slow", 400, &json!({ "hints": 7, "hints_to": null })),
            ],
            "disagreements": ["n3 knows ring 4, the others ring 5"],
        });
        insta::assert_snapshot!(page(&status, PLAIN));
        assert_eq!(verdict(&status), Verdict::Degraded);
    }

    #[test]
    fn a_sentence_that_names_the_nodes_is_not_said_twice() {
        let told = "every key readable.  n2 down 14 s (seen by n1)";
        let nodes = json!([node("n1", "up", 1, &json!({})), node("n2", "down", 14_000, &json!({ "seen_by": ["n1"] }))]);
        let status = json!({ "verdict": "degraded", "sentence": told, "nodes": nodes });
        assert_eq!(sentence(&status), told);
    }

    #[test]
    fn a_node_that_says_nothing_of_itself_still_has_a_page() {
        let bare = json!({ "verdict": "unavailable", "sentence": "this node is starting", "nodes": [{ "name": "n1", "state": "up" }] });
        insta::assert_snapshot!(page(&bare, PLAIN));
        assert_eq!(verdict(&json!({})), Verdict::Unavailable);
    }
}
