//! Why a request is refused by the front door itself, before anybody is asked: nothing was read or written.

use kula_types::ConsistencyError;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the key is empty")]
    KeyEmpty,
    #[error("the percent escape at byte {at} of the key is not %XX")]
    KeyEscape { at: usize },
    #[error("the key is not base64url without padding")]
    KeyBase64,
    #[error("the key has {bytes} bytes; over HTTP a key has at most {max}")]
    KeyTooLong { bytes: usize, max: usize },
    #[error("the value has more than {max} bytes")]
    ValueTooLarge { max: usize },
    #[error(transparent)]
    ConsistencyLevel(#[from] ConsistencyError),
    #[error("{name} is {accepts}")]
    Header { name: &'static str, accepts: &'static str },
    #[error("{name} is given twice")]
    HeaderTwice { name: &'static str },
    #[error("no request header {name:?} is known")]
    HeaderUnknown { name: String },
    #[error("the parameter {name:?} is not accepted here: {accepts}")]
    Parameter { name: String, accepts: &'static str },
    #[error("{what}")]
    Json { what: String },
    #[error("no route has this path")]
    NoSuchRoute,
    #[error("this route takes {allow}")]
    MethodNotAllowed { allow: &'static str },
    #[error("the head of the request has {bytes} bytes, at most {max} are accepted", max = crate::limits::HEAD_BYTES_MAX)]
    HeadTooLarge { bytes: usize },
    #[error("the body came too slowly")]
    BodyTooSlow,
    #[error("the body ended early, or its framing broke")]
    BodyIncomplete,
    #[error("the body is encoded")]
    BodyEncoded,
    #[error("{what}")]
    BatchTooLarge { what: &'static str },
    #[error("a condition on a write cannot be kept yet")]
    ConditionalWrite,
    #[error("{what} is not there yet")]
    NotThereYet { what: &'static str },
    #[error("the node is starting and takes no requests yet")]
    Starting,
    /// There is no ring; the sentence says what is waited for.
    #[error("{sentence}")]
    Waiting { sentence: String },
    #[error("the node is shutting down")]
    Stopping,
}
