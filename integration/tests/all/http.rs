//! The HTTP contract, black box: values, siblings, contexts, errors, garbage.

use crate::harness::{Node, Place, binary};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

const BUCKET: &str = "/kv/kv/default";

#[test]
fn a_value_goes_in_and_comes_out_with_its_type() {
    let Some(_) = binary() else { return };
    let place = Place::new("http_values");
    let node = Node::start(&place, &[]);
    let put = node.ask("PUT", &format!("{BUCKET}/cart:42"), &[("Content-Type", "application/json")], b"{\"milk\":1}");
    assert_eq!((put.status, put.header("Kula-Replicas")), (204, "1/1"));
    assert!(!put.header("Kula-Context").is_empty());
    let got = node.get(&format!("{BUCKET}/cart:42"));
    assert_eq!(
        (got.status, got.text().as_str(), got.header("content-type")),
        (200, "{\"milk\":1}", "application/json")
    );
    let head = node.ask("HEAD", &format!("{BUCKET}/cart:42"), &[], b"");
    assert_eq!((head.status, head.header("content-length"), head.header("Kula-Context")), (200, "10", ""));
    let same = node.ask("GET", &format!("{BUCKET}/cart:42"), &[("If-None-Match", got.header("etag"))], b"");
    assert_eq!(same.status, 304);
    let bytes: Vec<u8> = (0..=255).collect();
    assert_eq!(node.ask("PUT", &format!("{BUCKET}/%00%ff%2F"), &[], &bytes).status, 204);
    assert_eq!(node.get(&format!("{BUCKET}/AP8v?key-encoding=base64url")).body, bytes);
    assert_eq!(node.put(&format!("{BUCKET}/empty"), "").status, 204);
    let empty = node.get(&format!("{BUCKET}/empty"));
    assert_eq!((empty.status, empty.body.len()), (200, 0));
}

#[test]
fn blind_writes_are_siblings_and_a_context_replaces_exactly_them() {
    let Some(_) = binary() else { return };
    let place = Place::new("http_siblings");
    let node = Node::start(&place, &[]);
    let key = format!("{BUCKET}/k");
    node.put(&key, "a");
    node.put(&key, "b");
    let both = node.get(&key);
    assert_eq!((both.status, both.header("content-type")), (300, "application/vnd.kula.siblings+json"));
    let siblings = both.json();
    let mut values: Vec<String> = siblings["siblings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|sibling| {
            assert!(sibling["dot"].is_string() && sibling["written"].as_str().unwrap().ends_with('Z'), "{sibling}");
            String::from_utf8(STANDARD.decode(sibling["value"].as_str().unwrap()).unwrap()).unwrap()
        })
        .collect();
    values.sort();
    assert_eq!(
        (values, &siblings["more"], &siblings["context"]),
        (vec!["a".to_string(), "b".into()], &0.into(), &both.header("Kula-Context").into())
    );
    node.put(&key, "late");
    let context = both.header("Kula-Context");
    let put = node.ask("PUT", &key, &[("Kula-Context", context)], b"merged");
    assert_eq!(put.status, 204);
    let after = node.get(&key).json();
    let shown: Vec<String> = after["siblings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|sibling| sibling["value"].as_str().unwrap().to_string())
        .collect();
    assert_eq!(shown.len(), 2, "`late` was not seen by that context: {after}");
    let newest = node.get(&format!("{key}?resolve=lww"));
    assert_eq!((newest.status, newest.text().as_str()), (200, "merged"));
    assert_eq!(node.ask("PUT", &key, &[("Kula-Context", newest.header("Kula-Context"))], b"one").status, 204);
    assert_eq!(node.get(&key).text(), "one");
    assert_eq!(node.ask("DELETE", &key, &[], b"").status, 204);
    let gone = node.get(&key);
    assert_eq!(gone.problem(), (404, "K0404".into()));
}

// Promise: R35
#[test]
fn an_idempotency_key_makes_a_retry_the_same_sibling() {
    let Some(_) = binary() else { return };
    let place = Place::new("http_idempotency");
    let node = Node::start(&place, &[]);
    let key = format!("{BUCKET}/k");
    for _ in 0..3 {
        assert_eq!(node.ask("PUT", &key, &[("Idempotency-Key", "order-7")], b"once").status, 204);
    }
    let got = node.get(&key);
    assert_eq!((got.status, got.text().as_str()), (200, "once"));
}

#[test]
fn the_last_writer_wins_and_values_expire() {
    let Some(_) = binary() else { return };
    let place = Place::new("http_lww");
    let node = Node::start(&place, &[]);
    node.make_table("t", "lww", "lww");
    node.put("/kv/t/lww/k", "one");
    node.ask("PUT", "/kv/t/lww/k", &[("Kula-Timestamp", "5")], b"old");
    assert_eq!(node.get("/kv/t/lww/k").text(), "one");
    node.put("/kv/t/lww/k", "two");
    assert_eq!(node.get("/kv/t/lww/k").text(), "two");
    assert_eq!(node.ask("DELETE", "/kv/t/lww/k", &[], b"").status, 204);
    assert_eq!(node.get("/kv/t/lww/k").status, 404);
    for table in ["/kv/t/lww", BUCKET] {
        assert_eq!(node.ask("PUT", &format!("{table}/short"), &[("Kula-TTL", "1")], b"v").status, 204);
        assert_eq!(node.get(&format!("{table}/short")).status, 200);
    }
    std::thread::sleep(Duration::from_millis(1_100));
    for table in ["/kv/t/lww", BUCKET] {
        assert_eq!(node.get(&format!("{table}/short")).status, 404);
    }
}

#[test]
fn each_refusal_names_its_reason() {
    let Some(_) = binary() else { return };
    let place = Place::new("http_refusals");
    let node = Node::start(&place, &[]);
    node.make_table("t", "lww", "lww");
    let key = format!("{BUCKET}/k");
    node.put(&key, "v");
    let context = node.get(&key).header("Kula-Context").to_string();
    let mut forged = context.clone().into_bytes();
    let last = forged.len() - 1;
    forged[last] = if forged[last] == b'A' { b'Q' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    let long_key = format!("{BUCKET}/{}", "k".repeat(4_097));
    let far = (std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() + 120_000_000)
        .to_string();
    let put = |path: &str, headers: &[(&str, &str)]| node.ask("PUT", path, headers, b"v").problem();
    assert_eq!(put(&key, &[("Kula-Context", &forged)]), (400, "K0107".into()));
    assert_eq!(put(&format!("{BUCKET}/other"), &[("Kula-Context", &context)]), (400, "K0108".into()));
    assert_eq!(put(&key, &[("Kula-Context", "!!")]), (400, "K0106".into()));
    assert_eq!(put(&key, &[("Kula-Consistency", "most")]), (400, "K0104".into()));
    assert_eq!(put(&key, &[("Kula-Consistency", "7")]).0, 400);
    assert_eq!(put(&key, &[("Kula-Consistency", "any")]).0, 501);
    assert_eq!(put(&key, &[("Kula-Consistency", "each_quorum")]).0, 501);
    assert_eq!(put(&key, &[("Kula-Consistency", "two")]), (503, "K0301".into()));
    assert_eq!(put(&key, &[("If-Match", "\"x\"")]).0, 501);
    assert_eq!(put(&key, &[("Kula-Timestamp", "5")]), (400, "K0110".into()));
    assert_eq!(put("/kv/t/lww/k", &[("Kula-Timestamp", &far)]), (400, "K0111".into()));
    assert_eq!(put("/kv/t/lww/k", &[("Kula-Timestamp", "-9223372036854775808")]).0, 400);
    assert_eq!(put(&long_key, &[]), (400, "K0102".into()));
    assert_eq!(put("/kv/nowhere/x/k", &[]), (404, "K0401".into()));
    assert_eq!(put("/kv/kv/nowhere/k", &[]), (404, "K0402".into()));
    assert_eq!(node.get("/kv/kv/default/%zz").status, 400);
    assert_eq!(node.get("/nothing/here").problem().0, 404);
    assert_eq!(node.ask("PATCH", &key, &[], b"").problem().0, 405);
    let large = node.ask("PUT", &key, &[], &vec![0; (8 << 20) + 1]);
    assert_eq!(large.problem(), (413, "K0103".into()));
    assert_eq!(node.ask("PUT", &key, &[("Kula-Context", &context)], &vec![7; 8 << 20]).status, 204);
    assert_eq!(node.get(&key).body.len(), 8 << 20);
    let unavailable = node.ask("PUT", &key, &[("Kula-Consistency", "two")], b"v").json();
    assert_eq!(
        (&unavailable["need"], &unavailable["alive"], &unavailable["applied"]),
        (&2.into(), &1.into(), &"no".into())
    );
}

// Promise: P19
#[test]
fn garbage_is_answered_or_hung_up_on_and_the_node_lives() {
    use rand::{RngExt, SeedableRng, rngs::StdRng};
    let Some(_) = binary() else { return };
    let place = Place::new("http_garbage");
    let node = Node::start(&place, &[]);
    let mut random = StdRng::seed_from_u64(7);
    for round in 0..200 {
        let mut stream = TcpStream::connect((place.address.as_str(), 7080)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut bytes: Vec<u8> = match round % 4 {
            0 => Vec::new(),
            1 => b"PUT /kv/kv/default/k HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(),
            2 => b"GET /kv/kv/default/".to_vec(),
            _ => b"PUT /kv/kv/default/k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        };
        bytes.extend((0..random.random_range(1..3_000)).map(|_| random.random::<u8>()));
        // It may hang up while we still write.
        stream.write_all(&bytes).ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 "), "{:?}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(node.put(&format!("{BUCKET}/after"), "v").status, 204);
    assert!(!place.log().contains("panicked"), "{}", place.log());
}

#[test]
fn operators_see_status_ring_actors_and_metrics() {
    let Some(_) = binary() else { return };
    let place = Place::new("http_operators");
    let node = Node::start(&place, &[]);
    let status = node.get("/v1/status").json();
    assert_eq!(
        (&status["verdict"], &status["nodes"][0]["name"], &status["nodes"][0]["state"]),
        (&"ok".into(), &"n1".into(), &"up".into()),
        "{status}"
    );
    let actors = node.get("/v1/actors").json();
    let paths: Vec<&str> =
        actors["actors"].as_array().unwrap().iter().map(|actor| actor["path"].as_str().unwrap()).collect();
    for path in ["coordinator/0", "storage/shard/0", "storage/commitlog", "ring", "catalog"] {
        assert!(paths.contains(&path), "{path} in {paths:?}");
    }
    assert!(node.get("/metrics").text().contains("kula_mailbox_depth"));
    assert_eq!(node.get("/healthz/live").status, 200);
    assert_eq!(node.get("/openapi.json").json()["openapi"].as_str().unwrap().split('.').next(), Some("3"));
    let ring = node.get("/v1/ring");
    assert!(!ring.text().contains("secret"), "{}", ring.text());
    assert_eq!(ring.json()["version"], 1);
    assert_eq!(node.get("/v1/events").problem().0, 501);
    assert_eq!(node.get("/v1/hints").json()["total"], 0);
    node.put(&format!("{BUCKET}/k"), "v");
    let own = node.get("/v1/replica/kv/default/k");
    assert_eq!((own.status, own.text().as_str()), (200, "v"));
    assert_eq!(node.get("/v1/replica/kv/default/none").status, 404);
}
