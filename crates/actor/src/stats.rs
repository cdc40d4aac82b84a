//! `Stats`: the meter of one mailbox, shared by its doors (which count in), its actor (which counts out) and whoever
//! looks.
//!
//! Safe without locks: `depth` and `shed` belong to the senders and are changed atomically; everything else has one
//! writer, the thread the actor runs on, so plain loads and stores suffice. A reader may see one message twice or not
//! yet, never a wrong total.

use crate::{
    histogram::{Histogram, HistogramCounts},
    limits,
};
use std::{
    cell::Cell,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::Instant;

/// The meter of one mailbox. It outlives restarts of its actor.
pub struct Stats {
    path: Arc<str>,
    cap: usize,
    born: Instant,
    senders: Senders,
    taken: AtomicU64,
    skipped: AtomicU64,
    polls: AtomicU64,
    restarts: AtomicU64,
    busy_nanos: AtomicU64,
    /// Nanoseconds from `born` to the start of the poll that runs now, plus one; 0 between polls.
    polling_since: AtomicU64,
    wait: Histogram,
    closed: AtomicBool,
    by_message: Mutex<Vec<Arc<MessageCount>>>,
}

/// What senders write, on a cache line of its own: they must not slow the actor's own counters.
#[repr(align(128))]
struct Senders {
    depth: AtomicUsize,
    shed: AtomicU64,
}

/// How many messages of one type were taken.
pub(crate) struct MessageCount {
    name: Arc<str>,
    taken: AtomicU64,
}

/// A copy of a meter at one moment. Two of them make a report.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    pub depth: usize,
    pub shed: u64,
    pub taken: u64,
    pub restarts: u64,
    pub busy: Duration,
    /// How long the poll that runs now has lasted; zero between polls.
    pub polling: Duration,
    pub wait: HistogramCounts,
    pub by_message: Vec<(Arc<str>, u64)>,
}

thread_local! {
    static LOCAL: Local = const {
        Local { admitted: Cell::new(false), dice: Cell::new(0x9E37_79B9_7F4A_7C15), discarded: Cell::new(0) }
    };
}

struct Local {
    /// Set while a door hands a message to actix: the envelope it packs was counted in.
    admitted: Cell<bool>,
    /// Decides which messages are timed. Fixed seed, so that a simulation repeats; not a plain counter, which would
    /// always pick the same one of two actors told in turn.
    dice: Cell<u64>,
    /// Messages dropped unhandled on this thread, that had been counted in.
    discarded: Cell<usize>,
}

impl Stats {
    pub(crate) fn new(path: &str, cap: usize) -> Self {
        Stats {
            path: path.into(),
            cap,
            born: Instant::now(),
            senders: Senders { depth: AtomicUsize::new(0), shed: AtomicU64::new(0) },
            taken: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            polls: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            busy_nanos: AtomicU64::new(0),
            polling_since: AtomicU64::new(0),
            wait: Histogram::new(),
            closed: AtomicBool::new(false),
            by_message: Mutex::default(),
        }
    }

    /// Where the actor stands in the tree: `storage/shard/0`.
    pub fn path(&self) -> &Arc<str> {
        &self.path
    }

    /// How many messages may wait.
    pub fn cap(&self) -> usize {
        self.cap
    }

    /// How many messages wait now.
    pub fn depth(&self) -> usize {
        self.senders.depth.load(Relaxed)
    }

    /// Messages refused because the mailbox was full, ever.
    pub fn shed(&self) -> u64 {
        self.senders.shed.load(Relaxed)
    }

    /// Messages the actor has taken out, ever; skipped ones count.
    pub fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// Asks the actor took and did not handle, because the asker had gone.
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Relaxed)
    }

    /// How often the actor was polled: `taken / polls` is the batch one wake-up brings.
    pub fn polls(&self) -> u64 {
        self.polls.load(Relaxed)
    }

    /// How often the actor was started again.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Relaxed)
    }

    /// The actor is gone for good and its doors say `Closed`.
    pub fn closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    /// Counts a message in, unless the mailbox is full; says how deep it is then.
    #[inline]
    pub(crate) fn admit(&self) -> Result<(), usize> {
        let room = |depth: usize| (depth < self.cap).then_some(depth + 1);
        self.senders.depth.fetch_update(Relaxed, Relaxed, room).map(drop).inspect_err(|_| {
            self.senders.shed.fetch_add(1, Relaxed);
        })
    }

    /// Counts a message in, full or not.
    pub(crate) fn admit_forced(&self) {
        self.senders.depth.fetch_add(1, Relaxed);
    }

    /// Counts messages out that were taken, or that found the door closed, or that were discarded with the mailbox.
    #[inline]
    pub(crate) fn leave(&self, messages: usize) {
        let before = self.senders.depth.fetch_sub(messages, Relaxed);
        debug_assert!(before >= messages, "{}: {messages} messages leave a mailbox of {before}", self.path);
    }

    pub(crate) fn count_taken(&self) {
        bump(&self.taken, 1);
    }

    pub(crate) fn count_skipped(&self) {
        bump(&self.skipped, 1);
    }

    pub(crate) fn count_restart(&self) {
        bump(&self.restarts, 1);
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Relaxed);
    }

    pub(crate) fn waited(&self, sent: Instant) {
        self.wait.record(nanos(sent.elapsed()));
    }

    /// The actor is about to be polled.
    pub(crate) fn poll_begins(&self) -> Instant {
        let now = Instant::now();
        self.polling_since.store(nanos(now - self.born) + 1, Relaxed);
        now
    }

    pub(crate) fn poll_ends(&self, began: Instant) {
        bump(&self.polls, 1);
        bump(&self.busy_nanos, nanos(began.elapsed()));
        self.polling_since.store(0, Relaxed);
    }

    /// The counter of messages of the type called `name`.
    pub(crate) fn message_count(&self, type_name: &str) -> Arc<MessageCount> {
        let count = Arc::new(MessageCount { name: short_name(type_name).into(), taken: AtomicU64::new(0) });
        self.by_message.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&count));
        count
    }

    pub(crate) fn counts(&self) -> Counts {
        let by_message = self.by_message.lock().unwrap_or_else(PoisonError::into_inner);
        let by_message = by_message.iter().map(|count| (Arc::clone(&count.name), count.taken.load(Relaxed))).collect();
        let polling = match self.polling_since.load(Relaxed) {
            0 => Duration::ZERO,
            since => self.born.elapsed().saturating_sub(Duration::from_nanos(since - 1)),
        };
        Counts {
            depth: self.depth(),
            shed: self.shed(),
            taken: self.taken(),
            restarts: self.restarts(),
            busy: Duration::from_nanos(self.busy_nanos.load(Relaxed)),
            polling,
            wait: self.wait.counts(),
            by_message,
        }
    }
}

impl MessageCount {
    #[inline]
    pub fn count(&self) {
        bump(&self.taken, 1);
    }
}

impl fmt::Debug for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stats({} {}/{})", self.path, self.depth(), self.cap)
    }
}

/// Runs `send`, whose envelope was counted in.
#[inline]
pub(crate) fn admitted<T>(send: impl FnOnce() -> T) -> T {
    LOCAL.with(|local| local.admitted.set(true));
    let sent = send();
    // A closed mailbox packs no envelope: the mark must not stay for the next one.
    LOCAL.with(|local| local.admitted.set(false));
    sent
}

/// What an envelope carries about its sending: was it counted in, and when was it sent, if it is to be timed.
#[inline]
pub(crate) fn stamp() -> (bool, Option<Instant>) {
    LOCAL.with(|local| {
        let mut dice = local.dice.get();
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        local.dice.set(dice);
        // The high bits: the low ones of this generator repeat soonest.
        let timed = (dice >> 40).is_multiple_of(limits::SAMPLE_ONE_IN);
        (local.admitted.get(), timed.then(Instant::now))
    })
}

/// An envelope that was counted in is dropped unhandled.
pub(crate) fn discard_one() {
    LOCAL.with(|local| local.discarded.set(local.discarded.get() + 1));
}

/// Runs `close`, which drops a mailbox, and says how many counted messages it held.
pub(crate) fn discarded_by(close: impl FnOnce()) -> usize {
    let before = LOCAL.with(|local| local.discarded.get());
    close();
    LOCAL.with(|local| local.discarded.get()) - before
}

/// Only the one writing thread may call this.
#[inline]
fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// A type's name without the paths: `a::b::Inbound<c::Ping>` is `Inbound<Ping>`.
fn short_name(type_name: &str) -> String {
    let mut short = String::new();
    let mut word = 0;
    let mut rest = type_name.chars().peekable();
    while let Some(letter) = rest.next() {
        if letter == ':' && rest.peek() == Some(&':') {
            rest.next();
            short.truncate(word);
        } else {
            short.push(letter);
            if !letter.is_alphanumeric() && letter != '_' {
                word = short.len();
            }
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_names_lose_their_paths_and_nothing_else() {
        assert_eq!(short_name("kula_storage::messages::Apply"), "Apply");
        assert_eq!(short_name("a::Inbound<b::c::Ping, alloc::vec::Vec<d::E>>"), "Inbound<Ping, Vec<E>>");
        assert_eq!(short_name("&[x::Y]"), "&[Y]");
        assert_eq!(short_name("Plain"), "Plain");
    }

    #[test]
    fn the_bound_is_exact_and_refusals_are_counted() {
        let stats = Stats::new("a", 2);
        assert_eq!([stats.admit(), stats.admit(), stats.admit()], [Ok(()), Ok(()), Err(2)]);
        stats.admit_forced();
        assert_eq!((stats.depth(), stats.shed(), stats.admit()), (3, 1, Err(3)));
        stats.leave(2);
        assert_eq!((stats.admit(), stats.depth()), (Ok(()), 2));
    }

    #[test]
    fn one_message_in_sixteen_is_timed_even_when_two_actors_are_told_in_turn() {
        let mut timed = [0, 0];
        for turn in 0..64_000 {
            timed[turn % 2] += usize::from(stamp().1.is_some());
        }
        for count in timed {
            assert!((1_700..=2_300).contains(&count), "{timed:?}");
        }
    }
}
