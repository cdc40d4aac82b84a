//! The nodes of the cluster, as the one that is asked names them, and which of them answer now.
//!
//! Nodes have one HTTP port (docs/cluster.md), so a member's URL is its address with the port of `--at`. Where none of
//! them can be reached so, as behind a tunnel, everything goes through `--at` alone.

use super::limits::{ANSWER_GRACE, BATCH_DEADLINE, HELLO_MOST, REST_FIRST, REST_MOST};
use crate::{
    cli::Global,
    client::{Client, Failure},
    stopwatch::now,
};
use serde_json::Value;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use ureq::http::Uri;

/// One node.
pub struct Member {
    pub name: String,
    pub at: String,
    rest: Mutex<Rest>,
}

/// A node that did not answer is left alone for a while, longer each time.
#[derive(Default)]
struct Rest {
    times: u32,
    until: Option<Instant>,
}

pub struct Members {
    /// Who this cluster is: a state of another one means nothing here.
    pub cluster: String,
    pub all: Vec<Member>,
    /// The clock of the node that was asked, as HTTP tells it.
    pub date: Option<String>,
    /// None of them was reached at its own address.
    pub by_one_door: bool,
}

impl Members {
    pub fn ask(client: &Client) -> Result<Self, Failure> {
        let answer = client.expect("GET", "/v1/ring", &[], b"")?;
        let (ring, date) = (answer.json(&client.at)?, answer.header("Date").map(str::to_string));
        let cluster = ring["cluster_id"].as_str().unwrap_or_default().to_string();
        let mut all = members(&ring, port(&client.at));
        all.sort_by(|one, other| (one.name.len(), &one.name).cmp(&(other.name.len(), &other.name)));
        let by_one_door = !all.iter().any(Member::says_hello);
        if by_one_door {
            all = vec![Member::new(client.at.trim_start_matches("http://").to_string(), client.at.clone())];
        }
        Ok(Members { cluster, all, date, by_one_door })
    }

    /// A client for the batches of each, in order.
    pub fn batch_clients(&self, global: &Global) -> Vec<Client> {
        let deadline = global.timeout.min(BATCH_DEADLINE);
        self.all.iter().map(|member| Client::with_deadline(&member.at, deadline, ANSWER_GRACE)).collect()
    }

    /// A client for each, in order.
    pub fn clients(&self, global: &Global) -> Result<Vec<Client>, Failure> {
        self.all.iter().map(|member| Client::new(&Global { at: member.at.clone(), ..global.clone() })).collect()
    }

    pub fn names(&self) -> Vec<&str> {
        self.all.iter().map(|member| member.name.as_str()).collect()
    }

    /// The first from `home` on that is not left alone; if all are, the one at `home`. One whose rest is over is asked first
    /// whether it is there: if it hangs, only that question waits.
    pub fn choose(&self, home: usize) -> usize {
        let mut places = (0..self.all.len()).map(|step| (home + step) % self.all.len());
        let found = places.find(|&place| match self.all[place].look() {
            Sight::Awake => true,
            Sight::Resting => false,
            Sight::Due => self.all[place].says_hello(),
        });
        found.unwrap_or(home % self.all.len())
    }
}

/// What is thought of a node before it is asked.
#[derive(Debug, PartialEq, Eq)]
enum Sight {
    Awake,
    Resting,
    /// Its rest is over.
    Due,
}

impl Member {
    fn new(name: String, at: String) -> Self {
        Member { name, at, rest: Mutex::new(Rest::default()) }
    }

    /// `Due` is told to one of those who look; for the others it rests on.
    fn look(&self) -> Sight {
        let mut rest = self.rest();
        match rest.until {
            None => Sight::Awake,
            Some(until) if now() < until => Sight::Resting,
            Some(_) => {
                rest.until = Some(now() + HELLO_MOST + REST_FIRST);
                Sight::Due
            }
        }
    }

    /// Whether it answers and takes requests; remembered.
    pub fn says_hello(&self) -> bool {
        let hello = Client::impatient(&self.at, HELLO_MOST).ask("GET", "/healthz/ready", &[], b"");
        let is_there = hello.is_ok_and(|answer| answer.status == 200);
        if is_there {
            self.answered()
        } else {
            self.was_silent()
        }
        is_there
    }

    pub fn answered(&self) {
        *self.rest() = Rest::default();
    }

    pub fn was_silent(&self) {
        let mut rest = self.rest();
        rest.until = Some(now() + rest_of(rest.times));
        rest.times += 1;
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rest_of(times: u32) -> Duration {
    REST_FIRST.saturating_mul(1 << times.min(10)).min(REST_MOST)
}

fn members(ring: &Value, port: u16) -> Vec<Member> {
    let member = |node: &Value| {
        let (host, _) = node["address"].as_str()?.rsplit_once(':')?;
        Some(Member::new(node["name"].as_str()?.to_string(), format!("http://{host}:{port}")))
    };
    ring["nodes"].as_array().into_iter().flatten().filter_map(member).collect()
}

fn port(at: &str) -> u16 {
    at.parse::<Uri>().ok().and_then(|uri| uri.port_u16()).unwrap_or(80)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn three() -> Members {
        let node = |name: &str, address: &str| json!({ "name": name, "address": address });
        let ring = json!({ "nodes": [node("n1", "127.0.0.1:7000"), node("n2", "[::1]:7000"), node("n3", "db3:7000")] });
        let all = members(&ring, port("http://localhost:8080"));
        Members { cluster: String::new(), all, date: None, by_one_door: false }
    }

    #[test]
    fn members_are_reached_at_their_address_and_the_port_that_was_named() {
        let members = three();
        let at: Vec<&str> = members.all.iter().map(|member| member.at.as_str()).collect();
        assert_eq!(at, ["http://127.0.0.1:8080", "http://[::1]:8080", "http://db3:8080"]);
        assert_eq!((port("http://h"), port("http://[::1]:9")), (80, 9));
        assert!(super::members(&json!({ "nodes": [] }), 1).is_empty());
    }

    #[test]
    fn a_silent_node_is_left_alone_and_others_take_its_share() {
        let members = three();
        assert_eq!([0, 1, 2, 3].map(|home| members.choose(home)), [0, 1, 2, 0]);
        members.all[1].was_silent();
        assert_eq!(members.choose(1), 2);
        members.all.iter().for_each(Member::was_silent);
        assert_eq!(members.choose(1), 1, "none is better than another");
        assert_eq!(members.all[1].look(), Sight::Resting);
        members.all[1].rest().until = Some(now());
        assert_eq!([members.all[1].look(), members.all[1].look()], [Sight::Due, Sight::Resting], "one looks for all");
        members.all[1].answered();
        assert_eq!(members.choose(0), 1);
        assert_eq!([0, 1, 30, u32::MAX].map(rest_of), [REST_FIRST, REST_FIRST * 2, REST_MOST, REST_MOST]);
    }
}
