//! The bytes of a mutation: what is written is read, one value has one form, any bytes are survived (property 6).

use bytes::Bytes;
use kula_lattice::{
    Body, Cell, CellId, Context, DecodeError, Mutation, NewSibling, OpId, Partition, RangeFloors, Row, SortedMap,
    codec::{self, Input},
};
use kula_testkit::{lattice, property};
use kula_types::{Actor, ClusteringKey, ColumnId, Dot, Key, PartitionKey, TableId, Timestamp, Token, limits};
use proptest::{collection::vec, prelude::*, sample::Index};
use std::ops::Bound;

/// Property 6, and the others a decoded value must have.
fn sound(mutation: &Mutation) -> bool {
    let statics = mutation.delta.statics.iter().map(|statics| &**statics);
    let cells = mutation.delta.rows.values().chain(statics).flat_map(|row| row.cells.values());
    cells.filter_map(|cell| cell.dots.as_ref()).all(|dots| dots.unseen().is_none())
}

/// If bytes decode at all, they are the one form of what they say.
fn one_form(bytes: Bytes) -> Result<(), TestCaseError> {
    if let Ok(mutation) = Mutation::decode(&bytes) {
        prop_assert!(sound(&mutation));
        prop_assert_eq!(mutation.encode(), bytes);
    }
    Ok(())
}

proptest! {
    #![proptest_config(property())]

    #[test]
    fn a_mutation_reads_as_it_was_written(mutation in lattice::mutation()) {
        let bytes = mutation.encode();
        prop_assert_eq!(Mutation::decode(&bytes), Ok(mutation));
    }

    #[test]
    fn rows_and_heads_stand_alone(partition in lattice::partition()) {
        let mut out = Vec::new();
        codec::encode_partition_head(&partition, &mut out);
        for row in partition.rows.values() {
            codec::encode_row(row, &mut out);
        }
        let bytes = Bytes::from(out);
        let mut input = Input::new(&bytes);
        let head = Partition { rows: SortedMap::new(), ..partition.clone() };
        prop_assert_eq!(codec::decode_partition(&mut input), Ok(head));
        for row in partition.rows.values() {
            let decoded = codec::decode_row(&mut input);
            prop_assert_eq!(decoded.as_ref(), Ok(row));
        }
        prop_assert_eq!(input.finish(), Ok(()));
    }

    #[test]
    fn bottom_entries_are_not_written(partition in lattice::partition(), at in lattice::clustering(), id in lattice::cell_id()) {
        let mut padded = partition.clone();
        padded.rows.get_or_default(at).cells.get_or_default(id);
        padded.statics.get_or_insert_default();
        let mut out = Vec::new();
        codec::encode_partition(&padded, &mut out);
        prop_assert_eq!(codec::decode_partition(&mut Input::new(&Bytes::from(out))), Ok(partition.clone()));
        prop_assert_eq!(padded.pruned(), partition);
    }

    #[test]
    fn a_cut_mutation_is_an_error(mutation in lattice::mutation(), cut in any::<Index>()) {
        let bytes = mutation.encode();
        let cut = cut.index(bytes.len());
        prop_assert!(Mutation::decode(&bytes.slice(..cut)).is_err());
        let longer = Bytes::from([&bytes[..], &[0]].concat());
        prop_assert!(Mutation::decode(&longer).is_err());
    }

    // Promise: P19
    #[test]
    fn changed_bytes_are_an_error_or_another_value(
        mutation in lattice::mutation(), changes in vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = mutation.encode().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        one_form(Bytes::from(bytes))?;
    }

    // Promise: P19
    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..300)) {
        one_form(Bytes::from(bytes.clone()))?;
        // Past the head, small numbers reach further into the format.
        let mutation = Mutation { delta: Partition::default(), ..tiny(Partition::default()) };
        let mut head = mutation.encode().to_vec();
        head.pop();
        head.extend(bytes.iter().map(|byte| byte % 16));
        one_form(Bytes::from(head))?;
    }
}

fn ts(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).expect("a timestamp")
}

fn dot(seq: u64) -> Dot {
    Dot::new(Actor(0x0102_0304_0506_0708), 0, seq).expect("a dot")
}

fn tiny(delta: Partition) -> Mutation {
    let (table, token, key) = (TableId([0xaa; 16]), Token(-2), PartitionKey::copy_from(b"k"));
    Mutation { table, token, key, mid: dot(300), previous: 299, delta }
}

fn one_cell(cell: Cell) -> Mutation {
    tiny(Partition::of_cell(ClusteringKey::default(), CellId::simple(ColumnId(0x1122)), cell))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Version, table, token, key, mid, previous: the same for all of them.
const HEAD: &str = "01aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa7ffffffffffffffe016b080706050403020100ac0201";
/// Rows: one, empty clustering key; cells: one.
const ONE_CELL: &str = "0801000801";

#[track_caller]
fn golden(mutation: &Mutation, body: &str) {
    let bytes = mutation.encode();
    assert_eq!(hex(&bytes), format!("{HEAD}{body}"));
    assert_eq!(Mutation::decode(&bytes).as_ref(), Ok(mutation));
}

#[test]
fn golden_bytes_of_an_lww_put() {
    let put = Cell::put(Key::of(ts(1_000_000), dot(300)), None, Bytes::from_static(b"hi"));
    golden(&one_cell(put), &format!("{ONE_CELL}0122110000000000000140420f00000000000807060504030201ac02026869"));
}

#[test]
fn golden_bytes_of_an_expiring_lww_put_with_its_marker() {
    let key = Key::of(ts(1), dot(300));
    let put = Cell::put(key, Some(ts(2)), Bytes::from_static(b"v"));
    let marker = Cell::put(key, Some(ts(2)), Bytes::new()).lww;
    let row = Row { marker, ..Row::of_cell(CellId::simple(ColumnId(1)), put) };
    let body =
        "0801000a0901000000000000000807060504030201ac02020000000000000000010101000000000000000802000000000000000176";
    golden(&tiny(Partition::of_row(ClusteringKey::default(), row)), body);
}

#[test]
fn golden_bytes_of_a_delete() {
    golden(&one_cell(Cell::delete(ts(-1))), &format!("{ONE_CELL}02221100000000000003ffffffffffffffff"));
}

#[test]
fn golden_bytes_of_a_causal_put() {
    let context = Context { dots: vec![(dot(7), 3)], lww: None };
    let op_id = Some(OpId([0xcc; 16]));
    let value = NewSibling { hlc: ts(5), op_id, exp: Some(ts(6)), body: Bytes::from_static(b"x") };
    let put = Cell::causal_put(&context, dot(300), 298, value);
    let seen = "010807060504030201040304a30202";
    let live = format!("010600ac02020500000000000000{}06000000000000000178", "cc".repeat(16));
    let expected = format!("{ONE_CELL}042211000000000000{seen}{live}");
    golden(&one_cell(put), &expected);
}

#[test]
fn golden_bytes_of_a_causal_delete_that_saw_a_value() {
    let context = Context { dots: vec![(dot(299), 298)], lww: Some(Key::of(ts(5), dot(2))) };
    let delete = Cell::causal_delete(&context, dot(300), 299);
    let floor = "0105000000000000000807060504030201".to_string() + "02";
    golden(&one_cell(delete), &format!("{ONE_CELL}062211000000000000{floor}01080706050403020102aa020200"));
}

#[test]
fn golden_bytes_of_row_range_collection_static_and_partition_deletes() {
    let delete = Some(Key::delete_at(ts(9)));
    let mut ranges = RangeFloors::new();
    ranges.cover(
        Bound::Excluded(ClusteringKey::copy_from(b"a")),
        Bound::Excluded(ClusteringKey::copy_from(b"c")),
        Key::delete_at(ts(10)),
    );
    let collections = SortedMap::one(ColumnId(3), Key::before(ts(9), dot(300)));
    let row = Row { floor: delete, collections, ..Row::default() };
    let statics = Row::of_cell(CellId::element(ColumnId(4), Bytes::from_static(b"p")), Cell::delete(ts(9)));
    let partition = Partition {
        floor: delete,
        statics: Some(Box::new(statics)),
        ranges,
        rows: SortedMap::one(ClusteringKey::copy_from(b"b"), row),
    };
    let floor = "030900000000000000";
    let statics = format!("08011204000000000000000170{floor}");
    let ranges = "02026100030a00000000000000016304";
    let row = format!("01016205{floor}01030000000000000001090000000000000008070605040302 01ab02").replace(' ', "");
    golden(&tiny(partition), &format!("0f{floor}{statics}{ranges}{row}"));
}

#[test]
fn golden_bytes_of_a_stub() {
    let mut put = Cell::put(Key::of(ts(1), dot(300)), Some(ts(2)), Bytes::from_static(b"v"));
    put.lww.as_mut().expect("a value").body = Body::Stub;
    let expected = format!("{ONE_CELL}0122110000000000000d01000000000000000807060504030201ac020200000000000000");
    golden(&one_cell(put), &expected);
}

#[test]
fn the_counter_tag_is_reserved_and_unknown_tags_are_errors() {
    let bytes = one_cell(Cell::delete(ts(1))).encode();
    let flags_at = HEAD.len() / 2 + ONE_CELL.len() / 2;
    let with = |flags: u8| {
        let mut changed = bytes.to_vec();
        changed[flags_at] = flags;
        Mutation::decode(&Bytes::from(changed))
    };
    assert!(with(2).is_ok());
    assert_eq!(with(2 | 8), Err(DecodeError::Counter { at: flags_at }));
    assert_eq!(with(2 | 64), Err(DecodeError::Tag { part: "cell", found: 66, at: flags_at }));
    let mut newer = bytes.to_vec();
    newer[0] = 2;
    assert_eq!(Mutation::decode(&Bytes::from(newer)), Err(DecodeError::Version { found: 2 }));
}

#[test]
fn a_live_dot_that_was_never_seen_is_refused() {
    let value = NewSibling { hlc: ts(5), op_id: None, exp: None, body: Bytes::new() };
    let bytes = one_cell(Cell::causal_put(&Context::default(), dot(300), 299, value)).encode();
    // The last run's length, 1, becomes that of a dot below: prev 299 is written as (ab02), seq as +1.
    let mut changed = bytes.to_vec();
    let prev_at = bytes.len() - 1 - 8 - 1 - 2 - 1 - 1 - 1 - 1 - 2;
    assert_eq!(changed[prev_at..prev_at + 3], [0xab, 0x02, 0x01]);
    changed[prev_at] = 0xaa;
    assert_eq!(Mutation::decode(&Bytes::from(changed)), Err(DecodeError::LiveNotSeen { dot: dot(300) }));
}

#[test]
fn what_is_over_its_limit_is_refused() {
    let mut long = one_cell(Cell::delete(ts(1)));
    long.key = PartitionKey(Bytes::from(vec![0; limits::KEY_BYTES_MAX + 1]));
    let refused = Mutation::decode(&long.encode());
    assert!(matches!(refused, Err(DecodeError::TooLong { part: "partition key", .. })), "{refused:?}");
    let huge = Cell::put(Key::delete_at(ts(1)), None, Bytes::from(vec![0; limits::MUTATION_BYTES_MAX]));
    let refused = Mutation::decode(&one_cell(huge).encode());
    assert!(matches!(refused, Err(DecodeError::TooLong { part: "mutation", .. })), "{refused:?}");
    let longest = Cell::put(Key::delete_at(ts(1)), None, Bytes::from(vec![0; limits::VALUE_BYTES_MAX]));
    assert!(Mutation::decode(&one_cell(longest).encode()).is_ok());
}

#[test]
fn bodies_and_keys_are_slices_of_the_input() {
    let bytes = one_cell(Cell::put(Key::of(ts(1), dot(1)), None, Bytes::from(vec![7; 1000]))).encode();
    let mutation = Mutation::decode(&bytes).expect("its own bytes");
    let inside = |slice: &Bytes| bytes.as_ptr_range().contains(&slice.as_ptr());
    let row = mutation.delta.rows.values().next().expect("a row");
    let body = row.cells.values().next().and_then(|cell| cell.lww.as_ref()).and_then(|lww| lww.body.bytes());
    assert!(inside(&mutation.key.0) && inside(body.expect("a body")));
}

/// A second form of something that has one, or a list out of order.
#[track_caller]
fn refused(body: &str, part: &str) {
    let text = format!("{HEAD}{body}").replace(' ', "");
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    let bytes: Vec<u8> = digits.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect();
    match Mutation::decode(&Bytes::from(bytes)) {
        Err(DecodeError::Form { part: found, .. } | DecodeError::Order { part: found, .. }) => assert_eq!(found, part),
        other => panic!("{other:?}"),
    }
}

const ACTOR: &str = "0807060504030201";
const COLUMN: &str = "2211000000000000";
const DELETE: &str = "030900000000000000";

#[test]
fn a_key_has_one_form() {
    refused(&format!("08010009 {DELETE} 01 02{COLUMN} {DELETE}"), "key");
    refused(&format!("{ONE_CELL} 02{COLUMN} 00"), "key");
    refused(&format!("{ONE_CELL} 02{COLUMN} 020900000000000000{ACTOR}0002"), "key");
}

#[test]
fn a_cell_has_one_form() {
    refused(&format!("{ONE_CELL} 00{COLUMN}"), "cell");
    refused(&format!("{ONE_CELL} 12{COLUMN} 00 {DELETE}"), "cell");
    refused(&format!("08010008 02 02{COLUMN}{DELETE} 12{COLUMN}0161 00"), "cell");
    refused(&format!("{ONE_CELL} 22 00 00 00"), "cell");
    refused(&format!("08010008 02 12{COLUMN}0162{DELETE} 32016100"), "cells");
}

#[test]
fn a_partition_has_one_form() {
    refused("08 00", "list of rows");
    refused("08 01 00 00", "empty row");
    refused("08 01 00 08 00", "cells");
    refused(&format!("08 02 0161 01{DELETE} 0161 01{DELETE}"), "rows");
    refused("04 00", "list of range floors");
    refused("04 01 00 04", "range floors");
    refused(&format!("04 02 0161{DELETE} 016200"), "range floors");
}

#[test]
fn a_dot_store_has_one_form() {
    let dots = |dots: &str| format!("{ONE_CELL} 04{COLUMN} {dots}");
    // One actor twice; an epoch that is 0 written out; runs that touch; no actor at all; live dots out of order.
    refused(&dots(&format!("02 {ACTOR}02 0001 {ACTOR}02 0201 00")), "seen set");
    refused(&dots(&format!("01 {ACTOR}03 000001 00")), "seen set");
    refused(&dots(&format!("01 {ACTOR}04 0001 0001 00")), "seen set");
    refused(&dots(&format!("00 {}", "00".repeat(12))), "seen set");
    let live = |flags: &str, seq: &str| format!("{flags} 00 {seq} 01 {} 00", "00".repeat(8));
    refused(&dots(&format!("01 {ACTOR}02 0002 02 {} {}", live("00", "02"), live("00", "01"))), "siblings");
    refused(&dots(&format!("01 {ACTOR}02 0002 01 {}", live("08", "0001"))), "sibling");
    refused(&dots(&format!("01 {ACTOR}02 0002 01 00 01 01 01 {} 00", "00".repeat(8))), "sibling");
}
