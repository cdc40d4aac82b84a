//! Load over HTTP/1.1 with keep-alive connections, closed loop or on a schedule, spread over one node or several.
//!
//! The generator writes requests by hand: it shares the machine with the nodes, and every microsecond it saves is one
//! they can use. A connection that breaks is counted and made again, so that a node may die under load.

use super::{
    meter::{Usage, usage},
    report::{Phase, count, histogram, micros},
};
use crate::{
    cli::Global,
    client::{Client, Failure},
    commands::admin::split,
    stopwatch::now,
};
use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Before a phase is measured: caches, branch predictors, recycled log segments.
const WARM_UP: Duration = Duration::from_secs(2);
/// The longest that writing every key once may take.
const FILL_MAX: Duration = Duration::from_secs(600);
/// After a connection broke, before the next: a node that is gone refuses at once.
const REDIAL_AFTER: Duration = Duration::from_millis(10);
/// An answer that takes longer will not come: a node answers within its deadline of 5 s.
const ANSWER_MAX: Duration = Duration::from_secs(7);

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    Put,
    Get,
    /// Half of each.
    Mixed,
}

impl Mix {
    pub const fn name(self) -> &'static str {
        match self {
            Mix::Put => "put",
            Mix::Get => "get",
            Mix::Mixed => "mixed",
        }
    }
}

/// What is asked of the nodes.
pub struct Shape {
    /// `http://host:port`, each as often as the others.
    pub nodes: Vec<String>,
    /// `keyspace.table`.
    pub table: String,
    pub consistency: String,
    pub connections: usize,
    pub keys: u64,
    pub value_bytes: usize,
    /// Open loop: requests a second.
    pub rate: Option<f64>,
}

/// A driver of load, and its requests ready but for the key.
pub struct Load {
    hosts: Vec<String>,
    put: Request,
    get: Request,
    keys: u64,
    connections: usize,
    every: Option<Duration>,
    state: State,
}

/// Everything before the key, between key and host, and after the host.
struct Request {
    before_key: String,
    after_host: Vec<u8>,
}

/// Who takes the next request, when it is due, and what came of them.
struct State {
    next: Cell<u64>,
    limit: Cell<u64>,
    start: Cell<Instant>,
    until: Cell<Instant>,
    operations: Cell<u64>,
    errors: RefCell<BTreeMap<String, u64>>,
    latency: RefCell<Histogram<u64>>,
}

impl Load {
    pub fn new(shape: &Shape) -> anyhow::Result<Self> {
        ensure!(shape.connections > 0 && shape.keys > 0, "connections and keys are more than 0");
        ensure!(shape.rate.is_none_or(|rate| rate > 0.0), "the rate is more than 0");
        ensure!(!shape.nodes.is_empty(), "at least one node");
        let (keyspace, table) = split(&shape.table)?;
        let consistency = shape.consistency.parse::<kula_types::Consistency>();
        let consistency = consistency.map_err(|_| anyhow::anyhow!("{:?} is not a level", shape.consistency))?;
        let request = |method: &str, body: &[u8]| {
            let mut after_host = format!("\r\nKula-Consistency: {consistency}\r\n").into_bytes();
            if method == "PUT" {
                after_host.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
            }
            after_host.extend_from_slice(b"\r\n");
            after_host.extend_from_slice(body);
            Request { before_key: format!("{method} /kv/{keyspace}/{table}/key-"), after_host }
        };
        let host = |node: &String| node.trim_start_matches("http://").trim_end_matches('/').to_string();
        Ok(Load {
            hosts: shape.nodes.iter().map(host).collect(),
            put: request("PUT", &value(shape.value_bytes)),
            get: request("GET", b""),
            keys: shape.keys,
            connections: shape.connections,
            every: shape.rate.map(|rate| Duration::from_secs_f64(1.0 / rate)),
            state: State {
                next: Cell::new(0),
                limit: Cell::new(0),
                start: Cell::new(now()),
                until: Cell::new(now()),
                operations: Cell::new(0),
                errors: RefCell::new(BTreeMap::new()),
                latency: RefCell::new(histogram()?),
            },
        })
    }

    /// Writes every key once, so that gets find something.
    pub async fn fill(&self) -> anyhow::Result<()> {
        self.reset(FILL_MAX, self.keys);
        self.drive(Mix::Put, None).await?;
        let written = self.state.operations.get();
        ensure!(written == self.keys, "{written} of {} keys were written: {:?}", self.keys, self.state.errors.borrow());
        Ok(())
    }

    /// Warms up, then measures for this span. `pids` are the nodes whose accounts are read.
    pub async fn phase(&self, mix: Mix, span: Duration, pids: &[u32]) -> anyhow::Result<Phase> {
        self.reset(WARM_UP, u64::MAX);
        self.drive(mix, None).await?;
        let (nodes_before, client_before) = (accounts(pids)?, usage(std::process::id())?);
        self.reset(span, u64::MAX);
        let started = now();
        self.drive(mix, self.every).await?;
        let wall = started.elapsed();
        let (nodes_after, client_after) = (accounts(pids)?, usage(std::process::id())?);
        let state = &self.state;
        Ok(Phase {
            name: mix.name().to_string(),
            operations: state.operations.get(),
            errors: state.errors.borrow().clone(),
            wall,
            latency: state.latency.borrow().clone(),
            node: nodes_before.zip(nodes_after),
            client: Some((client_before, client_after)),
        })
    }

    fn reset(&self, span: Duration, limit: u64) {
        let state = &self.state;
        state.start.set(now());
        state.until.set(now() + span);
        state.next.set(0);
        state.limit.set(limit);
        state.operations.set(0);
        state.errors.borrow_mut().clear();
        state.latency.borrow_mut().reset();
    }

    /// All connections until the time is up, or until the limit of requests was taken.
    async fn drive(&self, mix: Mix, every: Option<Duration>) -> anyhow::Result<()> {
        let connections = (0..self.connections).map(|place| self.connection(place, mix, every));
        for ended in futures::future::join_all(connections).await {
            ended?;
        }
        Ok(())
    }

    async fn connection(&self, place: usize, mix: Mix, every: Option<Duration>) -> anyhow::Result<()> {
        let host = &self.hosts[place % self.hosts.len()];
        let mut stream = Some(connect(host).await.with_context(|| format!("{host} does not take connections"))?);
        let (mut request, mut answer) = (Vec::new(), Vec::with_capacity(16 << 10));
        while let Some((number, due)) = self.take(every).await {
            self.write_request(&mut request, number, mix, host);
            let asked = tokio::time::timeout(ANSWER_MAX, ask(&mut stream, host, &request, &mut answer));
            match asked.await.unwrap_or_else(|_| bail!("no answer in time")) {
                Ok(status) if (200..300).contains(&status) => {
                    self.state.operations.set(self.state.operations.get() + 1);
                    self.state.latency.borrow_mut().saturating_record(micros(due.elapsed()));
                }
                Ok(status) => self.failed(refusal(status, &answer)),
                Err(_) => {
                    self.failed("connection broken".into());
                    stream = None;
                    tokio::time::sleep(REDIAL_AFTER).await;
                }
            }
        }
        Ok(())
    }

    /// The next request's number and when it is due; waits until then. `None`: the time is up.
    async fn take(&self, every: Option<Duration>) -> Option<(u64, Instant)> {
        let state = &self.state;
        let number = state.next.get();
        if number >= state.limit.get() || now() >= state.until.get() {
            return None;
        }
        state.next.set(number + 1);
        let Some(every) = every else { return Some((number, now())) };
        let due = state.start.get() + every.mul_f64(count(number));
        if due >= state.until.get() {
            return None;
        }
        tokio::time::sleep_until(due.into()).await;
        Some((number, due))
    }

    fn write_request(&self, request: &mut Vec<u8>, number: u64, mix: Mix, host: &str) {
        let form = match mix {
            Mix::Put => &self.put,
            Mix::Get => &self.get,
            Mix::Mixed if number.is_multiple_of(2) => &self.put,
            Mix::Mixed => &self.get,
        };
        // A bijective mix: keys in no order, each as often as the others; filling takes each once.
        let is_filling = self.state.limit.get() == self.keys;
        let key = if is_filling { number } else { number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11 };
        request.clear();
        request.extend_from_slice(form.before_key.as_bytes());
        request.extend_from_slice(format!("{:010} HTTP/1.1\r\nHost: {host}", key % self.keys).as_bytes());
        request.extend_from_slice(&form.after_host);
    }

    fn failed(&self, kind: String) {
        *self.state.errors.borrow_mut().entry(kind).or_insert(0) += 1;
    }
}

async fn connect(host: &str) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(host).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One request and its answer's status. After an error the connection is of no more use.
async fn ask(stream: &mut Option<TcpStream>, host: &str, request: &[u8], answer: &mut Vec<u8>) -> anyhow::Result<u16> {
    let stream = match stream {
        Some(stream) => stream,
        none => none.insert(connect(host).await?),
    };
    stream.write_all(request).await?;
    read_answer(stream, answer).await
}

/// Reads one answer whole and returns its status.
async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<u16> {
    buffer.clear();
    loop {
        if let Some(head) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let text = std::str::from_utf8(&buffer[..head]).context("a head that is not text")?;
            let status = text.split(' ').nth(1).context("an answer without status")?.parse()?;
            let length = text.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
            });
            let whole = head + 4 + length.transpose()?.unwrap_or(0);
            while buffer.len() < whole {
                if stream.read_buf(buffer).await? == 0 {
                    bail!("the node closed the connection inside an answer");
                }
            }
            return Ok(status);
        }
        if stream.read_buf(buffer).await? == 0 {
            bail!("the node closed the connection");
        }
    }
}

/// `503 K0301`: the status, and the code of the problem in the body.
fn refusal(status: u16, answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let code = text.split_once("\"code\":\"").and_then(|(_, rest)| rest.split('"').next());
    code.map_or_else(|| status.to_string(), |code| format!("{status} {code}"))
}

/// The accounts of these processes together; `None` if there is none to read.
fn accounts(pids: &[u32]) -> anyhow::Result<Option<Usage>> {
    let mut sum = Usage::default();
    for &pid in pids {
        let one = usage(pid)?;
        sum = Usage { cpu: sum.cpu + one.cpu, resident_bytes: sum.resident_bytes + one.resident_bytes };
    }
    Ok((!pids.is_empty()).then_some(sum))
}

/// A value that compresses as text does: half of it repeats.
pub fn value(bytes: usize) -> Vec<u8> {
    use rand::{RngExt as _, SeedableRng as _};
    let mut random = rand::rngs::StdRng::seed_from_u64(1);
    (0..bytes).map(|place| if place % 2 == 0 { b'k' } else { random.random_range(b'a'..=b'z') }).collect()
}

/// Creates the bench's table unless it is there.
pub fn make_table(at: &str, name: &str, global: &Global) -> Result<(), Failure> {
    let client = Client::new(&Global { at: at.to_string(), ..global.clone() })?;
    let (keyspace, table) = split(name)?;
    if name == "kv.default" {
        return Ok(());
    }
    for (path, body) in [
        ("/v1/keyspaces".to_string(), format!("{{\"name\":\"{keyspace}\"}}")),
        (format!("/v1/keyspaces/{keyspace}/tables"), format!("{{\"name\":\"{table}\",\"kind\":\"lww\"}}")),
    ] {
        let answer = client.ask("POST", &path, &[("Content-Type", "application/json")], body.as_bytes())?;
        if answer.status >= 300 && answer.status != 409 {
            return Err(client.problem(&answer));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_status_and_code() {
        assert_eq!(refusal(503, b"HTTP/1.1 503 ..\r\n\r\n{\"status\":503,\"code\":\"K0301\",\"need\":2}"), "503 K0301");
        assert_eq!(refusal(400, b"HTTP/1.1 400 Bad Request\r\n\r\n"), "400");
    }

    #[test]
    fn half_of_a_mix_are_puts_and_every_connection_has_its_host() {
        let shape = Shape {
            nodes: vec!["http://127.0.0.1:7080/".into(), "http://127.0.0.2:7080".into()],
            table: "bench.lww".into(),
            consistency: "quorum".into(),
            connections: 2,
            keys: 10,
            value_bytes: 3,
            rate: None,
        };
        let load = Load::new(&shape).unwrap();
        assert_eq!(load.hosts, ["127.0.0.1:7080", "127.0.0.2:7080"]);
        let mut request = Vec::new();
        load.write_request(&mut request, 0, Mix::Mixed, &load.hosts[1]);
        let text = String::from_utf8(request.clone()).unwrap();
        let head = "PUT /kv/bench/lww/key-0000000000 HTTP/1.1\r\nHost: 127.0.0.2:7080\r\nKula-Consistency: quorum\r\n\
            Content-Length: 3\r\n\r\nk";
        assert!(text.starts_with(head), "{text}");
        load.write_request(&mut request, 1, Mix::Mixed, &load.hosts[0]);
        assert!(request.starts_with(b"GET "));
        assert!(Load::new(&Shape { consistency: "most".into(), ..shape }).is_err());
    }
}
