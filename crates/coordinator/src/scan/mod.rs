//! A scan's life: the ring's partitions in token order, R owners of each, their pages joined, what exists of them shown,
//! until the page is full, the table has ended, or the deadline has come.
//!
//! Neighbouring partitions with the same owners are read as one *run* (`run`); runs are read one by one until some
//! have ended without filling the page, then several at a time. What is shown is shown in order, so a run that is read
//! ahead waits for its turn. Nothing is repaired: a scan shows what R owners know, the reads of its keys repair them.
//! Bounded: runs and questions at a time, bytes of a question, of the answer; a page that ends early says where.

mod messages;
#[cfg(test)]
mod model;
mod run;
#[cfg(test)]
mod scripts;

pub use messages::{Scan, ScanAnswer, ScanEntry};

use crate::{
    error::{Applied, CoordinatorError},
    limits,
    machine::{Answered, Effect, Pending, Tag, Times, Turn, View},
    messages::{Found, ReplicaOutcome, ReplicaReport, Value},
    plan::{passes, required, resolve},
    present::present,
};
use kula_actor::Reply;
use kula_replica::{Fence, Op, Outcome, ReplicaError};
use kula_schema::Table;
use kula_types::{Consistency, Mono, NodeId, PartitionKey, Timestamp, Token, limits::KEY_BYTES_MAX};
use run::{Part, Place, Run, State, before, stretch};
use std::{collections::VecDeque, sync::Arc, time::Duration};

type Answering = Reply<Result<ScanAnswer, CoordinatorError>>;

pub(crate) struct Scanning {
    reply: Answering,
    times: Times,
    table: Arc<Table>,
    consistency: Consistency,
    resolve_lww: bool,
    /// Entries wanted.
    limit: usize,
    /// Time of visibility, the same for all entries.
    visible_at: Timestamp,
    ring_version: u64,
    /// Owners of each run that must answer.
    need: u32,
    /// In token order; the first is the one whose rows are shown.
    runs: VecDeque<Run>,
    /// Where the next run begins; none: there is none.
    unplanned: Option<Place>,
    /// Runs that have ended.
    ended: u32,
    /// Nodes that let a question wait or failed it: asked last.
    slow: Vec<NodeId>,
    /// All before it was looked at.
    place: Place,
    /// The last key that was looked at.
    last: Option<PartitionKey>,
    entries: Vec<ScanEntry>,
    /// Of the entries, about as they will be sent.
    bytes: usize,
    questions: usize,
    /// When an owner whose ring or schema was another may be asked again, or all begins anew from `place`.
    retry_at: Option<Mono>,
    tries: u32,
}

/// Why rows are not shown any more.
enum Shown {
    /// There is none in hand.
    All,
    /// The page is full.
    Full,
    Damaged,
}

impl Scanning {
    pub fn begin(turn: &mut Turn<'_, '_>, scan: Scan, times: Times) -> Option<Pending> {
        let Scan { keyspace, table, after, limit, resolve_lww, consistency, deadline: _, reply } = scan;
        let bytes = after.as_ref().map_or(1, |key| key.as_bytes().len());
        let checked = match bytes {
            1..=KEY_BYTES_MAX => resolve(turn.view, &keyspace, &table),
            _ => Err(CoordinatorError::KeyLength { bytes, max: KEY_BYTES_MAX }),
        };
        let table = match checked {
            Ok(table) => table,
            Err(error) => return answer(turn, reply, times, Err(error)),
        };
        let place = after.map_or(before(Token::MIN), |key| (turn.view.ring.token(&key), key));
        let scanning = Box::new(Scanning {
            reply,
            times,
            table,
            consistency,
            resolve_lww,
            limit: usize::try_from(limit).unwrap_or(usize::MAX).clamp(1, limits::SCAN_ENTRIES_MAX),
            visible_at: turn.view.wall,
            ring_version: 0,
            need: 0,
            runs: VecDeque::new(),
            unplanned: None,
            ended: 0,
            slow: Vec::new(),
            place,
            last: None,
            entries: Vec::new(),
            bytes: 0,
            questions: 0,
            retry_at: None,
            tries: 0,
        });
        scanning.begin_anew(turn)
    }

    pub fn wake_at(&self) -> Mono {
        let hedges = self.runs.iter().filter_map(|run| run.hedge_at);
        hedges.chain(self.retry_at).fold(self.times.deadline, Mono::min)
    }

    pub fn waits_for(&self, node: NodeId) -> bool {
        self.runs.iter().any(|run| run.waits_for(node))
    }

    pub fn woken(mut self: Box<Self>, turn: &mut Turn<'_, '_>) -> Option<Pending> {
        let now = turn.view.now;
        if now >= self.times.deadline {
            let error = self.timeout(turn.view);
            return self.fail(turn, error);
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            return self.retry(turn);
        }
        for index in 0..self.runs.len() {
            if self.runs[index].hedge_at.is_some_and(|at| at <= now) {
                self.runs[index].hedge_at = None;
                self.hedge(turn, index);
            }
        }
        Some(Pending::Scan(self))
    }

    /// Another owner is asked at once; this one may answer all the same.
    pub fn suspected(mut self: Box<Self>, turn: &mut Turn<'_, '_>, node: NodeId) -> Option<Pending> {
        for index in 0..self.runs.len() {
            if self.runs[index].waits_for(node) {
                self.hedge(turn, index);
            }
        }
        Some(Pending::Scan(self))
    }

    pub fn replied(mut self: Box<Self>, turn: &mut Turn<'_, '_>, tag: Tag, answer: Answered) -> Option<Pending> {
        let Some((run, at)) = self.runs.iter_mut().find_map(|run| run.asked(tag.owner).map(|at| (run, at))) else {
            turn.effects.push(Effect::Late);
            return Some(Pending::Scan(self));
        };
        let node = run.parts[at].node;
        let state = match answer {
            Answered::Served(Outcome::Range(page)) if run.is_sound(&page) => State::Page(page),
            // An answer to another question says nothing about this one.
            Answered::Served(_) | Answered::Lost => State::Lost,
            Answered::Refused(error) => {
                turn.other_ring(node, &error);
                State::Refused(error)
            }
        };
        let is_slow = match &state {
            State::Refused(error) => !passes(turn.view, error),
            state => matches!(state, State::Lost),
        };
        if is_slow && !self.slow.contains(&node) {
            self.slow.push(node);
        }
        if matches!(&state, State::Refused(_)) && !is_slow {
            self.retry_at.get_or_insert(turn.retry_at(self.tries, self.times.deadline));
        }
        run.parts[at].state = state;
        if run.pages() >= self.need {
            run.join();
        }
        self.proceed(turn)
    }

    /// Some owner's ring or schema was another. By now one of the two may have caught up: under a newer ring all begins
    /// anew, else that owner is asked again, beside those that let the run wait.
    fn retry(mut self: Box<Self>, turn: &mut Turn<'_, '_>) -> Option<Pending> {
        self.retry_at = None;
        self.tries = self.tries.saturating_add(1);
        for index in 0..self.runs.len() {
            let run = &mut self.runs[index];
            if run.forgive(|error| passes(turn.view, error)) && run.answers() >= self.need {
                self.ask_spare(turn, index);
            }
        }
        self.proceed(turn)
    }

    /// From `place` on, under the ring of now.
    fn begin_anew(mut self: Box<Self>, turn: &mut Turn<'_, '_>) -> Option<Pending> {
        // The schema may know a keyspace that the ring does not have yet, or not any more.
        let Some(settings) = turn.view.ring.settings(&self.table.keyspace) else {
            let error = CoordinatorError::UnknownKeyspace { keyspace: self.table.keyspace.to_string() };
            return self.fail(turn, error);
        };
        match required(turn.view, settings, self.consistency) {
            Ok(need) => self.need = need,
            Err(error) => return self.fail(turn, error),
        }
        self.ring_version = turn.view.ring.version;
        self.runs.clear();
        self.unplanned = Some(self.place.clone());
        self.retry_at = None;
        self.proceed(turn)
    }

    /// Shows what is in hand, ends if that is enough, asks for more if not.
    fn proceed(mut self: Box<Self>, turn: &mut Turn<'_, '_>) -> Option<Pending> {
        if self.ring_version != turn.view.ring.version {
            return self.begin_anew(turn);
        }
        loop {
            match self.show(turn) {
                Shown::Full => return self.finish(turn, true),
                Shown::Damaged => {
                    let error = self.damaged(turn.view, self.need);
                    return self.fail(turn, error);
                }
                Shown::All if self.runs.front().is_some_and(|run| run.complete) => self.end_run(),
                Shown::All => break,
            }
        }
        if self.runs.is_empty() && self.unplanned.is_none() {
            return self.finish(turn, false);
        }
        if self.entries.len() >= self.limit {
            // Whether anything exists behind it nobody waits to learn.
            return self.finish(turn, true);
        }
        self.ask_for_more(turn);
        let Some(error) = self.failure(turn.view) else { return Some(Pending::Scan(self)) };
        if !self.may_catch_up(turn.view) {
            return self.fail(turn, error);
        }
        self.retry_at.get_or_insert(turn.retry_at(self.tries, self.times.deadline));
        Some(Pending::Scan(self))
    }

    /// Shows the rows in hand of the first run.
    fn show(&mut self, turn: &Turn<'_, '_>) -> Shown {
        let Some(run) = self.runs.front_mut() else { return Shown::All };
        while let Some((token, key, partition)) = run.ready.pop_front() {
            let Ok(presented) = present(&partition, &self.table, self.visible_at, self.resolve_lww) else {
                return Shown::Damaged;
            };
            if !matches!(presented.found, Found::Nothing) {
                let context = presented.seal(turn.view.ring, self.table.id, &key);
                let bytes = size(&presented.found) + key.as_bytes().len() + context.as_ref().map_or(0, String::len);
                let is_full = self.entries.len() >= self.limit || self.bytes + bytes > limits::SCAN_ANSWER_BYTES_MAX;
                if is_full && !self.entries.is_empty() {
                    return Shown::Full;
                }
                self.bytes += bytes;
                self.entries.push(ScanEntry { key: key.clone(), token, found: presented.found, context });
            }
            self.last = Some(key.clone());
            self.place = (token, key);
        }
        self.place = run.after.clone();
        Shown::All
    }

    /// The first run was read and shown to its end.
    fn end_run(&mut self) {
        let Some(run) = self.runs.pop_front() else { return };
        self.ended += 1;
        // Behind the last token there is nothing to begin anew from.
        self.place = before(Token(run.through.0.saturating_add(1)));
    }

    /// Runs under way at a time: one, and twice as many with each that did not fill the page.
    fn width(&self) -> usize {
        limits::SCAN_RUNS_MAX.min(1 << self.ended.min(16))
    }

    fn ask_for_more(&mut self, turn: &mut Turn<'_, '_>) {
        while self.runs.len() < self.width()
            && let Some(run) = self.cut_run(turn.view)
        {
            self.runs.push_back(run);
        }
        for index in 0..self.runs.len() {
            let run = &self.runs[index];
            // A run that is read ahead has one page in hand; one that cannot succeed is not begun.
            if run.complete || !run.ready.is_empty() || run.answers() + run.spares() < self.need {
                continue;
            }
            while self.runs[index].answers() < self.need && self.ask_spare(turn, index) {}
        }
    }

    /// The next run of the ring.
    fn cut_run(&mut self, view: &View<'_>) -> Option<Run> {
        let settings = view.ring.settings(&self.table.keyspace)?;
        let after = self.unplanned.take()?;
        let stretch = stretch(view.ring, settings, after.0, limits::SCAN_RUN_PARTITIONS_MAX);
        self.unplanned = stretch.through.0.checked_add(1).map(|next| before(Token(next)));
        let mut owners = stretch.owners;
        owners.sort_by_key(|node| (self.slow.contains(node), *node != view.me));
        Some(Run::new(after, stretch.through, owners.into_iter().map(|node| (node, (view.reaches)(node)))))
    }

    /// Asks one more owner of a run for its page; false if there is none.
    fn ask_spare(&mut self, turn: &mut Turn<'_, '_>, index: usize) -> bool {
        let width = self.width();
        let run = &mut self.runs[index];
        let Some(spare) = run.spare() else {
            run.hedge_at = None;
            return false;
        };
        let question = self.questions;
        self.questions += 1;
        run.parts[spare].ask(question, turn.view.now);
        let has_other = run.spare().is_some();
        run.hedge_at = has_other.then(|| turn.view.now.after(limits::SCAN_HEDGE_AFTER).min(self.times.deadline));
        // One more than is wanted tells whether there is more; a run of deletes is read in larger and larger pages.
        let wanted = (self.limit - self.entries.len() + 1) << run.rounds.min(16);
        let op = Op::ReadRange {
            table: self.table.id,
            after: run.after.clone(),
            through: run.through,
            partitions_max: wanted.min(limits::SCAN_PARTITIONS_MAX),
            bytes_max: limits::SCAN_BYTES_MAX / width,
        };
        turn.effects.push(Effect::Send {
            to: run.parts[spare].node,
            token: run.after.0,
            tag: Tag { request: turn.request, owner: question, round: 0 },
            // No partition of this ring version moves, so its phase is 0.
            fence: Fence { ring_version: self.ring_version, phase: 0 },
            deadline: self.times.deadline,
            op,
        });
        true
    }

    /// An owner lets a run wait: another is asked as well, if there is one.
    fn hedge(&mut self, turn: &mut Turn<'_, '_>, index: usize) {
        for part in self.runs[index].parts.iter().filter(|part| matches!(part.state, State::Waiting)) {
            if !self.slow.contains(&part.node) {
                self.slow.push(part.node);
            }
        }
        if self.ask_spare(turn, index) {
            turn.effects.push(Effect::Hedged);
        }
    }

    fn finish(self: Box<Self>, turn: &mut Turn<'_, '_>, more: bool) -> Option<Pending> {
        let Scanning { reply, times, entries, last, .. } = *self;
        let page = ScanAnswer { entries, next: last.filter(|_| more), timing: times.timing(turn.view.now) };
        answer(turn, reply, times, Ok(page))
    }

    /// What was looked at is a page, and the next one meets the error; without that it is the answer.
    fn fail(self: Box<Self>, turn: &mut Turn<'_, '_>, error: CoordinatorError) -> Option<Pending> {
        if self.last.is_some() {
            return self.finish(turn, true);
        }
        let Scanning { reply, times, .. } = *self;
        answer(turn, reply, times, Err(error))
    }

    /// Of the run that is to be shown next.
    fn reports(&self, view: &View<'_>) -> Vec<ReplicaReport> {
        self.runs.front().map_or_else(Vec::new, |run| run.parts.iter().map(|part| report(part, view)).collect())
    }

    fn acked(&self) -> u32 {
        self.runs.front().map_or(0, Run::pages)
    }

    fn timeout(&self, view: &View<'_>) -> CoordinatorError {
        CoordinatorError::Timeout { need: self.need, acked: self.acked(), replicas: self.reports(view) }
    }

    fn damaged(&self, view: &View<'_>, damaged: u32) -> CoordinatorError {
        CoordinatorError::Damaged { need: self.need, acked: self.acked(), damaged, replicas: self.reports(view) }
    }

    /// Whether the first run waits only for two nodes to catch up with each other.
    fn may_catch_up(&self, view: &View<'_>) -> bool {
        let mut parts = self.runs.front().into_iter().flat_map(|run| &run.parts);
        parts.any(|part| matches!(&part.state, State::Refused(error) if passes(view, error)))
    }

    /// What most of the owners of the first run said, if too few of them can still answer.
    fn failure(&self, view: &View<'_>) -> Option<CoordinatorError> {
        let run = self.runs.front().filter(|run| run.answers() < self.need)?;
        let refused =
            |of: fn(&ReplicaError) -> bool| run.count(|state| matches!(state, State::Refused(error) if of(error)));
        let (need, acked) = (self.need, run.pages());
        let damaged = refused(|error| matches!(error, ReplicaError::Damaged));
        if damaged > 0 {
            return Some(self.damaged(view, damaged));
        }
        let gone = |state: &State| {
            matches!(state, State::Unreachable | State::Refused(ReplicaError::Closed | ReplicaError::Unreachable))
        };
        let alive = run.count(|state| !gone(state));
        if alive < need {
            return Some(CoordinatorError::Unavailable { need, alive, replicas: self.reports(view) });
        }
        let overloaded = run.parts.iter().find_map(|part| match &part.state {
            State::Refused(ReplicaError::Overloaded { path, depth, cap }) => Some((Arc::clone(path), *depth, *cap)),
            _ => None,
        });
        if let Some((path, depth, cap)) = overloaded {
            return Some(CoordinatorError::Overloaded { path, depth, cap, applied: Applied::No });
        }
        if refused(|error| matches!(error, ReplicaError::UnknownTable { .. })) > 0 {
            let (keyspace, table) = (self.table.keyspace.to_string(), self.table.name.to_string());
            return Some(CoordinatorError::UnknownTable { keyspace, table });
        }
        Some(CoordinatorError::Timeout { need, acked, replicas: self.reports(view) })
    }
}

fn answer(
    turn: &mut Turn<'_, '_>,
    reply: Answering,
    times: Times,
    answer: Result<ScanAnswer, CoordinatorError>,
) -> Option<Pending> {
    turn.effects.push(Effect::AnswerScan { timing: times.timing(turn.view.now), reply, answer });
    None
}

fn size(found: &Found) -> usize {
    let of = |value: &Value| value.value.len() + value.content_type.as_ref().map_or(0, String::len);
    match found {
        Found::Nothing => 0,
        Found::One(value) => of(value),
        Found::Siblings { siblings, .. } => siblings.iter().map(|sibling| of(&sibling.value)).sum(),
    }
}

fn report(part: &Part, view: &View<'_>) -> ReplicaReport {
    ReplicaReport {
        node: part.node,
        name: view.ring.node(part.node).map_or_else(String::new, |node| node.name.clone()),
        outcome: match &part.state {
            State::NotAsked => ReplicaOutcome::NotAsked,
            State::Unreachable => ReplicaOutcome::Unreachable,
            State::Waiting => ReplicaOutcome::Waiting,
            State::Page(_) | State::Served => ReplicaOutcome::Data,
            State::Refused(error) => ReplicaOutcome::Refused(error.clone()),
            State::Lost => ReplicaOutcome::Lost,
        },
        wait: part.asked_at.map_or(Duration::ZERO, |asked| view.now.since(asked)),
        digest: None,
        repaired: false,
    }
}
