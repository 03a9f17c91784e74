//! Random cases on all CPUs: in sequences of their own seeds, so that a seed is the same cases however many CPUs there are.

use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{available_parallelism, scope};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner, contextualize_config};

const SEQUENCES: u32 = 16;
/// Where none is asked for.
const SEED: u64 = 1;

/// What was run.
pub struct Run {
    cases: u32,
    seed: u64,
    took: Duration,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cases, from seed {}, in {} s", self.cases, self.seed, self.took.as_secs())
    }
}

/// Holds `check` for cases of a strategy: `PROPTEST_CASES`, or so many. Each thread has something of its own from `start`.
pub fn run<S: Strategy + Sync, T>(
    cases: u32,
    strategy: &S,
    start: impl Fn() -> T + Sync,
    check: impl Fn(&mut T, S::Value) -> Result<(), TestCaseError> + Sync,
) -> Run {
    let started = Instant::now();
    let config =
        ProptestConfig { cases, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() };
    let config = contextualize_config(config);
    let seed = if let RngSeed::Fixed(seed) = config.rng_seed { seed } else { SEED };
    let cases = config.cases.div_ceil(SEQUENCES);
    let next = AtomicU32::new(0);
    let work = || {
        let mut own = start();
        loop {
            let sequence = next.fetch_add(1, Ordering::Relaxed);
            if sequence >= SEQUENCES {
                return;
            }
            let rng_seed = seed.wrapping_mul(SEQUENCES.into()).wrapping_add(sequence.into());
            let config = ProptestConfig { cases, rng_seed: RngSeed::Fixed(rng_seed), ..config.clone() };
            let own = RefCell::new(&mut own);
            if let Err(error) = TestRunner::new(config).run(strategy, |case| check(&mut own.borrow_mut(), case)) {
                // The others need not go on for long.
                next.store(SEQUENCES, Ordering::Relaxed);
                panic!("seed {seed}, sequence {sequence}: {error}");
            }
        }
    };
    scope(|scope| {
        for _ in 0..available_parallelism().unwrap().get() {
            scope.spawn(work);
        }
    });
    Run { cases: cases * SEQUENCES, seed, took: started.elapsed() }
}
