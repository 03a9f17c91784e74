//! From a label set to the numbers that it may have.

use xxhash_rust::xxh3::Xxh3;

use crate::object::Labels;

/// Numbers below are reserved, well-known or the user's.
const FIRST: u32 = 256;

/// How many numbers a cluster has: 256 to 65535.
pub(super) const COUNT: u32 = 65_536 - FIRST;

/// Between two probes. Prime and no divisor of [`COUNT`], so that all numbers are reached and neighbours do not pile up.
const STEP: u64 = 7_919;

/// The number to try in this `attempt` (0 first): the same on every replica, whatever else exists. Bits 16 to 23 are the
/// cluster's.
pub(super) fn number(labels: &Labels, attempt: u32, cluster_id: u32) -> u32 {
    let mut hash = Xxh3::new();
    for (key, value) in labels.iter() {
        for text in [key, value] {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
    }
    let start = hash.digest() % u64::from(COUNT);
    let offset = (start + u64::from(attempt) * STEP) % u64::from(COUNT);
    // Less than COUNT, so it fits.
    (cluster_id << 16) | (FIRST + offset as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(app: &str) -> Labels {
        [("k8s:app", app), ("k8s:io.kubernetes.pod.namespace", "a")].into_iter().collect()
    }

    #[test]
    fn probes_reach_every_number_once() {
        let mut seen: Vec<u32> = (0..COUNT).map(|attempt| number(&labels("web"), attempt, 0)).collect();
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(256..=65_535));
    }

    #[test]
    fn the_cluster_is_part_of_the_number_and_labels_decide() {
        let here = number(&labels("web"), 0, 0);
        assert_eq!(number(&labels("web"), 0, 5), (5 << 16) | here);
        assert_ne!(number(&labels("db"), 0, 0), here);
        let shifted: Labels = [("k8s:ap", "pweb")].into_iter().collect();
        let plain: Labels = [("k8s:app", "web")].into_iter().collect();
        assert_ne!(number(&shifted, 0, 0), number(&plain, 0, 0), "keys and values do not run into each other");
    }
}
