//! Inputs that once broke something: `testdata/regressions.txt`, a line each: target, pick, bytes in hex.

use crate::input::Input;

const REGRESSIONS: &str = include_str!("../../testdata/regressions.txt");

pub fn of(target: &str) -> Vec<Input> {
    let lines = REGRESSIONS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let inputs = lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        let named = words.next().unwrap();
        let pick = words.next().unwrap().parse().unwrap();
        let hex = words.next().unwrap_or_default().as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        (named == target).then(|| Input { pick, bytes: hex.chunks(2).map(byte).collect() })
    });
    inputs.collect()
}
