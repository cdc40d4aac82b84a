//! The log as a machine reads it, and the mailbox lines a person reads.

use crate::harness::{Node, Place, binary};
use serde_json::Value;
use std::time::{Duration, Instant};

#[test]
fn log_lines_are_json_with_the_documented_keys_and_busy_mailboxes_are_seen() {
    let Some(_) = binary() else { return };
    let place = Place::new("logs");
    let node = Node::start(&place, &["--set", "log.mailbox_every=1s"]);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..4 {
            let node = &node;
            scope.spawn(move || {
                while began.elapsed() < Duration::from_millis(2_500) {
                    assert!(node.put(&format!("/kv/kv/default/c{client}"), "v").status < 500);
                }
            });
        }
    });
    assert!(node.stop().success());
    let lines: Vec<Value> =
        place.log().lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    for line in &lines {
        for key in ["ts", "level", "node"] {
            assert!(line[key].is_string(), "{key} in {line}");
        }
    }
    let events: Vec<&str> = lines.iter().filter_map(|line| line["event"].as_str()).collect();
    for event in ["started", "mailbox", "stopped"] {
        assert!(events.contains(&event), "{event} in {events:?}");
    }
    let mailbox = lines.iter().find(|line| line["event"] == "mailbox").unwrap();
    for key in ["actor", "depth", "cap", "in_s", "out_s", "busy", "state", "restarts"] {
        assert!(!mailbox[key].is_null(), "{key} in {mailbox}");
    }
    assert!(mailbox["wait_us"]["p99"].is_number(), "{mailbox}");
}
