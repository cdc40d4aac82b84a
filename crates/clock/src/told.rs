//! How much of the clock's lease other nodes were told of. What they were told is durable here, so a directory that holds less
//! when its node comes back is one from before: restored from a copy, or rolled back with its machine.
//!
//! Only a node that a member took for what it says tells more. One that comes back with an older directory may run for a
//! while before a member that knows better reaches it; what it has told by then must not speak for it at its next start.

use kula_types::Timestamp;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One for a process: the keeper of the lease asks it what to store, transport what to say.
pub struct Told {
    /// What the directory held when this process opened it.
    at_open: Option<Timestamp>,
    is_loss_accepted: bool,
    now: Mutex<Now>,
}

struct Now {
    standing: Standing,
    /// Durable. `None`: nobody was told anything.
    upto: Option<Timestamp>,
}

/// What the members think of this process's directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Unproved,
    Welcome,
    /// For good: a member knows that it went back.
    Older,
}

impl Told {
    /// `at_open`: what is durable. `is_loss_accepted`: its operator knows that something may be missing.
    pub fn new(at_open: Option<Timestamp>, is_loss_accepted: bool) -> Told {
        let now = Mutex::new(Now { standing: Standing::Unproved, upto: at_open });
        Told { at_open, is_loss_accepted, now }
    }

    /// What this process's introduction says; `Timestamp::MIN`: nobody was told anything. `None`: no claim, for the loss of
    /// what is missing is accepted.
    pub fn found(&self) -> Option<Timestamp> {
        (!self.is_loss_accepted).then(|| self.at_open.unwrap_or(Timestamp::MIN))
    }

    /// A member took this process for the node that it says it is.
    pub fn welcomed(&self) {
        let mut now = self.now();
        if now.standing == Standing::Unproved {
            now.standing = Standing::Welcome;
        }
    }

    /// A member said that the directory went back.
    pub fn refused(&self) {
        self.now().standing = Standing::Older;
    }

    /// What is to be stored with this lease; then `is_durable`. It never falls while the node is welcome.
    pub fn next(&self, lease: Timestamp) -> Option<Timestamp> {
        let now = self.now();
        if now.standing == Standing::Welcome { now.upto.max(Some(lease)) } else { self.at_open }
    }

    pub fn is_durable(&self, told: Option<Timestamp>) {
        self.now().upto = told;
    }

    /// What may be said.
    pub fn upto(&self) -> Option<Timestamp> {
        self.now().upto
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros).unwrap()
    }

    /// As the keeper of the lease does.
    fn extend(told: &Told, lease: i64) -> Option<Timestamp> {
        let next = told.next(at(lease));
        told.is_durable(next);
        next
    }

    // Promise: P2
    #[test]
    fn only_a_welcome_node_tells_more_than_its_directory_held() {
        let told = Told::new(Some(at(10)), false);
        assert_eq!((told.found(), told.upto()), (Some(at(10)), Some(at(10))));
        assert_eq!(extend(&told, 20), Some(at(10)));
        told.welcomed();
        assert_eq!(told.upto(), Some(at(10)), "nothing that is not durable");
        assert_eq!(extend(&told, 30), Some(at(30)));
        assert_eq!((told.found(), told.upto()), (Some(at(10)), Some(at(30))));
        assert_eq!(extend(&told, 25), Some(at(30)), "a clock that was set back takes nothing back");
    }

    // Promise: P2
    #[test]
    fn what_an_older_directory_told_does_not_speak_for_it_at_its_next_start() {
        let told = Told::new(Some(at(10)), false);
        told.welcomed();
        extend(&told, 20);
        told.refused();
        told.welcomed();
        assert_eq!(extend(&told, 30), Some(at(10)));
        assert_eq!(Told::new(told.next(at(40)), false).found(), Some(at(10)));
    }

    #[test]
    fn an_accepted_loss_is_accepted_until_a_member_agreed() {
        let told = Told::new(Some(at(10)), true);
        assert_eq!(told.found(), None);
        assert_eq!(extend(&told, 20), Some(at(10)), "a start that nobody met changes nothing");
        told.welcomed();
        assert_eq!(extend(&told, 30), Some(at(30)));
        assert_eq!(Told::new(None, false).found(), Some(Timestamp::MIN), "a new directory claims what it has: nothing");
    }
}
