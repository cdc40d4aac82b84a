//! `Blob`: bytes inside a message whose shape is somebody else's: a mutation, a partition, a key.
//!
//! It asks the decoder for borrowed bytes, which are cut from the input and so cannot claim more than is there. `Bytes`
//! itself asks for a buffer, and bincode fills one of the claimed length before it looks.

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};
use std::fmt;

#[derive(Clone, PartialEq, Eq, Default)]
pub struct Blob(pub Bytes);

struct Borrowed;

impl Visitor<'_> for Borrowed {
    type Value = Blob;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Blob, E> {
        Ok(Blob(Bytes::copy_from_slice(bytes)))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(Borrowed)
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl From<Bytes> for Blob {
    fn from(bytes: Bytes) -> Self {
        Blob(bytes)
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            0..=32 => self.0.fmt(f),
            long => write!(f, "{long} bytes"),
        }
    }
}
