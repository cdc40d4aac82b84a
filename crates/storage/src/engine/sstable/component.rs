//! Reading one component's file: its header, its length, its runs of frames; damage is told with the tokens it hides.

use super::{
    error::{SstableError, TokenSpan, Why},
    frame::{Extent, FILE_HEADER_BYTES, FileHeader, Runs, Seed, open_run},
    index::IndexBlock,
    name::{Component, FileId},
    statistics::SstableMeta,
};
use bytes::Bytes;
use kula_disk::{Access, Disk, DiskError, File};

/// One component's file, and what its bytes must be.
#[derive(Debug)]
pub(super) struct ComponentReader {
    file: Box<dyn File>,
    id: FileId,
    pub component: Component,
    seed: Seed,
    pub bytes: u64,
    /// All tokens of the table.
    pub tokens: TokenSpan,
}

impl ComponentReader {
    /// Checks the file's length and header.
    pub fn open(
        disk: &dyn Disk,
        prefix: &str,
        meta: &SstableMeta,
        component: Component,
        bytes: u64,
    ) -> Result<Self, SstableError> {
        let tokens = TokenSpan { first: meta.first, last: meta.last };
        let damaged = |why| SstableError::Damaged { file: meta.file, component, block: 0, tokens, why };
        let file = match disk.open(&component.file_name(prefix, meta.file), Access::Read) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Err(damaged(Why::Missing)),
            Err(error) => return Err(SstableError::Disk(error)),
        };
        let actual = file.len()?;
        let seed = Seed::new(meta.file, meta.generation, component);
        let reader = ComponentReader { file, id: meta.file, component, seed, bytes, tokens };
        let mut header = [0; FILE_HEADER_BYTES];
        if actual >= FILE_HEADER_BYTES as u64 {
            reader.fill(&mut header, 0, tokens)?;
            // Before the length: a later version may well have another.
            if let FileHeader::TooNew { version } = seed.check_file_header(&header).map_err(damaged)? {
                return Err(SstableError::TooNew { file: meta.file, version });
            }
        }
        if actual != bytes || actual < FILE_HEADER_BYTES as u64 {
            return Err(damaged(Why::FileLength { expected: bytes, actual }));
        }
        Ok(reader)
    }

    pub fn damaged(&self, block: u64, tokens: TokenSpan, why: Why) -> SstableError {
        SstableError::Damaged { file: self.id, component: self.component, block, tokens, why }
    }

    fn fill(&self, buffer: &mut [u8], offset: u64, tokens: TokenSpan) -> Result<(), SstableError> {
        match self.file.read_exact_at(buffer, offset) {
            Err(DiskError::UnexpectedEnd { .. }) => Err(self.damaged(offset, tokens, Why::Truncated)),
            filled => Ok(filled?),
        }
    }

    /// Bytes of the file as they are, which the caller knows to lie within it.
    pub fn raw(&self, extent: Extent, tokens: TokenSpan) -> Result<Vec<u8>, SstableError> {
        let length = usize::try_from(extent.bytes).ok().filter(|_| extent.end() <= self.bytes);
        let mut stored = vec![0; length.ok_or_else(|| self.damaged(extent.offset, tokens, Why::Truncated))?];
        self.fill(&mut stored, extent.offset, tokens)?;
        Ok(stored)
    }

    /// The plain bytes of a run that was read from `offset`.
    pub fn open_run(&self, offset: u64, stored: Bytes) -> Result<Bytes, Why> {
        open_run(&self.seed, offset, stored)
    }

    /// All runs of bytes that were read from `offset`.
    pub fn runs(&self, offset: u64, stored: Bytes) -> Runs<'_> {
        Runs::new(&self.seed, offset, stored)
    }

    /// The plain bytes of a run of frames; `tokens` are unknown if it is damaged.
    pub fn read(&self, extent: Extent, tokens: TokenSpan) -> Result<Bytes, SstableError> {
        let stored = Bytes::from(self.raw(extent, tokens)?);
        self.open_run(extent.offset, stored).map_err(|why| self.damaged(extent.offset, tokens, why))
    }

    pub fn read_index(&self, extent: Extent, tokens: TokenSpan) -> Result<IndexBlock, SstableError> {
        IndexBlock::parse(self.read(extent, tokens)?).map_err(|why| self.damaged(extent.offset, tokens, why))
    }

    /// Everything after the file header.
    pub fn body(&self) -> Extent {
        Extent { offset: FILE_HEADER_BYTES as u64, bytes: self.bytes - FILE_HEADER_BYTES as u64 }
    }
}
