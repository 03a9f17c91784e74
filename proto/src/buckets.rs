//! Buckets of large scopes: what a node holds is compared with finer grain than a whole scope.
//!
//! A row's bucket is given by its table and key alone, so that it stays there for as long as it exists. Of `count` buckets, a
//! power of two, its number is the first bits of a hash: a coarser division is a fold of a finer one.

use xxhash_rust::xxh3::Xxh3;

/// Scopes of more rows are compared by bucket.
pub const LARGE: usize = 1_000;

/// There are never more buckets.
pub const FINEST: u32 = 1_024;

/// Rows of a bucket, at least; fewer than twice as many unless there are [`FINEST`] buckets.
const ROWS: usize = 64;

/// Into how many buckets a scope of so many rows is divided by the node that holds it; `None`: it is compared as a whole.
#[must_use]
pub fn count(rows: usize) -> Option<u32> {
    let wanted = u32::try_from(rows / ROWS).unwrap_or(FINEST).min(FINEST);
    (rows > LARGE).then(|| 1 << wanted.ilog2())
}

/// Whether a scope can be divided into so many buckets.
#[must_use]
pub fn is_count(count: u32) -> bool {
    count.is_power_of_two() && (2..=FINEST).contains(&count)
}

/// The bucket of a row, of `count` buckets.
#[must_use]
pub fn bucket(table: i32, key: &str, count: u32) -> u32 {
    let mut hash = Xxh3::new();
    hash.update(&table.to_le_bytes());
    hash.update(key.as_bytes());
    // The upper half times the count: its first bits.
    (((hash.digest() >> 32) * u64::from(count)) >> 32) as u32
}

/// XOR of the content hashes of the rows of each bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums(Box<[u64]>);

impl Sums {
    /// Those of no rows, in `count` buckets.
    #[must_use]
    pub fn new(count: u32) -> Self {
        Self(vec![0; count as usize].into())
    }

    /// Adds a row, or takes it out.
    pub fn toggle(&mut self, table: i32, key: &str, hash: u64) {
        let count = self.0.len() as u32;
        if let Some(sum) = self.0.get_mut(bucket(table, key, count) as usize) {
            *sum ^= hash;
        }
    }

    /// The same in fewer buckets; `None` if these cannot be folded to so many.
    #[must_use]
    pub fn fold(&self, count: u32) -> Option<Vec<u64>> {
        let each = self.0.len().checked_div(count as usize).filter(|each| is_count(count) && *each > 0)?;
        Some(self.0.chunks(each).map(|sums| sums.iter().fold(0, |all, sum| all ^ sum)).collect())
    }
}

impl From<Sums> for Vec<u64> {
    fn from(sums: Sums) -> Self {
        sums.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(keys: std::ops::Range<u64>, count: u32) -> Sums {
        let mut sums = Sums::new(count);
        keys.for_each(|key| sums.toggle(7, &key.to_string(), key + 1));
        sums
    }

    #[test]
    fn small_scopes_have_none_and_large_ones_some_dozens_of_rows_in_each() {
        assert_eq!([0, LARGE, LARGE + 1, 10_000, 1_000_000].map(count), [None, None, Some(8), Some(128), Some(FINEST)]);
        assert!(count(usize::MAX).is_some_and(is_count));
        assert_eq!([0, 1, 3, FINEST * 2].map(is_count), [false; 4]);
    }

    #[test]
    fn a_coarser_division_is_a_fold_of_a_finer_one() {
        let fine = sums(0..5_000, FINEST);
        for count in [2, 64, FINEST] {
            assert_eq!(fine.fold(count), Some(sums(0..5_000, count).into()));
        }
        assert_eq!((fine.fold(3), sums(0..10, 8).fold(16)), (None, None));
    }

    #[test]
    fn one_row_is_one_bucket() {
        let (before, after): (Vec<u64>, Vec<u64>) = (sums(0..2_000, 64).into(), sums(0..2_001, 64).into());
        let differ = before.iter().zip(&after).filter(|(one, other)| one != other).count();
        assert_eq!(differ, 1);
        assert!(before.iter().all(|sum| *sum != 0), "every bucket has rows");
    }
}
