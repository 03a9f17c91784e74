//! Services: `ax_services` and `ax_service_backends`.
//!
//! A group of frontends shares an id that only this node knows, and its backends are numbered from 0. Backends are written
//! before the count grows, and the count shrinks before backends are deleted, so that every number below the count is one that
//! exists.
//!
//! Two groups may want one frontend: an external address of two services, or one that is a node's. The first one by name has it,
//! until it wants it no more.

pub mod translate;

use std::collections::{BTreeMap, BTreeSet};

use axoneme_bpf::service::{Backend, BackendKey, Service, ServiceKey};
use axoneme_proto::{Scope, Table};

use self::translate::{Frontend, Group, GroupKey, groups};
use super::ops::{MapError, MapOps};
use super::queue::{Failure, Queue};
use crate::desired::{Desired, RowId};

#[derive(Debug, Default)]
struct Known {
    id: u32,
    frontends: BTreeSet<Frontend>,
    /// Backends may exist below this number.
    written: u32,
    /// Backends were written that frontends do not tell of yet.
    unannounced: bool,
}

/// The reconciler of services.
#[allow(missing_debug_implementations, reason = "holds trait objects")]
pub struct Services {
    services: Box<dyn MapOps<ServiceKey, Service>>,
    backends: Box<dyn MapOps<BackendKey, Backend>>,
    /// Services that have to be looked at, by "namespace/name".
    pub queue: Queue<Box<str>>,
    groups: BTreeMap<GroupKey, Known>,
    /// Frontends that the kernel has and nobody asked for yet.
    orphans: BTreeMap<Frontend, Service>,
    /// Services that want a frontend which another has.
    contested: BTreeMap<Frontend, BTreeSet<Box<str>>>,
    /// Whose they are; of those that the kernel had before, nobody's as long as nobody asked for them.
    ids: BTreeMap<u32, Option<GroupKey>>,
    next_id: u32,
    revision: u32,
}

impl Services {
    /// Over these maps, of which nothing is known until [`Services::adopt`].
    #[must_use]
    pub fn new(services: Box<dyn MapOps<ServiceKey, Service>>, backends: Box<dyn MapOps<BackendKey, Backend>>) -> Self {
        Self {
            services,
            backends,
            queue: Queue::default(),
            groups: BTreeMap::new(),
            orphans: BTreeMap::new(),
            contested: BTreeMap::new(),
            ids: BTreeMap::new(),
            next_id: 1,
            revision: 0,
        }
    }

    /// Takes over what the kernel has. To be repeated when it fails, and before anything else is done.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn adopt(&mut self) -> Result<(), MapError> {
        let mut orphans = BTreeMap::new();
        let (mut ids, mut revision) = (BTreeMap::new(), 0);
        self.services.dump(&mut |key, service| {
            ids.insert(service.id, None);
            revision = revision.max(service.revision);
            orphans.insert(Frontend::from(key), service);
        })?;
        self.backends.dump(&mut |key, _| {
            ids.insert(key.service, None);
        })?;
        self.next_id = ids.last_key_value().map_or(1, |(id, _)| id.wrapping_add(1).max(1));
        (self.orphans, self.ids, self.revision) = (orphans, ids, revision);
        Ok(())
    }

    /// How many frontends there are, bare addresses not counted.
    #[must_use]
    pub fn frontends(&self) -> usize {
        self.groups.iter().filter(|(group, _)| group.port != 0).map(|(_, known)| known.frontends.len()).sum()
    }

    /// Every frontend that the kernel has now, with its backends.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn in_kernel(&self) -> Result<Vec<(ServiceKey, Vec<Backend>)>, MapError> {
        let mut found = Vec::new();
        self.services.dump(&mut |key, service| found.push((key, service)))?;
        let backends = |service: &Service| {
            let keys = (0..service.backends).map(|index| BackendKey { service: service.id, index });
            keys.filter_map(|key| self.backends.get(&key).transpose()).collect::<Result<Vec<_>, _>>()
        };
        found.into_iter().map(|(key, service)| Ok((key, backends(&service)?))).collect()
    }

    /// Brings one service to what is desired.
    ///
    /// # Errors
    /// What the kernel refused; what can be served is.
    pub fn reconcile(&mut self, key: &str, desired: &Desired) -> Result<(), Failure> {
        let row = || RowId::new(Scope::Services, Table::Service, key);
        let wanted = groups(desired, key);
        let mut result = Ok(());
        let known: Vec<GroupKey> = self
            .groups
            .range(first_group(key)..)
            .map(|(group, _)| group)
            .take_while(|g| *g.service == *key)
            .cloned()
            .collect();
        for (group, wanted) in &wanted {
            result = result.and(self.apply(group, wanted));
        }
        // Only now: a frontend that another group of the service takes over is never missing.
        if result.is_ok() {
            for group in wanted.keys().cloned().chain(known.into_iter().filter(|group| !wanted.contains_key(group))) {
                result = result.and(self.tidy(group, &wanted, desired.revision()));
            }
        }
        result.map_err(|err| Failure::from(err).of(row()))
    }

    fn apply(&mut self, key: &GroupKey, wanted: &Group) -> Result<(), MapError> {
        let mut known = match self.groups.remove(key) {
            Some(known) => known,
            None => self.adopt_group(key, wanted),
        };
        let result = self.write(key, &mut known, wanted);
        self.groups.insert(key.clone(), known);
        result
    }

    /// A group that is new to this run of the daemon keeps the id that its frontends have in the kernel.
    fn adopt_group(&mut self, key: &GroupKey, wanted: &Group) -> Known {
        let mut known = Known::default();
        for &frontend in wanted.frontends.keys() {
            let Some(found) = self.orphans.get(&frontend) else { continue };
            let shared = self.owner(found.id).is_some();
            if !shared && (known.id == 0 || known.id == found.id) {
                known.id = found.id;
                known.written = known.written.max(found.backends);
                known.frontends.insert(frontend);
                self.orphans.remove(&frontend);
            }
        }
        if known.id == 0 {
            known.id = self.allocate();
        }
        self.ids.insert(known.id, Some(key.clone()));
        known
    }

    fn owner(&self, id: u32) -> Option<&GroupKey> {
        self.ids.get(&id)?.as_ref()
    }

    fn allocate(&mut self) -> u32 {
        while self.next_id == 0 || self.ids.contains_key(&self.next_id) {
            self.next_id = self.next_id.wrapping_add(1);
        }
        self.next_id
    }

    fn write(&mut self, key: &GroupKey, known: &mut Known, wanted: &Group) -> Result<(), MapError> {
        for (index, backend) in (0..).zip(&wanted.backends) {
            let place = BackendKey { service: known.id, index };
            let held = if index < known.written { self.backends.get(&place)? } else { None };
            if held.as_ref() != Some(backend) {
                known.unannounced = true;
                self.backends.update(&place, backend)?;
            }
            known.written = known.written.max(index + 1);
        }
        known.unannounced |= known.written != wanted.count();
        if known.unannounced {
            self.revision = self.revision.wrapping_add(1);
        }
        for &frontend in wanted.frontends.keys() {
            self.announce(key, known, frontend, wanted)?;
        }
        known.unannounced = false;
        Ok(())
    }

    fn announce(
        &mut self,
        key: &GroupKey,
        known: &mut Known,
        frontend: Frontend,
        wanted: &Group,
    ) -> Result<(), MapError> {
        let held = self.services.get(&frontend.into())?;
        let owner = held.and_then(|held| self.owner(held.id)).filter(|owner| owner.service != key.service).cloned();
        let rival = owner.and_then(|owner| Some((self.groups.get_mut(&owner)?, owner.service)));
        if let Some((rival, name)) = rival.filter(|(rival, _)| rival.frontends.contains(&frontend)) {
            let contested = self.contested.entry(frontend).or_default();
            tracing::warn!(service = %key.service, rival = %name, ?frontend, "two services have one address and port");
            if name < key.service {
                contested.insert(key.service.clone());
                return Ok(());
            }
            rival.frontends.remove(&frontend);
            contested.insert(name);
        }
        let flags = wanted.frontends.get(&frontend).copied().unwrap_or_default();
        let (id, backends, affinity) = (known.id, wanted.count(), wanted.affinity.unwrap_or(0));
        let service = Service { id, backends, affinity, flags, revision: self.revision, ..Service::default() };
        let same = held.filter(|held| *held == Service { revision: held.revision, ..service } && !known.unannounced);
        if same.is_none() {
            self.services.update(&frontend.into(), &service)?;
        }
        self.orphans.remove(&frontend);
        known.frontends.insert(frontend);
        Ok(())
    }

    /// Gives a frontend up, unless another group has taken it over. Whoever else wants it gets it, as of this revision.
    fn release(&mut self, known: &mut Known, frontend: Frontend, revision: u64) -> Result<(), MapError> {
        let held = self.services.get(&frontend.into())?;
        if held.is_some_and(|held| held.id == known.id) {
            self.services.delete(&frontend.into())?;
            let waiting = self.contested.remove(&frontend).unwrap_or_default();
            self.queue.mark_all(waiting.into_iter().map(|service| (service, revision)));
        }
        known.frontends.remove(&frontend);
        Ok(())
    }

    fn shrink(&mut self, known: &mut Known, count: u32) -> Result<(), MapError> {
        while known.written > count {
            self.backends.delete(&BackendKey { service: known.id, index: known.written - 1 })?;
            known.written -= 1;
        }
        Ok(())
    }

    /// Takes from the kernel what a group has there and is not wanted. One that is not wanted at all is then forgotten.
    fn tidy(&mut self, key: GroupKey, wanted: &BTreeMap<GroupKey, Group>, revision: u64) -> Result<(), MapError> {
        let Some(mut known) = self.groups.remove(&key) else { return Ok(()) };
        let wanted = wanted.get(&key);
        let is_wanted = |frontend: &Frontend| wanted.is_some_and(|wanted| wanted.frontends.contains_key(frontend));
        let gone: Vec<Frontend> = known.frontends.iter().filter(|frontend| !is_wanted(frontend)).copied().collect();
        let count = wanted.map_or(0, Group::count);
        let released = gone.into_iter().try_for_each(|frontend| self.release(&mut known, frontend, revision));
        let result = released.and_then(|()| self.shrink(&mut known, count));
        if wanted.is_none() && result.is_ok() {
            self.ids.remove(&known.id);
        } else {
            self.groups.insert(key, known);
        }
        result
    }

    /// Marks all services, and those that only this daemon still knows.
    pub fn compare(&mut self, desired: &Desired) {
        let revision = desired.revision();
        self.queue.mark_all(desired.services().map(|key| (Box::from(key), revision)));
        self.queue.mark_all(self.groups.keys().map(|group| (group.service.clone(), revision)));
    }

    /// Deletes frontends that nobody asked for and backends of ids that nobody has, but for those of services that fail: they serve
    /// on until their turn. Only when the inputs are complete and all services were looked at. Says whether that was all.
    ///
    /// # Errors
    /// When the kernel refuses; what is left is tried again.
    pub fn prune(&mut self, desired: &Desired) -> Result<bool, MapError> {
        let failing = self.queue.failures().flat_map(|(service, _)| groups(desired, service).into_values());
        let wanted: BTreeSet<Frontend> = failing.flat_map(|group| group.frontends.into_keys()).collect();
        let gone: Vec<Frontend> = self.orphans.keys().filter(|orphan| !wanted.contains(orphan)).copied().collect();
        for frontend in gone {
            self.services.delete(&frontend.into())?;
            self.orphans.remove(&frontend);
        }
        let known = self.groups.values().map(|known| (known.id, known.written));
        let orphaned = self.orphans.values().map(|service| (service.id, service.backends));
        let mut live: BTreeMap<u32, u32> = BTreeMap::new();
        for (id, backends) in known.chain(orphaned) {
            let most = live.entry(id).or_default();
            *most = (*most).max(backends);
        }
        let mut dead = Vec::new();
        self.backends.dump(&mut |key, _| {
            if live.get(&key.service).is_none_or(|&written| key.index >= written) {
                dead.push(key);
            }
        })?;
        for key in dead {
            self.backends.delete(&key)?;
        }
        self.ids.retain(|id, _| live.contains_key(id));
        Ok(self.orphans.is_empty())
    }
}

fn first_group(service: &str) -> GroupKey {
    GroupKey { service: service.into(), protocol: 0, port: 0, ipv4: false, local: false }
}
