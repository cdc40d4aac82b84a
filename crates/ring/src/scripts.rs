//! Runs `testdata/*.txt`: events in, every effect out, blessed snapshots beside. This node is n1.
//!
//! A line is one of
//! - `at MS`: the time from here on
//! - `commit ID set|create KEYSPACE [rf=N] [mode=M] [over=N]`, `commit ID drop KEYSPACE`
//! - `see nN up|down [ring=V]`, `link nN up|away|refused`: what the next `tick` sees; `tick`, `woken`
//! - `stored ok|full|files|unsynced|broken`
//! - `prepare nN ROUND vV`, `accept nN ROUND vV RING`, `learn nN RING`, `pull nN have=V`, `seen nN [ring=V]`: a peer's words
//! - `promised nN [RING by nM ROUND]`, `accepted nN`, `objects nN higher=ROUND|behind|stranger|full|decided RING`, `silent
//!   nN`, `pulled nN nothing|stranger|RING`: its answer to what it was asked last
//!
//! RING is `vV:KEYSPACE=RF,...`: the members' ring of that version, with these keyspaces.

use crate::{
    Acceptor, AskId, Beginning, CommitId, Effect, Event, Join, Link, Machine, Neighbour, RingChange, RingError,
    Standing, Surroundings, Told, state,
};
use bytes::Bytes;
use kula_disk::{DiskError, Operation};
use kula_placement::{KeyspaceSettings, Partitioner, Ring, RingFacts, RingNode, Secret};
use kula_types::{ClusterId, Mono, NodeId};
use kula_wire::verbs::ring::{Accept, Accepted, Ballot, Learn, Objection, Prepare, Prepared, PulledRing, Vote};
use std::{collections::BTreeMap, fmt::Write, sync::Arc};

pub(crate) fn node(number: u128) -> RingNode {
    RingNode {
        id: NodeId(uuid::Uuid::from_u128(number)),
        name: format!("n{number}"),
        address: format!("127.0.0.{number}:7000"),
        dc: "dc1".into(),
        rack: "a".into(),
        weight: 1,
    }
}

pub(crate) fn drawn() -> state::Drawn {
    state::Drawn {
        cluster: ClusterId(uuid::Uuid::from_u128(0xc)),
        context_secret: Secret::new(*b"0123456789abcdef0123456789abcdef"),
    }
}

pub(crate) fn opening(number: u128) -> state::Opening {
    state::Opening {
        me: node(number),
        cluster_name: "test".into(),
        partitioner: Partitioner::Murmur3,
        bound: None,
        seeds: false,
        drawn: drawn(),
    }
}

/// Ring 1 of nodes 1 to `members`.
pub(crate) fn ring_of(members: u128) -> Ring {
    state::first("test".into(), Partitioner::Murmur3, drawn(), (1..=members).map(node).collect()).unwrap()
}

fn none() -> Ring {
    Ring::none("test".into(), Partitioner::Murmur3)
}

pub(crate) fn join(first_seed_is_me: bool, expect: u32, seeds: usize) -> Join {
    let first_seed = if first_seed_is_me { "127.0.0.1:7000" } else { "127.0.0.2:7000" }.into();
    Join { first_seed_is_me, first_seed, expect, seeds }
}

pub(crate) fn machine(number: u128, ring: Ring, join: Join) -> Machine {
    let (acceptor, ring) = (Acceptor::of(ring.version + 1), Arc::new(ring));
    Machine::new(Beginning { me: node(number), join, drawn: drawn(), ring, acceptor })
}

struct Script {
    machine: Machine,
    /// What RINGs are made from.
    members: Ring,
    now: Mono,
    seen: BTreeMap<NodeId, Neighbour>,
    links: BTreeMap<NodeId, Link>,
    /// What each peer was asked last.
    asked: BTreeMap<NodeId, (u64, Ballot)>,
    asks: u64,
}

fn id(word: &str) -> NodeId {
    node(word.strip_prefix('n').unwrap().parse().unwrap()).id
}

fn number<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(key))
}

fn settings(words: &[&str]) -> KeyspaceSettings {
    let mut settings = KeyspaceSettings::default();
    if let Some(rf) = number(words, "rf=") {
        settings.rf = rf.parse().unwrap();
    }
    if let Some(mode) = number(words, "mode=") {
        settings.mode = mode.parse().unwrap();
    }
    settings
}

fn change(words: &[&str]) -> RingChange {
    let name = words[1].parse().unwrap();
    match words[0] {
        "set" => RingChange::SetKeyspace { name, settings: settings(words) },
        "create" => {
            let over = |rf: &str| KeyspaceSettings { rf: rf.parse().unwrap(), ..KeyspaceSettings::default() };
            RingChange::CreateKeyspace { name, settings: settings(words), instead_of: number(words, "over=").map(over) }
        }
        "drop" => RingChange::DropKeyspace { name },
        other => panic!("no such change: {other}"),
    }
}

fn failed(operation: Operation, what: &str) -> RingError {
    let name = "ring.state".into();
    RingError::from(match what {
        "full" => DiskError::Full { operation, name, errno: 28 },
        "files" => DiskError::TooManyFiles { operation, name, errno: 24 },
        _ => DiskError::Io { operation, name, errno: 5 },
    })
}

impl Script {
    fn ring(&self, word: &str) -> Bytes {
        let (version, keyspaces) = word.strip_prefix('v').unwrap().split_once(':').unwrap();
        let mut facts = RingFacts { version: version.parse().unwrap(), ..self.members.facts().clone() };
        for keyspace in keyspaces.split(',').filter(|keyspace| !keyspace.is_empty()) {
            let (name, rf) = keyspace.split_once('=').unwrap();
            let settings = KeyspaceSettings { rf: rf.parse().unwrap(), ..KeyspaceSettings::default() };
            facts.keyspaces.insert(name.parse().unwrap(), settings);
        }
        state::to_bytes(&Ring::new(facts).unwrap()).unwrap()
    }

    /// The event of a line; `None` if it only sets the scene.
    fn event(&mut self, line: &str) -> Option<Event> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let version = |word: &str| word.strip_prefix('v').unwrap().parse().unwrap();
        let ballot = |node: &str, round: &str| Ballot { round: round.parse().unwrap(), node: id(node) };
        let cluster = self.members.cluster;
        self.asks += 1;
        let ask = AskId(self.asks);
        Some(match words[..] {
            ["at", ms] => {
                self.now = Mono::from_millis(ms.parse().unwrap());
                return None;
            }
            ["see", who, how, ..] => {
                let ring_version = number(&words, "ring=").map_or(0, |version| version.parse().unwrap());
                let node = node(who[1..].parse().unwrap());
                self.seen.insert(id(who), Neighbour { node, up: how == "up", ring_version });
                return None;
            }
            ["link", who, how] => {
                let standing = match how {
                    "up" => Standing::Up,
                    "away" => Standing::Away,
                    _ => Standing::Refused("node n1 is known with another life: its data is not what it was".into()),
                };
                self.links.insert(id(who), Link { name: who.into(), standing });
                return None;
            }
            ["commit", number, ..] => {
                Event::Commit { id: CommitId(number.parse().unwrap()), change: change(&words[2..]) }
            }
            ["tick"] => {
                let (nodes, links) = (self.seen.values().cloned().collect(), self.links.values().cloned().collect());
                Event::Tick { surroundings: Surroundings { nodes, links } }
            }
            ["woken"] => Event::Woken,
            ["stored", "ok"] => Event::Stored { outcome: Ok(()) },
            ["stored", "unsynced"] => Event::Stored { outcome: Err(failed(Operation::SyncDir, "files")) },
            ["stored", what] => Event::Stored { outcome: Err(failed(Operation::Create, what)) },
            ["prepare", from, round, of] => {
                let prepare = Prepare { cluster, version: version(of), ballot: ballot(from, round) };
                Event::Prepare { id: ask, from: id(from), prepare }
            }
            ["accept", from, round, of, ring] => {
                let ring = self.ring(ring).into();
                let accept = Accept { cluster, version: version(of), ballot: ballot(from, round), ring };
                Event::Accept { id: ask, from: id(from), accept }
            }
            ["learn", from, ring] => Event::Learn { from: id(from), ring: self.ring(ring) },
            ["pull", from, have] => {
                Event::PullRing { id: ask, from: id(from), have: number(&[have], "have=").unwrap().parse().unwrap() }
            }
            ["seen", node, ..] => {
                let version = number(&words, "ring=").map(|version| version.parse().unwrap());
                Event::Seen { node: id(node), version }
            }
            ["pulled", from, what] => {
                let answer = match what {
                    "nothing" => PulledRing::Nothing,
                    "stranger" => PulledRing::NotAMember { cluster, version: 4, members: 3 },
                    ring => PulledRing::Newer { ring: self.ring(ring).into() },
                };
                Event::Pulled { from: id(from), answer: Some(answer) }
            }
            ["promised", from] => self.prepared(from, Prepared::Promised { vote: None }),
            ["promised", from, ring, "by", who, round] => {
                let vote = Vote { ballot: ballot(who, round), ring: self.ring(ring).into() };
                self.prepared(from, Prepared::Promised { vote: Some(vote) })
            }
            ["accepted", from] => {
                let (version, ballot) = self.asked[&id(from)];
                Event::Accepted { from: id(from), version, ballot, answer: Some(Accepted::Yes) }
            }
            ["objects", from, ref what @ ..] => {
                let objection = match what {
                    ["behind"] => Objection::Behind { have: 0 },
                    ["stranger"] => Objection::Stranger,
                    ["full"] => Objection::NotKept,
                    ["decided", ring] => Objection::Decided { ring: self.ring(ring).into() },
                    [higher] => Objection::Promised { ballot: ballot("n9", number(&[higher], "higher=").unwrap()) },
                    _ => panic!("no such objection: {line}"),
                };
                self.prepared(from, Prepared::No(objection))
            }
            ["silent", from] => {
                let (version, ballot) = self.asked[&id(from)];
                Event::Prepared { from: id(from), version, ballot, answer: None }
            }
            _ => panic!("no such line: {line}"),
        })
    }

    fn prepared(&self, from: &str, answer: Prepared) -> Event {
        let (version, ballot) = self.asked[&id(from)];
        Event::Prepared { from: id(from), version, ballot, answer: Some(answer) }
    }

    fn run(&mut self, script: &str) -> String {
        let mut out = String::new();
        for line in script.lines() {
            writeln!(out, "{line}").unwrap();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some(event) = self.event(line) else { continue };
            let mut effects = Vec::new();
            self.machine.step(self.now, 0.5, event, &mut effects);
            for effect in &effects {
                match effect {
                    Effect::Prepare { to, prepare } => drop(self.asked.insert(*to, (prepare.version, prepare.ballot))),
                    Effect::Accept { to, accept } => drop(self.asked.insert(*to, (accept.version, accept.ballot))),
                    _ => (),
                }
                writeln!(out, "    {}", effect_line(effect)).unwrap();
            }
        }
        out
    }
}

fn shown(ring: &Ring) -> String {
    let keyspaces = ring.keyspaces.iter().map(|(name, settings)| format!("{name} rf={}", settings.rf));
    format!("ring {} [{}]", ring.version, keyspaces.collect::<Vec<_>>().join(", "))
}

fn shown_bytes(bytes: &[u8]) -> String {
    shown(&state::from_bytes(bytes).unwrap())
}

fn name(id: &NodeId) -> String {
    format!("n{}", id.0.as_u128())
}

fn shown_ballot(ballot: &Ballot) -> String {
    format!("{}.{}", ballot.round, name(&ballot.node))
}

fn shown_vote(vote: Option<&Vote>) -> String {
    vote.map_or("nothing accepted".into(), |vote| {
        format!("accepted {} by {}", shown_bytes(&vote.ring.0), shown_ballot(&vote.ballot))
    })
}

fn objection(objection: &Objection) -> String {
    match objection {
        Objection::Promised { ballot } => format!("no, promised {}", shown_ballot(ballot)),
        Objection::Decided { ring } => format!("no, decided: {}", shown_bytes(&ring.0)),
        Objection::Behind { have } => format!("no, have only ring {have}"),
        Objection::Stranger => "no, a stranger".into(),
        Objection::NotKept => "no, not kept".into(),
    }
}

fn told_line(told: &Told) -> String {
    match told {
        Told::Prepared(Prepared::Promised { vote }) => format!("promised, {}", shown_vote(vote.as_ref())),
        Told::Prepared(Prepared::No(no)) | Told::Accepted(Accepted::No(no)) => objection(no),
        Told::Accepted(Accepted::Yes) => "accepted".into(),
        Told::Pulled(PulledRing::Nothing) => "nothing newer".into(),
        Told::Pulled(PulledRing::Newer { ring }) => shown_bytes(&ring.0),
        Told::Pulled(PulledRing::NotAMember { version, members, .. }) => {
            format!("no member of ring {version} of {members}")
        }
    }
}

fn effect_line(effect: &Effect) -> String {
    match effect {
        Effect::Store { ring } => format!("store {}", shown(ring)),
        Effect::StoreBallots { acceptor } => {
            let promised = acceptor.promised.as_ref().map_or("nothing".into(), shown_ballot);
            format!(
                "store ballots for {}: promised {promised}, {}",
                acceptor.version,
                shown_vote(acceptor.vote.as_ref())
            )
        }
        Effect::Publish { ring } => format!("publish {}", shown(ring)),
        Effect::Answer { id, answer: Ok(ring) } => format!("answer {}: {}", id.0, shown(ring)),
        Effect::Answer { id, answer: Err(error) } => format!("answer {}: error: {error}", id.0),
        Effect::Prepare { to, prepare } => {
            format!("{} <- prepare {} for {}", name(to), shown_ballot(&prepare.ballot), prepare.version)
        }
        Effect::Accept { to, accept: Accept { ballot, ring, .. } } => {
            format!("{} <- accept {} {}", name(to), shown_ballot(ballot), shown_bytes(&ring.0))
        }
        Effect::Learn { to, learn: Learn { ring } } => format!("{} <- learn {}", name(to), shown_bytes(&ring.0)),
        Effect::Pull { from, have } => format!("{} <- pull, have {have}", name(from)),
        Effect::Reply { reply, .. } => format!("reply: {}", told_line(reply)),
        Effect::Wake { after } => format!("wake after {} ms", after.as_millis()),
        Effect::View { view } => format!("view: {} of {}: {:?}", view.visible, view.expect, view.sentence),
        Effect::Notice { notice } => format!("notice: {notice}"),
        Effect::Fence { cause } => format!("fence: {cause}"),
    }
}

fn run(script: &str, ring: Ring, join: Join, members: u128) -> String {
    let mut script_run = Script {
        machine: machine(1, ring, join),
        members: ring_of(members),
        now: Mono::default(),
        seen: BTreeMap::new(),
        links: BTreeMap::new(),
        asked: BTreeMap::new(),
        asks: 0,
    };
    script_run.run(script)
}

fn alone(script: &str) -> String {
    run(script, ring_of(1), join(true, 1, 0), 1)
}

fn of_three(script: &str) -> String {
    run(script, ring_of(3), join(true, 3, 3), 3)
}

#[test]
fn changes_become_durable_then_public_one_by_one() {
    insta::assert_snapshot!("changes_one_by_one", alone(include_str!("../testdata/changes_one_by_one.txt")));
}

#[test]
fn a_disk_that_fails_fences_and_a_full_one_refuses() {
    insta::assert_snapshot!("disk_trouble", alone(include_str!("../testdata/disk_trouble.txt")));
}

#[test]
fn the_first_seed_forms_a_ring_when_enough_are_visible_and_nobody_has_one() {
    let script = include_str!("../testdata/founding.txt");
    insta::assert_snapshot!("founding", run(script, none(), join(true, 3, 3), 3));
    let script = include_str!("../testdata/founding_refused.txt");
    insta::assert_snapshot!("founding_refused", run(script, none(), join(true, 1, 2), 3));
}

#[test]
fn another_node_waits_for_the_ring_and_takes_it_up_if_it_is_a_member() {
    let script = include_str!("../testdata/adoption.txt");
    insta::assert_snapshot!("adoption", run(script, none(), join(false, 3, 3), 3));
    let script = include_str!("../testdata/not_a_member.txt");
    insta::assert_snapshot!("not_a_member", run(script, none(), join(false, 3, 3), 3));
}

#[test]
fn a_majority_decides() {
    insta::assert_snapshot!("majority", of_three(include_str!("../testdata/majority.txt")));
}

#[test]
fn what_others_accepted_goes_first() {
    insta::assert_snapshot!("contention", of_three(include_str!("../testdata/contention.txt")));
}

#[test]
fn a_minority_commits_nothing_and_says_what_is_known() {
    insta::assert_snapshot!("minority", of_three(include_str!("../testdata/minority.txt")));
}

#[test]
fn a_member_votes_as_it_promised() {
    insta::assert_snapshot!("voting", of_three(include_str!("../testdata/voting.txt")));
}

#[test]
fn what_moves_data_is_refused() {
    insta::assert_snapshot!("moves_data", of_three(include_str!("../testdata/moves_data.txt")));
}

#[test]
fn a_member_with_another_address_asks_the_others_to_put_it_right() {
    let mut script = Script {
        machine: machine(1, ring_of(3), join(true, 3, 3)),
        members: ring_of(3),
        now: Mono::default(),
        seen: BTreeMap::new(),
        links: BTreeMap::new(),
        asked: BTreeMap::new(),
        asks: 0,
    };
    let me = RingNode { address: "10.0.0.1:7000".into(), rack: "b".into(), ..node(1) };
    let (ring, acceptor) = (Arc::new(ring_of(3)), Acceptor::of(2));
    script.machine = Machine::new(Beginning { me, join: join(true, 3, 3), drawn: drawn(), ring, acceptor });
    let told = script.run(include_str!("../testdata/my_facts.txt"));
    insta::assert_snapshot!("my_facts", told);
    assert_eq!(script.machine.ring().node(id("n1")).unwrap().address, "10.0.0.1:7000");
}

#[test]
fn past_the_bound_a_commit_is_refused_and_none_is_lost() {
    let mut machine = machine(1, ring_of(1), join(true, 1, 0));
    let asked = crate::limits::COMMITS_WAITING_MAX as u64 + 3;
    let mut effects = Vec::new();
    for id in 0..asked {
        let change = RingChange::SetKeyspace { name: format!("k{id}").parse().unwrap(), settings: Default::default() };
        machine.step(Mono::default(), 0.0, Event::Commit { id: CommitId(id), change }, &mut effects);
    }
    while let Some(at) = effects.iter().position(|effect| matches!(effect, Effect::Store { .. })) {
        effects.remove(at);
        machine.step(Mono::default(), 0.0, Event::Stored { outcome: Ok(()) }, &mut effects);
    }
    let busy = |effect: &&Effect| matches!(effect, Effect::Answer { answer: Err(RingError::Busy { .. }), .. });
    let done = |effect: &&Effect| matches!(effect, Effect::Answer { answer: Ok(_), .. });
    // One is being stored, the bound waits, two are refused.
    assert_eq!((effects.iter().filter(busy).count(), effects.iter().filter(done).count() as u64), (2, asked - 2));
    assert_eq!(machine.ring().version, 1 + asked - 2);
}
