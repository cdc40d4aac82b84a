//! Planted mistakes and unkind moments: the two things that a simulated run asks of production code (FoundationDB's
//! buggify; mutation testing by hand).
//!
//! A *mutant* is a bug in one place, off but for a hunt: a suite that lets one live proves less than it says. A *site* is a
//! place where the code may at any time do something legal that it hardly ever does. Both are decided by one thread-local
//! state that a run brings with it, so that runs in several threads do not meet. Without the feature `mutants` there is no
//! state: both questions are constants, and the compiler removes what depends on them.

#[cfg(feature = "mutants")]
mod armed;
mod list;
mod mutant;
mod site;
#[cfg(not(feature = "mutants"))]
mod unarmed;

#[cfg(feature = "mutants")]
pub use armed::{Armed, IS_BUILT_IN, arm, buggify, inside, planted};
pub use mutant::Mutant;
pub use site::Site;
#[cfg(not(feature = "mutants"))]
pub use unarmed::{Armed, IS_BUILT_IN, arm, buggify, inside, planted};
