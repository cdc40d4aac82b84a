//! Any bytes into every decoder (promise P19): no panic, no hang, no memory beyond what the input pays for, and what
//! decodes is sound and has one form.
//!
//! An input is a valid encoding with a few edits, or bytes of any kind (`input`). Checksums and MACs are made right
//! again after the edits where the format is ours to write, so that the decoders behind them are reached too. Inputs
//! come from bolero: at random here, guided by coverage under `cargo bolero test --package kula-fuzz <target>`.
//! What once broke stays in `testdata/regressions.txt` and runs first.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail the test")]
#![allow(clippy::cast_possible_truncation, reason = "a fuzzer picks places and lengths: any bits will do")]

mod context;
mod envelope;
mod files;
mod forms;
mod input;
mod log;
mod meter;
mod mutation;
mod records;
mod regressions;
mod state;
mod table;
mod table_parts;
mod wire;
mod words;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A target is a test: regressions first, then as many inputs as `share` says of `KULA_FUZZ_INPUTS`. `$check` takes an
/// input and the meter and says whether it decoded; it may be called twice with one input.
macro_rules! target {
    ($name:ident, $share:expr, $corpus:expr, $check:expr) => {
        #[test]
        fn $name() {
            let corpus = $crate::meter::shared(|| $corpus);
            let tally = $crate::meter::Tally::default();
            for regression in $crate::regressions::of(stringify!($name)) {
                tally.run(&regression, $check);
            }
            bolero::check!()
                .with_generator($crate::input::Edited(&corpus))
                .with_iterations($crate::input::count($share))
                .for_each(|input: &$crate::input::Input| tally.run(input, $check));
            tally.close(stringify!($name));
        }
    };
}
use target;
