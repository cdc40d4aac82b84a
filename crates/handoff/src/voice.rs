//! What hand-off says to people: an event a line, and never a flood of one kind.
//!
//! Event names and keys are a contract (`docs/mechanism/hints.md` lists them).

use crate::{
    limits,
    messages::HintCounts,
    record::Hint,
    step::{Progress, Saying},
    target_log::{Finding, Owed},
};
use kula_ring::RingHandle;
use kula_types::{Mono, NodeId};
use slog::Logger;
use std::collections::BTreeMap;

pub(crate) struct Voice {
    log: Logger,
    ring: RingHandle,
    /// When each line that may come often was last said, and how many were swallowed since. Bounded by targets and kinds.
    said: BTreeMap<(NodeId, Often), (Mono, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Often {
    Kept,
    NotKept,
    GivenUp,
}

impl Voice {
    pub fn new(log: Logger, ring: RingHandle) -> Self {
        Voice { log, ring, said: BTreeMap::new() }
    }

    /// What the start found.
    pub fn opened(&self, counts: &HintCounts) {
        for owed in counts.targets.iter().filter(|owed| owed.count > 0) {
            slog::info!(self.log, "hints of an earlier run wait"; "event" => "hints_found",
                "target" => self.name(owed.target), "count" => owed.count, "bytes" => owed.bytes);
        }
    }

    /// Hints were synced: at the first of an outage, then from time to time.
    pub fn kept(&mut self, now: Mono, target: NodeId, owed: Owed) {
        if self.may_say(now, target, Often::Kept, 1).is_some() {
            slog::info!(self.log, "keeping hints"; "event" => "hints_kept", "target" => self.name(target),
                "count" => owed.count, "bytes" => owed.bytes);
        }
    }

    pub fn not_kept(&mut self, now: Mono, target: NodeId, count: u64, why: &dyn std::fmt::Display) {
        if let Some(before) = self.may_say(now, target, Often::NotKept, count) {
            slog::warn!(self.log, "hints are not kept: the target misses writes until they are read or repaired";
                "event" => "hints_not_kept", "target" => self.name(target), "count" => count + before, "why" => %why);
        }
    }

    pub fn gave_up(&mut self, now: Mono, target: NodeId, hint: &Hint, why: &'static str) {
        if let Some(before) = self.may_say(now, target, Often::GivenUp, 1) {
            slog::error!(self.log, "a hint can never be delivered and is dropped"; "event" => "hint_undeliverable",
                "target" => self.name(target), "token" => hint.token.0, "bytes" => hint.mutation.len(), "why" => why,
                "also" => before);
        }
    }

    pub fn lost(&self, target: NodeId, lost: Owed) {
        slog::error!(self.log, "hints could not be read back from this node's disk"; "event" => "hints_lost",
            "target" => self.name(target), "count" => lost.count, "bytes" => lost.bytes);
    }

    pub fn say(&mut self, target: NodeId, saying: &Saying) {
        let name = self.name(target);
        match saying {
            Saying::Begins { count } => {
                slog::info!(self.log, "delivering hints"; "event" => "hints_delivery", "target" => name, "count" => count);
            }
            Saying::Progress(progress) => self.progress("hints_progress", "delivering hints", &name, progress),
            Saying::Drained(progress) => {
                // The next outage is said from its first hint on.
                self.said.remove(&(target, Often::Kept));
                self.progress("hints_drained", "all hints are delivered", &name, progress);
            }
            Saying::Interrupted(progress) => {
                self.progress("hints_interrupted", "the target cannot be reached; its hints wait", &name, progress);
            }
            Saying::BacksOff { why, wait } => {
                slog::warn!(self.log, "the target takes no hints"; "event" => "hints_refused", "target" => name,
                    "why" => why, "again_ms" => millis(*wait));
            }
        }
    }

    pub fn found(&self, target: NodeId, finding: &Finding) {
        let (log, name, event) = (&self.log, self.name(target), "hint_log_damaged");
        match finding {
            Finding::PutAside { dir, cause } => {
                slog::error!(log, "a log of hints cannot be opened and is put aside: its hints are not delivered";
                    "event" => event, "target" => name, "aside" => dir, "cause" => %cause);
            }
            Finding::Damaged(damage) => {
                slog::error!(log, "hints are lost to damage; what can be read is delivered"; "event" => event,
                    "target" => name, "segment" => damage.segment, "cause" => %damage);
            }
            Finding::Unreadable { segment, cause } => {
                slog::error!(log, "hints cannot be read; those after them are delivered"; "event" => event,
                    "target" => name, "segment" => segment, "cause" => %cause);
            }
            Finding::NoHint { at, why } => {
                slog::error!(log, "a record is no hint for its target and is not delivered"; "event" => event,
                    "target" => name, "segment" => at.segment, "cause" => %why);
            }
            Finding::PlaceLost { cause } => {
                slog::warn!(log, "where delivery stood is not known: hints are sent again, which is harmless";
                    "event" => "hint_place_lost", "target" => name, "cause" => cause);
            }
        }
    }

    fn progress(&self, event: &'static str, text: &'static str, target: &str, progress: &Progress) {
        let Progress { count, bytes, left, took } = *progress;
        slog::info!(self.log, "{}", text; "event" => event, "target" => target, "count" => count, "bytes" => bytes,
            "left" => left, "took_ms" => millis(took));
    }

    /// Whether this line is due, and how much of its kind was not said since the last.
    fn may_say(&mut self, now: Mono, target: NodeId, often: Often, weight: u64) -> Option<u64> {
        match self.said.get_mut(&(target, often)) {
            Some((at, swallowed)) if now.since(*at) < limits::SAY_EVERY => {
                *swallowed += weight;
                None
            }
            Some((at, swallowed)) => {
                *at = now;
                Some(std::mem::take(swallowed))
            }
            None => {
                // Targets are at most those that a log may be made for, and as many that were refused one.
                if self.said.len() < 6 * limits::TARGETS_MAX {
                    self.said.insert((target, often), (now, 0));
                }
                Some(0)
            }
        }
    }

    fn name(&self, target: NodeId) -> String {
        self.ring.peek().node(target).map_or_else(|| target.to_string(), |node| node.name.clone())
    }
}

fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kula_actor::Snapshot;
    use kula_disk::log::Position;
    use kula_placement::{Partitioner, Ring};
    use kula_types::{Timestamp, Token};
    use slog::{Drain, KV, Key, OwnedKVList, Record, Serializer};
    use std::{
        fmt::{Arguments, Write},
        sync::{Arc, Mutex},
        time::Duration,
    };

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<String>>);

    struct Pairs(Vec<String>);

    impl Serializer for Pairs {
        fn emit_arguments(&mut self, key: Key, value: &Arguments<'_>) -> slog::Result {
            self.0.push(format!("{key}={value}"));
            Ok(())
        }
    }

    impl Drain for Lines {
        type Ok = ();
        type Err = slog::Never;

        fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), slog::Never> {
            let mut pairs = Pairs(Vec::new());
            record.kv().serialize(record, &mut pairs).unwrap();
            // slog hands them over last first.
            pairs.0.reverse();
            writeln!(self.0.lock().unwrap(), "{} {}: {}", record.level(), record.msg(), pairs.0.join(" ")).unwrap();
            Ok(())
        }
    }

    #[test]
    fn lines_are_a_contract_and_never_a_flood() {
        let lines = Lines::default();
        let ring = Ring::none("test".into(), Partitioner::Murmur3);
        let log = Logger::root(lines.clone().fuse(), slog::o!());
        let mut voice = Voice::new(log, Snapshot::new(Arc::new(ring)));
        let (target, at) = (NodeId(uuid::Uuid::from_u128(2)), Mono::from_millis);
        let owed = |count| Owed { count, bytes: count * 353, oldest: None };
        voice.kept(at(0), target, owed(1));
        (1..5).for_each(|count| voice.kept(at(count), target, owed(count)));
        voice.kept(at(10_000), target, owed(841));
        voice.not_kept(at(0), target, 3, &"the disk is full");
        voice.not_kept(at(1), target, 4, &"the disk is full");
        voice.not_kept(at(20_000), target, 1, &"the disk is full");
        let hint = Hint { token: Token(-7), stored: Timestamp::MIN, mutation: vec![0; 9].into() };
        (0..3).for_each(|_| voice.gave_up(at(0), target, &hint, "not a mutation"));
        voice.gave_up(at(10_000), target, &hint, "not a mutation");
        let progress = Progress { count: 1200, bytes: 423_600, left: 0, took: Duration::from_millis(92) };
        voice.say(target, &Saying::Begins { count: 1200 });
        voice.say(target, &Saying::Progress(progress));
        voice.say(target, &Saying::Interrupted(progress));
        voice.say(target, &Saying::BacksOff { why: "its disk is full", wait: Duration::from_secs(3) });
        voice.say(target, &Saying::Drained(progress));
        // The next outage.
        voice.kept(at(10_001), target, owed(1));
        voice.lost(target, owed(2));
        let at = Position { segment: 3, offset: 8192 };
        voice.found(target, &Finding::NoHint { at, why: crate::record::RecordError::Time });
        voice.found(target, &Finding::PlaceLost { cause: "its checksum is wrong".into() });
        insta::assert_snapshot!(lines.0.lock().unwrap());
    }
}
