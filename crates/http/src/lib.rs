//! The HTTP front door: parse, ask, translate (`docs/http.md`).
//!
//! A handler reads the request, asks a coordinator or the operator through a bounded door, and turns the answer or the
//! error into HTTP. It decides nothing about data. Every head, body, batch, connection and wait is bounded (`limits`);
//! whatever goes wrong is one RFC 9457 problem with a code of `docs/codes`.

#![allow(clippy::result_large_err, reason = "a problem is made once, for an answer that is about to be written")]

mod admin;
mod answer;
mod batch;
mod body;
mod data;
mod error;
mod front;
mod head;
pub mod limits;
mod outgoing;
mod problem;
mod refusal;
mod route;
mod scan;
mod server;
mod translate;

pub use error::HttpError;
pub use server::{HttpConfig, HttpServer, serve};
