//! What happened, in order: a hash of everything, and lines for people where they are wanted.

use crate::time::Micros;
use std::{collections::BTreeMap, fmt};

/// The hash of a run, its lines, and how often each kind of thing happened.
#[derive(Default)]
pub struct Trace {
    hash: u64,
    events: u64,
    /// Kept only if somebody reads them.
    lines: Option<Vec<String>>,
    counts: BTreeMap<&'static str, u64>,
}

impl Trace {
    pub fn new(keeps_lines: bool) -> Trace {
        Trace { lines: keeps_lines.then(Vec::new), ..Trace::default() }
    }

    /// Two runs of one seed must agree on every number.
    pub fn mix(&mut self, number: u64) {
        self.events += 1;
        let mixed = (self.hash ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.hash = mixed ^ (mixed >> 29);
    }

    pub fn mix_bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    /// Something worth a line: the closure runs only if lines are kept.
    pub fn line(&mut self, now: Micros, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            let (seconds, micros) = (now / 1_000_000, now % 1_000_000);
            lines.push(format!("{seconds:>5}.{micros:06} {}", line()));
        }
    }

    pub fn count(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    pub fn add(&mut self, what: &'static str, times: u64) {
        *self.counts.entry(what).or_default() += times;
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn events(&self) -> u64 {
        self.events
    }

    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }

    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({:016x}, {} events)", self.hash, self.events)
    }
}
