//! What concerns the maps as a whole: taking over at a start, finding drift, removing leftovers.

use std::collections::{BTreeMap, BTreeSet};

use axoneme_bpf::policy::{Policy, PolicyFlags};
use tokio::time::Instant;

use super::slots::{Contents, Garbage, dump_slots};
use super::{Applied, FIRST_INDEX, HOST_INDEX, Policies, Subject};
use crate::desired::pods::{CLOSED_POLICY, OPEN_POLICY};
use crate::desired::{Desired, HOST};
use crate::reconcile::ops::MapError;

impl Policies {
    /// Takes over what the kernel has. `indexes` tells which identity has which index: of attached endpoints, and of the
    /// checkpoint. To be repeated when it fails, and before anything else is done.
    ///
    /// # Errors
    /// When a map cannot be read or the fixed policies not be written.
    pub fn adopt(&mut self, indexes: &BTreeMap<u32, u32>, now: Instant) -> Result<(), MapError> {
        let mut entries = BTreeMap::new();
        self.maps.policies.dump(&mut |index, policy| {
            if policy.generation != 0 {
                entries.insert(index, policy);
            }
        })?;
        let mut slots = dump_slots(&self.maps)?;
        self.fixed(&entries)?;
        let highest = slots.keys().copied().chain(entries.values().map(|policy| policy.slot)).max();
        self.next_slot = highest.unwrap_or(0).saturating_add(1);
        self.adopt_host(&mut entries, &mut slots)?;
        let mut taken = BTreeSet::from([HOST_INDEX]);
        for (&identity, &index) in indexes {
            if index < FIRST_INDEX || index >= self.maps.policies.capacity() || !taken.insert(index) {
                continue;
            }
            let applied = entries.remove(&index).map(|entry| Applied {
                entry,
                contents: slots.remove(&entry.slot).unwrap_or_default(),
                listed: None,
            });
            self.subjects.insert(identity, Subject { index, applied, stale: false });
        }
        self.orphans = entries.keys().copied().filter(|&index| index >= FIRST_INDEX).collect();
        let orphaned: BTreeSet<u32> = entries.values().map(|policy| policy.slot).collect();
        slots.retain(|slot, _| !orphaned.contains(slot));
        self.garbage = slots.into_values().map(|contents| Garbage::new(contents, now)).collect();
        Ok(())
    }

    /// The node's own policy. One without rows was left by a version that does not know it, and would close the node.
    fn adopt_host(
        &mut self,
        entries: &mut BTreeMap<u32, Policy>,
        slots: &mut BTreeMap<u32, Contents>,
    ) -> Result<(), MapError> {
        let Some(entry) = entries.remove(&HOST_INDEX) else { return Ok(()) };
        let Some(contents) = slots.remove(&entry.slot) else { return self.withdraw(HOST_INDEX) };
        let applied = Applied { entry, contents, listed: None };
        self.subjects.insert(HOST, Subject { index: HOST_INDEX, applied: Some(applied), stale: false });
        Ok(())
    }

    /// The policies at fixed indexes: closed, and open.
    fn fixed(&mut self, entries: &BTreeMap<u32, Policy>) -> Result<(), MapError> {
        let closed = PolicyFlags::ENFORCE_INGRESS | PolicyFlags::ENFORCE_EGRESS;
        for (index, flags) in [(CLOSED_POLICY, closed), (OPEN_POLICY, PolicyFlags::default())] {
            if entries.get(&index).is_none_or(|entry| entry.flags != flags || entry.slot != 0) {
                self.write_empty(index, flags)?;
            }
        }
        Ok(())
    }

    /// Marks subjects without a row: one that nothing uses any more is removed.
    pub fn mark_undesired(&mut self, desired: &Desired) {
        for &identity in self.subjects.keys() {
            if !desired.has_policy(identity) {
                self.queue.mark(identity, desired.revision());
            }
        }
    }

    /// Closes indexes that nobody is known to use and deletes rows that nobody refers to. Only when the inputs are complete.
    ///
    /// # Errors
    /// When the kernel refuses; what is left is tried again.
    pub fn prune(&mut self, desired: &Desired, now: Instant) -> Result<(), MapError> {
        self.mark_undesired(desired);
        while let Some(index) = self.orphans.first().copied() {
            self.withdraw(index)?;
            self.orphans.remove(&index);
        }
        let live: BTreeSet<u32> =
            self.subjects.values().filter_map(|s| s.applied.as_ref()).map(|applied| applied.entry.slot).collect();
        let collected: BTreeSet<u32> = self.garbage.iter().filter_map(Garbage::slot).collect();
        for (slot, contents) in dump_slots(&self.maps)? {
            if !live.contains(&slot) && !collected.contains(&slot) {
                self.garbage.push(Garbage::new(contents, now));
            }
        }
        Ok(())
    }

    /// Compares the kernel with what was written. Returns identities whose entries drifted; they are written anew.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn verify(&mut self, since: u64) -> Result<usize, MapError> {
        let slots = dump_slots(&self.maps)?;
        let mut drifted = 0;
        for (&identity, subject) in &mut self.subjects {
            let Some(applied) = &mut subject.applied else { continue };
            let same_rows = slots.get(&applied.entry.slot).map_or(0, |found| found.fingerprint);
            let same_entry = self.maps.policies.get(&subject.index)? == Some(applied.entry);
            if same_rows == applied.contents.fingerprint && same_entry {
                continue;
            }
            // No fingerprint of a row is like this one: all is written under a new slot.
            applied.contents.fingerprint = !applied.contents.fingerprint;
            self.queue.mark(identity, since);
            drifted += 1;
        }
        Ok(drifted)
    }
}
