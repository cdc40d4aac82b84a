//! Ground truth: what each machine's disk would have after a power loss now, read from the commit log on it. Never what a
//! node says of itself.

use crate::host::{Machine, Placed};
use bytes::Bytes;
use kula_coordinator::present;
use kula_disk::{
    SimDisk,
    log::{Loss, Position},
};
use kula_lattice::{CellId, Mutation, Partition};
use kula_schema::{Table, TableKind};
use kula_sim::{
    client::operations_of,
    oracle::{KeyId, Oracle},
};
use kula_storage::{
    StorageError,
    engine::{CommitLog, CommitLogConfig, parse_record},
};
use kula_types::{ClusteringKey, Key, Timestamp};
use std::{collections::BTreeMap, rc::Rc, sync::Arc};

pub struct Ledger {
    /// By machine: the log up to here is known.
    known: Vec<Position>,
    /// By key: deletes under way. They have no value that could name them.
    pub deleting: BTreeMap<KeyId, Vec<usize>>,
    unnamed: usize,
}

/// Mutations that nobody can name have numbers from here on.
const UNNAMED: usize = 1 << 40;

impl Ledger {
    pub fn new(machines: usize) -> Ledger {
        Ledger { known: vec![Position::START; machines], deleting: BTreeMap::new(), unnamed: UNNAMED }
    }

    /// The machine's disk is an empty one.
    pub fn forget(&mut self, machine: usize) {
        self.known[machine] = Position::START;
    }

    /// Tells the oracle of everything that is durable now and was not at the last look.
    pub fn look(&mut self, machines: &[Rc<Machine>], durable: &[Placed], oracle: &mut Oracle) {
        let (mut found, mut passed) = (Vec::new(), Vec::new());
        for (machine, placed) in machines.iter().zip(durable) {
            // An answer may come from before the disk was lost.
            if !machine.disks.is_there(machine.index, placed) {
                continue;
            }
            match self.fresh(machine, &placed.disk) {
                Ok((records, has_lost_sight)) => {
                    found.push((machine.index, records));
                    passed.extend(has_lost_sight.then_some((machine, &placed.disk)));
                }
                Err(error) => {
                    oracle.violated(format!("{}'s log cannot be read from its durable image: {error}", machine.name));
                }
            }
        }
        // What clients sent comes before who holds it: a repair may bring to one what another has just taken.
        for record in found.iter().flat_map(|(_, records)| records) {
            if let Ok(mutation) = Mutation::decode(record)
                && let Some(table) = oracle.tables.get(&mutation.table).cloned()
                && is_a_clients(&table, &mutation)
            {
                let operation = self.operation(&table, &mutation);
                oracle.mutation_sent(None, operation, &mutation);
            }
        }
        for (machine, records) in found {
            records.iter().for_each(|record| oracle.applied(machine, record, false));
        }
        for (machine, disk) in passed {
            let keys: Vec<KeyId> = oracle.keys.keys().cloned().collect();
            match Image::of(machine, disk) {
                Ok(image) => {
                    let held = keys.iter().filter_map(|key| Some((key, image.holds(key).ok()?)));
                    held.for_each(|(key, partition)| oracle.held_durably(machine.index, key, &partition));
                }
                Err(error) => oracle.violated(format!("{}'s durable image cannot be opened: {error}", machine.name)),
            }
        }
    }

    /// Records of the log that were not known, and whether it has let go of segments since the last look, whose records may
    /// all be in tables by now.
    fn fresh(&mut self, machine: &Machine, disk: &SimDisk) -> Result<(Vec<Bytes>, bool), StorageError> {
        let storage = &machine.config.storage;
        let shards = storage.shards.unwrap_or(1);
        let mut records = Vec::new();
        let config = CommitLogConfig {
            total: storage.commitlog_total,
            segment: u32::try_from(storage.commitlog_segment).unwrap_or(u32::MAX),
        };
        let flushed = vec![Position::START; usize::from(shards)];
        let (log, replay) = CommitLog::open(Arc::new(disk.clone()), config, &flushed)?;
        let known = &mut self.known[machine.index];
        let has_lost_sight = log.begin().segment > known.segment;
        replay.run(*known, Loss::Refuse, |position, record| {
            *known = Position { segment: position.segment, offset: position.offset + 1 };
            if let Ok(Some((_, mutation))) = parse_record(record, shards) {
                records.push(Bytes::copy_from_slice(mutation));
            }
            Ok::<_, StorageError>(())
        })?;
        Ok((records, has_lost_sight))
    }

    fn operation(&mut self, table: &Table, mutation: &Mutation) -> usize {
        // Nothing has expired at the beginning of time.
        let shown = present(&mutation.delta, table, Timestamp::MIN, false).map(|shown| shown.found);
        let named = shown.ok().and_then(|found| operations_of(&found).first().copied());
        let deleting = self.deleting.get(&(mutation.table, mutation.key.clone())).map(Vec::as_slice);
        match (named, deleting) {
            (Some(operation), _) => operation,
            (None, Some([only])) => *only,
            (None, _) => {
                self.unnamed += 1;
                self.unnamed
            }
        }
    }
}

/// A repair's mutation brings what others wrote, under an id of its own that stands nowhere in it.
fn is_a_clients(table: &Table, mutation: &Mutation) -> bool {
    let (row, value) = (ClusteringKey::default(), CellId::simple(table.value_column()));
    let cell = mutation.delta.cell(&row, &value);
    match table.kind {
        TableKind::Lww => match cell.and_then(|cell| cell.lww.as_ref()) {
            Some(written) => written.key == Key::of(written.key.ts(), mutation.mid),
            // A delete is as good as any other with its timestamp: one that a repair brings does no harm here.
            None => mutation.delta.floor.is_some(),
        },
        TableKind::Causal => cell.and_then(|cell| cell.dots.as_ref()).is_some_and(|dots| {
            dots.seen.contains(mutation.mid) || dots.live.iter().any(|(dot, _)| *dot == mutation.mid)
        }),
    }
}

/// A machine's data as the engine finds it after a power loss now.
pub struct Image {
    storage: kula_storage::OpenedStorage,
}

impl Image {
    pub fn of(machine: &Machine, durable: &SimDisk) -> Result<Image, StorageError> {
        let clock = kula_clock::ManualClock::at(kula_sim::time::stamp(kula_sim::time::WALL_START));
        // The image is a copy: what opening writes is nobody's.
        let storage = kula_storage::open(
            Arc::new(durable.crash(kula_disk::Survivors::None)),
            &machine.config.storage,
            &clock,
            Loss::Refuse,
        )?;
        Ok(Image { storage })
    }

    pub fn holds(&self, (table, key): &KeyId) -> Result<Partition, StorageError> {
        let token = kula_placement::Partitioner::Murmur3.token(key);
        let engine = &self.storage.engine;
        let shard = usize::from(engine.sharding.shard_of(token));
        engine.shards[shard].read(*table, token, key, &kula_lattice::Slice::all())
    }
}
