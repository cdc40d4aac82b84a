//! What operators ask, and the list of routes against the routes.

use crate::{client::Client, stack::Node};
use serde_json::{Value, json};

#[test]
fn status_tells_the_truth_about_one_node() {
    let node = Node::start();
    let mut client = Client::to(node.address);
    let status = client.ask("GET", "/v1/status", &[], b"").json();
    assert_eq!(status["verdict"], "ok");
    assert!(status["sentence"].as_str().unwrap().contains("can lose 0 more nodes"));
    let only = &status["nodes"][0];
    let told =
        (&only["name"], &only["state"], &only["dc"], &only["rack"], &only["owns"], &only["hints"], &only["ring"]);
    assert_eq!(told, (&json!("n1"), &json!("up"), &json!("dc1"), &json!("a"), &json!(1.0), &json!(0), &json!(1)));
    assert!(only["load_bytes"].is_u64() && only["since_ms"].is_u64() && only["seen_by"] == json!(["n1"]));
    assert_eq!(status["disagreements"], json!([]));

    node.disk.set_space(Some(1 << 20));
    let full = client.ask("GET", "/v1/status", &[], b"").json();
    assert_eq!((&full["verdict"], &full["code"]), (&json!("degraded"), &json!("K0305")));
    node.disk.set_space(None);
    assert_eq!(client.ask("GET", "/v1/status", &[], b"").json()["verdict"], "ok");
}

#[test]
fn keyspaces_and_tables_are_made_once_and_checked() {
    let node = Node::start();
    let mut client = Client::to(node.address);
    let mut post = |path: &str, body: &str| client.ask("POST", path, &[], body.as_bytes());
    let made = post("/v1/keyspaces", r#"{"name":"shop","rf":null,"read_repair":"off"}"#);
    assert_eq!(made.status, 201);
    let json = made.json();
    assert_eq!(
        (&json["name"], &json["rf"], &json["rf_effective"], &json["read_repair"]),
        (&json!("shop"), &json!(3), &json!(1), &json!("off"))
    );
    assert_eq!(post("/v1/keyspaces", r#"{"name":"shop","read_repair":"off"}"#).problem(), "409 K0403");
    assert_eq!(post("/v1/keyspaces", r#"{"name":"shop"}"#).problem(), "409 K0406");
    for (body, code) in [
        (r#"{"name":"Shop"}"#, "400 K0119"),
        (r#"{"name":"x","rf":0}"#, "400 K0120"),
        (r#"{"name":"x","mode":"sloppy"}"#, "501 K0504"),
        (r#"{"nmae":"x"}"#, "400 K0112"),
        ("{", "400 K0112"),
        ("[]", "400 K0112"),
    ] {
        assert_eq!(post("/v1/keyspaces", body).problem(), code, "{body}");
    }
    assert_eq!(post("/v1/keyspaces", &" ".repeat(70_000)).problem(), "400 K0112");

    let post = |path: &str, body: &str| Client::to(node.address).ask("POST", path, &[], body.as_bytes());
    let tables = "/v1/keyspaces/shop/tables";
    let made = post(tables, r#"{"name":"carts","kind":"causal"}"#);
    assert_eq!((made.status, &made.json()["kind"]), (201, &json!("causal")));
    assert_eq!(post(tables, r#"{"name":"carts","kind":"causal"}"#).problem(), "409 K0405");
    assert_eq!(post(tables, r#"{"name":"carts","kind":"lww"}"#).problem(), "409 K0406");
    assert_eq!(post(tables, r#"{"name":"more","options":{"lww_collapse":1}}"#).problem(), "501 K0504");
    assert_eq!(post("/v1/keyspaces/nowhere/tables", r#"{"name":"t"}"#).problem(), "404 K0401");

    let mut client = Client::to(node.address);
    let all = client.ask("GET", "/v1/keyspaces", &[], b"").json();
    let names: Vec<&str> =
        all["keyspaces"].as_array().unwrap().iter().filter_map(|keyspace| keyspace["name"].as_str()).collect();
    assert_eq!(names, ["kv", "shop"]);
    assert_eq!(all["keyspaces"][0]["tables"][0]["name"], "default");
    assert_eq!(client.ask("PUT", "/kv/shop/carts/a", &[], b"x").status, 204);
}

#[test]
fn keyspaces_are_altered_and_dropped() {
    let node = Node::start();
    let ask = |method: &str, path: &str, body: &str| Client::to(node.address).ask(method, path, &[], body.as_bytes());
    ask("POST", "/v1/keyspaces", r#"{"name":"shop","rf":2,"read_repair":"off"}"#);
    let altered = ask("PATCH", "/v1/keyspaces/shop", r#"{"hinted_handoff":false}"#);
    assert_eq!(altered.status, 200, "{altered:?}");
    let json = ask("GET", "/v1/keyspaces/shop", "").json();
    assert_eq!((&json["rf"], &json["read_repair"], &json["hinted_handoff"]), (&json!(2), &json!("off"), &json!(false)));
    assert_eq!(ask("PATCH", "/v1/keyspaces/shop", r#"{"name":"other"}"#).problem(), "400 K0112");
    assert_eq!(ask("PATCH", "/v1/keyspaces/shop", r#"{"mode":"sloppy"}"#).problem(), "501 K0504");
    assert_eq!(ask("PATCH", "/v1/keyspaces/nowhere", "{}").problem(), "404 K0401");

    assert_eq!(ask("POST", "/v1/keyspaces/shop/tables", r#"{"name":"carts"}"#).status, 201);
    assert_eq!(ask("DELETE", "/v1/keyspaces/shop/tables/carts", "").status, 204);
    assert_eq!(ask("DELETE", "/v1/keyspaces/shop/tables/carts", "").problem(), "404 K0402");
    assert_eq!(ask("DELETE", "/v1/keyspaces/shop", "").status, 204);
    assert_eq!(ask("DELETE", "/v1/keyspaces/shop", "").problem(), "404 K0401");
    assert_eq!(ask("DELETE", "/v1/keyspaces/Not-a-name", "").problem(), "404 K0401");
}

#[test]
fn a_replica_shows_its_own_cell_in_the_shapes_of_a_get() {
    let node = Node::start();
    let mut client = Client::to(node.address);
    let (path, own) = ("/kv/kv/default/a", "/v1/replica/kv/default/a");
    assert_eq!(client.ask("GET", own, &[], b"").problem(), "404 K0404");
    client.ask("PUT", path, &[("Content-Type", "text/plain")], b"milk");
    let (got, cell) = (client.ask("GET", path, &[], b""), client.ask("GET", own, &[], b""));
    assert_eq!((cell.status, cell.text(), cell.header("Content-Type")), (200, "milk", Some("text/plain")));
    assert_eq!(cell.header("Kula-Context"), got.header("Kula-Context"));
    client.ask("PUT", path, &[], b"eggs");
    assert_eq!(client.ask("GET", own, &[], b"").json()["siblings"].as_array().unwrap().len(), 2);
    assert_eq!(client.ask("GET", &format!("{own}?resolve=lww"), &[], b"").text(), "eggs");
    assert_eq!(client.ask("GET", "/v1/replica/kv/nothing/a", &[], b"").problem(), "404 K0402");
}

#[test]
fn the_other_views_answer() {
    let node = Node::start();
    let mut client = Client::to(node.address);
    let mut get = |path: &str| client.ask("GET", path, &[], b"");
    let ring = get("/v1/ring").json();
    assert_eq!(
        (&ring["version"], &ring["nodes"][0]["owns"], &ring["cluster"]),
        (&json!(1), &json!(1.0), &json!("test"))
    );
    assert!(!ring.to_string().contains("secret"));
    let owners = ring["datacentres"][0]["owners"].as_array().unwrap();
    assert!(owners.len() == 256 && owners.iter().all(|owner| owner == 0) && ring["nodes"][0]["state"] == "up");
    let actors = get("/v1/actors").json();
    let paths: Vec<&str> =
        actors["actors"].as_array().unwrap().iter().filter_map(|actor| actor["path"].as_str()).collect();
    for path in
        ["catalog", "coordinator/0", "replica/0", "ring", "storage/commitlog", "storage/shard/0", "storage/shard/1"]
    {
        assert!(paths.contains(&path), "{path} in {paths:?}");
    }
    assert_eq!(actors["node"], "n1");
    assert_eq!(get("/v1/tasks").json(), json!({ "tasks": [] }));
    assert_eq!(get("/v1/config").json()["cluster"]["origin"], "default");
    let metrics = get("/metrics");
    assert!(metrics.header("Content-Type").unwrap().starts_with("application/openmetrics-text"));
    assert!(metrics.text().ends_with("# EOF\n"));
    assert_eq!(get("/v1/hints").json(), json!({ "hints": [], "total": 0 }));
    for path in ["/v1/events", "/"] {
        assert_eq!(get(path).problem(), "501 K0501", "{path}");
    }
    assert_eq!(get("/v1/keyspaces/kv/tables/default").json()["kind"], "causal");
    assert_eq!(get("/v1/keyspaces/kv/tables/more").problem(), "404 K0402");
    assert_eq!(get("/v1/keyspaces/nowhere").problem(), "404 K0401");
    for path in ["/v2/status", "/v1/", "/kv", "/kv/", "/kv/kv", "//", "/v1/keyspaces/", "/v1/status/"] {
        assert_eq!(get(path).problem(), "404 K0113", "{path}");
    }
}

/// Every route of `/openapi.json` answers as itself, and every method it does not list is refused.
#[test]
fn the_list_of_routes_is_the_routes() {
    let node = Node::start();
    let document = Client::to(node.address).ask("GET", "/openapi.json", &[], b"").json();
    let paths = document["paths"].as_object().unwrap();
    for (template, methods) in paths {
        let path = template.replace("{keyspace}", "kv").replace("{table}", "default").replace("{key}", "a");
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH"] {
            let answer = Client::to(node.address).ask(method, &path, &[], b"");
            let code = serde_json::from_slice::<Value>(&answer.body).map_or(Value::Null, |json| json["code"].clone());
            assert_ne!(code, "K0113", "{method} {path}");
            assert_ne!(code, "K0501", "{method} {path}");
            let is_listed = methods.get(method.to_lowercase()).is_some();
            assert_eq!(answer.status != 405, is_listed, "{method} {path}: {answer:?}");
        }
    }
    assert!(paths.len() > 10);
}
