//! The delivery of one target's hints: what is sent when, what an answer means, when a place is passed for good.
//!
//! A hint goes out as an ordinary apply, in the order of the log, many at a time; it is done when it is acknowledged. The
//! place in the log moves on over hints that are done, never past one that is not, so a crash or a lost link costs
//! nothing but repetition, and apply is a join. Memory is bounded by what is read ahead. No clock, no disk, no socket here:
//! effects say what to do, and some are answered by an event at once.

use crate::{
    limits,
    pace::Bucket,
    record::Hint,
    step::{Effect, Event, Outcome, Progress, Saying, Ticket},
    target_log::{Chunk, after},
};
use kula_disk::log::Position;
use kula_fault::{Mutant, Site, buggify, planted};
use kula_types::{Mono, Timestamp};
use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

/// How much at a time; tests take little.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub read_records: usize,
    pub read_bytes: usize,
    pub in_flight: usize,
    pub in_flight_bytes: usize,
}

impl Default for Window {
    fn default() -> Self {
        Window {
            read_records: limits::READ_RECORDS,
            read_bytes: limits::READ_BYTES,
            in_flight: limits::IN_FLIGHT_MAX,
            in_flight_bytes: limits::IN_FLIGHT_BYTES_MAX,
        }
    }
}

pub struct Delivery {
    window: Window,
    bucket: Bucket,
    is_reachable: bool,
    /// In the log, behind the round.
    fresh: u64,
    /// Of those, put there because they could not be applied.
    requeued: u64,
    round: Option<Round>,
    /// `Begin` or `Read` is not answered yet.
    is_asking: bool,
    /// The next ticket; never given twice, so an answer that comes late finds nobody.
    next: u64,
    in_flight: usize,
    in_flight_bytes: usize,
    /// Nothing is sent, read or begun before.
    hold: Option<Mono>,
    backoff: Duration,
    /// No round is begun before: the log holds nothing but hints that cannot be applied.
    rest: Option<Mono>,
    rest_for: Duration,
    spell: Option<Spell>,
}

struct Round {
    /// Hints read and not passed, in order; the first has ticket `base`.
    slots: VecDeque<Slot>,
    base: u64,
    /// Tickets below were sent once; from here on they wait.
    unsent: u64,
    /// Refused, by when they may go again.
    again: BTreeSet<(Mono, Ticket)>,
    /// Bytes of hints held in memory.
    held_bytes: usize,
    /// Where to read on.
    next: Position,
    is_read: bool,
    /// All before is done.
    passed: Position,
    left: u64,
    applied: u64,
}

struct Slot {
    position: Position,
    bytes: usize,
    stored: Timestamp,
    state: State,
}

enum State {
    Waiting { hint: Hint, tries: u32 },
    InFlight { hint: Hint, tries: u32 },
    Requeueing { hint: Hint, tries: u32 },
    Done,
}

/// From the first hint sent to the log drained: what people see as one delivery.
struct Spell {
    began: Mono,
    count: u64,
    bytes: u64,
    said: Mono,
    is_backoff_said: bool,
}

impl Delivery {
    pub fn new(window: Window, rate: u64, now: Mono) -> Self {
        Delivery {
            window,
            bucket: Bucket::new(rate, now),
            is_reachable: false,
            fresh: 0,
            requeued: 0,
            round: None,
            is_asking: false,
            next: 0,
            in_flight: 0,
            in_flight_bytes: 0,
            hold: None,
            backoff: limits::BACKOFF_FIRST,
            rest: None,
            rest_for: limits::STUCK_ROUND_FIRST,
            spell: None,
        }
    }

    pub fn step(&mut self, now: Mono, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Kept { count } => {
                self.fresh += count;
                // New ones do not wait as long as those that cannot be applied.
                let soon = now.after(limits::STUCK_ROUND_FIRST);
                self.rest = self.rest.map(|rest| rest.min(soon));
            }
            Event::Reachable(is_reachable) => self.reach(now, is_reachable, effects),
            Event::Begun(begun) => self.begun(now, begun, effects),
            Event::Read(chunk) => self.read(now, chunk, effects),
            Event::Answered { ticket, outcome } => self.answered(now, ticket, outcome, effects),
            Event::Requeued { ticket, is_kept } => self.requeue_answered(now, ticket, is_kept, effects),
            Event::Wake => {}
        }
        self.go_on(now, effects);
    }

    /// When to send `Wake`, if nothing else comes first.
    pub fn wake_at(&mut self, now: Mono) -> Option<Mono> {
        if !self.is_reachable {
            return None;
        }
        if let Some(hold) = self.hold.filter(|hold| *hold > now) {
            return (self.fresh > 0 || self.round.is_some()).then_some(hold);
        }
        match &self.round {
            None => self.rest.filter(|rest| *rest > now && self.fresh > 0),
            Some(round) => {
                let again = round.again.first().map(|(at, _)| *at);
                let wants = round.unsent < self.next || again.is_some_and(|at| at <= now);
                let throttled = (wants && !self.bucket.is_open(now)).then(|| self.bucket.opens_at());
                [again.filter(|at| *at > now), throttled].into_iter().flatten().min()
            }
        }
    }

    /// Hints on their way.
    #[cfg(test)]
    pub fn in_flight(&self) -> (usize, usize) {
        (self.in_flight, self.in_flight_bytes)
    }

    /// Hints held in memory, and their bytes.
    #[cfg(test)]
    pub fn held(&self) -> (usize, usize) {
        self.round.as_ref().map_or((0, 0), |round| (round.slots.len(), round.held_bytes))
    }

    fn reach(&mut self, now: Mono, is_reachable: bool, effects: &mut Vec<Effect>) {
        if is_reachable == self.is_reachable {
            return;
        }
        self.is_reachable = is_reachable;
        if is_reachable {
            (self.hold, self.rest) = (None, None);
            (self.backoff, self.rest_for) = (limits::BACKOFF_FIRST, limits::STUCK_ROUND_FIRST);
            return;
        }
        (self.in_flight, self.in_flight_bytes) = (0, 0);
        if let Some(round) = &mut self.round {
            let sent = round.slots.iter().rfind(|slot| matches!(slot.state, State::InFlight { .. }));
            if let Some(sent) = sent.filter(|_| planted(Mutant::HintDoneBeforeAck)) {
                round.passed = after(sent.position);
            }
            // What was read is read again: a target that is gone costs no memory.
            round.slots = VecDeque::new();
            round.again.clear();
            (round.base, round.unsent, round.held_bytes) = (self.next, self.next, 0);
            (round.next, round.is_read) = (round.passed, false);
            effects.push(Effect::Pause { before: round.passed });
        }
        if let Some(spell) = self.spell.take() {
            effects.push(Effect::Say(Saying::Interrupted(self.progress(&spell, now))));
        }
    }

    /// Everything that can be done now.
    fn go_on(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        if !self.is_reachable || self.is_asking || self.hold.is_some_and(|hold| hold > now) {
            return;
        }
        self.hold = None;
        if self.round.is_none() {
            return self.begin(now, effects);
        }
        self.send(now, effects);
        let Some(round) = &mut self.round else { return };
        let has_room = round.slots.len() <= self.window.read_records && round.held_bytes <= self.window.read_bytes;
        if round.is_read && round.slots.is_empty() {
            self.finish(now, effects);
        } else if !round.is_read && round.unsent == self.next && has_room {
            let Window { read_records: count_max, read_bytes: bytes_max, .. } = self.window;
            let count_max = if buggify(Site::HintsOneByOne) { 1 } else { count_max };
            self.is_asking = true;
            effects.push(Effect::Read { from: round.next, count_max, bytes_max });
        }
    }

    fn begin(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        if self.fresh > 0 && self.rest.is_none_or(|rest| rest <= now) {
            self.rest = None;
            self.is_asking = true;
            effects.push(Effect::Begin);
        }
    }

    fn begun(&mut self, now: Mono, begun: Option<(Position, u64)>, effects: &mut Vec<Effect>) {
        self.is_asking = false;
        let Some((from, count)) = begun else { return self.back_off(now, "no room on this node's disk", effects) };
        assert!(self.round.is_none(), "one round at a time");
        (self.fresh, self.requeued) = (0, 0);
        let base = self.next;
        self.round = Some(Round {
            slots: VecDeque::new(),
            base,
            unsent: base,
            again: BTreeSet::new(),
            held_bytes: 0,
            next: from,
            is_read: false,
            passed: from,
            left: count,
            applied: 0,
        });
    }

    fn read(&mut self, now: Mono, chunk: Option<Chunk>, effects: &mut Vec<Effect>) {
        self.is_asking = false;
        let Some(chunk) = chunk else { return self.back_off(now, "no file can be opened on this node", effects) };
        let Some(round) = &mut self.round else { return };
        round.next = chunk.next;
        round.is_read = chunk.is_end;
        for (position, hint) in chunk.hints {
            let (bytes, stored) = (hint.bytes(), hint.stored);
            round.held_bytes += bytes;
            round.slots.push_back(Slot { position, bytes, stored, state: State::Waiting { hint, tries: 0 } });
            self.next += 1;
        }
        assert!(round.base + round.slots.len() as u64 == self.next, "a ticket for each slot");
        if self.spell.is_none() && !round.slots.is_empty() {
            effects.push(Effect::Say(Saying::Begins { count: round.left + self.fresh }));
            self.spell = Some(Spell { began: now, count: 0, bytes: 0, said: now, is_backoff_said: false });
        }
    }

    /// Sends what window and rate allow: those that were refused once they may go again, then new ones.
    fn send(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        while self.in_flight < self.window.in_flight {
            let Some(round) = &mut self.round else { return };
            let again = round.again.first().copied().filter(|(at, _)| *at <= now);
            let ticket = match again {
                Some((_, ticket)) => ticket,
                None if round.unsent < self.next => Ticket(round.unsent),
                None => return,
            };
            let Some(slot) = round.slot(ticket) else { unreachable!("what waits has a slot") };
            let fits = self.in_flight == 0 || self.in_flight_bytes + slot.bytes <= self.window.in_flight_bytes;
            if !fits || !self.bucket.is_open(now) {
                return;
            }
            let bytes = slot.bytes;
            let State::Waiting { hint, tries } = std::mem::replace(&mut slot.state, State::Done) else {
                unreachable!("what waits is not under way")
            };
            slot.state = State::InFlight { hint: hint.clone(), tries };
            match again {
                Some(again) => drop(round.again.remove(&again)),
                None => round.unsent += 1,
            }
            self.bucket.take(bytes);
            self.in_flight += 1;
            self.in_flight_bytes += bytes;
            effects.push(Effect::Send { ticket, hint });
        }
    }

    fn answered(&mut self, now: Mono, ticket: Ticket, outcome: Outcome, effects: &mut Vec<Effect>) {
        // Of a delivery that was interrupted: it will be sent again.
        let Some(slot) = self.round.as_mut().and_then(|round| round.slot(ticket)) else { return };
        let State::InFlight { hint, tries } = std::mem::replace(&mut slot.state, State::Done) else {
            unreachable!("one answer for one sending")
        };
        let bytes = slot.bytes;
        self.in_flight -= 1;
        self.in_flight_bytes -= bytes;
        let outcome = if planted(Mutant::HintFailureIsSuccess) { Outcome::Applied } else { outcome };
        match outcome {
            Outcome::Applied => {
                self.backoff = limits::BACKOFF_FIRST;
                if let Some(round) = &mut self.round {
                    round.applied += 1;
                }
                if let Some(spell) = &mut self.spell {
                    spell.count += 1;
                    spell.bytes += bytes as u64;
                    spell.is_backoff_said = false;
                }
                self.done(now, ticket, bytes, effects);
            }
            Outcome::NotNow(why) => {
                self.wait(ticket, hint, tries, now);
                self.back_off(now, why, effects);
            }
            Outcome::NotThis(_) if tries + 1 < limits::STUCK_TRIES => {
                self.wait(ticket, hint, tries + 1, now.after(limits::STUCK_FIRST * (1 << tries)));
            }
            Outcome::NotThis(_) => {
                effects.push(Effect::Requeue { ticket, hint: hint.clone() });
                self.put(ticket, State::Requeueing { hint, tries });
            }
            Outcome::Never(why) => {
                effects.push(Effect::GiveUp { hint, why });
                self.done(now, ticket, bytes, effects);
            }
        }
    }

    fn requeue_answered(&mut self, now: Mono, ticket: Ticket, is_kept: bool, effects: &mut Vec<Effect>) {
        if is_kept {
            self.fresh += 1;
            self.requeued += 1;
        }
        let Some(slot) = self.round.as_mut().and_then(|round| round.slot(ticket)) else { return };
        let bytes = slot.bytes;
        let State::Requeueing { hint, tries } = std::mem::replace(&mut slot.state, State::Done) else {
            unreachable!("one answer for one requeue")
        };
        if is_kept {
            self.done(now, ticket, bytes, effects);
        } else {
            self.wait(ticket, hint, tries, now.after(limits::STUCK_FIRST));
        }
    }

    fn put(&mut self, ticket: Ticket, state: State) {
        if let Some(slot) = self.round.as_mut().and_then(|round| round.slot(ticket)) {
            slot.state = state;
        }
    }

    /// It goes again, not before `at`.
    fn wait(&mut self, ticket: Ticket, hint: Hint, tries: u32, at: Mono) {
        self.put(ticket, State::Waiting { hint, tries });
        if let Some(round) = &mut self.round {
            round.again.insert((at, ticket));
        }
    }

    /// The whole target waits; the refusals of one burst count once.
    fn back_off(&mut self, now: Mono, why: &'static str, effects: &mut Vec<Effect>) {
        if self.hold.is_some_and(|hold| hold > now) {
            return;
        }
        let wait = self.backoff;
        self.hold = Some(now.after(wait));
        self.backoff = (wait * 2).min(limits::BACKOFF_MAX);
        let spell = self.spell.as_mut().filter(|spell| wait == limits::BACKOFF_MAX && !spell.is_backoff_said);
        if let Some(spell) = spell {
            spell.is_backoff_said = true;
            effects.push(Effect::Say(Saying::BacksOff { why, wait }));
        }
    }

    /// The hint needs nothing more. The place moves on if no earlier one does.
    fn done(&mut self, now: Mono, ticket: Ticket, bytes: usize, effects: &mut Vec<Effect>) {
        self.put(ticket, State::Done);
        let Some(round) = &mut self.round else { return };
        round.held_bytes -= bytes;
        let (mut count, mut passed_bytes, mut newest) = (0, 0, None);
        while let Some(slot) = round.slots.pop_front_if(|slot| matches!(slot.state, State::Done)) {
            round.base += 1;
            round.passed = after(slot.position);
            count += 1;
            passed_bytes += slot.bytes as u64;
            newest = newest.max(Some(slot.stored));
        }
        if let Some(newest) = newest {
            round.left = round.left.saturating_sub(count);
            effects.push(Effect::Passed { before: round.passed, count, bytes: passed_bytes, newest });
        }
        let due = |spell: &Spell| now.since(spell.said) >= limits::SAY_EVERY;
        if let Some(mut spell) = self.spell.take_if(|spell| due(spell)) {
            spell.said = now;
            effects.push(Effect::Say(Saying::Progress(self.progress(&spell, now))));
            self.spell = Some(spell);
        }
    }

    fn finish(&mut self, now: Mono, effects: &mut Vec<Effect>) {
        let Some(round) = self.round.take() else { return };
        effects.push(Effect::Finish);
        if self.fresh == 0 {
            if let Some(spell) = self.spell.take() {
                effects.push(Effect::Say(Saying::Drained(self.progress(&spell, now))));
            }
            return;
        }
        if self.requeued > 0 {
            // A log of nothing but what cannot be applied is not written over and over.
            let is_hopeless = round.applied == 0 && self.fresh == self.requeued;
            self.rest_for = if is_hopeless { self.rest_for } else { limits::STUCK_ROUND_FIRST };
            self.rest = Some(now.after(self.rest_for));
            if is_hopeless {
                self.rest_for = (self.rest_for * 2).min(limits::STUCK_ROUND_MAX);
            }
        }
        self.begin(now, effects);
    }

    fn progress(&self, spell: &Spell, now: Mono) -> Progress {
        let left = self.fresh + self.round.as_ref().map_or(0, |round| round.left);
        Progress { count: spell.count, bytes: spell.bytes, left, took: now.since(spell.began) }
    }
}

impl Round {
    fn slot(&mut self, ticket: Ticket) -> Option<&mut Slot> {
        let index = usize::try_from(ticket.0.checked_sub(self.base)?).ok()?;
        self.slots.get_mut(index)
    }
}
