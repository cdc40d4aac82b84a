//! The command line as a person uses it: what it prints, where, and its exit codes.

use crate::harness::{Node, Place, binary};
use std::process::{Command, Output};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

#[test]
fn put_get_and_del_say_what_happened() {
    let Some(_) = binary() else { return };
    let place = Place::new("cli_kv");
    let node = Node::start(&place, &[]);
    let put = node.kula(&["put", "cart:42", "{\"milk\":1}", "-c", "quorum"]);
    assert_eq!(code(&put), Some(0), "{}", text(&put.stderr));
    let said = text(&put.stdout);
    assert!(said.starts_with("ok  1/1 replicas  n1  ") && said.contains("context "), "{said}");
    let second = node.kula(&["put", "cart:42", "{\"milk\":2}"]);
    assert_eq!(code(&second), Some(0));
    let get = node.kula(&["get", "cart:42"]);
    assert_eq!((code(&get), text(&get.stdout).as_str()), (Some(0), "{\"milk\":2}"), "a second put replaces");
    node.kula(&["put", "cart:42", "blind", "--blind"]);
    let siblings = node.kula(&["get", "cart:42"]);
    assert_eq!(code(&siblings), Some(1));
    assert!(text(&siblings.stdout).contains("\"siblings\""), "{}", text(&siblings.stdout));
    assert_eq!(code(&node.kula(&["get", "cart:42", "--newest"])), Some(0));
    assert_eq!(code(&node.kula(&["del", "cart:42"])), Some(0));
    let gone = node.kula(&["get", "cart:42"]);
    assert_eq!((code(&gone), text(&gone.stdout).as_str()), (Some(1), ""));
    assert!(text(&gone.stderr).contains("not found"));
}

#[test]
fn views_and_administration_work() {
    let Some(_) = binary() else { return };
    let place = Place::new("cli_views");
    let node = Node::start(&place, &[]);
    let status = node.kula(&["status"]);
    assert_eq!(code(&status), Some(0), "{}", text(&status.stderr));
    assert!(
        text(&status.stdout).starts_with("OK  ") && text(&status.stdout).contains("n1"),
        "{}",
        text(&status.stdout)
    );
    assert!(text(&node.kula(&["actors", "storage/"]).stdout).contains("storage/commitlog"));
    assert!(text(&node.kula(&["ring"]).stdout).contains("ring 1"));
    assert_eq!(code(&node.kula(&["keyspace", "create", "shop", "--rf", "1"])), Some(0));
    assert_eq!(code(&node.kula(&["table", "create", "shop.carts", "--causal"])), Some(0));
    let again = node.kula(&["keyspace", "create", "shop", "--rf", "2"]);
    assert_eq!(code(&again), Some(1));
    assert!(text(&again.stderr).contains("kula explain K04"), "{}", text(&again.stderr));
    let tables = text(&node.kula(&["table", "list"]).stdout);
    assert!(tables.contains("kv.default") && tables.contains("shop.carts"), "{tables}");
    let sloppy = node.kula(&["keyspace", "create", "loose", "--mode", "sloppy"]);
    assert_eq!(code(&sloppy), Some(2));
    assert!(text(&sloppy.stderr).contains("K05"), "{}", text(&sloppy.stderr));
    assert_eq!(code(&node.kula(&["put", "k", "v", "-t", "shop.carts"])), Some(0));
}

#[test]
fn without_a_node_the_command_line_says_what_to_do() {
    let Some(binary) = binary() else { return };
    let run = |arguments: &[&str]| Command::new(binary).args(arguments).output().unwrap();
    let nobody = run(&["--at", "http://127.77.250.1:7080", "get", "k"]);
    assert_eq!(code(&nobody), Some(4));
    assert!(text(&nobody.stderr).contains("kula node"), "{}", text(&nobody.stderr));
    assert_eq!(code(&run(&["get"])), Some(2));
    assert_eq!(code(&run(&["get", "k", "-t", "nodot"])), Some(2));
    let explain = run(&["explain", "K0301"]);
    assert_eq!(code(&explain), Some(0));
    assert!(text(&explain.stdout).contains("K0301"));
    assert_eq!(code(&run(&["explain", "K9999"])), Some(1));
    assert_eq!(code(&run(&["config", "show", "--origin"])), Some(0));
    assert_eq!(code(&run(&["--version"])), Some(0));
}
