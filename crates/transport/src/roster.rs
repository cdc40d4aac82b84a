//! The roster: which process of each node we are connected with now. A node id that is already here with another boot id
//! is a cloned directory, or one that two processes run from.
//!
//! Pure. A restarted node comes back with a new boot id as soon as the connections of its last life are gone: the kernel
//! closes them when a process dies, and silence does within `limits::SILENCE_MAX` when a machine does.

use kula_fault::{Mutant, planted};
use kula_types::{Map, NodeId};

#[derive(Default)]
pub struct Roster {
    seats: Map<NodeId, Seat>,
}

struct Seat {
    boot: u64,
    address: String,
    /// Connections, in both directions, that hold this seat.
    connections: usize,
}

/// The seat is taken by another process, which says that it is reached here.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    pub address: String,
}

impl Roster {
    pub fn enter(&mut self, node: NodeId, boot: u64, address: &str) -> Result<(), Taken> {
        let seat = self.seats.entry(node).or_insert_with(|| Seat { boot, address: address.to_owned(), connections: 0 });
        if seat.boot != boot && !planted(Mutant::CopyWelcomed) {
            return Err(Taken { address: seat.address.clone() });
        }
        seat.connections += 1;
        Ok(())
    }

    /// A connection that entered is gone.
    pub fn leave(&mut self, node: NodeId) {
        let Some(seat) = self.seats.get_mut(&node) else { return };
        seat.connections -= 1;
        if seat.connections == 0 {
            self.seats.remove(&node);
        }
    }
}
