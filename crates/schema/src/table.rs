//! A table's definition and its deterministic ids.
//!
//! Two nodes that create the same table apart from each other make the same id, so their data is one table's when they
//! meet. Cells carry column ids, never names; no type is altered in place; a dropped id never returns (the generation
//! of a name goes up instead).

use crate::{canonical::Canonical, schema::KeyspaceId};
use kula_types::{ColumnId, Name, TableId, Timestamp};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The column that stands for a row's own existence. Reserved: no column ever has this id.
pub const ROW_MARKER: ColumnId = ColumnId(0);

/// Who decides between two writes of one cell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableKind {
    /// The later timestamp.
    Lww,
    /// The reader: concurrent writes are kept as siblings until one with their context replaces them.
    Causal,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    Blob,
    Text,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnKind {
    Regular,
    /// One for the whole partition.
    Static,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    Ascending,
    Descending,
}

/// A column that orders the rows of a partition.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clustering {
    pub name: Name,
    #[serde(rename = "type")]
    pub ty: ColumnType,
    pub order: Order,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Column {
    pub id: ColumnId,
    pub name: Name,
    /// How many columns of this name were dropped before it.
    pub generation: u64,
    pub kind: ColumnKind,
    pub ty: ColumnType,
}

/// Settings of a table that change how it behaves, not what its bytes mean. There is none yet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableOptions {}

/// Why an option was refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    #[error("the table option {option} is not there yet")]
    NotThereYet { option: String },
    #[error("there is no table option {option:?}")]
    Unknown { option: String },
}

impl TableOptions {
    /// From `K=V` pairs as users give them. None is known yet, so each is refused by name rather than ignored.
    pub fn parse<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<TableOptions, OptionError> {
        match pairs.into_iter().next() {
            None => Ok(TableOptions::default()),
            Some((option @ ("lww_collapse" | "default_ttl"), _)) => {
                Err(OptionError::NotThereYet { option: option.into() })
            }
            Some((option, _)) => Err(OptionError::Unknown { option: option.chars().take(48).collect() }),
        }
    }
}

/// A table as it is defined. The data of two tables never meets unless their ids are equal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    pub id: TableId,
    pub keyspace: Name,
    /// The generation of the keyspace it belongs to: a keyspace of the same name made later is another one.
    pub keyspace_generation: u64,
    pub name: Name,
    pub kind: TableKind,
    /// How many tables of this name the keyspace dropped before it.
    pub generation: u64,
    /// When it was created; of several creations of one id the latest. Decides between tables of one name.
    pub created: Timestamp,
    pub key_type: ColumnType,
    pub clustering: Vec<Clustering>,
    /// Sorted by id.
    pub columns: Vec<Column>,
    pub options: TableOptions,
}

/// The one column that both simple forms have.
const VALUE: &str = "value";
/// The second column of a simple LWW table: what a client said its value is.
const CONTENT_TYPE: &str = "content_type";

impl Table {
    /// The column with the value: of a bucket, or of a simple LWW table.
    pub fn value_column(&self) -> ColumnId {
        column_id(self.id, VALUE, 0, ColumnType::Blob, ColumnKind::Regular)
    }

    /// The column with the value's content type. A bucket has none: its siblings carry it inside.
    pub fn content_type_column(&self) -> Option<ColumnId> {
        match self.kind {
            TableKind::Lww => Some(column_id(self.id, CONTENT_TYPE, 0, ColumnType::Text, ColumnKind::Regular)),
            TableKind::Causal => None,
        }
    }

    /// The id of the keyspace it belongs to.
    pub fn keyspace_id(&self) -> KeyspaceId {
        KeyspaceId::of(&self.keyspace, self.keyspace_generation)
    }

    /// The id that this definition has by rule; `id` is this for every table of a schema.
    pub(crate) fn expected_id(&self) -> TableId {
        let key = Canonical::of("kula.table")
            .text(self.keyspace.as_str())
            .number(self.keyspace_generation)
            .text(self.name.as_str())
            .number(self.generation)
            .number(code_of_kind(self.kind))
            .number(code_of_type(self.key_type))
            .number(self.clustering.len() as u64);
        // Types and order decide what the bytes of a clustering key mean; names may be changed and are not hashed.
        let parts = |hash: Canonical, c: &Clustering| hash.number(code_of_type(c.ty)).number(code_of_order(c.order));
        TableId(self.clustering.iter().fold(key, parts).hash_128().to_be_bytes())
    }

    /// The two simple forms: a bucket (key, value) whose writes are causal, or an LWW table (key, value, content type).
    pub(crate) fn simple(
        keyspace: (&Name, u64),
        name: Name,
        generation: u64,
        kind: TableKind,
        options: TableOptions,
        created: Timestamp,
    ) -> Table {
        let mut table = Table {
            id: TableId([0; 16]),
            keyspace: keyspace.0.clone(),
            keyspace_generation: keyspace.1,
            name,
            kind,
            generation,
            created,
            key_type: ColumnType::Blob,
            clustering: Vec::new(),
            columns: Vec::new(),
            options,
        };
        table.id = table.expected_id();
        let column = |name, ty| Column::new(table.id, built_in(name), 0, ColumnKind::Regular, ty);
        let mut columns = vec![column(VALUE, ColumnType::Blob)];
        if kind == TableKind::Lww {
            columns.push(column(CONTENT_TYPE, ColumnType::Text));
        }
        columns.sort_unstable_by_key(|column| column.id);
        table.columns = columns;
        table
    }
}

/// A name that stands in this room's code.
pub(crate) fn built_in(name: &'static str) -> Name {
    match name.parse() {
        Ok(name) => name,
        Err(error) => panic!("{name}: {error}"),
    }
}

impl Column {
    pub(crate) fn new(table: TableId, name: Name, generation: u64, kind: ColumnKind, ty: ColumnType) -> Column {
        Column { id: column_id(table, name.as_str(), generation, ty, kind), name, generation, kind, ty }
    }
}

pub(crate) fn column_id(table: TableId, name: &str, generation: u64, ty: ColumnType, kind: ColumnKind) -> ColumnId {
    let hash = Canonical::of("kula.column").bytes(&table.0).text(name).number(generation);
    let hash = hash.number(code_of_type(ty)).number(code_of_column_kind(kind)).hash_64();
    // The row marker's id is taken; the one name in 2^64 that hashes to it moves up.
    ColumnId(if hash == ROW_MARKER.0 { 1 } else { hash })
}

// The codes are part of every id: they are never changed and never reused.

fn code_of_type(ty: ColumnType) -> u64 {
    match ty {
        ColumnType::Blob => 1,
        ColumnType::Text => 2,
    }
}

fn code_of_kind(kind: TableKind) -> u64 {
    match kind {
        TableKind::Lww => 1,
        TableKind::Causal => 2,
    }
}

fn code_of_column_kind(kind: ColumnKind) -> u64 {
    match kind {
        ColumnKind::Regular => 1,
        ColumnKind::Static => 2,
    }
}

fn code_of_order(order: Order) -> u64 {
    match order {
        Order::Ascending => 1,
        Order::Descending => 2,
    }
}

/// Why a word is no kind of table. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is not a kind of table; kinds are lww and causal")]
pub struct TableKindError {
    pub word: String,
}

impl FromStr for TableKind {
    type Err = TableKindError;

    fn from_str(word: &str) -> Result<Self, TableKindError> {
        match word {
            "lww" => Ok(TableKind::Lww),
            "causal" => Ok(TableKind::Causal),
            other => Err(TableKindError { word: other.chars().take(32).collect() }),
        }
    }
}

impl fmt::Display for TableKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TableKind::Lww => "lww",
            TableKind::Causal => "causal",
        })
    }
}
