//! Clients that ask for much and read nothing: others are still served, and the silent ones are cut.

use crate::{client::Client, stack::Node};
use kula_http::limits::ANSWERS_BYTES_MAX;
use std::time::{Duration, Instant};

const PATH: &str = "/kv/kv/default/large";
const VALUE_BYTES: usize = 8 << 20;

// Promise: P24
#[test]
#[allow(clippy::disallowed_methods, reason = "a real socket's kernel has its own clock")]
fn clients_that_never_read_are_cut_and_until_then_others_are_told_to_wait() {
    let node = Node::start();
    let mut client = Client::to(node.address);
    assert_eq!(client.ask("PUT", PATH, &[], &vec![7; VALUE_BYTES]).status, 204);
    let small = "/kv/kv/default/small";
    assert_eq!(client.ask("PUT", small, &[], b"milk").status, 204);

    let silent_count = ANSWERS_BYTES_MAX as usize / VALUE_BYTES;
    let silent: Vec<Client> = (0..silent_count)
        .map(|_| {
            let mut silent = Client::to(node.address);
            silent.takes_little();
            silent.send(format!("GET {PATH} HTTP/1.1\r\nHost: n1\r\n\r\n").as_bytes()).unwrap();
            assert_eq!(silent.first_byte(), b'H', "its answer is on the way");
            silent
        })
        .collect();
    let started = Instant::now();
    let full = client.ask("GET", PATH, &[], b"");
    assert_eq!((full.problem().as_str(), full.header("Retry-After")), ("429 K0303", Some("1")));
    assert_eq!(full.json()["mailbox"], "http/answers");
    assert_eq!(client.ask("GET", small, &[], b"").text(), "milk", "a small answer needs no room");
    while client.ask("GET", PATH, &[], b"").status != 200 {
        assert!(started.elapsed() < Duration::from_secs(15), "those that never read are not cut");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(silent);
}
