//! The list is the order: a crate depends only on crates above it (dev-dependencies apart).

use super::{Fault, read};
use std::path::Path;

/// Every room, lowest first, as `docs/architecture.md` lists them.
pub const ROOMS: &[&str] = &[
    "fault",
    "types",
    "clock",
    "lattice",
    "schema",
    "placement",
    "wire",
    "disk",
    "net",
    "actor",
    "transport",
    "storage",
    "gossip",
    "ring",
    "catalog",
    "replica",
    "handoff",
    "coordinator",
    "operator",
    "http",
    "node",
    "testkit",
    "sim",
    "sim-actors",
    "kula",
];

pub fn check(root: &Path, faults: &mut Vec<Fault>) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for entry in root.join("crates").read_dir()? {
        found.push(entry?.file_name().to_string_lossy().to_string());
    }
    found.sort();
    for room in &found {
        let file = format!("crates/{room}/Cargo.toml");
        let manifest: toml::Table = toml::from_str(&read(&root.join(&file))?)?;
        check_room(room, &manifest, &file, faults);
        let readme = format!("crates/{room}/README.md");
        match read(&root.join(&readme)) {
            Err(_) => faults.push(Fault { file: readme, line: 0, what: "a room needs a README.md".into() }),
            Ok(text) if text.lines().count() > 25 => {
                faults.push(Fault { file: readme, line: 26, what: "a room's README has at most 25 lines".into() });
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

fn check_room(room: &str, manifest: &toml::Table, file: &str, faults: &mut Vec<Fault>) {
    let mut fault = |what: String| faults.push(Fault { file: file.to_string(), line: 0, what });
    let Some(own) = ROOMS.iter().position(|name| *name == room) else {
        return fault(format!("{room} is not in the list of rooms: xtask/src/tidy/layers.rs, docs/architecture.md"));
    };
    if asks_for_mutants(manifest) && !["fault", "sim", "sim-actors"].contains(&room) {
        fault("only `cargo xtask sim` plants mistakes: no other room names the feature mutants".into());
    }
    let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
    for name in dependencies.into_iter().flat_map(toml::Table::keys) {
        let Some(other) = name.strip_prefix("kula-") else { continue };
        match ROOMS.iter().position(|name| *name == other) {
            Some(place) if place < own => {}
            _ => fault(format!("{room} must not depend on {other}: a room depends only on rooms above it in the list")),
        }
    }
}

/// Whether a feature or a dependency names the feature with which mistakes can be planted, or a default turns it on.
fn asks_for_mutants(manifest: &toml::Table) -> bool {
    let named = |table: &str| manifest.get(table).is_some_and(|table| table.to_string().contains("mutants"));
    ["features", "dependencies", "dev-dependencies", "build-dependencies"].into_iter().any(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_that_looks_up_the_stairs_is_a_fault() {
        let manifest = toml::from_str("[dependencies]\nkula-http = 1\nkula-types = 1\nserde = 1").unwrap();
        let mut faults = Vec::new();
        check_room("storage", &manifest, "crates/storage/Cargo.toml", &mut faults);
        assert_eq!(faults.len(), 1);
        assert!(faults[0].what.contains("storage must not depend on http"));
    }

    #[test]
    fn a_room_that_would_plant_mistakes_is_a_fault_and_the_simulator_may() {
        let of = |room: &str, text: &str| {
            let mut faults = Vec::new();
            check_room(room, &toml::from_str(text).unwrap(), "Cargo.toml", &mut faults);
            faults.len()
        };
        let dependency = "[dependencies]\nkula-fault = { workspace = true, features = [\"mutants\"] }";
        let feature = "[features]\nmutants = [\"kula-fault/mutants\"]";
        assert_eq!([of("kula", dependency), of("storage", feature), of("sim", feature)], [1, 1, 0]);
    }
}
