//! A table's keys, page by page.

use crate::{client::Client, stack::Node};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::Value;
use std::collections::BTreeMap;

fn lines(body: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(body).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The key of a line, and its value; siblings are told by their number.
fn read(line: &Value) -> (Vec<u8>, Vec<u8>) {
    let key = match (&line["key"], &line["key_base64url"]) {
        (Value::String(text), Value::Null) => text.as_bytes().to_vec(),
        (Value::Null, Value::String(text)) => URL_SAFE_NO_PAD.decode(text).unwrap(),
        _ => panic!("{line}"),
    };
    let value = match &line["value"] {
        Value::String(text) => STANDARD.decode(text).unwrap(),
        _ => format!("{} siblings", line["siblings"].as_array().unwrap().len()).into_bytes(),
    };
    (key, value)
}

/// Every page, each begun where the one before said.
fn walk(client: &mut Client, path: &str, query: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (mut found, mut after) = (Vec::new(), String::new());
    for _ in 0..1_000 {
        let page = client.ask("GET", &format!("{path}?after={after}&{query}"), &[], b"");
        assert_eq!((page.status, page.header("Content-Type")), (200, Some("application/x-ndjson")), "{}", page.text());
        found.extend(lines(&page.body).iter().map(read));
        match (page.header("Kula-More"), page.header("Kula-Next")) {
            (Some("true"), Some(next)) => after = next.to_string(),
            (Some("false"), None) => return found,
            other => panic!("{other:?}"),
        }
    }
    panic!("the pages come to no end");
}

#[test]
fn every_key_is_listed_once_in_one_order_whatever_the_page() {
    let node = Node::start();
    let mut client = Client::to(node.address);
    let path = "/kv/kv/default";
    let empty = client.ask("GET", path, &[], b"");
    assert_eq!((empty.status, empty.body.len(), empty.header("Kula-More")), (200, 0, Some("false")));

    let mut wanted = BTreeMap::new();
    for number in 0..60u8 {
        let key = if number < 50 { format!("key/{number}").into_bytes() } else { vec![number, 0, 255, b'&'] };
        let spelled: String = key.iter().map(|byte| format!("%{byte:02x}")).collect();
        let value = format!("value {number}").into_bytes();
        assert_eq!(client.ask("PUT", &format!("{path}/{spelled}"), &[], &value).status, 204);
        if number % 10 == 3 {
            assert_eq!(client.ask("DELETE", &format!("{path}/{spelled}"), &[], b"").status, 204);
        } else if number % 10 == 4 {
            assert_eq!(client.ask("PUT", &format!("{path}/{spelled}"), &[], b"and another").status, 204);
            wanted.insert(key, b"2 siblings".to_vec());
        } else {
            wanted.insert(key, value);
        }
    }
    let whole = walk(&mut client, path, "limit=1000");
    assert_eq!(whole.iter().cloned().collect::<BTreeMap<_, _>>(), wanted);
    assert_eq!(whole.len(), wanted.len());
    for query in ["limit=1", "limit=7", "limit=7&key-encoding=base64url", "limit=54", ""] {
        assert_eq!(walk(&mut client, path, query), whole, "{query}");
    }
    let newest = walk(&mut client, path, "resolve=lww");
    assert!(newest.iter().all(|(_, value)| value != b"2 siblings"));
    assert!(newest.iter().any(|(_, value)| value == b"and another"));
}

#[test]
fn a_line_is_what_a_get_shows_and_its_context_replaces() {
    let node = Node::start();
    let mut client = Client::to(node.address);
    assert_eq!(client.ask("PUT", "/kv/kv/default/a", &[("Content-Type", "text/plain")], b"milk").status, 204);
    let page = client.ask("GET", "/kv/kv/default", &[("Kula-Consistency", "all")], b"");
    let line = &lines(&page.body)[0];
    assert_eq!((&line["key"], &line["content_type"]), (&"a".into(), &"text/plain".into()));
    assert!(line["written"].as_str().unwrap().ends_with('Z'));
    assert!(page.header("Server-Timing").unwrap().contains("total;dur="));
    let context = line["context"].as_str().unwrap();
    assert_eq!(client.ask("PUT", "/kv/kv/default/a", &[("Kula-Context", context)], b"eggs").status, 204);
    assert_eq!(client.ask("GET", "/kv/kv/default/a", &[], b"").text(), "eggs");
    let head = client.ask("HEAD", "/kv/kv/default?limit=1", &[], b"");
    assert_eq!((head.status, head.header("Kula-More"), head.body.len()), (200, Some("false"), 0));
}

#[test]
fn what_cannot_be_listed_is_refused_by_name() {
    let node = Node::start();
    let mut client = Client::to(node.address);
    let mut get = |path: &str, headers: &[(&str, &str)]| client.ask("GET", path, headers, b"").problem();
    assert_eq!(get("/kv/nowhere/default", &[]), "404 K0401");
    assert_eq!(get("/kv/kv/nothing?limit=5", &[]), "404 K0402");
    for query in ["limit=0", "limit=1001", "limit=x", "before=a", "key-encoding=hex", "resolve=newest"] {
        assert_eq!(get(&format!("/kv/kv/default?{query}"), &[]), "400 K0118", "{query}");
    }
    assert_eq!(get("/kv/kv/default?after=%4", &[]), "400 K0101");
    assert_eq!(get(&format!("/kv/kv/default?after={}", "a".repeat(4_097)), &[]), "400 K0102");
    assert_eq!(get("/kv/kv/default", &[("Kula-Consistency", "two")]), "503 K0301");
    assert_eq!(get("/kv/kv/default", &[("Kula-Consistency", "each_quorum")]), "501 K0503");
    assert_eq!(get("/kv/kv/default", &[("Kula-Deadline-Ms", "0")]), "400 K0105");
    assert_eq!(client.ask("POST", "/kv/kv/default", &[], b"").problem(), "405 K0114");
}
