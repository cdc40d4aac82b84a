//! What nodes see differently, a sentence each.
//!
//! Pure. One node's mistake is another one's fact: ring versions, schemas, who is alive, clocks and names are laid side by
//! side, and where views part both sides are named. Views of a node that is cut off are not compared: it knows that it
//! cannot know.

use crate::{
    codes::{self, Code},
    limits,
    survey::{Heard, Survey, by_number, listed, sight_in, span},
};
use kula_types::NodeId;
use kula_wire::verbs::status::{Health, NodeView};
use std::{collections::BTreeMap, time::Duration};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The page that explains it.
    pub code: &'static Code,
    pub sentence: String,
}

/// The most telling first.
pub(crate) fn differences(survey: &Survey<'_>) -> Vec<Difference> {
    let mut found = Vec::new();
    if survey.ring.version > 0 {
        let version = |view: &NodeView| view.ring_version.to_string();
        found.extend(compared(survey, "ring versions", version));
        let digest = |view: &NodeView| format!("{:032x}", view.schema)[..8].to_string();
        found.extend(compared(survey, "schemas", digest));
    }
    found.extend(silent(survey));
    found.extend(liveness(survey));
    found.extend(cut_off(survey));
    found.extend(clocks(survey));
    found.extend(refused(survey));
    found.extend(doubled_names(survey));
    found.extend(strangers(survey));
    let more = found.len().saturating_sub(limits::DIFFERENCES_MAX);
    found.truncate(limits::DIFFERENCES_MAX);
    if more > 0 {
        found.push(differ(&codes::VIEWS_DIFFER, format!("and {more} more")));
    }
    found
}

fn differ(code: &'static Code, sentence: String) -> Difference {
    Difference { code, sentence }
}

/// `ring versions differ: 7 at n1 and n3; 6 at n2`.
fn compared(survey: &Survey<'_>, what: &str, said: impl Fn(&NodeView) -> String) -> Option<Difference> {
    let mut sides: BTreeMap<String, Vec<NodeId>> = BTreeMap::new();
    for view in survey.views().filter(|view| survey.ring.node(view.node).is_some()) {
        sides.entry(said(view)).or_default().push(view.node);
    }
    if sides.len() < 2 {
        return None;
    }
    let mut told: Vec<_> = sides.into_iter().map(|(value, nodes)| (nodes.len(), value, survey.names(nodes))).collect();
    told.sort_by(|one, other| other.0.cmp(&one.0).then_with(|| other.1.cmp(&one.1)));
    let told: Vec<_> = told.into_iter().map(|(_, value, names)| format!("{value} at {}", listed(&names))).collect();
    Some(differ(&codes::VIEWS_DIFFER, format!("{what} differ: {}", told.join("; "))))
}

/// Nodes that are heard and did not tell their view.
fn silent(survey: &Survey<'_>) -> impl Iterator<Item = Difference> {
    let heard = survey.others.iter().filter(|(id, _)| survey.sight(**id).0.is_heard());
    heard.filter_map(|(id, heard)| {
        let (name, health) = (survey.name(*id), survey.sight(*id).0.name());
        let told = match heard {
            Heard::View { .. } => return None,
            Heard::Nothing => {
                format!("{name} is {health} and did not tell its view within {} ms", limits::VIEW_PATIENCE.as_millis())
            }
            Heard::NotAsked => format!("{name} is {health} and {} has no connection to it", survey.mine.name),
        };
        Some(differ(&codes::NODE_SILENT, told))
    })
}

/// `n3 sees n2 down, n1 sees it up`.
fn liveness(survey: &Survey<'_>) -> Vec<Difference> {
    let mut found = Vec::new();
    for node in survey.shown() {
        let mut sides: BTreeMap<Health, Vec<NodeId>> = BTreeMap::new();
        for view in survey.views().filter(|view| !view.cut_off && view.node != node.id) {
            if let Some(sight) = sight_in(view, node.id) {
                sides.entry(sight.health).or_default().push(view.node);
            }
        }
        let is_heard = sides.keys().any(|health| health.is_heard());
        let is_missed = sides.keys().any(|health| !health.is_heard());
        if !(is_heard && is_missed) {
            continue;
        }
        // The worst first: that is the news.
        let told = sides.into_iter().rev().enumerate().map(|(at, (health, nodes))| {
            let names = survey.names(nodes);
            let verb = if names.len() == 1 { "sees" } else { "see" };
            let whom = if at == 0 { node.name.as_str() } else { "it" };
            format!("{} {verb} {whom} {}", listed(&names), health.name())
        });
        let told: Vec<_> = told.collect();
        found.push(differ(&codes::VIEWS_DIFFER, told.join(", ")));
    }
    found
}

/// Of the others: what this node says of itself is in the verdict.
fn cut_off(survey: &Survey<'_>) -> impl Iterator<Item = Difference> {
    let others = survey.views().filter(|view| view.cut_off && view.node != survey.mine.node);
    others.map(|view| {
        let name = survey.name(view.node);
        differ(&codes::CUT_OFF, format!("{name} says that it is cut off: it hears fewer than half of the members"))
    })
}

fn clocks(survey: &Survey<'_>) -> impl Iterator<Item = Difference> {
    survey.others.keys().filter_map(|&id| {
        let skew = survey.skew_micros(id)?;
        let way = if skew > 0 { "ahead of" } else { "behind" };
        let skew_by = Duration::from_micros(skew.unsigned_abs());
        let by = if skew_by.as_secs() < 10 { format!("{} ms", skew_by.as_millis()) } else { span(skew_by) };
        let (name, mine) = (survey.name(id), &survey.mine.name);
        Some(differ(&codes::CLOCK_SKEW, format!("{name}'s clock is {by} {way} {mine}'s")))
    })
}

/// `n1 and n2 do not speak with n3: it belongs to cluster "b", not to "a"`.
fn refused(survey: &Survey<'_>) -> impl Iterator<Item = Difference> {
    let mut by_peer: BTreeMap<(&str, &str), Vec<NodeId>> = BTreeMap::new();
    for view in survey.views() {
        for refused in &view.refused {
            by_peer.entry((&refused.peer, &refused.why)).or_default().push(view.node);
        }
    }
    let told = by_peer.into_iter().map(|((peer, why), nodes)| {
        let names = survey.names(nodes);
        let verb = if names.len() == 1 { "does" } else { "do" };
        differ(&codes::PEER_REFUSED, format!("{} {verb} not speak with {peer}: {why}", listed(&names)))
    });
    told.collect::<Vec<_>>().into_iter()
}

fn doubled_names(survey: &Survey<'_>) -> impl Iterator<Item = Difference> {
    let mut by_name: BTreeMap<(String, u64, String), Vec<NodeId>> = BTreeMap::new();
    for node in survey.shown() {
        by_name.entry(by_number(&node.name)).or_default().push(node.id);
    }
    let doubled = by_name.into_iter().filter(|(_, ids)| ids.len() > 1);
    doubled.map(|((_, _, name), ids)| {
        let ids: Vec<_> = ids.iter().map(NodeId::to_string).collect();
        differ(&codes::VIEWS_DIFFER, format!("{} nodes are called {name}: {}", ids.len(), listed(&ids)))
    })
}

/// Nodes that run and belong to no ring, seen from one that has a ring.
fn strangers(survey: &Survey<'_>) -> impl Iterator<Item = Difference> {
    let has_ring = survey.ring.version > 0;
    let strangers = survey.shown().into_iter().filter(move |node| has_ring && !node.is_member);
    strangers.filter(|node| survey.sight(node.id).0.is_heard()).map(|node| {
        let told = "runs and is no member of the ring; adding a node moves data, which is not there yet";
        differ(&codes::WAITING_FOR_RING, format!("{} {told}", node.name))
    })
}
