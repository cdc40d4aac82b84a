//! Which tables of a shard are live, and up to where the log is in them. One small file, replaced whole.
//!
#![doc = include_str!("../../../../docs/format/manifest.md")]
//!
//! Safe because the set changes by one rename: a crash leaves the old set or the new one, and files that neither names
//! are removed at the next start. A table's generation is drawn here, so a stale block with a good checksum of its own
//! time is caught.

use super::{layout, sstable::SstableMeta};
use crate::{StorageError, limits};
use kula_disk::{
    Disk, DiskError,
    atomic::{self, Format, StateError},
    log::Position,
};

const FORMAT: Format = Format { magic: *b"KULAMANI", version: 1 };

/// A shard's live tables.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    pub shard: u16,
    /// Rises with every change. A table bears the generation it came with.
    pub generation: u64,
    /// All records of this shard that lie before it are in tables.
    pub flushed: Position,
    /// Of ring partitions in a sealed repair round (`design.md` §8). None until seals are built.
    pub fences: Vec<PartitionFence>,
    pub tables: Vec<SstableMeta>,
}

/// How far a ring partition is in sealing: reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionFence {
    pub partition: u32,
    /// The epoch whose fence is durable here.
    pub fence: u32,
    /// The epoch whose round is done here.
    pub done: u32,
}

/// Why a payload is no manifest.
#[derive(Debug, thiserror::Error)]
enum Invalid {
    #[error("it ends too early")]
    Truncated,
    #[error("{0} bytes are left over")]
    LeftOver(usize),
    #[error("it is of shard {0}")]
    Shard(u16),
    #[error("it lists {0} entries")]
    TooMany(usize),
    #[error("an sstable's facts contradict one another")]
    Meta,
}

impl Manifest {
    pub fn new(shard: u16) -> Self {
        Manifest { shard, generation: 0, flushed: Position::START, fences: Vec::new(), tables: Vec::new() }
    }

    /// `None`: there is no such file.
    pub fn read(disk: &dyn Disk, shard: u16) -> Result<Option<Self>, StorageError> {
        let damaged = |what: String| StorageError::ManifestDamaged { shard, what: what.into() };
        let payload = match atomic::read_atomic(disk, &layout::manifest(shard), FORMAT) {
            Ok(payload) => payload,
            Err(StateError::Disk(error)) => return Err(error.into()),
            Err(error @ (StateError::Damaged { .. } | StateError::Newer { .. } | StateError::Older { .. })) => {
                return Err(damaged(error.to_string()));
            }
        };
        let Some(payload) = payload else { return Ok(None) };
        let manifest = Manifest::decode(&payload, shard).map_err(|invalid| damaged(invalid.to_string()))?;
        Ok(Some(manifest))
    }

    /// Durable when it returns. On an error the old manifest or this one is there.
    pub fn write(&self, disk: &dyn Disk) -> Result<(), DiskError> {
        assert!(self.tables.len() <= limits::MANIFEST_TABLES_MAX, "compaction bounds the number of tables");
        atomic::write_atomic(disk, &layout::manifest(self.shard), FORMAT, &self.encode())
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.shard.to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.flushed.segment.to_le_bytes());
        out.extend_from_slice(&self.flushed.offset.to_le_bytes());
        put_length(&mut out, self.fences.len());
        for fence in &self.fences {
            for number in [fence.partition, fence.fence, fence.done] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        put_length(&mut out, self.tables.len());
        for meta in &self.tables {
            out.extend_from_slice(&meta.to_bytes());
        }
        out
    }

    fn decode(payload: &[u8], shard: u16) -> Result<Self, Invalid> {
        let mut rest = payload;
        let input = &mut rest;
        let found = u16::from_le_bytes(take(input)?);
        if found != shard {
            return Err(Invalid::Shard(found));
        }
        let generation = u64::from_le_bytes(take(input)?);
        let segment = u64::from_le_bytes(take(input)?);
        let flushed = Position { segment, offset: u32::from_le_bytes(take(input)?) };
        let mut fences = Vec::new();
        for _ in 0..count(input, limits::MANIFEST_FENCES_MAX)? {
            let mut number = || Ok::<_, Invalid>(u32::from_le_bytes(take(input)?));
            fences.push(PartitionFence { partition: number()?, fence: number()?, done: number()? });
        }
        let mut tables = Vec::new();
        for _ in 0..count(input, limits::MANIFEST_TABLES_MAX)? {
            tables.push(SstableMeta::from_bytes(&take(input)?).ok_or(Invalid::Meta)?);
        }
        match input.len() {
            0 => Ok(Manifest { shard, generation, flushed, fences, tables }),
            left => Err(Invalid::LeftOver(left)),
        }
    }
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).unwrap_or_else(|_| unreachable!("bounded far below 4 Gi"));
    out.extend_from_slice(&length.to_le_bytes());
}

fn count(input: &mut &[u8], most: usize) -> Result<usize, Invalid> {
    let count = usize::try_from(u32::from_le_bytes(take(input)?)).unwrap_or(usize::MAX);
    if count > most { Err(Invalid::TooMany(count)) } else { Ok(count) }
}

fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], Invalid> {
    let (head, tail) = input.split_first_chunk().ok_or(Invalid::Truncated)?;
    *input = tail;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sstable::FileId;
    use kula_types::{TableId, Token};
    use proptest::prelude::*;

    fn meta(number: u8) -> SstableMeta {
        SstableMeta {
            file: FileId([number; 16]),
            generation: u64::from(number),
            table: TableId([number ^ 0xff; 16]),
            data_bytes: 1_000 + u64::from(number),
            index_bytes: 100,
            filter_bytes: 50,
            statistics_bytes: 40,
            statistics_crc: 0xdead_beef,
            first: Token(-5),
            last: Token(7),
        }
    }

    fn manifest(tables: u8, fences: u32) -> Manifest {
        let fence = |partition| PartitionFence { partition, fence: partition + 1, done: partition };
        Manifest {
            generation: 9,
            flushed: Position { segment: 3, offset: 4_096 },
            fences: (0..fences).map(fence).collect(),
            tables: (0..tables).map(meta).collect(),
            ..Manifest::new(2)
        }
    }

    proptest! {
        #![proptest_config(kula_testkit::property())]

        #[test]
        fn a_manifest_reads_back_and_is_another_shards_to_none(tables in 0u8..5, fences in 0u32..4) {
            let manifest = manifest(tables, fences);
            let payload = manifest.encode();
            prop_assert_eq!(Manifest::decode(&payload, 2).unwrap(), manifest);
            prop_assert!(matches!(Manifest::decode(&payload, 3), Err(Invalid::Shard(2))));
        }

        #[test]
        fn any_bytes_do_not_panic(mut payload in prop::collection::vec(any::<u8>(), 0..300), from in 0usize..40) {
            drop(Manifest::decode(&payload, 2));
            // Past the checks of the first fields.
            let good = manifest(1, 1).encode();
            payload.splice(0..0, good[..from].iter().copied());
            drop(Manifest::decode(&payload, 2));
        }
    }

    #[test]
    fn a_cut_or_longer_payload_is_refused() {
        let payload = manifest(2, 1).encode();
        for end in 0..payload.len() {
            assert!(Manifest::decode(&payload[..end], 2).is_err(), "{end} bytes");
        }
        assert!(matches!(Manifest::decode(&[&payload[..], &[0]].concat(), 2), Err(Invalid::LeftOver(1))));
    }

    #[test]
    fn golden_bytes_of_version_1_stay_readable() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        insta::assert_snapshot!(hex(&manifest(1, 1).encode()), @"020009000000000000000300000000000000001000000100000000000000010000000000000001000000000000000000000000000000000000000000000000000000ffffffffffffffffffffffffffffffffe803000000000000640000000000000032000000000000002800000000000000efbeadde7ffffffffffffffb8000000000000007");
    }
}
