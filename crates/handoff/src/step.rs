//! What goes into the machine of a delivery and what comes out. No clock, no disk, no socket: effects say what to do, and some
//! are answered by an event at once.

use crate::{record::Hint, target_log::Chunk};
use kula_disk::log::Position;
use kula_types::Timestamp;
use std::time::Duration;

/// A hint on its way, or waiting to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

#[derive(Debug)]
pub enum Event {
    /// So many hints are in the log beyond those of the round.
    Kept { count: u64 },
    /// Whether it is worth trying: the target's link is up, and nobody here suspects it.
    Reachable(bool),
    /// Answers `Effect::Begin`: the round's first place, and how many hints it holds as far as known; `None`: not now.
    Begun(Option<(Position, u64)>),
    /// Answers `Effect::Read`; `None`: not now.
    Read(Option<Chunk>),
    /// Answers `Effect::Send`.
    Answered { ticket: Ticket, outcome: Outcome },
    /// Answers `Effect::Requeue`: whether it is durable at the end of the log.
    Requeued { ticket: Ticket, is_kept: bool },
    /// A time that `wake_at` named has come.
    Wake,
}

/// What an answer means for delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Applied,
    /// Nothing can be delivered just now, or nobody knows whether this one was.
    NotNow(&'static str),
    /// This one cannot be applied yet; others may.
    NotThis(&'static str),
    /// No retry can cure it.
    Never(&'static str),
}

#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Freeze what the log holds, for a round. Answered by `Begun`.
    Begin,
    /// Answered by `Read`.
    Read {
        from: Position,
        count_max: usize,
        bytes_max: usize,
    },
    /// Answered by `Answered`, or never if delivery is interrupted first.
    Send {
        ticket: Ticket,
        hint: Hint,
    },
    /// Write it anew at the end of the log. Answered by `Requeued`.
    Requeue {
        ticket: Ticket,
        hint: Hint,
    },
    /// It is given up; the only way to lose a hint that can be read.
    GiveUp {
        hint: Hint,
        why: &'static str,
    },
    /// All before `before` is done; so many hints more than the last time.
    Passed {
        before: Position,
        count: u64,
        bytes: u64,
        newest: Timestamp,
    },
    /// All of the round that could be read is done.
    Finish,
    /// The round is interrupted; all before this place is done.
    Pause {
        before: Position,
    },
    Say(Saying),
}

/// What people read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saying {
    Begins {
        count: u64,
    },
    Progress(Progress),
    /// Nothing is owed any more.
    Drained(Progress),
    /// `left` more wait.
    Interrupted(Progress),
    /// The target keeps refusing.
    BacksOff {
        why: &'static str,
        wait: Duration,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub count: u64,
    pub bytes: u64,
    pub left: u64,
    pub took: Duration,
}
