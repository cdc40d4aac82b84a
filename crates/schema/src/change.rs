//! Changes of a schema, each as the delta that joining brings about. Nothing here has a clock: `created` is given.

use crate::{
    limits,
    schema::{DroppedTable, Keyspace, KeyspaceFact, KeyspaceId, Schema, TableFact},
    table::{Table, TableKind, TableOptions, built_in},
};
use kula_types::{Name, Timestamp};
use std::{collections::BTreeMap, sync::Arc};

/// What a user asks of a new table of a simple form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableDefinition {
    pub name: Name,
    pub kind: TableKind,
    pub options: TableOptions,
}

/// Why a change was refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    #[error("there is no keyspace {keyspace}")]
    UnknownKeyspace { keyspace: Name },
    #[error("keyspace {keyspace} has no table {table}")]
    UnknownTable { keyspace: Name, table: Name },
    #[error("keyspace {keyspace} exists already")]
    KeyspaceExists { keyspace: Name },
    #[error("table {}.{} exists already, defined alike", existing.keyspace, existing.name)]
    TableExists { existing: Arc<Table> },
    #[error("table {}.{} exists already as {} table", existing.keyspace, existing.name, existing.kind)]
    TableDiffers { existing: Arc<Table> },
    #[error("a cluster has at most {max} {what}")]
    Limit { what: &'static str, max: usize },
}

impl Schema {
    /// The schema of a new cluster: keyspace `kv` with the causal bucket `default`. The same on every node, so its
    /// creation is dated 0.
    pub fn first() -> Schema {
        let created = Timestamp::from_micros(0).unwrap_or(Timestamp::MIN);
        let keyspace =
            Keyspace { id: KeyspaceId::of(&built_in("kv"), 0), name: built_in("kv"), generation: 0, created };
        let (name, options) = (built_in("default"), TableOptions::default());
        let bucket = Table::simple((&keyspace.name, 0), name, 0, TableKind::Causal, options, created);
        Schema::from_facts(
            BTreeMap::from([(keyspace.id, KeyspaceFact { keyspace, dropped: false })]),
            BTreeMap::from([(bucket.id, TableFact::Alive(Arc::new(bucket)))]),
        )
    }

    /// The delta that makes a keyspace, and the keyspace.
    pub fn create_keyspace(&self, name: &Name, created: Timestamp) -> Result<(Schema, Keyspace), ChangeError> {
        if self.keyspace(name.as_str()).is_some() {
            return Err(ChangeError::KeyspaceExists { keyspace: name.clone() });
        }
        self.check_count("keyspaces", self.keyspaces().count(), limits::KEYSPACES_MAX)?;
        let of_this_name = self.keyspaces.values().filter(|fact| fact.keyspace.name == *name);
        let generation = of_this_name.map(|fact| fact.keyspace.generation + 1).max().unwrap_or(0);
        let keyspace = Keyspace { id: KeyspaceId::of(name, generation), name: name.clone(), generation, created };
        Ok((Schema::of_keyspace(KeyspaceFact { keyspace: keyspace.clone(), dropped: false }), keyspace))
    }

    /// The delta that drops a keyspace with its tables.
    pub fn drop_keyspace(&self, name: &Name) -> Result<Schema, ChangeError> {
        let keyspace = self.existing(name)?.clone();
        Ok(Schema::of_keyspace(KeyspaceFact { keyspace, dropped: true }))
    }

    /// The delta that makes a table, and the table.
    pub fn create_table(
        &self,
        keyspace: &Name,
        definition: &TableDefinition,
        created: Timestamp,
    ) -> Result<(Schema, Arc<Table>), ChangeError> {
        let home = self.existing(keyspace)?;
        if let Ok(existing) = self.resolve(keyspace.as_str(), definition.name.as_str()) {
            let alike = existing.kind == definition.kind && existing.options == definition.options;
            return Err(match alike {
                true => ChangeError::TableExists { existing },
                false => ChangeError::TableDiffers { existing },
            });
        }
        self.check_count("tables", self.tables().count(), limits::TABLES_MAX)?;
        let of_this_name = |fact: &&TableFact| fact.keyspace_id() == home.id && *fact.name().0 == definition.name;
        let generation = self.tables.values().filter(of_this_name).map(|fact| fact.name().1 + 1).max().unwrap_or(0);
        let TableDefinition { name, kind, options } = definition.clone();
        let table = Arc::new(Table::simple((keyspace, home.generation), name, generation, kind, options, created));
        let fact = BTreeMap::from([(table.id, TableFact::Alive(table.clone()))]);
        Ok((Schema::from_facts(BTreeMap::new(), fact), table))
    }

    /// The delta that drops a table.
    pub fn drop_table(&self, keyspace: &Name, name: &Name) -> Result<Schema, ChangeError> {
        self.existing(keyspace)?;
        let Ok(table) = self.resolve(keyspace.as_str(), name.as_str()) else {
            return Err(ChangeError::UnknownTable { keyspace: keyspace.clone(), table: name.clone() });
        };
        let dropped =
            DroppedTable { keyspace: table.keyspace_id(), name: table.name.clone(), generation: table.generation };
        let fact = BTreeMap::from([(table.id, TableFact::Dropped(dropped))]);
        Ok(Schema::from_facts(BTreeMap::new(), fact))
    }

    fn of_keyspace(fact: KeyspaceFact) -> Schema {
        Schema::from_facts(BTreeMap::from([(fact.keyspace.id, fact)]), BTreeMap::new())
    }

    fn existing(&self, name: &Name) -> Result<&Keyspace, ChangeError> {
        self.keyspace(name.as_str()).ok_or_else(|| ChangeError::UnknownKeyspace { keyspace: name.clone() })
    }

    fn check_count(&self, what: &'static str, alive: usize, max: usize) -> Result<(), ChangeError> {
        if alive >= max {
            return Err(ChangeError::Limit { what, max });
        }
        match self.fact_count() >= limits::FACTS_MAX {
            true => {
                Err(ChangeError::Limit { what: "keyspaces and tables, dropped ones included", max: limits::FACTS_MAX })
            }
            false => Ok(()),
        }
    }
}
