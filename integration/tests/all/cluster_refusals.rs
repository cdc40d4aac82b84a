//! Who does not belong is refused by name, and what comes in at the peer port hurts nobody.

use crate::{
    cluster::{Cluster, Places, arguments, wait_for},
    harness::{Client, Node, Place, binary},
};
use bytes::{Bytes, BytesMut};
use kula_types::{Life, NodeId, Timestamp};
use kula_wire::{
    Frame, Kind, Lane, PROTOCOL_MAX, PROTOCOL_MIN, Verb, encode,
    verbs::link::{Hello, Introduction, Ping},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

const SOON: Duration = Duration::from_secs(10);

/// Lines of a log with this event that say all these words.
fn lines(place: &Place, event: &str, words: &[&str]) -> Vec<Value> {
    let log = place.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["event"] == event && words.iter().all(|word| line.to_string().contains(word))).collect()
}

/// A further node of the cluster's network, with these seeds.
fn spawn_further<'a>(place: &'a Place, number: usize, places: &Places, further: &[&str]) -> Node<'a> {
    let seeds: Vec<&Place> = places.members.iter().collect();
    let arguments = arguments(number, &seeds, further);
    Node::spawn(place, place.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// The cluster goes on as if nothing had been.
fn assert_healthy(cluster: &Cluster) {
    for client in cluster.clients() {
        let put = client.ask("PUT", "/kv/kv/default/healthy", &[("Kula-Consistency", "all")], b"v");
        assert_eq!(put.status, 204, "{}", put.text());
    }
    cluster.wait_whole();
    cluster.assert_calm();
}

#[test]
fn a_node_of_another_cluster_is_refused_by_name_on_both_sides() {
    let Some(_) = binary() else { return };
    let places = Places::new("cluster_other_name", 3);
    let cluster = Cluster::start(&places);
    let place = places.home.member("n4", &places.home.address_of(4));
    let stranger = spawn_further(&place, 4, &places, &["--set", "cluster=other"]);
    wait_for("both sides to say so", SOON, || {
        !lines(&place, "link_down", &["refused", "other", "kula"]).is_empty()
            && !lines(places.of(1), "peer_refused", &["other", "kula"]).is_empty()
    });
    assert!(!stranger.is_ready(), "it has no ring");
    // The link asks again and again; people hear of it once.
    std::thread::sleep(Duration::from_secs(3));
    let said = lines(places.of(1), "peer_refused", &["other"]);
    assert_eq!(said.len(), 1, "{said:#?}");
    assert_healthy(&cluster);
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-r").args([from, to]).status().unwrap();
    assert!(copied.success());
}

#[test]
fn a_copy_of_a_running_members_directory_is_refused_by_name() {
    let Some(_) = binary() else { return };
    let places = Places::new("cluster_copy", 3);
    let cluster = Cluster::start(&places);
    assert_eq!(cluster.node(2).put("/kv/kv/default/k", "v").status, 204);
    let place = places.home.member("n4", &places.home.address_of(4));
    copy(&places.of(2).data(), &place.data());
    let clone = spawn_further(&place, 2, &places, &[]);
    wait_for("both sides to say so", SOON, || {
        let says = |number| !lines(places.of(number), "peer_refused", &["copy of its directory"]).is_empty();
        says(1) && says(3) && !lines(&place, "link_down", &["copy of its directory"]).is_empty()
    });
    // It reaches nobody, so it is no second voice.
    let put = clone.try_ask("PUT", "/kv/kv/default/k", &[], b"second");
    assert!(put.is_ok_and(|answer| answer.status == 503), "it wrote at QUORUM");
    assert_eq!(cluster.node(2).get("/kv/kv/default/k").text(), "v");
    assert_healthy(&cluster);
}

// Promise: P27
#[test]
fn a_wiped_node_at_a_members_address_is_refused_by_name() {
    let Some(_) = binary() else { return };
    let places = Places::new("cluster_wiped", 3);
    let mut cluster = Cluster::start(&places);
    cluster.kill(3);
    fs::remove_dir_all(places.of(3).data()).unwrap();
    cluster.spawn(3);
    let words = ["belongs to member", "n3"];
    wait_for("both sides to say so", SOON, || {
        let says = |number| !lines(places.of(number), "peer_refused", &words).is_empty();
        says(1) && says(2) && !lines(places.of(3), "link_down", &words).is_empty()
    });
    assert!(!cluster.node(3).is_ready(), "it is no member");
    for number in [1, 2] {
        assert!(!cluster.sees(number, 3, "up"), "the member is not there");
        assert_eq!(cluster.node(number).put("/kv/kv/default/k", "v").status, 204, "the others go on");
    }
    cluster.assert_calm();
}

// Promise: P2
#[test]
fn a_member_that_comes_back_with_an_older_directory_is_refused_by_name_until_its_loss_is_accepted() {
    let Some(_) = binary() else { return };
    let places = Places::new("cluster_older", 3);
    let mut cluster = Cluster::start(&places);
    let (data, backup) = (places.of(3).data(), places.home.member("backup", "-").data());
    cluster.stop(3);
    fs::create_dir_all(backup.parent().unwrap()).unwrap();
    copy(&data, &backup);
    cluster.restart(3);
    cluster.wait_whole();
    for key in 0..20 {
        let path = format!("/kv/kv/default/k{key}");
        assert_eq!(cluster.node(3).ask("PUT", &path, &[("Kula-Consistency", "two")], b"new").status, 204);
    }
    // A clock's lease is extended, and told, once a second.
    std::thread::sleep(Duration::from_secs(4));
    cluster.kill(3);
    fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);
    let words = ["directory from before", "--accept-loss"];
    let is_told = |times: usize| lines(places.of(3), "link_down", &words).len() >= times;
    cluster.spawn(3);
    wait_for("both sides to say so", SOON, || {
        let says = |number| !lines(places.of(number), "peer_refused", &words).is_empty();
        says(1) && says(2) && is_told(2)
    });
    // What it stores from now on does not make up for what it lacks.
    std::thread::sleep(Duration::from_secs(3));
    cluster.kill(3);
    cluster.spawn(3);
    wait_for("its next process to be refused too", SOON, || is_told(4));
    let status = cluster.node(1).ask("GET", "/v1/status", &[], b"").text();
    assert!(words.iter().all(|word| status.contains(word)), "{status}");
    for key in 0..20 {
        let read =
            cluster.node(1).ask("GET", &format!("/kv/kv/default/k{key}"), &[("Kula-Consistency", "quorum")], b"");
        assert_eq!(read.text(), "new");
    }
    cluster.kill(3);
    cluster.spawn_with(3, &["--accept-loss"]);
    cluster.wait_ready(3);
    cluster.wait_whole();
    assert_healthy(&cluster);
}

/// The bytes of a frame.
fn frame(kind: Kind, verb: u16, request: u64, body: Bytes) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    Frame { kind, lane: Lane::Request, verb, request, deadline_ms: 0, trace: 0, body }
        .write(Timestamp::MAX, &mut bytes);
    bytes.to_vec()
}

/// What a node that never was says first.
fn hello() -> Vec<u8> {
    let introduction = Introduction {
        cluster: None,
        cluster_name: "kula".into(),
        node: NodeId(uuid::Uuid::from_bytes([77; 16])),
        life: Life(1),
        boot: 77,
        name: "n77".into(),
        address: "127.77.0.77:7000".into(),
        ring_version: 0,
        lease_found: None,
    };
    let hello = Hello { protocol_min: PROTOCOL_MIN, protocol_max: PROTOCOL_MAX, introduction };
    frame(Kind::Request, Hello::CODE, 1, encode(&hello).unwrap())
}

fn peer_port(client: &Client) -> TcpStream {
    let stream = TcpStream::connect((client.address.as_str(), 7000)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

// Promise: P19
#[test]
fn garbage_at_the_peer_port_is_hung_up_on_and_the_cluster_goes_on() {
    let Some(_) = binary() else { return };
    let places = Places::new("cluster_garbage", 3);
    let cluster = Cluster::start(&places);
    let node = cluster.node(1);
    // They say nothing at all, as long as the test lasts.
    let half_open: Vec<TcpStream> = (0..200).map(|_| peer_port(node)).collect();
    let mut random = StdRng::seed_from_u64(11);
    for round in 0..120 {
        let mut bytes: Vec<u8> = match round % 6 {
            0 => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            // A length that claims 16 MiB, from a stranger and from somebody who said hello.
            1 => (16u32 << 20).to_le_bytes().to_vec(),
            2 => [hello(), (16u32 << 20).to_le_bytes().to_vec()].concat(),
            // A frame whose checksum is wrong, behind a good one.
            3 => {
                let mut bad = frame(Kind::Request, Ping::CODE, 2, Bytes::from_static(b"x"));
                *bad.last_mut().unwrap() ^= 1;
                [hello(), bad].concat()
            }
            // Frames whose bodies are no message of their verb, for every room and for none.
            4 => {
                let verbs = (0..=0x0A).flat_map(|room: u16| (0..6).map(move |verb| room << 8 | verb));
                let body = Bytes::from((0..random.random_range(0..200)).map(|_| random.random()).collect::<Vec<u8>>());
                let asked = verbs.clone().zip(10..).filter(|(verb, _)| *verb != Hello::CODE);
                let asked = asked.flat_map(|(verb, request)| frame(Kind::Request, verb, request, body.clone()));
                let told = verbs.flat_map(|verb| frame(Kind::OneWay, verb, 0, body.clone()));
                hello().into_iter().chain(asked).chain(told).collect()
            }
            _ => frame(Kind::Response, Hello::CODE, 1, Bytes::new()),
        };
        bytes.extend((0..random.random_range(0..2_000)).map(|_| random.random::<u8>()));
        let mut stream = peer_port(node);
        // It may hang up while we still write.
        stream.write_all(&bytes).ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
    }
    assert_healthy(&cluster);
    drop(half_open);
}

/// Resident bytes of a process.
fn memory_of(node: &Node) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

// Promise: P9
#[test]
fn a_peer_that_stops_reading_is_cut_and_takes_no_memory() {
    let Some(_) = binary() else { return };
    let places = Places::new("cluster_deaf", 3);
    let cluster = Cluster::start(&places);
    let node = cluster.node(1);
    let before = memory_of(node);
    let mut stream = peer_port(node);
    stream.write_all(&hello()).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    // Asks without end, now and then with a large body that no room can use, and reads nothing.
    let body = Bytes::from(vec![7; 1 << 20]);
    let ping = encode(&Ping { leased: None }).unwrap();
    let asks = (2u64..).map(|number| match number % 1_024 {
        0 => frame(Kind::Request, 0x0501, number, body.clone()),
        _ => frame(Kind::Request, Ping::CODE, number, ping.clone()),
    });
    stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let (began, mut highest, mut sent) = (Instant::now(), 0, 0);
    for bytes in asks {
        let mut look_on = || {
            assert!(began.elapsed() < Duration::from_secs(25), "a peer that reads nothing was not cut");
            highest = highest.max(memory_of(node));
        };
        if !write_all(&mut stream, &bytes, &mut look_on) {
            break;
        }
        sent += bytes.len();
    }
    println!(
        "cut after {:?} and {sent} bytes; {} MiB before, {} at most",
        began.elapsed(),
        before >> 20,
        highest >> 20
    );
    assert!(highest < before + (160 << 20), "from {} MiB to {} MiB", before >> 20, highest >> 20);
    assert_healthy(&cluster);
}

/// Writes, looking on while the other side takes nothing; false once it hung up.
fn write_all(stream: &mut TcpStream, mut bytes: &[u8], look_on: &mut dyn FnMut()) -> bool {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return false,
            Ok(written) => bytes = &bytes[written..],
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                look_on();
            }
            Err(_) => return false,
        }
    }
    true
}
