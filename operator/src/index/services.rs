//! Services and their EndpointSlices.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::{Dirty, Index};
use crate::compile::policy::Dependency;
use crate::object::{EndpointSlice, Name, Service};

/// Namespace and name of the Service whose endpoints are the API server's.
const API_SERVER: (&str, &str) = ("default", "kubernetes");

/// All services and slices.
#[derive(Debug, Default)]
pub struct Services {
    services: BTreeMap<Name, Arc<Service>>,
    slices: BTreeMap<Name, Arc<EndpointSlice>>,
    by_service: BTreeMap<Name, BTreeSet<Name>>,
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
        }
    }

    /// Addresses of all endpoints of a service.
    fn addresses(&self, service: &Name) -> impl Iterator<Item = IpAddr> {
        let slices = self.by_service.get(service).into_iter().flatten().filter_map(|slice| self.slices.get(slice));
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

impl Index {
    /// A slice has this content, or is gone.
    pub(super) fn set_slice(&mut self, name: &Name, slice: Option<Arc<EndpointSlice>>) {
        if *name.namespace != *API_SERVER.0 {
            return self.services.set_slice(name, slice, &mut self.dirty);
        }
        let before = self.api_server_addresses();
        self.services.set_slice(name, slice, &mut self.dirty);
        if before != self.api_server_addresses() {
            self.mark_depending(Dependency::ApiServer);
        }
    }

    /// Where the API server answers.
    pub(super) fn api_server_addresses(&self) -> BTreeSet<IpAddr> {
        self.services.addresses(&Name::new(API_SERVER.0, API_SERVER.1)).collect()
    }
}

/// What the compile stage reads.
impl Index {
    /// A service by name.
    #[must_use]
    pub fn service(&self, name: &Name) -> Option<&Arc<Service>> {
        self.services.services.get(name)
    }

    /// A slice by name.
    #[must_use]
    pub fn slice(&self, name: &Name) -> Option<&Arc<EndpointSlice>> {
        self.services.slices.get(name)
    }
}
