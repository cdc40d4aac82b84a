//! The laws of the schema, over facts that nodes could have and over histories of nodes that rarely meet.

use crate::{
    ChangeError, Column, ColumnKind, ColumnType, Keyspace, KeyspaceId, ResolveError, Schema, Table, TableDefinition,
    TableKind, TableOptions, form,
    schema::{DroppedTable, KeyspaceFact, TableFact},
};
use kula_lattice::Join;
use kula_types::{Name, TableId, Timestamp};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

fn joined(mut a: Schema, b: &Schema) -> Schema {
    a.join(b.clone());
    a
}

fn kinds() -> impl Strategy<Value = TableKind> {
    prop_oneof![Just(TableKind::Lww), Just(TableKind::Causal)]
}

/// Facts about few names, so that two schemas often know the same id, differently.
fn schemas() -> impl Strategy<Value = Schema> {
    let keyspace = ("[ab]", 0u64..2, 0i64..4, any::<bool>()).prop_map(|(name, generation, created, dropped)| {
        let name: Name = name.parse().unwrap();
        let id = KeyspaceId::of(&name, generation);
        (id, KeyspaceFact { keyspace: Keyspace { id, name, generation, created: at(created) }, dropped })
    });
    let extra_columns = prop::collection::vec(("[pq]", 0u64..2), 0..3);
    let table = ("[ab]", 0u64..2, "[st]", 0u64..2, kinds(), 0i64..4, extra_columns, any::<bool>());
    let table =
        table.prop_map(|(keyspace, keyspace_generation, table_name, generation, kind, created, extra, dropped)| {
            let home = (&name(&keyspace), keyspace_generation);
            let mut table =
                Table::simple(home, name(&table_name), generation, kind, TableOptions::default(), at(created));
            let column = |(text, generation): (String, u64)| {
                Column::new(table.id, name(&text), generation, ColumnKind::Regular, ColumnType::Text)
            };
            let extra: Vec<Column> = extra.into_iter().map(column).collect();
            table.columns.extend(extra);
            table.columns.sort_unstable_by_key(|column| column.id);
            table.columns.dedup();
            let fact = match dropped {
                true => TableFact::Dropped(DroppedTable {
                    keyspace: table.keyspace_id(),
                    name: table.name.clone(),
                    generation,
                }),
                false => TableFact::Alive(Arc::new(table.clone())),
            };
            (table.id, fact)
        });
    (prop::collection::btree_map(any::<u8>(), keyspace, 0..5), prop::collection::btree_map(any::<u8>(), table, 0..8))
        .prop_map(|(keyspaces, tables)| {
            Schema::from_facts(keyspaces.into_values().collect(), tables.into_values().collect())
        })
}

proptest! {
    #[test]
    fn join_is_commutative_associative_and_idempotent(a in schemas(), b in schemas(), c in schemas()) {
        prop_assert_eq!(joined(a.clone(), &b), joined(b.clone(), &a));
        prop_assert_eq!(joined(joined(a.clone(), &b), &c), joined(a.clone(), &joined(b.clone(), &c)));
        prop_assert_eq!(joined(a.clone(), &a), a.clone());
        prop_assert_eq!(joined(a.clone(), &Schema::default()), a);
    }

    #[test]
    fn equal_digests_mean_equal_facts(a in schemas(), b in schemas()) {
        prop_assert_eq!(a.digest() == b.digest(), a == b);
        prop_assert_eq!(joined(a.clone(), &b).digest(), joined(b, &a).digest());
    }

    #[test]
    fn a_stored_schema_reads_as_it_was(a in schemas()) {
        let stored = form::encode(&a).unwrap();
        let read = form::decode(&stored).unwrap();
        prop_assert_eq!(&read, &a);
        prop_assert_eq!(form::encode(&read).unwrap(), stored);
    }

    #[test]
    fn any_bytes_are_a_schema_or_a_typed_error(bytes in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>()) {
        drop(form::decode(&bytes));
        let mut stored = form::encode(&Schema::first()).unwrap();
        let at = at.index(stored.len());
        stored[at] = bytes.first().copied().unwrap_or(0);
        // Where a flipped byte still parses, ids and definitions agree or it is refused.
        if let Ok(read) = form::decode(&stored) {
            let lies = |(id, fact): (&TableId, &TableFact)| matches!(fact, TableFact::Alive(table) if table.expected_id() != *id);
            prop_assert!(!read.tables.iter().any(lies));
        }
    }

    #[test]
    fn every_table_alive_is_shown_under_exactly_one_name_and_resolves_by_it(a in schemas()) {
        let mut shown = Vec::new();
        for (keyspace, _) in a.keyspaces() {
            for (table_name, table) in a.tables_of(keyspace) {
                prop_assert_eq!(&a.resolve(keyspace, table_name).unwrap(), table);
                prop_assert_eq!(a.table(table.id), Some(table));
                shown.push(table.id);
            }
        }
        shown.sort_unstable();
        let alive: Vec<_> = a.tables.keys().copied().filter(|id| a.table(*id).is_some()).collect();
        prop_assert_eq!(shown, alive);
    }
}

#[derive(Clone, Debug)]
enum Step {
    CreateKeyspace(usize, String),
    DropKeyspace(usize, String),
    CreateTable(usize, String, String, TableKind),
    DropTable(usize, String, String),
    Meet(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let node = 0usize..3;
    let step = prop_oneof![
        (node.clone(), "[ab]").prop_map(|(node, keyspace)| Step::CreateKeyspace(node, keyspace)),
        (node.clone(), "[ab]").prop_map(|(node, keyspace)| Step::DropKeyspace(node, keyspace)),
        (node.clone(), "[ab]", "[st]", kinds())
            .prop_map(|(node, keyspace, table, kind)| Step::CreateTable(node, keyspace, table, kind)),
        (node.clone(), "[ab]", "[st]").prop_map(|(node, keyspace, table)| Step::DropTable(node, keyspace, table)),
        (node.clone(), node).prop_map(|(from, to)| Step::Meet(from, to)),
    ];
    prop::collection::vec(step, 0..40)
}

proptest! {
    /// Three nodes change what they know and tell each other now and then. Who was told everything, in whatever order,
    /// knows the same; an id that was ever dropped stays dropped; no node ever sees a table of a dropped keyspace.
    #[test]
    fn nodes_that_meet_agree_and_dropped_ids_never_return(steps in steps()) {
        let mut nodes = [Schema::first(), Schema::first(), Schema::first()];
        let mut dropped = Vec::new();
        for (now, step) in (1i64..).zip(steps) {
            let delta: Result<(usize, Schema), ChangeError> = match step {
                Step::CreateKeyspace(node, keyspace) => nodes[node].create_keyspace(&name(&keyspace), at(now)).map(|(delta, _)| (node, delta)),
                Step::DropKeyspace(node, keyspace) => {
                    let tables: Vec<_> = nodes[node].tables_of(&keyspace).map(|(_, table)| table.id).collect();
                    let delta = nodes[node].drop_keyspace(&name(&keyspace));
                    if delta.is_ok() {
                        dropped.extend(tables.into_iter().map(|table| (node, table)));
                    }
                    delta.map(|delta| (node, delta))
                }
                Step::CreateTable(node, keyspace, table, kind) => {
                    let definition = TableDefinition { name: name(&table), kind, options: TableOptions::default() };
                    let made = nodes[node].create_table(&name(&keyspace), &definition, at(now));
                    if let Ok((_, table)) = &made {
                        prop_assert!(nodes[node].table(table.id).is_none());
                        prop_assert!(!dropped.contains(&(node, table.id)), "a dropped id came back");
                    }
                    made.map(|(delta, _)| (node, delta))
                }
                Step::DropTable(node, keyspace, table) => {
                    let found = nodes[node].resolve(&keyspace, &table).map(|table| (node, table.id));
                    let delta = nodes[node].drop_table(&name(&keyspace), &name(&table));
                    prop_assert_eq!(found.is_ok(), delta.is_ok());
                    dropped.extend(found);
                    delta.map(|delta| (node, delta))
                }
                Step::Meet(from, to) => Ok((to, nodes[from].clone())),
            };
            if let Ok((node, delta)) = delta {
                nodes[node].join(delta);
            }
            for (node, table) in &dropped {
                prop_assert!(nodes[*node].table(*table).is_none(), "a dropped table is seen again");
            }
        }
        let [a, b, c] = nodes;
        let all = joined(joined(a.clone(), &b), &c);
        prop_assert_eq!(&joined(joined(c, &b), &a), &all);
        for table in all.tables() {
            prop_assert!(all.keyspace(table.keyspace.as_str()).is_some());
        }
        for (_, table) in dropped {
            prop_assert!(all.table(table).is_none());
        }
    }
}

fn definition(text: &str, kind: TableKind) -> TableDefinition {
    TableDefinition { name: name(text), kind, options: TableOptions::default() }
}

#[test]
fn a_new_cluster_has_the_bucket_kv_default_and_the_same_ids_as_every_other() {
    let first = Schema::first();
    let bucket = first.resolve("kv", "default").unwrap();
    assert_eq!((bucket.kind, bucket.generation, bucket.content_type_column()), (TableKind::Causal, 0, None));
    assert_eq!(bucket.columns.iter().map(|column| column.id).collect::<Vec<_>>(), [bucket.value_column()]);
    let stored = String::from_utf8(form::encode(&first).unwrap()).unwrap();
    // Golden: these ids are in data on disk. They never change.
    assert_eq!(stored, include_str!("../testdata/first_schema.json").trim_end());
}

#[test]
fn an_lww_table_has_a_value_and_a_content_type() {
    let first = Schema::first();
    let (_, table) = first.create_table(&name("kv"), &definition("t", TableKind::Lww), at(1)).unwrap();
    let columns: Vec<_> = table.columns.iter().map(|column| (column.name.as_str(), column.id)).collect();
    assert!(columns.contains(&("value", table.value_column())));
    assert!(columns.contains(&("content_type", table.content_type_column().unwrap())));
    assert_eq!(columns.len(), 2);
    assert!(columns.iter().all(|(_, id)| *id != crate::ROW_MARKER));
}

#[test]
fn of_two_tables_of_one_name_the_later_has_it_and_the_other_keeps_its_data_as_a_twin() {
    let (mut here, mut there) = (Schema::first(), Schema::first());
    let (delta, early) = here.create_table(&name("kv"), &definition("t", TableKind::Lww), at(1)).unwrap();
    here.join(delta);
    let (delta, late) = there.create_table(&name("kv"), &definition("t", TableKind::Causal), at(2)).unwrap();
    there.join(delta);
    assert_ne!(early.id, late.id);
    let both = joined(here, &there);
    let twin = format!("t@{}", early.id);
    assert_eq!(both.resolve("kv", "t").unwrap(), late);
    assert_eq!(both.resolve("kv", &twin).unwrap(), early);
    assert_eq!(both.twins().collect::<Vec<_>>(), [("kv", twin.as_str())]);
    // Once the winner is dropped the name goes back to the twin.
    let after = joined(both.clone(), &both.drop_table(&name("kv"), &name("t")).unwrap());
    assert_eq!((after.resolve("kv", "t").unwrap(), after.twins().count()), (early, 0));
}

#[test]
fn the_same_table_made_twice_apart_is_one_table() {
    let first = Schema::first();
    let (here, a) = first.create_table(&name("kv"), &definition("t", TableKind::Lww), at(1)).unwrap();
    let (there, b) = first.create_table(&name("kv"), &definition("t", TableKind::Lww), at(2)).unwrap();
    assert_eq!(a.id, b.id);
    let all = joined(joined(first, &here), &there);
    assert_eq!(all.resolve("kv", "t").unwrap().created, at(2));
}

#[test]
fn a_table_made_anew_after_a_drop_is_another_table() {
    let mut schema = Schema::first();
    let (delta, old) = schema.create_table(&name("kv"), &definition("t", TableKind::Lww), at(1)).unwrap();
    schema.join(delta);
    schema.join(schema.drop_table(&name("kv"), &name("t")).unwrap());
    let unknown = ResolveError::UnknownTable { keyspace: "kv".into(), table: "t".into() };
    assert_eq!(schema.resolve("kv", "t"), Err(unknown));
    let (delta, new) = schema.create_table(&name("kv"), &definition("t", TableKind::Lww), at(2)).unwrap();
    schema.join(delta);
    assert_eq!((new.generation, new.id == old.id), (1, false));
    assert!(schema.table(old.id).is_none());
    // The same after the whole keyspace went.
    schema.join(schema.drop_keyspace(&name("kv")).unwrap());
    assert_eq!(schema.resolve("kv", "t"), Err(ResolveError::UnknownKeyspace { keyspace: "kv".into() }));
    schema.join(schema.create_keyspace(&name("kv"), at(3)).unwrap().0);
    let (_, again) = schema.create_table(&name("kv"), &definition("t", TableKind::Lww), at(4)).unwrap();
    assert!(again.id != new.id && again.id != old.id);
}

#[test]
fn what_exists_is_refused_alike_or_different() {
    let schema = Schema::first();
    let again = schema.create_table(&name("kv"), &definition("default", TableKind::Causal), at(9));
    assert!(matches!(again, Err(ChangeError::TableExists { .. })));
    let other = schema.create_table(&name("kv"), &definition("default", TableKind::Lww), at(9));
    assert!(matches!(other, Err(ChangeError::TableDiffers { .. })));
    assert!(matches!(schema.create_keyspace(&name("kv"), at(9)), Err(ChangeError::KeyspaceExists { .. })));
    assert!(matches!(schema.drop_table(&name("kv"), &name("x")), Err(ChangeError::UnknownTable { .. })));
    assert!(matches!(schema.drop_keyspace(&name("x")), Err(ChangeError::UnknownKeyspace { .. })));
}

#[test]
fn keyspaces_and_facts_are_bounded() {
    let fact = |number: usize, dropped| {
        let name = name(&format!("k{number}"));
        let id = KeyspaceId::of(&name, 0);
        (id, KeyspaceFact { keyspace: Keyspace { id, name, generation: 0, created: at(0) }, dropped })
    };
    let full = Schema::from_facts((0..crate::limits::KEYSPACES_MAX).map(|n| fact(n, false)).collect(), BTreeMap::new());
    let refused = full.create_keyspace(&name("one_more"), at(1));
    assert_eq!(refused.unwrap_err(), ChangeError::Limit { what: "keyspaces", max: crate::limits::KEYSPACES_MAX });
    let worn = Schema::from_facts((0..crate::limits::FACTS_MAX).map(|n| fact(n, true)).collect(), BTreeMap::new());
    assert!(matches!(
        worn.create_keyspace(&name("one_more"), at(1)),
        Err(ChangeError::Limit { max: crate::limits::FACTS_MAX, .. })
    ));
    assert!(form::encode(&worn).unwrap().len() < crate::limits::FORM_BYTES_MAX);
}

#[test]
fn an_option_nobody_knows_is_refused_by_name_and_a_later_one_as_not_there_yet() {
    use crate::OptionError::*;
    assert_eq!(TableOptions::parse([]), Ok(TableOptions::default()));
    assert_eq!(TableOptions::parse([("lww_collapse", "true")]), Err(NotThereYet { option: "lww_collapse".into() }));
    assert_eq!(TableOptions::parse([("colour", "red")]), Err(Unknown { option: "colour".into() }));
}
