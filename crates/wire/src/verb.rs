//! What a frame says about itself, and the trait of every message that goes in one.

use serde::{Serialize, de::DeserializeOwned};

/// The versions of verbs this build speaks. Peers settle on the highest both know; `link::Hello` carries the range.
pub const PROTOCOL_MIN: u8 = 1;
pub const PROTOCOL_MAX: u8 = 1;

/// Which queue of a link a frame waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Heartbeats, gossip, the ring: never waits behind another lane.
    Urgent,
    /// What a client waits for.
    Request,
    /// What nobody waits for: hints, streams.
    Bulk,
}

/// What a frame is in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Wants a `Response` or a `Fault` with its request id.
    Request,
    /// The body is the verb's `Answer`.
    Response,
    /// Wants nothing.
    OneWay,
    /// In place of a response; the body is a `link::Fault`.
    Fault,
}

/// The room of the peer that obeys a verb: the high byte of its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Room {
    /// Obeyed by transport itself.
    Link,
    Gossip,
    Ring,
    Catalog,
    Replica,
    Handoff,
    Status,
}

/// A message one of our processes sends another. Its shape is frozen with the protocol version (golden bytes in
/// `testdata/`): a changed verb is a new verb with a new code.
pub trait Verb: Serialize + DeserializeOwned {
    /// Unique in the house; the high byte is the room's.
    const CODE: u16;
    /// For people: metrics and logs.
    const NAME: &'static str;
    const LANE: Lane;
    /// `()` for a verb that is only told.
    type Answer: Serialize + DeserializeOwned;
    /// Who obeys it.
    const ROOM: Room = match Room::of(Self::CODE) {
        Some(room) => room,
        None => panic!("the high byte of a verb's code names its room"),
    };
}

impl Lane {
    pub const ALL: [Lane; 3] = [Lane::Urgent, Lane::Request, Lane::Bulk];

    pub(crate) const fn code(self) -> u8 {
        match self {
            Lane::Urgent => 0,
            Lane::Request => 1,
            Lane::Bulk => 2,
        }
    }

    pub(crate) const fn of(code: u8) -> Option<Lane> {
        match code {
            0 => Some(Lane::Urgent),
            1 => Some(Lane::Request),
            2 => Some(Lane::Bulk),
            _ => None,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Lane::Urgent => "urgent",
            Lane::Request => "request",
            Lane::Bulk => "bulk",
        }
    }
}

impl Kind {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Kind::Request => 0,
            Kind::Response => 1,
            Kind::OneWay => 2,
            Kind::Fault => 3,
        }
    }

    pub(crate) const fn of(code: u8) -> Option<Kind> {
        match code {
            0 => Some(Kind::Request),
            1 => Some(Kind::Response),
            2 => Some(Kind::OneWay),
            3 => Some(Kind::Fault),
            _ => None,
        }
    }
}

impl Room {
    /// The room that a verb's code names; `None` for a verb of a later version.
    pub const fn of(verb: u16) -> Option<Room> {
        match verb >> 8 {
            1 => Some(Room::Link),
            2 => Some(Room::Gossip),
            3 => Some(Room::Ring),
            4 => Some(Room::Catalog),
            5 => Some(Room::Replica),
            6 => Some(Room::Handoff),
            7 => Some(Room::Status),
            _ => None,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Room::Link => "link",
            Room::Gossip => "gossip",
            Room::Ring => "ring",
            Room::Catalog => "catalog",
            Room::Replica => "replica",
            Room::Handoff => "handoff",
            Room::Status => "status",
        }
    }
}
