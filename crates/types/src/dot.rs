//! The identity of a mutation, and the total order of last-writer-wins (`cell.md`).

use crate::Timestamp;
use serde::{Deserialize, Serialize};
use std::{cmp::Ordering, fmt};

/// Who minted a dot: a random number drawn whenever a coordinator core starts, its restart by the supervisor
/// included. Never reused, never persisted: nothing to detect after a restore or a clone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Actor(pub u64);

/// A mutation's id (*Mid*), minted once by its first coordinator; forwards, retries and hints reuse it.
///
/// `seq` runs on across epochs and alone identifies a dot of its actor; `epoch` is the seal epoch of the key's ring
/// partition as the minter knew it (0 until seals exist). Ordered by (actor, seq, epoch).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Dot {
    actor: Actor,
    epoch: u32,
    seq: u64,
}

/// Why numbers do not make a dot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DotError {
    #[error("a dot's sequence is 1 to 2^40 - 1, this one is {seq}")]
    Seq { seq: u64 },
    #[error("a dot's epoch is below 2^24, this one is {epoch}")]
    Epoch { epoch: u32 },
}

impl Dot {
    pub const SEQ_MAX: u64 = (1 << 40) - 1;
    pub const EPOCH_MAX: u32 = (1 << 24) - 1;

    pub const fn new(actor: Actor, epoch: u32, seq: u64) -> Result<Self, DotError> {
        if seq == 0 || seq > Self::SEQ_MAX {
            return Err(DotError::Seq { seq });
        }
        if epoch > Self::EPOCH_MAX {
            return Err(DotError::Epoch { epoch });
        }
        Ok(Dot { actor, epoch, seq })
    }

    pub const fn actor(self) -> Actor {
        self.actor
    }

    pub const fn epoch(self) -> u32 {
        self.epoch
    }

    pub const fn seq(self) -> u64 {
        self.seq
    }
}

impl Ord for Dot {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.actor, self.seq, self.epoch).cmp(&(other.actor, other.seq, other.epoch))
    }
}

impl PartialOrd for Dot {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch {
            0 => write!(f, "{:?}:{}", self.actor, self.seq),
            epoch => write!(f, "{:?}:{}e{epoch}", self.actor, self.seq),
        }
    }
}

/// The order of last-writer-wins and of floors: (timestamp, mutation id), a total order.
///
/// Two values are more than dots: `MAX_MID` lies above every dot at its timestamp (a delete wins its tie), and
/// `before` is the place just below a dot (a replacement of a collection spares itself).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    ts: Timestamp,
    mid: Mid,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Mid {
    /// (actor, epoch, seq) where seq may be 0: the place before an actor's first dot.
    At(Actor, u32, u64),
    Max,
}

impl Mid {
    fn order(self) -> (bool, u64, u64, u32) {
        match self {
            Mid::At(actor, epoch, seq) => (false, actor.0, seq, epoch),
            Mid::Max => (true, 0, 0, 0),
        }
    }
}

impl Ord for Mid {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for Mid {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Key {
    /// A write's own key.
    pub const fn of(ts: Timestamp, dot: Dot) -> Self {
        Key { ts, mid: Mid::At(dot.actor, dot.epoch, dot.seq) }
    }

    /// (t, MAX_MID): a delete at t, above every write at t.
    pub const fn delete_at(ts: Timestamp) -> Self {
        Key { ts, mid: Mid::Max }
    }

    /// (t, pred(mid)): a floor that spares the mutation that sets it.
    pub const fn before(ts: Timestamp, dot: Dot) -> Self {
        Key { ts, mid: Mid::At(dot.actor, dot.epoch, dot.seq - 1) }
    }

    pub const fn ts(self) -> Timestamp {
        self.ts
    }

    /// The parts for a codec: `None` is MAX_MID; a seq of 0 is the place before an actor's first dot.
    pub const fn parts(self) -> (Timestamp, Option<(Actor, u32, u64)>) {
        match self.mid {
            Mid::At(actor, epoch, seq) => (self.ts, Some((actor, epoch, seq))),
            Mid::Max => (self.ts, None),
        }
    }

    /// The inverse of `parts`, for decoders: bounds are checked.
    pub const fn from_parts(ts: Timestamp, mid: Option<(Actor, u32, u64)>) -> Result<Self, DotError> {
        match mid {
            None => Ok(Key::delete_at(ts)),
            Some((_, _, seq)) if seq > Dot::SEQ_MAX => Err(DotError::Seq { seq }),
            Some((_, epoch, _)) if epoch > Dot::EPOCH_MAX => Err(DotError::Epoch { epoch }),
            Some((actor, epoch, seq)) => Ok(Key { ts, mid: Mid::At(actor, epoch, seq) }),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mid {
            Mid::At(actor, 0, seq) => write!(f, "{:?}@{actor:?}:{seq}", self.ts),
            Mid::At(actor, epoch, seq) => write!(f, "{:?}@{actor:?}:{seq}e{epoch}", self.ts),
            Mid::Max => write!(f, "{:?}@max", self.ts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delete_wins_its_tie_and_a_replacement_spares_itself() {
        let ts = Timestamp::from_micros(10).unwrap();
        let dot = |actor, seq| Dot::new(Actor(actor), 0, seq).unwrap();
        let write = Key::of(ts, dot(u64::MAX, Dot::SEQ_MAX));
        assert!(Key::delete_at(ts) > write);
        assert!(Key::delete_at(ts) < Key::of(ts.next(), dot(0, 1)));
        assert!(Key::before(ts, dot(7, 1)) < Key::of(ts, dot(7, 1)));
        assert!(Key::before(ts, dot(7, 2)) >= Key::of(ts, dot(7, 1)));
        assert!(Dot::new(Actor(1), 0, 0).is_err() && Dot::new(Actor(1), 1 << 24, 1).is_err());
    }
}
