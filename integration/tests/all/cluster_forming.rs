//! Three nodes are one store: a ring, a schema, values, siblings, pages of keys, whichever node is asked.

use crate::{
    cluster::{Cluster, Places, arguments, states_of, wait_for},
    harness::{Answer, Client, Node, Place, binary},
};
use serde_json::Value;
use std::{collections::BTreeSet, time::Duration};

const BUCKET: &str = "/kv/kv/default";
const SOON: Duration = Duration::from_secs(10);

fn get_at(client: &Client, path: &str, level: &str) -> Answer {
    client.ask("GET", path, &[("Kula-Consistency", level)], b"")
}

fn put_at(client: &Client, path: &str, level: &str, value: &str) -> Answer {
    client.ask("PUT", path, &[("Kula-Consistency", level)], value.as_bytes())
}

#[test]
fn three_nodes_form_one_ring_and_each_sees_three_up() {
    let Some(_) = binary() else { return };
    let places = Places::new("cluster_ring", 3);
    let cluster = Cluster::start(&places);
    let views: Vec<Value> = cluster.clients().iter().map(|client| client.get("/v1/ring").json()).collect();
    assert!(views.iter().all(|view| view["version"] == 1 && view["cluster_id"] == views[0]["cluster_id"]), "{views:?}");
    for client in cluster.clients() {
        let status = client.get("/v1/status").json();
        assert_eq!((&status["verdict"], &status["disagreements"]), (&"ok".into(), &Value::Array(vec![])), "{status}");
        let names: Vec<String> = states_of(&client).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["n1", "n2", "n3"]);
        let owns: f64 = status["nodes"].as_array().unwrap().iter().map(|node| node["owns"].as_f64().unwrap()).sum();
        assert!((owns - 1.0).abs() < 0.01, "{status}");
        let said = client.kula(&["status"]);
        assert_eq!(said.status.code(), Some(0), "{}", String::from_utf8_lossy(&said.stdout));
    }
    cluster.assert_calm();
}

#[test]
fn nodes_wait_for_those_they_expect_and_say_so() {
    let Some(_) = binary() else { return };
    let places = Places::new("cluster_late", 3);
    let spawn = |number: usize| {
        let seeds: Vec<&Place> = places.members.iter().collect();
        let arguments = arguments(number, &seeds, &[]);
        let place = places.of(number);
        Node::spawn(place, place.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>()))
    };
    // The first seed, which forms the ring, comes last.
    let mut nodes = vec![spawn(3), spawn(2)];
    for node in &nodes {
        let waits = wait_for("the node to answer", SOON, || {
            let ready = node.try_ask("GET", "/healthz/ready", &[], b"");
            ready.is_ok_and(|answer| answer.status == 503 && answer.text().contains("waiting for a ring"))
        });
        println!("said what it waits for after {waits:?}");
        assert_eq!(node.get(&format!("{BUCKET}/k")).problem(), (503, "K0204".into()));
        assert_eq!(node.try_ask("GET", "/healthz/live", &[], b"").unwrap().status, 200);
    }
    nodes.push(spawn(1));
    nodes.iter_mut().for_each(Node::wait_ready);
    assert_eq!(nodes[0].put(&format!("{BUCKET}/k"), "v").status, 204);
    assert!(nodes.iter().all(|node| node.get("/v1/ring").json()["version"] == 1));
}

#[test]
fn a_write_at_one_node_is_read_at_every_node_and_level() {
    let Some(_) = binary() else { return };
    let places = Places::new("cluster_levels", 3);
    let cluster = Cluster::start(&places);
    let clients = cluster.clients();
    for level in ["one", "two", "quorum", "three", "all", "2"] {
        let key = format!("{BUCKET}/{level}");
        let put = put_at(&clients[0], &key, level, level);
        assert_eq!(put.status, 204, "{level}: {}", put.text());
        assert!(put.header("Kula-Replicas").ends_with("/3"), "{}", put.header("Kula-Replicas"));
        // At ONE the others may not have it yet; all three together have it.
        let strong = if level == "one" { "all" } else { "quorum" };
        for client in &clients {
            for read in [strong, "all"] {
                let got = get_at(client, &key, read);
                assert_eq!((got.status, got.text().as_str()), (200, level), "{read} at {}", client.address);
            }
        }
        // A read at ALL left it everywhere.
        for client in &clients {
            assert_eq!(get_at(client, &key, "one").text(), level);
            assert_eq!(client.get(&format!("/v1/replica/kv/default/{level}")).text(), level);
        }
    }
    let (gone, key) = (put_at(&clients[1], &format!("{BUCKET}/gone"), "all", "v"), format!("{BUCKET}/gone"));
    assert_eq!(gone.status, 204);
    assert_eq!(clients[2].ask("DELETE", &key, &[("Kula-Consistency", "all")], b"").status, 204);
    assert!(clients.iter().all(|client| get_at(client, &key, "one").status == 404));
    for (level, status) in [("any", 501), ("local_quorum", 501), ("each_quorum", 501), ("4", 400)] {
        assert_eq!(put_at(&clients[0], &key, level, "v").problem().0, status, "{level}");
    }
}

#[test]
fn siblings_of_two_nodes_are_seen_and_replaced_through_a_third() {
    let Some(_) = binary() else { return };
    let places = Places::new("cluster_siblings", 3);
    let cluster = Cluster::start(&places);
    let clients = cluster.clients();
    let key = format!("{BUCKET}/cart");
    assert_eq!(clients[0].put(&key, "a").status, 204);
    assert_eq!(clients[1].put(&key, "b").status, 204);
    let both = clients[2].get(&key);
    assert_eq!(both.status, 300, "{}", both.text());
    assert_eq!(both.json()["siblings"].as_array().unwrap().len(), 2);
    let context = both.header("Kula-Context");
    assert_eq!(clients[0].put(&key, "late").status, 204);
    let merged = clients[1].ask("PUT", &key, &[("Kula-Context", context)], b"merged");
    assert_eq!(merged.status, 204, "a context is good at every node");
    let after = clients[2].get(&key);
    assert_eq!(after.json()["siblings"].as_array().map(Vec::len), Some(2), "`late` and `merged`: {}", after.text());
    let retried = format!("{BUCKET}/retried");
    for client in &clients {
        assert_eq!(client.ask("PUT", &retried, &[("Idempotency-Key", "order-7")], b"once").status, 204);
    }
    assert_eq!(clients[0].get(&retried).status, 200, "a retry through another node is the same sibling");
}

#[test]
fn a_table_made_at_one_node_is_used_at_another_at_once_and_the_last_writer_wins() {
    let Some(_) = binary() else { return };
    let places = Places::new("cluster_schema", 3);
    let cluster = Cluster::start(&places);
    let clients = cluster.clients();
    for round in 0..5 {
        let keyspace = format!("shop{round}");
        clients[round % 3].make_table(&keyspace, "carts", "lww");
        for (turn, client) in clients.iter().enumerate() {
            let put = put_at(client, &format!("/kv/{keyspace}/carts/k"), "all", &format!("v{turn}"));
            assert_eq!(put.status, 204, "round {round} at {}: {}", client.address, put.text());
        }
        assert!(clients.iter().all(|client| client.get(&format!("/kv/{keyspace}/carts/k")).text() == "v2"));
        let old = clients[0].ask("PUT", &format!("/kv/{keyspace}/carts/k"), &[("Kula-Timestamp", "5")], b"old");
        assert_eq!(old.status, 204);
        assert!(clients.iter().all(|client| client.get(&format!("/kv/{keyspace}/carts/k")).text() == "v2"));
    }
}

#[test]
fn two_nodes_that_make_the_same_table_at_once_agree() {
    let Some(_) = binary() else { return };
    let places = Places::new("cluster_twins", 3);
    let cluster = Cluster::start(&places);
    let clients = cluster.clients();
    for round in 0..4 {
        let keyspace = format!("twin{round}");
        let make = |client: &Client, path: &str, body: String| client.ask("POST", path, &[], body.as_bytes()).status;
        let outcomes: Vec<[u16; 2]> = std::thread::scope(|scope| {
            let makers: Vec<_> = clients[..2]
                .iter()
                .map(|client| {
                    let keyspace = &keyspace;
                    scope.spawn(move || {
                        let keyspaces = make(client, "/v1/keyspaces", format!("{{\"name\":\"{keyspace}\"}}"));
                        let path = format!("/v1/keyspaces/{keyspace}/tables");
                        [keyspaces, make(client, &path, "{\"name\":\"t\",\"kind\":\"causal\"}".to_owned())]
                    })
                })
                .collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        for step in 0..2 {
            let said = [outcomes[0][step], outcomes[1][step]];
            assert!(said.contains(&201) && said.iter().all(|status| matches!(status, 201 | 409)), "{outcomes:?}");
        }
        let table = |client: &Client| {
            let keyspaces = client.get("/v1/keyspaces").json();
            let mine = keyspaces["keyspaces"].as_array().unwrap().iter().find(|one| one["name"] == keyspace.as_str());
            mine.map(|keyspace| keyspace["tables"].clone())
        };
        let first = table(&clients[0]).expect("the keyspace");
        assert_eq!(first.as_array().map(Vec::len), Some(1), "{first}");
        assert!(clients.iter().all(|client| table(client).as_ref() == Some(&first)), "one table of one id: {first}");
        for client in &clients {
            assert_eq!(put_at(client, &format!("/kv/{keyspace}/t/k"), "all", "v").status, 204);
        }
    }
}

/// The keys of a table in pages of `limit`, as this node lists them.
fn listed(client: &Client, table: &str, limit: usize) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    loop {
        let after = keys.last().map(|key| format!("&after={key}")).unwrap_or_default();
        let page = client.get(&format!("{table}?limit={limit}{after}"));
        assert_eq!(page.status, 200, "{}", page.text());
        let lines: Vec<Value> = page.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines.len() <= limit);
        keys.extend(lines.iter().filter_map(|line| line["key"].as_str().map(str::to_owned)));
        if lines.len() < limit {
            return keys;
        }
    }
}

#[test]
fn pages_of_a_table_hold_every_key_once_in_the_same_order_at_every_node() {
    let Some(_) = binary() else { return };
    let places = Places::new("cluster_pages", 3);
    let cluster = Cluster::start(&places);
    let clients = cluster.clients();
    clients[0].make_table("t", "lww", "lww");
    for table in ["/kv/t/lww", BUCKET] {
        assert!(listed(&clients[0], table, 10).is_empty());
        let wanted: BTreeSet<String> = (0..250).map(|number| format!("key-{number}")).collect();
        for (turn, key) in wanted.iter().enumerate() {
            assert_eq!(clients[turn % 3].put(&format!("{table}/{key}"), key).status, 204);
        }
        assert_eq!(clients[1].put(&format!("{table}/gone"), "v").status, 204);
        assert_eq!(clients[2].ask("DELETE", &format!("{table}/gone"), &[], b"").status, 204);
        let all = listed(&clients[0], table, 1_000);
        assert_eq!((all.len(), all.iter().cloned().collect::<BTreeSet<_>>()), (wanted.len(), wanted), "{table}");
        for (client, limit) in clients.iter().zip([7, 100, 250]) {
            assert_eq!(listed(client, table, limit), all, "{table} by {limit} at {}", client.address);
        }
        for wrong in ["limit=0", "limit=1001", "limit=x"] {
            assert_eq!(clients[0].get(&format!("{table}?{wrong}")).problem().0, 400, "{wrong}");
        }
    }
}
