//! Going through a table's data blocks by its index, from any position, one block after the other.

use super::{
    error::{SstableError, TokenSpan, Why},
    frame::Extent,
    index::IndexCursor,
    position::highest_token_below,
    reader::Sstable,
    statistics::SstableMeta,
};
use bytes::Bytes;

/// A place in the table's sequence of data blocks.
pub(super) struct Walk<'a> {
    table: &'a Sstable,
    top: IndexCursor,
    bottom: IndexCursor,
}

impl<'a> Walk<'a> {
    pub fn first(table: &'a Sstable) -> Result<Self, SstableError> {
        let top = IndexCursor::first(table.top.clone()).map_err(|why| table.top_damaged(why))?;
        Walk::descend(table, top, None)
    }

    /// At the only block that may hold `position`.
    pub fn seek(table: &'a Sstable, position: &[u8]) -> Result<Self, SstableError> {
        let top = IndexCursor::seek(table.top.clone(), position).map_err(|why| table.top_damaged(why))?;
        Walk::descend(table, top, Some(position))
    }

    fn descend(table: &'a Sstable, top: IndexCursor, position: Option<&[u8]>) -> Result<Self, SstableError> {
        let tokens = top.tokens(table.meta.last);
        let block = table.index_block(top.extent(), tokens)?;
        let bottom = match position {
            Some(position) => IndexCursor::seek(block, position),
            None => IndexCursor::first(block),
        };
        let bottom = bottom.map_err(|why| table.index.damaged(top.extent().offset, tokens, why))?;
        Ok(Walk { table, top, bottom })
    }

    /// Goes to the next data block. False: there is none.
    pub fn advance(&mut self) -> Result<bool, SstableError> {
        let within = self.bottom.advance();
        if within.map_err(|why| self.table.index.damaged(self.top.extent().offset, self.tokens(), why))? {
            return Ok(true);
        }
        if !self.top.advance().map_err(|why| self.table.top_damaged(why))? {
            return Ok(false);
        }
        let end = self.bottom.extent().end();
        let tokens = self.top.tokens(self.table.meta.last);
        let block = self.table.index_block(self.top.extent(), tokens)?;
        let damaged = |why| self.table.index.damaged(self.top.extent().offset, tokens, why);
        // No data block may be left out between two index blocks.
        if block.covers().offset != end {
            return Err(damaged(Why::Contradiction));
        }
        self.bottom = IndexCursor::first(block).map_err(damaged)?;
        Ok(true)
    }

    /// Goes to the next data block, which must exist: a partition goes on there.
    pub fn advance_within_partition(&mut self) -> Result<(), SstableError> {
        if self.advance()? { Ok(()) } else { Err(self.damaged(Why::Truncated)) }
    }

    pub fn block(&self) -> Result<Bytes, SstableError> {
        self.table.data_block(self.bottom.extent(), self.tokens())
    }

    /// As `block`, past the cache: a scan must not push out what point reads want.
    pub fn block_uncached(&self) -> Result<Bytes, SstableError> {
        self.table.data.read(self.bottom.extent(), self.tokens())
    }

    pub fn extent(&self) -> Extent {
        self.bottom.extent()
    }

    pub fn separator(&self) -> &[u8] {
        self.bottom.separator()
    }

    /// Everything in the current block is below.
    pub fn below(&self) -> Option<&[u8]> {
        self.bottom.below().or_else(|| self.top.below())
    }

    /// Tokens that the current block may hold.
    pub fn tokens(&self) -> TokenSpan {
        let SstableMeta { first, last, .. } = self.table.meta;
        let tokens = self.bottom.tokens(self.top.below().map_or(last, highest_token_below));
        TokenSpan { first: tokens.first.max(first), last: tokens.last.min(last) }
    }

    pub fn damaged(&self, why: Why) -> SstableError {
        self.table.data.damaged(self.bottom.extent().offset, self.tokens(), why)
    }
}
