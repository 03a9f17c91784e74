//! Hashes of what is in each scope, and in each bucket of those that are large: what nodes compare with what they hold.

use std::collections::HashMap;

use axoneme_proto::Scope;
use axoneme_proto::buckets::{FINEST, LARGE, Sums, is_count};

use crate::table::RowId;

#[derive(Debug, Default)]
struct Digest {
    rows: usize,
    hash: u64,
    /// Of the finest division, while the scope is large.
    sums: Option<Sums>,
}

/// Those of all scopes.
#[derive(Debug, Default)]
pub struct Digests(HashMap<Scope, Digest>);

impl Digests {
    /// A row has another content hash; none if it was, or is, not there. Tells whether the scope has become large: then
    /// [`Digests::became_large`] is due.
    pub fn change(&mut self, id: &RowId, old: Option<u64>, new: Option<u64>) -> bool {
        if !self.0.contains_key(&id.scope) {
            self.0.insert(id.scope.clone(), Digest::default());
        }
        let Some(digest) = self.0.get_mut(&id.scope) else { return false };
        let difference = old.unwrap_or(0) ^ new.unwrap_or(0);
        digest.hash ^= difference;
        digest.rows = digest.rows + usize::from(new.is_some()) - usize::from(old.is_some());
        if let Some(sums) = &mut digest.sums {
            sums.toggle(id.table.into(), &id.key, difference);
        }
        // With some way between the two: a scope that grows and shrinks by a row is not counted anew each time.
        match digest.rows {
            0 => drop(self.0.remove(&id.scope)),
            rows if rows < LARGE / 2 => digest.sums = None,
            rows => return rows > LARGE && digest.sums.is_none(),
        }
        false
    }

    /// All rows of a scope that has become large, with their hashes.
    pub fn became_large<'a>(&mut self, scope: &Scope, rows: impl Iterator<Item = (&'a RowId, u64)>) {
        if let Some(digest) = self.0.get_mut(scope) {
            digest.sums = Some(sums(FINEST, rows));
        }
    }

    /// XOR of the content hashes of a scope's rows.
    #[must_use]
    pub fn hash(&self, scope: &Scope) -> u64 {
        self.0.get(scope).map_or(0, |digest| digest.hash)
    }

    /// The same of each of `count` buckets, `None` if there cannot be so many. `rows` are asked for only where they are few.
    pub fn buckets<'a, R>(&self, scope: &Scope, count: u32, rows: impl FnOnce() -> R) -> Option<Vec<u64>>
    where
        R: Iterator<Item = (&'a RowId, u64)>,
    {
        match self.0.get(scope).and_then(|digest| digest.sums.as_ref()) {
            Some(kept) => kept.fold(count),
            None => is_count(count).then(|| sums(count, rows()).into()),
        }
    }
}

fn sums<'a>(count: u32, rows: impl Iterator<Item = (&'a RowId, u64)>) -> Sums {
    let mut sums = Sums::new(count);
    rows.for_each(|(id, hash)| sums.toggle(id.table.into(), &id.key, hash));
    sums
}

#[cfg(test)]
mod tests {
    use axoneme_proto::Table;

    use super::*;

    #[test]
    fn a_scope_that_grows_and_shrinks_has_the_buckets_of_its_rows() {
        let ids: Vec<RowId> =
            (0..2_000).map(|key| RowId::new(Scope::Cluster, Table::Node, format!("n{key}"))).collect();
        let mut digests = Digests::default();
        let check = |digests: &Digests, rows: &[RowId]| {
            let hashed = || rows.iter().map(|id| (id, id.key.len() as u64));
            assert_eq!(digests.buckets(&Scope::Cluster, 16, hashed), Some(sums(16, hashed()).into()));
            assert_eq!(digests.hash(&Scope::Cluster), hashed().fold(0, |all, (_, hash)| all ^ hash));
        };
        for (number, id) in ids.iter().enumerate() {
            if digests.change(id, None, Some(id.key.len() as u64)) {
                let rows = ids[..=number].iter().map(|id| (id, id.key.len() as u64));
                digests.became_large(&Scope::Cluster, rows);
            }
        }
        check(&digests, &ids);
        for (number, id) in ids.iter().enumerate().rev() {
            digests.change(id, Some(id.key.len() as u64), None);
            if number % 300 == 0 {
                check(&digests, &ids[..number]);
            }
        }
        assert!(digests.0.is_empty());
    }
}
