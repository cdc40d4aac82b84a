//! What tests say that they prove: `// Promise: P1, R28` above a test, `//! Promise: P19` in the header of a file all of
//! whose tests do, and `/// R28: what goes wrong` above a planted mistake.

use crate::tidy::{Fault, Source};

/// One test, or one planted mistake, and one number of what it proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub number: String,
    pub file: String,
    pub line: usize,
    pub name: String,
    pub is_mutant: bool,
}

/// All marks, in the order of files and lines, and those that mark nothing.
pub fn of(sources: &[Source]) -> (Vec<Mark>, Vec<Fault>) {
    let (mut marks, mut faults) = (Vec::new(), Vec::new());
    for source in sources.iter().filter(|source| source.name.ends_with(".rs")) {
        let lines: Vec<&str> = source.text.lines().map(str::trim).collect();
        let is_of_mutants = source.name.ends_with("/mutant.rs");
        let mut mark = |index: usize, text: &str, name: &str, is_mutant: bool| {
            let mark = |number: String| Mark {
                number,
                file: source.name.clone(),
                line: index + 1,
                name: name.into(),
                is_mutant,
            };
            marks.extend(numbers(text).into_iter().flatten().map(mark));
        };
        for (index, line) in lines.iter().enumerate() {
            if let Some(text) = line.strip_prefix("//! Promise: ") {
                tests(&lines).for_each(|name| mark(index, text, name, false));
            } else if let Some(text) = line.strip_prefix("// Promise: ") {
                match below(&lines[index + 1..]).filter(|_| numbers(text).is_some()) {
                    Some(name) => mark(index, text, name, false),
                    None => {
                        let what = "this mark is above no test, or names no promise: // Promise: P1, R28".into();
                        faults.push(Fault { file: source.name.clone(), line: index + 1, what });
                    }
                }
            } else if is_of_mutants
                && let Some((text, _)) = line.strip_prefix("/// ").and_then(|line| line.split_once(": "))
                && let Some(name) = variant(&lines[index + 1..])
            {
                mark(index, text, name, true);
            }
        }
    }
    (marks, faults)
}

/// `P1, R28`: the numbers, if it is nothing else.
fn numbers(text: &str) -> Option<Vec<String>> {
    let is_number = |word: &str| {
        let digits = word.strip_prefix(['P', 'R']);
        digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()))
    };
    text.split(", ").map(|word| is_number(word).then(|| word.to_string())).collect()
}

/// The test that these lines begin with, behind comments and attributes.
fn below<'a>(lines: &[&'a str]) -> Option<&'a str> {
    let is_before = |line: &&&str| line.starts_with("//") || line.starts_with("#[");
    lines.iter().find(|line| !is_before(line)).and_then(|line| name(line))
}

fn name(line: &str) -> Option<&str> {
    let behind = line.split_once("fn ").or_else(|| line.split_once("target!("))?.1;
    let end = behind.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')?;
    Some(&behind[..end])
}

/// Every test of a file.
fn tests<'a>(lines: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    lines.iter().enumerate().filter_map(|(index, line)| match *line {
        "#[test]" => below(&lines[index + 1..]),
        line if line.starts_with("target!(") => name(line),
        _ => None,
    })
}

/// The variant of an enumeration below its documentation.
fn variant<'a>(lines: &[&'a str]) -> Option<&'a str> {
    let name = lines.iter().find(|line| !line.starts_with("///"))?.strip_suffix(',')?;
    name.chars().all(|letter| letter.is_ascii_alphanumeric()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, text: &str) -> (Vec<String>, usize) {
        let (marks, faults) = of(&[Source { name: name.into(), text: text.into() }]);
        (marks.into_iter().map(|mark| format!("{} {}", mark.number, mark.name)).collect(), faults.len())
    }

    #[test]
    fn tests_files_and_mutants_say_what_they_prove() {
        let one = "// Promise: P1, R28\n#[test]\n// why\n#[should_panic]\nfn it_holds() {\n";
        assert_eq!(found("crates/x/src/a.rs", one).0, ["P1 it_holds", "R28 it_holds"]);
        let file = "//! Any bytes.\n//!\n//! Promise: P19\n#[test]\nfn one() {}\ntarget!(two, 1);\nfn helper() {}\n";
        assert_eq!(found("fuzz/tests/a.rs", file).0, ["P19 one", "P19 two"]);
        let mutants = "/// P1, R39: too early.\n/// More.\nAckBeforeSync,\n/// Cell: of no number.\nOther,\n";
        assert_eq!(found("crates/x/src/mutant.rs", mutants).0, ["P1 AckBeforeSync", "R39 AckBeforeSync"]);
    }

    #[test]
    fn a_mark_above_nothing_is_a_fault() {
        assert_eq!(found("crates/x/src/a.rs", "// Promise: P1\nlet x = 1;\n"), (Vec::new(), 1));
        assert_eq!(found("crates/x/src/a.rs", "// Promise: soon\n#[test]\nfn it() {}\n"), (Vec::new(), 1));
    }
}
