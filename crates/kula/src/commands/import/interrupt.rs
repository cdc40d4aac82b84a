//! Ctrl-C and SIGTERM: the first ends an import in order, with its state written; any further one ends it at once, as every
//! one does during the read-back.

use super::window::Window;
use crate::exit::Verdict;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
};

#[derive(Default)]
pub struct Interrupt {
    met: AtomicBool,
    at_once: AtomicBool,
    over: Notify,
}

/// Ends the watch when it goes.
pub struct Over<'a>(&'a Notify);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Interrupt {
    pub fn is_met(&self) -> bool {
        self.met.load(Ordering::Relaxed)
    }

    /// From now on there is nothing to end in order.
    pub fn ends_at_once(&self) {
        self.at_once.store(true, Ordering::Relaxed);
    }

    /// The watch ends with what this returns, whatever becomes of the import.
    pub fn until_over(&self) -> Over<'_> {
        Over(&self.over)
    }

    /// Until it is over. Where signals cannot be watched they do what they always do.
    pub fn watch(&self, window: &Window) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if let Ok(runtime) = runtime {
            runtime.block_on(self.watching(window)).ok();
        }
    }

    async fn watching(&self, window: &Window) -> std::io::Result<()> {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                () = self.over.notified() => return Ok(()),
            }
            if self.at_once.load(Ordering::Relaxed) || self.met.swap(true, Ordering::Relaxed) {
                std::process::exit(Verdict::Error.number().into());
            }
            window.stop();
        }
    }
}
