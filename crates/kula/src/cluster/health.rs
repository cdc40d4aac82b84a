//! When a cluster is up: every node takes requests, each sees the others up and has an answer from each. Asked over HTTP,
//! as anybody would.
//!
//! The answer is asked for because word of a node goes round before every link to it stands again: the first write after a
//! start should find all replicas.

use super::{limits::ANSWER_MAX, plan::Member};
use crate::client::{Answer as HttpAnswer, Client, Failure};
use serde_json::Value;
use std::collections::BTreeMap;

/// What a node answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It did not.
    Silent(String),
    /// It takes no requests yet, and says why.
    Starting(String),
    /// It takes requests; other nodes by name, as it sees them.
    Ready(BTreeMap<String, Seen>),
}

/// One node as another sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub state: String,
    /// Whether it answered the other's question just now: a link stands, not only word of it.
    pub told: bool,
}

/// Asks each of `members` at once.
pub fn ask(members: &[(&Member, &Client)]) -> Vec<(String, Answer)> {
    std::thread::scope(|scope| {
        let asked: Vec<_> =
            members.iter().map(|(member, client)| (member.name.clone(), scope.spawn(|| answer_of(client)))).collect();
        let gone = |_| Answer::Silent("it could not be asked".into());
        asked.into_iter().map(|(name, answer)| (name, answer.join().unwrap_or_else(gone))).collect()
    })
}

/// Asks `member` how it is.
pub fn client(member: &Member) -> Client {
    Client::impatient(&member.url(), ANSWER_MAX)
}

/// Whether a node takes requests.
pub fn is_ready(client: &Client) -> bool {
    client.ask("GET", "/healthz/ready", &[], b"").is_ok_and(|answer| answer.status == 200)
}

/// The state in which this node sees the one of that name.
pub fn state_of(client: &Client, name: &str) -> Option<String> {
    let status = client.expect("GET", "/v1/status", &[], b"").ok()?.json(&client.at).ok()?;
    states(&status).remove(name).map(|seen| seen.state)
}

fn answer_of(client: &Client) -> Answer {
    let asked = client.ask("GET", "/healthz/ready", &[], b"").and_then(|ready| match ready.status {
        200 => Ok(Answer::Ready(states(&client.expect("GET", "/v1/status", &[], b"")?.json(&client.at)?))),
        _ => Ok(Answer::Starting(why_not(&ready))),
    });
    asked.unwrap_or_else(|failure| match failure {
        Failure::Unreachable { why, .. } => Answer::Silent(why),
        // It answers, and is not there yet.
        other => Answer::Starting(other.to_string()),
    })
}

/// What a node that is not ready says of itself.
fn why_not(answer: &HttpAnswer) -> String {
    let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let told =
        ["detail", "sentence", "title"].iter().find_map(|key| problem[*key].as_str().filter(|text| !text.is_empty()));
    told.map_or_else(|| format!("status {}", answer.status), str::to_string)
}

/// The nodes of `/v1/status`.
fn states(status: &Value) -> BTreeMap<String, Seen> {
    let seen = |node: &Value| Some(Seen { state: node["state"].as_str()?.into(), told: !node["stage"].is_null() });
    let nodes = status["nodes"].as_array().into_iter().flatten();
    nodes.filter_map(|node| Some((node["name"].as_str()?.into(), seen(node)?))).collect()
}

/// What is missing until each node of `needed` is ready, and all that are ready see each other up. Empty: nothing.
pub fn missing(answers: &[(String, Answer)], needed: &[String]) -> Vec<String> {
    let mut missing = Vec::new();
    for (name, answer) in answers.iter().filter(|(name, _)| needed.contains(name)) {
        match answer {
            Answer::Silent(why) => missing.push(format!("{name} does not answer ({why})")),
            Answer::Starting(why) => missing.push(format!("{name} is not ready ({why})")),
            Answer::Ready(_) => {}
        }
    }
    let ready = || {
        answers.iter().filter_map(|(name, answer)| match answer {
            Answer::Ready(seen) => Some((name, seen)),
            Answer::Silent(_) | Answer::Starting(_) => None,
        })
    };
    for (from, seen) in ready() {
        for (to, _) in ready() {
            match seen.get(to) {
                Some(seen) if seen.state != "up" => missing.push(format!("{from} sees {to} {}", seen.state)),
                Some(seen) if !seen.told => missing.push(format!("{from} has no answer from {to}")),
                Some(_) => {}
                None => missing.push(format!("{from} does not know {to}")),
            }
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sees(states: &[(&str, &str)]) -> Answer {
        let seen = |state: &str| Seen { state: state.to_string(), told: true };
        Answer::Ready(states.iter().map(|(name, state)| (name.to_string(), seen(state))).collect())
    }

    fn missing_of(answers: &[(&str, Answer)], needed: &[&str]) -> Vec<String> {
        let answers: Vec<_> = answers.iter().map(|(name, answer)| (name.to_string(), answer.clone())).collect();
        let needed: Vec<_> = needed.iter().map(|name| name.to_string()).collect();
        missing(&answers, &needed)
    }

    #[test]
    fn a_cluster_is_up_when_all_take_requests_and_see_each_other_up() {
        let up = sees(&[("n1", "up"), ("n2", "up")]);
        assert!(missing_of(&[("n1", up.clone()), ("n2", up.clone())], &["n1", "n2"]).is_empty());
        let half = [("n1", sees(&[("n1", "up"), ("n2", "suspect")])), ("n2", up.clone())];
        assert_eq!(missing_of(&half, &["n1", "n2"]), ["n1 sees n2 suspect"]);
        let alone = [("n1", sees(&[("n1", "up")])), ("n2", Answer::Starting("waiting for a ring: 1 of 2".into()))];
        assert_eq!(missing_of(&alone, &["n1", "n2"]), ["n2 is not ready (waiting for a ring: 1 of 2)"]);
    }

    #[test]
    fn one_node_waits_only_for_those_that_answer() {
        let seen = sees(&[("n1", "up"), ("n2", "up"), ("n3", "down")]);
        let answers = [("n1", seen.clone()), ("n2", seen), ("n3", Answer::Silent("refused".into()))];
        assert!(missing_of(&answers, &["n2"]).is_empty());
        assert_eq!(missing_of(&answers, &["n2", "n3"]), ["n3 does not answer (refused)"]);
        let strangers = [("n1", sees(&[("n1", "up")])), ("n2", sees(&[("n2", "up")]))];
        assert_eq!(missing_of(&strangers, &["n2"]), ["n1 does not know n2", "n2 does not know n1"]);
    }

    #[test]
    fn word_of_a_node_is_not_a_link_to_it() {
        let view = json!({ "nodes": [
            { "name": "n1", "state": "up", "stage": "ready" }, { "name": "n2", "state": "up", "stage": null },
        ]});
        let answers = [("n1", Answer::Ready(states(&view))), ("n2", sees(&[("n1", "up"), ("n2", "up")]))];
        assert_eq!(missing_of(&answers, &["n2"]), ["n1 has no answer from n2"]);
    }
}
