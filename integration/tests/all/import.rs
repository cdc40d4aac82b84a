//! `kula import` and `kula export` on three real nodes: a node dies, the importer dies, the table leaves and comes back.

use crate::{
    cluster::{Cluster, Places, wait_for},
    harness::{Client, Node, Place, binary},
};
use serde_json::Value;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

/// Stanzas of about 800 bytes.
const STANZAS: usize = 8_000;
/// Names that come a second time, with another version.
const TWICE: usize = 100;

/// A package index; the names of its first stanzas come again at its end.
fn index(stanzas: usize) -> String {
    let mut text = String::new();
    for number in 0..stanzas + TWICE {
        let (name, version) = (number % stanzas, number / stanzas + 1);
        text.push_str(&format!("Package: pack-{name}\nVersion: {version}.0-{number}\nDescription: number {number}\n"));
        for line in 0..12 {
            text.push_str(&format!(" line {line} of what pack {name} is good for, told at some length\n"));
        }
        text.push_str("Tag: role::test,\n use::reading\n\n");
    }
    text
}

fn import(client: &Client, words: &[&str], file: &Path) -> Command {
    let mut command = Command::new(binary().unwrap());
    command.args(["--at", &client.url(), "--output", "json", "import"]).arg(file).args(words).stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// What an import told at its end; it must have gone well.
fn summary(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(output)))
}

/// Every node showed every record.
fn assert_read_back(summary: &Value, nodes: usize) {
    let read_back = summary["read_back"].as_array().unwrap();
    assert_eq!(read_back.len(), nodes, "{summary}");
    for read in read_back {
        assert_eq!((&read["digest"], &read["keys"]), (&summary["digest"], &summary["keys"]), "{summary}");
    }
}

fn export(client: &Client, file: &Path, words: &[&str]) -> Value {
    let file = file.to_str().unwrap();
    summary(&client.kula(&[&["--output", "json", "export", file], words].concat()))
}

/// How many records the state of an import speaks of, while there is one.
fn stored(state: &Path) -> Option<u64> {
    let state: Value = serde_json::from_slice(&fs::read(state).ok()?).unwrap();
    state["records"].as_u64()
}

struct Files {
    index: PathBuf,
    state: PathBuf,
    jsonl: PathBuf,
    deb822: PathBuf,
    csv: PathBuf,
}

fn files(place: &Place) -> Files {
    let at = |name: &str| place.directory.join(name);
    let files = Files {
        index: at("index.deb822"),
        state: at("index.deb822.kula-import"),
        jsonl: at("out.jsonl"),
        deb822: at("out.deb822"),
        csv: at("out.csv"),
    };
    fs::write(&files.index, index(STANZAS)).unwrap();
    files
}

#[test]
fn an_import_survives_a_node_and_itself_and_its_export_changes_nothing() {
    let Some(_) = binary() else { return };
    let places = Places::new("import", 3);
    let files = files(&places.home);
    let mut cluster = Cluster::start(&places);
    let first = Client::new(&places.of(1).address);

    // The importer is killed once something of it is written down.
    let mut killed = import(&first, &["--key", "Package"], &files.index).stdout(Stdio::null()).spawn().unwrap();
    wait_for("a part to be imported", Duration::from_secs(20), || files.state.exists());
    killed.kill().unwrap();
    killed.wait().unwrap();
    let stored = stored(&files.state).unwrap();
    assert!(stored > 0 && stored < u64::try_from(STANZAS).unwrap(), "{stored}");

    // It goes on where it was; meanwhile a node is killed.
    let began = Instant::now();
    let resumed = import(&first, &["--key", "Package"], &files.index)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("more to be imported", Duration::from_secs(20), || {
        self::stored(&files.state).is_none_or(|now| now > stored)
    });
    cluster.kill(2);
    let summary_of_resumed = summary(&resumed.wait_with_output().unwrap());
    println!("resumed at {stored}, without n2, in {:?}: {summary_of_resumed}", began.elapsed());
    assert!(summary_of_resumed["resumed"].as_u64().unwrap() >= stored, "{summary_of_resumed}");
    assert_eq!(summary_of_resumed["records"], STANZAS + TWICE);
    assert_eq!(summary_of_resumed["keys"], STANZAS);
    assert!(!files.state.exists(), "nothing is left to go on from");

    // Without n2 nothing is lost, and with it again neither.
    let two = import(&first, &["--key", "Package", "--verify"], &files.index).output().unwrap();
    assert_eq!(two.status.code(), Some(3), "n2 was not read through: {}", said(&two));
    assert!(said(&two).contains("K0907"), "{}", said(&two));
    cluster.restart(2);
    cluster.wait_whole();
    let all = summary(&import(cluster.node(3), &["--key", "Package", "--verify"], &files.index).output().unwrap());
    assert_read_back(&all, 3);
    assert_eq!(all["digest"], summary_of_resumed["digest"]);
    cluster.wait_drained(Duration::from_secs(15));
    let again = first.get("/kv/demo/packages/pack-7");
    assert_eq!(again.header("content-type"), "application/json");
    assert_eq!(again.json()["Version"], format!("2.0-{}", STANZAS + 7), "the later of two stays");

    // Out, and in again: nothing changes.
    for (file, words) in
        [(&files.jsonl, [].as_slice()), (&files.deb822, &["--key", "Package"]), (&files.csv, &["--key", "Package"])]
    {
        let exported = export(cluster.node(2), file, words);
        assert_eq!((&exported["digest"], &exported["records"]), (&all["digest"], &all["keys"]), "{}", file.display());
    }
    let back = summary(&import(cluster.node(2), &["--verify"], &files.jsonl).output().unwrap());
    assert_eq!(back["digest"], all["digest"]);
    assert_read_back(&back, 3);
    let stanzas = summary(&import(&first, &["--key", "Package"], &files.deb822).output().unwrap());
    assert_eq!(stanzas["digest"], all["digest"]);
    cluster.assert_calm();
}

#[test]
fn what_cannot_be_imported_is_told_by_its_line() {
    let Some(binary) = binary() else { return };
    let place = Place::new("import_refused");
    let node = Node::start(&place, &[]);
    let file = place.directory.join("orders.csv");
    let run = |words: &[&str], text: &str| {
        fs::write(&file, text).unwrap();
        node.kula(&[&["import", file.to_str().unwrap()], words].concat())
    };
    let expect = |output: Output, code: i32, words: &[&str]| {
        let said = said(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        words.iter().for_each(|word| assert!(said.contains(word), "{word}: {said}"));
    };
    let good = "id,n\n1,a\n2,b\n";
    expect(run(&["--key", "id"], good), 0, &["imported 2 records", "2 distinct keys", "demo.packages"]);
    expect(node.kula(&["get", "2", "-t", "demo.packages"]), 0, &["{\"id\":\"2\",\"n\":\"b\"}"]);
    expect(run(&[], good), 1, &["K0902", "line 1", "id, n", "--key FIELD"]);
    expect(run(&["--key", "id"], "id,n\n1,a\n2\n3,c\n"), 1, &["K0901", "line 3", "--skip-bad"]);
    // What stands before the fault is stored; mended, it goes on there.
    expect(run(&["--key", "id"], "id,n\n1,a\n2,z\n3,c\n"), 0, &["resuming: 1 record", "imported 3 records"]);
    expect(run(&["--key", "id"], "id,n\n1,a\n2\n"), 1, &["K0901"]);
    expect(run(&["--key", "id"], "id,n\n1,other\n"), 0, &["beginning at the beginning", "imported 1 record,"]);
    expect(
        run(&["--key", "id", "--skip-bad", "1"], "id,n\n1\n3,d\n"),
        0,
        &["left out: ", "line 2", "imported 1 record,", "1 record left out"],
    );
    expect(run(&["--key", "id", "-t", "demo.nothing"], good), 1, &["K0402"]);
    expect(run(&["--key", "id", "-c", "most"], good), 2, &["most"]);
    expect(node.kula(&["import", "/no/such.csv", "--key", "id"]), 1, &["K0910", "/no/such.csv"]);
    expect(node.kula(&["import", "-", "--key", "id"]), 2, &["K0911", "--format"]);
    let big = format!("id,n\n1,{}\n", "x".repeat(9 << 20));
    expect(run(&["--key", "id"], &big), 1, &["K0903", "line 2"]);

    // Standard input, into a bucket: a second import replaces, a blind one does not.
    let at = node.url();
    let pipe = |words: &[&str], text: &str| {
        let words =
            [&["--at", &at, "import", "-", "--format", "jsonl", "--key", "id", "-t", "kv.default"], words].concat();
        let mut child = Command::new(binary)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    expect(
        pipe(&[], "{\"id\":\"a\",\"n\":1}\n{\"id\":\"b\"}\n{\"id\":\"a\",\"n\":2}\n"),
        0,
        &["imported 3 records, 2 distinct keys"],
    );
    expect(pipe(&["--verify"], "{\"id\":\"a\",\"n\":3}"), 0, &["the same digest", "1 key more"]);
    assert_eq!(node.kula(&["get", "a"]).stdout, b"{\"id\":\"a\",\"n\":3}");
    expect(pipe(&["--blind"], "{\"id\":\"a\",\"n\":4}"), 0, &["imported 1 record"]);
    assert_eq!(node.kula(&["get", "a"]).status.code(), Some(1), "siblings");
    let out = place.directory.join("kv.jsonl");
    let out = out.to_str().unwrap();
    expect(node.kula(&["export", out, "-t", "kv.default"]), 1, &["K0909", "\"a\""]);
    assert!(!Path::new(out).exists(), "whole or not at all");
    node.kula(&["put", "note", "two\nlines", "--content-type", "text/plain"]);
    expect(node.kula(&["export", out, "-t", "kv.default", "--newest"]), 0, &["exported 3 records"]);
    let lines = fs::read_to_string(out).unwrap();
    assert!(lines.contains("{\"_key\":\"note\",\"_type\":\"text/plain\",\"_text\":\"two\\nlines\"}\n"), "{lines}");
    expect(node.kula(&["export", "-", "--format", "csv", "-t", "kv.default", "--newest"]), 1, &["K0908", "jsonl"]);
    let csv = node.kula(&["export", "-", "--format", "csv", "--key", "id"]);
    assert!(csv.stdout.starts_with(b"id,n\n"), "{}", said(&csv));
}
