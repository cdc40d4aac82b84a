//! `kula cluster`: nodes on this machine, as `crate::cluster` runs them; here is what is printed.

use crate::{
    cli::{self, ClusterCommand, Global, Output},
    client::Failure,
    cluster::{Cluster, Done, Listed, Member, Up, Wish, log},
    exit::Verdict,
    print,
};
use serde_json::json;
use std::path::Path;

pub fn run(cluster: &cli::Cluster, global: &Global) -> Result<Verdict, Failure> {
    let directory = &cluster.dir;
    match &cluster.what {
        ClusterCommand::Up { nodes, base, set } => {
            let wish = Wish { nodes: *nodes, base: *base, set: set.clone() };
            let up = Cluster::make(directory, &wish)?.up()?;
            said_up(&up, global, || {
                println!("{}, data and logs in {}", ready(&up), directory.display());
                if !set.is_empty() && up.nodes.iter().any(|(_, done)| *done != Done::Started) {
                    println!("note: nodes that ran already keep their settings until they are started again");
                }
                println!("next: kula {}status", at(&up));
            });
        }
        ClusterCommand::Down { wipe } => down(directory, *wipe, global)?,
        ClusterCommand::Kill { nodes } => {
            let cluster = Cluster::open(directory)?;
            for member in named(&cluster, nodes)? {
                let word = if cluster.kill(member)? { "killed" } else { "was not running" };
                said(global, member, word);
            }
        }
        ClusterCommand::Start { nodes } => {
            let cluster = Cluster::open(directory)?;
            let up = cluster.start(&named(&cluster, nodes)?)?;
            said_up(&up, global, || println!("{}", ready(&up)));
        }
        ClusterCommand::Pause { nodes } => {
            let cluster = Cluster::open(directory)?;
            for member in named(&cluster, nodes)? {
                cluster.pause(member)?;
                said(global, member, "paused");
            }
        }
        ClusterCommand::Resume { nodes } => {
            let cluster = Cluster::open(directory)?;
            for member in named(&cluster, nodes)? {
                cluster.resume(member)?;
                said(global, member, "goes on");
            }
        }
        ClusterCommand::Logs { node, lines, event } => {
            let cluster = Cluster::open(directory)?;
            let mut log = cluster.log(cluster.member(node)?)?;
            if let Some(event) = event {
                log.retain(|line| log::event(line).as_ref() == Some(event));
            }
            for line in &log[log.len().saturating_sub(*lines)..] {
                match global.output {
                    Output::Json => println!("{line}"),
                    Output::Human => println!("{}", log::for_people(line)),
                }
            }
        }
        ClusterCommand::List => {
            let listed = Cluster::open(directory)?.list();
            match global.output {
                Output::Json => println!("{}", json!({ "nodes": listed.iter().map(as_json).collect::<Vec<_>>() })),
                Output::Human => println!("{}", list_page(&listed)),
            }
        }
    }
    Ok(Verdict::Ok)
}

fn down(directory: &Path, wipe: bool, global: &Global) -> Result<(), Failure> {
    let cluster = Cluster::open(directory)?;
    let ended = cluster.down()?;
    let removed = if wipe { Some(cluster.wipe()?) } else { None };
    if global.output == Output::Json {
        println!("{}", json!({ "ended": ended, "removed": removed.unwrap_or(false) }));
        return Ok(());
    }
    let stopped = if ended.is_empty() { "no node ran".to_string() } else { format!("stopped {}", ended.join(", ")) };
    let place = directory.display();
    match removed {
        None => println!("{stopped}; the data is in {place}"),
        Some(true) => println!("{stopped}; {place} is removed"),
        Some(false) => println!("{stopped}; the data is removed, {place} holds files that are not the cluster's"),
    }
    Ok(())
}

/// The members of these names; all names are looked at before anything happens to one.
fn named<'a>(cluster: &'a Cluster, names: &[String]) -> Result<Vec<&'a Member>, Failure> {
    names.iter().map(|name| cluster.member(name).map_err(Failure::from)).collect()
}

fn said(global: &Global, member: &Member, what: &str) {
    match global.output {
        Output::Json => println!("{}", json!({ "node": member.name, "done": what })),
        Output::Human => println!("{} {what}", member.name),
    }
}

fn said_up(up: &Up, global: &Global, ending: impl FnOnce()) {
    if global.output == Output::Json {
        let node =
            |(member, done): &(Member, Done)| json!({ "name": member.name, "at": member.url(), "done": word(*done) });
        println!(
            "{}",
            json!({ "nodes": up.nodes.iter().map(node).collect::<Vec<_>>(), "ready_ms": up.took.as_millis() })
        );
        return;
    }
    for (member, done) in &up.nodes {
        println!("{}  {}  {}", member.name, member.url(), word(*done));
    }
    ending();
}

fn ready(up: &Up) -> String {
    let nodes = match up.nodes.as_slice() {
        [(member, _)] => format!("{} is", member.name),
        several => format!("{} nodes are", several.len()),
    };
    format!("{nodes} ready after {}", print::micros(u64::try_from(up.took.as_micros()).unwrap_or(u64::MAX)))
}

/// What later commands say to find a node of this cluster; nothing if one listens where they look first.
fn at(up: &Up) -> String {
    let is_default = |(member, _): &(Member, Done)| member.url() == cli::AT;
    match up.nodes.first() {
        Some((member, _)) if !up.nodes.iter().any(is_default) => format!("--at {} ", member.url()),
        _ => String::new(),
    }
}

const fn word(done: Done) -> &'static str {
    match done {
        Done::Started => "started",
        Done::RanAlready => "runs already",
        Done::WasPaused => "was paused, goes on",
    }
}

fn as_json(listed: &Listed) -> serde_json::Value {
    let member = &listed.member;
    json!({
        "name": member.name, "address": member.http.ip(), "at": member.url(), "peer": member.peer, "pid": listed.pid,
        "state": listed.state.name(), "ready": listed.ready,
    })
}

fn list_page(listed: &[Listed]) -> String {
    let row = |listed: &Listed| {
        let pid = listed.pid.map_or("-".into(), |pid| pid.to_string());
        let ready = if listed.ready { "yes" } else { "no" };
        let member = &listed.member;
        vec![member.name.clone(), member.url(), member.peer.to_string(), pid, listed.state.name().into(), ready.into()]
    };
    print::table(&["NODE", "HTTP", "PEER", "PID", "STATE", "READY"], listed.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::State;

    #[test]
    fn a_list_says_address_process_state_and_readiness() {
        let listed = |number: u8, state, pid, ready| Listed {
            member: Member {
                name: format!("n{number}"),
                http: ([127, 0, 0, number], 7080).into(),
                peer: ([127, 0, 0, number], 7000).into(),
                directory: "/c".into(),
            },
            state,
            pid,
            ready,
        };
        let all = [
            listed(1, State::Running, Some(4711), true),
            listed(2, State::Paused, Some(12), false),
            listed(3, State::Dead, None, false),
        ];
        insta::assert_snapshot!(list_page(&all));
        insta::assert_snapshot!(all.iter().map(|one| as_json(one).to_string()).collect::<Vec<_>>().join("\n"));
    }
}
