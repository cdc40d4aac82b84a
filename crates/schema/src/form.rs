//! The stored form of a schema, kept apart from the value in memory.
//!
//! Ids are stored and checked against their definitions: a file that says otherwise is damaged. Unknown fields are
//! refused rather than dropped, for a schema that is half understood must not be written back.

#![doc = include_str!("../../../docs/format/schema.md")]

use crate::{
    limits,
    schema::{DroppedTable, Keyspace, KeyspaceFact, KeyspaceId, Schema, TableFact},
    table::{Clustering, Column, ColumnKind, ColumnType, Table, TableKind, TableOptions},
};
use kula_types::{ColumnId, Name, TableId, Timestamp};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// The version of this form; the state file that holds it carries it in its frame.
pub const VERSION: u32 = 1;

/// Why stored bytes are no schema, or a schema cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum SchemaFormError {
    #[error("the stored schema does not parse: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("the stored schema contradicts itself: {what}")]
    Contradiction { what: &'static str },
    #[error("a schema of {bytes} bytes is past what a node keeps ({max} bytes)", max = limits::FORM_BYTES_MAX)]
    TooLarge { bytes: usize },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SchemaForm {
    keyspaces: Vec<KeyspaceForm>,
    tables: Vec<TableForm>,
    dropped_tables: Vec<DroppedForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyspaceForm {
    id: Hex,
    name: Name,
    generation: u64,
    created: i64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    dropped: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableForm {
    id: Hex,
    keyspace: Name,
    keyspace_generation: u64,
    name: Name,
    kind: TableKind,
    generation: u64,
    created: i64,
    key_type: ColumnType,
    clustering: Vec<Clustering>,
    columns: Vec<ColumnForm>,
    options: TableOptions,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ColumnForm {
    id: ShortHex,
    name: Name,
    generation: u64,
    kind: ColumnKind,
    #[serde(rename = "type")]
    ty: ColumnType,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DroppedForm {
    id: Hex,
    keyspace: Hex,
    name: Name,
    generation: u64,
}

/// Sixteen bytes as 32 hexadecimal digits.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Hex([u8; 16]);

/// A column's id as 16 hexadecimal digits.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct ShortHex(u64);

/// The bytes to store.
pub fn encode(schema: &Schema) -> Result<Vec<u8>, SchemaFormError> {
    let mut form = SchemaForm { keyspaces: Vec::new(), tables: Vec::new(), dropped_tables: Vec::new() };
    for KeyspaceFact { keyspace, dropped } in schema.keyspaces.values() {
        let Keyspace { id, name, generation, created } = keyspace.clone();
        form.keyspaces.push(KeyspaceForm {
            id: Hex(id.0),
            name,
            generation,
            created: created.micros(),
            dropped: *dropped,
        });
    }
    for (id, fact) in &schema.tables {
        match fact {
            TableFact::Alive(table) => form.tables.push(table_form(table)),
            TableFact::Dropped(DroppedTable { keyspace, name, generation }) => form.dropped_tables.push(DroppedForm {
                id: Hex(id.0),
                keyspace: Hex(keyspace.0),
                name: name.clone(),
                generation: *generation,
            }),
        }
    }
    let bytes = serde_json::to_vec(&form)?;
    match bytes.len() {
        ..=limits::FORM_BYTES_MAX => Ok(bytes),
        bytes => Err(SchemaFormError::TooLarge { bytes }),
    }
}

/// The schema in stored bytes.
pub fn decode(bytes: &[u8]) -> Result<Schema, SchemaFormError> {
    if bytes.len() > limits::FORM_BYTES_MAX {
        return Err(SchemaFormError::TooLarge { bytes: bytes.len() });
    }
    let form: SchemaForm = serde_json::from_slice(bytes)?;
    let (mut keyspaces, mut tables) = (BTreeMap::new(), BTreeMap::new());
    for keyspace in form.keyspaces {
        let dropped = keyspace.dropped;
        let keyspace = keyspace_of(keyspace)?;
        let twice = keyspaces.insert(keyspace.id, KeyspaceFact { keyspace, dropped });
        check("a keyspace is there twice", twice.is_none())?;
    }
    for table in form.tables {
        let table = table_of(table)?;
        let twice = tables.insert(table.id, TableFact::Alive(Arc::new(table)));
        check("a table is there twice", twice.is_none())?;
    }
    for DroppedForm { id, keyspace, name, generation } in form.dropped_tables {
        let dropped = DroppedTable { keyspace: KeyspaceId(keyspace.0), name, generation };
        let twice = tables.insert(TableId(id.0), TableFact::Dropped(dropped));
        check("a dropped table is there twice", twice.is_none())?;
    }
    check("there are more definitions than a schema keeps", keyspaces.len() + tables.len() <= limits::FACTS_MAX)?;
    Ok(Schema::from_facts(keyspaces, tables))
}

fn table_form(table: &Table) -> TableForm {
    let column = |column: &Column| ColumnForm {
        id: ShortHex(column.id.0),
        name: column.name.clone(),
        generation: column.generation,
        kind: column.kind,
        ty: column.ty,
    };
    TableForm {
        id: Hex(table.id.0),
        keyspace: table.keyspace.clone(),
        keyspace_generation: table.keyspace_generation,
        name: table.name.clone(),
        kind: table.kind,
        generation: table.generation,
        created: table.created.micros(),
        key_type: table.key_type,
        clustering: table.clustering.clone(),
        columns: table.columns.iter().map(column).collect(),
        options: table.options.clone(),
    }
}

fn keyspace_of(form: KeyspaceForm) -> Result<Keyspace, SchemaFormError> {
    let id = KeyspaceId::of(&form.name, form.generation);
    check("a keyspace has not the id of its name", id.0 == form.id.0)?;
    Ok(Keyspace { id, name: form.name, generation: form.generation, created: timestamp(form.created)? })
}

fn table_of(form: TableForm) -> Result<Table, SchemaFormError> {
    check("a table has too many columns", form.columns.len() <= limits::COLUMNS_MAX)?;
    check("a table has too many clustering columns", form.clustering.len() <= limits::CLUSTERING_MAX)?;
    let id = TableId(form.id.0);
    let mut columns = Vec::with_capacity(form.columns.len());
    for ColumnForm { id: column_id, name, generation, kind, ty } in form.columns {
        let column = Column::new(id, name, generation, kind, ty);
        check("a column has not the id of its definition", column.id == ColumnId(column_id.0))?;
        check("columns are sorted by id", columns.last().is_none_or(|last: &Column| last.id < column.id))?;
        columns.push(column);
    }
    let table = Table {
        id,
        keyspace: form.keyspace,
        keyspace_generation: form.keyspace_generation,
        name: form.name,
        kind: form.kind,
        generation: form.generation,
        created: timestamp(form.created)?,
        key_type: form.key_type,
        clustering: form.clustering,
        columns,
        options: form.options,
    };
    check("a table has not the id of its definition", table.expected_id() == id)?;
    Ok(table)
}

fn timestamp(micros: i64) -> Result<Timestamp, SchemaFormError> {
    Timestamp::from_micros(micros).map_err(|_| SchemaFormError::Contradiction { what: "a creation has no time" })
}

fn check(what: &'static str, holds: bool) -> Result<(), SchemaFormError> {
    if holds { Ok(()) } else { Err(SchemaFormError::Contradiction { what }) }
}

impl From<Hex> for String {
    fn from(hex: Hex) -> String {
        TableId(hex.0).to_string()
    }
}

impl TryFrom<String> for Hex {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Hex, &'static str> {
        match u128::from_str_radix(&text, 16) {
            Ok(number) if text.len() == 32 && !text.starts_with('+') => Ok(Hex(number.to_be_bytes())),
            _ => Err("an id is 32 hexadecimal digits"),
        }
    }
}

impl From<ShortHex> for String {
    fn from(hex: ShortHex) -> String {
        format!("{:016x}", hex.0)
    }
}

impl TryFrom<String> for ShortHex {
    type Error = &'static str;

    fn try_from(text: String) -> Result<ShortHex, &'static str> {
        match u64::from_str_radix(&text, 16) {
            Ok(number) if text.len() == 16 && !text.starts_with('+') => Ok(ShortHex(number)),
            _ => Err("a column's id is 16 hexadecimal digits"),
        }
    }
}
