//! `Subscriber`: whoever wants to hear of an event, without saying who it is.
//!
//! An actix `Recipient` would bypass the meter: one event through it made the depth −1 and the door refuse for ever.

use crate::{
    context::KulaContext,
    door::{Door, DoorError, Refused},
};
use actix::prelude::{Actor, Handler, Message};
use std::{fmt, sync::Arc};

/// A door that is known only by the event it takes.
pub struct Subscriber<E> {
    path: Arc<str>,
    deliver: Arc<Deliver<E>>,
}

type Deliver<E> = dyn Fn(E, Lane) -> Result<(), Refused<E>> + Send + Sync;

#[derive(Clone, Copy)]
enum Lane {
    Bounded,
    Forced,
}

impl<E> Subscriber<E> {
    /// Delivers an event, unless the subscriber's mailbox is full.
    pub fn publish(&self, event: E) -> Result<(), DoorError> {
        self.try_publish(event).map_err(|refused| refused.error)
    }

    /// As `publish`; a refused event comes back, with the `Reply` it may carry.
    pub fn try_publish(&self, event: E) -> Result<(), Refused<E>> {
        (self.deliver)(event, Lane::Bounded)
    }

    /// Delivers an event past the bound: for rare ones that must not be missed, such as a new ring. Fails only if the
    /// subscriber is gone.
    pub fn publish_forced(&self, event: E) -> Result<(), DoorError> {
        (self.deliver)(event, Lane::Forced).map_err(|refused| refused.error)
    }

    /// Who listens.
    pub fn path(&self) -> &Arc<str> {
        &self.path
    }
}

impl<A, E> From<&Door<A>> for Subscriber<E>
where
    A: Actor<Context = KulaContext<A>> + Handler<E>,
    E: Message + Send + 'static,
    E::Result: Send,
{
    fn from(door: &Door<A>) -> Self {
        let path = Arc::clone(door.path());
        let door = door.clone();
        let deliver = move |event: E, lane: Lane| match lane {
            Lane::Bounded => door.try_tell(event),
            Lane::Forced => door.try_tell_forced(event),
        };
        Subscriber { path, deliver: Arc::new(deliver) }
    }
}

impl<E> Clone for Subscriber<E> {
    fn clone(&self) -> Self {
        Subscriber { path: Arc::clone(&self.path), deliver: Arc::clone(&self.deliver) }
    }
}

impl<E> fmt::Debug for Subscriber<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscriber({})", self.path)
    }
}
