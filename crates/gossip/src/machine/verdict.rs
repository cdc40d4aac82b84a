//! What this node makes of each other node: who suspects it, since when, and whether that is enough to call it down.
//!
//! A suspicion is a source's own experience with one process of the target under one refutation number. What others merely
//! pass on counts for nothing, so two sources are two independent experiences. DOWN, once declared, stands until the node
//! is heard, refutes, or starts anew.

use crate::{State, limits};
use kula_types::{Mono, NodeId};
use std::{collections::BTreeSet, time::Duration};

/// What this node has experienced with another, and what it makes of it. Never sent.
#[derive(Clone, Debug)]
pub(crate) struct Opinion {
    /// When this process of it was last heard, by whatever way of our own; `None`: not yet.
    pub heard: Option<Mono>,
    /// An earlier process of it was known.
    pub anew: bool,
    /// When it last spoke to us of its own accord.
    pub spoke: Option<Mono>,
    /// When a connection to it was last lost.
    pub lost: Option<Mono>,
    /// Probes missed in a row, with their helpers.
    pub missed: u32,
    /// The refutation they were missed under.
    pub missed_under: u64,
    /// When it was last heard before them.
    pub silent_since: Mono,
    /// When the first of them was missed.
    pub suspected: Mono,
    /// Since when it is known.
    pub met: Mono,
    /// When its own suspicions were last heard of.
    pub accused: Mono,
    latency: Option<Duration>,
    slow: bool,
    pub down: Option<Down>,
    /// It is not declared down before.
    hold_until: Mono,
    refutations: u32,
    refuted_at: Mono,
    /// As judged last.
    pub state: State,
    pub since: Mono,
    pub seen_by: Vec<NodeId>,
}

/// Why a node counts as down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Down {
    pub sources: Vec<NodeId>,
    /// How often its heart had beaten.
    pub heartbeat: u64,
}

/// Who may judge, and by how many voices.
#[derive(Clone, Debug)]
pub(crate) struct Court {
    pub me: NodeId,
    pub electors: BTreeSet<NodeId>,
    /// Or was until just now.
    pub cut_off: bool,
    pub down_sources: u32,
    /// When those of the electors were last heard whose probes are not missed, this node left out; and how many of the
    /// others there are.
    pub heard: Vec<Mono>,
    pub lost: usize,
}

/// What is known of a target at the moment of judgement.
pub(crate) struct Case<'a> {
    pub target: NodeId,
    pub heartbeat: u64,
    pub left: bool,
    /// Others who suspect this process of it under its present refutation, with the probes they missed.
    pub accusers: &'a [(NodeId, u32)],
}

impl Opinion {
    pub fn new(now: Mono) -> Self {
        Opinion {
            heard: None,
            anew: false,
            spoke: None,
            lost: None,
            missed: 0,
            missed_under: 0,
            silent_since: now,
            suspected: now,
            met: now,
            accused: now,
            latency: None,
            slow: false,
            down: None,
            hold_until: Mono::default(),
            refutations: 0,
            refuted_at: Mono::default(),
            state: State::Suspect,
            since: now,
            seen_by: Vec::new(),
        }
    }

    pub fn is_suspected(&self) -> bool {
        self.missed > 0
    }

    /// It was heard. True if that is news: it had not been, or its probes were missed, or it counted as down.
    pub fn hears(&mut self, now: Mono) -> bool {
        let news = self.heard.is_none() || self.missed > 0 || self.down.is_some();
        (self.heard, self.missed, self.down) = (Some(now), 0, None);
        news
    }

    /// A probe was missed, under this refutation: the count, unless it spoke to us lately.
    pub fn misses(&mut self, now: Mono, refutation: u64, interval: Duration) -> Option<u32> {
        let spoke = self.spoke.filter(|spoke| self.lost.is_none_or(|lost| lost < *spoke));
        if spoke.is_some_and(|spoke| now.since(spoke) <= interval.mul_f64(limits::VOICE_INTERVALS)) {
            return None;
        }
        if self.missed == 0 {
            self.silent_since = self.heard.unwrap_or(self.met);
            self.suspected = now;
        }
        self.missed_under = refutation;
        self.missed = self.missed.saturating_add(1);
        Some(self.missed)
    }

    /// It took so long to answer. A smoothed time with a gap between the two edges keeps it from flickering.
    pub fn measure(&mut self, took: Duration) {
        let smoothed = self.latency.map_or(took, |before| before.mul_f64(0.75) + took.mul_f64(0.25));
        self.latency = Some(smoothed);
        self.slow = smoothed >= if self.slow { limits::SLOW_UNTIL } else { limits::SLOW_FROM };
    }

    /// It refuted: it was alive when it said so. Each time in a row it is trusted for longer.
    pub fn refuted(&mut self, now: Mono) {
        let lately = self.refutations > 0 && now.since(self.refuted_at) < limits::REFUTED_FORGOTTEN;
        self.refutations = if lately { self.refutations.saturating_add(1) } else { 1 };
        self.refuted_at = now;
        let hold = limits::REFUTED_HOLD.saturating_mul(1 << (self.refutations - 1).min(10));
        self.hold_until = now.after(hold.min(limits::REFUTED_HOLD_MAX));
        self.down = None;
    }

    /// Another process of it, which has not been heard yet: only what was seen of connections is still true.
    pub fn started_anew(&mut self, now: Mono) {
        let Opinion { spoke, lost, state, since, .. } = *self;
        *self = Opinion { anew: true, spoke, lost, state, since, ..Opinion::new(now) };
    }

    /// Judges anew. True if something that others see has changed.
    pub fn judge(&mut self, now: Mono, case: &Case, court: &Court) -> bool {
        let beats = |down: &Down| case.heartbeat.saturating_sub(down.heartbeat);
        self.down.take_if(|down| beats(down) >= limits::REVIVING_BEATS);
        if self.down.is_none() && !case.left && now >= self.hold_until {
            self.down = court.declares(self, case);
        }
        let state = if case.left || self.down.is_some() {
            State::Down
        } else if self.heard.is_none() || self.missed > 0 || !case.accusers.is_empty() {
            State::Suspect
        } else if self.slow {
            State::Slow
        } else {
            State::Up
        };
        let mut seen_by: BTreeSet<NodeId> = case.accusers.iter().map(|(source, _)| *source).collect();
        seen_by.extend(self.down.iter().flat_map(|down| down.sources.iter().copied()));
        seen_by.extend((self.missed > 0).then_some(court.me));
        let seen_by: Vec<NodeId> = seen_by.into_iter().collect();
        let changed = state != self.state || seen_by != self.seen_by;
        if state != self.state {
            (self.state, self.since) = (state, now);
        }
        self.seen_by = seen_by;
        changed
    }
}

impl Court {
    /// Voices that are needed against this target, and the probes that each must have missed. Where nobody else could
    /// speak, one voice does, after more of them.
    pub fn needs(&self, target: NodeId) -> (usize, u32) {
        let others = self.electors.iter().filter(|node| **node != target && **node != self.me).count();
        match usize::try_from(self.down_sources).unwrap_or(usize::MAX).min(others + 1) {
            // By choice of the operator, or for want of others.
            0 | 1 => (1, limits::MISSED_ALONE),
            voices => (voices, limits::MISSED_FIRM),
        }
    }

    /// Only a node whose own probes fail declares, and none that is cut off, or may be: it may be the one that is gone.
    fn declares(&self, opinion: &Opinion, case: &Case) -> Option<Down> {
        if self.cut_off || opinion.missed == 0 || !self.hears_enough(opinion.suspected) {
            return None;
        }
        let (needed, firm) = self.needs(case.target);
        let voices = case.accusers.iter().filter(|(source, missed)| *missed >= firm && self.electors.contains(source));
        let mut sources: Vec<NodeId> = voices.map(|(source, _)| *source).collect();
        sources.extend((opinion.missed >= firm).then_some(self.me));
        sources.sort_unstable();
        (sources.len() >= needed).then_some(Down { sources, heartbeat: case.heartbeat })
    }

    /// Enough electors have been heard since a node was first missed. Where the network parts, all that are behind the cut
    /// fall silent together, but are not missed together.
    fn hears_enough(&self, since: Mono) -> bool {
        let fresh = 1 + self.heard.iter().filter(|heard| **heard >= since).count();
        fresh >= self.lost && fresh + self.lost >= self.electors.len().min(limits::PROBED_EACH_ROUND)
    }

    /// Fewer than half of the electors are heard.
    pub fn is_minority(&self) -> bool {
        2 * self.hears() < self.electors.len()
    }

    /// How many electors are heard, this node among them.
    pub fn hears(&self) -> usize {
        self.heard.len() + usize::from(self.electors.contains(&self.me))
    }
}
