//! `Snapshot`: the latest published value, read by anyone without a message.
//!
//! An actor owns the truth and publishes an immutable copy; a reader sees a whole copy, never a mixture, and never
//! waits. It may be one publication behind: whoever must not be asks the actor.

use arc_swap::{ArcSwap, Guard};
use std::{fmt, sync::Arc};

/// A shared cell that holds the latest published `Arc<T>`.
pub struct Snapshot<T> {
    latest: Arc<ArcSwap<T>>,
}

impl<T> Snapshot<T> {
    pub fn new(first: Arc<T>) -> Self {
        Snapshot { latest: Arc::new(ArcSwap::new(first)) }
    }

    /// The latest value, kept for as long as the caller likes.
    pub fn load(&self) -> Arc<T> {
        self.latest.load_full()
    }

    /// The latest value for a short look: no reference count is touched. Must not be held across an await.
    pub fn peek(&self) -> Guard<Arc<T>> {
        self.latest.load()
    }

    /// Publishes `next`. Only the actor that owns the truth calls this.
    pub fn store(&self, next: Arc<T>) {
        self.latest.store(next);
    }
}

impl<T> Clone for Snapshot<T> {
    fn clone(&self) -> Self {
        Snapshot { latest: Arc::clone(&self.latest) }
    }
}

impl<T: fmt::Debug> fmt::Debug for Snapshot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Snapshot").field(&*self.latest.load()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_sees_what_was_stored_and_an_old_value_stays_whole() {
        let owner = Snapshot::new(Arc::new(1));
        let reader = owner.clone();
        let before = reader.load();
        owner.store(Arc::new(2));
        assert_eq!((*before, *reader.load(), **reader.peek()), (1, 2, 2));
    }
}
