//! What all nodes said, laid side by side: the material of a status.
//!
//! Pure. Each node tells what it knows at first hand (`NodeView`); whoever surveys has its own view and those that came
//! back in time. `status` compares them into the table, the disagreements and the verdict.

use crate::{
    differences::{Difference, differences},
    limits,
    verdict::{Verdict, verdict},
    views::{HintsTo, NodeStatus, Status},
};
use kula_placement::Ring;
use kula_types::{NodeId, Timestamp};
use kula_wire::verbs::status::{Health, NodeView, Sight, Stage};
use std::{collections::BTreeMap, time::Duration};

/// Everything that one node could find out about the cluster.
#[derive(Clone, Debug)]
pub struct Survey<'a> {
    /// The ring this node knows; version 0 while there is none.
    pub ring: &'a Ring,
    /// This node's own view.
    pub mine: NodeView,
    /// For how long this node has run.
    pub running_ms: u64,
    /// What it waits for while it has no ring.
    pub waits_for: Option<String>,
    /// The other nodes that were asked.
    pub others: BTreeMap<NodeId, Heard>,
    /// Whom gossip names as the sources of what it says of a node.
    pub sources: BTreeMap<NodeId, Vec<NodeId>>,
    /// Where nodes stand that are no members of the ring: data centre and rack.
    pub places: BTreeMap<NodeId, (String, String)>,
    /// Tables that lost their name to one made later.
    pub twins: Vec<String>,
}

/// What a node that was asked for its view said.
#[allow(clippy::large_enum_variant, reason = "a handful of these live for one answer")]
#[derive(Clone, Debug)]
pub enum Heard {
    /// Nothing, or nothing sensible, in time.
    Nothing,
    /// It could not be asked: this node has no connection to it.
    NotAsked,
    View {
        view: NodeView,
        /// This node's wall clock when it asked, and when the answer came: the other one's clock was read in between.
        asked: Timestamp,
        came: Timestamp,
    },
}

/// A node to be shown: a member of the ring, or one that gossip knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub id: NodeId,
    pub name: String,
    pub dc: String,
    pub rack: String,
    pub is_member: bool,
}

impl Survey<'_> {
    /// The verdict, the table and the disagreements.
    pub fn status(&self) -> Status {
        let differences = differences(self);
        let Verdict { level, sentence, code } = verdict(self, &differences);
        let sentences = differences.into_iter().map(|Difference { sentence, .. }| sentence);
        Status {
            verdict: level,
            sentence,
            code: code.map(|code| code.code),
            nodes: self.shown().iter().map(|node| self.row(node)).collect(),
            disagreements: sentences.chain(self.twins.iter().cloned()).collect(),
        }
    }

    /// Members in the order of their names, then the others that were heard of.
    pub(crate) fn shown(&self) -> Vec<Shown> {
        let member = |node: &kula_placement::RingNode| Shown {
            id: node.id,
            name: node.name.clone(),
            dc: node.dc.clone(),
            rack: node.rack.clone(),
            is_member: true,
        };
        let mut shown: Vec<Shown> = self.ring.nodes.iter().map(member).collect();
        let heard_of = self.mine.sees.iter().map(|sight| (sight.node, &sight.name));
        for (id, name) in heard_of.chain([(self.mine.node, &self.mine.name)]) {
            if shown.iter().all(|node| node.id != id) {
                let (dc, rack) = self.places.get(&id).cloned().unwrap_or_default();
                shown.push(Shown { id, name: name.clone(), dc, rack, is_member: false });
            }
        }
        shown.sort_by_cached_key(|node| (!node.is_member, by_number(&node.name), node.id));
        shown
    }

    /// Every view there is, this node's first.
    pub(crate) fn views(&self) -> impl Iterator<Item = &NodeView> {
        let others = self.others.values().filter_map(|heard| match heard {
            Heard::View { view, .. } => Some(view),
            Heard::Nothing | Heard::NotAsked => None,
        });
        [&self.mine].into_iter().chain(others)
    }

    pub(crate) fn view_of(&self, id: NodeId) -> Option<&NodeView> {
        self.views().find(|view| view.node == id)
    }

    /// How this node sees that one, and for how long.
    pub(crate) fn sight(&self, id: NodeId) -> (Health, u64) {
        if id == self.mine.node {
            return (Health::Up, self.running_ms);
        }
        // A member that was not heard of since this node started is suspect, and nobody said more yet.
        sight_in(&self.mine, id).map_or((Health::Suspect, self.running_ms), |sight| (sight.health, sight.since_ms))
    }

    /// Whether requests may be sent there: it is heard, and says that it serves if it says anything.
    pub(crate) fn serves(&self, id: NodeId) -> bool {
        self.sight(id).0.is_heard() && self.view_of(id).is_none_or(|view| view.stage == Stage::Ready)
    }

    /// Names of the nodes that see it as this node does.
    pub(crate) fn seen_by(&self, id: NodeId) -> Vec<String> {
        let (health, _) = self.sight(id);
        let agrees = |view: &&NodeView| {
            let is_itself = view.node == id;
            let sees = sight_in(view, id).map(|sight| sight.health);
            (is_itself && health.is_heard()) || sees == Some(health)
        };
        let mut seen: Vec<NodeId> = self.views().filter(agrees).map(|view| view.node).collect();
        if !health.is_heard() {
            seen.extend(self.sources.get(&id).into_iter().flatten());
        }
        self.names(seen)
    }

    /// In order, each once.
    pub(crate) fn names(&self, nodes: impl IntoIterator<Item = NodeId>) -> Vec<String> {
        let mut names: Vec<String> = nodes.into_iter().map(|node| self.name(node)).collect();
        names.sort_by_cached_key(|name| by_number(name));
        names.dedup();
        names
    }

    pub(crate) fn name(&self, id: NodeId) -> String {
        let in_ring = self.ring.node(id).map(|node| node.name.clone());
        in_ring
            .or_else(|| (id == self.mine.node).then(|| self.mine.name.clone()))
            .or_else(|| self.views().find_map(|view| sight_in(view, id)).map(|sight| sight.name.clone()))
            .unwrap_or_else(|| id.to_string())
    }

    fn row(&self, node: &Shown) -> NodeStatus {
        let (health, since_ms) = self.sight(node.id);
        let view = self.view_of(node.id);
        let hints_to = view.map(|view| {
            let waiting = view.hints.iter().filter(|hints| hints.count > 0);
            waiting.map(|hints| HintsTo { target: self.name(hints.target), count: hints.count }).collect()
        });
        NodeStatus {
            name: node.name.clone(),
            id: node.id,
            state: health.name(),
            since_ms,
            seen_by: self.seen_by(node.id),
            dc: node.dc.clone(),
            rack: node.rack.clone(),
            load_bytes: view.and_then(|view| view.load_bytes),
            owns: self.ring.load(node.id),
            hints: view.map(|view| view.hints.iter().map(|hints| hints.count).sum()),
            hints_to,
            schema: view.map(|view| format!("{:032x}", view.schema)),
            ring: view.map(|view| view.ring_version),
            stage: view.map(|view| stage(view.stage)),
            mailbox_p99_us: view.map(|view| view.slowest.as_ref().map_or(0, |slowest| slowest.p99_us)),
            mailbox: view.and_then(|view| view.slowest.as_ref()).map(|slowest| slowest.path.clone()),
            free_bytes: view.and_then(|view| view.free_bytes),
            is_member: node.is_member,
        }
    }

    /// How far that node's clock is from this one's, as little as it can be: positive if it is ahead. Only past the
    /// bound: what a message's way takes is no difference.
    pub(crate) fn skew_micros(&self, id: NodeId) -> Option<i64> {
        let Some(Heard::View { view, asked, came }) = self.others.get(&id) else { return None };
        let at_least = view.clock.micros().saturating_sub(came.micros());
        let at_most = view.clock.micros().saturating_sub(asked.micros());
        let bound = i64::try_from(limits::CLOCK_SKEW_MAX.as_micros()).unwrap_or(i64::MAX);
        if at_least > bound {
            Some(at_least)
        } else if at_most < -bound {
            Some(at_most)
        } else {
            None
        }
    }
}

pub(crate) fn sight_in(view: &NodeView, id: NodeId) -> Option<&Sight> {
    view.sees.iter().find(|sight| sight.node == id)
}

pub(crate) const fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Starting => "starting",
        Stage::Ready => "ready",
        Stage::Stopping => "stopping",
    }
}

/// n9 comes before n10.
pub(crate) fn by_number(name: &str) -> (String, u64, String) {
    let stem = name.trim_end_matches(|last: char| last.is_ascii_digit());
    (stem.to_string(), name[stem.len()..].parse().unwrap_or(0), name.to_string())
}

/// `n1`, `n1 and n3`, `n1, n3 and n4`.
pub(crate) fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// A span as people say it.
pub(crate) fn span(span: Duration) -> String {
    match span.as_secs() {
        0 => format!("{} ms", span.as_millis()),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}
