//! What a start refuses, and how it says so: what, why, what next.

use crate::harness::{Node, Place, binary, refused};
use std::{fs, net::TcpListener, process::Command};

fn assert_says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word:?} in:\n{said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn an_unknown_key_is_refused_with_line_and_suggestion() {
    let Some(_) = binary() else { return };
    let place = Place::new("unknown_key");
    let file = place.directory.join("kula.toml");
    fs::write(&file, "cluster = \"x\"\n[storage]\nmemtabel_heap = 5\n").unwrap();
    let (code, said) = refused(place.command(&["--config", file.to_str().unwrap()]));
    assert_eq!(code, Some(2), "{said}");
    assert_says(
        &said,
        &["error K06", "line 3", "memtabel_heap", "^^^", "did you mean `storage.memtable_heap`?", "next:"],
    );
    assert!(!place.data().exists(), "nothing was written");
}

#[test]
fn a_port_in_use_is_refused_by_name() {
    let Some(_) = binary() else { return };
    let place = Place::new("port_in_use");
    let _taken = TcpListener::bind((place.address.as_str(), 7080)).unwrap();
    let (code, said) = refused(place.command(&[]));
    assert_eq!(code, Some(1), "{said}");
    assert_says(&said, &["error K06", "7080", "next:"]);
}

#[test]
fn a_directory_of_a_running_node_is_refused() {
    let Some(_) = binary() else { return };
    let place = Place::new("locked");
    let _node = Node::start(&place, &[]);
    let (code, said) = refused(place.command(&["--set", "listen.http=7081"]));
    assert_eq!(code, Some(1), "{said}");
    assert_says(&said, &["error K06", "running node", "next:"]);
}

#[test]
fn a_directory_of_another_cluster_is_refused() {
    let Some(_) = binary() else { return };
    let place = Place::new("other_cluster");
    assert!(Node::start(&place, &["--set", "cluster=one"]).stop().success());
    let (code, said) = refused(place.command(&["--set", "cluster=two"]));
    assert_eq!(code, Some(1), "{said}");
    assert_says(&said, &["error K06", "one", "two", "next:"]);
}

// Promise: P20
#[test]
fn a_node_binds_loopback_unless_told_otherwise() {
    let Some(_) = binary() else { return };
    let place = Place::new("insecure");
    let (code, said) = refused(place.command(&["--set", "listen.address=0.0.0.0"]));
    assert_eq!(code, Some(2), "{said}");
    assert_says(&said, &["error K06", "0.0.0.0", "--insecure", "next:"]);
    assert!(!place.data().exists(), "nothing was written");
}

#[test]
fn what_is_not_there_yet_is_refused_by_name() {
    let Some(binary) = binary() else { return };
    for arguments in [&["demo"][..], &["backup", "x"], &["cql"]] {
        let output = Command::new(binary).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert_says(&String::from_utf8_lossy(&output.stderr), &["K0501", "not there yet"]);
    }
    let place = Place::new("not_there_yet");
    let (code, said) = refused(place.command(&["--set", "repair.interval=1"]));
    assert_eq!(code, Some(2), "{said}");
    assert_says(&said, &["not there yet", "repair"]);
}

#[test]
fn a_damaged_identity_is_refused() {
    let Some(_) = binary() else { return };
    let place = Place::new("damaged_identity");
    assert!(Node::start(&place, &[]).stop().success());
    let file = place.data().join("identity");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let (code, said) = refused(place.command(&[]));
    assert_eq!(code, Some(1), "{said}");
    assert_says(&said, &["error K06", "identity", "next:"]);
}
