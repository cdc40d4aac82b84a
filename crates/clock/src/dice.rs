//! `trait Dice`: the only door to chance. The operating system's, and one that makes the same throws from the same seed.

use crate::Random;
use std::sync::{Mutex, PoisonError};

/// Where random numbers come from: ids and secrets that nobody may guess or draw twice, and throws that only keep nodes
/// apart.
pub trait Dice: Send + Sync + 'static {
    /// Fills all of `bytes`, or says that there is no chance to be had; then nothing may be made of them.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoChance>;

    fn draw(&self) -> Result<u64, NoChance> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// From 0 to below 1, for jitter: half, if there is no chance to be had.
    #[allow(clippy::cast_precision_loss, reason = "53 bits are what a f64 holds")]
    fn roll(&self) -> f64 {
        self.draw().map_or(0.5, |drawn| (drawn >> 11) as f64 / (1u64 << 53) as f64)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random numbers")]
pub struct NoChance;

/// The operating system's.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDice;

impl Dice for SystemDice {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoChance> {
        getrandom::fill(bytes).map_err(|_| NoChance)
    }
}

/// Throws that follow from a seed. For simulations and tests; anybody can guess them.
pub struct SeededDice {
    random: Mutex<Random>,
}

impl SeededDice {
    pub fn new(seed: u64) -> Self {
        SeededDice { random: Mutex::new(Random::new(seed)) }
    }
}

impl Dice for SeededDice {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoChance> {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&random.next().to_le_bytes()[..part.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_throws_and_fills_every_length() {
        let (one, other) = (SeededDice::new(7), SeededDice::new(7));
        let drawn: Vec<u64> = (0..100).map(|_| one.draw().unwrap()).collect();
        assert_eq!(drawn, (0..100).map(|_| other.draw().unwrap()).collect::<Vec<_>>());
        assert_eq!(drawn.iter().collect::<std::collections::BTreeSet<_>>().len(), 100);
        let mut bytes = [0; 13];
        one.fill(&mut bytes).unwrap();
        assert_ne!(bytes[8..], [0; 5]);
    }

    #[test]
    fn a_throw_lies_between_0_and_1_and_the_system_never_draws_twice() {
        let seeded = SeededDice::new(1);
        let mean =
            (0..1_000).map(|_| seeded.roll()).inspect(|roll| assert!((0.0..1.0).contains(roll))).sum::<f64>() / 1_000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
        assert_ne!(SystemDice.draw(), SystemDice.draw());
    }
}
