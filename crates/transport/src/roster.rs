//! The roster: which process of each node we are connected with now. A node id that is already here with another boot id
//! is a cloned directory, or one that two processes run from. And how far the clock of each member was leased when it was
//! last heard: a directory that says less when its node comes back is one from before.
//!
//! Pure. A restarted node comes back with a new boot id as soon as the connections of its last life are gone: the kernel
//! closes them when a process dies, and silence does within `limits::SILENCE_MAX` when a machine does.

use kula_fault::{Mutant, planted};
use kula_types::{Map, NodeId, Timestamp};
use std::time::Duration;

#[derive(Default)]
pub struct Roster {
    seats: Map<NodeId, Seat>,
    heard: Map<NodeId, Lease>,
}

/// What a node's process said last of its clock's lease.
struct Lease {
    boot: u64,
    leased: Timestamp,
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
    /// Whether a process of this node may come in.
    pub fn has_room(&self, node: NodeId, boot: u64) -> Result<(), Taken> {
        match self.seats.get(&node) {
            Some(seat) if seat.boot != boot && !planted(Mutant::CopyWelcomed) => {
                Err(Taken { address: seat.address.clone() })
            }
            _ => Ok(()),
        }
    }

    /// It has room, and comes in.
    pub fn enter(&mut self, node: NodeId, boot: u64, address: &str) {
        let seat = self.seats.entry(node).or_insert_with(|| Seat { boot, address: address.to_owned(), connections: 0 });
        seat.connections += 1;
    }

    /// A member that is connected said how far its clock is leased, durably.
    pub fn heard_lease(&mut self, node: NodeId, leased: Timestamp) {
        let Some(Seat { boot, .. }) = self.seats.get(&node) else { return };
        let boot = *boot;
        let heard = self.heard.entry(node).or_insert(Lease { boot, leased });
        // A later process was welcome: its directory held what the earlier one said, or its loss was accepted.
        let earlier = (heard.boot == boot).then_some(heard.leased);
        *heard = Lease { boot, leased: earlier.map_or(leased, |earlier| earlier.max(leased)) };
    }

    /// By how much the directory of a process is older than what an earlier one of its node said last, if it is. `found`:
    /// what it says of itself; `None`: its operator accepts the loss.
    pub fn went_back(&self, node: NodeId, boot: u64, found: Option<Timestamp>) -> Option<Duration> {
        let heard = self.heard.get(&node).filter(|heard| heard.boot != boot)?;
        let behind = heard.leased.micros().saturating_sub(found?.micros());
        (behind > 0 && !planted(Mutant::OlderDiskWelcomed)).then(|| Duration::from_micros(behind.unsigned_abs()))
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
