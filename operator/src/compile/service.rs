//! The scope `services`.

use std::sync::Arc;

use axoneme_proto::Scope;
use axoneme_proto::nodesync::Table;
use axoneme_proto::tables;
use axoneme_proto::tables::BackendState;

use super::{Output, bytes_of, output};
use crate::index::Index;
use crate::object::{Endpoint, Name};
use crate::table::RowId;

/// The id of a service's row.
#[must_use]
pub fn service_id(name: &Name) -> RowId {
    RowId::new(Scope::Services, Table::Service, name.to_string())
}

/// A service's row, if it has an address to translate.
#[must_use]
pub fn service(index: &Index, name: &Name) -> Option<Output> {
    let service = index.service(name).filter(|service| service.is_translated())?;
    let port = |port: &crate::object::ServicePort| tables::ServicePort {
        name: port.name.to_string(),
        protocol: port.protocol.number().into(),
        port: port.port.into(),
        node_port: port.node_port.unwrap_or_default().into(),
    };
    let row = tables::Service {
        namespace: name.namespace.to_string(),
        name: name.name.to_string(),
        cluster_ips: bytes_of(service.cluster_ips.iter().copied()),
        ports: service.ports.iter().map(port).collect(),
        publish_not_ready: service.publish_not_ready,
        affinity_seconds: service.affinity_seconds.unwrap_or(0),
        external_ips: bytes_of(service.external_ips.iter().copied()),
        load_balancer_ips: bytes_of(service.load_balancer_ips.iter().copied()),
        internal_local: service.internal_local,
        external_local: service.external_local,
    };
    Some(output(service_id(name), &row))
}

/// The id of a slice's row.
#[must_use]
pub fn backends_id(name: &Name) -> RowId {
    RowId::new(Scope::Services, Table::Backends, name.to_string())
}

/// The row of an EndpointSlice, if its service has one.
#[must_use]
pub fn backends(index: &Index, name: &Name) -> Option<Output> {
    let slice = index.slice(name)?;
    let service = Name { namespace: name.namespace.clone(), name: slice.service.clone() };
    index.service(&service).filter(|service| service.is_translated())?;
    let port = |port: &crate::object::SlicePort| tables::BackendPort {
        name: port.name.to_string(),
        protocol: port.protocol.number().into(),
        port: port.port.into(),
    };
    let names = |names: &[Arc<str>]| names.iter().map(|name| name.to_string()).collect();
    let backend = |endpoint: &Endpoint| tables::Backend {
        addresses: bytes_of(endpoint.addresses.first().copied()),
        state: state(endpoint).into(),
        node: endpoint.node.as_deref().unwrap_or_default().to_owned(),
        zone: endpoint.zone.as_deref().unwrap_or_default().to_owned(),
        for_zones: names(&endpoint.for_zones),
        for_nodes: names(&endpoint.for_nodes),
    };
    let row = tables::Backends {
        namespace: name.namespace.to_string(),
        service: slice.service.to_string(),
        ports: slice.ports.iter().map(port).collect(),
        backends: slice.endpoints.iter().filter(|e| !e.addresses.is_empty()).map(backend).collect(),
    };
    Some(output(backends_id(name), &row))
}

fn state(endpoint: &Endpoint) -> BackendState {
    match (endpoint.ready, endpoint.serving && endpoint.terminating) {
        (true, _) => BackendState::Ready,
        (false, true) => BackendState::Terminating,
        (false, false) => BackendState::NotReady,
    }
}
