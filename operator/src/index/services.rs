//! Services and their EndpointSlices.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::{Dirty, Index, labels};
use crate::compile::policy::{Dependency, ServiceBy, ServiceRef};
use crate::engine::{Diagnostic, Reason};
use crate::object::{EndpointSlice, Frontend, Name, Operator, Requirement, Selector, Service, ServiceKind};

/// Namespace and name of the Service whose endpoints are the API server's.
const API_SERVER: (&str, &str) = ("default", "kubernetes");

/// All services and slices.
#[derive(Debug, Default)]
pub struct Services {
    services: BTreeMap<Name, Arc<Service>>,
    slices: BTreeMap<Name, Arc<EndpointSlice>>,
    by_service: BTreeMap<Name, BTreeSet<Name>>,
    /// Who wants to be found there. Nodes give it to the first by "namespace/name".
    wanted: BTreeMap<Frontend, BTreeMap<Box<str>, Name>>,
}

impl Services {
    /// A service changed: it and its slices compile again.
    pub fn set_service(&mut self, name: &Name, service: Option<Arc<Service>>, dirty: &mut Dirty) {
        let old = match &service {
            Some(service) => self.services.insert(name.clone(), Arc::clone(service)),
            None => self.services.remove(name),
        };
        if old != service {
            dirty.services.insert(name.clone());
            dirty.slices.extend(self.by_service.get(name).into_iter().flatten().cloned());
            self.want(name, old.as_deref(), service.as_deref(), dirty);
        }
    }

    /// A service is found elsewhere than before; so may those be that want the same.
    fn want(&mut self, name: &Name, old: Option<&Service>, new: Option<&Service>, dirty: &mut Dirty) {
        let frontends = |service: Option<&Service>| -> BTreeSet<Frontend> {
            service.into_iter().flat_map(Service::frontends).map(|(frontend, _)| frontend).collect()
        };
        let (old, new) = (frontends(old), frontends(new));
        for frontend in old.symmetric_difference(&new) {
            let rivals = self.wanted.entry(*frontend).or_default();
            if new.contains(frontend) {
                rivals.insert(name.to_string().into(), name.clone());
            } else {
                rivals.remove(&*name.to_string());
            }
            dirty.services.extend(rivals.values().cloned());
            if rivals.is_empty() {
                self.wanted.remove(frontend);
            }
        }
    }

    /// The services that a policy means.
    pub(super) fn meant(&self, by: &ServiceRef) -> Vec<&Arc<Service>> {
        if let (Some(namespace), ServiceBy::Name(name)) = (&by.namespace, &by.by) {
            let name = Name { namespace: Arc::clone(namespace), name: Arc::clone(name) };
            return self.services.get(&name).into_iter().collect();
        }
        self.services.values().filter(|service| by.means(service)).collect()
    }

    /// Addresses of the endpoints of those among them that select no pods.
    pub(super) fn endpoints(&self, by: &ServiceRef) -> BTreeSet<IpAddr> {
        let plain = |service: &&Arc<Service>| service.selector.is_empty() && service.kind != ServiceKind::ExternalName;
        self.meant(by).into_iter().filter(plain).flat_map(|service| self.addresses(&service.name)).collect()
    }

    /// The slices of a service, sorted.
    fn slices_of(&self, service: &Name) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        let names = self.by_service.get(service).into_iter().flatten();
        names.filter_map(|name| self.slices.get(name))
    }

    /// Addresses of all endpoints of a service.
    fn addresses(&self, service: &Name) -> impl Iterator<Item = IpAddr> {
        let slices = self.slices_of(service);
        slices.flat_map(|slice| &slice.endpoints).flat_map(|endpoint| &endpoint.addresses).copied()
    }

    /// A slice changed.
    pub fn set_slice(&mut self, name: &Name, slice: Option<Arc<EndpointSlice>>, dirty: &mut Dirty) {
        let service =
            |slice: &EndpointSlice| Name { namespace: Arc::clone(&name.namespace), name: Arc::clone(&slice.service) };
        let new_service = slice.as_deref().map(service);
        let old = match &slice {
            Some(slice) => self.slices.insert(name.clone(), Arc::clone(slice)),
            None => self.slices.remove(name),
        };
        if old == slice {
            return;
        }
        dirty.slices.insert(name.clone());
        if let Some(old) = old.as_deref().map(service)
            && let Some(slices) = self.by_service.get_mut(&old)
        {
            slices.remove(name);
            if slices.is_empty() {
                self.by_service.remove(&old);
            }
        }
        if let Some(service) = new_service {
            self.by_service.entry(service).or_default().insert(name.clone());
        }
    }
}

/// The pods behind a service as policies see them; none: it selects none.
pub(super) fn pods_behind(service: &Service) -> Option<Arc<Selector>> {
    if service.selector.is_empty() || service.kind == ServiceKind::ExternalName {
        return None;
    }
    let has = |key: &str, value: &str| Requirement {
        key: format!("{}{key}", labels::SOURCE).into(),
        operator: Operator::In,
        values: [value.into()].into(),
    };
    let namespace = has(labels::NAMESPACE, &service.name.namespace);
    let mut requirements: Vec<_> =
        service.selector.iter().map(|(key, value)| has(key, value)).chain([namespace]).collect();
    requirements.sort();
    Some(Arc::new(Selector { requirements: requirements.into() }))
}

impl Index {
    /// A service has this content, or is gone.
    pub(super) fn set_service(&mut self, name: &Name, service: Option<Arc<Service>>) {
        let old = self.services.services.get(name).cloned();
        self.services.set_service(name, service.clone(), &mut self.dirty);
        if old != service {
            self.service_changed_as_peer(&[old, service]);
        }
    }

    /// A slice has this content, or is gone.
    pub(super) fn set_slice(&mut self, name: &Name, slice: Option<Arc<EndpointSlice>>) {
        let is_watched = *name.namespace == *API_SERVER.0 || self.depends_on(Dependency::Services);
        if !is_watched {
            return self.services.set_slice(name, slice, &mut self.dirty);
        }
        let both = [self.services.slices.get(name).cloned(), slice.clone()];
        let of: BTreeSet<Name> =
            both.iter().flatten().map(|slice| Name::new(&*name.namespace, &*slice.service)).collect();
        let addresses = |services: &Services, of: &Name| services.addresses(of).collect::<BTreeSet<IpAddr>>();
        let before: Vec<_> = of.into_iter().map(|of| (addresses(&self.services, &of), of)).collect();
        self.services.set_slice(name, slice, &mut self.dirty);
        for (before, of) in before {
            if before == addresses(&self.services, &of) {
                continue;
            }
            if (&*of.namespace, &*of.name) == API_SERVER {
                self.mark_depending(Dependency::ApiServer);
            }
            let service = self.services.services.get(&of).filter(|service| service.selector.is_empty()).cloned();
            self.service_changed_as_peer(&[service]);
        }
    }

    /// Where the API server answers.
    pub(super) fn api_server_addresses(&self) -> BTreeSet<IpAddr> {
        self.services.addresses(&Name::new(API_SERVER.0, API_SERVER.1)).collect()
    }
}

/// What the compile stage reads.
impl Index {
    /// Where a service is not found although it wants to be.
    #[must_use]
    pub fn service_diagnostics(&self, name: &Name) -> Vec<Diagnostic> {
        let Some(service) = self.service(name) else { return Vec::new() };
        let taken = |(frontend, field): (Frontend, &str)| {
            let (_, first) = self.services.wanted.get(&frontend)?.first_key_value()?;
            (first != name).then(|| Diagnostic {
                reason: Reason::Conflict,
                field: field.into(),
                message: format!("{frontend} leads to Service {first}, not to this one").into(),
            })
        };
        service.frontends().filter_map(taken).collect()
    }

    /// A service by name.
    #[must_use]
    pub fn service(&self, name: &Name) -> Option<&Arc<Service>> {
        self.services.services.get(name)
    }

    /// All services, sorted.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.services.values()
    }

    /// The slices of a service, sorted.
    pub fn slices_of(&self, service: &Name) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        self.services.slices_of(service)
    }

    /// A slice by name.
    #[must_use]
    pub fn slice(&self, name: &Name) -> Option<&Arc<EndpointSlice>> {
        self.services.slices.get(name)
    }
}
