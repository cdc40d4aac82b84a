//! The schema: facts about keyspaces and tables with their join, and the names derived from them.
//!
//! Facts are keyed by id. A fact only grows: unknown → alive → dropped, and a creation's time goes up. Names are not
//! facts: of several tables alive under one name the one created last has it (then the highest id), and the others keep
//! their data as `name@id`.

use crate::{
    canonical::Canonical,
    table::{Column, Table, TableOptions},
};
use kula_lattice::Join;
use kula_types::{Name, TableId, Timestamp};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// A keyspace: 128-bit hash of (name, generation). Never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyspaceId(pub [u8; 16]);

/// A keyspace as it is defined. How it is replicated stands in the ring.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keyspace {
    pub id: KeyspaceId,
    pub name: Name,
    /// How many keyspaces of this name were dropped before it.
    pub generation: u64,
    /// When it was created; of several creations of one id the latest.
    pub created: Timestamp,
}

/// A name that means nothing here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    #[error("there is no keyspace {keyspace:?}")]
    UnknownKeyspace { keyspace: String },
    #[error("keyspace {keyspace:?} has no table {table:?}")]
    UnknownTable { keyspace: String, table: String },
}

/// A hash of all facts: equal exactly when two nodes know the same schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct SchemaDigest(pub u128);

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct KeyspaceFact {
    pub(crate) keyspace: Keyspace,
    pub(crate) dropped: bool,
}

/// What remains of a dropped table: enough that its id never returns and the next of its name counts on from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DroppedTable {
    pub(crate) keyspace: KeyspaceId,
    pub(crate) name: Name,
    pub(crate) generation: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum TableFact {
    Alive(Arc<Table>),
    Dropped(DroppedTable),
}

/// What a node knows of keyspaces and tables. `Default` knows nothing: the bottom of the lattice.
#[derive(Clone, Default)]
pub struct Schema {
    pub(crate) keyspaces: BTreeMap<KeyspaceId, KeyspaceFact>,
    pub(crate) tables: BTreeMap<TableId, TableFact>,
    /// Derived from the facts by `index`, after every change.
    names: BTreeMap<String, Tables>,
}

/// A keyspace under its shown name, its tables under theirs.
#[derive(Clone)]
struct Tables {
    keyspace: Keyspace,
    tables: BTreeMap<String, Arc<Table>>,
}

impl KeyspaceId {
    pub fn of(name: &Name, generation: u64) -> KeyspaceId {
        let hash = Canonical::of("kula.keyspace").text(name.as_str()).number(generation).hash_128();
        KeyspaceId(hash.to_be_bytes())
    }
}

impl TableFact {
    pub(crate) fn keyspace_id(&self) -> KeyspaceId {
        match self {
            TableFact::Alive(table) => table.keyspace_id(),
            TableFact::Dropped(dropped) => dropped.keyspace,
        }
    }

    pub(crate) fn name(&self) -> (&Name, u64) {
        match self {
            TableFact::Alive(table) => (&table.name, table.generation),
            TableFact::Dropped(dropped) => (&dropped.name, dropped.generation),
        }
    }

    fn join(&mut self, other: TableFact) {
        match (&mut *self, other) {
            (TableFact::Dropped(_), _) => (),
            (_, other @ TableFact::Dropped(_)) => *self = other,
            (TableFact::Alive(mine), TableFact::Alive(theirs)) => {
                if *mine != theirs {
                    join_definitions(Arc::make_mut(mine), &theirs);
                }
            }
        }
    }
}

/// Two definitions of one id differ only in what the id does not hash: when each was created, which columns it has,
/// what its clustering columns are called, and options.
fn join_definitions(mine: &mut Table, theirs: &Table) {
    mine.created = mine.created.max(theirs.created);
    if theirs.clustering > mine.clustering {
        mine.clustering.clone_from(&theirs.clustering);
    }
    if theirs.options > mine.options {
        mine.options = theirs.options.clone();
    }
    let mut columns: BTreeMap<_, Column> = mine.columns.drain(..).map(|column| (column.id, column)).collect();
    for column in &theirs.columns {
        let known = columns.entry(column.id).or_insert_with(|| column.clone());
        if column > known {
            *known = column.clone();
        }
    }
    mine.columns = columns.into_values().collect();
}

impl Join for Schema {
    fn join(&mut self, other: Schema) {
        for (id, theirs) in other.keyspaces {
            let mine = self.keyspaces.entry(id).or_insert_with(|| theirs.clone());
            mine.keyspace.created = mine.keyspace.created.max(theirs.keyspace.created);
            mine.dropped |= theirs.dropped;
        }
        for (id, theirs) in other.tables {
            match self.tables.get_mut(&id) {
                Some(mine) => mine.join(theirs),
                None => drop(self.tables.insert(id, theirs)),
            }
        }
        self.index();
    }
}

impl Schema {
    pub(crate) fn from_facts(
        keyspaces: BTreeMap<KeyspaceId, KeyspaceFact>,
        tables: BTreeMap<TableId, TableFact>,
    ) -> Schema {
        let mut schema = Schema { keyspaces, tables, names: BTreeMap::new() };
        schema.index();
        schema
    }

    /// The table that a user means: by name, or `name@id` for one that lost its name to a twin.
    pub fn resolve(&self, keyspace: &str, table: &str) -> Result<Arc<Table>, ResolveError> {
        let Some(found) = self.names.get(keyspace) else {
            return Err(ResolveError::UnknownKeyspace { keyspace: keyspace.into() });
        };
        match found.tables.get(table) {
            Some(table) => Ok(table.clone()),
            None => Err(ResolveError::UnknownTable { keyspace: keyspace.into(), table: table.into() }),
        }
    }

    /// The table with this id, if it is known and not dropped.
    pub fn table(&self, id: TableId) -> Option<&Arc<Table>> {
        match self.tables.get(&id)? {
            TableFact::Alive(table) if self.is_alive(table.keyspace_id()) => Some(table),
            _ => None,
        }
    }

    /// Whether the table with this id was dropped, alone or with its keyspace. An id never returns: this stays so.
    pub fn is_dropped(&self, id: TableId) -> bool {
        match self.tables.get(&id) {
            Some(TableFact::Dropped(_)) => true,
            Some(TableFact::Alive(table)) => self.keyspaces.get(&table.keyspace_id()).is_some_and(|fact| fact.dropped),
            None => false,
        }
    }

    pub fn keyspace(&self, name: &str) -> Option<&Keyspace> {
        Some(&self.names.get(name)?.keyspace)
    }

    /// Every keyspace under the name it is shown by, in the order of names.
    pub fn keyspaces(&self) -> impl Iterator<Item = (&str, &Keyspace)> {
        self.names.iter().map(|(shown, tables)| (shown.as_str(), &tables.keyspace))
    }

    /// The tables of a keyspace under the names they are shown by, in their order; none if there is no such keyspace.
    pub fn tables_of(&self, keyspace: &str) -> impl Iterator<Item = (&str, &Arc<Table>)> {
        let tables = self.names.get(keyspace).into_iter().flat_map(|tables| tables.tables.iter());
        tables.map(|(shown, table)| (shown.as_str(), table))
    }

    /// Every table.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.names.values().flat_map(|tables| tables.tables.values())
    }

    /// The names under which tables are shown that lost theirs to a twin: (keyspace, `name@id`).
    pub fn twins(&self) -> impl Iterator<Item = (&str, &str)> {
        self.names.iter().flat_map(|(keyspace, tables)| {
            let lost = tables.tables.keys().filter(|shown| shown.contains('@'));
            lost.map(move |shown| (keyspace.as_str(), shown.as_str()))
        })
    }

    pub fn digest(&self) -> SchemaDigest {
        let mut hash = Canonical::of("kula.schema");
        for (id, fact) in &self.keyspaces {
            hash = hash
                .bytes(&id.0)
                .number(fact.keyspace.created.micros().cast_unsigned())
                .number(u64::from(fact.dropped));
        }
        for (id, fact) in &self.tables {
            hash = hash.bytes(&id.0);
            hash = match fact {
                TableFact::Dropped(_) => hash.text("dropped"),
                TableFact::Alive(table) => {
                    let names = table.clustering.iter().fold(hash.text("alive"), |hash, c| hash.text(c.name.as_str()));
                    let TableOptions {} = &table.options;
                    let columns = names.number(table.columns.len() as u64);
                    let columns = table.columns.iter().fold(columns, |hash, column| hash.number(column.id.0));
                    columns.number(table.created.micros().cast_unsigned())
                }
            };
        }
        SchemaDigest(hash.hash_128())
    }

    /// Definitions kept, dropped ones included.
    pub(crate) fn fact_count(&self) -> usize {
        self.keyspaces.len() + self.tables.len()
    }

    fn is_alive(&self, keyspace: KeyspaceId) -> bool {
        self.keyspaces.get(&keyspace).is_some_and(|fact| !fact.dropped)
    }

    /// Derives the names from the facts.
    fn index(&mut self) {
        let alive = |fact: &KeyspaceFact| (!fact.dropped).then(|| fact.keyspace.clone());
        let mut by_id: BTreeMap<KeyspaceId, Tables> = BTreeMap::new();
        for keyspace in self.keyspaces.values().filter_map(alive) {
            by_id.insert(keyspace.id, Tables { keyspace, tables: BTreeMap::new() });
        }
        let mut tables: BTreeMap<KeyspaceId, Vec<Arc<Table>>> = BTreeMap::new();
        for fact in self.tables.values() {
            if let TableFact::Alive(table) = fact {
                tables.entry(table.keyspace_id()).or_default().push(table.clone());
            }
        }
        for (id, tables) in tables {
            if let Some(keyspace) = by_id.get_mut(&id) {
                keyspace.tables = named(tables, |table| (&table.name, table.created, table.id.0));
            }
        }
        self.names = named(by_id.into_values().collect(), |tables| {
            (&tables.keyspace.name, tables.keyspace.created, tables.keyspace.id.0)
        });
    }
}

/// Gives each its shown name: the plain one to the latest created (then the highest id), `name@id` to the others.
fn named<T>(mut definitions: Vec<T>, of: impl Fn(&T) -> (&Name, Timestamp, [u8; 16])) -> BTreeMap<String, T> {
    definitions.sort_by(|a, b| of(b).cmp(&of(a)));
    let mut shown: BTreeMap<String, T> = BTreeMap::new();
    for definition in definitions {
        let (name, _, id) = of(&definition);
        let plain = name.to_string();
        let name = if shown.contains_key(&plain) { format!("{plain}@{}", TableId(id)) } else { plain };
        shown.insert(name, definition);
    }
    shown
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.keyspaces == other.keyspaces && self.tables == other.tables
    }
}

impl Eq for Schema {}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").field("keyspaces", &self.keyspaces).field("tables", &self.tables).finish()
    }
}

impl fmt::Debug for KeyspaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for KeyspaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for SchemaDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
