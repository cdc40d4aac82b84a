//! Time as an argument: the clock seam and the pure hybrid logical clock.
//!
//! Only adapters read a clock, through `trait Clock`; everything else is given `Mono` or `Timestamp` values. That is
//! what lets a whole cluster run from one seed.

mod hlc;
mod seam;

pub use hlc::{Hlc, Observed, StampError, limits};
pub use seam::{Clock, ManualClock, SystemClock};
