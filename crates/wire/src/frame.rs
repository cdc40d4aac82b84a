#![doc = include_str!("../../../docs/format/frame.md")]

use crate::{
    limits::{BODY_BYTES_MAX, FRAME_BYTES_MAX, FRAME_HEADER_BYTES},
    verb::{Kind, Lane},
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kula_fault::{Mutant, planted};
use kula_types::Timestamp;
use std::io;
use tokio_util::codec::{Decoder, LengthDelimitedCodec};

/// The version of the header itself.
pub const FRAME_VERSION: u8 = 1;
/// The length in front of a frame.
const LENGTH_BYTES: usize = 4;

/// One message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    pub lane: Lane,
    pub verb: u16,
    /// Chosen by the asker, unique on its connection; an answer repeats it. 0 where nothing is answered.
    pub request: u64,
    /// Milliseconds the asker still waits, counted when it was sent; 0 = no deadline. Clocks are not compared.
    pub deadline_ms: u32,
    /// Ties what belongs to one client request together in logs; 0 = none.
    pub trace: u64,
    pub body: Bytes,
}

/// Why bytes are no frame. The connection they came on cannot be read any further.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Seen before anything was allocated for it.
    #[error("a frame longer than {max} bytes")]
    TooLong { max: usize },
    #[error("a frame of {bytes} bytes; its header alone takes {FRAME_HEADER_BYTES}")]
    TooShort { bytes: usize },
    #[error("the checksum does not match")]
    Checksum,
    #[error("frame version {version}; {FRAME_VERSION} is spoken here")]
    Version { version: u8 },
    /// A kind or a lane of no version, a reserved byte that is not zero, or a clock that shows no time.
    #[error("a header that means nothing")]
    Meaningless,
    /// The stream ended inside a frame, or the socket failed.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
}

impl Frame {
    /// What goes before the body: length and header. `clock`: what the sender's hybrid clock shows now.
    pub fn head(&self, clock: Timestamp) -> [u8; LENGTH_BYTES + FRAME_HEADER_BYTES] {
        assert!(self.body.len() <= BODY_BYTES_MAX, "a body of {} bytes was let into a frame", self.body.len());
        let length = u32::try_from(FRAME_HEADER_BYTES + self.body.len()).unwrap_or(u32::MAX);
        let mut head = [0; LENGTH_BYTES + FRAME_HEADER_BYTES];
        let mut rest = &mut head[..];
        rest.put_u32_le(length);
        rest.put_u32_le(0);
        rest.put_u8(FRAME_VERSION);
        rest.put_u8(self.kind.code());
        rest.put_u8(self.lane.code());
        rest.put_u8(0);
        rest.put_u16_le(self.verb);
        rest.put_u16_le(0);
        rest.put_u32_le(self.deadline_ms);
        rest.put_u64_le(self.request);
        rest.put_u64_le(self.trace);
        rest.put_i64_le(clock.micros());
        let checksum = checksum(length, &head[2 * LENGTH_BYTES..], &self.body);
        head[LENGTH_BYTES..2 * LENGTH_BYTES].copy_from_slice(&checksum.to_le_bytes());
        head
    }

    /// The whole frame.
    pub fn write(&self, clock: Timestamp, out: &mut BytesMut) {
        out.put_slice(&self.head(clock));
        out.put_slice(&self.body);
    }

    /// Bytes it takes on the wire.
    pub fn wire_bytes(&self) -> usize {
        LENGTH_BYTES + FRAME_HEADER_BYTES + self.body.len()
    }

    /// A frame and its sender's clock, from the bytes behind its length.
    fn read(mut bytes: Bytes) -> Result<(Frame, Timestamp), FrameError> {
        let length = bytes.len();
        if length < FRAME_HEADER_BYTES {
            return Err(FrameError::TooShort { bytes: length });
        }
        let claimed = bytes.get_u32_le();
        let header = bytes.split_to(FRAME_HEADER_BYTES - LENGTH_BYTES);
        let seen = checksum(u32::try_from(length).unwrap_or(u32::MAX), &header, &bytes);
        if claimed != seen && !planted(Mutant::ChecksumIgnored) {
            return Err(FrameError::Checksum);
        }
        let mut header = &header[..];
        let version = header.get_u8();
        if version != FRAME_VERSION {
            return Err(FrameError::Version { version });
        }
        let (kind, lane, reserved) = (Kind::of(header.get_u8()), Lane::of(header.get_u8()), header.get_u8());
        let (verb, reserved_too) = (header.get_u16_le(), header.get_u16_le());
        let (Some(kind), Some(lane), 0, 0) = (kind, lane, reserved, reserved_too) else {
            return Err(FrameError::Meaningless);
        };
        let (deadline_ms, request, trace) = (header.get_u32_le(), header.get_u64_le(), header.get_u64_le());
        let clock = Timestamp::from_micros(header.get_i64_le()).map_err(|_| FrameError::Meaningless)?;
        Ok((Frame { kind, lane, verb, request, deadline_ms, trace, body: bytes }, clock))
    }
}

/// Over the length too: a length that lost a bit would make another frame of what follows.
fn checksum(length: u32, header: &[u8], body: &[u8]) -> u32 {
    let seen = crc32c::crc32c_append(crc32c::crc32c(&length.to_le_bytes()), header);
    crc32c::crc32c_append(seen, body)
}

/// Cuts a stream of bytes into frames. Bodies are slices of the buffer they were read into.
///
/// It never grows the buffer for bytes that have not come: what a length claims costs nothing, and whoever reads decides
/// how far ahead to make room.
#[derive(Debug)]
pub struct FrameDecoder {
    lengths: LengthDelimitedCodec,
}

impl FrameDecoder {
    /// Refuses frames longer than `frame_bytes_max`: a stranger is given `HANDSHAKE_FRAME_BYTES_MAX`.
    pub fn new(frame_bytes_max: usize) -> Self {
        assert!(frame_bytes_max <= FRAME_BYTES_MAX);
        let lengths = LengthDelimitedCodec::builder()
            .little_endian()
            .length_field_length(LENGTH_BYTES)
            .max_frame_length(frame_bytes_max)
            .new_codec();
        FrameDecoder { lengths }
    }

    /// From now on takes frames up to the largest: it is known who speaks.
    pub fn trust(&mut self) {
        self.lengths.set_max_frame_length(FRAME_BYTES_MAX);
    }
}

impl Decoder for FrameDecoder {
    /// With what the sender's hybrid clock showed when it left.
    type Item = (Frame, Timestamp);
    type Error = FrameError;

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<(Frame, Timestamp)>, FrameError> {
        // Only whole frames, or those it refuses, get to the codec: it reserves what a length claims.
        if let Some(length) = input.first_chunk::<LENGTH_BYTES>() {
            let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
            if length <= self.lengths.max_frame_length() && input.len() - LENGTH_BYTES < length {
                return Ok(None);
            }
        }
        match self.lengths.decode(input) {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => Frame::read(bytes.freeze()).map(Some),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(FrameError::TooLong { max: self.lengths.max_frame_length() })
            }
            Err(error) => Err(error.into()),
        }
    }
}
