//! Whether this node takes requests: one flag, set by the node's wiring, read by every front door.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

/// Where a node is in its life. It only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Replaying, or without a ring: requests are turned away.
    Starting,
    Ready,
    /// What was accepted is being finished; nothing new is.
    Stopping,
}

/// The shared flag. Clones are the same flag.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<AtomicU8>);

impl Readiness {
    pub fn starting() -> Self {
        Readiness(Arc::new(AtomicU8::new(Stage::Starting as u8)))
    }

    /// The node has replayed, knows its ring and takes requests. A node that is stopping stays so.
    pub fn set_ready(&self) {
        self.0.fetch_max(Stage::Ready as u8, Ordering::AcqRel);
    }

    pub fn set_stopping(&self) {
        self.0.fetch_max(Stage::Stopping as u8, Ordering::AcqRel);
    }

    pub fn stage(&self) -> Stage {
        match self.0.load(Ordering::Acquire) {
            0 => Stage::Starting,
            1 => Stage::Ready,
            _ => Stage::Stopping,
        }
    }

    pub fn is_ready(&self) -> bool {
        self.stage() == Stage::Ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_stops_is_never_ready_again() {
        let readiness = Readiness::starting();
        assert_eq!(readiness.stage(), Stage::Starting);
        readiness.set_ready();
        assert!(readiness.clone().is_ready());
        readiness.set_stopping();
        readiness.set_ready();
        assert_eq!(readiness.stage(), Stage::Stopping);
    }
}
