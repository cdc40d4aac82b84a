//! With the feature: one thread's state, brought by a guard, asked by the rooms.
//!
//! The die is of its own stream, so that a run of one seed asks the same questions in the same order and gets the same
//! answers. Outside a simulated process both questions are answered with no, and no number is drawn.

use crate::{Mutant, Site};
use std::{
    cell::{Cell, RefCell},
    marker::PhantomData,
};

/// Whether this build can plant anything.
pub const IS_BUILT_IN: bool = true;

/// Runs whose sites may fire, of a hundred.
const UNKIND_PERCENT: u64 = 25;
/// How often a site that may fire does, of a thousand times that it is asked.
const FIRES_PER_MILLE: u64 = 50;
/// A panic costs all that the actor had in hand, and too many end the node.
const PANICS_PER_MILLE: u64 = 1;

#[derive(Clone, Copy)]
struct State {
    mutant: Option<Mutant>,
    is_unkind: bool,
    /// Production code runs.
    is_inside: bool,
}

struct Dice {
    state: u64,
    /// By site.
    may_fire: Vec<bool>,
    fired: Vec<u64>,
}

thread_local! {
    static STATE: Cell<State> = const { Cell::new(State::NONE) };
    static DICE: RefCell<Option<Dice>> = const { RefCell::new(None) };
}

/// A run has this thread, until it is dropped.
pub struct Armed {
    _of_this_thread: PhantomData<*const ()>,
}

/// Begins a run on this thread: one mistake, if any, and the die of its sites; without a seed none fires.
pub fn arm(mutant: Option<Mutant>, seed: Option<u64>) -> Armed {
    let state = seed.unwrap_or_default() ^ 0x6275_6767_6966_7921;
    let mut dice = Dice { state, may_fire: Vec::new(), fired: vec![0; Site::ALL.len()] };
    let is_unkind = dice.next() % 100 < UNKIND_PERCENT && seed.is_some();
    dice.may_fire = Site::ALL.iter().map(|_| dice.next().is_multiple_of(2)).collect();
    let before = DICE.replace(Some(dice));
    assert!(before.is_none(), "kula-fault: a thread is armed for one run at a time");
    STATE.set(State { mutant, is_unkind, is_inside: false });
    Armed { _of_this_thread: PhantomData }
}

impl Armed {
    /// How often each site fired.
    pub fn fired(&self) -> impl Iterator<Item = (Site, u64)> {
        let counts = DICE.with_borrow(|dice| dice.as_ref().map(|dice| dice.fired.clone())).unwrap_or_default();
        Site::ALL.iter().copied().zip(counts)
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        STATE.set(State::NONE);
        DICE.set(None);
    }
}

/// Runs what is production code: only in there mistakes are made and sites fire.
pub fn inside<R>(run: impl FnOnce() -> R) -> R {
    struct Back(State);
    impl Drop for Back {
        fn drop(&mut self) {
            STATE.set(self.0);
        }
    }
    // Also when it panics: the next to run on this thread is the oracle.
    let before = Back(STATE.get());
    STATE.set(State { is_inside: true, ..before.0 });
    run()
}

/// Whether this mistake is to be made here and now.
#[inline]
pub fn planted(mutant: Mutant) -> bool {
    let state = STATE.get();
    state.is_inside && state.mutant == Some(mutant)
}

/// Whether to be unkind here and now.
#[inline]
pub fn buggify(site: Site) -> bool {
    let state = STATE.get();
    state.is_inside
        && state.is_unkind
        && DICE.with_borrow_mut(|dice| dice.as_mut().is_some_and(|dice| dice.fires(site)))
}

impl State {
    const NONE: State = State { mutant: None, is_unkind: false, is_inside: false };
}

impl Dice {
    /// SplitMix64 (Steele et al., 2014).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn fires(&mut self, site: Site) -> bool {
        let place = site as usize;
        let per_mille = match site {
            // It has little to do.
            Site::MembershipPanics => FIRES_PER_MILLE,
            site if site.is_in_an_actor() => PANICS_PER_MILLE,
            _ => FIRES_PER_MILLE,
        };
        let fires = self.may_fire[place] && self.next() % 1_000 < per_mille;
        self.fired[place] += u64::from(fires);
        fires
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(seed: u64) -> Vec<bool> {
        let _armed = arm(None, Some(seed));
        inside(|| (0..2_000).map(|_| buggify(Site::ALL[0])).collect())
    }

    #[test]
    fn a_mistake_is_made_inside_the_run_that_it_is_planted_in_and_nowhere_else() {
        let (one, other) = (Mutant::ALL[0], Mutant::ALL[1]);
        assert!(!inside(|| planted(one)));
        let armed = arm(Some(one), None);
        assert!(!planted(one) && inside(|| planted(one) && !planted(other)));
        let elsewhere = std::thread::scope(|scope| scope.spawn(|| inside(|| planted(one))).join());
        assert!(!elsewhere.unwrap());
        drop(armed);
        assert!(!inside(|| planted(one)));
    }

    #[test]
    fn what_panics_inside_is_outside_afterwards() {
        let _armed = arm(Some(Mutant::ALL[0]), None);
        let panics = std::panic::AssertUnwindSafe(|| inside(|| panic!("as a machine does")));
        assert!(std::panic::catch_unwind(panics).is_err());
        assert!(!planted(Mutant::ALL[0]));
    }

    #[test]
    fn one_seed_has_one_stream_and_some_seeds_are_kind() {
        let fired: Vec<usize> = (0..200).map(|seed| asked(seed).into_iter().filter(|fires| *fires).count()).collect();
        let unkind: Vec<usize> = fired.iter().copied().filter(|count| *count > 0).collect();
        // One seed in four, and there every second site.
        assert!((12..40).contains(&unkind.len()), "{}", unkind.len());
        assert!(unkind.iter().all(|count| (50..150).contains(count)), "5 % of 2,000: {unkind:?}");
        let seed = (0..).find(|seed| fired[*seed] > 0).unwrap() as u64;
        assert_eq!(asked(seed), asked(seed));
    }

    #[test]
    fn what_fired_is_counted_and_outside_nothing_is_drawn() {
        let seed = (0..).find(|seed| asked(*seed).contains(&true)).unwrap();
        let armed = arm(None, Some(seed));
        assert!((0..2_000).all(|_| !buggify(Site::ALL[0])));
        let fires = inside(|| (0..2_000).filter(|_| buggify(Site::ALL[0])).count());
        assert_eq!(armed.fired().next(), Some((Site::ALL[0], fires as u64)));
        assert!(fires > 0);
    }
}
