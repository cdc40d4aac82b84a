//! The memtable: what the log holds and no table does yet, sorted as tables are, joined on the way in.
//!
//! Invariants: the records of one shard enter in log order (asserted), so every record of the
//! shard before `until` is in it or in tables; `heap_bytes` is what its values and its tree nodes keep from the allocator,
//! because a key is copied and a body never pins more than `PINNED_RATIO_MAX` times its own length.

use crate::limits::{FEW_ROWS_MAX, PINNED_RATIO_MAX};
use bytes::Bytes;
use kula_disk::log::Position;
use kula_lattice::{Body, CellId, Join, Mutation, Partition, RangeFloors, Row, Slice, SortedMap};
use kula_types::{ClusteringKey, Key, PartitionKey, TableId, Token};
use std::{collections::BTreeMap, mem, ops::Bound};

/// What an entry costs in a tree whose nodes are on average two thirds full.
const fn in_tree(bytes: usize) -> usize {
    bytes + bytes / 2
}

const PARTITION_BYTES: usize = in_tree(mem::size_of::<((Token, PartitionKey), Box<Entry>)>()) + mem::size_of::<Entry>();
const ROW_BYTES: usize = in_tree(mem::size_of::<(ClusteringKey, Row)>());

type Partitions = BTreeMap<(Token, PartitionKey), Box<Entry>>;

#[derive(Default)]
pub struct Memtable {
    tables: BTreeMap<TableId, Partitions>,
    heap_bytes: usize,
    until: Option<Position>,
}

/// A partition whose rows can be joined one by one, however many there are.
#[derive(Default)]
struct Entry {
    floor: Option<Key>,
    statics: Option<Box<Row>>,
    ranges: RangeFloors,
    rows: Rows,
}

/// A sorted vector is small and fast for the one row of a key-value partition; a wide partition needs a tree, or each
/// insert would move all rows behind it.
enum Rows {
    Few(SortedMap<ClusteringKey, Row>),
    Many(BTreeMap<ClusteringKey, Row>),
}

impl Memtable {
    /// Joins one record of the log; all records of its shard before `until` have then been joined. `encoded_bytes` is
    /// the length of the buffer that its keys and bodies are slices of.
    pub fn join(&mut self, until: Position, mutation: Mutation, encoded_bytes: usize) {
        assert!(self.until.is_none_or(|last| last <= until), "the records of a shard enter in log order");
        self.until = Some(until);
        let Mutation { table, token, key, mut delta, .. } = mutation;
        detach(&mut delta, encoded_bytes);
        // The tree's key outlives this buffer as soon as the values are overwritten: it is a copy.
        let id = (token, PartitionKey::copy_from(key.as_bytes()));
        let mut new_bytes = 0;
        let entry = self.tables.entry(table).or_default().entry(id).or_insert_with(|| {
            new_bytes = PARTITION_BYTES + key.as_bytes().len();
            Box::default()
        });
        let (before, after) = entry.join(delta);
        self.heap_bytes = self.heap_bytes + new_bytes + after - before.min(self.heap_bytes + new_bytes + after);
    }

    /// What is known of a partition, clipped to the slice. `None`: nothing.
    pub fn get(&self, table: TableId, token: Token, key: &PartitionKey, slice: &Slice) -> Option<Partition> {
        let entry = self.tables.get(&table)?.get(&(token, key.clone()))?;
        let partition = entry.partition(slice);
        (!partition.is_empty()).then_some(partition)
    }

    /// The partitions of a table in token order, from a place on.
    pub fn scan(
        &self,
        table: TableId,
        from: Bound<(Token, PartitionKey)>,
    ) -> impl Iterator<Item = (Token, &PartitionKey, Partition)> {
        let partitions = self.tables.get(&table).into_iter();
        partitions
            .flat_map(move |partitions| partitions.range((from.clone(), Bound::Unbounded)))
            .map(|((token, key), entry)| (*token, key, entry.partition(&Slice::all())))
    }

    pub fn tables(&self) -> impl Iterator<Item = TableId> {
        self.tables.keys().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.until.is_none()
    }

    pub fn heap_bytes(&self) -> usize {
        self.heap_bytes
    }

    /// All records of the shard that lie before it in the log were joined, here or earlier.
    pub fn until(&self) -> Option<Position> {
        self.until
    }
}

impl Entry {
    /// The heap bytes of the parts that were joined, before and after.
    fn join(&mut self, delta: Partition) -> (usize, usize) {
        let Partition { floor, statics, ranges, rows } = delta;
        self.floor.join(floor);
        let (mut before, mut after) = (0, 0);
        if let Some(theirs) = statics {
            before += self.statics.as_ref().map_or(0, |row| row.heap_bytes());
            self.statics.join(Some(theirs));
            after += self.statics.as_ref().map_or(0, |row| row.heap_bytes());
        }
        if !ranges.is_empty() {
            before += range_bytes(&self.ranges);
            self.ranges.join(ranges);
            after += range_bytes(&self.ranges);
        }
        for (position, row) in rows {
            let (row_before, row_after) = self.rows.join(position, row);
            before += row_before;
            after += row_after;
        }
        (before, after)
    }

    fn partition(&self, slice: &Slice) -> Partition {
        let rows = self.rows.range(slice);
        let whole = Partition { floor: self.floor, statics: self.statics.clone(), ranges: self.ranges.clone(), rows };
        whole.clip(slice)
    }
}

impl Default for Rows {
    fn default() -> Self {
        Rows::Few(SortedMap::new())
    }
}

impl Rows {
    /// The heap bytes of the row, before and after.
    fn join(&mut self, position: ClusteringKey, theirs: Row) -> (usize, usize) {
        // As a partition's key, a row's place outlives the buffer it came in.
        let position = ClusteringKey::copy_from(position.as_bytes());
        let kept = ROW_BYTES + position.as_bytes().len();
        let known = match self {
            Rows::Few(rows) => rows.contains(&position),
            Rows::Many(rows) => rows.contains_key(&position),
        };
        let mine = match self {
            Rows::Few(rows) => rows.get_or_default(position),
            Rows::Many(rows) => rows.entry(position).or_default(),
        };
        let before = if known { kept + mine.heap_bytes() } else { 0 };
        mine.join(theirs);
        let after = kept + mine.heap_bytes();
        match self {
            Rows::Few(rows) if rows.len() > FEW_ROWS_MAX => *self = Rows::Many(mem::take(rows).into_iter().collect()),
            Rows::Few(_) | Rows::Many(_) => {}
        }
        (before, after)
    }

    fn range(&self, slice: &Slice) -> SortedMap<ClusteringKey, Row> {
        let entries = match self {
            Rows::Few(rows) => rows.range(slice.from.as_ref(), slice.to.as_ref()).to_vec(),
            Rows::Many(_) if is_void(slice) => Vec::new(),
            Rows::Many(rows) => {
                let range = rows.range((slice.from.as_ref(), slice.to.as_ref()));
                range.map(|(position, row)| (position.clone(), row.clone())).collect()
            }
        };
        SortedMap::from_sorted(entries).unwrap_or_else(|| unreachable!("both forms are sorted"))
    }
}

fn range_bytes(ranges: &RangeFloors) -> usize {
    ranges.iter().map(|(start, floor)| start.len() + mem::size_of_val(start) + mem::size_of_val(&floor)).sum()
}

/// A tree panics over a range that ends before it starts; a client may ask for one.
fn is_void(slice: &Slice) -> bool {
    match (&slice.from, &slice.to) {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}

/// Copies what is small beside the buffer it lies in, so that a cell that stays does not keep a large neighbour that
/// goes.
fn detach(delta: &mut Partition, encoded_bytes: usize) {
    let pins = |bytes: &Bytes| !bytes.is_empty() && bytes.len().saturating_mul(PINNED_RATIO_MAX) < encoded_bytes;
    let detach_body = |body: &mut Body| match body {
        Body::Full(bytes) if pins(bytes) => *bytes = Bytes::copy_from_slice(bytes),
        Body::Full(_) | Body::Stub => {}
    };
    let statics = delta.statics.iter_mut().map(|row| &mut **row);
    for row in statics.chain(delta.rows.iter_mut().map(|(_, row)| row)) {
        if let Some(marker) = &mut row.marker {
            detach_body(&mut marker.body);
        }
        if row.cells.keys().any(|id| pins(&id.path)) {
            let copied = mem::take(&mut row.cells)
                .into_iter()
                .map(|(id, cell)| (CellId { column: id.column, path: Bytes::copy_from_slice(&id.path) }, cell));
            row.cells = copied.collect();
        }
        for (_, cell) in row.cells.iter_mut() {
            if let Some(lww) = &mut cell.lww {
                detach_body(&mut lww.body);
            }
            for (_, live) in cell.dots.iter_mut().flat_map(|dots| dots.live.iter_mut()) {
                detach_body(&mut live.body);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kula_lattice::{Cell, Seal};
    use kula_testkit::lattice;
    use kula_types::{Actor, ColumnId, Dot, Timestamp};
    use proptest::prelude::*;

    const TABLE: TableId = TableId([1; 16]);

    fn key(bytes: &[u8]) -> PartitionKey {
        PartitionKey::copy_from(bytes)
    }

    fn join(memtable: &mut Memtable, sequence: u64, delta: Partition) {
        let mid = Dot::new(Actor(1), 0, sequence).unwrap();
        let mutation = Mutation { table: TABLE, token: Token(1), key: key(b"k"), mid, previous: sequence - 1, delta };
        let encoded = mutation.encode();
        let position = Position { segment: 1, offset: u32::try_from(sequence).unwrap() };
        memtable.join(position, Mutation::decode(&encoded).unwrap(), encoded.len());
    }

    fn put(row: u32, sequence: u64, body: Vec<u8>) -> Partition {
        let at = Key::of(Timestamp::from_micros(1).unwrap(), Dot::new(Actor(1), 0, sequence).unwrap());
        let cell = Cell::put(at, None, Bytes::from(body));
        let clustering = ClusteringKey::copy_from(&row.to_be_bytes());
        Partition::of_cell(clustering, CellId::simple(ColumnId(1)), cell)
    }

    proptest! {
        #![proptest_config(kula_testkit::property())]

        /// However few or many its rows, in whatever form they are kept.
        #[test]
        fn a_slice_is_the_clip_of_the_join(
            history in lattice::history(12),
            slice in lattice::slice(),
            rows in prop_oneof![Just(0u32), Just(100)],
        ) {
            let mut memtable = Memtable::default();
            let mut whole = Partition::default();
            let wide = (0..rows).map(|row| put(row, u64::from(row) + 1, vec![7]));
            for (sequence, delta) in (1..).zip(wide.chain(history.deltas().cloned())) {
                whole.join(delta.clone());
                join(&mut memtable, sequence, delta);
            }
            let found = memtable.get(TABLE, Token(1), &key(b"k"), &slice).unwrap_or_default();
            let digest = |partition: Partition| partition.pruned().digest(None, Seal::NONE);
            prop_assert_eq!(digest(found), digest(whole.clip(&slice)));
            prop_assert!(memtable.get(TABLE, Token(1), &key(b"other"), &slice).is_none());
        }
    }

    #[test]
    fn overwriting_does_not_grow_what_is_counted_and_rows_do() {
        let mut memtable = Memtable::default();
        join(&mut memtable, 1, put(0, 1, vec![0; 1_000]));
        let one = memtable.heap_bytes();
        assert!((1_000..3_000).contains(&one), "{one}");
        for sequence in 2..100 {
            join(&mut memtable, sequence, put(0, sequence, vec![0; 1_000]));
        }
        assert_eq!(memtable.heap_bytes(), one);
        for sequence in 100..200 {
            join(&mut memtable, sequence, put(u32::try_from(sequence).unwrap(), sequence, vec![0; 1_000]));
        }
        assert!(memtable.heap_bytes() > 100 * 1_000 + one && memtable.heap_bytes() < 100 * 3_000 + one);
    }

    #[test]
    fn a_small_value_does_not_keep_a_large_neighbour_alive() {
        let mut both = put(1, 1, vec![1; 10]);
        both.join(put(2, 1, vec![2; 100_000]));
        let mutation = Mutation {
            table: TABLE,
            token: Token(1),
            key: key(b"k"),
            mid: Dot::new(Actor(1), 0, 1).unwrap(),
            previous: 0,
            delta: both,
        };
        let encoded = mutation.encode();
        let decoded = Mutation::decode(&encoded).unwrap();
        let mut memtable = Memtable::default();
        memtable.join(Position { segment: 1, offset: 1 }, decoded, encoded.len());
        let body_of = |memtable: &Memtable, row: u32| {
            let slice = Slice::row(ClusteringKey::copy_from(&row.to_be_bytes()));
            let partition = memtable.get(TABLE, Token(1), &key(b"k"), &slice).unwrap();
            let row = partition.rows.values().next().unwrap();
            let lww = row.cells.values().next().unwrap().lww.clone().unwrap();
            lww.body.bytes().unwrap().clone()
        };
        let range = encoded.as_ptr_range();
        assert!(!range.contains(&body_of(&memtable, 1).as_ptr()));
        assert!(range.contains(&body_of(&memtable, 2).as_ptr()), "what is most of its mutation is not copied");
    }

    #[test]
    #[should_panic(expected = "log order")]
    fn records_out_of_order_are_our_own_mistake() {
        let mut memtable = Memtable::default();
        join(&mut memtable, 2, put(0, 2, vec![1]));
        join(&mut memtable, 1, put(0, 1, vec![1]));
    }
}
