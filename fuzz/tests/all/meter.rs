//! What a decoder may cost: memory by the allocator's count, and time.
//!
//! The allocator counts for the whole process, and targets run beside each other. So a first measurement can only be
//! too high: what stays within its bound has passed, and what does not is run again while every other target waits.

use crate::{ALLOCATOR, input::Input};
use kula_clock::{Clock, SystemClock};
use stats_alloc::Region;
use std::{
    cell::Cell,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// What any decoder may allocate, however short its input: tables, windows, errors with their texts.
const BASE_BYTES: usize = 64 << 10;
/// One decoder with one input takes microseconds; a machine that does something else meanwhile must not fail a test.
const TIME_MAX: Duration = Duration::from_millis(200);
const TRIES_ALONE: usize = 5;

static TURN: RwLock<()> = RwLock::new(());

/// Runs what allocates beside the targets, never while one is measured alone. Every test of this binary goes this way.
pub fn shared<T>(work: impl FnOnce() -> T) -> T {
    let _shared = TURN.read().unwrap_or_else(PoisonError::into_inner);
    work()
}

/// What one run of a check cost.
#[derive(Default)]
pub struct Meter {
    /// The first measurement past its bound.
    passed: Cell<Option<Cost>>,
    /// The highest excess over `BASE_BYTES`, in hundredths of the input's bytes.
    hundredths: Cell<u64>,
}

#[derive(Clone, Copy)]
struct Cost {
    input_bytes: usize,
    allocated: usize,
    took: Duration,
}

impl Meter {
    /// All that `work` allocates, freed or not, is at most 64 KiB and `factor` bytes for each byte of its input.
    pub fn bounded<T>(&self, input_bytes: usize, factor: usize, work: impl FnOnce() -> T) -> T {
        let clock = SystemClock::new();
        let region = Region::new(ALLOCATOR);
        let made = work();
        let allocated = region.change().bytes_allocated;
        let took = clock.mono().0;
        if allocated > BASE_BYTES + factor * input_bytes || took > TIME_MAX {
            self.passed.set(self.passed.get().or(Some(Cost { input_bytes, allocated, took })));
        }
        let excess = allocated.saturating_sub(BASE_BYTES) as u64 * 100 / (input_bytes as u64).max(1);
        self.hundredths.set(self.hundredths.get().max(excess));
        made
    }
}

/// What became of a target's inputs.
#[derive(Default)]
pub struct Tally {
    inputs: AtomicUsize,
    decoded: AtomicUsize,
    hundredths: AtomicU64,
}

impl Tally {
    pub fn run(&self, input: &Input, check: impl Fn(&Input, &Meter) -> bool) {
        let mut meter = Meter::default();
        let mut decoded = shared(|| check(input, &meter));
        if meter.passed.get().is_some() {
            let _alone = TURN.write().unwrap_or_else(PoisonError::into_inner);
            // What another target was about to be given may still be in the making, and the machine may stand still:
            // neither happens each time.
            for _ in 0..TRIES_ALONE {
                meter = Meter::default();
                decoded = check(input, &meter);
                if meter.passed.get().is_none() {
                    break;
                }
            }
        }
        if let Some(Cost { input_bytes, allocated, took }) = meter.passed.get() {
            panic!("{allocated} bytes and {took:?} for an input of {input_bytes} bytes");
        }
        self.inputs.fetch_add(1, Ordering::Relaxed);
        self.decoded.fetch_add(usize::from(decoded), Ordering::Relaxed);
        self.hundredths.fetch_max(meter.hundredths.get(), Ordering::Relaxed);
    }

    /// Both ends must have been met, or the target tests nothing.
    pub fn close(&self, name: &str) {
        let (inputs, decoded) = (self.inputs.load(Ordering::Relaxed), self.decoded.load(Ordering::Relaxed));
        let factor = self.hundredths.load(Ordering::Relaxed) as f64 / 100.0;
        println!("{name}: {inputs} inputs, {decoded} decoded, at most 64 KiB + {factor} x input");
        assert!(decoded > 0 && decoded < inputs, "{name}: {decoded} of {inputs} inputs decoded");
    }
}
