//! A timer that an actor polls beside its socket, and the watch over a socket that takes nothing.

use crate::limits::STALL_MAX;
use kula_types::Mono;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::{Instant, Sleep, sleep};

#[derive(Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    due: Mono,
}

impl Timer {
    /// Ready when `due` has come; wakes the task then.
    pub fn poll(&mut self, now: Mono, due: Mono, cx: &mut Context<'_>) -> Poll<()> {
        if due <= now {
            return Poll::Ready(());
        }
        let left = due.since(now);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(left)));
        if self.due != due {
            self.due = due;
            sleep.as_mut().reset(Instant::now() + left);
        }
        match sleep.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                // It rounds to milliseconds and our clock may be a little behind it.
                self.due = Mono::default();
                Poll::Ready(())
            }
        }
    }
}

/// Since when a socket with something to write has taken nothing.
#[derive(Default)]
pub(crate) struct Watch {
    written: u64,
    since: Option<Mono>,
}

impl Watch {
    /// When the peer is to be given up, if it goes on like this.
    pub fn look(&mut self, now: Mono, has_output: bool, written: u64) -> Option<Mono> {
        if !has_output || written != self.written {
            (self.written, self.since) = (written, None);
        }
        has_output.then(|| self.since.get_or_insert(now).after(STALL_MAX))
    }
}
