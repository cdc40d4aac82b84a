//! Who this data directory is: node, cluster, life, shards, and how far its clock is leased. One checksummed file.
//!
#![doc = include_str!("../../../docs/format/identity.md")]
//!
//! Safe because the file is replaced whole (`disk::atomic`): a crash leaves the old one or the new one. The directory
//! lock is held as long as this value lives, so two processes never own one directory.

use crate::{
    StorageError,
    engine::{Sharding, layout},
    limits,
};
use kula_disk::{
    Disk, DiskLock,
    atomic::{self, Format, StateError},
};
use kula_types::{ClusterId, Life, NodeId, Timestamp};
use std::sync::Arc;

const FILE: &str = "identity";
const LOCK: &str = "lock";
const FORMAT: Format = Format { magic: *b"KULAIDEN", version: 1 };
/// With room for what is to come; unused bytes are zero.
const PAYLOAD_BYTES: usize = 128;
/// A lease of this value means: none yet. It is no timestamp.
const NO_LEASE: i64 = i64::MIN;
/// Of what was told: nothing yet. No clock shows it.
const NOTHING_TOLD: i64 = 0;

/// What the identity file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub node: NodeId,
    /// Set once, when ring 1 is formed or joined.
    pub cluster: Option<ClusterId>,
    pub life: Life,
    /// Fixed when the directory is made, as `shard_bits` is.
    pub shards: u16,
    pub shard_bits: u8,
    /// No stamp above this was ever given. `None`: no stamp was given at all.
    pub lease: Option<Timestamp>,
    /// No peer was told of a lease above this (`kula_clock::Told`). `None`: none was told anything.
    pub told: Option<Timestamp>,
}

/// The identity file of a directory that this process holds.
pub struct IdentityFile {
    disk: Arc<dyn Disk>,
    current: Identity,
    _lock: Box<dyn DiskLock>,
}

impl IdentityFile {
    /// Takes the directory's lock, then reads the file, or makes it if the directory is new.
    pub fn open_or_create(disk: Arc<dyn Disk>, shards: Option<u16>) -> Result<Self, StorageError> {
        let lock = disk.lock(LOCK)?;
        let stored = atomic::read_atomic(&*disk, FILE, FORMAT).map_err(unreadable)?;
        let current = match stored {
            Some(payload) => decode(&payload)?,
            None if holds_data(&*disk)? => return Err(StorageError::IdentityMissing),
            None => {
                let shards = shards.unwrap_or_else(cores);
                let identity = Identity {
                    node: draw_node(&*disk)?,
                    cluster: None,
                    life: Life(disk.salt()?),
                    shards,
                    shard_bits: limits::SHARD_BITS,
                    lease: None,
                    told: None,
                };
                atomic::write_atomic(&*disk, FILE, FORMAT, &encode(&identity))?;
                identity
            }
        };
        match shards {
            Some(asked) if asked != current.shards => Err(StorageError::ShardsFixed { have: current.shards, asked }),
            Some(_) | None => Ok(IdentityFile { disk, current, _lock: lock }),
        }
    }

    pub fn identity(&self) -> Identity {
        self.current
    }

    /// Says which cluster this directory belongs to. Durable when it returns.
    pub fn bind_cluster(&mut self, cluster: ClusterId) -> Result<(), StorageError> {
        match self.current.cluster {
            Some(have) if have == cluster => Ok(()),
            Some(have) => Err(StorageError::OtherCluster { have, asked: cluster }),
            None => self.store(Identity { cluster: Some(cluster), ..self.current }),
        }
    }

    /// Makes the clock's lease durable up to `lease`, and how much of it peers may be told of. Never shortens it.
    pub fn extend_lease(&mut self, lease: Timestamp, told: Option<Timestamp>) -> Result<(), StorageError> {
        let identity = Identity { lease: self.current.lease.max(Some(lease)), told, ..self.current };
        if identity == self.current {
            return Ok(());
        }
        self.store(identity).map_err(|error| match error {
            StorageError::Disk(cause) => StorageError::LeaseLost { cause },
            error => error,
        })
    }

    fn store(&mut self, identity: Identity) -> Result<(), StorageError> {
        atomic::write_atomic(&*self.disk, FILE, FORMAT, &encode(&identity))?;
        self.current = identity;
        Ok(())
    }
}

/// The disk's own random numbers: the operating system's on a real one, the seed's in a simulation.
fn draw_node(disk: &dyn Disk) -> Result<NodeId, StorageError> {
    let (high, low) = (disk.salt()?, disk.salt()?);
    let random = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
    Ok(NodeId(uuid::Builder::from_random_bytes(random).into_uuid()))
}

fn unreadable(error: StateError) -> StorageError {
    match error {
        StateError::Disk(error) => StorageError::from(error),
        StateError::Damaged { .. } | StateError::Newer { .. } | StateError::Older { .. } => damaged(error),
    }
}

/// One shard a core, as far as the operating system says.
fn cores() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    u16::try_from(cores).unwrap_or(u16::MAX).clamp(1, limits::SHARDS_MAX)
}

/// Whether there is something that only a directory with an identity has.
fn holds_data(disk: &dyn Disk) -> Result<bool, StorageError> {
    let names = disk.list("")?;
    Ok(names.iter().any(|name| name == layout::COMMIT_LOG || layout::is_shard(name)))
}

fn damaged(what: impl std::fmt::Display) -> StorageError {
    StorageError::IdentityDamaged { what: what.to_string().into() }
}

fn encode(identity: &Identity) -> Vec<u8> {
    let mut payload = Vec::with_capacity(PAYLOAD_BYTES);
    payload.extend_from_slice(identity.node.0.as_bytes());
    payload.extend_from_slice(&identity.life.0.to_le_bytes());
    payload.push(u8::from(identity.cluster.is_some()));
    payload.extend_from_slice(identity.cluster.map_or(uuid::Uuid::nil(), |cluster| cluster.0).as_bytes());
    payload.extend_from_slice(&identity.shards.to_le_bytes());
    payload.push(identity.shard_bits);
    payload.extend_from_slice(&identity.lease.map_or(NO_LEASE, Timestamp::micros).to_le_bytes());
    payload.extend_from_slice(&identity.told.map_or(NOTHING_TOLD, Timestamp::micros).to_le_bytes());
    payload.resize(PAYLOAD_BYTES, 0);
    payload
}

/// Refuses what no version of ours wrote: the checksum was good, so this is no accident of the disk.
fn decode(payload: &[u8]) -> Result<Identity, StorageError> {
    if payload.len() != PAYLOAD_BYTES {
        return Err(damaged(format_args!("{} bytes instead of {PAYLOAD_BYTES}", payload.len())));
    }
    let mut rest = payload;
    let node = NodeId(uuid::Uuid::from_bytes(take(&mut rest)?));
    let life = Life(u64::from_le_bytes(take(&mut rest)?));
    let [bound] = take(&mut rest)?;
    let cluster = ClusterId(uuid::Uuid::from_bytes(take(&mut rest)?));
    let shards = u16::from_le_bytes(take(&mut rest)?);
    let [shard_bits] = take(&mut rest)?;
    let lease = i64::from_le_bytes(take(&mut rest)?);
    let told = i64::from_le_bytes(take(&mut rest)?);
    let lease = Timestamp::from_micros(lease).ok();
    let told = (told != NOTHING_TOLD).then(|| Timestamp::from_micros(told)).transpose().map_err(damaged)?;
    let is_whole = Sharding::new(shards, shard_bits).is_some() && bound <= 1 && rest.iter().all(|byte| *byte == 0);
    // Nobody was told more than there was.
    if !is_whole || told > lease {
        return Err(damaged("a field has a value that this version does not know"));
    }
    let cluster = (bound == 1).then_some(cluster);
    Ok(Identity { node, cluster, life, shards, shard_bits, lease, told })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], StorageError> {
    let (head, tail) = rest.split_first_chunk().ok_or_else(|| damaged("too short"))?;
    *rest = tail;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn identity() -> Identity {
        Identity {
            node: NodeId(uuid::Uuid::from_u128(0x0123_4567_89ab_cdef_0011_2233_4455_6677)),
            cluster: Some(ClusterId(uuid::Uuid::from_u128(5))),
            life: Life(0x1122_3344_5566_7788),
            shards: 4,
            shard_bits: 8,
            lease: Timestamp::from_micros(1_700_000_000_000_000).ok(),
            told: Timestamp::from_micros(1_600_000_000_000_000).ok(),
        }
    }

    #[test]
    fn an_identity_reads_back_with_and_without_cluster_and_lease() {
        for identity in [identity(), Identity { cluster: None, lease: None, told: None, ..identity() }] {
            assert_eq!(decode(&encode(&identity)).unwrap(), identity);
        }
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        insta::assert_snapshot!(hex(&encode(&identity())), @"0123456789abcdef00112233445566778877665544332211010000000000000000000000000000000504000800401e18240a06000000a40731af05000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000");
    }

    /// Seed 304452 of a day: a lease that was extended early, after the clock was set back, stored nothing.
    #[test]
    fn what_may_be_told_is_stored_though_the_lease_is_no_longer_one() {
        let disk: Arc<dyn Disk> = Arc::new(kula_disk::SimDisk::new(1));
        let at = |micros: i64| Timestamp::from_micros(micros).unwrap();
        let mut file = IdentityFile::open_or_create(disk.clone(), Some(1)).unwrap();
        file.extend_lease(at(100), None).unwrap();
        file.extend_lease(at(90), Some(at(90))).unwrap();
        drop(file);
        let found = IdentityFile::open_or_create(disk, None).unwrap().identity();
        assert_eq!((found.lease, found.told), (Some(at(100)), Some(at(90))));
    }

    proptest! {
        #![proptest_config(kula_testkit::property())]

        #[test]
        fn what_this_version_did_not_write_is_refused(at in 0usize..PAYLOAD_BYTES, byte: u8) {
            let mut payload = encode(&identity());
            payload[at] = byte;
            if let Ok(decoded) = decode(&payload) {
                prop_assert_eq!(&encode(&decoded), &payload);
            }
            prop_assert!(decode(&payload[..at]).is_err());
        }
    }
}
