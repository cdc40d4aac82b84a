//! Runs `testdata/*.txt`: what happens in, every effect out, blessed snapshots beside.
//!
//! Three replicas n1 to n3; the coordinator stands on n1. A send waits at its node until the script says what becomes of
//! it. Lines:
//! ```text
//! ring N [rf=N] [repair=blocking|background|off] [nodes=N] [hints=off]
//!                                                             what the coordinator knows from now on (version N)
//! knows nX N                                                  what a replica knows
//! down nX | up nX                                             no way to it, for what begins from now on
//! drop lww                                                    this node hears that its table `lww` is gone
//! suspect nX                                                  gossip suspects it from now on
//! put AS TABLE KEY VALUE [c=LEVEL] [context=AS] [ts=N] [ttl=S] [op=KEY]
//! del AS TABLE KEY [..]           get AS TABLE KEY [c=LEVEL] [lww]
//! serve nX..                      the oldest waiting send is served and answered
//! apply nX                        it is served, its answer is lost
//! lose nX                         it is lost
//! swallow nX                      it is forgotten: no answer ever comes
//! refuse nX full|wrote|cap|overloaded|ahead|closed|damaged|unknown|dropped|gone
//! keep nX.. | keep nX busy | keep nX no                       the oldest hint asked for nX is durable, found no room, is not kept
//! wait MS                         time passes; the machine wakes if it asked to
//! show nX TABLE KEY               what that replica holds
//! ```

use crate::{
    error::CoordinatorError,
    fixture::{
        Coordinator, Double, Sent, answered, by_name, delete, get, node, option, put, refusal, ring,
        ring_without_hints, target,
    },
    machine::{Answered, Effect, Event, HintAnswer, Tag},
    messages::{Found, ReplicaOutcome, ReplicaReport, Value, Write},
};
use bytes::Bytes;
use kula_actor::Reply;
use kula_lattice::{Body, Cell, Context, ContextKey, Mutation, Partition};
use kula_placement::ReadRepair;
use kula_replica::{Answer, Op, Origin};
use kula_schema::Schema;
use kula_types::{NodeId, TableId, Timestamp};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex},
    time::Duration,
};

struct Script {
    coordinator: Coordinator,
    replicas: BTreeMap<NodeId, Double>,
    waiting: Vec<Sent>,
    hints: Vec<(u64, NodeId)>,
    names: BTreeMap<u64, String>,
    contexts: BTreeMap<String, String>,
    /// Whose reply was sent last.
    answered: Arc<Mutex<String>>,
    out: String,
}

fn check(script: &str, text: &str) {
    let mut run = Script {
        coordinator: Coordinator::new(1, 0xa, 0, ring(1, 3, 3, ReadRepair::Blocking)),
        replicas: (1..=3).map(|index| (node(index), Double::default())).collect(),
        waiting: Vec::new(),
        hints: Vec::new(),
        names: BTreeMap::new(),
        contexts: BTreeMap::new(),
        answered: Arc::default(),
        out: String::new(),
    };
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
                let repair = option(rest, "repair").map_or(ReadRepair::Blocking, |word| word.parse().unwrap());
                let nodes = usize::try_from(number("nodes", 3)).unwrap();
                let version = version.parse().unwrap();
                self.coordinator.ring = match option(rest, "hints") {
                    Some("off") => ring_without_hints(version, nodes, number("rf", 3), repair),
                    _ => ring(version, nodes, number("rf", 3), repair),
                };
            }
            ["knows", replica, version] => {
                self.replica(replica).ring_version = Some(version.parse().unwrap());
            }
            ["down", replica] => drop(self.coordinator.unreachable.insert(by_name(replica))),
            ["up", replica] => drop(self.coordinator.unreachable.remove(&by_name(replica))),
            ["drop", "lww"] => self.coordinator.schema = Schema::first(),
            ["suspect", replica] => {
                self.coordinator.unreachable.insert(by_name(replica));
                let effects = self.coordinator.step(Event::Suspected { node: by_name(replica) });
                self.effects(effects);
            }
            ["keep", replica, "busy"] => self.hinted(replica, HintAnswer::Busy),
            ["keep", replica, "no"] => self.hinted(replica, HintAnswer::NotKept),
            ["keep", replicas @ ..] => replicas.iter().for_each(|replica| self.hinted(replica, HintAnswer::Kept)),
            ["put", name, table, key, value, rest @ ..] => self.write(name, put(table, key, value), rest),
            ["del", name, table, key, rest @ ..] => self.write(name, delete(table, key), rest),
            ["get", name, table, key, rest @ ..] => {
                let mut read = get(table, key);
                read.consistency = option(rest, "c").map_or(read.consistency, |level| level.parse().unwrap());
                read.resolve_lww = rest.contains(&"lww");
                read.reply = self.reply(name);
                let (request, effects) = self.coordinator.read(read);
                self.begun(name, request, effects);
            }
            ["serve", replicas @ ..] => {
                for replica in replicas {
                    let sent = self.next(replica);
                    let answer = answered(self.replica(replica).serve(sent.fence, &sent.op));
                    self.replied(sent.tag, answer);
                }
            }
            ["apply", replica] => {
                let sent = self.next(replica);
                self.replica(replica).serve(sent.fence, &sent.op).unwrap();
                self.replied(sent.tag, Answered::Lost);
            }
            ["lose", replica] => {
                let tag = self.next(replica).tag;
                self.replied(tag, Answered::Lost);
            }
            ["swallow", replica] => drop(self.next(replica)),
            ["refuse", replica, word] => {
                let tag = self.next(replica).tag;
                self.replied(tag, Answered::Refused(refusal(word)));
            }
            ["wait", millis] => {
                self.coordinator.advance(Duration::from_millis(millis.parse().unwrap()));
                let effects = self.coordinator.wake();
                self.effects(effects);
            }
            ["show", replica, table, key] => {
                let target = target(table, key);
                let id = self.coordinator.schema.resolve("kv", table).unwrap().id;
                let held = self.replica(replica).partitions.get(&(id, target.key)).map(show_partition);
                writeln!(self.out, "  {replica} holds {}", held.unwrap_or_default()).unwrap();
            }
            _ => panic!("no such line: {words:?}"),
        }
    }

    fn write(&mut self, name: &str, mut write: Write, rest: &[&str]) {
        write.consistency = option(rest, "c").map_or(write.consistency, |level| level.parse().unwrap());
        write.context =
            option(rest, "context").map(|of| self.contexts.get(of).cloned().unwrap_or_else(|| of.to_string()));
        write.timestamp = option(rest, "ts").map(|ts| Timestamp::from_micros(ts.parse().unwrap()).unwrap());
        write.ttl = option(rest, "ttl").map(|seconds| Duration::from_secs(seconds.parse().unwrap()));
        write.idempotency_key = option(rest, "op").map(|key| Bytes::copy_from_slice(key.as_bytes()));
        write.reply = self.reply(name);
        let (request, effects) = self.coordinator.write(write);
        self.begun(name, request, effects);
    }

    fn begun(&mut self, name: &str, request: u64, effects: Vec<Effect>) {
        self.names.insert(request, name.to_string());
        self.effects(effects);
    }

    /// Notes whose it is when it is answered, or dropped.
    fn reply<T: Send + 'static>(&self, name: &str) -> Reply<T> {
        let (answered, name) = (Arc::clone(&self.answered), name.to_string());
        Reply::new(move |_| *answered.lock().unwrap() = name)
    }

    fn replica(&mut self, name: &str) -> &mut Double {
        self.replicas.get_mut(&by_name(name)).unwrap()
    }

    fn next(&mut self, replica: &str) -> Sent {
        let to = by_name(replica);
        let at = self.waiting.iter().position(|sent| sent.to == to);
        self.waiting.remove(at.unwrap_or_else(|| panic!("nothing waits at {replica}\n{}", self.out)))
    }

    fn hinted(&mut self, replica: &str, answer: HintAnswer) {
        let target = by_name(replica);
        let at = self.hints.iter().position(|(_, asked)| *asked == target);
        let (request, _) = self.hints.remove(at.unwrap_or_else(|| panic!("no hint for {replica}\n{}", self.out)));
        let effects = self.coordinator.step(Event::Hinted { request, target, answer });
        self.effects(effects);
    }

    fn replied(&mut self, tag: Tag, answer: Answered) {
        let effects = self.coordinator.step(Event::Replied { tag, answer });
        self.effects(effects);
    }

    fn effects(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let line = match effect {
                Effect::Send { to, tag, fence, deadline: _, token: _, op } => {
                    let name = &self.names[&tag.request];
                    let line = format!("{name} → {} {}", self.name_of(to), show_op(&op));
                    let line =
                        if fence.ring_version == 1 { line } else { format!("{line} ring {}", fence.ring_version) };
                    self.waiting.push(Sent { to, tag, fence, op });
                    line
                }
                Effect::AnswerWrite { answer, reply, .. } => {
                    drop(reply);
                    let name = self.answered.lock().unwrap().clone();
                    match answer {
                        Ok(answer) => {
                            let context = answer.context.map(|token| self.context(&name, token)).unwrap_or_default();
                            let replicas = show_reports(&answer.replicas);
                            let hinted = match answer.hinted {
                                0 => String::new(),
                                hinted => format!(" hinted {hinted}"),
                            };
                            format!("{name} = ok {}/{}{hinted}{context} [{replicas}]", answer.acked, answer.rf)
                        }
                        Err(error) => format!("{name} = {}", self.show_error(&name, error)),
                    }
                }
                Effect::AnswerRead { answer, reply, .. } => {
                    drop(reply);
                    let name = self.answered.lock().unwrap().clone();
                    match answer {
                        Ok(answer) => {
                            let context = answer.context.map(|token| self.context(&name, token)).unwrap_or_default();
                            let etag = answer.etag.map(|etag| format!(" etag ..{}", &etag[32..])).unwrap_or_default();
                            let replicas = show_reports(&answer.replicas);
                            let (found, acked, rf) = (show_found(&answer.found), answer.acked, answer.rf);
                            format!("{name} = {found} {acked}/{rf}{context}{etag} [{replicas}]")
                        }
                        Err(error) => format!("{name} = {}", self.show_error(&name, error)),
                    }
                }
                Effect::ManySiblings { values, say, .. } => {
                    format!("{values} siblings{}", if say { ": say so" } else { "" })
                }
                Effect::StoreHint { request, target, mutation, .. } => {
                    let mid = Mutation::decode(&mutation).unwrap().mid;
                    let line = format!("{} hint for {} {mid:?}", self.names[&request], self.name_of(target));
                    self.hints.push((request, target));
                    line
                }
                Effect::AnswerScan { .. } => unreachable!("scans have scripts of their own"),
                // Somebody was just made to say so.
                Effect::Hinted(_) => continue,
                Effect::PullRing { from } => format!("pull the ring from {}", self.name_of(from)),
                Effect::OtherRing => continue,
                Effect::Hedged => "hedge".into(),
                Effect::CrowdedOut => "crowded out".into(),
                Effect::Repaired => "repaired".into(),
                Effect::Late => "late".into(),
            };
            writeln!(self.out, "  {line}").unwrap();
        }
    }

    fn name_of(&self, node: NodeId) -> String {
        self.coordinator.ring.node(node).map_or_else(|| node.to_string(), |node| node.name.clone())
    }

    /// Remembers a token and shows what is in it.
    fn context(&mut self, name: &str, token: String) -> String {
        let keys = [ContextKey { id: 1, secret: [7; 32] }];
        let opened = |table: TableId| {
            let keys_of_scripts = ["k", "q"].map(|key| target("", key).key);
            keys_of_scripts.iter().find_map(|key| Context::open(&token, table, key, &keys).ok())
        };
        let context = self.coordinator.schema.tables().find_map(|table| opened(table.id)).unwrap();
        self.contexts.insert(name.to_string(), token);
        let dots = context.dots.iter().map(|(dot, prev)| format!("({prev}, {dot:?}]"));
        let lww = context.lww.iter().map(|key| format!("L {key:?}"));
        format!(" context {{{}}}", dots.chain(lww).collect::<Vec<_>>().join(" "))
    }

    fn show_error(&mut self, name: &str, error: CoordinatorError) -> String {
        let applied = error.applied().as_str();
        match error {
            CoordinatorError::SiblingCap { siblings, bytes, context, .. } => {
                let context = context.map(|token| self.context(name, token)).unwrap_or_default();
                format!("SiblingCap {siblings} of {bytes} bytes{context} applied {applied}")
            }
            CoordinatorError::Unavailable { need, alive, replicas } => {
                format!("Unavailable {alive} of {need} [{}] applied {applied}", show_reports(&replicas))
            }
            CoordinatorError::Timeout { need, acked, replicas } => {
                format!("Timeout {acked} of {need} [{}] applied {applied}", show_reports(&replicas))
            }
            CoordinatorError::Damaged { need, acked, damaged, replicas } => {
                format!("Damaged {damaged}, {acked} of {need} [{}] applied {applied}", show_reports(&replicas))
            }
            error => format!("{error:?} applied {applied}"),
        }
    }
}

fn show_op(op: &Op) -> String {
    match op {
        Op::Apply { mutation, origin } => {
            let mutation = Mutation::decode(mutation).unwrap();
            let origin = match origin {
                Origin::Client { contextless: true } => "apply contextless",
                Origin::Client { contextless: false } => "apply",
                Origin::Repair => "repair",
                Origin::Hint | Origin::Stream => "apply from elsewhere",
            };
            format!("{origin} {:?} after {}: {}", mutation.mid, mutation.previous, show_partition(&mutation.delta))
        }
        Op::Read { answer: Answer::Data, .. } => "read data".into(),
        Op::Read { answer: Answer::Digest, .. } => "read digest".into(),
        Op::ReadRange { .. } => "read range".into(),
    }
}

fn show_partition(partition: &Partition) -> String {
    let mut parts: Vec<String> = partition.floor.iter().map(|floor| format!("partition F {floor:?}")).collect();
    for (_, row) in partition.rows.iter() {
        parts.extend(row.marker.iter().map(|marker| format!("marker {:?}", marker.key)));
        parts.extend(row.cells.iter().map(|(_, cell)| show_cell(cell)));
    }
    parts.join("; ")
}

fn show_cell(cell: &Cell) -> String {
    let body = |body: &Body, exp: Option<Timestamp>| {
        let until = exp.map(|exp| format!(" until {exp:?}")).unwrap_or_default();
        format!("{}{until}", String::from_utf8_lossy(body.bytes().unwrap()).escape_default())
    };
    let mut parts: Vec<String> = Vec::new();
    parts.extend(cell.lww.iter().map(|lww| format!("L {:?}={}", lww.key, body(&lww.body, lww.exp))));
    parts.extend(cell.floor.iter().map(|floor| format!("F {floor:?}")));
    if let Some(dots) = &cell.dots {
        parts.extend(dots.live.iter().map(|(dot, live)| format!("{dot:?}={}", body(&live.body, live.exp))));
        parts.push(format!("seen {:?}", dots.seen));
    }
    parts.join(" ")
}

fn show_found(found: &Found) -> String {
    let value = |value: &Value| String::from_utf8_lossy(&value.value).into_owned();
    match found {
        Found::Nothing => "nothing".into(),
        Found::One(one) => value(one),
        Found::Siblings { siblings, more } => {
            let values: Vec<String> = siblings.iter().map(|sibling| value(&sibling.value)).collect();
            format!("siblings {} more {more}", values.join(","))
        }
    }
}

fn show_reports(reports: &[ReplicaReport]) -> String {
    let show = |report: &ReplicaReport| {
        let outcome = match &report.outcome {
            ReplicaOutcome::Refused(error) => format!("refused {error:?}"),
            outcome => format!("{outcome:?}").to_lowercase(),
        };
        format!("{} {outcome}{}", report.name, if report.repaired { " repaired" } else { "" })
    };
    reports.iter().map(show).collect::<Vec<_>>().join(", ")
}

macro_rules! scripts {
    ($($script:ident),+ $(,)?) => {$(
        #[test]
        fn $script() {
            check(stringify!($script), include_str!(concat!("../testdata/", stringify!($script), ".txt")));
        }
    )+};
}

scripts!(
    write_quorum,
    write_one_down,
    write_timeout_is_unknown,
    write_refused,
    write_stale_ring,
    write_catching_up,
    hints_unreachable,
    hints_after_the_answer,
    hints_suspected,
    hints_none,
    causal_context,
    causal_delete,
    sibling_cap,
    lww_table,
    read_agrees,
    read_repair_blocking,
    read_repair_background,
    read_repair_off,
    read_failures,
    read_hedges,
    read_suspected,
    refused_before_sending,
);
