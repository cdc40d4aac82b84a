//! The disk fails below a running node: a failed sync, a full disk.

use crate::harness::{Node, Place, SMALL_STORE, binary, skip};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

// Promise: P12
#[test]
fn a_failed_sync_acknowledges_nothing_more_and_ends_the_node() {
    let Some(_) = binary() else { return };
    if Command::new("strace").arg("-V").output().is_err() {
        return skip("strace is not installed");
    }
    let place = Place::new("failed_sync");
    // The first syncs belong to the start; one of the writes below meets the error, and after it the disk "works" again.
    let strace =
        ["strace", "-f", "-qq", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=60", "-o", "/dev/null"];
    let mut node = Node::from_command(&place, place.command_under(&strace, &[]));
    let mut acknowledged = Vec::new();
    let began = Instant::now();
    for number in 0.. {
        assert!(began.elapsed() < Duration::from_secs(20), "the error never came");
        let key = format!("/kv/kv/default/k{number}");
        match node.try_ask("PUT", &key, &[], b"v") {
            Ok(answer) if answer.status == 204 => acknowledged.push(key),
            Ok(answer) => {
                assert_eq!(answer.json()["applied"], "unknown", "{}", answer.text());
                break;
            }
            Err(_) => break,
        }
    }
    let status = node.wait();
    assert!(!status.success(), "a node whose log failed must not end well");
    assert!(place.log().contains("fenced"), "{}", place.log());
    drop(node);
    let node = Node::start(&place, &[]);
    assert!(!acknowledged.is_empty());
    for key in &acknowledged {
        assert_eq!(node.get(key).text(), "v", "{key}");
    }
}

/// A small file system of its own, unmounted at the end.
struct SmallDisk<'a>(&'a Place);

impl<'a> SmallDisk<'a> {
    fn mount(place: &'a Place, size: &str) -> Option<Self> {
        fs::create_dir_all(place.data()).unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(place.data()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(SmallDisk(place))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.data()).output().ok();
    }
}

// Promise: P11
#[test]
fn a_full_disk_refuses_before_the_ack_and_recovers_by_itself() {
    let Some(_) = binary() else { return };
    let place = Place::new("full_disk");
    let Some(_disk) = SmallDisk::mount(&place, "24m") else { return skip("cannot mount a tmpfs") };
    let node = Node::start(&place, SMALL_STORE);
    node.make_table("t", "lww", "lww");
    let filler = place.data().join("filler");
    // Bytes that do not compress.
    let mut random = StdRng::seed_from_u64(1);
    let value: Vec<u8> = (0..16_000).map(|_| random.random()).collect();
    let mut acknowledged = Vec::new();
    let mut refused = None;
    fs::write(&filler, vec![1u8; 12 << 20]).unwrap();
    for number in 0..2_000 {
        let key = format!("/kv/t/lww/k{number}");
        let answer = node.ask("PUT", &key, &[], &value);
        match answer.status {
            204 => acknowledged.push(key),
            // Flushes that cannot keep up are said before the disk is full; that wait ends, or ends in the answer below.
            429 => std::thread::sleep(Duration::from_millis(20)),
            _ => {
                refused = Some(answer);
                break;
            }
        }
    }
    let refused = refused.expect("32 MB do not fit");
    assert_eq!(refused.problem(), (503, "K0305".into()), "{}", refused.text());
    assert!(!acknowledged.is_empty());
    for key in acknowledged.iter().step_by(10) {
        assert_eq!(node.get(key).body, value, "reads go on");
    }
    fs::remove_file(&filler).unwrap();
    let began = Instant::now();
    while node.put("/kv/t/lww/after", "v").status != 204 {
        assert!(began.elapsed() < Duration::from_secs(30), "{}", place.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    node.kill();
    let node = Node::start(&place, SMALL_STORE);
    for key in &acknowledged {
        assert_eq!(node.get(key).body, value, "{key}");
    }
    assert_eq!(node.get("/kv/t/lww/after").text(), "v");
    node.kill();
}
