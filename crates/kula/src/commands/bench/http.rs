//! Puts and gets over HTTP against a node of the bench's own, or against nodes that run.

use super::{
    load::{Load, Mix, Shape, make_table},
    own_node::{OwnNode, directory},
    report::show,
};
use crate::cli::{BenchHttp, Global};
use anyhow::bail;

pub fn run(wanted: &BenchHttp, global: &Global) -> anyhow::Result<()> {
    let mixes: &[Mix] = match wanted.operation.as_str() {
        "put" => &[Mix::Put],
        "get" => &[Mix::Get],
        "mixed" => &[Mix::Mixed],
        "both" => &[Mix::Put, Mix::Get],
        other => bail!("--operation is put, get, mixed or both, not {other:?}"),
    };
    let own = if wanted.nodes.is_empty() { Some(OwnNode::start(directory())?) } else { None };
    let nodes = own.as_ref().map_or_else(|| wanted.nodes.clone(), |own| vec![own.at.clone()]);
    make_table(&nodes[0], &wanted.table, global)?;
    let load = Load::new(&Shape {
        nodes,
        table: wanted.table.clone(),
        consistency: wanted.consistency.clone(),
        connections: wanted.connections,
        keys: wanted.keys,
        value_bytes: wanted.value_bytes,
        rate: wanted.rate,
    })?;
    let pids: Vec<u32> = own.iter().map(OwnNode::pid).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut phases = Vec::new();
    for &mix in mixes {
        if mix != Mix::Put {
            runtime.block_on(load.fill())?;
        }
        phases.push(runtime.block_on(load.phase(mix, wanted.span, &pids))?);
    }
    let kind = wanted.rate.map_or("closed loop".to_string(), |rate| format!("open loop at {rate}/s"));
    let title = format!(
        "HTTP, {}, {} connections, {} B values, {} keys in {}, {}, {kind}",
        nodes_word(u32::try_from(wanted.nodes.len().max(1))?),
        wanted.connections,
        wanted.value_bytes,
        wanted.keys,
        wanted.table,
        wanted.consistency.to_ascii_uppercase(),
    );
    show(&title, &phases, wanted.json.as_deref())
}

/// `1 node`, `3 nodes`.
pub fn nodes_word(count: u32) -> String {
    format!("{count} node{}", if count == 1 { "" } else { "s" })
}
