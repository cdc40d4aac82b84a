//! Packets are lost in one direction between two nodes, which live in network namespaces of their own on one bridge.

use crate::{
    cluster::{Cluster, Places, arguments, name, states_of},
    harness::{Place, binary, skip},
    load::{Load, assert_all_there},
};
use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// A bridge of this machine and a namespace for each node, gone on drop.
struct Namespaces {
    network: String,
    bridge: String,
    nodes: usize,
}

/// Runs a program; what it said if it failed.
fn run(program: &str, words: &str, input: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{program}: {error}");
    let mut child = Command::new(program)
        .args(words.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    child.stdin.take().unwrap().write_all(input.as_bytes()).map_err(failed)?;
    let output = child.wait_with_output().map_err(failed)?;
    let said = || format!("{program} {words}: {}", String::from_utf8_lossy(&output.stderr).trim());
    if output.status.success() { Ok(()) } else { Err(said()) }
}

impl Namespaces {
    /// Why not, if the machine does not let us.
    fn new(home: &Place, nodes: usize) -> Result<Self, String> {
        let number = home.address.split('.').nth(2).unwrap();
        let namespaces = Namespaces { network: format!("10.77.{number}"), bridge: format!("kula{number}"), nodes };
        // Of a run that was killed.
        namespaces.remove();
        namespaces.make()?;
        Ok(namespaces)
    }

    fn make(&self) -> Result<(), String> {
        let ip = |words: String| run("ip", &words, "");
        let Namespaces { network, bridge, nodes } = self;
        ip(format!("link add {bridge} type bridge"))?;
        ip(format!("address add {network}.254/24 dev {bridge}"))?;
        ip(format!("link set {bridge} up"))?;
        for number in 1..=*nodes {
            let space = self.space(number);
            ip(format!("netns add {space}"))?;
            ip(format!("link add {space} type veth peer name eth0 netns {space}"))?;
            ip(format!("link set {space} master {bridge} up"))?;
            ip(format!("-n {space} address add {} dev eth0", self.address(number)))?;
            ip(format!("-n {space} link set eth0 up"))?;
            ip(format!("-n {space} link set lo up"))?;
            // Whether rules can be loaded.
            self.heal(number)?;
        }
        Ok(())
    }

    fn space(&self, number: usize) -> String {
        format!("{}n{number}", self.bridge)
    }

    fn address(&self, number: usize) -> String {
        format!("{}.{number}/24", self.network)
    }

    fn rules(&self, number: usize, rules: &str) -> Result<(), String> {
        run("ip", &format!("netns exec {} nft -f -", self.space(number)), rules)
    }

    /// From now on `to` hears nothing of `from`.
    fn cut(&self, from: usize, to: usize) {
        let from = format!("ip saddr {}.{from} drop", self.network);
        let chain = format!("chain input {{\ntype filter hook input priority 0;\n{from}\n}}");
        self.rules(to, &format!("table inet cut {{\n{chain}\n}}")).unwrap();
    }

    fn heal(&self, number: usize) -> Result<(), String> {
        self.rules(number, "table inet cut {}\ndelete table inet cut")
    }

    fn remove(&self) {
        for number in 1..=self.nodes {
            run("ip", &format!("netns delete {}", self.space(number)), "").ok();
            run("ip", &format!("link delete {}", self.space(number)), "").ok();
        }
        run("ip", &format!("link delete {}", self.bridge), "").ok();
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Where the machine has no namespaces to give, its owner says so with `KULA_TEST_NAMESPACES=no`.
fn namespaces(home: &Place) -> Option<Namespaces> {
    match Namespaces::new(home, 3) {
        Ok(namespaces) => Some(namespaces),
        Err(why) if std::env::var("KULA_TEST_NAMESPACES").is_ok_and(|allowed| allowed == "no") => {
            eprintln!("SKIPPED: KULA_TEST_NAMESPACES=no: {why}");
            None
        }
        Err(why) => {
            skip(&format!("no network namespaces ({why}); set KULA_TEST_NAMESPACES=no where there are none"));
            None
        }
    }
}

// Promise: P16
#[test]
fn a_one_way_cut_between_two_nodes_stops_no_quorum_and_makes_nobody_down() {
    let Some(_) = binary() else { return };
    let home = Place::new("cluster_one_way");
    let Some(namespaces) = namespaces(&home) else { return };
    let members = (1..=3).map(|number| home.member(&name(number), &format!("{}.{number}", namespaces.network)));
    let places = Places { members: members.collect(), home };
    let mut cluster = Cluster::start_by(&places, |number| {
        let seeds: Vec<&Place> = places.members.iter().collect();
        let arguments = arguments(number, &seeds, &["--insecure"]);
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let space = namespaces.space(number);
        places.of(number).command_under(&["ip", "netns", "exec", &space], &words)
    });
    cluster.node(1).make_table("t", "lww", "lww");
    let all = cluster.clients();
    let load =
        Load { coordinators: &all, tables: &["kv/default", "t/lww"], tag: "cut", deadline: Duration::from_secs(2) };
    let (outcome, changes) = load.run(|| {
        sleep(Duration::from_secs(2));
        namespaces.cut(1, 2);
        let (mut last, mut changes) = (BTreeMap::new(), Vec::new());
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(12) {
            for client in &all {
                for (node, state) in states_of(client) {
                    let before = last.insert((client.address.clone(), node.clone()), state.clone());
                    if before.is_some_and(|before| before != state) {
                        changes.push(format!("{:?}: {} sees {node} {state}", began.elapsed(), client.address));
                    }
                }
            }
            sleep(Duration::from_millis(100));
        }
        changes
    });
    // Each node reaches a quorum with n3, which reaches everybody; n3 is asked about both and has reason to doubt neither.
    load.assert_good(&outcome);
    println!("{changes:#?}");
    for client in &all[..2] {
        let hinted = outcome.hinted.get(&client.address).copied().unwrap_or_default();
        assert!(hinted > 20, "nothing was cut: {hinted} writes at {} left a hint", client.address);
    }
    assert!(!changes.iter().any(|change| change.ends_with(" down")), "{changes:#?}");
    for place in &places.members {
        assert!(!place.log().contains("\"event\":\"peer_down\""), "{}", place.log());
    }
    assert!(changes.len() <= 12, "somebody flaps: {changes:#?}");
    for client in &all {
        assert_all_there(client, "/kv", "quorum", &outcome.acknowledged);
    }
    namespaces.heal(2).unwrap();
    cluster.wait_whole();
    cluster.wait_drained(Duration::from_secs(15));
    for client in &all {
        assert_all_there(client, "/v1/replica", "", &outcome.acknowledged);
        assert_eq!(client.get("/v1/status").json()["disagreements"], serde_json::json!([]));
    }
    // What is left of it must not depend on the links of before.
    cluster.kill_all();
    (1..=3).for_each(|number| cluster.spawn(number));
    (1..=3).for_each(|number| cluster.wait_ready(number));
    assert_all_there(cluster.node(2), "/kv", "quorum", &outcome.acknowledged);
    cluster.assert_calm();
}
