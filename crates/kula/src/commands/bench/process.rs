//! Durable puts through the coordinators of a node in this process: what the store costs without a front door.

use super::{
    meter::usage,
    own_node::{directory, remove},
    report::{Phase, histogram, micros, show},
};
use crate::{cli::BenchProcess, stopwatch::now};
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use kula_actor::Reply;
use kula_coordinator::{Change, Coordinators, Target, Write};
use kula_node::{
    StartOptions, World,
    config::{Layers, load},
};
use kula_types::{Consistency, Mono, PartitionKey};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    path::Path,
    time::Duration,
};

/// The longest a write may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before the measured span.
const WARM_UP: Duration = Duration::from_secs(1);

pub fn run(wanted: &BenchProcess) -> anyhow::Result<()> {
    ensure!(wanted.writers > 0, "--writers is at least 1");
    let directory = directory();
    let measured = actix_rt::System::new().block_on(measure(wanted, &directory));
    remove(&directory);
    let title = format!("in process, {} writers, {} B values, LWW, durable", wanted.writers, wanted.value_bytes);
    show(&title, &[measured?], wanted.json.as_deref())
}

async fn measure(wanted: &BenchProcess, directory: &Path) -> anyhow::Result<Phase> {
    let data = directory.display().to_string();
    let flags = vec![
        ("node.data".to_string(), data),
        ("listen.peer".to_string(), "0".to_string()),
        ("log.mailbox_every".to_string(), "0s".to_string()),
    ];
    let loaded = load(&Layers { flags, ..Layers::default() }).map_err(anyhow::Error::msg)?;
    let log = slog::Logger::root(slog::Discard, slog::o!());
    let world = World::system(&loaded.config)?;
    let assembled = kula_node::assemble(&loaded, &StartOptions::default(), world, &log).await?;
    let (coordinators, clock, operator) =
        (assembled.coordinators.clone(), assembled.clock.clone(), assembled.operator.clone());
    let mut phase = None;
    let work = async {
        let result = async {
            make_table(&operator).await?;
            load_for(&coordinators, &*clock, wanted, WARM_UP).await?;
            load_for(&coordinators, &*clock, wanted, wanted.span).await
        };
        phase = Some(result.await);
    };
    assembled.supervise(|| (), work).await.context("the node ended")?;
    phase.context("the node ended before the bench")?
}

async fn make_table(operator: &kula_operator::Operator) -> anyhow::Result<()> {
    let patience = PATIENCE;
    let keyspace = serde_json::from_value(serde_json::json!({ "name": "bench" }))?;
    operator.create_keyspace(keyspace, patience).await.map_err(anyhow::Error::msg)?;
    let table = serde_json::from_value(serde_json::json!({ "name": "lww", "kind": "lww" }))?;
    operator.create_table("bench", table, patience).await.map_err(anyhow::Error::msg)?;
    Ok(())
}

async fn load_for(
    coordinators: &Coordinators,
    clock: &dyn kula_clock::Clock,
    wanted: &BenchProcess,
    span: Duration,
) -> anyhow::Result<Phase> {
    let before = usage(std::process::id())?;
    let began = now();
    let value = Bytes::from(super::load::value(wanted.value_bytes));
    let (next, latency, errors) = (Cell::new(0u64), RefCell::new(histogram()?), Cell::new(0u64));
    let writer = || async {
        while began.elapsed() < span {
            let number = next.get();
            next.set(number + 1);
            let sent = now();
            let (reply, pending) = Reply::pair();
            coordinators.write(Write {
                target: Target {
                    keyspace: "bench".into(),
                    table: "lww".into(),
                    key: PartitionKey::copy_from(format!("key-{number:010}").as_bytes()),
                },
                change: Change::Put { value: value.clone(), content_type: None },
                context: None,
                timestamp: None,
                ttl: None,
                idempotency_key: None,
                consistency: Consistency::Quorum,
                deadline: Mono(clock.mono().0 + PATIENCE),
                reply,
            });
            match pending.await {
                Ok(Ok(_)) => latency.borrow_mut().saturating_record(micros(sent.elapsed())),
                Ok(Err(_)) | Err(_) => errors.set(errors.get() + 1),
            }
        }
    };
    futures::future::join_all((0..wanted.writers).map(|_| writer())).await;
    let wall = began.elapsed();
    if errors.get() > 0 {
        bail!("{} writes failed", errors.get());
    }
    let latency = latency.into_inner();
    Ok(Phase {
        name: "put".into(),
        operations: latency.len(),
        errors: BTreeMap::new(),
        wall,
        latency,
        node: Some((before, usage(std::process::id())?)),
        client: None,
    })
}
