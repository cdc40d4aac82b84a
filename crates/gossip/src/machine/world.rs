//! A small world for tests: machines, a network that loses and cuts, one clock, one seed.
//!
//! Connections are TCP's in short: our own to a peer needs both directions; it breaks at once when the peer's process dies
//! and after 4.5 s of silence when the way is cut or the peer is frozen; whoever is known is connected to again.

use super::{AskId, Effect, Event, Machine, Opening, ProbeId};
use crate::{About, FactKey, GossipConfig, GossipEvent, Membership, State, limits, news::News};
use bytes::Bytes;
use kula_types::{Life, Mono, NodeId};
use kula_wire::{
    encode,
    verbs::{gossip::Ack, link::Introduction},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

const SILENCE: u64 = 4_500;
const RECONNECT: u64 = 200;

pub fn id(number: usize) -> NodeId {
    NodeId(uuid::Uuid::from_u128(number as u128))
}

pub fn number_of(node: NodeId) -> usize {
    usize::try_from(node.0.as_u128()).unwrap()
}

pub fn introduction(number: usize, boot: u64) -> Introduction {
    Introduction {
        cluster: None,
        cluster_name: "test".into(),
        node: id(number),
        life: Life(1),
        boot,
        name: format!("n{number}"),
        address: format!("n{number}:7000"),
        ring_version: 0,
        lease_found: None,
    }
}

pub fn about() -> About {
    About { http_address: "h:7080".into(), dc: "dc1".into(), rack: "a".into(), weight: 1 }
}

struct Node {
    machine: Machine,
    shown: Membership,
    /// Whom it keeps a connection to, and whether it stands.
    links: BTreeMap<usize, bool>,
    frozen: bool,
    /// A process is not its predecessor: what was on its way to that does not reach this.
    boot: u64,
}

enum Job {
    Wake { node: usize },
    Deliver { to: usize, boot: u64, event: Event },
    Ask { ask: u64, to: usize, asked: Asked },
    Answer { ask: u64, answer: Answer },
    Connect { from: usize, to: usize },
    Break { from: usize, to: usize },
}

#[derive(Clone)]
enum Asked {
    Syn(kula_wire::verbs::gossip::Syn),
    Probe,
    Help(NodeId),
}

#[derive(Clone)]
enum Answer {
    Ack(Ack),
    Heard(bool),
    Alive,
    Nothing,
}

enum Waiting {
    Ack { to: NodeId },
    Probe { id: ProbeId },
    Help { id: ProbeId, helper: NodeId },
}

pub struct World {
    pub now: u64,
    nodes: BTreeMap<usize, Node>,
    jobs: BTreeMap<(u64, u64), Job>,
    next: u64,
    asks: BTreeMap<u64, (usize, Waiting)>,
    /// Asks that a machine keeps until it knows.
    kept: BTreeMap<(usize, AskId), u64>,
    pub dice: StdRng,
    /// How many of a hundred messages are lost.
    pub loss: u32,
    pub cut: BTreeSet<(usize, usize)>,
    pub largest: usize,
    /// What people would read, and what rooms would hear.
    pub lines: Vec<String>,
    /// When and where a state changed: node, of whom, to what.
    pub flips: Vec<(u64, usize, usize, State)>,
    pub trace: bool,
}

impl World {
    pub fn new(seed: u64) -> Self {
        World {
            now: 0,
            nodes: BTreeMap::new(),
            jobs: BTreeMap::new(),
            next: 0,
            asks: BTreeMap::new(),
            kept: BTreeMap::new(),
            dice: StdRng::seed_from_u64(seed),
            loss: 0,
            cut: BTreeSet::new(),
            largest: 0,
            lines: Vec::new(),
            flips: Vec::new(),
            trace: false,
        }
    }

    /// So many nodes that were just started, with the first as seed.
    pub fn of(seed: u64, count: usize) -> Self {
        let mut world = World::new(seed);
        (1..=count).for_each(|number| world.start(number, 1));
        world
    }

    /// A new process, whose wall clock says `generation`.
    pub fn start(&mut self, number: usize, generation: u64) {
        self.start_as(introduction(number, generation), generation);
    }

    pub fn start_as(&mut self, me: Introduction, generation: u64) {
        let number = number_of(me.node);
        let (seeds, config) = (vec!["n1:7000".to_owned()], GossipConfig::default());
        let shown = Membership::alone(me.clone(), about());
        let boot = me.boot;
        let opening = Opening { me, about: about(), generation, seeds, config };
        let machine = Machine::new(self.mono(), opening);
        self.nodes.insert(number, Node { machine, shown, links: BTreeMap::new(), frozen: false, boot });
        self.push(0, Job::Wake { node: number });
    }

    /// As `kill -9`: the kernel closes its connections.
    pub fn kill(&mut self, number: usize) {
        self.nodes.remove(&number);
        self.broken(number, 1);
    }

    /// As `SIGSTOP`: connections stand, nobody answers.
    pub fn freeze(&mut self, number: usize, frozen: bool) {
        self.nodes.get_mut(&number).unwrap().frozen = frozen;
        self.push(0, Job::Wake { node: number });
    }

    pub fn leave(&mut self, number: usize) {
        self.step(number, Event::Leave);
    }

    pub fn announce(&mut self, number: usize, key: u16, value: &[u8]) {
        self.step(number, Event::Announce { key: FactKey(key), value: Bytes::copy_from_slice(value) });
    }

    pub fn electorate(&mut self, members: &[usize]) {
        for number in self.numbers() {
            self.step(number, Event::Electorate { members: members.iter().map(|member| id(*member)).collect() });
        }
    }

    /// No byte goes from one to the other; what stands breaks when nothing was heard for long enough.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
        self.push(SILENCE, Job::Break { from, to });
        self.push(SILENCE, Job::Break { from: to, to: from });
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    pub fn numbers(&self) -> Vec<usize> {
        self.nodes.keys().copied().collect()
    }

    pub fn shown(&self, number: usize) -> &Membership {
        &self.nodes[&number].shown
    }

    pub fn state(&self, at: usize, of: usize) -> Option<State> {
        Some(self.shown(at).get(id(of))?.state)
    }

    /// Everybody who lives sees this one so.
    pub fn all_see(&self, of: usize, state: State) -> bool {
        self.numbers().into_iter().filter(|at| *at != of).all(|at| self.state(at, of) == Some(state))
    }

    /// Everybody who lives sees everybody who lives up.
    pub fn all_up(&self) -> bool {
        self.numbers().into_iter().all(|of| self.all_see(of, State::Up))
    }

    pub fn run(&mut self, millis: u64) {
        let end = self.now + millis;
        while let Some(job) = self.jobs.first_entry().filter(|job| job.key().0 <= end) {
            let ((at, _), job) = job.remove_entry();
            self.now = at.max(self.now);
            self.work(job);
        }
        self.now = end;
    }

    /// Runs until it is so; how long that took, in milliseconds.
    pub fn run_until(&mut self, at_most: u64, mut so: impl FnMut(&World) -> bool) -> u64 {
        let begin = self.now;
        while !so(self) {
            assert!(self.now - begin < at_most, "not within {at_most} ms:\n{}", self.lines.join("\n"));
            self.run(10);
        }
        self.now - begin
    }

    fn mono(&self) -> Mono {
        Mono::from_millis(self.now)
    }

    fn push(&mut self, after: u64, job: Job) {
        self.next += 1;
        self.jobs.insert((self.now + after, self.next), job);
    }

    fn travels(&mut self, from: usize, to: usize) -> Option<u64> {
        let lost = self.cut.contains(&(from, to)) || self.dice.random_range(0..100) < self.loss;
        (!lost).then(|| self.dice.random_range(1..4))
    }

    fn can_connect(&self, from: usize, to: usize) -> bool {
        let reached = |number: &usize| self.nodes.get(number).is_some_and(|node| !node.frozen);
        !self.cut.contains(&(from, to)) && !self.cut.contains(&(to, from)) && reached(&from) && reached(&to)
    }

    fn broken(&mut self, number: usize, after: u64) {
        for other in self.numbers() {
            self.push(after, Job::Break { from: other, to: number });
        }
    }

    fn work(&mut self, job: Job) {
        match job {
            Job::Wake { node } => {
                let due = self.nodes.get(&node).filter(|node| !node.frozen).map(|node| node.machine.due());
                if due.is_some_and(|due| due <= self.mono()) {
                    self.step(node, Event::Tick);
                }
            }
            Job::Deliver { to, boot, event } => {
                // What reaches a frozen process waits in its socket.
                match self.nodes.get(&to).map(|node| (node.frozen, node.boot)) {
                    Some((true, _)) => self.push(50, Job::Deliver { to, boot, event }),
                    Some((false, now)) if now == boot => self.step(to, event),
                    Some(_) | None => {}
                }
            }
            Job::Ask { ask, to, asked } => self.asked(ask, to, asked),
            Job::Answer { ask, answer } => self.answered(ask, answer),
            Job::Connect { from, to } => self.connect(from, to),
            Job::Break { from, to } => self.disconnect(from, to),
        }
    }

    fn connect(&mut self, from: usize, to: usize) {
        let stands = self.nodes.get(&from).and_then(|node| node.links.get(&to).copied());
        if stands == Some(true) || stands.is_none() {
            return;
        }
        if !self.can_connect(from, to) {
            return self.push(RECONNECT, Job::Connect { from, to });
        }
        if let Some(node) = self.nodes.get_mut(&from) {
            node.links.insert(to, true);
            self.step(from, Event::Linked { node: id(to) });
        }
    }

    fn disconnect(&mut self, from: usize, to: usize) {
        let healed = self.can_connect(from, to) && self.nodes[&from].links.get(&to) == Some(&true);
        let dead = !self.nodes.contains_key(&to);
        let Some(node) = self.nodes.get_mut(&from).filter(|_| dead || !healed) else { return };
        if node.links.insert(to, false) == Some(true) {
            self.step(from, Event::Unlinked { node: id(to) });
        }
        self.push(RECONNECT, Job::Connect { from, to });
    }

    fn wants_link(&mut self, from: usize, to: usize) {
        if let Some(node) = self.nodes.get_mut(&from)
            && from != to
            && !node.links.contains_key(&to)
        {
            node.links.insert(to, false);
            self.push(2, Job::Connect { from, to });
        }
    }

    fn asked(&mut self, ask: u64, to: usize, asked: Asked) {
        let Some((from, _)) = self.asks.get(&ask) else { return };
        let from = id(*from);
        match self.nodes.get(&to).map(|node| node.frozen) {
            Some(true) => return self.push(50, Job::Ask { ask, to, asked }),
            Some(false) => {}
            None => return,
        }
        let keep = AskId(ask);
        self.kept.insert((to, keep), ask);
        match asked {
            Asked::Syn(syn) => self.step(to, Event::Syn { from, ask: keep, digests: syn.digests }),
            Asked::Help(target) => self.step(to, Event::Help { from, target, ask: keep }),
            Asked::Probe => {
                self.reply(to, keep, Answer::Alive);
                self.step(to, Event::Probed { from });
            }
        }
    }

    fn reply(&mut self, by: usize, keep: AskId, answer: Answer) {
        let Some(ask) = self.kept.remove(&(by, keep)) else { return };
        let Some((from, _)) = self.asks.get(&ask) else { return };
        let from = *from;
        if let Some(takes) = self.travels(by, from) {
            self.push(takes, Job::Answer { ask, answer });
        }
    }

    fn answered(&mut self, ask: u64, answer: Answer) {
        let Some((from, waiting)) = self.asks.remove(&ask) else { return };
        let event = match (waiting, answer) {
            (Waiting::Ack { to }, Answer::Ack(ack)) => Event::Acked { to, ack: Some(ack) },
            (Waiting::Ack { to }, _) => Event::Acked { to, ack: None },
            (Waiting::Probe { id }, answer) => Event::ProbeEnded { id, alive: matches!(answer, Answer::Alive) },
            (Waiting::Help { id, helper }, answer) => {
                Event::HelpEnded { id, helper, heard: matches!(answer, Answer::Heard(true)) }
            }
        };
        let boot = self.nodes.get(&from).map_or(0, |node| node.boot);
        self.work(Job::Deliver { to: from, boot, event });
    }

    fn ask(&mut self, from: usize, to: NodeId, within: Duration, asked: Asked, waiting: Waiting) {
        let to = number_of(to);
        self.next += 1;
        let ask = self.next;
        self.asks.insert(ask, (from, waiting));
        if self.nodes[&from].links.get(&to) != Some(&true) {
            return self.push(0, Job::Answer { ask, answer: Answer::Nothing });
        }
        if let Some(takes) = self.travels(from, to) {
            self.push(takes, Job::Ask { ask, to, asked });
        }
        self.push(u64::try_from(within.as_millis()).unwrap(), Job::Answer { ask, answer: Answer::Nothing });
    }

    fn step(&mut self, number: usize, event: Event) {
        let mut effects = Vec::new();
        let (now, dice) = (self.mono(), &mut self.dice);
        let Some(node) = self.nodes.get_mut(&number) else { return };
        node.machine.step(now, &mut || dice.random::<f64>(), event, &mut effects);
        // Rounded up: a machine that is woken too early has nothing to do.
        let due = node.machine.due().since(now).as_millis() + 1;
        self.push(u64::try_from(due).unwrap(), Job::Wake { node: number });
        for effect in effects {
            self.obey(number, effect);
        }
    }

    fn weigh(&mut self, message: &impl Serialize) {
        let bytes = encode(message).unwrap().len();
        assert!(bytes <= limits::BODY_BYTES_MAX, "a message of {bytes} bytes");
        self.largest = self.largest.max(bytes);
    }

    fn line(&mut self, number: usize, what: &str) {
        let (seconds, millis) = (self.now / 1_000, self.now % 1_000);
        self.lines.push(format!("{seconds:>4}.{millis:03} n{number} {what}"));
    }

    fn obey(&mut self, number: usize, effect: Effect) {
        if self.trace {
            let traced = traced(&effect);
            traced.into_iter().for_each(|line| self.line(number, &line));
        }
        match effect {
            Effect::Dial(seed) => {
                let to = seed.trim_start_matches('n').split(':').next().unwrap().parse().unwrap();
                self.wants_link(number, to);
            }
            Effect::Syn { to, syn } => {
                self.weigh(&syn);
                self.ask(number, to, limits::TALK_WITHIN, Asked::Syn(syn), Waiting::Ack { to });
            }
            Effect::Ack { ask, ack } => {
                self.weigh(&ack);
                self.reply(number, ask, Answer::Ack(ack));
            }
            Effect::Push { to, push } => {
                self.weigh(&push);
                let to = number_of(to);
                if let (Some(takes), Some(node)) = (self.travels(number, to), self.nodes.get(&to)) {
                    let (boot, event) = (node.boot, Event::Push { from: id(number), deltas: push.deltas });
                    self.push(takes, Job::Deliver { to, boot, event });
                }
            }
            Effect::Probe { to, id, within } => self.ask(number, to, within, Asked::Probe, Waiting::Probe { id }),
            Effect::Help { helper, target, id } => {
                self.ask(number, helper, limits::HELP_WITHIN, Asked::Help(target), Waiting::Help { id, helper });
            }
            Effect::Helped { ask, heard } => self.reply(number, ask, Answer::Heard(heard)),
            Effect::Show(membership) => self.show(number, membership),
            Effect::Publish(event) => {
                if let GossipEvent::Discovered { node } = event {
                    self.wants_link(number, number_of(node));
                }
                let event = event_line(event);
                self.line(number, &format!("  → {event}"));
            }
            Effect::Say(news) => self.say(number, &news),
        }
    }

    fn say(&mut self, number: usize, news: &News) {
        let sentence = news.sentence(&|node| format!("n{}", number_of(node)));
        self.line(number, &sentence);
    }

    fn show(&mut self, number: usize, membership: Membership) {
        let Some(node) = self.nodes.get_mut(&number) else { return };
        let before = std::mem::replace(&mut node.shown, membership);
        for (peer, view) in &node.shown.nodes {
            if before.get(*peer).is_some_and(|before| before.state != view.state) {
                self.flips.push((self.now, number, number_of(*peer), view.state));
            }
        }
    }
}

fn event_line(event: GossipEvent) -> String {
    let name = |node| format!("n{}", number_of(node));
    match event {
        GossipEvent::Discovered { node } => format!("Discovered {}", name(node)),
        GossipEvent::PeerUp { node } => format!("PeerUp {}", name(node)),
        GossipEvent::PeerSuspected { node } => format!("PeerSuspected {}", name(node)),
        GossipEvent::PeerDown { node } => format!("PeerDown {}", name(node)),
        GossipEvent::FactChanged { node, key } => format!("FactChanged {} {}", name(node), key.0),
    }
}

/// What goes over the wire, in short.
fn traced(effect: &Effect) -> Option<String> {
    let nodes = |deltas: &[kula_wire::verbs::gossip::Delta]| {
        let one = |delta: &kula_wire::verbs::gossip::Delta| {
            format!("n{} {}→{}", number_of(delta.node), delta.base, delta.version)
        };
        deltas.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let digests = |digests: &[kula_wire::verbs::gossip::Digest]| {
        let one = |digest: &kula_wire::verbs::gossip::Digest| format!("n{} {}", number_of(digest.node), digest.version);
        digests.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    Some(match effect {
        Effect::Syn { to, syn } => format!("  ═ syn to n{}: [{}]", number_of(*to), digests(&syn.digests)),
        Effect::Ack { ack, .. } => format!("  ═ ack: [{}], wants [{}]", nodes(&ack.deltas), digests(&ack.wants)),
        Effect::Push { to, push } => format!("  ═ push to n{}: [{}]", number_of(*to), nodes(&push.deltas)),
        Effect::Probe { to, within, .. } => format!("  ═ probe n{} within {within:?}", number_of(*to)),
        Effect::Help { helper, target, .. } => {
            format!("  ═ ask n{} to probe n{}", number_of(*helper), number_of(*target))
        }
        Effect::Helped { heard, .. } => format!("  ═ helped: {heard}"),
        Effect::Dial(seed) => format!("  ═ dial {seed}"),
        Effect::Show(_) | Effect::Publish(_) | Effect::Say(_) => return None,
    })
}
