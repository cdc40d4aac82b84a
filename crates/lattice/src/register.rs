//! L: the last-writer-wins register (`cell.md`; Shapiro et al., LWW-Register).

use crate::Join;
use bytes::Bytes;
use kula_fault::{Mutant, planted};
use kula_types::{Key, Timestamp};
use std::{cmp::Ordering, fmt};

/// What a value holds. The order is part of the join: a stub beats a body, bodies by their bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Body {
    Full(Bytes),
    /// An expired value whose bytes are gone; its key and expiry stay, so that digests do not see the difference.
    Stub,
}

impl Body {
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            Body::Full(bytes) => Some(bytes),
            Body::Stub => None,
        }
    }

    /// Full and not expired: the part of visibility that needs no floor.
    pub(crate) fn shown_at(&self, exp: Option<Timestamp>, now: Timestamp) -> bool {
        matches!(self, Body::Full(_)) && exp.is_none_or(|exp| exp > now)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Body::Full(bytes) if bytes.len() <= 32 => write!(f, "{bytes:?}"),
            Body::Full(bytes) => write!(f, "{} bytes", bytes.len()),
            Body::Stub => f.write_str("stub"),
        }
    }
}

/// No expiry is the latest of all.
pub(crate) fn compare_expiry(left: Option<Timestamp>, right: Option<Timestamp>) -> Ordering {
    match (left, right) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(left), Some(right)) => left.cmp(&right),
    }
}

/// One write of a register; a row's marker is one too.
///
/// Join is the maximum by (key, exp with none highest, stub > full, bytes). Expiry comes before the body, so that one
/// replica's turning an expired body into a stub decides nothing that was not decided before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lww {
    pub key: Key,
    /// Shown while `now < exp`.
    pub exp: Option<Timestamp>,
    pub body: Body,
}

impl Lww {
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        if planted(Mutant::EqualTimestampsPerCell) && self.key.ts() == other.key.ts() {
            return self.body.cmp(&other.body);
        }
        self.key
            .cmp(&other.key)
            .then_with(|| compare_expiry(self.exp, other.exp))
            .then_with(|| self.body.cmp(&other.body))
    }
}

impl Join for Lww {
    fn join(&mut self, other: Self) {
        if self.compare(&other) == Ordering::Less {
            *self = other;
        }
    }
}
