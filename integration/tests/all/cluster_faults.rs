//! Nodes of a cluster are killed, stopped and started again under load: nothing acknowledged is lost, and the others serve.

use crate::{
    cluster::{Cluster, Places, hints_of, wait_for},
    harness::{Client, binary},
    load::{Load, Outcome, assert_all_there},
};
use rustix::process::Signal;
use std::{collections::BTreeMap, thread::sleep, time::Duration};

const TABLES: &[&str] = &["kv/default", "t/lww"];
/// A dead node must be noticed within this.
const NOTICED_MAX: Duration = Duration::from_secs(5);
/// Hints must be delivered within this after their target's return.
const DRAINED_MAX: Duration = Duration::from_secs(15);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A cluster of three with the tables of a load.
fn started(places: &Places) -> Cluster<'_> {
    let cluster = Cluster::start(places);
    cluster.node(1).make_table("t", "lww", "lww");
    cluster
}

// Promise: P1, P2
#[test]
fn kill_9_of_one_of_three_under_load_loses_nothing_and_its_hints_survive_their_holder() {
    let Some(_) = binary() else { return };
    let places = Places::new("cluster_kill_one", 3);
    let mut cluster = started(&places);
    let live = [(**cluster.node(1)).clone(), (**cluster.node(3)).clone()];
    let load = Load { coordinators: &live, tables: TABLES, tag: "kill-one", deadline: seconds(5) };
    let (outcome, ()) = load.run(|| {
        sleep(seconds(2));
        cluster.kill(2);
        for asks in [1, 3] {
            let noticed = wait_for("the dead node to be down", NOTICED_MAX, || cluster.sees(asks, 2, "down"));
            println!("n{asks} saw it down, {noticed:?} after the one before");
        }
        sleep(seconds(1));
    });
    load.assert_good(&outcome);
    // There within a second of the answer.
    for client in &live {
        let promised = outcome.hinted.get(&client.address).copied().unwrap_or_default();
        assert!(promised > 20, "{}: {promised} answers with a hint", client.address);
        wait_for("each hint that an answer promised", seconds(1), || hints_of(client) >= promised);
        assert_all_there(client, "/kv", "quorum", &outcome.acknowledged);
    }
    // A holder of hints dies before it can deliver them.
    let held = cluster.hints(1);
    cluster.kill(1);
    cluster.restart(1);
    assert!(cluster.hints(1) >= held, "{} hints of {held} survived", cluster.hints(1));
    cluster.restart(2);
    cluster.wait_drained(DRAINED_MAX);
    assert_all_there(cluster.node(2), "/v1/replica", "", &outcome.acknowledged);
    cluster.wait_whole();
    assert_all_there(cluster.node(2), "/kv", "quorum", &outcome.acknowledged);
    cluster.assert_calm();
}

// Promise: P1
#[test]
fn kill_9_of_all_three_at_once_loses_nothing() {
    let Some(_) = binary() else { return };
    let places = Places::new("cluster_kill_all", 3);
    let mut cluster = started(&places);
    let mut acknowledged = BTreeMap::new();
    for tag in ["one", "two"] {
        let all = cluster.clients();
        let load = Load { coordinators: &all, tables: TABLES, tag, deadline: seconds(5) };
        let (outcome, ()) = load.run(|| {
            sleep(seconds(3));
            // What is under way now is unknown, and says nothing.
            cluster.kill_all();
        });
        let Outcome { wrong, acknowledged: more, asked, .. } = outcome;
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(more.len() > 200, "too few writes to mean anything: {} of {asked}", more.len());
        acknowledged.extend(more);
        (1..=3).for_each(|number| cluster.spawn(number));
        (1..=3).for_each(|number| cluster.wait_ready(number));
        for client in cluster.clients() {
            assert_all_there(&client, "/kv", "quorum", &acknowledged);
        }
    }
    cluster.wait_whole();
    cluster.wait_drained(DRAINED_MAX);
    cluster.assert_calm();
}

// Promise: P2
#[test]
fn nodes_that_go_and_return_in_turn_under_load_lose_nothing() {
    let Some(_) = binary() else { return };
    let places = Places::new("cluster_in_turn", 3);
    let mut cluster = started(&places);
    let mut acknowledged = BTreeMap::new();
    for (number, tag) in [(1, "killed-1"), (2, "stopped-2"), (3, "killed-3")] {
        let others = (1..=3).filter(|other| *other != number).map(|other| (**cluster.node(other)).clone());
        let others: Vec<Client> = others.collect();
        let load = Load { coordinators: &others, tables: TABLES, tag, deadline: seconds(5) };
        let (outcome, ()) = load.run(|| {
            sleep(seconds(1));
            if tag.starts_with("killed") {
                cluster.kill(number);
            } else {
                assert!(cluster.stop(number).success(), "an ordered stop under load");
            }
            sleep(seconds(1));
            cluster.restart(number);
            sleep(seconds(1));
        });
        load.assert_good(&outcome);
        acknowledged.extend(outcome.acknowledged);
        cluster.wait_whole();
    }
    cluster.wait_drained(DRAINED_MAX);
    for client in cluster.clients() {
        assert_all_there(&client, "/v1/replica", "", &acknowledged);
    }
    cluster.assert_calm();
}

// Promise: P8
#[test]
fn a_read_repairs_a_replica_that_missed_writes_for_which_nobody_kept_a_hint() {
    let Some(_) = binary() else { return };
    let places = Places::new("cluster_read_repair", 3);
    let mut cluster = Cluster::start(&places);
    let made = cluster.node(1).ask("POST", "/v1/keyspaces", &[], b"{\"name\":\"bare\",\"hinted_handoff\":false}");
    assert_eq!(made.status, 201, "{}", made.text());
    cluster.node(1).make_table("bare", "t", "causal");
    let keys = || (0..50).map(|number| format!("bare/t/k{number}"));
    for key in keys() {
        assert_eq!(cluster.node(1).put(&format!("/kv/{key}"), "old").status, 204);
    }
    cluster.kill(2);
    for key in keys() {
        let path = format!("/kv/{key}");
        let old = cluster.node(3).get(&path);
        let context = old.header("Kula-Context");
        let put = cluster.node(3).ask("PUT", &path, &[("Kula-Context", context)], b"new");
        assert_eq!((put.status, put.header("Kula-Replicas")), (204, "2/3"), "no hint: {}", put.text());
    }
    cluster.restart(2);
    cluster.wait_whole();
    let all = [("Kula-Consistency", "all")];
    let probe = || cluster.node(1).ask("GET", "/kv/kv/default/probe", &all, b"").status;
    wait_for("all three to be reached", seconds(5), || probe() == 404);
    for key in keys() {
        assert_ne!(cluster.node(2).get(&format!("/v1/replica/{key}")).text(), "new", "nobody told it");
        // Blocking: the answer comes after those that were read have the join.
        let got = cluster.node(1).ask("GET", &format!("/kv/{key}"), &all, b"");
        assert_eq!((got.status, got.text().as_str()), (200, "new"));
        assert_eq!(cluster.node(2).get(&format!("/v1/replica/{key}")).text(), "new", "repaired");
    }
    cluster.assert_calm();
}

// Promise: P14, R3
#[test]
fn what_a_restarted_node_writes_does_not_win_over_later_writes_of_others() {
    let Some(_) = binary() else { return };
    let places = Places::new("cluster_restart_clock", 3);
    let mut cluster = started(&places);
    assert_eq!(cluster.node(2).put("/kv/t/lww/before", "v").status, 204);
    cluster.kill(2);
    cluster.restart(2);
    cluster.wait_whole();
    for number in 0..20 {
        let key = format!("/kv/t/lww/k{number}");
        assert_eq!(cluster.node(2).put(&key, "earlier").status, 204);
        assert_eq!(cluster.node(1).put(&key, "later").status, 204);
        assert_eq!(cluster.node(3).get(&key).text(), "later", "{key}");
    }
    cluster.assert_calm();
}

// Promise: P15
#[test]
fn a_stopped_node_holds_nobody_up_and_comes_back() {
    let Some(_) = binary() else { return };
    let places = Places::new("cluster_stopped", 3);
    let cluster = started(&places);
    let live = [(**cluster.node(1)).clone(), (**cluster.node(2)).clone()];
    let load = |tag| Load { coordinators: &live, tables: TABLES, tag, deadline: seconds(2) };
    let (healthy, ()) = load("healthy").run(|| sleep(seconds(3)));
    load("healthy").assert_good(&healthy);
    let (stopped, ()) = load("stopped").run(|| {
        cluster.node(3).signal(Signal::STOP);
        for asks in [1, 2] {
            wait_for("the stopped node to be down", seconds(10), || cluster.sees(asks, 3, "down"));
        }
        sleep(seconds(1));
        cluster.node(3).signal(Signal::CONT);
    });
    load("stopped").assert_good(&stopped);
    let ratio = stopped.at(0.99).as_secs_f64() / healthy.at(0.99).as_secs_f64().max(1e-9);
    println!("p99 while one node was stopped: {ratio:.1} times that of the healthy cluster");
    cluster.wait_drained(DRAINED_MAX);
    cluster.wait_whole();
    for outcome in [healthy, stopped] {
        assert_all_there(cluster.node(3), "/v1/replica", "", &outcome.acknowledged);
        assert_all_there(cluster.node(3), "/kv", "quorum", &outcome.acknowledged);
    }
    cluster.assert_calm();
}

#[test]
fn a_node_without_a_quorum_says_so_with_numbers_and_serves_what_it_can() {
    let Some(_) = binary() else { return };
    let places = Places::new("cluster_minority", 3);
    let mut cluster = Cluster::start(&places);
    let key = "/kv/kv/default/k";
    assert_eq!(cluster.node(1).ask("PUT", key, &[("Kula-Consistency", "all")], b"before").status, 204);
    cluster.kill(2);
    cluster.kill(3);
    let node = cluster.node(1);
    let put = |level: &str| node.ask("PUT", key, &[("Kula-Consistency", level)], b"after");
    // A request that was under way while the links broke may be unknown.
    wait_for("the node to know that it is alone", seconds(3), || put("quorum").status == 503);
    let refused = put("quorum");
    assert_eq!(refused.problem(), (503, "K0301".into()), "{}", refused.text());
    let said = refused.json();
    assert_eq!((&said["need"], &said["alive"], &said["applied"]), (&2.into(), &1.into(), &"no".into()), "{said}");
    for level in ["two", "all", "three"] {
        assert_eq!(put(level).problem(), (503, "K0301".into()), "{level}");
    }
    for level in ["any", "local_quorum"] {
        assert_eq!(put(level).problem().0, 501, "{level}");
    }
    let read = node.get(key);
    assert_eq!(read.problem(), (503, "K0301".into()), "{}", read.text());
    assert_eq!(node.ask("GET", key, &[("Kula-Consistency", "one")], b"").status, 200);
    let lone = node.ask("PUT", "/kv/kv/default/lone", &[("Kula-Consistency", "one")], b"v");
    assert_eq!((lone.status, lone.header("Kula-Replicas")), (204, "1/3; hinted=2"));
    let made = node.ask("POST", "/v1/keyspaces", &[], b"{\"name\":\"minority\"}");
    assert_eq!(made.problem().0, 503, "a minority changes no ring: {}", made.text());
    let status = node.get("/v1/status").json();
    assert_eq!(status["verdict"], "unavailable", "{status}");
    assert_eq!(node.kula(&["status"]).status.code(), Some(4));
    assert!(node.is_ready(), "its peers may be down");
    cluster.restart(2);
    cluster.restart(3);
    cluster.wait_drained(DRAINED_MAX);
    for number in [2, 3] {
        assert_eq!(cluster.node(number).get("/v1/replica/kv/default/lone").text(), "v");
    }
    cluster.wait_whole();
    cluster.assert_calm();
}
