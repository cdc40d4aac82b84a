//! Readiness, overload, a full disk, stopping: what a load balancer and a crowd see.

use crate::{client::Client, stack::Node};
use kula_actor::MailboxConfig;
use kula_http::HttpError;
use std::time::Duration;

#[test]
fn before_it_is_ready_a_node_says_so_and_takes_nothing() {
    let node = Node::starting(MailboxConfig::default());
    let mut client = Client::to(node.address);
    assert_eq!(client.ask("GET", "/healthz/live", &[], b"").status, 200);
    let ready = client.ask("GET", "/healthz/ready", &[], b"");
    assert_eq!((ready.problem().as_str(), ready.header("Retry-After")), ("503 K0201", Some("1")));
    assert_eq!(client.ask("PUT", "/kv/kv/default/a", &[], b"x").problem(), "503 K0201");
    assert_eq!(client.ask("GET", "/kv/kv/default/a", &[], b"").problem(), "503 K0201");
    assert_eq!(client.ask("GET", "/v1/status", &[], b"").json()["verdict"], "unavailable");
    node.readiness.set_ready();
    let mut client = Client::to(node.address);
    assert_eq!(client.ask("GET", "/healthz/ready", &[], b"").status, 200);
    assert_eq!(client.ask("PUT", "/kv/kv/default/a", &[], b"x").status, 204);
    node.readiness.set_stopping();
    assert_eq!(client.ask("GET", "/healthz/ready", &[], b"").problem(), "503 K0307");
    assert_eq!(client.ask("GET", "/kv/kv/default/a", &[], b"").problem(), "503 K0307");
}

#[test]
fn without_a_ring_a_node_says_what_it_waits_for() {
    let node = Node::without_ring();
    let mut client = Client::to(node.address);
    let ready = client.ask("GET", "/healthz/ready", &[], b"");
    assert_eq!((ready.problem().as_str(), ready.header("Retry-After")), ("503 K0204", Some("1")));
    let sentence = ready.json()["detail"].clone();
    assert!(sentence.as_str().unwrap().starts_with("waiting for a ring"), "{sentence}");
    assert_eq!(client.ask("PUT", "/kv/kv/default/a", &[], b"x").json()["detail"], sentence);
    assert_eq!(client.ask("POST", "/v1/keyspaces", &[], br#"{"name":"shop"}"#).problem(), "503 K0204");
    assert_eq!(client.ask("GET", "/v1/replica/kv/default/a", &[], b"").problem(), "503 K0204");
    let status = client.ask("GET", "/v1/status", &[], b"").json();
    assert_eq!((&status["verdict"], &status["code"]), (&"unavailable".into(), &"K0204".into()));
    assert_eq!((&status["sentence"], &status["nodes"][0]["name"]), (&sentence, &"n1".into()));
    let ring = client.ask("GET", "/v1/ring", &[], b"").json();
    assert_eq!(
        (&ring["version"], &ring["nodes"], &ring["datacentres"]),
        (&0.into(), &vec![0; 0].into(), &vec![0; 0].into())
    );
    assert_eq!(client.ask("GET", "/healthz/live", &[], b"").status, 200);
}

// Promise: P9
#[test]
fn a_full_mailbox_is_a_429_that_names_it() {
    let node = Node::starting(MailboxConfig { cap: 1 });
    node.readiness.set_ready();
    let mut client = Client::to(node.address);
    // The items of one batch are sent at once: some find the mailbox full.
    let items = vec![r#"{"op":"get","key":"a"}"#; 200].join(",");
    let batch = client.ask("POST", "/kv/kv/default:batch", &[], format!(r#"{{"items":[{items}]}}"#).as_bytes()).json();
    let shed = batch["items"].as_array().unwrap().iter().find(|item| item["status"] == 429).unwrap();
    assert_eq!((&shed["problem"]["code"], &shed["problem"]["mailbox"]), (&"K0303".into(), &"coordinator/0".into()));
    assert_eq!(shed["problem"]["applied"], "no");
}

// Promise: P11
#[test]
fn a_full_disk_refuses_writes_and_serves_reads_until_there_is_room() {
    let node = Node::start();
    let mut client = Client::to(node.address);
    let path = "/kv/kv/default/a";
    assert_eq!(client.ask("PUT", path, &[], b"before").status, 204);
    node.disk.set_space(Some(0));
    let value = vec![b'x'; 1 << 20];
    let refused = (0..100)
        .map(|index| client.ask("PUT", &format!("/kv/kv/default/fill{index}"), &[], &value))
        .find(|answer| answer.status != 204);
    let refused = refused.unwrap();
    assert_eq!((refused.problem().as_str(), refused.header("Retry-After")), ("503 K0305", Some("1")));
    assert_eq!(client.ask("GET", path, &[], b"").text(), "before");
    node.disk.set_space(None);
    let resumed = (0..50).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        client.ask("PUT", "/kv/kv/default/after", &[], b"after").status == 204
    });
    assert!(resumed);
}

#[test]
fn a_port_in_use_is_said_so() {
    let node = Node::start();
    assert!(matches!(Node::refused(node.address), HttpError::PortInUse { address } if address == node.address));
    // TEST-NET-1: no machine has it.
    let elsewhere = "192.0.2.1:7080".parse().unwrap();
    assert!(matches!(Node::refused(elsewhere), HttpError::Address { address, .. } if address == elsewhere));
}
