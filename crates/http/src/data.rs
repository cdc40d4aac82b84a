//! One key: GET, HEAD, PUT, DELETE. Parse, ask a coordinator, translate.

use crate::{
    answer::{self, Part, Shown},
    body::{self, Room},
    front::Front,
    head::{self, Head},
    problem::Problem,
    refusal::Refusal,
    route::{self, KeyQuery},
    translate,
};
use actix_web::{HttpResponse, web::Payload};
use kula_actor::Reply;
use kula_coordinator::{Change, Found, Read, Target, Write, WriteAnswer};
use kula_types::{PartitionKey, limits::VALUE_BYTES_MAX};

/// A key's route with its query, read.
pub struct Keyed {
    pub target: Target,
    pub query: KeyQuery,
}

impl Keyed {
    pub fn parse(keyspace: &str, table: &str, key: &str, query: &str) -> Result<Self, Refusal> {
        let query = KeyQuery::parse(query)?;
        let key = route::key(key, query.encoding)?;
        Ok(Keyed { target: target(keyspace, table, key), query })
    }
}

pub fn target(keyspace: &str, table: &str, key: PartitionKey) -> Target {
    Target { keyspace: keyspace.to_string(), table: table.to_string(), key }
}

pub async fn get(front: &Front, key: Keyed, head: &Head<'_>) -> Result<HttpResponse, Problem> {
    front.open()?;
    if head.if_match {
        return Err(Refusal::NotThereYet { what: "If-Match on a read" }.into());
    }
    let deadline = front.clock().mono().after(head.patience);
    let (reply, pending) = Reply::pair();
    let consistency = head.consistency;
    front.coordinators.read(Read {
        target: key.target,
        resolve_lww: key.query.resolve_lww,
        consistency,
        deadline,
        reply,
    });
    let answer = front.await_answer(deadline, pending).await?;
    let shown =
        Shown { context: answer.context.as_deref(), etag: answer.etag.as_deref(), part: Some(Part::of_read(&answer)) };
    let is_known = head.if_none_match.zip(shown.etag).is_some_and(|(known, etag)| answer::matches(known, etag));
    match &answer.found {
        Found::Nothing => {
            let part = Part::of_read(&answer).headers().collect();
            Err(Problem { part, ..translate::no_such_key(answer.context.clone()) })
        }
        _ if is_known => Ok(shown.not_modified()),
        Found::One(value) => Ok(shown.one(value.clone())),
        Found::Siblings { siblings, more } => Ok(shown.siblings(siblings, *more)),
    }
}

pub async fn put(front: &Front, key: Keyed, head: &Head<'_>, payload: &mut Payload) -> Result<HttpResponse, Problem> {
    front.open()?;
    check_write(head, &key.query)?;
    if head.encoded {
        return Err(Refusal::BodyEncoded.into());
    }
    let room = Room { bytes_max: VALUE_BYTES_MAX, past: |max| Refusal::ValueTooLarge { max } };
    let value = body::read(payload, head.content_length, room, front.clock().as_ref()).await?;
    let content_type = head.content_type.map(str::to_string);
    let answer = write(front, key.target, Change::Put { value, content_type }, head).await?;
    Ok(answer::written(&answer))
}

pub async fn delete(front: &Front, key: Keyed, head: &Head<'_>) -> Result<HttpResponse, Problem> {
    front.open()?;
    check_write(head, &key.query)?;
    if head.ttl.is_some() {
        return Err(Refusal::Header { name: "Kula-TTL", accepts: "for PUT only: a delete has no time to live" }.into());
    }
    let answer = write(front, key.target, Change::Delete, head).await?;
    Ok(answer::written(&answer))
}

async fn write(front: &Front, target: Target, change: Change, head: &Head<'_>) -> Result<WriteAnswer, Problem> {
    // The body is here: from now on the time is the server's.
    let deadline = front.clock().mono().after(head.patience);
    let (reply, pending) = Reply::pair();
    front.coordinators.write(Write {
        target,
        change,
        context: head.context.map(str::to_string),
        timestamp: head.timestamp,
        ttl: head.ttl,
        idempotency_key: head::owned(head.idempotency_key),
        consistency: head.consistency,
        deadline,
        reply,
    });
    front.await_answer(deadline, pending).await
}

/// What a write's head must not ask for.
pub fn check_write(head: &Head<'_>, query: &KeyQuery) -> Result<(), Refusal> {
    if head.if_match || head.if_none_match.is_some() {
        return Err(Refusal::ConditionalWrite);
    }
    if query.resolve_lww {
        return Err(Refusal::Parameter { name: "resolve".into(), accepts: "for GET and HEAD only" });
    }
    Ok(())
}
