//! Load over HTTP/1.1 with keep-alive connections, closed loop or on a schedule.
//!
//! The generator writes requests by hand: it shares the machine with the node, and every microsecond it saves is one
//! the node can use.

use super::{
    meter::{Usage, usage},
    own_node::{OwnNode, directory, now},
    report::{Phase, histogram, micros, show},
};
use crate::cli::{BenchHttp, Global};
use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
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

pub fn run(wanted: &BenchHttp, global: &Global) -> anyhow::Result<()> {
    let own = match &wanted.node {
        Some(_) => None,
        None => Some(OwnNode::start(directory())?),
    };
    let at =
        own.as_ref().map_or_else(|| wanted.node.clone().unwrap_or_else(|| global.at.clone()), |own| own.at.clone());
    let address = at.trim_start_matches("http://").trim_end_matches('/').to_string();
    make_table(&at, wanted, global)?;
    let names: &[&str] = match wanted.operation.as_str() {
        "put" => &["put"],
        "get" => &["get"],
        "both" => &["put", "get"],
        other => bail!("--operation is put, get or both, not {other:?}"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut phases = Vec::new();
    for name in names {
        let load = Load::new(wanted, &address, name)?;
        if *name == "get" {
            runtime.block_on(Load::fill(wanted, &address))?;
        }
        let pid = own.as_ref().map(OwnNode::pid);
        phases.push(runtime.block_on(load.phase(name, wanted, pid))?);
    }
    let kind = wanted.rate.map_or("closed loop".to_string(), |rate| format!("open loop at {rate}/s"));
    let title = format!(
        "HTTP, {} connections, {} B values, {} keys in {}, {kind}",
        wanted.connections, wanted.value_bytes, wanted.keys, wanted.table
    );
    show(&title, &phases, wanted.json.as_deref())
}

/// Creates the bench's table unless it is there.
fn make_table(at: &str, wanted: &BenchHttp, global: &Global) -> anyhow::Result<()> {
    let client = crate::client::Client::new(&Global { at: at.to_string(), ..global.clone() })?;
    let (keyspace, table) = crate::commands::admin::split(&wanted.table)?;
    if wanted.table == "kv.default" {
        return Ok(());
    }
    for (path, body) in [
        ("/v1/keyspaces".to_string(), format!("{{\"name\":\"{keyspace}\"}}")),
        (format!("/v1/keyspaces/{keyspace}/tables"), format!("{{\"name\":\"{table}\",\"kind\":\"lww\"}}")),
    ] {
        let answer = client.ask("POST", &path, &[("Content-Type", "application/json")], body.as_bytes())?;
        if answer.status >= 300 && answer.status != 409 {
            return Err(client.problem(&answer).into());
        }
    }
    Ok(())
}

/// A phase's requests: who takes the next one, and when it is due.
struct Load {
    address: String,
    /// Everything before the key, between key and body, and the body.
    before_key: String,
    after_key: Vec<u8>,
    keys: u64,
    connections: usize,
    state: Rc<State>,
}

struct State {
    next: Cell<u64>,
    until: Cell<Instant>,
    start: Cell<Instant>,
    every: Option<Duration>,
    operations: Cell<u64>,
    errors: Cell<u64>,
    latency: RefCell<Histogram<u64>>,
}

impl State {
    fn new(rate: Option<f64>) -> anyhow::Result<Self> {
        Ok(State {
            next: Cell::new(0),
            until: Cell::new(now()),
            start: Cell::new(now()),
            every: rate.map(|rate| Duration::from_secs_f64(1.0 / rate)),
            operations: Cell::new(0),
            errors: Cell::new(0),
            latency: RefCell::new(histogram()?),
        })
    }
}

impl Load {
    fn new(wanted: &BenchHttp, address: &str, operation: &str) -> anyhow::Result<Self> {
        if wanted.connections == 0 || wanted.keys == 0 || wanted.rate.is_some_and(|rate| rate <= 0.0) {
            bail!("connections, keys and rate are more than 0");
        }
        let (keyspace, table) = crate::commands::admin::split(&wanted.table)?;
        let (method, body) = if operation == "put" { ("PUT", value(wanted.value_bytes)) } else { ("GET", Vec::new()) };
        let length = if operation == "put" { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
        let mut after_key = format!(" HTTP/1.1\r\nHost: {address}\r\n{length}\r\n").into_bytes();
        after_key.extend_from_slice(&body);
        Ok(Load {
            address: address.to_string(),
            before_key: format!("{method} /kv/{keyspace}/{table}/key-"),
            after_key,
            keys: wanted.keys,
            connections: wanted.connections,
            state: Rc::new(State::new(wanted.rate)?),
        })
    }

    /// Writes every key once, so that gets find something.
    async fn fill(wanted: &BenchHttp, address: &str) -> anyhow::Result<()> {
        let put = Load { state: Rc::new(State::new(None)?), ..Load::new(wanted, address, "put")? };
        put.state.until.set(now() + FILL_MAX);
        put.drive(Some(put.keys)).await?;
        if put.state.errors.get() > 0 || put.state.operations.get() < put.keys {
            bail!("{} of {} keys were written before the gets", put.state.operations.get(), put.keys);
        }
        Ok(())
    }

    /// Warms up, then measures for the span that was asked.
    async fn phase(&self, name: &str, wanted: &BenchHttp, pid: Option<u32>) -> anyhow::Result<Phase> {
        self.reset(WARM_UP);
        self.drive(None).await?;
        let accounts = |pid: Option<u32>| -> anyhow::Result<Option<Usage>> { pid.map(usage).transpose() };
        let (node_before, client_before) = (accounts(pid)?, usage(std::process::id())?);
        self.reset(wanted.span);
        let started = now();
        self.drive(None).await?;
        let wall = started.elapsed();
        let (node_after, client_after) = (accounts(pid)?, usage(std::process::id())?);
        let state = &self.state;
        Ok(Phase {
            name: name.to_string(),
            operations: state.operations.get(),
            errors: state.errors.get(),
            wall,
            latency: state.latency.borrow().clone(),
            node: node_before.zip(node_after),
            client: Some((client_before, client_after)),
        })
    }

    fn reset(&self, span: Duration) {
        let state = &self.state;
        state.start.set(now());
        state.until.set(now() + span);
        state.next.set(0);
        state.operations.set(0);
        state.errors.set(0);
        state.latency.borrow_mut().reset();
    }

    /// All connections until the time is up, or until `limit` requests were taken.
    async fn drive(&self, limit: Option<u64>) -> anyhow::Result<()> {
        let connections = (0..self.connections).map(|_| self.connection(limit));
        for ended in futures::future::join_all(connections).await {
            ended?;
        }
        Ok(())
    }

    async fn connection(&self, limit: Option<u64>) -> anyhow::Result<()> {
        let state = &self.state;
        let mut stream = TcpStream::connect(&self.address).await.context("the node does not take connections")?;
        stream.set_nodelay(true)?;
        let (mut request, mut answer) = (Vec::new(), Vec::with_capacity(16 << 10));
        loop {
            let number = state.next.get();
            if limit.is_some_and(|limit| number >= limit) || now() >= state.until.get() {
                return Ok(());
            }
            state.next.set(number + 1);
            let due = match state.every {
                None => now(),
                Some(every) => {
                    let due = state.start.get() + every.mul_f64(super::report::count(number));
                    if due >= state.until.get() {
                        return Ok(());
                    }
                    tokio::time::sleep_until(due.into()).await;
                    due
                }
            };
            // A bijective mix: keys in no order, each as often as the others; filling takes each once.
            let key = if limit.is_some() { number } else { number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11 };
            request.clear();
            request.extend_from_slice(self.before_key.as_bytes());
            request.extend_from_slice(format!("{:010}", key % self.keys).as_bytes());
            request.extend_from_slice(&self.after_key);
            stream.write_all(&request).await?;
            let status = read_answer(&mut stream, &mut answer).await?;
            if (200..300).contains(&status) {
                state.operations.set(state.operations.get() + 1);
                state.latency.borrow_mut().saturating_record(micros(due.elapsed()));
            } else {
                state.errors.set(state.errors.get() + 1);
            }
        }
    }
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

/// A value that compresses as text does: half of it repeats.
pub fn value(bytes: usize) -> Vec<u8> {
    use rand::{RngExt as _, SeedableRng as _};
    let mut random = rand::rngs::StdRng::seed_from_u64(1);
    (0..bytes).map(|place| if place % 2 == 0 { b'k' } else { random.random_range(b'a'..=b'z') }).collect()
}
