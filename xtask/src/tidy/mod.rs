//! Tidy: the few rules of the house that fail a build.
//!
//! Each rule is a function from a file (or a manifest) to faults; it reads text, not meaning, so it can be wrong in
//! odd cases: then the rule is mended here, in the open, never by a marker in the code.

mod layers;
mod pages;
mod sources;

use crate::promises;
use anyhow::Context;
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// One thing that is not in order.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    pub file: String,
    /// Counted from one; zero where the whole file is meant.
    pub line: usize,
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

/// A text file of the checkout, its name relative to the root.
pub struct Source {
    pub name: String,
    pub text: String,
}

/// Everything in this checkout that is not in order.
pub fn faults(root: &Path) -> anyhow::Result<Vec<Fault>> {
    let sources = sources_below(root)?;
    let mut faults = Vec::new();
    layers::check(root, &mut faults)?;
    for source in &sources {
        sources::check(source, &mut faults);
    }
    pages::check(&sources, &mut faults);
    promises::check(root, &sources, &mut faults)?;
    Ok(faults)
}

/// Rust sources, Markdown pages and manifests of our own, in the order of their names.
pub fn sources_below(root: &Path) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["crates", "xtask", "integration", "docs", "fuzz"].map(|name| root.join(name)).into();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = folder.read_dir() else { continue };
        for entry in entries {
            let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
            if path.is_dir() {
                if path.file_name().is_none_or(|name| name != "target" && name != "snapshots") {
                    folders.push(path);
                }
                continue;
            }
            if path.extension().is_some_and(|end| end == "rs" || end == "md" || end == "toml") {
                let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
                sources.push(Source { name, text: read(&path)? });
            }
        }
    }
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(sources)
}

#[allow(clippy::disallowed_methods, reason = "a chore reads the checkout, not a database")]
pub fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_checkout_is_in_order() {
        let faults = faults(&crate::root()).unwrap();
        let report: Vec<String> = faults.iter().map(Fault::to_string).collect();
        assert!(faults.is_empty(), "{}", report.join("\n"));
    }
}
