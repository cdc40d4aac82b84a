//! One key and many: values, siblings, contexts, conditions, limits.

use crate::{client::Client, stack::Node};
use serde_json::{Value, json};

fn base64(bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}

#[test]
fn a_value_comes_back_as_it_was_put() {
    let node = Node::start();
    let mut client = Client::to(node.address);
    let path = "/kv/kv/default/cart%3A42";
    let absent = client.ask("GET", path, &[], b"");
    assert_eq!((absent.problem().as_str(), absent.header("Kula-Replicas")), ("404 K0404", Some("1/1")));

    let put = client.ask("PUT", path, &[("Content-Type", "application/json")], br#"{"milk":1}"#);
    assert_eq!((put.status, put.body.len()), (204, 0));
    assert_eq!(put.header("Kula-Replicas"), Some("1/1"));
    assert_eq!(put.header("Kula-Acked-By"), Some("n1"));
    assert!(put.header("Server-Timing").unwrap().contains("total;dur="));
    assert!(!put.context().is_empty());

    let got = client.ask("GET", "/kv/kv/default/cart:42", &[], b"");
    assert_eq!((got.status, got.text()), (200, r#"{"milk":1}"#));
    assert_eq!(got.header("Content-Type"), Some("application/json"));
    assert_eq!(got.header("Kula-Replicas"), Some("1/1"));

    let head = client.ask("HEAD", path, &[], b"");
    assert_eq!((head.status, head.header("Content-Length"), head.header("Kula-Context")), (200, Some("10"), None));
    assert_eq!(head.header("ETag"), got.header("ETag"));

    let etag = got.header("ETag").unwrap().to_string();
    assert_eq!(client.ask("GET", path, &[("If-None-Match", &etag)], b"").status, 304);
    assert_eq!(client.ask("GET", path, &[("If-None-Match", "\"other\"")], b"").status, 200);

    let context = got.context();
    assert_eq!(client.ask("PUT", path, &[("Kula-Context", &context)], b"eggs").status, 204);
    let replaced = client.ask("GET", path, &[("If-None-Match", &etag)], b"");
    assert_eq!((replaced.status, replaced.text()), (200, "eggs"));
    assert_eq!(replaced.header("Content-Type"), Some("application/octet-stream"));

    assert_eq!(client.ask("DELETE", path, &[], b"").status, 204);
    assert_eq!(client.ask("GET", path, &[], b"").problem(), "404 K0404");
    assert_eq!(client.ask("HEAD", path, &[], b"").status, 404);
}

#[test]
fn blind_writes_are_siblings_until_one_with_their_context() {
    let node = Node::start();
    let mut client = Client::to(node.address);
    let path = "/kv/kv/default/cart";
    for value in ["milk", "eggs"] {
        assert_eq!(client.ask("PUT", path, &[], value.as_bytes()).status, 204);
    }
    let both = client.ask("GET", path, &[], b"");
    assert_eq!((both.status, both.header("Content-Type")), (300, Some("application/vnd.kula.siblings+json")));
    let head = client.ask("HEAD", path, &[], b"");
    assert_eq!((head.header("Content-Length"), head.header("Kula-Context")), (both.header("Content-Length"), None));
    let json = both.json();
    let values: Vec<_> = json["siblings"].as_array().unwrap().iter().map(|sibling| sibling["value"].clone()).collect();
    assert_eq!(values, [json!(base64(b"milk")), json!(base64(b"eggs"))]);
    assert_eq!((&json["context"], &json["more"]), (&json!(both.context()), &json!(0)));
    let first = &json["siblings"][0];
    assert!(first["written"].as_str().unwrap().ends_with('Z') && first["dot"].as_str().unwrap().contains(':'));

    let newest = client.ask("GET", &format!("{path}?resolve=lww"), &[], b"");
    assert_eq!((newest.status, newest.text()), (200, "eggs"));

    // A repetition with the same key is one sibling, not two.
    for _ in 0..2 {
        assert_eq!(client.ask("PUT", path, &[("Idempotency-Key", "order-7")], b"bread").status, 204);
    }
    assert_eq!(client.ask("GET", path, &[], b"").json()["siblings"].as_array().unwrap().len(), 3);

    let context = client.ask("GET", path, &[], b"").context();
    assert_eq!(client.ask("PUT", path, &[("Kula-Context", &context)], b"all").status, 204);
    assert_eq!(client.ask("GET", path, &[], b"").text(), "all");

    let other = client.ask("PUT", "/kv/kv/default/other", &[("Kula-Context", &context)], b"x");
    assert_eq!(other.problem(), "400 K0108");
    let mut forged = context.clone().into_bytes();
    let last = forged.len() - 2;
    forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    let refused = client.ask("PUT", path, &[("Kula-Context", &forged)], b"x").problem();
    assert!(["400 K0106", "400 K0107"].contains(&refused.as_str()), "{refused}");
    assert_eq!(client.ask("PUT", path, &[("Kula-Context", "nonsense")], b"x").problem(), "400 K0106");
    assert_eq!(client.ask("GET", path, &[], b"").text(), "all");
}

#[test]
fn past_the_cap_a_blind_write_is_refused_with_a_context_that_helps() {
    let node = Node::start();
    let mut client = Client::to(node.address);
    let path = "/kv/kv/default/crowd";
    let mut put = || client.ask("PUT", path, &[], b"x");
    let refused = (0..100).map(|_| put()).find(|answer| answer.status != 204).unwrap();
    assert_eq!(refused.problem(), "409 K0304");
    let json = refused.json();
    assert_eq!((&json["siblings"], &json["applied"]), (&json!(64), &json!("no")));
    let context = refused.context();
    assert_eq!(json["context"], json!(context));
    assert_eq!(client.ask("PUT", path, &[("Kula-Context", &context)], b"merged").status, 204);
    assert_eq!(client.ask("GET", path, &[], b"").text(), "merged");
}

#[test]
fn a_key_is_any_bytes() {
    let node = Node::start();
    let mut client = Client::to(node.address);
    let put = |client: &mut Client, path: &str, value: &[u8]| {
        client.ask("PUT", &format!("/kv/kv/default/{path}"), &[], value)
    };
    assert_eq!(put(&mut client, "%00%01%02%FF", b"bytes").status, 204);
    assert_eq!(put(&mut client, "a%2Fb%3Fc", b"slash").status, 204);
    assert_eq!(put(&mut client, &"%41".repeat(4096), b"long").status, 204);
    let get = |client: &mut Client, path: &str| client.ask("GET", &format!("/kv/kv/default/{path}"), &[], b"");
    assert_eq!(get(&mut client, "AAEC_w?key-encoding=base64url").text(), "bytes");
    assert_eq!(get(&mut client, "a/b%3fc").text(), "slash");
    assert_eq!(get(&mut client, &"A".repeat(4096)).text(), "long");
    assert_eq!(get(&mut client, &"A".repeat(4097)).problem(), "400 K0102");
    for (path, code) in
        [("", "400 K0101"), ("%4", "400 K0101"), ("!?key-encoding=base64url", "400 K0101"), ("a?limit=3", "400 K0118")]
    {
        assert_eq!(get(&mut client, path).problem(), code, "{path}");
    }
}

#[test]
fn an_lww_table_keeps_the_highest_timestamp() {
    let node = Node::start();
    let mut client = Client::to(node.address);
    let made = client.ask("POST", "/v1/keyspaces/kv/tables", &[], br#"{"name":"users"}"#);
    assert_eq!((made.status, &made.json()["kind"]), (201, &json!("lww")));
    let path = "/kv/kv/users/ann";
    let put = |client: &mut Client, at: &str, value: &str| {
        client.ask("PUT", path, &[("Kula-Timestamp", at)], value.as_bytes())
    };
    assert_eq!(put(&mut client, "1000", "first").status, 204);
    assert_eq!(put(&mut client, "500", "earlier").status, 204);
    let got = client.ask("GET", path, &[], b"");
    assert_eq!((got.status, got.text()), (200, "first"));
    let ahead = put(&mut client, "9000000000000000", "future");
    assert_eq!(ahead.problem(), "400 K0111");
    assert!(ahead.json()["ahead_ms"].as_u64().unwrap() > 60_000);
    assert_eq!(client.ask("PUT", "/kv/kv/default/a", &[("Kula-Timestamp", "5")], b"x").problem(), "400 K0110");
    assert_eq!(client.ask("PUT", path, &[("Kula-TTL", "1"), ("Content-Type", "text/plain")], b"brief").status, 204);
    let brief = client.ask("GET", path, &[], b"");
    assert_eq!((brief.text(), brief.header("Content-Type")), ("brief", Some("text/plain")));
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert_eq!(client.ask("GET", path, &[], b"").problem(), "404 K0404");
}

#[test]
fn what_cannot_be_granted_is_refused_by_name() {
    let node = Node::start();
    let mut client = Client::to(node.address);
    let path = "/kv/kv/default/a";
    let level = |level| [("Kula-Consistency", level)];
    let mut get = |path: &str, headers: &[(&str, &str)]| client.ask("GET", path, headers, b"").problem();
    assert_eq!(get("/kv/nowhere/default/a", &[]), "404 K0401");
    assert_eq!(get("/kv/kv/nothing/a", &[]), "404 K0402");
    assert_eq!(get("/kv/kv%2F/default/a", &[]), "404 K0401");
    assert_eq!(get(path, &level("most")), "400 K0104");
    assert_eq!(get(path, &level("4")), "400 K0104");
    assert_eq!(get(path, &level("two")), "503 K0301");
    assert_eq!(get(path, &level("3")), "503 K0301");
    assert_eq!(get(path, &level("each_quorum")), "501 K0503");
    assert_eq!(get(path, &[("If-Match", "\"a\"")]), "501 K0501");
    for level in ["one", "quorum", "all", "1"] {
        assert_eq!(get(path, &[("Kula-Consistency", level)]), "404 K0404", "{level}");
    }
    let mut put = |headers: &[(&str, &str)]| client.ask("PUT", path, headers, b"x").problem();
    assert_eq!(put(&[("If-None-Match", "*")]), "501 K0502");
    assert_eq!(put(&[("If-Match", "\"a\"")]), "501 K0502");
    assert_eq!(put(&[("Content-Encoding", "gzip")]), "415 K0122");
    assert_eq!(put(&[("Kula-TTL", "never")]), "400 K0105");
    assert_eq!(put(&[("Kula-TTL", "1"), ("Kula-TTL", "2")]), "400 K0105");
    assert_eq!(put(&[("Kula-Ttl-Seconds", "1")]), "400 K0105");
    assert_eq!(client.ask("DELETE", path, &[("Kula-TTL", "1")], b"").problem(), "400 K0105");
    assert_eq!(client.ask("PUT", &format!("{path}?resolve=lww"), &[], b"x").problem(), "400 K0118");
    let post = client.ask("POST", path, &[], b"x");
    assert_eq!((post.problem().as_str(), post.header("Allow")), ("405 K0114", Some("GET, HEAD, PUT, DELETE")));
    let traced =
        client.ask("GET", path, &[("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")], b"");
    assert_eq!(traced.json()["trace"], "0af7651916cd43dd8448eb211c80319c");
    let unavailable = client.ask("PUT", path, &level("three"), b"x").json();
    assert_eq!(
        (&unavailable["need"], &unavailable["alive"], &unavailable["applied"]),
        (&json!(3), &json!(1), &json!("no"))
    );
    assert_eq!(unavailable["replicas"].as_array().map(Vec::len), Some(1));
}

#[test]
fn the_largest_value_passes_and_one_byte_more_does_not() {
    let node = Node::start();
    let path = "/kv/kv/default/big";
    let value = vec![b'v'; 8 << 20];
    let mut client = Client::to(node.address);
    assert_eq!(client.ask("PUT", path, &[], &value).status, 204);
    // The connection stays.
    assert_eq!(client.ask("GET", path, &[], b"").body, value);
    // Announced: refused before a byte of it is read.
    let mut client = Client::to(node.address);
    client.send(b"PUT /kv/kv/default/big HTTP/1.1\r\nHost: n1\r\nContent-Length: 8388609\r\n\r\n").unwrap();
    assert_eq!(client.answer(true).unwrap().problem(), "413 K0103");
    // Not announced: cut off at the bound.
    let mut client = Client::to(node.address);
    client.send(b"PUT /kv/kv/default/big HTTP/1.1\r\nHost: n1\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    let chunk = [b"100000\r\n".as_slice(), &vec![b'w'; 1 << 20], b"\r\n"].concat();
    for _ in 0..9 {
        // The server may have answered and closed before the last of them.
        drop(client.send(&chunk));
    }
    assert_eq!(client.answer(true).unwrap().problem(), "413 K0103");
    assert_eq!(Client::to(node.address).ask("GET", path, &[], b"").body, value);
}

#[test]
fn a_batch_answers_each_item_as_it_would_alone() {
    let node = Node::start();
    let mut client = Client::to(node.address);
    let mut batch = |items: Value| {
        client.ask("POST", "/kv/kv/default:batch", &[], json!({ "items": items }).to_string().as_bytes())
    };
    let put = batch(json!([
        { "op": "put", "key": "a", "value": base64(b"milk"), "content_type": "text/plain" },
        { "op": "put", "key": "AAEC_w", "key_encoding": "base64url", "value": base64(b"bytes") },
        { "op": "put", "key": "c", "value": "not base64" },
        { "op": "delete", "key": "never" },
    ]));
    assert_eq!(put.status, 200);
    let items = put.json()["items"].clone();
    let statuses = |items: &Value| {
        items.as_array().unwrap().iter().map(|item| item["status"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(statuses(&items), [204, 204, 400, 204]);
    assert_eq!((&items[0]["replicas"], &items[2]["problem"]["code"]), (&json!("1/1"), &json!("K0112")));
    let trace = items[2]["problem"]["trace"].as_str();
    assert!(trace.is_some_and(|trace| trace.len() == 32), "{items}");
    let got = batch(json!([
        { "op": "get", "key": "a" },
        { "op": "get", "key": "AAEC_w", "key_encoding": "base64url" },
        { "op": "get", "key": "nothing" },
    ]));
    let items = got.json()["items"].clone();
    assert_eq!(statuses(&items), [200, 200, 404]);
    assert_eq!((&items[0]["value"], &items[0]["content_type"]), (&json!(base64(b"milk")), &json!("text/plain")));
    assert_eq!(items[2]["problem"]["code"], "K0404");
    let many = |count| Value::Array(vec![json!({ "op": "get", "key": "a" }); count]);
    assert_eq!(batch(many(1_000)).json()["items"].as_array().unwrap().len(), 1_000);
    assert_eq!(batch(many(1_001)).problem(), "413 K0117");
    assert_eq!(client.ask("POST", "/kv/kv/default:batch", &[], b"[]").problem(), "400 K0112");
    let nowhere = client.ask("POST", "/kv/kv/nothing:batch", &[], br#"{"items":[{"op":"get","key":"a"}]}"#).json();
    assert_eq!(nowhere["items"][0]["problem"]["code"], "K0402");
}
