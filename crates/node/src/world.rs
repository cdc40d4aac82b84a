//! What a node takes from the machine under it: files, sockets, time, chance, threads. A simulation brings its own.

use crate::{StartError, config::Config};
use actix_rt::Arbiter;
use kula_actor::Place;
use kula_clock::{Clock, Dice, SystemClock, SystemDice};
use kula_disk::{Disk, OsDisk};
use kula_net::{Net, OsNet};
use std::sync::Arc;

/// The machine under a node.
pub struct World {
    pub disk: Arc<dyn Disk>,
    pub net: Arc<dyn Net>,
    pub clock: Arc<dyn Clock>,
    pub dice: Arc<dyn Dice>,
    pub threads: Threads,
}

impl World {
    /// The operating system's. Makes the data directory if there is none.
    pub fn system(config: &Config) -> Result<World, StartError> {
        let clock = Arc::new(SystemClock::new());
        let disk = Arc::new(OsDisk::open_or_create(&config.node.data).map_err(StartError::Directory)?);
        Ok(World { disk, net: Arc::new(OsNet), clock, dice: Arc::new(SystemDice), threads: Threads::own() })
    }
}

/// Where actors run.
pub struct Threads {
    /// `None`: all on the thread of their supervisor.
    arbiters: Option<Vec<Arbiter>>,
}

impl Threads {
    /// One thread a place. Needs an actix `System` around it.
    pub fn own() -> Threads {
        Threads { arbiters: Some(Vec::new()) }
    }

    /// One thread for everything, which needs no `System` but a `LocalSet`.
    pub fn shared() -> Threads {
        Threads { arbiters: None }
    }

    pub(crate) fn place(&mut self) -> Place {
        let Some(arbiters) = &mut self.arbiters else { return Place::Local };
        let arbiter = Arbiter::new();
        let place = Place::Arbiter(arbiter.handle());
        arbiters.push(arbiter);
        place
    }

    /// `joins`: waits until each has ended.
    pub(crate) fn stop(self, joins: bool) {
        for arbiter in self.arbiters.into_iter().flatten() {
            arbiter.stop();
            if joins {
                drop(arbiter.join());
            }
        }
    }
}
