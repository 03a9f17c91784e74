//! How long pods wait, from being bound to their rows.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::object::Name;

/// Pods that are bound, have not started and have no rows yet, and since when.
#[derive(Debug, Default)]
pub struct Publication {
    since: HashMap<Name, Instant>,
    took: Vec<Duration>,
}

impl Publication {
    /// A pod was compiled: whether it has rows now, and if not, whether its node waits for them.
    pub fn compiled(&mut self, pod: &Name, published: bool, waits: bool, now: Instant) {
        if published {
            let since = self.since.remove(pod);
            self.took.extend(since.map(|since| now.saturating_duration_since(since)));
        } else if waits {
            self.since.entry(pod.clone()).or_insert(now);
        } else {
            self.since.remove(pod);
        }
    }

    /// How long those took that were published since the last call.
    pub fn take(&mut self) -> Vec<Duration> {
        std::mem::take(&mut self.took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_binding_to_rows() {
        let (start, step) = (Instant::now(), Duration::from_millis(5));
        let (pod, gone) = (Name::new("a", "x"), Name::new("a", "y"));
        let mut publication = Publication::default();
        publication.compiled(&pod, false, true, start);
        publication.compiled(&gone, false, true, start);
        publication.compiled(&pod, false, true, start + step);
        publication.compiled(&gone, false, false, start + step);
        publication.compiled(&pod, true, true, start + 2 * step);
        publication.compiled(&pod, true, true, start + 3 * step);
        assert_eq!((publication.take(), publication.take()), (vec![2 * step], vec![]));
        assert!(publication.since.is_empty());
    }
}
