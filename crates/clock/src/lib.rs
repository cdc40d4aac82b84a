//! Time and chance as arguments: the clock seam, the dice, the pure hybrid logical clock, and what is told of its lease.
//!
//! Only adapters read a clock, through `trait Clock`, or throw dice, through `trait Dice`; everything else is given `Mono`,
//! `Timestamp` or drawn values. That is what lets a whole cluster run from one seed.

mod dice;
mod hlc;
mod random;
mod seam;
mod told;

pub use dice::{Dice, NoChance, SeededDice, SystemDice};
pub use hlc::{Hlc, Observed, StampError, limits};
pub use random::Random;
pub use seam::{Clock, ManualClock, SystemClock};
pub use told::Told;
