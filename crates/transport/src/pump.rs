//! The pump: one socket with its buffers, polled by the actor that owns it.
//!
//! Because it is polled inside its actor's own poll, behind the mailbox, everything a poll queued leaves in one vectored
//! write, and no task, lock or channel stands between an actor and its socket. What it holds is bounded: one read ahead,
//! one frame being read, `limits::OUTPUT_BYTES` and one frame being written.

use crate::{
    error::Cut,
    limits::{COPIED_BELOW, OUTPUT_BYTES, PIECES_MAX, READ_BYTES, READ_BYTES_SHAKING},
};
use bytes::{Buf, Bytes, BytesMut};
use kula_net::Socket;
use kula_types::Timestamp;
use kula_wire::{Frame, FrameDecoder, limits::HANDSHAKE_FRAME_BYTES_MAX};
use std::{
    collections::VecDeque,
    io::IoSlice,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::AsyncWrite;
use tokio_util::{codec::Decoder, io::poll_read_buf};

pub(crate) struct Pump {
    socket: Socket,
    decoder: FrameDecoder,
    input: BytesMut,
    read_bytes: usize,
    /// Whole pieces, oldest first, then the one small frames are gathered in.
    pieces: VecDeque<Bytes>,
    tail: BytesMut,
    output_bytes: usize,
    /// Bytes the socket took, ever: whether a peer reads at all.
    pub written: u64,
}

impl Pump {
    /// Of a stranger: frames are small until `trust`.
    pub fn new(socket: Socket) -> Self {
        Pump {
            socket,
            decoder: FrameDecoder::new(HANDSHAKE_FRAME_BYTES_MAX),
            input: BytesMut::new(),
            read_bytes: READ_BYTES_SHAKING,
            pieces: VecDeque::new(),
            tail: BytesMut::new(),
            output_bytes: 0,
            written: 0,
        }
    }

    pub fn trust(&mut self) {
        self.decoder.trust();
        self.read_bytes = READ_BYTES;
    }

    /// One read of the socket.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        self.input.reserve(self.read_bytes);
        let read = ready!(poll_read_buf(Pin::new(&mut self.socket), cx, &mut self.input));
        Poll::Ready(match read {
            Ok(0) => Err(Cut::Closed),
            Ok(_) => Ok(()),
            Err(error) => Err(Cut::Broken(error.to_string())),
        })
    }

    /// The next frame of what was read, and what its sender's clock showed.
    pub fn next_frame(&mut self) -> Result<Option<(Frame, Timestamp)>, Cut> {
        self.decoder.decode(&mut self.input).map_err(|error| Cut::Garbage(error.to_string()))
    }

    /// Room for another frame ahead of the socket.
    pub fn wants(&self) -> bool {
        self.output_bytes < OUTPUT_BYTES
    }

    pub fn has_output(&self) -> bool {
        self.output_bytes > 0
    }

    pub fn push(&mut self, frame: &Frame, clock: Timestamp) {
        self.output_bytes += frame.wire_bytes();
        if frame.body.len() < COPIED_BELOW {
            frame.write(clock, &mut self.tail);
            return;
        }
        self.tail.extend_from_slice(&frame.head(clock));
        self.pieces.push_back(self.tail.split().freeze());
        self.pieces.push_back(frame.body.clone());
    }

    /// Writes until the socket takes no more. Ready when nothing is left.
    pub fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
        while self.output_bytes > 0 {
            let mut slices = [IoSlice::new(&[]); PIECES_MAX];
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(piece);
                count += 1;
            }
            let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, &slices[..count]));
            match written {
                Ok(0) => return Poll::Ready(Err(Cut::Closed)),
                Ok(bytes) => self.took(bytes),
                Err(error) => return Poll::Ready(Err(Cut::Broken(error.to_string()))),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn took(&mut self, mut bytes: usize) {
        self.written += u64::try_from(bytes).unwrap_or(u64::MAX);
        self.output_bytes -= bytes;
        while let Some(piece) = self.pieces.front_mut() {
            let part = bytes.min(piece.len());
            piece.advance(part);
            bytes -= part;
            if !piece.is_empty() {
                break;
            }
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::poll_fn;
    use kula_wire::{Kind, Lane, limits::FRAME_BYTES_MAX};
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn room_is_made_for_bytes_that_came_and_for_one_read_ahead_not_for_a_claim() {
        let (near, mut far) = tokio::io::duplex(4 * READ_BYTES);
        let mut pump = Pump::new(Box::new(near));
        pump.trust();
        far.write_all(&u32::try_from(FRAME_BYTES_MAX).unwrap().to_le_bytes()).await.unwrap();
        let mut sent = 4;
        for _ in 0..40 {
            far.write_all(&[7; 1_000]).await.unwrap();
            sent += 1_000;
            poll_fn(|cx| pump.poll_read(cx)).await.unwrap();
            assert!(pump.next_frame().unwrap().is_none());
            let room = pump.input.capacity();
            assert!(room <= 2 * (sent + READ_BYTES), "{room} bytes of room for {sent} that came");
        }
    }

    #[tokio::test]
    async fn a_large_frame_comes_whole_in_many_reads() {
        let (near, mut far) = tokio::io::duplex(READ_BYTES);
        let mut pump = Pump::new(Box::new(near));
        pump.trust();
        let body = Bytes::from(vec![3; 5 << 20]);
        let lane = Lane::Bulk;
        let frame = Frame { kind: Kind::OneWay, lane, verb: 1, request: 0, deadline_ms: 0, trace: 0, body };
        let mut bytes = BytesMut::new();
        frame.write(Timestamp::MAX, &mut bytes);
        let write = async { far.write_all(&bytes).await.unwrap() };
        let read = async {
            loop {
                poll_fn(|cx| pump.poll_read(cx)).await.unwrap();
                if let Some((frame, _)) = pump.next_frame().unwrap() {
                    return frame;
                }
            }
        };
        let ((), read) = futures::join!(write, read);
        assert_eq!(read, frame);
    }
}
