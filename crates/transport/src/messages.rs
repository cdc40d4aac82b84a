//! What rooms hear from transport: frames for them, and which peers are connected.

use bytes::Bytes;
use kula_actor::{Message, Reply};
use kula_types::{Mono, NodeId};
use kula_wire::{
    MessageError, Verb, decode, encode,
    verbs::link::{Introduction, Refusal},
};

/// The frames of one socket read that are for one room.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct InboundBatch {
    pub frames: Vec<Inbound>,
}

/// A verb from a peer.
#[derive(Debug)]
pub struct Inbound {
    pub from: NodeId,
    pub verb: u16,
    pub body: Bytes,
    /// Past it the peer no longer waits.
    pub deadline: Mono,
    pub trace: u64,
    /// For the encoded answer; nobody waits for it if the verb was told. Dropped, the peer learns that it is *unknown*
    /// whether the verb was obeyed.
    pub reply: Reply<Bytes>,
}

impl Inbound {
    /// The message, if this is a `V`.
    pub fn read<V: Verb>(&self) -> Result<V, MessageError> {
        if self.verb == V::CODE { decode(&self.body) } else { Err(MessageError::Malformed) }
    }

    /// A way back that takes the answer of a `V` and encodes it.
    pub fn reply_of<V: Verb>(self) -> Reply<V::Answer>
    where
        V::Answer: Send + 'static,
    {
        let reply = self.reply;
        Reply::new(move |answer: Result<V::Answer, kula_actor::Lost>| {
            // An answer too large for a frame is dropped like one that was lost: the peer learns `Lost`.
            if let Some(body) = answer.ok().and_then(|answer| encode(&answer).ok()) {
                reply.send(body);
            }
        })
    }
}

/// A peer came or went. Sent past the bounds of whoever listens: there are few.
#[derive(Clone, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub enum LinkEvent {
    /// Our own connection to the peer is up.
    Up { peer: Introduction },
    /// It is gone. Says nothing of the peer's health.
    Lost { node: NodeId },
}

/// What is known of one link, for people and for gossip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// Where we connect to.
    pub address: String,
    /// Who is expected, or was found there.
    pub node: Option<NodeId>,
    pub name: String,
    pub link: LinkState,
}

/// A node that connected to us and was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedPeer {
    /// What it said of itself; `None` and empty if that could not be understood.
    pub node: Option<NodeId>,
    pub name: String,
    pub address: String,
    /// The host it connected from.
    pub from: String,
    pub why: Refusal,
    /// How often, since it was last away.
    pub times: u64,
    pub last: Mono,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Not tried to its end yet.
    Connecting,
    Up {
        since: Mono,
    },
    /// One side refuses the other; the link asks again from time to time.
    Refused(Refusal),
    Down {
        why: String,
    },
}
