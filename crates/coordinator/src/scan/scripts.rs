//! Runs `testdata/scan_*.txt`: what happens to a scan in, every effect out, blessed snapshots beside.
//!
//! Three replicas n1 to n3; the coordinator stands on n1; the table is `kv.lww`. Lines:
//! ```text
//! ring N [nodes=N] [rf=N]         what the coordinator knows from now on
//! knows nX N                      which ring a replica knows
//! hold nX.. KEY=VALUE@TIME..      what replicas hold; KEY-@TIME: a delete
//! short nX N                      its pages have at most N partitions
//! down nX | up nX | suspect nX    no way to it; a way again; gossip suspects it
//! list [limit=N] [after=KEY] [c=LEVEL]
//! serve nX..                      the oldest waiting question is served and answered
//! lose nX | swallow nX            it is lost; no answer ever comes
//! refuse nX overloaded|damaged|dropped
//! wait MS                         time passes; the machine wakes if it asked to
//! ```

use super::run::Place;
use crate::{
    error::CoordinatorError,
    fixture::{Coordinator, Double, Sent, answered, by_name, delete, list, node, option, put, refusal, ring},
    machine::{Answered, Effect, Event},
    messages::{Found, ReplicaReport},
};
use kula_lattice::{Join, Mutation};
use kula_placement::ReadRepair;
use kula_replica::Op;
use kula_types::{NodeId, PartitionKey, Timestamp, Token};
use std::{collections::BTreeMap, fmt::Write, time::Duration};

struct Script {
    coordinator: Coordinator,
    writer: Coordinator,
    replicas: BTreeMap<NodeId, Double>,
    waiting: Vec<Sent>,
    out: String,
}

fn check(script: &str, text: &str) {
    let coordinator = || Coordinator::new(1, 0xa, 0, ring(1, 3, 3, ReadRepair::Blocking));
    let replicas = (1..=3).map(|index| (node(index), Double::default())).collect();
    let mut run =
        Script { coordinator: coordinator(), writer: coordinator(), replicas, waiting: Vec::new(), out: String::new() };
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        writeln!(run.out, "{line}").unwrap();
        if !line.starts_with('#') {
            run.line(&line.split_whitespace().collect::<Vec<_>>());
        }
    }
    insta::assert_snapshot!(script, run.out);
}

impl Script {
    fn line(&mut self, words: &[&str]) {
        match words {
            ["ring", version, rest @ ..] => {
                let number = |name, default: u32| option(rest, name).map_or(default, |text| text.parse().unwrap());
                let nodes = usize::try_from(number("nodes", 3)).unwrap();
                let ring = ring(version.parse().unwrap(), nodes, number("rf", 3), ReadRepair::Blocking);
                (self.coordinator.ring, self.writer.ring) = (ring.clone(), ring);
            }
            ["knows", replica, version] => self.replica(replica).ring_version = Some(version.parse().unwrap()),
            ["short", replica, length] => self.replica(replica).page_max = Some(length.parse().unwrap()),
            ["hold", words @ ..] => {
                let names = words.iter().take_while(|word| !word.contains('@'));
                let names: Vec<&str> = names.copied().collect();
                for write in &words[names.len()..] {
                    names.iter().for_each(|name| self.hold(name, write));
                }
            }
            ["down", replica] => drop(self.coordinator.unreachable.insert(by_name(replica))),
            ["up", replica] => drop(self.coordinator.unreachable.remove(&by_name(replica))),
            ["suspect", replica] => {
                let effects = self.coordinator.step(Event::Suspected { node: by_name(replica) });
                self.effects(effects);
            }
            ["list", rest @ ..] => {
                let mut scan = list("lww", option(rest, "limit").map_or(100, |limit| limit.parse().unwrap()));
                scan.after = option(rest, "after").map(|key| PartitionKey::copy_from(key.as_bytes()));
                scan.consistency = option(rest, "c").map_or(scan.consistency, |level| level.parse().unwrap());
                let (_, effects) = self.coordinator.scan(scan);
                self.effects(effects);
            }
            ["serve", replicas @ ..] => {
                for replica in replicas {
                    let sent = self.next(replica);
                    let answer = answered(self.replica(replica).serve(sent.fence, &sent.op));
                    self.replied(&sent, answer);
                }
            }
            ["lose", replica] => {
                let sent = self.next(replica);
                self.replied(&sent, Answered::Lost);
            }
            ["swallow", replica] => drop(self.next(replica)),
            ["refuse", replica, word] => {
                let sent = self.next(replica);
                self.replied(&sent, Answered::Refused(refusal(word)));
            }
            ["wait", millis] => {
                self.coordinator.advance(Duration::from_millis(millis.parse().unwrap()));
                let effects = self.coordinator.wake();
                self.effects(effects);
            }
            _ => panic!("no such line: {words:?}"),
        }
    }

    fn hold(&mut self, replica: &str, write: &str) {
        let (what, at) = write.split_once('@').unwrap();
        let mut write = match what.split_once('=') {
            Some((key, value)) => put("lww", key, value),
            None => delete("lww", what.strip_suffix('-').unwrap()),
        };
        write.timestamp = Some(Timestamp::from_micros(at.parse().unwrap()).unwrap());
        let (_, effects) = self.writer.write(write);
        let mutation = effects.into_iter().find_map(|effect| match effect {
            Effect::Send { op: Op::Apply { mutation, .. }, .. } => Some(Mutation::decode(&mutation).unwrap()),
            _ => None,
        });
        let Mutation { table, key, delta, .. } = mutation.unwrap();
        self.replica(replica).partitions.entry((table, key)).or_default().join(delta);
    }

    fn replica(&mut self, name: &str) -> &mut Double {
        self.replicas.entry(by_name(name)).or_default()
    }

    fn next(&mut self, replica: &str) -> Sent {
        let to = by_name(replica);
        let at = self.waiting.iter().position(|sent| sent.to == to);
        self.waiting.remove(at.unwrap_or_else(|| panic!("nothing waits at {replica}\n{}", self.out)))
    }

    fn replied(&mut self, sent: &Sent, answer: Answered) {
        let effects = self.coordinator.step(Event::Replied { tag: sent.tag, answer });
        self.effects(effects);
    }

    fn effects(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let line = match effect {
                Effect::Send { to, tag, fence, op, .. } => {
                    let Op::ReadRange { after, through, partitions_max, bytes_max, .. } = &op else {
                        panic!("a scan only reads: {op:?}")
                    };
                    let through = if *through == Token::MAX { "the end".into() } else { through.to_string() };
                    let line = format!(
                        "→ {} behind {} through {through}: {partitions_max} partitions, {bytes_max} bytes, ring {}",
                        self.name_of(to),
                        show_place(after),
                        fence.ring_version
                    );
                    self.waiting.push(Sent { to, tag, fence, op });
                    line
                }
                Effect::AnswerScan { answer: Ok(page), .. } => {
                    let show = |entry: &super::ScanEntry| format!("{}={}", text(&entry.key), show_found(&entry.found));
                    let entries: Vec<String> = page.entries.iter().map(show).collect();
                    let next = page.next.as_ref().map_or("end".into(), |key| format!("more behind {}", text(key)));
                    format!("= {} | {next}", entries.join(" "))
                }
                Effect::AnswerScan { answer: Err(error), .. } => format!("= {}", show_error(&error)),
                Effect::PullRing { from } => format!("pull the ring from {}", self.name_of(from)),
                Effect::OtherRing => continue,
                Effect::Hedged => "hedge".into(),
                Effect::Late => "late".into(),
                other => format!("{other:?}"),
            };
            writeln!(self.out, "  {line}").unwrap();
        }
    }

    fn name_of(&self, node: NodeId) -> String {
        self.coordinator.ring.node(node).map_or_else(|| node.to_string(), |node| node.name.clone())
    }
}

fn text(key: &PartitionKey) -> String {
    String::from_utf8_lossy(key.as_bytes()).into_owned()
}

fn show_place((token, key): &Place) -> String {
    match key.as_bytes() {
        b"" if *token == Token::MIN => "the start".into(),
        b"" => format!("all before {token}"),
        _ => text(key),
    }
}

fn show_found(found: &Found) -> String {
    match found {
        Found::One(value) => String::from_utf8_lossy(&value.value).into_owned(),
        other => format!("{other:?}"),
    }
}

fn show_error(error: &CoordinatorError) -> String {
    let reports = |replicas: &[ReplicaReport]| {
        let show = |report: &ReplicaReport| format!("{} {:?}", report.name, report.outcome);
        replicas.iter().map(show).collect::<Vec<_>>().join(", ")
    };
    match error {
        CoordinatorError::Unavailable { replicas, .. }
        | CoordinatorError::Timeout { replicas, .. }
        | CoordinatorError::Damaged { replicas, .. } => format!("{error} [{}]", reports(replicas)),
        error => error.to_string(),
    }
}

macro_rules! scripts {
    ($($script:ident),+ $(,)?) => {$(
        #[test]
        fn $script() {
            check(stringify!($script), include_str!(concat!("../../testdata/", stringify!($script), ".txt")));
        }
    )+};
}

scripts!(scan_pages, scan_differs, scan_failures, scan_hedges, scan_other_ring, scan_runs);
