//! What operators ask: the operator's values as JSON, health, metrics, the list of routes.

use crate::{
    answer::Shown,
    body::{self, Room},
    data::Keyed,
    front::Front,
    head::Head,
    limits,
    problem::Problem,
    refusal::Refusal,
    translate,
};
use actix_web::{HttpResponse, http::header::ContentType, web::Payload};
use bytes::Bytes;
use kula_actor::METRICS_CONTENT_TYPE;
use kula_coordinator::Found;
use kula_operator::{KeyspaceSettingsWish, KeyspaceWish, TableWish};
use serde::{Serialize, de::DeserializeOwned};

/// The routes of this version; a test holds it to them.
pub const OPENAPI: &str = include_str!("../../../docs/openapi.json");

pub fn json(value: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::json()).body(serde_json::to_vec(value).unwrap_or_default())
}

pub fn text(text: &'static str) -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::plaintext()).body(text)
}

pub fn openapi() -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::json()).body(OPENAPI)
}

pub fn metrics(front: &Front) -> HttpResponse {
    HttpResponse::Ok().content_type(METRICS_CONTENT_TYPE).body(front.operator.metrics())
}

pub async fn create_keyspace(front: &Front, head: &Head<'_>, payload: &mut Payload) -> Result<HttpResponse, Problem> {
    front.open()?;
    let wish: KeyspaceWish = command(front, head, payload).await?;
    let made = front.operator.create_keyspace(wish, head.change_patience).await?;
    Ok(created(&made))
}

pub fn keyspace(front: &Front, keyspace: &str) -> Result<HttpResponse, Problem> {
    Ok(json(&front.operator.keyspace(keyspace)?))
}

pub async fn alter_keyspace(
    front: &Front,
    keyspace: &str,
    head: &Head<'_>,
    payload: &mut Payload,
) -> Result<HttpResponse, Problem> {
    front.open()?;
    let wish: KeyspaceSettingsWish = command(front, head, payload).await?;
    Ok(json(&front.operator.alter_keyspace(keyspace, wish, head.change_patience).await?))
}

pub async fn drop_keyspace(front: &Front, keyspace: &str, head: &Head<'_>) -> Result<HttpResponse, Problem> {
    front.open()?;
    front.operator.drop_keyspace(keyspace, head.change_patience).await?;
    Ok(HttpResponse::NoContent().finish())
}

pub fn table(front: &Front, keyspace: &str, table: &str) -> Result<HttpResponse, Problem> {
    Ok(json(&front.operator.table(keyspace, table)?))
}

pub async fn drop_table(front: &Front, keyspace: &str, table: &str, head: &Head<'_>) -> Result<HttpResponse, Problem> {
    front.open()?;
    front.operator.drop_table(keyspace, table, head.change_patience).await?;
    Ok(HttpResponse::NoContent().finish())
}

pub async fn create_table(
    front: &Front,
    keyspace: &str,
    head: &Head<'_>,
    payload: &mut Payload,
) -> Result<HttpResponse, Problem> {
    front.open()?;
    let wish: TableWish = command(front, head, payload).await?;
    let made = front.operator.create_table(keyspace, wish, head.change_patience).await?;
    Ok(created(&made))
}

/// This node's own cell, in the shapes of a GET.
pub async fn replica(front: &Front, key: Keyed, head: &Head<'_>) -> Result<HttpResponse, Problem> {
    front.open()?;
    let deadline = front.clock().mono().after(head.patience);
    let Keyed { target, query } = key;
    let asked = front.operator.replica_cell(&target.keyspace, &target.table, target.key, query.resolve_lww, deadline);
    let cell = asked.await?;
    let shown = Shown { context: cell.context.as_deref(), etag: Some(&cell.digest), part: None };
    match cell.found {
        Found::Nothing => Err(translate::no_such_key(cell.context)),
        Found::One(value) => Ok(shown.one(value)),
        Found::Siblings { ref siblings, more } => Ok(shown.siblings(siblings, more)),
    }
}

fn created(value: &impl Serialize) -> HttpResponse {
    HttpResponse::Created().content_type(ContentType::json()).body(serde_json::to_vec(value).unwrap_or_default())
}

async fn command<T: DeserializeOwned>(front: &Front, head: &Head<'_>, payload: &mut Payload) -> Result<T, Problem> {
    if head.encoded {
        return Err(Refusal::BodyEncoded.into());
    }
    let past = |max| Refusal::Json { what: format!("a command has at most {max} bytes") };
    let room = Room { bytes_max: limits::COMMAND_BYTES_MAX, past };
    let body = body::read(payload, head.content_length, room, front.clock().as_ref()).await?;
    Ok(parse(&body)?)
}

/// Strict JSON; what is wrong is told with line and column.
pub fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::Json { what: error.to_string() })
}
