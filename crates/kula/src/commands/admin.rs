//! `kula keyspace` and `kula table`.

use crate::{
    cli::{Global, Keyspace, Output, Table},
    client::{Client, Failure},
    exit::Verdict,
    print,
};
use serde_json::{Value, json};

pub fn keyspace(command: &Keyspace, global: &Global) -> Result<Verdict, Failure> {
    let client = Client::new(global)?;
    match command {
        Keyspace::Create { name, rf, mode, read_repair, hinted_handoff, anti_entropy } => {
            let wanted = json!({
                "name": name, "rf": rf, "mode": mode, "read_repair": read_repair,
                "hinted_handoff": switch(hinted_handoff)?, "anti_entropy": switch(anti_entropy)?,
            });
            client.expect("POST", "/v1/keyspaces", JSON, wanted.to_string().as_bytes())?;
            println!("created keyspace {name}");
        }
        Keyspace::List => {
            let all = keyspaces(&client)?;
            let rows = list(&all).iter().map(settings).collect();
            shown(global, &all, || print::table(&["KEYSPACE", "RF", "MODE", "READ REPAIR", "TABLES"], rows));
        }
        Keyspace::Show { name } => {
            let all = keyspaces(&client)?;
            let keyspace = named(&all, name, "keyspace")?;
            shown(global, keyspace, || {
                let tables = print::table(&["TABLE", "KIND", "ID"], tables_of(keyspace));
                format!(
                    "{}\n\n{tables}",
                    print::table(&["KEYSPACE", "RF", "MODE", "READ REPAIR", "TABLES"], vec![settings(keyspace)])
                )
            });
        }
    }
    Ok(Verdict::Ok)
}

pub fn table(command: &Table, global: &Global) -> Result<Verdict, Failure> {
    let client = Client::new(global)?;
    match command {
        Table::Create { name, causal, lww: _ } => {
            let (keyspace, table) = split(name)?;
            let wanted = json!({ "name": table, "kind": if *causal { "causal" } else { "lww" } });
            client.expect("POST", &format!("/v1/keyspaces/{keyspace}/tables"), JSON, wanted.to_string().as_bytes())?;
            println!("created table {name}");
        }
        Table::List => {
            let all = keyspaces(&client)?;
            let rows = list(&all).iter().flat_map(tables_of).collect();
            shown(global, &all, || print::table(&["TABLE", "KIND", "ID"], rows));
        }
        Table::Show { name } => {
            let (keyspace, table) = split(name)?;
            let all = keyspaces(&client)?;
            let tables = &named(&all, keyspace, "keyspace")?["tables"];
            let found = tables.as_array().and_then(|tables| tables.iter().find(|found| found["name"] == table));
            let found =
                found.ok_or_else(|| Failure::Usage(format!("there is no table {name}; kula table list shows all")))?;
            println!("{}", serde_json::to_string_pretty(found).unwrap_or_default());
        }
    }
    Ok(Verdict::Ok)
}

const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];

/// `keyspace.table` in its two names.
pub fn split(name: &str) -> Result<(&str, &str), Failure> {
    let refuse = || Failure::Usage(format!("a table is named KEYSPACE.TABLE, as in kv.default, not {name:?}"));
    let (keyspace, table) = name.split_once('.').ok_or_else(refuse)?;
    for part in [keyspace, table] {
        part.parse::<kula_types::Name>().map_err(|error| Failure::Usage(format!("{part:?}: {error}")))?;
    }
    Ok((keyspace, table))
}

fn keyspaces(client: &Client) -> Result<Value, Failure> {
    client.expect("GET", "/v1/keyspaces", &[], b"")?.json(&client.at)
}

fn list(all: &Value) -> &[Value] {
    all["keyspaces"].as_array().map_or(&[], Vec::as_slice)
}

fn named<'a>(all: &'a Value, name: &str, what: &str) -> Result<&'a Value, Failure> {
    let found = list(all).iter().find(|found| found["name"] == name);
    found.ok_or_else(|| Failure::Usage(format!("there is no {what} {name}; kula {what} list shows all")))
}

fn settings(keyspace: &Value) -> Vec<String> {
    let tables = keyspace["tables"].as_array().map_or(0, Vec::len);
    let text = |key: &str| keyspace[key].as_str().map_or(keyspace[key].to_string(), str::to_string);
    vec![text("name"), text("rf"), text("mode"), text("read_repair"), tables.to_string()]
}

fn tables_of(keyspace: &Value) -> Vec<Vec<String>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let row = |table: &Value| {
        vec![format!("{}.{}", text(&keyspace["name"]), text(&table["name"])), text(&table["kind"]), text(&table["id"])]
    };
    keyspace["tables"].as_array().map_or(Vec::new(), |tables| tables.iter().map(row).collect())
}

fn switch(text: &str) -> Result<bool, Failure> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        other => Err(Failure::Usage(format!("on or off, not {other:?}"))),
    }
}

fn shown(global: &Global, value: &Value, human: impl FnOnce() -> String) {
    match global.output {
        Output::Json => println!("{value}"),
        Output::Human => println!("{}", human()),
    }
}
