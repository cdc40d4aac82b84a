//! A message to the body of a frame and back. The only place that knows bincode.
//!
//! Safe against any body: bincode without a limit aborts the process on ten bytes that claim a terabyte, so the limit
//! follows the length of the body; and a body must be consumed whole, because newer bytes would otherwise decode as an
//! older message. A limit counts an integer at its full width though it is written shorter, so it is eight times the
//! length, rounded up.

use crate::limits::BODY_BYTES_MAX;
use bincode::config::{Configuration, LittleEndian, Varint};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// Why a message and a body do not become one another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Ours to send: nothing was sent.
    #[error("a message of {bytes} bytes; a frame carries at most {max}")]
    TooLarge { bytes: usize, max: usize },
    /// The peer's body says something else than it should.
    #[error("the body is not the message its verb names")]
    Malformed,
    /// The peer's body goes on behind the message.
    #[error("the body has {extra} bytes behind its message")]
    Trailing { extra: usize },
}

/// The body that says `message`.
pub fn encode<T: Serialize + ?Sized>(message: &T) -> Result<Bytes, MessageError> {
    let body = bincode::serde::encode_to_vec(message, bincode::config::standard());
    // Our verbs are plain structs, which bincode can always write.
    let body = body.map_err(|_| MessageError::Malformed)?;
    match body.len() {
        bytes if bytes > BODY_BYTES_MAX => Err(MessageError::TooLarge { bytes, max: BODY_BYTES_MAX }),
        _ => Ok(body.into()),
    }
}

/// The message that `body` says.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, MessageError> {
    const KIB: usize = 1 << 10;
    const MIB: usize = 1 << 20;
    const _: () = assert!(8 * BODY_BYTES_MAX <= 256 * MIB);
    match body.len() {
        bytes if bytes > BODY_BYTES_MAX => Err(MessageError::TooLarge { bytes, max: BODY_BYTES_MAX }),
        bytes if 8 * bytes <= 64 * KIB => decode_within::<T, { 64 * KIB }>(body),
        bytes if 8 * bytes <= MIB => decode_within::<T, MIB>(body),
        bytes if 8 * bytes <= 16 * MIB => decode_within::<T, { 16 * MIB }>(body),
        _ => decode_within::<T, { 256 * MIB }>(body),
    }
}

fn decode_within<T: DeserializeOwned, const LIMIT: usize>(body: &[u8]) -> Result<T, MessageError> {
    let config: Configuration<LittleEndian, Varint> = bincode::config::standard();
    let decoded = bincode::serde::borrow_decode_from_slice(body, config.with_limit::<LIMIT>());
    let (message, consumed) = decoded.map_err(|_| MessageError::Malformed)?;
    match body.len() - consumed {
        0 => Ok(message),
        extra => Err(MessageError::Trailing { extra }),
    }
}
