//! How a request to a peer can fail, by what may be believed afterwards, and why a connection ended.

use kula_wire::verbs::link::Refusal;
use std::sync::Arc;

/// Why there is no answer. `nothing_was_done` says whether the peer can have obeyed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// There is no connection to the peer: nothing was sent.
    #[error("there is no connection to the peer")]
    NotConnected,
    /// Here: nothing was sent. At the peer (`path` begins with its name): it refused to begin.
    #[error("{path} is overloaded: {depth} of {cap} wait")]
    Overloaded { path: Arc<str>, depth: usize, cap: usize },
    /// The deadline passed before the request was sent, or before the peer began with it.
    #[error("the deadline passed before the request was begun")]
    Expired,
    /// The peer does not know this verb: it is of another version.
    #[error("the peer does not know verb {verb:#06x}")]
    UnknownVerb { verb: u16 },
    /// Ours to send: nothing was sent.
    #[error("a message of {bytes} bytes; a frame carries at most {max}")]
    TooLarge { bytes: usize, max: usize },
    /// It was sent and the deadline passed without an answer: *unknown*.
    #[error("no answer before the deadline; whether the peer obeyed is unknown")]
    TimedOut,
    /// It was sent and the connection, or the peer's room, was lost before the answer: *unknown*.
    #[error("the answer was lost; whether the peer obeyed is unknown")]
    Lost,
    /// An answer came that is not the verb's: *unknown*.
    #[error("the peer's answer cannot be understood; whether it obeyed is unknown")]
    Malformed,
}

impl TransportError {
    /// Whether it is certain that the peer did not obey.
    pub const fn nothing_was_done(&self) -> bool {
        match self {
            TransportError::NotConnected
            | TransportError::Overloaded { .. }
            | TransportError::Expired
            | TransportError::UnknownVerb { .. }
            | TransportError::TooLarge { .. } => true,
            TransportError::TimedOut | TransportError::Lost | TransportError::Malformed => false,
        }
    }
}

/// Why a connection ended, or was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("the connection was not made in time")]
    ConnectLate,
    #[error("the handshake was not over in time")]
    HandshakeLate,
    #[error("nothing was heard for {} ms", crate::limits::SILENCE_MAX.as_millis())]
    Silent,
    #[error("it takes nothing of what waits for it")]
    Stalled,
    /// A stranger that made room for a newer one.
    #[error("too many connections have not introduced themselves")]
    Crowded,
    /// Bytes that are no frame, or frames out of place.
    #[error("it does not speak the protocol: {0}")]
    Garbage(String),
    /// The peer refused us.
    #[error("refused by the peer: {0}")]
    Refused(Refusal),
    /// We refused the peer.
    #[error("refused: {0}")]
    Refusing(Refusal),
    #[error("the peer closed the connection")]
    Closed,
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl Cut {
    /// One word, for a metric's label.
    pub const fn word(&self) -> &'static str {
        match self {
            Cut::Connect(_) => "connect",
            Cut::ConnectLate => "connect_late",
            Cut::HandshakeLate => "handshake_late",
            Cut::Silent => "silent",
            Cut::Stalled => "stalled",
            Cut::Crowded => "crowded",
            Cut::Garbage(_) => "garbage",
            Cut::Refused(_) => "refused",
            Cut::Refusing(_) => "refusing",
            Cut::Closed => "closed",
            Cut::Broken(_) => "broken",
        }
    }
}
