//! A cluster of real processes, from nothing: how soon it is ready, what it weighs, what it does, and how soon a node that
//! was killed is seen down by the others.

use super::{
    http::nodes_word,
    load::{Load, Mix, Shape, make_table},
    meter::usage,
    own_node::directory,
    report::{Phase, micros, page, write},
};
use crate::{
    cli::{BenchCluster, Global, Launched},
    client::Client,
    cluster::{Cluster, ClusterError, Member, Up, Wish, client, state_of},
    print,
    stopwatch::now,
};
use anyhow::{Context, ensure};
use serde_json::json;
use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

/// After a start, before the memory is read: what start-up needed has been given back.
const SETTLE: Duration = Duration::from_secs(2);
/// The longest that a dead node may go unseen before the bench gives up.
const SEEN_DOWN_MAX: Duration = Duration::from_secs(120);
/// Between two looks at what a node sees.
const LOOK_EVERY: Duration = Duration::from_millis(10);

pub fn run(wanted: &BenchCluster, global: &Global) -> anyhow::Result<()> {
    let (own, up) = OwnCluster::start(wanted)?;
    let ready = up.took;
    std::thread::sleep(SETTLE);
    let pids = own.pids();
    let idle = pids.iter().map(|&pid| Ok(usage(pid)?.resident_bytes)).collect::<anyhow::Result<Vec<u64>>>()?;
    let members = own.members();
    let nodes: Vec<String> = members.iter().map(Member::url).collect();
    make_table(&nodes[0], &wanted.table, global)?;
    let load = Load::new(&Shape {
        nodes,
        table: wanted.table.clone(),
        consistency: wanted.consistency.clone(),
        connections: wanted.connections,
        keys: wanted.keys,
        value_bytes: wanted.value_bytes,
        rate: None,
    })?;
    let phases = phases(&load, wanted.span, &pids)?;
    let resident = pids.iter().map(|&pid| Ok(usage(pid)?.resident_bytes)).collect::<anyhow::Result<Vec<u64>>>()?;
    let seen_down = if members.len() > 1 { Some(own.kill_the_last()?) } else { None };

    let title = format!(
        "{}, {} connections, {} B values, {} keys in {}, {}, closed loop",
        nodes_word(wanted.nodes),
        wanted.connections,
        wanted.value_bytes,
        wanted.keys,
        wanted.table,
        wanted.consistency.to_ascii_uppercase()
    );
    println!("{title}\n{}", page(&phases));
    println!("ready, every node seen up by every other: {}", print::micros(micros(ready)));
    println!("memory of a node, idle: {}", bytes(&idle));
    println!("memory of a node, after the load: {}", bytes(&resident));
    if let Some(seen) = seen_down {
        println!(
            "after kill -9: not up for the first other node after {}, down for every other node after {}",
            print::micros(micros(seen.first_not_up)),
            print::micros(micros(seen.down))
        );
    }
    let figures = json!({
        "title": title, "nodes": wanted.nodes, "ready_us": micros(ready),
        "idle_resident_bytes": idle, "resident_bytes": resident,
        "phases": phases.iter().map(Phase::json).collect::<Vec<_>>(),
        "killed_not_up_us": seen_down.map(|seen| micros(seen.first_not_up)),
        "killed_down_us": seen_down.map(|seen| micros(seen.down)),
    });
    write(&figures, wanted.json.as_deref())
}

fn phases(load: &Load, span: Duration, pids: &[u32]) -> anyhow::Result<Vec<Phase>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let put = load.phase(Mix::Put, span, pids).await?;
        load.fill().await?;
        let get = load.phase(Mix::Get, span, pids).await?;
        let mixed = load.phase(Mix::Mixed, span, pids).await?;
        Ok(vec![put, get, mixed])
    })
}

fn bytes(each: &[u64]) -> String {
    each.iter().map(|&count| print::bytes(count)).collect::<Vec<_>>().join(", ")
}

/// How long after its death a node was seen dead.
#[derive(Clone, Copy)]
struct SeenDown {
    first_not_up: Duration,
    down: Duration,
}

/// A cluster that goes with the bench, whatever becomes of it.
struct OwnCluster {
    /// `None` only while it is taken away.
    cluster: Option<Cluster>,
}

impl OwnCluster {
    fn start(wanted: &BenchCluster) -> anyhow::Result<(Self, Up)> {
        let first = u8::try_from(std::process::id() % 250).unwrap_or(0);
        let mut refused = None;
        // Other clusters of a bench, or anything else, may stand on some of these addresses.
        for step in 0..8u8 {
            let base = Ipv4Addr::new(127, 9, first.wrapping_add(step.wrapping_mul(31)), 0);
            let own = OwnCluster::at(directory(), base, wanted)?;
            match own.cluster.as_ref().context("it was just made")?.up() {
                Ok(up) => return Ok((own, up)),
                Err(error @ ClusterError::PortInUse { .. }) => refused = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        Err(refused.map_or_else(|| anyhow::anyhow!("no address is free"), anyhow::Error::from))
    }

    fn at(directory: PathBuf, base: Ipv4Addr, wanted: &BenchCluster) -> Result<Self, ClusterError> {
        let mut set = vec!["log.level=warning".to_string(), "log.mailbox_every=0s".to_string()];
        set.extend(wanted.set.iter().cloned());
        let wish = Wish { nodes: Some(wanted.nodes), base: Some(base), set };
        Ok(OwnCluster { cluster: Some(Cluster::make(&directory, &wish)?.launched(Launched::WithParent)) })
    }

    fn members(&self) -> Vec<Member> {
        self.cluster.as_ref().map_or(Vec::new(), |cluster| cluster.members().to_vec())
    }

    fn pids(&self) -> Vec<u32> {
        let listed = self.cluster.as_ref().map_or(Vec::new(), Cluster::list);
        listed.iter().filter_map(|listed| u32::try_from(listed.pid?).ok()).collect()
    }

    /// Kills the last node and watches the others until each sees it down.
    fn kill_the_last(&self) -> anyhow::Result<SeenDown> {
        let members = self.members();
        let (last, others) = members.split_last().context("a cluster has nodes")?;
        let clients: Vec<Client> = others.iter().map(client).collect();
        self.cluster.as_ref().context("the cluster runs")?.kill(last)?;
        let began = now();
        let (mut first_not_up, mut down) = (None, vec![None; clients.len()]);
        while down.contains(&None) {
            for (seen, client) in down.iter_mut().zip(&clients).filter(|(seen, _)| seen.is_none()) {
                let state = state_of(client, &last.name);
                if state.as_deref().is_some_and(|state| state != "up") {
                    first_not_up.get_or_insert_with(|| began.elapsed());
                }
                *seen = (state.as_deref() == Some("down")).then(|| began.elapsed());
            }
            ensure!(began.elapsed() < SEEN_DOWN_MAX, "{} is dead, and not all others saw it down", last.name);
            std::thread::sleep(LOOK_EVERY);
        }
        let down = down.into_iter().flatten().max().unwrap_or_default();
        Ok(SeenDown { first_not_up: first_not_up.unwrap_or(down), down })
    }
}

impl Drop for OwnCluster {
    fn drop(&mut self) {
        let Some(cluster) = self.cluster.take() else { return };
        // The directory goes too, so nothing is owed to the nodes: SIGKILL. It may fail only if they are gone already.
        for member in cluster.members() {
            cluster.kill(member).ok();
        }
        cluster.wipe().ok();
    }
}
