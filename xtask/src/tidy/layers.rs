//! The list is the order: a crate depends only on crates above it (dev-dependencies apart).

use super::{Fault, read};
use std::path::Path;

/// Every room, lowest first, as `docs/architecture.md` lists them.
pub const ROOMS: &[&str] = &[
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
    let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
    for name in dependencies.into_iter().flat_map(toml::Table::keys) {
        let Some(other) = name.strip_prefix("kula-") else { continue };
        match ROOMS.iter().position(|name| *name == other) {
            Some(place) if place < own => {}
            _ => fault(format!("{room} must not depend on {other}: a room depends only on rooms above it in the list")),
        }
    }
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
}
