//! A problem as users see it: RFC 9457 `application/problem+json` with the code, the numbers and the next step.

use crate::limits::RETRY_AFTER_SECONDS;
use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER},
    },
};
use kula_operator::Code;
use serde::Serialize;
use serde_json::{Map, Value};

pub const KULA_CONTEXT: HeaderName = HeaderName::from_static("kula-context");
pub const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Whether a write may have happened in spite of the problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Applied {
    No,
    Unknown,
}

/// What one replica did, as far as its coordinator knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReplicaNote {
    pub name: String,
    pub id: String,
    pub outcome: &'static str,
    /// Milliseconds from sending to its answer, or to ours.
    pub wait_ms: u64,
}

/// One problem answer. `trace` is filled in last.
#[derive(Clone, Debug)]
pub struct Problem {
    pub code: &'static Code,
    /// What happened here, with its numbers; one sentence.
    pub detail: String,
    /// What to do next.
    pub hint: String,
    pub applied: Applied,
    pub need: Option<u32>,
    pub alive: Option<u32>,
    pub acked: Option<u32>,
    pub replicas: Option<Vec<ReplicaNote>>,
    /// Facts of one kind of problem only, such as the full mailbox.
    pub facts: Map<String, Value>,
    /// Where there is something to cover.
    pub context: Option<String>,
    /// Which replicas took part, where some did and the answer is still a problem.
    pub part: Vec<(HeaderName, HeaderValue)>,
    /// The methods of the route, for 405.
    pub allow: Option<&'static str>,
    /// It will pass by itself: say when to come back.
    pub retry: bool,
    /// The body broke off: the connection cannot be used again.
    pub close: bool,
}

/// The order of the fields is the order users read.
#[derive(Serialize)]
pub struct Body<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    need: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alive: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acked: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replicas: Option<&'a [ReplicaNote]>,
    #[serde(flatten)]
    facts: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<&'a str>,
    applied: Applied,
    hint: &'a str,
    trace: &'a str,
}

impl Problem {
    pub fn new(code: &'static Code, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Problem {
            code,
            detail: detail.into(),
            hint: hint.into(),
            applied: Applied::No,
            need: None,
            alive: None,
            acked: None,
            replicas: None,
            facts: Map::new(),
            context: None,
            part: Vec::new(),
            allow: None,
            retry: false,
            close: false,
        }
    }

    pub fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.into(), value.into());
        self
    }

    pub fn applied(mut self, applied: Applied) -> Self {
        self.applied = applied;
        self
    }

    pub fn retry(mut self) -> Self {
        self.retry = true;
        self
    }

    pub fn close(mut self) -> Self {
        self.close = true;
        self
    }

    pub fn status(&self) -> StatusCode {
        // A code without a status is never made into a problem; if it were, it would be a fault of ours.
        self.code
            .status
            .and_then(|status| StatusCode::from_u16(status).ok())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The document as a part of another one.
    pub fn json(&self, trace: &str) -> Value {
        serde_json::to_value(self.body(trace)).unwrap_or(Value::Null)
    }

    /// The document as it goes out, in its order.
    pub fn body<'a>(&'a self, trace: &'a str) -> Body<'a> {
        Body {
            kind: format!("urn:kula:problem:{}", self.code.slug),
            title: self.code.title,
            status: self.status().as_u16(),
            code: self.code.code,
            detail: &self.detail,
            need: self.need,
            alive: self.alive,
            acked: self.acked,
            replicas: self.replicas.as_deref(),
            facts: &self.facts,
            context: self.context.as_deref(),
            applied: self.applied,
            hint: &self.hint,
            trace,
        }
    }

    pub fn response(&self, trace: &str) -> HttpResponse {
        let mut response = HttpResponse::build(self.status());
        response.insert_header((CONTENT_TYPE, PROBLEM_JSON));
        for (name, value) in &self.part {
            response.insert_header((name.clone(), value.clone()));
        }
        if let Some(context) = self.context.as_deref().and_then(|text| HeaderValue::from_str(text).ok()) {
            response.insert_header((KULA_CONTEXT, context));
        }
        if let Some(allow) = self.allow {
            response.insert_header((ALLOW, HeaderValue::from_static(allow)));
        }
        if self.retry {
            response.insert_header((RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS)));
        }
        response.body(serde_json::to_vec(&self.body(trace)).unwrap_or_default())
    }
}
