//! What every byte of every component is wrapped in: a file header that names its table, and checksummed frames.
#![doc = include_str!("../../../../../docs/format/sstable-frame.md")]

use super::{
    cursor::Cursor,
    error::Why,
    limits::{COMPRESSION_GAIN_SHARE, FRAME_PLAIN_BYTES_MAX, FRAME_RATIO_MAX},
    name::{Component, FileId},
    writer::Compression,
};
use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};
use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};

/// The version of the format this program writes, and the highest it reads.
pub const FORMAT_VERSION: u16 = 1;
pub(super) const FILE_HEADER_BYTES: usize = 48;
pub(super) const FRAME_HEADER_BYTES: usize = 16;

const MAGIC: [u8; 4] = *b"KSST";
const CODEC_RAW: u8 = 0;
const CODEC_LZ4: u8 = 1;
const FLAG_MORE: u8 = 1;

/// Where a run of frames lies in its file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Extent {
    pub offset: u64,
    pub bytes: u64,
}

impl Extent {
    pub fn end(self) -> u64 {
        self.offset.saturating_add(self.bytes)
    }
}

/// What a file header says, if the file is one of an SSTable at all.
pub(super) enum FileHeader {
    Ours,
    TooNew { version: u16 },
}

/// The identity that seeds every checksum of one component of one table: a frame of another file, generation, component
/// or place has another checksum, so a stale or misdirected block is found out although its own bytes are whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed {
    file: FileId,
    generation: u64,
    component: Component,
    crc: u32,
}

impl Seed {
    pub fn new(file: FileId, generation: u64, component: Component) -> Self {
        let crc = crc32c_append(crc32c(&file.0), &generation.to_le_bytes());
        Seed { file, generation, component, crc: crc32c_append(crc, &[component.number()]) }
    }

    fn checksum(&self, offset: u64, covered: &[u8]) -> u32 {
        crc32c_append(crc32c_append(self.crc, &offset.to_le_bytes()), covered)
    }

    pub fn file_header(&self) -> [u8; FILE_HEADER_BYTES] {
        let mut header = [0; FILE_HEADER_BYTES];
        header[..4].copy_from_slice(&MAGIC);
        header[4] = self.component.number();
        header[6..8].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        header[8..24].copy_from_slice(&self.file.0);
        header[24..32].copy_from_slice(&self.generation.to_le_bytes());
        let crc = crc32c(&header[..44]);
        header[44..].copy_from_slice(&crc.to_le_bytes());
        header
    }

    pub fn check_file_header(&self, header: &[u8]) -> Result<FileHeader, Why> {
        let mut fields = Cursor::new(header);
        if fields.array()? != MAGIC {
            return Err(Why::Magic);
        }
        let (component, reserved, version) = (fields.u8()?, fields.u8()?, fields.u16()?);
        let (file, generation, zeros) = (fields.array::<16>()?, fields.u64()?, fields.array::<12>()?);
        if fields.u32()? != crc32c(header.get(..44).ok_or(Why::Truncated)?) {
            return Err(Why::Checksum);
        }
        if (component, file, generation) != (self.component.number(), self.file.0, self.generation) {
            return Err(Why::Misplaced);
        }
        match version {
            0 => Err(Why::Unsupported),
            FORMAT_VERSION if reserved == 0 && zeros == [0; 12] => Ok(FileHeader::Ours),
            FORMAT_VERSION => Err(Why::Unsupported),
            version => Ok(FileHeader::TooNew { version }),
        }
    }
}

/// Wraps blocks into frames. Keeps lz4's table and a scratch buffer from one block to the next.
pub(super) struct FrameWriter {
    seed: Seed,
    compression: Compression,
    table: CompressTable,
    scratch: Vec<u8>,
}

impl FrameWriter {
    pub fn new(seed: Seed, compression: Compression) -> Self {
        FrameWriter { seed, compression, table: CompressTable::large(), scratch: Vec::new() }
    }

    /// Appends `plain` to `out` as one frame, or as several if it is longer than one may be. The first lands at
    /// `offset` of the file. Returns the bytes appended.
    pub fn put(&mut self, offset: u64, plain: &[u8], out: &mut Vec<u8>) -> u64 {
        let begin = out.len();
        let mut rest = plain;
        loop {
            let (now, later) = rest.split_at(rest.len().min(FRAME_PLAIN_BYTES_MAX));
            self.put_frame(offset + (out.len() - begin) as u64, now, !later.is_empty(), out);
            if later.is_empty() {
                return (out.len() - begin) as u64;
            }
            rest = later;
        }
    }

    fn put_frame(&mut self, offset: u64, plain: &[u8], more: bool, out: &mut Vec<u8>) {
        let (codec, stored) = match self.compress(plain) {
            Some(length) => (CODEC_LZ4, &self.scratch[..length]),
            None => (CODEC_RAW, plain),
        };
        let begin = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&frame_length(stored).to_le_bytes());
        out.extend_from_slice(&frame_length(plain).to_le_bytes());
        out.extend_from_slice(&[codec, if more { FLAG_MORE } else { 0 }, 0, 0]);
        out.extend_from_slice(stored);
        let crc = self.seed.checksum(offset, &out[begin + 4..]);
        out[begin..begin + 4].copy_from_slice(&crc.to_le_bytes());
    }

    /// The length of the compressed form, left in `scratch`, if it is worth its decompression.
    fn compress(&mut self, plain: &[u8]) -> Option<usize> {
        match self.compression {
            Compression::None => return None,
            Compression::Lz4 => {}
        }
        let room = get_maximum_output_size(plain.len());
        if self.scratch.len() < room {
            self.scratch.resize(room, 0);
        }
        let length = compress_into_with_table(plain, &mut self.scratch, &mut self.table).ok()?;
        let worth = length + plain.len() / COMPRESSION_GAIN_SHARE < plain.len();
        (worth && plain.len() <= length.saturating_mul(FRAME_RATIO_MAX)).then_some(length)
    }
}

fn frame_length(bytes: &[u8]) -> u32 {
    // Own invariant: frames are cut at FRAME_PLAIN_BYTES_MAX and stored compressed only if shorter.
    u32::try_from(bytes.len()).unwrap_or_else(|_| unreachable!("a frame is at most {FRAME_PLAIN_BYTES_MAX} bytes"))
}

/// The plain bytes of a run of frames that lies at `offset`; `stored` must be exactly the run.
///
/// The checksum is verified before a length is believed, and the bounds before anything is allocated.
pub(super) fn open_run(seed: &Seed, offset: u64, stored: Bytes) -> Result<Bytes, Why> {
    let (plain, end) = read_run(seed, offset, &stored, 0)?;
    if end == stored.len() { Ok(plain) } else { Err(Why::LeftOver) }
}

/// Runs that follow one another up to the end of `stored`. Ends after the first error.
pub(super) struct Runs<'a> {
    seed: &'a Seed,
    offset: u64,
    stored: Bytes,
    at: usize,
}

impl<'a> Runs<'a> {
    pub fn new(seed: &'a Seed, offset: u64, stored: Bytes) -> Self {
        Runs { seed, offset, stored, at: 0 }
    }
}

impl Iterator for Runs<'_> {
    type Item = Result<Bytes, Why>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.stored.len() {
            return None;
        }
        let run = read_run(self.seed, self.offset, &self.stored, self.at);
        self.at = run.as_ref().map_or(self.stored.len(), |(_, end)| *end);
        Some(run.map(|(plain, _)| plain))
    }
}

/// The run that begins at `at` of `stored`, which lies at `offset`: its plain bytes, and where it ends.
fn read_run(seed: &Seed, offset: u64, stored: &Bytes, at: usize) -> Result<(Bytes, usize), Why> {
    let place = |at: usize| offset.checked_add(at as u64).ok_or(Why::Truncated);
    let mut frame = open_frame(seed, place(at)?, stored, at)?;
    let first = frame.plain(stored)?;
    if !frame.more {
        return Ok((first, frame.end));
    }
    let mut plain = Vec::from(first);
    while frame.more {
        frame = open_frame(seed, place(frame.end)?, stored, frame.end)?;
        plain.extend_from_slice(&frame.plain(stored)?);
    }
    Ok((Bytes::from(plain), frame.end))
}

/// A frame whose checksum and bounds hold.
struct Frame {
    codec: u8,
    body: usize,
    end: usize,
    plain_bytes: usize,
    /// Another frame of the same run follows at `end`.
    more: bool,
}

/// Checks the frame that begins at `at` of `stored` and at `offset` of the file.
fn open_frame(seed: &Seed, offset: u64, stored: &[u8], at: usize) -> Result<Frame, Why> {
    let header = stored.get(at..).ok_or(Why::Truncated)?;
    let mut fields = Cursor::new(header);
    let (crc, stored_bytes, plain_bytes) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let (codec, flags, reserved) = (fields.u8()?, fields.u8()?, fields.u16()?);
    let body = usize::try_from(stored_bytes).map_err(|_| Why::Truncated)?;
    fields.take(body)?;
    let end = at + fields.position();
    if crc != seed.checksum(offset, &stored[at + 4..end]) {
        return Err(Why::Checksum);
    }
    if codec > CODEC_LZ4 || flags & !FLAG_MORE != 0 || reserved != 0 {
        return Err(Why::Unsupported);
    }
    let plain = usize::try_from(plain_bytes).map_err(|_| Why::Truncated)?;
    let honest = match codec {
        CODEC_RAW => plain == body,
        _ => plain <= body.saturating_mul(FRAME_RATIO_MAX),
    };
    if !honest || plain > FRAME_PLAIN_BYTES_MAX {
        return Err(Why::Bomb { stored: stored_bytes.into(), plain: plain_bytes.into() });
    }
    Ok(Frame { codec, body: at + FRAME_HEADER_BYTES, end, plain_bytes: plain, more: flags & FLAG_MORE != 0 })
}

impl Frame {
    /// The plain bytes: a slice of `stored` if the frame is raw.
    fn plain(&self, stored: &Bytes) -> Result<Bytes, Why> {
        let body = stored.slice(self.body..self.end);
        if self.codec == CODEC_RAW {
            return Ok(body);
        }
        let mut plain = vec![0; self.plain_bytes];
        match decompress_into(&body, &mut plain) {
            Ok(length) if length == plain.len() => Ok(Bytes::from(plain)),
            Ok(_) | Err(_) => Err(Why::Decompression),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn seed() -> Seed {
        Seed::new(FileId([7; 16]), 3, Component::Data)
    }

    fn stored(compression: Compression, offset: u64, plain: &[u8]) -> Bytes {
        let mut out = Vec::new();
        FrameWriter::new(seed(), compression).put(offset, plain, &mut out);
        Bytes::from(out)
    }

    proptest! {
        #[test]
        fn a_run_reads_back(plain in vec(0u8..4, 0..2000), offset: u64) {
            for compression in [Compression::None, Compression::Lz4] {
                let run = stored(compression, offset, &plain);
                prop_assert_eq!(open_run(&seed(), offset, run), Ok(Bytes::from(plain.clone())));
            }
        }

        #[test]
        fn any_flip_any_other_place_and_any_other_table_is_noticed(plain in vec(0u8..4, 0..300), at: usize, bits in 1u8.., offset in 0u64..1 << 40) {
            let run = stored(Compression::Lz4, offset, &plain);
            let mut flipped = run.to_vec();
            let at = at % flipped.len();
            flipped[at] ^= bits;
            prop_assert!(open_run(&seed(), offset, Bytes::from(flipped)).is_err());
            prop_assert!(open_run(&seed(), offset + 1, run.clone()).is_err());
            for other in [Seed::new(FileId([8; 16]), 3, Component::Data), Seed::new(FileId([7; 16]), 4, Component::Data), Seed::new(FileId([7; 16]), 3, Component::Index)] {
                prop_assert_eq!(open_run(&other, offset, run.clone()), Err(Why::Checksum));
            }
        }

        #[test]
        fn any_bytes_with_a_right_checksum_do_not_panic(body in vec(any::<u8>(), 12..200), offset: u64) {
            let mut run = vec![0; 4];
            run.extend_from_slice(&body);
            let length = u32::try_from(run.len() - FRAME_HEADER_BYTES).unwrap();
            run[4..8].copy_from_slice(&length.to_le_bytes());
            run[12] &= 1;
            run[13] &= 1;
            run[14..16].fill(0);
            let crc = seed().checksum(offset, &run[4..]);
            run[..4].copy_from_slice(&crc.to_le_bytes());
            prop_assert_ne!(open_run(&seed(), offset, Bytes::from(run)), Err(Why::Checksum));
        }
    }

    #[test]
    fn a_block_longer_than_a_frame_is_several_frames() {
        let mut plain = vec![0u8; FRAME_PLAIN_BYTES_MAX + 100_000];
        for (i, byte) in plain.iter_mut().enumerate().step_by(97) {
            *byte = i.to_le_bytes()[0] ^ i.to_le_bytes()[1];
        }
        let run = stored(Compression::Lz4, 48, &plain);
        assert_eq!(open_run(&seed(), 48, run.clone()).unwrap(), plain);
        assert!(open_run(&seed(), 48, run.slice(..run.len() - 1)).is_err());
    }

    // Promise: P23
    #[test]
    fn a_bomb_is_refused_before_it_is_unpacked() {
        for claim in [FRAME_PLAIN_BYTES_MAX + 1, 1 << 30, 300 * 40] {
            let mut run = vec![0u8; FRAME_HEADER_BYTES + 40];
            run[4..8].copy_from_slice(&40u32.to_le_bytes());
            run[8..12].copy_from_slice(&u32::try_from(claim).unwrap().to_le_bytes());
            run[12] = CODEC_LZ4;
            let crc = seed().checksum(0, &run[4..]);
            run[..4].copy_from_slice(&crc.to_le_bytes());
            assert!(matches!(open_run(&seed(), 0, Bytes::from(run)), Err(Why::Bomb { .. })), "{claim}");
        }
    }

    #[test]
    fn a_file_header_names_its_table_and_its_version() {
        let header = seed().file_header();
        assert!(matches!(seed().check_file_header(&header), Ok(FileHeader::Ours)));
        let other = Seed::new(FileId([7; 16]), 4, Component::Data);
        assert!(matches!(other.check_file_header(&header), Err(Why::Misplaced)));
        let mut newer = header;
        newer[6] = 2;
        assert!(matches!(seed().check_file_header(&newer), Err(Why::Checksum)));
        let crc = crc32c(&newer[..44]);
        newer[44..].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(seed().check_file_header(&newer), Ok(FileHeader::TooNew { version: 2 })));
    }
}
