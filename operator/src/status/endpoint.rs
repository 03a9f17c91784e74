//! A report as a `CiliumEndpoint`.

use axoneme_crds::v2::endpoint::{
    EndpointIdentity, EndpointNetworking, EndpointPolicy, EndpointPolicyDirection, EndpointState as State,
    ExternalIdentifiers, NamedPort,
};
use axoneme_crds::v2::{AddressPair, CiliumEndpoint, EndpointStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use crate::engine::{EndpointReport, EndpointState};
use crate::object::Name;

/// Fields of the status that are written here; others may be somebody else's.
const OWNED: [&str; 8] =
    ["id", "identity", "networking", "named-ports", "service-account", "state", "policy", "external-identifiers"];

/// The object as it shall be.
#[must_use]
pub(super) fn object(name: &Name, report: &EndpointReport) -> CiliumEndpoint {
    let metadata = ObjectMeta {
        name: Some(name.name.to_string()),
        namespace: Some(name.namespace.to_string()),
        owner_references: Some(vec![OwnerReference {
            api_version: "v1".into(),
            kind: "Pod".into(),
            name: name.name.to_string(),
            uid: report.pod_uid.to_string(),
            ..OwnerReference::default()
        }]),
        ..ObjectMeta::default()
    };
    CiliumEndpoint { metadata, status: Some(status(name, report)), ..CiliumEndpoint::default() }
}

fn status(name: &Name, report: &EndpointReport) -> EndpointStatus {
    let of_family = |v6: bool| report.addresses.iter().find(|ip| ip.is_ipv6() == v6).map(ToString::to_string);
    let pair = AddressPair { ipv4: of_family(false), ipv6: of_family(true), ..AddressPair::default() };
    let identity = report.identity.map(|id| EndpointIdentity {
        id: Some(id.into()),
        labels: report.labels.iter().map(|(key, value)| format!("{key}={value}")).collect(),
        ..EndpointIdentity::default()
    });
    let ports = report.named_ports.iter().map(|port| NamedPort {
        name: Some(port.name.to_string()),
        port: Some(port.port),
        protocol: Some(port.protocol.to_string()),
        ..NamedPort::default()
    });
    EndpointStatus {
        id: (report.endpoint_id != 0).then(|| report.endpoint_id.into()),
        external_identifiers: Some(ExternalIdentifiers {
            k8s_namespace: Some(name.namespace.to_string()),
            k8s_pod_name: Some(name.name.to_string()),
            pod_name: Some(name.to_string()),
            ..ExternalIdentifiers::default()
        }),
        identity,
        networking: Some(EndpointNetworking {
            addressing: if report.addresses.is_empty() { Vec::new() } else { vec![pair] },
            node: report.node_ip.map(|ip| ip.to_string()),
            ..EndpointNetworking::default()
        }),
        policy: Some(EndpointPolicy {
            ingress: Some(direction(report.ingress_enforcing)),
            egress: Some(direction(report.egress_enforcing)),
            ..EndpointPolicy::default()
        }),
        state: Some(match report.state {
            EndpointState::WaitingForIdentity => State::WaitingForIdentity,
            EndpointState::Creating => State::Creating,
            EndpointState::Ready => State::Ready,
            EndpointState::Disconnecting => State::Disconnecting,
        }),
        named_ports: ports.collect(),
        service_account: Some(report.service_account.to_string()).filter(|account| !account.is_empty()),
        ..EndpointStatus::default()
    }
}

fn direction(enforcing: bool) -> EndpointPolicyDirection {
    let state = if enforcing { "enforcing" } else { "disabled" };
    EndpointPolicyDirection { enforcing, state: Some(state.into()), ..EndpointPolicyDirection::default() }
}

/// Whether an object that was found says already what it shall say.
#[must_use]
pub(super) fn says(found: &CiliumEndpoint, wanted: &CiliumEndpoint) -> bool {
    let owned = |endpoint: &CiliumEndpoint| {
        let status = serde_json::to_value(&endpoint.status).unwrap_or_default();
        OWNED.map(|field| status.get(field).cloned())
    };
    owner_uid(found) == owner_uid(wanted) && owned(found) == owned(wanted)
}

fn owner_uid(endpoint: &CiliumEndpoint) -> Option<&str> {
    let owners = endpoint.metadata.owner_references.as_deref()?;
    owners.iter().find(|owner| owner.kind == "Pod").map(|owner| &*owner.uid)
}

/// A merge patch that makes any object say it: what is not there any more has to be named.
#[must_use]
pub(super) fn patch(wanted: &CiliumEndpoint) -> Value {
    let mut status = serde_json::to_value(&wanted.status).unwrap_or_default();
    if let Value::Object(fields) = &mut status {
        for field in OWNED {
            fields.entry(field).or_insert(Value::Null);
        }
        for (field, inner) in [("identity", "labels"), ("networking", "node")] {
            if let Some(Value::Object(fields)) = fields.get_mut(field) {
                fields.entry(inner).or_insert(Value::Null);
            }
        }
    }
    json!({"metadata": {"ownerReferences": wanted.metadata.owner_references}, "status": status})
}
