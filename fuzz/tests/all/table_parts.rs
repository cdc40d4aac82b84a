//! An SSTable taken apart into its frames and put together again around a part of any bytes, everything that names it
//! made right: checksums, lengths, places, the manifest's facts. So what lies behind the checksums is reached
//! (`docs/format/sstable*.md`).

use crate::files::{get, put};
use kula_disk::SimDisk;
use kula_lattice::codec::put_varint;
use kula_storage::engine::sstable::{Component, FileId, SstableMeta, limits::INDEX_RESTART_ENTRIES};

pub const FILE: FileId = FileId([0x5a; 16]);
pub const GENERATION: u64 = 3;
const FILE_HEADER_BYTES: usize = 48;
const FRAME_HEADER_BYTES: usize = 16;
/// Codec, flags and zeros: what a frame's header says beside lengths and checksum.
const FRAME_KIND_BYTES: usize = 4;
/// Lengths and checksums of three components and the place of the top block: the end of the statistics.
const DIGESTS_BYTES: usize = 3 * 12 + 8;

/// Where other bytes go.
#[derive(Clone, Copy)]
pub enum Place {
    /// In a frame's body, stored raw.
    Body(Component, usize),
    /// In a frame from its plain length on: plain length, codec, flags, zeros, body.
    Frame(Component, usize),
    /// A whole file.
    File(Component),
}

#[derive(Clone)]
struct Frame {
    plain_bytes: u32,
    kind: [u8; FRAME_KIND_BYTES],
    body: Vec<u8>,
}

/// The frames of a table of which each block is one frame.
pub struct Parts {
    meta: SstableMeta,
    /// By component, in the order of `Component::ALL`.
    frames: [Vec<Frame>; 4],
    /// The separators in each frame of the index, the top block last.
    separators: Vec<Vec<Vec<u8>>>,
}

/// A table put together, its facts, and the bytes of all its files.
pub struct Whole {
    pub disk: SimDisk,
    pub meta: SstableMeta,
    pub bytes: usize,
}

fn number(component: Component) -> usize {
    match component {
        Component::Data => 0,
        Component::Index => 1,
        Component::Filter => 2,
        Component::Statistics => 3,
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().unwrap())
}

impl Frame {
    fn raw(body: Vec<u8>) -> Frame {
        Frame { plain_bytes: body.len() as u32, kind: [0; FRAME_KIND_BYTES], body }
    }

    fn bytes(&self) -> u64 {
        (FRAME_HEADER_BYTES + self.body.len()) as u64
    }
}

impl Parts {
    pub fn of(disk: &SimDisk, meta: SstableMeta) -> Parts {
        let frames = Component::ALL.map(|component| frames_of(&get(disk, &component.file_name("", FILE))));
        let separators = frames[1].iter().map(|frame| separators_of(&frame.body)).collect();
        Parts { meta, frames, separators }
    }

    /// Frames of a component.
    pub fn count(&self, component: Component) -> usize {
        self.frames[number(component)].len()
    }

    pub fn body(&self, component: Component, at: usize) -> Vec<u8> {
        self.frames[number(component)][at].body.clone()
    }

    /// As `Place::Frame` takes it.
    pub fn frame(&self, component: Component, at: usize) -> Vec<u8> {
        let Frame { plain_bytes, kind, body } = &self.frames[number(component)][at];
        [&plain_bytes.to_le_bytes()[..], kind, body].concat()
    }

    pub fn file(&self, component: Component) -> Vec<u8> {
        sealed(component, &self.frames[number(component)])
    }

    /// The table with `bytes` at `place`.
    pub fn with(&self, place: Place, bytes: &[u8]) -> Whole {
        let mut frames = self.frames.clone();
        let mut kept = None;
        match place {
            Place::Body(component, at) => {
                frames[number(component)][at] = Frame::raw(bytes.to_vec());
                kept = Some((component, at));
            }
            Place::Frame(component, at) => {
                let (head, body) = bytes.split_at(bytes.len().min(4 + FRAME_KIND_BYTES));
                let mut fields = [0; 4 + FRAME_KIND_BYTES];
                fields[..head.len()].copy_from_slice(head);
                let [p0, p1, p2, p3, kind @ ..] = fields;
                let plain_bytes = u32::from_le_bytes([p0, p1, p2, p3]);
                frames[number(component)][at] = Frame { plain_bytes, kind, body: body.to_vec() };
                kept = Some((component, at));
            }
            Place::File(_) => {}
        }
        let index_top = self.index(&mut frames, kept);
        let mut files = [0, 1, 2].map(|at| sealed(Component::ALL[at], &frames[at]));
        if let Place::File(component) = place
            && let Some(file) = files.get_mut(number(component))
        {
            *file = bytes.to_vec();
        }
        if kept.is_none_or(|(component, _)| component != Component::Statistics) {
            let body = &mut frames[3][0].body;
            body.truncate(body.len() - DIGESTS_BYTES);
            for file in &files {
                body.extend_from_slice(&(file.len() as u64).to_le_bytes());
                body.extend_from_slice(&crc32c::crc32c(file).to_le_bytes());
            }
            body.extend_from_slice(&index_top.to_le_bytes());
        }
        let statistics = match place {
            Place::File(Component::Statistics) => bytes.to_vec(),
            _ => sealed(Component::Statistics, &frames[3]),
        };
        self.stored(files, statistics)
    }

    /// Writes the index anew, but for the frame that is kept: places and ends follow from the frames' lengths. Answers
    /// where the top block begins.
    fn index(&self, frames: &mut [Vec<Frame>; 4], kept: Option<(Component, usize)>) -> u64 {
        let top = self.separators.len() - 1;
        let mut data = extents(&frames[0]).into_iter();
        for (at, separators) in self.separators[..top].iter().enumerate() {
            let extents: Vec<(u64, u64)> = data.by_ref().take(separators.len()).collect();
            if kept.is_none_or(|(component, kept)| component != Component::Index || kept != at) {
                frames[1][at] = Frame::raw(index_block(separators, &extents));
            }
        }
        let extents = extents(&frames[1]);
        if kept.is_none_or(|(component, kept)| component != Component::Index || kept != top) {
            frames[1][top] = Frame::raw(index_block(&self.separators[top], &extents[..top]));
        }
        extents[top].0
    }

    fn stored(&self, files: [Vec<u8>; 3], statistics: Vec<u8>) -> Whole {
        let [data, index, filter] = [0, 1, 2].map(|at: usize| files[at].len() as u64);
        let meta = SstableMeta {
            data_bytes: data,
            index_bytes: index,
            filter_bytes: filter,
            statistics_bytes: statistics.len() as u64,
            statistics_crc: crc32c::crc32c(&statistics),
            ..self.meta
        };
        let (disk, mut bytes) = (SimDisk::new(1), 0);
        for (component, file) in Component::ALL.into_iter().zip(files.iter().chain([&statistics])) {
            put(&disk, &component.file_name("", FILE), file);
            bytes += file.len();
        }
        Whole { disk, meta, bytes }
    }
}

fn frames_of(file: &[u8]) -> Vec<Frame> {
    let mut rest = &file[FILE_HEADER_BYTES..];
    let mut frames = Vec::new();
    while let Some((header, bodies)) = rest.split_at_checked(FRAME_HEADER_BYTES) {
        let (body, after) = bodies.split_at(u32_at(header, 4) as usize);
        let kind = *header.last_chunk().unwrap();
        frames.push(Frame { plain_bytes: u32_at(header, 8), kind, body: body.to_vec() });
        rest = after;
    }
    frames
}

/// Where each frame begins and ends.
fn extents(frames: &[Frame]) -> Vec<(u64, u64)> {
    let mut end = FILE_HEADER_BYTES as u64;
    let extent = |frame: &Frame| {
        let begin = end;
        end += frame.bytes();
        (begin, end)
    };
    frames.iter().map(extent).collect()
}

fn sealed(component: Component, frames: &[Frame]) -> Vec<u8> {
    let number = number(component) as u8 + 1;
    let mut file = b"KSST".to_vec();
    file.extend_from_slice(&[number, 0, 1, 0]);
    file.extend_from_slice(&FILE.0);
    file.extend_from_slice(&GENERATION.to_le_bytes());
    file.extend_from_slice(&[0; 12]);
    file.extend_from_slice(&crc32c::crc32c(&file).to_le_bytes());
    let seed = crc32c::crc32c_append(crc32c::crc32c(&FILE.0), &GENERATION.to_le_bytes());
    let seed = crc32c::crc32c_append(seed, &[number]);
    for frame in frames {
        let at = file.len();
        file.extend_from_slice(&[0; 4]);
        file.extend_from_slice(&(frame.body.len() as u32).to_le_bytes());
        file.extend_from_slice(&frame.plain_bytes.to_le_bytes());
        file.extend_from_slice(&frame.kind);
        file.extend_from_slice(&frame.body);
        let placed = crc32c::crc32c_append(seed, &(at as u64).to_le_bytes());
        let crc = crc32c::crc32c_append(placed, &file[at + 4..]);
        file[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    }
    file
}

/// An index block, as the writer makes it.
fn index_block(separators: &[Vec<u8>], extents: &[(u64, u64)]) -> Vec<u8> {
    let (base, end) = (extents[0].0, extents[extents.len() - 1].1);
    let mut block = [base.to_le_bytes(), end.to_le_bytes()].concat();
    let mut restarts = Vec::new();
    let mut before: &[u8] = &[];
    for (number, (separator, (begin, _))) in separators.iter().zip(extents).enumerate() {
        if number.is_multiple_of(INDEX_RESTART_ENTRIES) {
            restarts.push(block.len() as u32 - 16);
            before = &[];
        }
        let shared = before.iter().zip(separator).take_while(|(a, b)| a == b).count();
        put_varint(shared as u64, &mut block);
        put_varint((separator.len() - shared) as u64, &mut block);
        block.extend_from_slice(&separator[shared..]);
        put_varint(begin - base, &mut block);
        before = separator;
    }
    let count = restarts.len() as u32;
    restarts.into_iter().chain([count]).for_each(|number| block.extend_from_slice(&number.to_le_bytes()));
    block
}

/// The separators of an index block that the writer made.
fn separators_of(block: &[u8]) -> Vec<Vec<u8>> {
    let entries_end = block.len() - 4 - 4 * u32_at(block, block.len() - 4) as usize;
    let (mut rest, mut separators) = (&block[16..entries_end], Vec::<Vec<u8>>::new());
    while !rest.is_empty() {
        let [shared, unshared] = [0; 2].map(|_: u8| varint(&mut rest) as usize);
        let (suffix, after) = rest.split_at(unshared);
        let before = separators.last().map_or(&[][..], |last| &last[..shared]);
        separators.push([before, suffix].concat());
        rest = after;
        varint(&mut rest);
    }
    separators
}

fn varint(rest: &mut &[u8]) -> u64 {
    let last = rest.iter().position(|byte| *byte < 0x80).unwrap();
    let (bytes, after) = rest.split_at(last + 1);
    *rest = after;
    bytes.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
}
