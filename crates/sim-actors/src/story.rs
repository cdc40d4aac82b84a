//! What the nodes log, as lines of one story with the world's time, and as a hash of all of it.

use slog::{Drain, Logger, o};
use slog_term::{FullFormat, PlainSyncDecorator};
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

/// The lines of all nodes and of the nemesis.
#[derive(Clone, Default)]
pub struct Story(Arc<Mutex<Told>>);

#[derive(Default)]
struct Told {
    hash: u64,
    /// Kept only if somebody reads them.
    lines: Option<Vec<u8>>,
}

impl Story {
    pub fn new(keeps_lines: bool) -> Story {
        Story(Arc::new(Mutex::new(Told { lines: keeps_lines.then(Vec::new), ..Told::default() })))
    }

    pub fn logger(&self, node: &str) -> Logger {
        let time = |out: &mut dyn io::Write| {
            let now = turmoil::sim_elapsed().unwrap_or_default();
            write!(out, "{:>5}.{:06}", now.as_secs(), now.subsec_micros())
        };
        let format = FullFormat::new(PlainSyncDecorator::new(self.clone())).use_custom_timestamp(time);
        Logger::root(format.use_original_order().build().ignore_res(), o!("node" => node.to_owned()))
    }

    pub fn line(&self, now: std::time::Duration, line: impl FnOnce() -> String) {
        let text = format!("{:>5}.{:06} {}\n", now.as_secs(), now.subsec_micros(), line());
        self.told().take(text.as_bytes());
    }

    pub fn mix(&self, bytes: &[u8]) {
        self.told().mix(bytes);
    }

    /// Of everything that was told; two runs of one seed must agree.
    pub fn hash(&self) -> u64 {
        self.told().hash
    }

    pub fn print(&self) {
        let told = self.told();
        print!("{}", String::from_utf8_lossy(told.lines.as_deref().unwrap_or_default()));
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    fn take(&mut self, bytes: &[u8]) {
        self.mix(bytes);
        if let Some(lines) = &mut self.lines {
            lines.extend_from_slice(bytes);
        }
    }

    /// FNV-1a (Fowler, Noll, Vo).
    fn mix(&mut self, bytes: &[u8]) {
        self.hash = bytes.iter().fold(self.hash ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    }
}

impl io::Write for Story {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.told().take(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
