//! Who forms ring 1, and when; and what a node without a ring says it waits for (`design.md` §3, "First ring"). Pure.
//!
//! Two rings of one cluster are what must not come about. So there is one founder, the first seed, and it forms a ring only
//! if nobody it knows or reaches has one: not while a node announces a ring, not while a link is refused (a ring's
//! members refuse a wiped directory), not before every other seed was reached or tried. A founder whose every peer is
//! unreachable cannot know better; with `expect` above 1 it waits for them instead.

use crate::limits;
use kula_placement::RingNode;
use std::time::Duration;

/// What the configuration says about joining.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Join {
    /// Whether this node's own peer address is the first seed.
    pub first_seed_is_me: bool,
    /// The first seed: host and port. For people.
    pub first_seed: String,
    /// Nodes that must be visible, this one included, before the first ring is formed.
    pub expect: u32,
    /// How many seeds there are, this node included if it is one.
    pub seeds: usize,
}

/// What this node can see.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Surroundings {
    /// The other nodes that gossip knows.
    pub nodes: Vec<Neighbour>,
    /// Every link that is kept.
    pub links: Vec<Link>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Neighbour {
    /// As it describes itself.
    pub node: RingNode,
    /// Neither suspected nor down.
    pub up: bool,
    /// The ring it says it has; 0 = none.
    pub ring_version: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Who is there, or only where.
    pub name: String,
    pub standing: Standing,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    Up,
    /// Not reached, or not yet.
    Away,
    /// One side refuses the other, in this sentence.
    Refused(String),
}

/// What a node without a ring shows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct JoinView {
    /// What is waited for; empty: nothing, there is a ring.
    pub sentence: String,
    /// Nodes that are visible, this one included.
    pub visible: u32,
    pub expect: u32,
}

/// What to do at ring 0.
#[derive(Debug)]
pub(crate) enum Decision {
    Wait(String),
    /// Form ring 1 with these.
    Form(Vec<RingNode>),
}

/// `waited`: since this node began to look around.
pub(crate) fn decide(me: &RingNode, join: &Join, seen: &Surroundings, waited: Duration) -> Decision {
    let visible: Vec<&Neighbour> = seen.nodes.iter().filter(|neighbour| neighbour.up).collect();
    let count = visible.len() + 1;
    let expect = join.expect.max(1) as usize;
    let names = names(me, &visible);
    let others_up = seen.links.iter().filter(|link| link.standing == Standing::Up).count();
    let refused = seen.links.iter().find_map(|link| match &link.standing {
        Standing::Refused(why) => Some((&link.name, why)),
        Standing::Up | Standing::Away => None,
    });
    // One that is not up has it all the same.
    if let Some(Neighbour { node, up, ring_version }) = seen.nodes.iter().find(|neighbour| neighbour.ring_version > 0) {
        let away = if *up { "" } else { "; it does not answer" };
        return Decision::Wait(format!("waiting for ring {ring_version}, which {} has{away}", node.name));
    }
    if !join.first_seed_is_me {
        let founder = visible.iter().find(|neighbour| neighbour.node.address == join.first_seed);
        let founder = founder.map_or("the node", |founder| founder.node.name.as_str());
        let refusal = refused.map(|(name, why)| format!("; {name} is no help: {why}")).unwrap_or_default();
        return Decision::Wait(format!(
            "waiting for a ring: {founder} at {} forms it when {expect} {} visible; {count} {}: {names}{refusal}",
            join.first_seed,
            are(expect),
            is_or_are(count),
        ));
    }
    if let Some((name, why)) = refused {
        return Decision::Wait(format!("waiting for a ring: this node forms none while {name} is refused: {why}"));
    }
    if count < expect {
        return Decision::Wait(format!(
            "waiting for a ring: this node forms it when {expect} {} visible; {count} {}: {names}",
            are(expect),
            is_or_are(count),
        ));
    }
    if others_up + 1 < join.seeds && waited < limits::SETTLE {
        return Decision::Wait("waiting for a ring: listening whether another seed has one".into());
    }
    let others = visible.into_iter().map(|neighbour| neighbour.node.clone());
    Decision::Form(std::iter::once(me.clone()).chain(others).collect())
}

fn names(me: &RingNode, visible: &[&Neighbour]) -> String {
    let mut names: Vec<&str> = visible.iter().map(|neighbour| neighbour.node.name.as_str()).collect();
    names.push(&me.name);
    names.sort_unstable();
    let more = names.len().saturating_sub(limits::NAMES_SHOWN_MAX);
    names.truncate(limits::NAMES_SHOWN_MAX);
    match more {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

fn are(expect: usize) -> &'static str {
    if expect == 1 { "node is" } else { "nodes are" }
}

fn is_or_are(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}
