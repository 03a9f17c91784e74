//! Time between attempts: 0.1 to 15 s with full jitter, so that nodes that lost one operator together do not return together.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(15);

/// Doubles with every failure.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        self.pause_within(LAST)
    }

    /// The next pause, if that is shorter.
    pub fn pause_within(&mut self, last: Duration) -> Duration {
        let most = FIRST.saturating_mul(1 << self.failures.min(16)).min(LAST).min(last);
        self.failures = self.failures.saturating_add(1);
        between(FIRST, most.max(FIRST))
    }

    /// It went well.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A random time within the bounds.
#[must_use]
pub fn between(least: Duration, most: Duration) -> Duration {
    // The keys of a new hasher are random; nothing here needs more than that.
    let random = RandomState::new().build_hasher().finish() >> 11;
    let share = random as f64 / (1_u64 << 53) as f64;
    least + most.saturating_sub(least).mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_within_their_bounds() {
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            let pause = backoff.pause();
            assert!((FIRST..=LAST).contains(&pause), "{pause:?}");
        }
        let short = backoff.pause_within(3 * FIRST);
        assert!((FIRST..=3 * FIRST).contains(&short), "{short:?}");
        backoff.reset();
        assert_eq!(backoff.pause(), FIRST);
    }
}
