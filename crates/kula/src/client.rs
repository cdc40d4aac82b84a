//! Asking a node over HTTP: one place that knows headers, problems and what cannot be reached.

use crate::{cli::Global, cluster::ClusterError, commands::TransferError, exit::Verdict};
use kula_sim::scenario::ScenarioError;
use serde_json::Value;
use std::time::Duration;
use ureq::{Agent, Body, http};

/// What a person must be able to act on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The node answered with a problem (RFC 9457).
    #[error("{0}")]
    Problem(Value),
    /// The node did not answer.
    #[error("{at} does not answer: {why}")]
    Unreachable { at: String, why: String },
    /// The node answered something that is not an answer.
    #[error("{at} answered something that is not Kula's: {why}")]
    Strange { at: String, why: String },
    /// The command's own words are off.
    #[error("{0}")]
    Usage(String),
    /// A development cluster on this machine.
    #[error("{0}")]
    Cluster(Box<ClusterError>),
    /// An import or export.
    #[error("{0}")]
    Transfer(Box<TransferError>),
    /// A cluster that cannot be simulated.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// Something on this machine.
    #[error("{0:#}")]
    Local(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Local(error)
    }
}

impl From<ClusterError> for Failure {
    fn from(error: ClusterError) -> Self {
        Failure::Cluster(Box::new(error))
    }
}

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Self {
        Failure::Transfer(Box::new(error))
    }
}

impl Failure {
    pub fn verdict(&self) -> Verdict {
        match self {
            Failure::Problem(problem) => match problem["status"].as_u64() {
                // Known and not there yet: the words are at fault, not the node.
                Some(501) => Verdict::Usage,
                Some(429 | 503 | 504 | 507) => Verdict::Unavailable,
                _ => Verdict::Error,
            },
            Failure::Unreachable { .. } => Verdict::Unavailable,
            Failure::Usage(_) | Failure::Scenario(_) => Verdict::Usage,
            Failure::Cluster(error) => error.verdict(),
            Failure::Transfer(error) => error.verdict(),
            Failure::Strange { .. } | Failure::Local(_) => Verdict::Error,
        }
    }
}

/// An answer with its status, headers and body.
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn json(&self, at: &str) -> Result<Value, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| Failure::Strange { at: at.into(), why: error.to_string() })
    }
}

/// A node, as seen from here.
pub struct Client {
    agent: Agent,
    pub at: String,
    timeout: Duration,
}

/// Whether a URL has a host, and no port that is none.
fn names_a_node(at: &str) -> bool {
    let uri = at.parse::<http::Uri>().ok();
    let Some(authority) = uri.as_ref().and_then(http::Uri::authority) else { return false };
    let has_port = authority.as_str().rsplit(']').next().is_some_and(|end| end.contains(':'));
    !authority.host().is_empty() && (!has_port || authority.port_u16().is_some_and(|port| port > 0))
}

fn agent(most: Duration) -> Agent {
    // 300 is an answer with siblings, not a way to somewhere else.
    let config = Agent::config_builder().http_status_as_error(false).max_redirects(0).max_redirects_will_error(false);
    config.timeout_global(Some(most)).build().into()
}

/// Answers larger than this are not Kula's: a value, or 64 siblings of one, in base64.
const ANSWER_BYTES_MAX: u64 = 768 << 20;

impl Client {
    pub fn new(global: &Global) -> Result<Self, Failure> {
        let at = global.at.trim_end_matches('/').to_string();
        if !at.starts_with("http://") {
            return Err(Failure::Usage(format!("--at takes a URL like http://127.0.0.1:7080, not {at:?}")));
        }
        if !names_a_node(&at) {
            return Err(Failure::Usage(format!("--at has a host and a port from 1 to 65535, {at:?} has not")));
        }
        if global.timeout > Duration::from_secs(60) || global.timeout.is_zero() {
            return Err(Failure::Usage("--timeout is more than 0 and at most 60s".into()));
        }
        // The node keeps the deadline; this is for a node that hangs.
        Ok(Client { agent: agent(global.timeout + Duration::from_secs(2)), at, timeout: global.timeout })
    }

    /// A node that is asked how it is, and counts as silent after `most`.
    pub fn impatient(at: &str, most: Duration) -> Self {
        Client { agent: agent(most), at: at.to_string(), timeout: most }
    }

    /// A node that is given this deadline, and a little more before it counts as silent.
    pub fn with_deadline(at: &str, deadline: Duration, more: Duration) -> Self {
        Client { agent: agent(deadline + more), at: at.to_string(), timeout: deadline }
    }

    /// One request; any status is an answer.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer, Failure> {
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", self.at));
        request = request.header("Kula-Deadline-Ms", self.timeout.as_millis().to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).map_err(|error| Failure::Usage(error.to_string()))?;
        let mut answer = self.agent.run(request).map_err(|error| self.unreachable(&error))?;
        let body = self.read(answer.body_mut())?;
        Ok(Answer { status: answer.status().as_u16(), headers: answer.headers().clone(), body })
    }

    /// One request; a problem is a failure.
    pub fn expect(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer, Failure> {
        let answer = self.ask(method, path, headers, body)?;
        if answer.status < 400 { Ok(answer) } else { Err(self.problem(&answer)) }
    }

    /// A problem as the node told it.
    pub fn problem(&self, answer: &Answer) -> Failure {
        match serde_json::from_slice::<Value>(&answer.body) {
            Ok(problem) if problem["code"].is_string() => Failure::Problem(problem),
            _ => Failure::Strange { at: self.at.clone(), why: format!("status {}", answer.status) },
        }
    }

    fn read(&self, body: &mut Body) -> Result<Vec<u8>, Failure> {
        let read = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        read.map_err(|error| self.unreachable(&error))
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let why = match error {
            ureq::Error::Io(error) => error.to_string(),
            ureq::Error::Timeout(_) => "no answer in time".to_string(),
            other => other.to_string(),
        };
        Failure::Unreachable { at: self.at.clone(), why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_later_version_brings_is_a_fault_of_the_words() {
        let verdict = |status: u16| Failure::Problem(serde_json::json!({ "status": status })).verdict();
        assert_eq!([501, 503, 404].map(verdict), [Verdict::Usage, Verdict::Unavailable, Verdict::Error]);
    }

    #[test]
    fn a_url_names_a_host_and_a_port_that_exists() {
        for yes in ["http://h", "http://h:1", "http://127.0.0.1:65535", "http://[::1]:7080", "http://[::1]"] {
            assert!(names_a_node(yes), "{yes}");
        }
        for no in ["http://h:99999", "http://h:0", "http://h:", "http://h:x", "http://", "http:// h"] {
            assert!(!names_a_node(no), "{no}");
        }
    }
}
