//! The bytes of one simulated file, shared page by page between every disk that holds them.
//!
//! Cloning an image copies a few pointers; writing copies only the pages it touches. That is what makes a crash image
//! cost microseconds. A page that was never written is absent and reads as zero.

use std::sync::{Arc, OnceLock};

pub(super) const PAGE_BYTES: usize = 4096;
const CHUNK_PAGES: usize = 32;
const CHUNK_BYTES: usize = PAGE_BYTES * CHUNK_PAGES;

/// Invariant: whoever writes to `bytes` takes `hash` away.
struct Page {
    bytes: [u8; PAGE_BYTES],
    hash: OnceLock<u64>,
}

impl Clone for Page {
    fn clone(&self) -> Self {
        Page { bytes: self.bytes, hash: OnceLock::new() }
    }
}

impl Page {
    fn zeroed() -> Page {
        Page { bytes: [0; PAGE_BYTES], hash: OnceLock::new() }
    }

    /// 0 for a page of zeros, so that it equals an absent one.
    fn hash(&self) -> u64 {
        *self.hash.get_or_init(|| {
            let mut hash = 0_u64;
            for (index, word) in self.bytes.as_chunks::<8>().0.iter().enumerate() {
                let word = u64::from_le_bytes(*word);
                if word != 0 {
                    hash = hash.wrapping_add(mix(word ^ mix(index as u64 + 1)));
                }
            }
            hash
        })
    }
}

/// Invariant: whoever writes to `pages` takes `hash` away.
#[derive(Default)]
struct Chunk {
    pages: [Option<Arc<Page>>; CHUNK_PAGES],
    hash: OnceLock<u64>,
}

impl Clone for Chunk {
    fn clone(&self) -> Self {
        Chunk { pages: self.pages.clone(), hash: OnceLock::new() }
    }
}

impl Chunk {
    fn hash(&self) -> u64 {
        *self.hash.get_or_init(|| {
            let mut hash = 0_u64;
            for (index, page) in self.pages.iter().enumerate() {
                match page.as_ref().map_or(0, |page| page.hash()) {
                    0 => {}
                    page => hash = hash.wrapping_add(mix(page ^ mix(index as u64 + 1))),
                }
            }
            hash
        })
    }
}

/// Length and content. Bytes past the length are always zero, so growing shows zeros.
#[derive(Clone, Default)]
pub(super) struct Image {
    len: u64,
    chunks: Vec<Option<Arc<Chunk>>>,
}

impl Image {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Fills `buffer` from `offset`; answers how much the file had.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let available = self.len.saturating_sub(offset).min(buffer.len() as u64);
        let available = usize::try_from(available).unwrap_or(buffer.len());
        let buffer = &mut buffer[..available];
        for piece in pieces(offset, buffer.len()) {
            let target = &mut buffer[piece.from..piece.from + piece.bytes];
            match self.page(piece.chunk, piece.page) {
                Some(page) => target.copy_from_slice(&page.bytes[piece.in_page..piece.in_page + piece.bytes]),
                None => target.fill(0),
            }
        }
        available
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        if bytes.is_empty() {
            return;
        }
        self.grow(offset + bytes.len() as u64);
        for piece in pieces(offset, bytes.len()) {
            let page = self.page_mut(piece.chunk, piece.page);
            page.bytes[piece.in_page..piece.in_page + piece.bytes]
                .copy_from_slice(&bytes[piece.from..piece.from + piece.bytes]);
        }
    }

    /// At least this long.
    pub(super) fn grow(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.cut(len);
        }
        self.len = len;
    }

    fn cut(&mut self, len: u64) {
        let first_whole_page = index(len.div_ceil(PAGE_BYTES as u64));
        for chunk_index in first_whole_page / CHUNK_PAGES..self.chunks.len() {
            let Some(chunk) = &mut self.chunks[chunk_index] else { continue };
            let chunk = Arc::make_mut(chunk);
            chunk.hash.take();
            let from = first_whole_page.saturating_sub(chunk_index * CHUNK_PAGES);
            chunk.pages[from..].fill(None);
        }
        let (page_index, in_page) = (index(len / PAGE_BYTES as u64), index(len % PAGE_BYTES as u64));
        if in_page != 0 && self.page(page_index / CHUNK_PAGES, page_index % CHUNK_PAGES).is_some() {
            self.page_mut(page_index / CHUNK_PAGES, page_index % CHUNK_PAGES).bytes[in_page..].fill(0);
        }
    }

    /// Equal for equal length and bytes, whatever was written to get there.
    pub(super) fn hash(&self) -> u64 {
        let mut hash = mix(self.len);
        for (index, chunk) in self.chunks.iter().enumerate() {
            match chunk.as_ref().map_or(0, |chunk| chunk.hash()) {
                0 => {}
                chunk => hash = hash.wrapping_add(mix(chunk ^ mix(index as u64 + 1))),
            }
        }
        hash
    }

    fn page(&self, chunk: usize, page: usize) -> Option<&Page> {
        self.chunks.get(chunk)?.as_ref()?.pages[page].as_deref()
    }

    fn page_mut(&mut self, chunk: usize, page: usize) -> &mut Page {
        if self.chunks.len() <= chunk {
            self.chunks.resize(chunk + 1, None);
        }
        let chunk = Arc::make_mut(self.chunks[chunk].get_or_insert_default());
        chunk.hash.take();
        let page = Arc::make_mut(chunk.pages[page].get_or_insert_with(|| Arc::new(Page::zeroed())));
        page.hash.take();
        page
    }
}

struct Piece {
    chunk: usize,
    page: usize,
    in_page: usize,
    /// Where the piece begins in the caller's slice.
    from: usize,
    bytes: usize,
}

/// Cuts `[offset, offset + bytes)` at page edges.
fn pieces(offset: u64, bytes: usize) -> impl Iterator<Item = Piece> {
    let mut from = 0;
    std::iter::from_fn(move || {
        if from == bytes {
            return None;
        }
        let at = offset + from as u64;
        let (chunk, in_chunk) = (index(at / CHUNK_BYTES as u64), index(at % CHUNK_BYTES as u64));
        let in_page = in_chunk % PAGE_BYTES;
        let piece_bytes = (PAGE_BYTES - in_page).min(bytes - from);
        let piece = Piece { chunk, page: in_chunk / PAGE_BYTES, in_page, from, bytes: piece_bytes };
        from += piece_bytes;
        Some(piece)
    })
}

fn index(value: u64) -> usize {
    // A file that does not fit an address space cannot be simulated; nothing smaller is ever lost.
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Splitmix64's finisher: every output bit depends on every input bit, and 0 does not stay 0.
pub(super) fn mix(value: u64) -> u64 {
    let mut value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(Vec<u8>, u64),
        SetLen(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let places = 0..3 * CHUNK_BYTES as u64 / 2;
        let write = (prop::collection::vec(any::<u8>(), 0..9000), places.clone()).prop_map(|(b, o)| Step::Write(b, o));
        prop::collection::vec(prop_oneof![3 => write, 1 => places.prop_map(Step::SetLen)], 0..12)
    }

    proptest! {
        #[test]
        fn an_image_reads_as_a_plain_vector_and_its_hash_depends_on_content_only(steps in steps()) {
            let (mut image, mut model) = (Image::default(), Vec::new());
            for step in steps {
                let before = image.clone();
                let model_before = model.clone();
                match step {
                    Step::Write(bytes, offset) => {
                        let (from, to) = (offset as usize, offset as usize + bytes.len());
                        if !bytes.is_empty() && model.len() < to {
                            model.resize(to, 0);
                        }
                        image.write(&bytes, offset);
                        if !bytes.is_empty() {
                            model[from..to].copy_from_slice(&bytes);
                        }
                    }
                    Step::SetLen(len) => {
                        model.resize(len as usize, 0);
                        image.set_len(len);
                    }
                }
                prop_assert_eq!(contents(&before), model_before);
            }
            prop_assert_eq!(&contents(&image), &model);
            let mut fresh = Image::default();
            fresh.write(&model, 0);
            prop_assert_eq!(fresh.hash(), image.hash());
            if let Some(last) = model.len().checked_sub(1) {
                fresh.write(&[model[last] ^ 1], last as u64);
                prop_assert_ne!(fresh.hash(), image.hash());
            }
        }
    }

    fn contents(image: &Image) -> Vec<u8> {
        let mut bytes = vec![7; image.len() as usize + 3];
        let read = image.read(&mut bytes, 0);
        bytes.truncate(read);
        bytes
    }
}
