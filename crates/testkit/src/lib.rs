//! What tests share: generators, models and small helpers. Never a dependency of production code.
//!
//! One module a room it serves; a test names the module it takes from. Everything is deterministic from a seed, so a
//! failure can be run again.

pub mod lattice;

pub use kula_clock::Random;

use proptest::test_runner::{Config, FileFailurePersistence};

/// Cases a property runs when `PROPTEST_CASES` does not say.
pub const PROPERTY_CASES: u32 = 64;

/// The house's proptest settings: 64 cases unless `PROPTEST_CASES` says else, found failures kept in the crate's
/// `testdata/regressions.txt`.
pub fn property() -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(PROPERTY_CASES);
    let failure_persistence = Some(Box::new(FileFailurePersistence::Direct("testdata/regressions.txt")) as _);
    Config { cases, failure_persistence, ..Config::default() }
}
