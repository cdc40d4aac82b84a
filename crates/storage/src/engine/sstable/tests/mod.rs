//! Properties of whole tables, on a simulated disk, against a `BTreeMap` of what was written.

mod damage;
mod golden;
mod round_trip;
mod wide;

use super::{Compression, FileId, Sstable, SstableError, SstableMeta, SstableWriter, WriteOptions};
use kula_disk::SimDisk;
use kula_lattice::{Cell, CellId, Partition};
use kula_types::{Actor, ClusteringKey, ColumnId, Dot, Key, PartitionKey, TableId, Timestamp, Token};
use std::collections::BTreeMap;

type Model = BTreeMap<(Token, PartitionKey), Partition>;

const FILE: FileId = FileId([0xa1; 16]);
const GENERATION: u64 = 7;

fn options(block_bytes: usize, compression: Compression) -> WriteOptions {
    WriteOptions { block_bytes, compression, ..WriteOptions::new(TableId([5; 16])) }
}

fn write(
    disk: &SimDisk,
    file: FileId,
    generation: u64,
    options: WriteOptions,
    model: &Model,
) -> Result<SstableMeta, SstableError> {
    let mut writer = SstableWriter::create(disk, "", file, generation, options)?;
    for ((token, key), partition) in model {
        writer.add(*token, key, partition)?;
    }
    writer.finish()
}

/// A table of `model`, whose partitions are not empty, on a disk of its own.
fn table_of(options: WriteOptions, model: &Model) -> (SimDisk, SstableMeta, Sstable) {
    let disk = SimDisk::new(1);
    let meta = write(&disk, FILE, GENERATION, options, model).unwrap();
    let sstable = Sstable::open(&disk, "", &meta).unwrap();
    (disk, meta, sstable)
}

/// A register in a column of its own, distinct for each `number`.
fn register(number: u64, body: impl Into<bytes::Bytes>) -> (CellId, Cell) {
    let micros = i64::try_from(number).unwrap();
    let key = Key::of(Timestamp::from_micros(micros).unwrap(), Dot::new(Actor(9), 0, number + 1).unwrap());
    (CellId::simple(ColumnId(1)), Cell::put(key, None, body.into()))
}

fn one_row(clustering: &[u8], number: u64, body: impl Into<bytes::Bytes>) -> Partition {
    let (id, cell) = register(number, body);
    Partition::of_cell(ClusteringKey::copy_from(clustering), id, cell)
}

/// Bytes that neither repeat nor compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = kula_testkit::Random::new(seed);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A small table with everything in it: several blocks, a partition over several of them, headers, raw and packed blocks.
fn small_model() -> Model {
    let mut model = Model::new();
    for number in 0..12u64 {
        let token = Token(i64::try_from(number).unwrap() * (i64::MAX / 20) - i64::MAX / 4);
        let body = if number % 3 == 0 { vec![b'x'; 60] } else { noise(number, 40) };
        model.insert((token, PartitionKey::copy_from(&number.to_be_bytes())), one_row(b"", number, body));
    }
    let token = model.keys().nth(6).unwrap().0;
    let mut wide =
        Partition { floor: Some(Key::delete_at(Timestamp::from_micros(-5).unwrap())), ..Partition::default() };
    for row in 0..20u64 {
        let (id, cell) = register(100 + row, noise(row, 20));
        wide.rows.insert(ClusteringKey::copy_from(&[b'r', row.to_le_bytes()[0]]), kula_lattice::Row::of_cell(id, cell));
    }
    model.insert((token, PartitionKey::copy_from(b"wide\0key")), wide);
    model
}
