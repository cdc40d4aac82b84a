//! A run: neighbouring ring partitions that the same nodes own, read page by page from R of them.
//!
//! Pages of several owners join into one that is good as far as the least of them looked: up to there each of the R has
//! said all it knows, so with R + W > N nothing acknowledged is missing; behind it one of them may know more, and what
//! the others said of that is read again.

use kula_fault::{Mutant, planted};
use kula_lattice::{Join, Partition};
use kula_placement::{KeyspaceSettings, Ring};
use kula_replica::{RangePage, ReplicaError};
use kula_types::{Mono, NodeId, PartitionKey, Token};
use std::collections::VecDeque;

/// Between two keys: right behind this one. An empty key stands before all keys of its token.
pub(super) type Place = (Token, PartitionKey);

pub(super) fn before(token: Token) -> Place {
    (token, PartitionKey::copy_from(&[]))
}

/// A joined partition.
pub(super) type Row = (Token, PartitionKey, Partition);

/// Tokens that the same nodes own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub through: Token,
    /// In the order of preference for the first of them.
    pub owners: Vec<NodeId>,
}

/// The tokens from `from` on with the same set of owners, over so many ring partitions at most.
pub(super) fn stretch(ring: &Ring, settings: &KeyspaceSettings, from: Token, partitions_max: usize) -> Stretch {
    let owners = ring.preference_list(settings, from).owners;
    let sorted = |mut owners: Vec<NodeId>| {
        owners.sort_unstable();
        owners
    };
    let set = sorted(owners.clone());
    let mut through = division(ring, from);
    for _ in 1..partitions_max {
        let Some(next) = through.0.checked_add(1).map(Token) else { break };
        if sorted(ring.preference_list(settings, next).owners) != set {
            break;
        }
        through = division(ring, next);
    }
    Stretch { through, owners }
}

/// The last token that lies in the same partition as `from` in every data centre.
fn division(ring: &Ring, from: Token) -> Token {
    let end = |ordinal: usize| {
        let through = ring.range_in(ordinal, ring.partition_in(ordinal, from)).through;
        // A partition that goes over the end of the circle goes on at its beginning.
        if through < from { Token::MAX } else { through }
    };
    (0..ring.datacentres.len()).map(end).min().unwrap_or(Token::MAX)
}

#[derive(Debug)]
pub(super) struct Run {
    /// All before it was joined, and stands in `ready` or was taken from there.
    pub after: Place,
    pub through: Token,
    /// Read to its end.
    pub complete: bool,
    pub parts: Vec<Part>,
    pub ready: VecDeque<Row>,
    /// Rounds of questions that have ended.
    pub rounds: u32,
    /// When another owner is asked as well, in this round.
    pub hedge_at: Option<Mono>,
}

/// One owner's part in a run.
#[derive(Debug)]
pub(super) struct Part {
    pub node: NodeId,
    pub state: State,
    /// Number of the question it was asked last, and when the first.
    pub question: usize,
    pub asked_at: Option<Mono>,
}

#[derive(Debug)]
pub(super) enum State {
    NotAsked,
    Unreachable,
    Waiting,
    /// What it answered in this round.
    Page(RangePage),
    /// It answered well in an earlier round.
    Served,
    Refused(ReplicaError),
    Lost,
}

impl Run {
    pub fn new(after: Place, through: Token, owners: impl IntoIterator<Item = (NodeId, bool)>) -> Self {
        let part = |(node, reached): (NodeId, bool)| Part {
            node,
            state: if reached { State::NotAsked } else { State::Unreachable },
            question: 0,
            asked_at: None,
        };
        let parts = owners.into_iter().map(part).collect();
        Run { after, through, complete: false, parts, ready: VecDeque::new(), rounds: 0, hedge_at: None }
    }

    pub fn count(&self, of: impl Fn(&State) -> bool) -> u32 {
        u32::try_from(self.parts.iter().filter(|part| of(&part.state)).count()).unwrap_or(u32::MAX)
    }

    pub fn pages(&self) -> u32 {
        self.count(|state| matches!(state, State::Page(_)))
    }

    /// Answers of this round that are here or may come.
    pub fn answers(&self) -> u32 {
        self.count(|state| matches!(state, State::Page(_) | State::Waiting))
    }

    pub fn waits_for(&self, node: NodeId) -> bool {
        self.parts.iter().any(|part| part.node == node && matches!(part.state, State::Waiting))
    }

    /// Whose answer to this question is awaited.
    pub fn asked(&self, question: usize) -> Option<usize> {
        self.parts.iter().position(|part| part.question == question && matches!(part.state, State::Waiting))
    }

    /// Between rounds: who answered well is asked first, who was waited for in vain last.
    fn end_round(&mut self) {
        self.rounds += 1;
        self.hedge_at = None;
        self.parts.sort_by_key(|part| match part.state {
            State::Page(_) | State::Served => 0,
            State::NotAsked | State::Unreachable | State::Refused(_) | State::Lost => 1,
            State::Waiting => 2,
        });
        for part in &mut self.parts {
            match part.state {
                State::Page(_) => part.state = State::Served,
                State::Waiting => part.state = State::NotAsked,
                State::NotAsked | State::Served | State::Unreachable | State::Refused(_) | State::Lost => {}
            }
        }
    }

    pub fn spares(&self) -> u32 {
        self.count(|state| matches!(state, State::NotAsked | State::Served))
    }

    /// Those that refused for a reason that passes may be asked again; whether there are any.
    pub fn forgive(&mut self, passes: impl Fn(&ReplicaError) -> bool) -> bool {
        let mut are_any = false;
        for part in &mut self.parts {
            if matches!(&part.state, State::Refused(error) if passes(error)) {
                (part.state, are_any) = (State::NotAsked, true);
            }
        }
        are_any
    }

    /// An owner that can be asked in this round.
    pub fn spare(&self) -> Option<usize> {
        self.parts.iter().position(|part| matches!(part.state, State::NotAsked | State::Served))
    }

    /// Whether a page is what was asked for. A peer may lie; a page that goes on forever, or back, must not be followed.
    pub fn is_sound(&self, page: &RangePage) -> bool {
        let places = || page.rows.iter().map(|(token, key, _)| (*token, key));
        let after = (self.after.0, &self.after.1);
        let last = places().next_back().unwrap_or(after);
        if !std::iter::once(after).chain(places()).is_sorted_by(|left, right| left < right) || last.0 > self.through {
            return last == after && page.rows.is_empty();
        }
        match &page.resume {
            None => true,
            Some((token, key)) => after < (*token, key) && last <= (*token, key) && *token <= self.through,
        }
    }

    /// Joins the pages of the round, once there are enough.
    pub fn join(&mut self) {
        let pages = self.parts.iter_mut().filter_map(|part| match &mut part.state {
            State::Page(page) => Some(std::mem::take(page)),
            _ => None,
        });
        let joined = join_pages(pages.collect());
        self.ready.extend(joined.rows);
        match joined.resume {
            Some(resume) => self.after = resume,
            None => self.complete = true,
        }
        self.end_round();
    }
}

impl Part {
    pub fn ask(&mut self, question: usize, now: Mono) {
        self.question = question;
        self.asked_at.get_or_insert(now);
        self.state = State::Waiting;
    }
}

/// The pages of several owners for the same range as one.
pub(super) fn join_pages(pages: Vec<RangePage>) -> RangePage {
    let ends = pages.iter().filter_map(|page| page.resume.clone());
    let resume = if planted(Mutant::PageBelievedPastLeast) { ends.max() } else { ends.min() };
    let is_good = |token: Token, key: &PartitionKey| resume.as_ref().is_none_or(|(to, of)| (token, key) <= (*to, of));
    let rows = pages.into_iter().flat_map(|page| page.rows);
    let mut rows: Vec<Row> = rows.filter(|(token, key, _)| is_good(*token, key)).collect();
    rows.sort_by(|(token, key, _), (other_token, other_key, _)| (token, key).cmp(&(other_token, other_key)));
    let mut joined: Vec<Row> = Vec::with_capacity(rows.len());
    for (token, key, partition) in rows {
        match joined.last_mut() {
            Some((last, of, known)) if (*last, &*of) == (token, &key) => known.join(partition),
            _ => joined.push((token, key, partition)),
        }
    }
    RangePage { rows: joined, resume }
}
