//! Pages that a newcomer types along: every `console` block is run as written, and what it prints must be what the page shows.
//!
//! `$ ` begins a command; all commands of a page go to one shell in the checkout, one after the other. The lines below a command
//! are what it prints; `…` on a line of its own stands for any lines. Numbers with their units, tokens and bars differ from run
//! to run and are not compared. A command ends with 0 unless it says `# exit N`.

use crate::tidy;
use anyhow::{Context, bail, ensure};
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{ChildStdin, Command, Stdio},
};

/// A command and what the page says that it prints.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    command: String,
    shown: Vec<String>,
    exit: i32,
}

/// Ends what a command printed; no program prints this character by itself.
const END: char = '\u{1e}';
/// Longer words without a space are tokens, digests or contexts.
const TOKEN: usize = 16;
const UNITS: &[&str] = &["ns", "µs", "ms", "s", "min", "h", "B", "KiB", "MiB", "GiB", "KB", "MB", "GB"];

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if let (true, Some(command)) = (inside, line.strip_prefix("$ ")) {
            let exit =
                command.rsplit_once("# exit ").and_then(|(_, code)| code.split_whitespace().next()?.parse().ok());
            steps.push(Step { command: command.into(), shown: Vec::new(), exit: exit.unwrap_or(0) });
        } else if let (true, Some(step)) = (inside, steps.last_mut()) {
            step.shown.push(line.into());
        }
    }
    steps
}

/// What two runs have in common: numbers, their units and tokens are gone.
fn shape(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        let bare = word.trim_matches(|bracket| "[](),;:\"".contains(bracket));
        let is_token = bare.ends_with('…') || bare.len() >= TOKEN && bare.chars().all(is_of_a_token);
        if is_token || bare.starts_with(['█', '▏', '▎', '▍', '▌', '▋', '▊', '▉', '░']) {
            words.push("…".into());
        } else if !(UNITS.contains(&bare) && words.last().is_some_and(|last| last.ends_with('0'))) {
            words.push(without_numbers(word));
        }
    }
    words.join(" ")
}

fn is_of_a_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || "_-".contains(character)
}

/// `12.5ms` is `0`, `n2` is `n0`, `2/3` is `0/0`.
fn without_numbers(word: &str) -> String {
    let mut shape = String::new();
    let mut rest = word;
    while let Some(first) = rest.chars().next() {
        if !first.is_ascii_digit() {
            shape.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        shape.push('0');
        rest = rest.trim_start_matches(|character: char| character.is_ascii_digit() || ".,".contains(character));
        let end = rest.find(|character: char| !character.is_alphabetic()).unwrap_or(rest.len());
        if UNITS.contains(&&rest[..end]) {
            rest = &rest[end..];
        }
    }
    shape
}

/// Whether `printed` is what the page shows.
fn agrees(shown: &[String], printed: &[String]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((any, after)) if any.trim() == "…" => (0..=printed.len()).any(|skip| agrees(after, &printed[skip..])),
        Some((line, after)) => {
            printed.split_first().is_some_and(|(said, rest)| shape(line) == shape(said) && agrees(after, rest))
        }
    }
}

/// Runs a page from the checkout's root.
pub fn run(root: &Path, page: &Path) -> anyhow::Result<()> {
    let steps = steps(&tidy::read(&root.join(page))?);
    ensure!(!steps.is_empty(), "{} has no command", page.display());
    let mut shell = Command::new("bash");
    let mut shell = shell.current_dir(root).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("no bash")?;
    let mut input = shell.stdin.take().context("a shell has an input")?;
    let mut lines = BufReader::new(shell.stdout.take().context("a shell has an output")?).lines();
    writeln!(input, "walk=$(mktemp -d); trap 'rm -r \"$walk\"' EXIT").context("the shell is gone")?;
    let mut differences = Vec::new();
    for step in &steps {
        println!("$ {}", step.command);
        ask(&mut input, step)?;
        let mut printed = Vec::new();
        let exit = loop {
            let line = lines.next().context("the shell ended")??;
            match line.split_once(END) {
                Some((last, code)) => {
                    printed.extend((!last.is_empty()).then(|| last.to_owned()));
                    break code.parse::<i32>().context("the shell says how a command ended")?;
                }
                None => printed.push(line),
            }
        };
        printed.iter().for_each(|line| println!("{line}"));
        // Blank lines are layout.
        let [shown, said] = [&step.shown, &printed]
            .map(|lines| lines.iter().filter(|line| !line.trim().is_empty()).cloned().collect::<Vec<String>>());
        if exit != step.exit {
            differences.push(format!("{}: ended with {exit}, not {}", step.command, step.exit));
        }
        if !agrees(&shown, &said) {
            differences.push(format!(
                "{}\nthe page shows:\n{}\nit printed:\n{}",
                step.command,
                shown.join("\n"),
                said.join("\n")
            ));
        }
    }
    drop(input);
    shell.wait().context("the shell did not end")?;
    match differences.as_slice() {
        [] => Ok(()),
        some => bail!("{}: {} of {} commands differ\n\n{}", page.display(), some.len(), steps.len(), some.join("\n\n")),
    }
}

fn ask(input: &mut ChildStdin, step: &Step) -> anyhow::Result<()> {
    let Step { command, .. } = step;
    // As on a terminal: what is asked for begins a line, and what is said about it comes after.
    writeln!(input, "{{ {command}\n}} >$walk/out 2>$walk/err </dev/null; code=$?; awk 1 $walk/out $walk/err")
        .and_then(|()| writeln!(input, "printf '\\036%s\\n' $code"))
        .context("the shell is gone")?;
    input.flush().context("the shell is gone")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_page_is_commands_with_what_they_print() {
        let page = "text\n```console\n$ kula status # exit 3\nDEGRADED\n$ true\n```\n$ no\n```toml\n$ no\n```\n";
        let [status, ok] = &steps(page)[..] else { panic!("{:?}", steps(page)) };
        assert_eq!((status.exit, &status.shown), (3, &lines("DEGRADED")));
        assert_eq!((ok.command.as_str(), ok.exit, ok.shown.len()), ("true", 0, 0));
    }

    #[test]
    fn what_changes_from_run_to_run_is_not_compared_and_all_else_is() {
        let same = [
            ("ok  2/3 replicas  n1 n3  3.8 ms", "ok 3/3 replicas n2 n3 940 µs"),
            ("n2 down 538 ms (seen by n1, n3)", "n2 down 1 s (seen by n1, n3)"),
            ("context AQEAAADDV9wDHHYQuE1KvIazTg", "context AQEA…"),
            ("33.6%  ███▏ 86", "33.2% █████ 85"),
            ("took 12.5ms", "took 7s"),
        ];
        for (left, right) in same {
            assert_eq!(shape(left), shape(right));
        }
        for (left, right) in [("OK all", "DEGRADED all"), ("n1 up", "n1 down"), ("1 hinted", "")] {
            assert_ne!(shape(left), shape(right));
        }
    }

    #[test]
    fn an_ellipsis_stands_for_any_lines() {
        let printed = lines("a\nb\nc");
        assert!(agrees(&lines("a\n…"), &printed));
        assert!(agrees(&lines("…\nc"), &printed));
        assert!(agrees(&lines("a\n…\nb\nc"), &printed));
        assert!(!agrees(&lines("a\n…\nd"), &printed));
        assert!(!agrees(&lines("a\nb"), &printed));
    }

    #[test]
    fn a_page_that_says_otherwise_fails() {
        let home = std::env::temp_dir();
        let name = format!("walkthrough-{}.md", std::process::id());
        let page = home.join(&name);
        let write = |text: &str| {
            Command::new("bash").args(["-c", "cat > \"$0\""]).arg(&page).stdin(Stdio::piped()).spawn().and_then(
                |mut shell| {
                    shell.stdin.take().map_or(Ok(()), |mut input| input.write_all(text.as_bytes()))?;
                    shell.wait()
                },
            )
        };
        for (text, is_so) in [
            ("```console\n$ printf 'a\\nb'\na\nb\n$ false # exit 1\n$ x=5\n$ echo at $x\nat 7\n```\n", true),
            ("```console\n$ echo a\nb\n```\n", false),
            ("```console\n$ false\n```\n", false),
        ] {
            assert!(write(text).unwrap().success());
            assert_eq!(run(&home, Path::new(&name)).is_ok(), is_so, "{text}");
        }
        assert!(Command::new("rm").arg(&page).status().unwrap().success());
    }
}
