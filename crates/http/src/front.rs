//! What every request meets first: the head is read, the route is found, the answer or the problem goes out.

use crate::{
    admin, batch, body, data,
    head::Head,
    outgoing::{Answers, Full},
    problem::{Applied, KULA_CONTEXT, Problem},
    refusal::Refusal,
    route::Route,
    scan, translate,
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::{ConnectionType, Method},
    web::{Data, Payload},
};
use kula_actor::{Lost, Pending};
use kula_clock::Clock;
use kula_coordinator::{CoordinatorError, Coordinators};
use kula_operator::{Operator, Stage};
use kula_types::Mono;
use std::{
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// What all workers share.
pub struct Front {
    pub coordinators: Coordinators,
    pub operator: Operator,
    pub log: slog::Logger,
    answers: Answers,
    traces: Traces,
}

/// Ids for problems whose request brought none: the start of this front door and a count. Unique, not secret.
struct Traces {
    started: u64,
    next: AtomicU64,
}

impl Front {
    pub fn new(coordinators: Coordinators, operator: Operator, log: slog::Logger) -> Self {
        let started = operator.clock().wall().micros().cast_unsigned();
        let traces = Traces { started, next: AtomicU64::new(1) };
        Front { coordinators, operator, log, answers: Answers::new(), traces }
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        self.operator.clock()
    }

    /// Requests for data are taken only while the node is ready.
    pub fn open(&self) -> Result<(), Refusal> {
        match self.operator.readiness().stage() {
            Stage::Ready => Ok(()),
            Stage::Starting => Err(match self.operator.waits_for() {
                Some(sentence) => Refusal::Waiting { sentence },
                None => Refusal::Starting,
            }),
            Stage::Stopping => Err(Refusal::Stopping),
        }
    }

    /// The trace id a problem shows: the request's own, or a new one.
    pub fn trace(&self, asked: Option<&str>) -> String {
        asked.map_or_else(|| self.traces.next(), str::to_string)
    }

    /// The answer of a coordinator, or the problem that took its place; never later than the deadline and its grace.
    pub async fn await_answer<T>(
        &self,
        deadline: Mono,
        answer: Pending<Result<T, CoordinatorError>>,
    ) -> Result<T, Problem> {
        let patience = deadline.since(self.clock().mono()).saturating_add(crate::limits::DEADLINE_GRACE);
        match tokio::time::timeout(patience, answer).await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(error))) => Err(error.into()),
            Ok(Err(lost @ Lost)) => Err(lost.into()),
            Err(_) => Err(translate::silent()),
        }
    }
}

impl Traces {
    fn next(&self) -> String {
        let mut trace = String::with_capacity(32);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let written = write!(trace, "{:016x}{number:016x}", self.started);
        debug_assert!(written.is_ok());
        trace
    }
}

/// The one service of the server. It never fails: what goes wrong is a problem answer.
pub async fn serve(request: HttpRequest, mut payload: Payload, front: Data<Front>) -> HttpResponse {
    let head = Head::parse(&request);
    let trace = head.as_ref().ok().and_then(|head| head.trace);
    let answer = match &head {
        Ok(head) => respond(&request, head, &mut payload, &front).await,
        Err(refusal) => Err(refusal.clone().into()),
    };
    // Only a batch has a large answer to a write: some of its items may be done.
    let applied = if request.method().is_safe() { Applied::No } else { Applied::Unknown };
    let answer = match answer.map(|answer| front.answers.within(answer)) {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Full)) => Err(translate::answers_full(applied)),
        Err(problem) => Err(problem),
    };
    let is_broken = answer.as_ref().is_err_and(|problem| problem.close);
    let mut response = answer.unwrap_or_else(|problem| {
        let trace = front.trace(trace);
        report(&front.log, &problem, &trace);
        problem.response(&trace)
    });
    if request.method() == Method::HEAD {
        // The client has not seen what the context covers.
        response.headers_mut().remove(KULA_CONTEXT);
    }
    let announced = head.as_ref().ok().and_then(|head| head.content_length);
    if is_broken || !body::settle(&mut payload, announced).await {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    response
}

async fn respond(
    request: &HttpRequest,
    head: &Head<'_>,
    payload: &mut Payload,
    front: &Front,
) -> Result<HttpResponse, Problem> {
    let uri = request.uri();
    let query = uri.query().unwrap_or("");
    match Route::of(request.method(), uri.path())? {
        Route::Key { keyspace, table, key } => {
            let key = data::Keyed::parse(&keyspace, &table, key, query)?;
            match *request.method() {
                Method::PUT => data::put(front, key, head, payload).await,
                Method::DELETE => data::delete(front, key, head).await,
                _ => data::get(front, key, head).await,
            }
        }
        Route::Batch { keyspace, table } => batch::run(front, &keyspace, &table, head, payload).await,
        Route::Scan { keyspace, table } => scan::page(front, &keyspace, &table, query, head).await,
        Route::Events => Err(Refusal::NotThereYet { what: "the stream of events" }.into()),
        Route::Dashboard => Err(Refusal::NotThereYet { what: "the dashboard" }.into()),
        Route::Replica { keyspace, table, key } => {
            admin::replica(front, data::Keyed::parse(&keyspace, &table, key, query)?, head).await
        }
        Route::Keyspaces if *request.method() == Method::POST => admin::create_keyspace(front, head, payload).await,
        Route::Tables { keyspace } => admin::create_table(front, &keyspace, head, payload).await,
        Route::Keyspace { keyspace } => match *request.method() {
            Method::PATCH => admin::alter_keyspace(front, &keyspace, head, payload).await,
            Method::DELETE => admin::drop_keyspace(front, &keyspace, head).await,
            _ => admin::keyspace(front, &keyspace),
        },
        Route::Table { keyspace, table } => match *request.method() {
            Method::DELETE => admin::drop_table(front, &keyspace, &table, head).await,
            _ => admin::table(front, &keyspace, &table),
        },
        Route::Keyspaces => Ok(admin::json(&front.operator.keyspaces())),
        Route::Status => Ok(admin::json(&front.operator.status().await)),
        Route::Ring => Ok(admin::json(&front.operator.ring())),
        Route::Hints => Ok(admin::json(&front.operator.hints())),
        Route::Actors => Ok(admin::json(&front.operator.actors())),
        Route::Tasks => Ok(admin::json(&front.operator.tasks())),
        Route::Config => Ok(admin::json(front.operator.config())),
        Route::Live => Ok(admin::text("live\n")),
        Route::Ready => {
            front.open()?;
            Ok(admin::text("ready\n"))
        }
        Route::Metrics => Ok(admin::metrics(front)),
        Route::OpenApi => Ok(admin::openapi()),
    }
}

/// A server's own problems are worth a line; a client's are the client's, and a crowd of them must not fill the log.
fn report(log: &slog::Logger, problem: &Problem, trace: &str) {
    match problem.status().as_u16() {
        500 => {
            slog::error!(log, "internal error"; "event" => "http_internal", "code" => problem.code.code, "trace" => trace)
        }
        501 => {}
        502.. => {
            slog::debug!(log, "{}", problem.detail; "event" => "http_problem", "code" => problem.code.code, "trace" => trace)
        }
        _ => {}
    }
}
