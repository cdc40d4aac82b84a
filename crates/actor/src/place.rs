//! `Place`: where a child runs. The same child runs on its own thread in production and on the one thread of a simulation.

use actix::prelude::ArbiterHandle;
use std::future::Future;

/// Where a child runs.
#[derive(Clone, Debug)]
pub enum Place {
    /// On the thread of its supervisor.
    Local,
    /// On the thread of this arbiter.
    Arbiter(ArbiterHandle),
}

impl Place {
    /// Makes a future in its place and runs it there; false if that thread is gone. `make` is then dropped.
    pub(crate) fn spawn<F: Future<Output = ()> + 'static>(&self, make: impl FnOnce() -> F + Send + 'static) -> bool {
        let start = move || drop(tokio::task::spawn_local(make()));
        match self {
            Place::Local => {
                start();
                true
            }
            Place::Arbiter(arbiter) => arbiter.spawn_fn(start),
        }
    }
}
