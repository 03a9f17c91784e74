//! Identities that some policy treats worse than pods at large: see [`super::excepted`].

use std::collections::{BTreeSet, HashMap};

/// How many policy rows do so, by identity.
#[derive(Debug, Default)]
pub struct Excepted(HashMap<u32, usize>);

impl Excepted {
    /// Whether some row does.
    #[must_use]
    pub fn contains(&self, identity: u32) -> bool {
        self.0.contains_key(&identity)
    }

    /// A row's list was `before` and is `now`; gives back the identities for which the answer has turned.
    pub fn change(&mut self, before: &[u32], now: &[u32]) -> BTreeSet<u32> {
        let mut turned = BTreeSet::new();
        if before == now {
            return turned;
        }
        // Counted up first, so that what stays does not turn twice.
        for identity in now {
            let count = self.0.entry(*identity).or_default();
            *count += 1;
            if *count == 1 {
                turned.insert(*identity);
            }
        }
        for identity in before {
            let Some(count) = self.0.get_mut(identity) else { continue };
            *count -= 1;
            if *count == 0 {
                self.0.remove(identity);
                turned.insert(*identity);
            }
        }
        turned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_counts_while_some_row_lists_it() {
        let mut excepted = Excepted::default();
        assert_eq!(excepted.change(&[], &[1, 2]), [1, 2].into());
        assert_eq!(excepted.change(&[], &[2, 3]), [3].into());
        assert_eq!(excepted.change(&[1, 2], &[2]), [1].into());
        assert_eq!(excepted.change(&[2], &[]), [].into());
        assert!(excepted.contains(2) && !excepted.contains(1));
        assert_eq!(excepted.change(&[2, 3], &[]), [2, 3].into());
    }
}
