//! Probes: a node is asked for a sign of life, then three others are asked whether they get one (SWIM, Das 2002 §3.1).
//!
//! It tells only what came of each round; what that means is `verdict`'s. A round ends within `PROBE_WITHIN` +
//! `HELP_WITHIN` whether anybody answers or not, and a late answer belongs to no round.

use crate::limits;
use kula_types::{Mono, NodeId};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// One sign of life that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub u64);

/// Somebody who asked us something waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// What came of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It answered us.
    Answered { target: NodeId, within: Duration },
    /// It answered others, not us.
    Vouched { target: NodeId },
    /// It answered nobody.
    Missed { target: NodeId, began: Mono, helpers: usize },
    /// What a helper has to say.
    Helped { ask: AskId, target: NodeId, heard: bool },
}

/// What is to be done about a probe that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The target did not answer: ask helpers, then say how many with `Probes::helped_by`.
    AskHelpers {
        id: ProbeId,
        target: NodeId,
    },
    Over(Outcome),
}

#[derive(Debug)]
struct Round {
    target: NodeId,
    began: Mono,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Direct { until: Mono },
    Helped { until: Mono, asked: BTreeSet<NodeId>, helpers: usize },
    ForAnother { until: Mono, ask: AskId },
}

#[derive(Default)]
pub(crate) struct Probes {
    next: u64,
    rounds: BTreeMap<ProbeId, Round>,
    /// Own rounds, one a target.
    own: BTreeMap<NodeId, ProbeId>,
}

impl Probes {
    /// Begins a round, unless one with this target is under way or there are too many.
    pub fn begin(&mut self, now: Mono, target: NodeId) -> Option<ProbeId> {
        if self.own.contains_key(&target) || self.own.len() >= limits::PROBES_MAX {
            return None;
        }
        let id = self.open(now, target, Stage::Direct { until: now.after(limits::PROBE_WITHIN) });
        self.own.insert(target, id);
        Some(id)
    }

    /// Begins a probe for somebody who asked, unless there are too many.
    pub fn help(&mut self, now: Mono, target: NodeId, ask: AskId) -> Option<ProbeId> {
        let others = self.rounds.len() - self.own.len();
        let until = now.after(limits::HELPING_WITHIN);
        (others < limits::HELPS_MAX).then(|| self.open(now, target, Stage::ForAnother { until, ask }))
    }

    fn open(&mut self, began: Mono, target: NodeId, stage: Stage) -> ProbeId {
        let id = ProbeId(self.next);
        self.next += 1;
        self.rounds.insert(id, Round { target, began, stage });
        id
    }

    /// The target answered, or it will not.
    pub fn answered(&mut self, now: Mono, id: ProbeId, alive: bool) -> Option<Next> {
        let round = self.rounds.get(&id)?;
        let (target, began) = (round.target, round.began);
        match round.stage {
            Stage::Direct { .. } if !alive => Some(Next::AskHelpers { id, target }),
            // After its time, but before the helpers' word.
            Stage::Helped { .. } if !alive => None,
            Stage::Direct { .. } | Stage::Helped { .. } => {
                self.close(id);
                Some(Next::Over(Outcome::Answered { target, within: now.since(began) }))
            }
            Stage::ForAnother { ask, .. } => {
                self.close(id);
                Some(Next::Over(Outcome::Helped { ask, target, heard: alive }))
            }
        }
    }

    /// These were asked for help. Without any the round is missed.
    pub fn helped_by(&mut self, now: Mono, id: ProbeId, asked: BTreeSet<NodeId>) -> Option<Outcome> {
        let round = self.rounds.get_mut(&id)?;
        let helpers = asked.len();
        if helpers > 0 {
            round.stage = Stage::Helped { until: now.after(limits::HELP_WITHIN), asked, helpers };
            return None;
        }
        self.missed(id, 0)
    }

    /// A helper answered, or will not.
    pub fn vouched(&mut self, id: ProbeId, helper: NodeId, heard: bool) -> Option<Outcome> {
        let round = self.rounds.get_mut(&id)?;
        let target = round.target;
        let Stage::Helped { asked, helpers, .. } = &mut round.stage else { return None };
        if !asked.remove(&helper) {
            return None;
        }
        if heard {
            self.close(id);
            return Some(Outcome::Vouched { target });
        }
        let (helpers, last) = (*helpers, asked.is_empty());
        if last { self.missed(id, helpers) } else { None }
    }

    /// The rounds whose time is over, each to be gone on with.
    pub fn overdue(&mut self, now: Mono) -> Vec<Next> {
        let late = self.rounds.iter().filter(|(_, round)| round.until() <= now).map(|(id, _)| *id);
        let late: Vec<ProbeId> = late.collect();
        late.into_iter().filter_map(|id| self.late(now, id)).collect()
    }

    fn late(&mut self, now: Mono, id: ProbeId) -> Option<Next> {
        match self.rounds.get(&id)?.stage {
            Stage::Direct { .. } | Stage::ForAnother { .. } => self.answered(now, id, false),
            Stage::Helped { helpers, .. } => self.missed(id, helpers).map(Next::Over),
        }
    }

    /// Ends all rounds without an outcome. Who asked for help is returned.
    pub fn abandon(&mut self) -> Vec<AskId> {
        self.own.clear();
        let asker = |round: Round| match round.stage {
            Stage::ForAnother { ask, .. } => Some(ask),
            Stage::Direct { .. } | Stage::Helped { .. } => None,
        };
        std::mem::take(&mut self.rounds).into_values().filter_map(asker).collect()
    }

    pub fn due(&self) -> Option<Mono> {
        self.rounds.values().map(Round::until).min()
    }

    fn missed(&mut self, id: ProbeId, helpers: usize) -> Option<Outcome> {
        let Round { target, began, .. } = self.close(id)?;
        Some(Outcome::Missed { target, began, helpers })
    }

    fn close(&mut self, id: ProbeId) -> Option<Round> {
        let round = self.rounds.remove(&id)?;
        if self.own.get(&round.target) == Some(&id) {
            self.own.remove(&round.target);
        }
        Some(round)
    }
}

impl Round {
    fn until(&self) -> Mono {
        match &self.stage {
            Stage::Direct { until } | Stage::Helped { until, .. } | Stage::ForAnother { until, .. } => *until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u128) -> NodeId {
        NodeId(uuid::Uuid::from_u128(number))
    }

    fn at(millis: u64) -> Mono {
        Mono::from_millis(millis)
    }

    #[test]
    fn a_round_ends_within_a_second_though_nobody_answers() {
        let mut probes = Probes::default();
        let id = probes.begin(at(0), node(2)).unwrap();
        assert_eq!(probes.begin(at(1), node(2)), None, "one round a target");
        assert_eq!(probes.due(), Some(at(500)));
        assert_eq!(probes.overdue(at(499)), []);
        assert_eq!(probes.overdue(at(500)), [Next::AskHelpers { id, target: node(2) }]);
        assert_eq!(probes.helped_by(at(500), id, [node(3), node(4)].into()), None);
        assert_eq!(probes.vouched(id, node(3), false), None);
        assert_eq!(probes.vouched(id, node(3), true), None, "it has said so already");
        let missed = Outcome::Missed { target: node(2), began: at(0), helpers: 2 };
        assert_eq!(probes.overdue(at(1_000)), [Next::Over(missed)]);
        assert_eq!((probes.answered(at(1_001), id, true), probes.due()), (None, None), "too late");
    }

    #[test]
    fn one_helper_who_hears_it_is_enough_and_so_is_a_late_answer() {
        let mut probes = Probes::default();
        let id = probes.begin(at(0), node(2)).unwrap();
        probes.answered(at(3), id, false);
        probes.helped_by(at(3), id, [node(3), node(4)].into());
        assert_eq!(probes.vouched(id, node(4), true), Some(Outcome::Vouched { target: node(2) }));
        let id = probes.begin(at(1_000), node(2)).unwrap();
        probes.overdue(at(1_500));
        probes.helped_by(at(1_500), id, [node(3)].into());
        let late = Outcome::Answered { target: node(2), within: Duration::from_millis(600) };
        assert_eq!(probes.answered(at(1_600), id, true), Some(Next::Over(late)));
    }

    #[test]
    fn past_the_bound_no_probe_is_begun_for_others() {
        let mut probes = Probes::default();
        for number in 0..limits::HELPS_MAX as u64 {
            assert!(probes.help(at(0), node(2), AskId(number)).is_some());
        }
        assert_eq!(probes.help(at(0), node(2), AskId(99)), None);
        assert!(probes.begin(at(0), node(3)).is_some(), "own ones have room of their own");
        assert_eq!(probes.overdue(at(400)).len(), limits::HELPS_MAX);
        assert!(probes.help(at(400), node(2), AskId(99)).is_some());
    }
}
