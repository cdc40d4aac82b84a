//! What the long chores reached: read from what they print, kept in `target/figures/` until `cargo xtask promises` folds
//! them into `docs/figures.json`, which is committed.

use crate::tidy::read;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const COMMITTED: &str = "docs/figures.json";

/// By the name of the run.
pub type Figures = BTreeMap<String, Record>;

/// One run that ended well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub command: String,
    /// With a word if the tree had changes that are not in it.
    pub commit: String,
    pub date: String,
    pub cores: usize,
    /// In the order in which they are told.
    pub figures: Vec<(String, String)>,
}

/// What a program prints, and which of it are figures.
pub struct Heard<'a> {
    /// The run, or `None` if it was too short to be kept.
    pub name: Option<&'a str>,
    pub command: String,
    pub figures: fn(&str) -> Vec<(String, String)>,
}

/// Runs cargo, shows what it prints, and keeps its figures if it ends well.
pub fn cargo(root: &Path, arguments: &[&str], environment: &[(&str, String)], heard: &Heard) -> anyhow::Result<()> {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root).args(arguments).stdout(Stdio::piped());
    for (name, value) in environment {
        command.env(name, value);
    }
    let mut child = command.spawn().context("cargo did not start")?;
    let mut printed = String::new();
    for line in child.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).lines()) {
        let line = line.context("what it prints cannot be read")?;
        println!("{line}");
        printed.push_str(&line);
        printed.push('\n');
    }
    let status = child.wait().context("cargo did not end")?;
    if !status.success() {
        bail!("cargo {} ended with {status}", arguments.join(" "));
    }
    let Some(name) = heard.name else { return Ok(()) };
    let figures = (heard.figures)(&printed);
    if figures.is_empty() {
        bail!("it ended well and printed no figures that xtask/src/figures.rs knows");
    }
    let record = Record {
        command: heard.command.clone(),
        commit: commit(root),
        date: said(root, "date", &["-u", "+%F"]).unwrap_or_else(|| "?".into()),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        figures,
    };
    let file = folder(root).join(format!("{name}.json"));
    write(&file, &(serde_json::to_string_pretty(&record)? + "\n"))
}

/// The figures of a crash enumeration: `distinct images 50000, wrong 0`.
pub fn of_crash(printed: &str) -> Vec<(String, String)> {
    let line = printed.lines().find(|line| line.contains("distinct images "));
    let words =
        line.and_then(|line| line.split_once("distinct images ")).and_then(|(_, rest)| rest.split_once(", wrong "));
    words.map(|(images, wrong)| pairs(&[("distinct images", images), ("wrong", wrong)])).unwrap_or_default()
}

/// Of many seeds: the lines above the list of faults.
pub fn of_sim(printed: &str) -> Vec<(String, String)> {
    let told = ["seeds", "loaded hours", "operations", "virtual : real"];
    let line = |label: &&str| {
        let rest = printed.lines().find_map(|line| line.strip_prefix(*label))?;
        Some(((*label).to_string(), rest.trim().to_string()))
    };
    told.iter().filter_map(line).collect()
}

pub fn of_mutants(printed: &str) -> Vec<(String, String)> {
    let dead = printed.lines().filter(|line| line.contains(" dies at seed ")).count().to_string();
    let living = printed.lines().filter(|line| line.contains(" LIVES ")).count().to_string();
    if dead == "0" { Vec::new() } else { pairs(&[("found", &dead), ("living", &living)]) }
}

/// `a_ring_of_any_bytes: 400000 inputs, ..`, a line a target.
pub fn of_fuzz(printed: &str) -> Vec<(String, String)> {
    let inputs = |line: &str| line.split_once(": ")?.1.split_once(" inputs, ")?.0.parse::<u64>().ok();
    let all: Vec<u64> = printed.lines().filter_map(inputs).collect();
    match all.len() {
        0 => Vec::new(),
        targets => pairs(&[("targets", &targets.to_string()), ("inputs", &all.iter().sum::<u64>().to_string())]),
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(what, figure)| ((*what).to_string(), (*figure).trim().to_string())).collect()
}

/// The committed figures with those of this checkout's runs, written back.
pub fn fold(root: &Path) -> anyhow::Result<Figures> {
    let mut figures = committed(root)?;
    for entry in folder(root).read_dir().into_iter().flatten() {
        let path = entry?.path();
        if let Some(name) = path.file_stem().filter(|_| path.extension().is_some_and(|end| end == "json")) {
            let record: Record =
                serde_json::from_str(&read(&path)?).with_context(|| format!("{} is no record", path.display()))?;
            figures.insert(name.to_string_lossy().into_owned(), record);
        }
    }
    write(&root.join(COMMITTED), &(serde_json::to_string_pretty(&figures)? + "\n"))?;
    Ok(figures)
}

/// What is committed; nothing before the first time.
pub fn committed(root: &Path) -> anyhow::Result<Figures> {
    let file = root.join(COMMITTED);
    if !file.exists() {
        return Ok(Figures::default());
    }
    serde_json::from_str(&read(&file)?).with_context(|| format!("{COMMITTED} is not what cargo xtask promises writes"))
}

#[allow(clippy::disallowed_methods, reason = "a chore writes the checkout, not a database")]
pub fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let said = || format!("cannot write {}", path.display());
    path.parent().map_or(Ok(()), std::fs::create_dir_all).with_context(said)?;
    std::fs::write(path, text).with_context(said)
}

fn folder(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from).join("figures")
}

fn commit(root: &Path) -> String {
    let Some(commit) = said(root, "git", &["rev-parse", "--short=12", "HEAD"]) else { return "no commit".into() };
    match said(root, "git", &["status", "--porcelain"]) {
        Some(changes) if changes.is_empty() => commit,
        _ => format!("{commit} with changes"),
    }
}

/// What another program says, if it ends well.
fn said(root: &Path, program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).current_dir(root).args(arguments).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(figures: Vec<(String, String)>) -> String {
        figures.iter().map(|(what, figure)| format!("{what} {figure}")).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn figures_are_read_from_what_the_chores_print() {
        let sim = "seeds             1598 (79 of them twice)\nloaded hours      93.9 of 130.2 virtual ones\noperations        1\nfaults\n";
        let line = "seeds 1598 (79 of them twice), loaded hours 93.9 of 130.2 virtual ones, operations 1";
        assert_eq!(told(of_sim(sim)), line);
        let mutants = "NoSync  dies at seed 2: x\nHintIsAck  dies at seed 1: y\n";
        assert_eq!(told(of_mutants(mutants)), "found 2, living 0");
        assert_eq!(
            told(of_crash("running\ntest x ... distinct images 50010, wrong 0\n")),
            "distinct images 50010, wrong 0"
        );
        assert_eq!(told(of_fuzz("a: 10 inputs, 3 decoded\nb: 20 inputs, 1 decoded\n")), "targets 2, inputs 30");
        assert_eq!([of_sim(""), of_mutants(""), of_crash(""), of_fuzz("")], [const { Vec::new() }; 4]);
    }
}
