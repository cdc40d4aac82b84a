//! Without the feature: nothing is planted, no site fires, and both are known when the program is compiled.

use crate::{Mutant, Site};

/// Whether this build can plant anything.
pub const IS_BUILT_IN: bool = false;

/// What a run brings with it: here nothing.
pub struct Armed;

pub const fn arm(_mutant: Option<Mutant>, _seed: Option<u64>) -> Armed {
    Armed
}

impl Armed {
    /// How often each site fired.
    pub fn fired(&self) -> impl Iterator<Item = (Site, u64)> {
        std::iter::empty()
    }
}

/// Runs what is production code.
pub fn inside<R>(run: impl FnOnce() -> R) -> R {
    run()
}

/// Whether this mistake is to be made here and now.
pub const fn planted(_: Mutant) -> bool {
    false
}

/// Whether to be unkind here and now.
pub const fn buggify(_: Site) -> bool {
    false
}

const _: () = {
    let mut index = 0;
    while index < Mutant::ALL.len() {
        assert!(!planted(Mutant::ALL[index]));
        index += 1;
    }
    index = 0;
    while index < Site::ALL.len() {
        assert!(!buggify(Site::ALL[index]));
        index += 1;
    }
};
