//! Rules on single source files: headers, forbidden calls, pure machines, honest tests, size.

use super::{Fault, Source};

/// A source past this has outgrown one idea.
const FILE_LINES_MAX: usize = 900;

struct Rule {
    /// What the line must not contain.
    pattern: &'static str,
    why: &'static str,
    /// Where the rule holds.
    holds: fn(&str) -> bool,
}

const RULES: &[Rule] = &[
    Rule { pattern: ".do_send(", why: "ignores the mailbox bound; use a Door", holds: outside_actor },
    Rule {
        pattern: ".recipient()",
        why: "an actix Recipient bypasses the meter; use a Subscriber",
        holds: outside_actor,
    },
    Rule { pattern: "unbounded_channel", why: "every queue has a bound", holds: outside_actor },
    Rule { pattern: "mpsc::unbounded", why: "every queue has a bound", holds: outside_actor },
    Rule { pattern: "std::sync::mpsc::channel", why: "every queue has a bound", holds: outside_actor },
    Rule { pattern: "dbg!(", why: "left behind", holds: everywhere },
    Rule { pattern: "todo!(", why: "what is not there is not mentioned as if it were", holds: everywhere },
    Rule { pattern: "unimplemented!(", why: "what is not there is not mentioned as if it were", holds: everywhere },
    Rule { pattern: "#[allow(dead_code", why: "delete it", holds: everywhere },
    Rule { pattern: "#[allow(unused", why: "delete it", holds: everywhere },
    Rule {
        pattern: "#[ignore]",
        why: "an ignored test says why and since when: #[ignore = \"...\"]",
        holds: everywhere,
    },
    Rule { pattern: "HashMap::new()", why: "hash maps only through kula_types::Map: a fixed hasher", holds: in_rooms },
    Rule { pattern: "actix::", why: "actix only in crates/actor and the actor.rs shells", holds: beyond_shells },
    Rule { pattern: "actix::", why: "a machine is pure", holds: pure },
    Rule { pattern: "tokio::", why: "a machine is pure", holds: pure },
    Rule { pattern: "std::net", why: "a machine is pure", holds: pure },
    Rule { pattern: "std::fs", why: "a machine is pure", holds: pure },
    Rule { pattern: "std::thread", why: "a machine is pure", holds: pure },
    Rule { pattern: "std::sync::Mutex", why: "a machine is pure", holds: pure },
    Rule { pattern: "Instant::now", why: "a machine is pure: time is an argument", holds: pure },
    Rule { pattern: "SystemTime", why: "a machine is pure: time is an argument", holds: pure },
    Rule { pattern: "getrandom", why: "a machine is pure: randomness is an argument", holds: pure },
];

fn everywhere(_: &str) -> bool {
    true
}

fn in_rooms(name: &str) -> bool {
    name.starts_with("crates/")
}

fn outside_actor(name: &str) -> bool {
    !name.starts_with("crates/actor/")
}

/// Machines, and whatever the house declares free of threads, clocks and actix.
fn pure(name: &str) -> bool {
    let machine = name.ends_with("/machine.rs") || name.contains("/machine/");
    let pure_rooms = ["types", "lattice", "schema", "placement"];
    machine
        || name.starts_with("crates/storage/src/engine/")
        || pure_rooms.iter().any(|room| name.starts_with(&format!("crates/{room}/src/")))
}

/// Where actix has no business: everything but the furniture, the shells, the wiring, the binary and tests.
fn beyond_shells(name: &str) -> bool {
    let shell = name.ends_with("/actor.rs") || name.contains("/actor/") || name.contains("/shell/");
    let allowed = ["crates/actor/", "crates/node/", "crates/kula/", "crates/http/", "xtask/"];
    in_rooms(name)
        && !shell
        && !name.contains("/tests/")
        && !name.contains("/examples/")
        && !allowed.iter().any(|room| name.starts_with(room))
}

pub fn check(source: &Source, faults: &mut Vec<Fault>) {
    // This file names what it forbids.
    if !source.name.ends_with(".rs") || source.name.starts_with("xtask/src/tidy/") {
        return;
    }
    let mut fault = |line: usize, what: String| faults.push(Fault { file: source.name.clone(), line, what });
    if !source.text.starts_with("//!") && !source.text.starts_with("#![") {
        fault(1, "a source opens with //!: what it is, why it is safe, where it ends".into());
    }
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        fault(0, format!("{lines} lines: it has outgrown one idea (at most {FILE_LINES_MAX})"));
    }
    let mut in_tests = false;
    for (index, line) in source.text.lines().enumerate() {
        in_tests |= line.trim_start().starts_with("#[cfg(test)]");
        let code = line.split("//").next().unwrap_or(line);
        for rule in RULES.iter().filter(|rule| (rule.holds)(&source.name)) {
            let test_may = rule.why.starts_with("a machine is pure")
                || rule.why.starts_with("hash maps")
                || rule.why.starts_with("actix only");
            if code.contains(rule.pattern) && !(in_tests && test_may) {
                fault(index + 1, format!("{}: {}", rule.pattern, rule.why));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(name: &str, text: &str) -> Vec<String> {
        let mut faults = Vec::new();
        check(&Source { name: name.into(), text: text.into() }, &mut faults);
        faults.into_iter().map(|fault| fault.to_string()).collect()
    }

    #[test]
    fn planted_violations_are_found_and_clean_files_pass() {
        assert_eq!(faults_of("crates/ring/src/machine.rs", "//! Ring.\nuse std::time::Duration;\n"), [""; 0]);
        assert_eq!(faults_of("crates/ring/src/machine.rs", "//! Ring.\nlet t = Instant::now();\n").len(), 1);
        assert_eq!(faults_of("crates/ring/src/actor.rs", "//! Ring.\nuse actix::prelude::*;\n"), [""; 0]);
        assert_eq!(faults_of("crates/ring/src/ring.rs", "//! Ring.\nuse actix::prelude::*;\n").len(), 1);
        assert_eq!(faults_of("crates/ring/src/x.rs", "//! Ring.\naddr.do_send(1);\n").len(), 1);
        assert_eq!(faults_of("crates/actor/src/x.rs", "//! Door.\naddr.do_send(1);\n"), [""; 0]);
        assert_eq!(faults_of("crates/ring/src/x.rs", "fn f() {}\n").len(), 1);
        assert_eq!(faults_of("crates/ring/src/x.rs", "//! R.\n#[ignore]\n").len(), 1);
    }
}
