//! `kula cluster`: a development cluster from up to down, as a person uses it.

use crate::{
    cluster::{states_of, wait_for},
    harness::{Client, Place, binary},
};
use std::{
    path::PathBuf,
    process::{Command, Output},
    time::{Duration, Instant},
};

struct Commands {
    directory: PathBuf,
}

impl Commands {
    fn run(&self, words: &[&str]) -> Output {
        let binary = binary().unwrap();
        let mut command = Command::new(binary);
        command.arg("cluster").args(words).arg("--dir").arg(&self.directory).env_remove("KULA_AT");
        command.output().unwrap()
    }

    fn works(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        assert_eq!(output.status.code(), Some(0), "{words:?}: {said}");
        said
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        self.run(&["down"]);
    }
}

fn sees(client: &Client, node: &str, state: &str) -> bool {
    states_of(client).iter().any(|(name, seen)| name == node && seen == state)
}

#[test]
fn a_cluster_goes_up_loses_a_node_and_goes_down_by_commands() {
    let Some(_) = binary() else { return };
    let place = Place::new("cluster_command");
    let base = place.address_of(0);
    let commands = Commands { directory: place.directory.join("dev") };
    let clients: Vec<Client> = (1..=3).map(|number| Client::new(&place.address_of(number))).collect();
    let began = Instant::now();
    let up = commands.works(&["up", "3", "--base", &base]);
    println!("up after {:?}: {up}", began.elapsed());
    for client in &clients {
        assert!(client.is_ready());
        assert_eq!(states_of(client).iter().filter(|(_, state)| state == "up").count(), 3);
    }
    let listed = commands.works(&["list"]);
    assert!(clients.iter().all(|client| listed.contains(&client.address)), "{listed}");
    commands.works(&["up", "3", "--base", &base]);
    let put = clients[0].kula(&["put", "cart:42", "{\"milk\":1}", "-c", "quorum"]);
    let said = String::from_utf8_lossy(&put.stdout).into_owned();
    assert!(put.status.success() && said.starts_with("ok  "), "{said}");

    commands.works(&["kill", "n2"]);
    assert!(clients[1].try_ask("GET", "/healthz/live", &[], b"").is_err(), "it waits for the exit");
    wait_for("n2 to be down", Duration::from_secs(5), || sees(&clients[0], "n2", "down"));
    assert_eq!(clients[0].kula(&["status"]).status.code(), Some(3), "degraded");
    assert!(clients[2].kula(&["put", "cart:42", "{\"milk\":2}"]).status.success());
    let hints = clients[2].kula(&["hints"]);
    assert!(String::from_utf8_lossy(&hints.stdout).contains("n2"), "{}", String::from_utf8_lossy(&hints.stdout));
    commands.works(&["start", "n2"]);
    assert!(clients.iter().all(|client| sees(client, "n2", "up")), "it waits until everybody sees it up");
    wait_for("the hint", Duration::from_secs(15), || {
        clients[1].get("/v1/replica/kv/default/cart:42").text() == "{\"milk\":2}"
    });

    commands.works(&["pause", "n3"]);
    wait_for("n3 to be down", Duration::from_secs(10), || sees(&clients[0], "n3", "down"));
    assert!(clients[0].kula(&["get", "cart:42"]).status.success());
    commands.works(&["resume", "n3"]);
    wait_for("n3 to be up", Duration::from_secs(15), || clients.iter().all(|client| sees(client, "n3", "up")));
    assert!(commands.works(&["logs", "n1"]).contains("started"));

    commands.works(&["down"]);
    assert!(clients.iter().all(|client| client.try_ask("GET", "/healthz/live", &[], b"").is_err()));
    commands.works(&["up"]);
    let get = clients[1].kula(&["get", "cart:42"]);
    assert_eq!(String::from_utf8_lossy(&get.stdout), "{\"milk\":2}", "data are kept");
    commands.works(&["down", "--wipe"]);
    assert!(!commands.directory.join("n1/data").exists());
    assert!(!commands.run(&["kill", "n9"]).status.success());
}
