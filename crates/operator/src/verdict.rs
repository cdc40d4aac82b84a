//! From a survey to one verdict and one sentence: what an operator reads first.
//!
//! Pure. The sentence says what the state of things means for reads and writes at QUORUM and how many more nodes may be
//! lost; then why it is not better, the worst reason first. The code that `kula explain` is asked for next is that
//! reason's, or says what it means that keys lack a quorum.

use crate::{
    availability::{Availability, Lacking},
    codes::{self, Code},
    differences::Difference,
    limits,
    survey::{Survey, listed, span},
};
use kula_types::NodeId;
use kula_wire::verbs::status::{NodeView, Stage};
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

/// How the cluster does, as seen from one node. The exit code of `kula status` follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    Degraded,
    Unavailable,
}

/// The verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub level: Level,
    pub sentence: String,
    /// The page to read next; `None` if all is well.
    pub code: Option<&'static Code>,
}

/// Why things are not better.
type Reason = (&'static Code, String);

pub(crate) fn verdict(survey: &Survey<'_>, differences: &[Difference]) -> Verdict {
    if let Some(early) = not_yet(survey) {
        return early;
    }
    let availability = Availability::of(survey.ring, |node| survey.serves(node));
    let mut reasons: Vec<Reason> = Vec::new();
    reasons.extend(lost(survey));
    reasons.extend(survey.views().flat_map(|view| own(survey, view)));
    reasons.extend(differences.iter().map(|difference| (difference.code, difference.sentence.clone())));
    reasons.extend(hints(survey));

    let is_alone_and_halt = survey.ring.nodes.len() == 1 && survey.mine.shards_silent > 0;
    let level = match () {
        () if !availability.is_whole() || is_alone_and_halt => Level::Unavailable,
        () if survey.mine.cut_off || !reasons.is_empty() => Level::Degraded,
        () => Level::Ok,
    };
    let code = match reasons.first() {
        _ if survey.mine.cut_off => Some(&codes::CUT_OFF),
        _ if !availability.is_whole() => Some(&codes::QUORUM_LOST),
        first => first.map(|(code, _)| *code),
    };
    let mut parts = Vec::new();
    if survey.mine.cut_off {
        parts.push(cut_off(survey));
    }
    parts.push(headline(survey, &availability));
    parts.extend(joined(reasons));
    Verdict { level, sentence: parts.join(".  "), code }
}

/// A node that takes no requests has no more to say than why.
fn not_yet(survey: &Survey<'_>) -> Option<Verdict> {
    let (code, sentence) = match (survey.mine.stage, &survey.waits_for) {
        (Stage::Stopping, _) => (&codes::SHUTTING_DOWN, "this node is shutting down".to_string()),
        (_, Some(sentence)) => (&codes::WAITING_FOR_RING, sentence.clone()),
        (Stage::Starting, None) => (&codes::NOT_READY, "this node is starting and takes no requests yet".to_string()),
        (Stage::Ready, None) => return None,
    };
    Some(Verdict { level: Level::Unavailable, sentence, code: Some(code) })
}

fn headline(survey: &Survey<'_>, availability: &Availability) -> String {
    let mine = &survey.mine;
    if survey.ring.nodes.len() == 1 && mine.shards_silent > 0 {
        return format!("the keys of {} of {}'s shards can be neither read nor written", mine.shards_silent, mine.name);
    }
    if let Some(worst) = availability.lacking.first() {
        return lacking(worst, availability);
    }
    if mine.lease_lost {
        return format!("every key readable, none writable through {}", mine.name);
    }
    let has_room = |node| survey.serves(node) && survey.view_of(node).is_none_or(|view| !is_nearly_full(view));
    let with_room = Availability::of(survey.ring, has_room);
    if !with_room.is_whole() {
        return "every key readable, writes are or will be refused".into();
    }
    let more = match with_room.spare {
        1 => "1 more node".to_string(),
        spare => format!("{spare} more nodes"),
    };
    format!("every key readable and writable at QUORUM; can lose {more}")
}

/// `12 % of the keys of kv cannot be read or written at QUORUM`.
fn lacking(worst: &Lacking, availability: &Availability) -> String {
    if availability.is_nothing_left {
        return "no key can be read or written at QUORUM".into();
    }
    let what = match worst.percent {
        100 => format!("no key of {} can be read or written at QUORUM", worst.keyspace),
        percent => format!("{percent} % of the keys of {} cannot be read or written at QUORUM", worst.keyspace),
    };
    match availability.lacking.len() - 1 {
        0 => what,
        1 => format!("{what}, nor some keys of 1 more keyspace"),
        more => format!("{what}, nor some keys of {more} more keyspaces"),
    }
}

fn cut_off(survey: &Survey<'_>) -> String {
    let others = survey.ring.nodes.iter().filter(|node| node.id != survey.mine.node);
    let heard = others.clone().filter(|node| survey.sight(node.id).0.is_heard()).count();
    format!("{} is cut off: it hears {heard} of {} other members", survey.mine.name, others.count())
}

/// Members that take no requests.
fn lost(survey: &Survey<'_>) -> impl Iterator<Item = Reason> {
    let members = survey.shown().into_iter().filter(|node| node.is_member && !survey.serves(node.id));
    members.map(|node| {
        let (health, since_ms) = survey.sight(node.id);
        let stage = survey.view_of(node.id).map(|view| view.stage);
        match stage {
            Some(Stage::Starting) if health.is_heard() => (&codes::NOT_READY, format!("{} is starting", node.name)),
            Some(Stage::Stopping) if health.is_heard() => {
                (&codes::SHUTTING_DOWN, format!("{} is shutting down", node.name))
            }
            _ => {
                let since = span(Duration::from_millis(since_ms));
                let seen_by = survey.seen_by(node.id);
                let by = match seen_by.is_empty() {
                    true => format!(" (not heard of since {} started)", survey.mine.name),
                    false => format!(" (seen by {})", seen_by.join(", ")),
                };
                (&codes::NODE_DOWN, format!("{} {} {since}{by}", node.name, health.name()))
            }
        }
    })
}

/// What a node says of itself.
fn own(survey: &Survey<'_>, view: &NodeView) -> Vec<Reason> {
    let name = survey.name(view.node);
    let mut reasons: Vec<Reason> = Vec::new();
    if view.shards_silent > 0 {
        let what = match view.shards_silent {
            1 => format!("a shard of {name} does not answer"),
            shards => format!("{shards} shards of {name} do not answer"),
        };
        reasons.push((&codes::ACTOR_STUCK, what));
    }
    if view.lease_lost {
        reasons.push((&codes::CLOCK_LEASE, format!("the lease of {name}'s clock has run out")));
    }
    let ahead = Duration::from_millis(view.stamps_ahead_ms);
    if ahead > kula_clock::limits::CLIENT_AHEAD_MAX {
        let what = format!("{name}'s writes are dated {} s ahead of its machine's clock", ahead.as_secs());
        reasons.push((&codes::NODE_CLOCK_AHEAD, what));
    }
    if let Some(free) = view.free_bytes.filter(|_| is_nearly_full(view)) {
        reasons.push((&codes::DISK_FULL, format!("{name}'s disk has {} MiB left", free >> 20)));
    }
    if !view.stuck.is_empty() {
        let named: Vec<String> = view.stuck.iter().take(limits::NAMED_ACTORS_MAX).cloned().collect();
        let what = format!("work does not move at {} of {name}; requests may time out", listed(&named));
        reasons.push((&codes::ACTOR_STUCK, what));
    }
    reasons
}

fn is_nearly_full(view: &NodeView) -> bool {
    view.free_bytes.is_some_and(|free| free < limits::FREE_BYTES_MIN)
}

/// Hints that wait although their target is heard, and hints that could not be kept. Those for a node that is down are
/// where they belong.
fn hints(survey: &Survey<'_>) -> Vec<Reason> {
    let mut waiting: BTreeMap<NodeId, (u64, Vec<NodeId>)> = BTreeMap::new();
    let mut not_kept: BTreeMap<NodeId, (u64, Vec<NodeId>)> = BTreeMap::new();
    for view in survey.views() {
        for hints in &view.hints {
            for (counts, count) in [(&mut waiting, hints.count), (&mut not_kept, hints.not_kept)] {
                if count > 0 {
                    let (sum, holders) = counts.entry(hints.target).or_default();
                    *sum = sum.saturating_add(count);
                    holders.push(view.node);
                }
            }
        }
    }
    waiting.retain(|target, _| survey.sight(*target).0.is_heard());
    let told = |counts: BTreeMap<NodeId, (u64, Vec<NodeId>)>, code: &'static Code, kept: bool| {
        counts.into_iter().map(move |(target, (count, holders))| {
            let (target, holders) = (survey.name(target), listed(&survey.names(holders)));
            let (noun, verb) = if count == 1 { ("hint", "waits") } else { ("hints", "wait") };
            let what = match kept {
                true => format!("{count} {noun} for {target} {verb} at {holders}"),
                false => format!("{count} {noun} for {target} could not be kept at {holders}"),
            };
            (code, what)
        })
    };
    told(waiting, &codes::HINTS_WAIT, true).chain(told(not_kept, &codes::HINTS_NOT_KEPT, false)).collect()
}

/// The first few, and how many more.
fn joined(mut reasons: Vec<Reason>) -> Option<String> {
    let more = reasons.len().saturating_sub(limits::REASONS_MAX);
    reasons.truncate(limits::REASONS_MAX);
    let mut told: Vec<String> = reasons.into_iter().map(|(_, what)| what).collect();
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    (!told.is_empty()).then(|| told.join("; "))
}
