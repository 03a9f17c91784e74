//! Policies of local identities: `ax_policies`, `ax_policy_rules`, `ax_policy_classes`.
//!
//! A subject has an index into `ax_policies` as long as an endpoint may use it; its rows stand under a slot. New rows go under a
//! new slot; one array write flips slot, flags and generation; the old slot's rows are deleted a little later, when no packet
//! reads them any more. A slot number is never used twice.
//!
//! The node itself is a subject, too, with an index of its own. What has no policy is closed if it is a pod, and open if it is the node.

mod adopt;
pub mod names;
mod slots;
pub mod translate;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axoneme_bpf::policy::{Policy, PolicyClass, PolicyClassKey, PolicyFlags, PolicyIndex, PolicyRuleKey, Verdicts};
use tokio::time::Instant;

use self::names::Names;
use self::slots::{Contents, Garbage};
use self::translate::{Compiled, compile};
use super::ops::{MapError, MapOps};
use super::queue::{Failure, Queue};
use crate::desired::pods::OPEN_POLICY;
use crate::desired::{Desired, HOST};

/// First index that a subject may have.
const FIRST_INDEX: u32 = OPEN_POLICY + 1;
/// The node's own.
const HOST_INDEX: u32 = PolicyIndex::HOST.0;
/// How long packets may still read the rows of a slot that is no longer referred to.
const GRACE: Duration = Duration::from_millis(50);

/// The maps of policies.
#[allow(missing_debug_implementations, reason = "holds trait objects")]
pub struct PolicyMaps {
    /// `ax_policies`.
    pub policies: Box<dyn MapOps<u32, Policy>>,
    /// `ax_generation`.
    pub generation: Box<dyn MapOps<u32, u64>>,
    /// `ax_policy_rules`.
    pub rules: Box<dyn MapOps<PolicyRuleKey, Verdicts>>,
    /// `ax_policy_classes`.
    pub classes: Box<dyn MapOps<PolicyClassKey, PolicyClass>>,
}

#[derive(Debug)]
struct Subject {
    index: u32,
    applied: Option<Applied>,
    /// Verdicts that were cached for it are void: something about its peers changed.
    stale: bool,
}

#[derive(Debug)]
struct Applied {
    entry: Policy,
    contents: Contents,
    /// Who is listed as peer. None: adopted, and not compared with what is desired yet.
    listed: Option<Box<[u32]>>,
}

/// A subject's policy as the kernel has it.
#[derive(Clone, Copy, Debug)]
pub struct InKernel {
    /// Its index into `ax_policies`.
    pub index: u32,
    /// What stands there.
    pub entry: Policy,
    /// How many entries of `ax_policy_rules` stand under its slot.
    pub rules: usize,
    /// The same of `ax_policy_classes`.
    pub classes: usize,
    /// Of these entries, comparable with [`Compiled::fingerprint`].
    pub fingerprint: u64,
}

/// The reconciler of policies.
#[allow(missing_debug_implementations, reason = "holds trait objects")]
pub struct Policies {
    maps: PolicyMaps,
    /// Identities that have to be looked at.
    pub queue: Queue<u32>,
    subjects: BTreeMap<u32, Subject>,
    /// Indexes in use by someone unknown: closed when the inputs are complete.
    orphans: BTreeSet<u32>,
    garbage: Vec<Garbage>,
    next_slot: u32,
    names: Names,
}

impl Policies {
    /// Over these maps, of which nothing is known until [`Policies::adopt`].
    #[must_use]
    pub fn new(maps: PolicyMaps) -> Self {
        Self {
            maps,
            queue: Queue::default(),
            subjects: BTreeMap::new(),
            orphans: BTreeSet::new(),
            garbage: Vec::new(),
            next_slot: 1,
            names: Names::default(),
        }
    }

    /// Nobody is to use what stands at an index: pods find it closed. The node has no policy then.
    fn withdraw(&mut self, index: u32) -> Result<(), MapError> {
        if index == HOST_INDEX {
            return self.maps.policies.update(&HOST_INDEX, &Policy::default());
        }
        self.write_empty(index, PolicyFlags::ENFORCE_INGRESS | PolicyFlags::ENFORCE_EGRESS)
    }

    fn write_empty(&mut self, index: u32, flags: PolicyFlags) -> Result<(), MapError> {
        let generation = self.next_generation()?;
        self.maps.policies.update(&index, &Policy { generation, flags, ..Policy::default() })
    }

    /// Never 0 and never repeated, also not by a daemon that starts later.
    fn next_generation(&mut self) -> Result<u32, MapError> {
        let mut next = self.maps.generation.get(&0)?.unwrap_or(0);
        let generation = loop {
            next = next.wrapping_add(1);
            match next as u32 {
                0 => {}
                generation => break generation,
            }
        };
        self.maps.generation.update(&0, &next)?;
        Ok(generation)
    }

    /// Index of an identity whose policy is in the kernel.
    #[must_use]
    pub fn applied_index(&self, identity: u32) -> Option<u32> {
        let subject = self.subjects.get(&identity)?;
        let applied = subject.applied.as_ref()?;
        // What was adopted counts only once it was compared.
        applied.listed.as_ref().map(|_| subject.index)
    }

    /// Whether what no policy allows is dropped on the way in, and on the way out.
    #[must_use]
    pub fn enforced(&self, identity: u32) -> (bool, bool) {
        let applied = self.subjects.get(&identity).and_then(|subject| subject.applied.as_ref());
        let flags = applied.map(|applied| applied.entry.flags).unwrap_or_default();
        (flags.contains(PolicyFlags::ENFORCE_INGRESS), flags.contains(PolicyFlags::ENFORCE_EGRESS))
    }

    /// Node-local ids, for the checkpoint.
    pub fn indexes(&self) -> impl Iterator<Item = (u32, u32)> {
        self.subjects.iter().map(|(&identity, subject)| (identity, subject.index))
    }

    /// Every subject that has an entry, as the kernel has it now. Reads all entries of all policies.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn in_kernel(&self) -> Result<BTreeMap<u32, InKernel>, MapError> {
        let slots = slots::dump_slots(&self.maps)?;
        let mut out = BTreeMap::new();
        for (&identity, Subject { index, .. }) in &self.subjects {
            let Some(entry) = self.maps.policies.get(index)?.filter(|entry| entry.generation != 0) else { continue };
            let (rules, classes, fingerprint) = slots.get(&entry.slot).map(Contents::size).unwrap_or_default();
            out.insert(identity, InKernel { index: *index, entry, rules, classes, fingerprint });
        }
        Ok(out)
    }

    /// How many identities have a policy in the kernel.
    #[must_use]
    pub fn len(&self) -> usize {
        self.subjects.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }

    /// What cookies mean.
    #[must_use]
    pub fn names(&self) -> Names {
        self.names.clone()
    }

    /// Voids cached verdicts of the subjects whose rules may see this change of an address.
    pub fn peer_changed(&mut self, change: &PeerChange, since: u64) {
        for (&identity, subject) in &mut self.subjects {
            let Some(applied) = &subject.applied else { continue };
            let lists = |identity| applied.listed.as_ref().is_none_or(|listed| listed.binary_search(&identity).is_ok());
            if change.of_scope || applied.contents.has_classes() || change.identities.iter().any(|&i| lists(i)) {
                subject.stale = true;
                self.queue.mark(identity, since);
            }
        }
    }

    /// Brings one subject to what is desired. `used` says whether an endpoint is enforced with an identity: then its policy
    /// stays, whatever the operator has dropped.
    ///
    /// # Errors
    /// What the kernel refused. What was in force stays so.
    pub fn reconcile(
        &mut self,
        identity: u32,
        desired: &Desired,
        used: impl Fn(u32) -> bool,
        now: Instant,
    ) -> Result<(), Failure> {
        let row = || desired.policy_row(identity);
        match desired.policy(identity) {
            Some((policy, _)) => {
                let compiled = compile(&policy).map_err(|err| Failure::dependency(err.to_string()).of(row()))?;
                self.names.set(identity, Some(&policy));
                self.apply(identity, &compiled, now).map_err(|failure| failure.of(row()))
            }
            None if used(identity) => self.refresh(identity).map_err(Failure::from),
            None => self.remove(identity, now).map_err(Failure::from),
        }
    }

    fn apply(&mut self, identity: u32, compiled: &Compiled, now: Instant) -> Result<(), Failure> {
        let index = match self.subjects.get(&identity) {
            Some(subject) => subject.index,
            None => self.allocate(identity)?,
        };
        let fingerprint = compiled.fingerprint();
        let Some(subject) = self.subjects.get(&identity) else { return Ok(()) };
        let stale = subject.stale;
        let held = subject.applied.as_ref().filter(|applied| applied.contents.fingerprint == fingerprint);
        let slot = held.map(|applied| applied.entry.slot);
        if let Some(slot) = slot {
            let entry = held.map(|applied| applied.entry).unwrap_or_default();
            let wanted = compiled.policy(slot, entry.generation);
            if entry != wanted || stale {
                let wanted = compiled.policy(slot, self.next_generation()?);
                self.maps.policies.update(&index, &wanted)?;
                self.written(identity, wanted);
            }
            self.listed(identity, compiled);
            return Ok(());
        }
        let slot = self.next_slot;
        self.next_slot = self.next_slot.wrapping_add(1).max(1);
        let contents = match self.fill(slot, compiled) {
            Ok(contents) => contents,
            Err((partial, err)) => {
                self.garbage.push(Garbage::new(partial, now));
                return Err(err.into());
            }
        };
        let flip = self.next_generation().and_then(|generation| {
            let entry = compiled.policy(slot, generation);
            self.maps.policies.update(&index, &entry).map(|()| entry)
        });
        let entry = match flip {
            Ok(entry) => entry,
            Err(err) => {
                self.garbage.push(Garbage::new(contents, now));
                return Err(err.into());
            }
        };
        let applied = Applied { entry, contents, listed: Some(compiled.listed.as_slice().into()) };
        if let Some(subject) = self.subjects.get_mut(&identity) {
            subject.stale = false;
            if let Some(old) = subject.applied.replace(applied) {
                self.garbage.push(Garbage::new(old.contents, now + GRACE));
            }
        }
        Ok(())
    }

    fn written(&mut self, identity: u32, entry: Policy) {
        if let Some(subject) = self.subjects.get_mut(&identity) {
            subject.stale = false;
            if let Some(applied) = &mut subject.applied {
                applied.entry = entry;
            }
        }
    }

    fn listed(&mut self, identity: u32, compiled: &Compiled) {
        if let Some(applied) = self.subjects.get_mut(&identity).and_then(|subject| subject.applied.as_mut()) {
            applied.listed = Some(compiled.listed.as_slice().into());
        }
    }

    fn allocate(&mut self, identity: u32) -> Result<u32, Failure> {
        if identity == HOST {
            self.subjects.insert(HOST, Subject { index: HOST_INDEX, applied: None, stale: false });
            return Ok(HOST_INDEX);
        }
        let used: BTreeSet<u32> =
            self.subjects.values().map(|subject| subject.index).chain(self.orphans.iter().copied()).collect();
        let capacity = self.maps.policies.capacity();
        let Some(index) = (FIRST_INDEX..capacity.min(HOST_INDEX)).find(|index| !used.contains(index)) else {
            return Err(Failure::capacity(format!(
                "all {capacity} entries of {} are in use",
                self.maps.policies.name()
            )));
        };
        self.subjects.insert(identity, Subject { index, applied: None, stale: false });
        Ok(index)
    }

    /// Writes all rows under `slot`; on failure also returns what was written until then.
    fn fill(&mut self, slot: u32, compiled: &Compiled) -> Result<Contents, (Contents, MapError)> {
        let mut contents = Contents::default();
        for (key, value) in &compiled.classes {
            let key = PolicyClassKey { slot, ..*key };
            if let Err(err) = self.maps.classes.update(&key, value) {
                return Err((contents, err));
            }
            contents.class(key, value);
        }
        for (key, value) in &compiled.rules {
            let key = PolicyRuleKey { slot, ..*key };
            if let Err(err) = self.maps.rules.update(&key, value) {
                return Err((contents, err));
            }
            contents.rule(key, value);
        }
        Ok(contents)
    }

    /// A new generation for a policy that stays as it is.
    fn refresh(&mut self, identity: u32) -> Result<(), MapError> {
        let Some(subject) = self.subjects.get(&identity) else { return Ok(()) };
        let (true, Some(applied), index) = (subject.stale, &subject.applied, subject.index) else { return Ok(()) };
        let entry = applied.entry;
        let entry = Policy { generation: self.next_generation()?, ..entry };
        self.maps.policies.update(&index, &entry)?;
        self.written(identity, entry);
        Ok(())
    }

    fn remove(&mut self, identity: u32, now: Instant) -> Result<(), MapError> {
        self.names.set(identity, None);
        let Some(subject) = self.subjects.get(&identity) else { return Ok(()) };
        let index = subject.index;
        if subject.applied.is_some() {
            self.withdraw(index)?;
        }
        if let Some(Subject { applied: Some(applied), .. }) = self.subjects.remove(&identity) {
            self.garbage.push(Garbage::new(applied.contents, now + GRACE));
        }
        Ok(())
    }

    /// Deletes rows of slots that no packet reads any more. Returns when there is more to delete.
    pub fn collect(&mut self, now: Instant) -> Option<Instant> {
        let maps = &mut self.maps;
        self.garbage.retain_mut(|garbage| !garbage.collect(maps, now));
        self.garbage.iter().map(Garbage::due).min()
    }
}

/// What changed about an address.
#[derive(Debug, Default)]
pub struct PeerChange {
    /// Identities that it had and has.
    pub identities: Vec<u32>,
    /// It became or ceased to be a pod, a node or the world.
    pub of_scope: bool,
}
