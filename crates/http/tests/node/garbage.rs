//! Whatever comes over the wire: an answer or a closed connection, never a hang, and the node serves on.

use crate::{client::Client, stack::Node};
use std::io::ErrorKind;

/// A small generator; the seeds are the test.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % end as u64).unwrap()
    }
}

fn serves_on(node: &Node) {
    let mut client = Client::to(node.address);
    assert_eq!(client.ask("PUT", "/kv/kv/default/alive", &[("Idempotency-Key", "1")], b"yes").status, 204);
    assert_eq!(client.ask("GET", "/kv/kv/default/alive", &[], b"").text(), "yes");
}

fn throw(node: &Node, bytes: &[u8]) -> Vec<u8> {
    let mut client = Client::to(node.address);
    match client.send(bytes) {
        Ok(()) => client.finish(),
        Err(error) => assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}"),
    }
    client.drain()
}

// Promise: P19
#[test]
fn random_bytes_end_in_an_answer_or_a_close() {
    let node = Node::start();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for _ in 0..200 {
        let bytes: Vec<u8> = (0..dice.below(600)).map(|_| dice.roll().to_le_bytes()[0]).collect();
        let answer = throw(&node, &bytes);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{:?}", String::from_utf8_lossy(&answer));
    }
    serves_on(&node);
}

// Promise: P19
/// Bytes of good requests, changed here and there: these reach the handlers.
#[test]
fn damaged_requests_end_in_an_answer_or_a_close() {
    let node = Node::start();
    let good: [&[u8]; 5] = [
        b"GET /kv/kv/default/a%2Fb?resolve=lww HTTP/1.1\r\nHost: n1\r\nKula-Consistency: one\r\nIf-None-Match: \"a\"\r\n\r\n",
        b"PUT /kv/kv/default/a HTTP/1.1\r\nHost: n1\r\nKula-TTL: 60\r\nKula-Context: AQOx\r\nContent-Length: 4\r\n\r\nmilk",
        b"PUT /kv/kv/default/a HTTP/1.1\r\nHost: n1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmilk\r\n0\r\n\r\n",
        b"POST /kv/kv/default:batch HTTP/1.1\r\nHost: n1\r\nContent-Length: 38\r\n\r\n{\"items\":[{\"op\":\"get\",\"key\":\"aaaaaa\"}]}",
        b"POST /v1/keyspaces HTTP/1.1\r\nHost: n1\r\nContent-Length: 15\r\n\r\n{\"name\":\"shop\"}",
    ];
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for round in 0..300 {
        let mut bytes = good[round % good.len()].to_vec();
        for _ in 0..=dice.below(4) {
            let at = dice.below(bytes.len());
            match dice.below(3) {
                0 => bytes[at] = dice.roll().to_le_bytes()[0],
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, dice.roll().to_le_bytes()[0]),
            }
        }
        let answer = throw(&node, &bytes);
        assert!(
            !answer.starts_with(b"HTTP/1.1 500"),
            "{:?} to {:?}",
            String::from_utf8_lossy(&answer),
            String::from_utf8_lossy(&bytes)
        );
    }
    serves_on(&node);
}

// Promise: P24
#[test]
fn heads_past_their_bounds_are_refused() {
    let node = Node::start();
    let mut client = Client::to(node.address);
    let wide = "x".repeat(40 << 10);
    assert_eq!(client.ask("GET", "/kv/kv/default/a", &[("Cookie", &wide)], b"").problem(), "431 K0115");
    let endless = format!("GET / HTTP/1.1\r\nCookie: {}", "x".repeat(200 << 10));
    assert!(throw(&node, endless.as_bytes()).starts_with(b"HTTP/1.1 431"));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200));
    assert!(throw(&node, many.as_bytes()).starts_with(b"HTTP/1.1 4"));
    serves_on(&node);
}

#[test]
fn a_body_cut_short_stores_nothing() {
    let node = Node::start();
    let answer = throw(&node, b"PUT /kv/kv/default/cut HTTP/1.1\r\nHost: n1\r\nContent-Length: 100\r\n\r\nonly this");
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{:?}", String::from_utf8_lossy(&answer));
    assert_eq!(Client::to(node.address).ask("GET", "/kv/kv/default/cut", &[], b"").problem(), "404 K0404");
}

// Promise: P24
/// A head and a body that stop coming: both are cut, within their bounds.
#[test]
fn a_client_that_falls_silent_is_cut() {
    let node = Node::start();
    let mut head = Client::to(node.address);
    head.send(b"GET /kv/kv/default/a HT").unwrap();
    let mut body = Client::to(node.address);
    body.send(b"PUT /kv/kv/default/a HTTP/1.1\r\nHost: n1\r\nContent-Length: 100\r\n\r\nfirst bytes").unwrap();
    let cut = body.answer(true).unwrap();
    assert_eq!(cut.problem(), "408 K0116");
    let answer = head.drain();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"), "{:?}", String::from_utf8_lossy(&answer));
    serves_on(&node);
}

/// Several requests in one write are answered in their order.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let node = Node::start();
    let mut client = Client::to(node.address);
    let mut all = Vec::new();
    for index in 0..10 {
        all.extend_from_slice(
            format!("PUT /kv/kv/default/p{index} HTTP/1.1\r\nHost: n1\r\nContent-Length: 1\r\n\r\n{index}").as_bytes(),
        );
        all.extend_from_slice(format!("GET /kv/kv/default/p{index} HTTP/1.1\r\nHost: n1\r\n\r\n").as_bytes());
    }
    client.send(&all).unwrap();
    for index in 0..10 {
        assert_eq!(client.answer(true).unwrap().status, 204);
        assert_eq!(client.answer(true).unwrap().text(), index.to_string());
    }
}
