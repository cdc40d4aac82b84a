//! Words that people and requests bring: consistency levels, names, settings, ids; and the names of files.
//!
//! Promise: P19

use crate::{input::Input, meter::Meter, target};
use bytes::Bytes;
use kula_placement::{Mode, Partitioner, ReadRepair};
use kula_schema::TableKind;
use kula_storage::engine::sstable::{Component, FileId};
use kula_types::{Consistency, Name};
use std::{fmt::Display, str::FromStr};

/// A lower-case copy, and an error that quotes the word.
const FACTOR: usize = 4;

fn words() -> Vec<Bytes> {
    let file = FileId([0xa5; 16]);
    let files = Component::ALL.map(|component| component.file_name("", file));
    let known = ["any", "one", "quorum", "local_quorum", "17", "255", "kv", "a_b9", "murmur3", "md5", "strict"];
    let more = ["sloppy", "blocking", "background", "off", "lww", "causal"];
    let texts = known.into_iter().chain(more).map(String::from).chain(files);
    texts.map(Bytes::from).collect()
}

/// What parses prints as something that parses to the same.
fn parses<T: FromStr + Display + PartialEq>(text: &str) -> bool {
    let Ok(value) = text.parse::<T>() else { return false };
    assert!(value.to_string().parse::<T>().is_ok_and(|again| again == value), "{text}");
    true
}

fn word(input: &Input, meter: &Meter) -> bool {
    let text = String::from_utf8_lossy(&input.bytes);
    meter.bounded(text.len(), FACTOR, || {
        let words = [
            parses::<Consistency>(&text),
            parses::<Name>(&text),
            parses::<Partitioner>(&text),
            parses::<Mode>(&text),
            parses::<ReadRepair>(&text),
            parses::<TableKind>(&text),
        ];
        let file = Component::parse_file_name(&text);
        assert!(file.is_none_or(|(file, component)| component.file_name("", file) == text));
        words.contains(&true) || file.is_some()
    })
}

target!(a_word_of_any_bytes, 1, words(), word);
