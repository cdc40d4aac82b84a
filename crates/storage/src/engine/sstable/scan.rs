//! Reading a table from front to back, a block at a time: flushes' successors, compaction, repair and streaming.

use super::{
    block::Block,
    error::{SstableError, Why},
    position::scan_start,
    reader::{Sstable, decode_rows, read_header},
    walk::Walk,
};
use bytes::Bytes;
use kula_lattice::{Partition, Row, SortedMap};
use kula_types::{ClusteringKey, PartitionKey, Token};
use std::{mem, ops::Bound};

/// How far a scan goes, and in which pieces.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScanLimits {
    pub to: Bound<(Token, PartitionKey)>,
    /// A partition of more encoded bytes comes in pieces: the same token and key again, the header only in the first,
    /// rows ascending. So memory stays near this and one block, however wide partitions are; `SstableWriter::add` takes
    /// the pieces as they come. `usize::MAX`: each partition whole.
    pub piece_bytes: usize,
}

impl ScanLimits {
    /// To the table's end, each partition whole.
    pub const fn all() -> Self {
        ScanLimits { to: Bound::Unbounded, piece_bytes: usize::MAX }
    }
}

/// Partitions in (token, key) order. What they hold are slices of whole blocks: a scan's reader uses them and lets go.
///
/// After an error the scan is over; a new one may start past the tokens that the error names.
pub struct Scan<'a> {
    table: &'a Sstable,
    from: Bound<(Token, PartitionKey)>,
    limits: ScanLimits,
    place: Place<'a>,
    /// The partition whose end has not been seen yet.
    open: Option<Open>,
}

enum Place<'a> {
    Before,
    /// In `block`, of whose `count` segments `next` comes next.
    In {
        walk: Box<Walk<'a>>,
        block: Bytes,
        count: usize,
        next: usize,
    },
    After,
}

struct Open {
    token: Token,
    key: PartitionKey,
    partition: Partition,
    rows: Vec<(ClusteringKey, Row)>,
    bytes: usize,
}

impl Sstable {
    /// Scans partitions from `from` on, past the cache.
    pub fn scan(&self, from: Bound<(Token, PartitionKey)>, limits: ScanLimits) -> Scan<'_> {
        Scan { table: self, from, limits, place: Place::Before, open: None }
    }
}

impl<'a> Scan<'a> {
    fn step(&mut self) -> Result<Option<(Token, PartitionKey, Partition)>, SstableError> {
        loop {
            match &mut self.place {
                Place::After => return Ok(None),
                Place::Before => {
                    let walk = match scan_start(&self.from) {
                        Some(position) => Walk::seek(self.table, &position)?,
                        None => Walk::first(self.table)?,
                    };
                    self.enter(Box::new(walk))?;
                }
                Place::In { walk, count, next, .. } if next == count => {
                    if walk.advance()? {
                        let Place::In { walk, .. } = mem::replace(&mut self.place, Place::After) else {
                            return Ok(None);
                        };
                        self.enter(walk)?;
                    } else if self.open.is_some() {
                        return Err(walk.damaged(Why::Truncated));
                    } else {
                        self.place = Place::After;
                    }
                }
                Place::In { .. } => {
                    if let Some(found) = self.segment()? {
                        return Ok(Some(found));
                    }
                }
            }
        }
    }

    /// Reads the block at which `walk` stands.
    fn enter(&mut self, walk: Box<Walk<'a>>) -> Result<(), SstableError> {
        let block = walk.block_uncached()?;
        let count = Block::parse(&block).map_err(|why| walk.damaged(why))?.count();
        self.place = Place::In { walk, block, count, next: 0 };
        Ok(())
    }

    /// Takes in the next segment of the block. Returns a partition, or a piece of one, if that completes it.
    fn segment(&mut self) -> Result<Option<(Token, PartitionKey, Partition)>, SstableError> {
        let Place::In { walk, block, next, .. } = &mut self.place else { return Ok(None) };
        let damaged = |why| walk.damaged(why);
        let segment = Block::parse(block).and_then(|block| block.segment(*next)).map_err(damaged)?;
        *next += 1;
        let here = (segment.token, segment.key);
        let mut open = match self.open.take() {
            Some(open) if (open.token, open.key.as_bytes()) == here && !segment.start => open,
            Some(_) => return Err(damaged(Why::Order)),
            None if is_before(here, &self.from) => return Ok(None),
            None if is_after(here, &self.limits.to) => {
                self.place = Place::After;
                return Ok(None);
            }
            None if !segment.start => return Err(damaged(Why::Order)),
            None => Open {
                token: segment.token,
                key: PartitionKey::copy_from(segment.key),
                partition: read_header(block, &segment).map_err(damaged)?,
                rows: Vec::new(),
                bytes: 0,
            },
        };
        let rows = segment.rows_place();
        open.bytes = open.bytes.saturating_add(rows.len());
        decode_rows(&block.slice(rows), &mut open.rows).map_err(damaged)?;
        if segment.continues && open.bytes < self.limits.piece_bytes {
            self.open = Some(open);
            return Ok(None);
        }
        let Open { token, key, mut partition, rows, .. } = open;
        partition.rows = SortedMap::from_sorted(rows).ok_or_else(|| damaged(Why::Order))?;
        if segment.continues {
            let (partition, rows) = (Partition::default(), Vec::new());
            self.open = Some(Open { token, key: key.clone(), partition, rows, bytes: 0 });
        }
        Ok(Some((token, key, partition)))
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<(Token, PartitionKey, Partition), SstableError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            (self.place, self.open) = (Place::After, None);
        }
        step.transpose()
    }
}

fn is_before((token, key): (Token, &[u8]), from: &Bound<(Token, PartitionKey)>) -> bool {
    match from {
        Bound::Unbounded => false,
        Bound::Included(from) => (token, key) < (from.0, from.1.as_bytes()),
        Bound::Excluded(from) => (token, key) <= (from.0, from.1.as_bytes()),
    }
}

fn is_after((token, key): (Token, &[u8]), to: &Bound<(Token, PartitionKey)>) -> bool {
    match to {
        Bound::Unbounded => false,
        Bound::Included(to) => (token, key) > (to.0, to.1.as_bytes()),
        Bound::Excluded(to) => (token, key) >= (to.0, to.1.as_bytes()),
    }
}
