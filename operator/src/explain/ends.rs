//! Who may be an end of a flow, and how people name them.

use std::net::IpAddr;
use std::sync::Arc;

use axoneme_admin::explain;
use axoneme_proto::tables::AnyPeer;

use super::port::Port;
use super::{Known, Unclear};
use crate::compile::policy::PeerView;
use crate::index::{Index, PodEntry};
use crate::object::{Name, Service, ServiceKind};

/// More endpoints of a service are not explained one by one.
const BACKENDS: usize = 64;

/// What a name means.
#[derive(Debug)]
pub(super) enum Named {
    /// Any of these.
    Ends(Vec<End>),
    /// The node that runs the other end.
    OwnNode,
    /// The endpoints of a service.
    Service(Arc<Service>),
}

/// One end of a flow.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) scope: AnyPeer,
    pub(super) name: String,
    /// None: no address in particular.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) identity: Option<u32>,
    pub(super) node: Option<Arc<str>>,
    pub(super) pod: Option<Name>,
}

impl End {
    /// What is no pod and has no address in particular.
    fn vague(scope: AnyPeer, name: &str) -> Self {
        Self { scope, name: name.to_owned(), addresses: Vec::new(), identity: None, node: None, pod: None }
    }

    /// Whether it is the same pod, or the same node.
    pub(super) fn is(&self, other: &Self) -> bool {
        let place = |end: &Self| (end.scope, end.pod.clone(), end.node.clone());
        self.node.is_some() && place(self) == place(other)
    }

    /// Whether it is a node, and the other a pod that it runs.
    pub(super) fn runs(&self, other: &Self) -> bool {
        self.scope == AnyPeer::Node && self.node.is_some() && other.pod.is_some() && self.node == other.node
    }

    /// As it is told, with the address that it has in the flow.
    pub(super) fn show(&self, index: &Index, address: Option<IpAddr>) -> explain::End {
        let kind = match self.scope {
            AnyPeer::Pod => "pod",
            AnyPeer::Node => "node",
            AnyPeer::World | AnyPeer::Unspecified => "world",
        };
        let labels = self.pod.as_ref().and_then(|pod| index.set_of(index.pod(pod)?)).map(|set| {
            let text =
                |(key, value): (&str, &str)| if value.is_empty() { key.to_owned() } else { format!("{key}={value}") };
            set.labels.iter().map(text).collect()
        });
        explain::End {
            kind: kind.to_owned(),
            name: self.name.clone(),
            address: address.map(|address| address.to_string()),
            identity: self.identity,
            labels: labels.unwrap_or_default(),
            node: self.node.as_deref().map(str::to_owned),
        }
    }
}

impl Known<'_> {
    /// What `text` names.
    pub(super) fn named(&self, flag: &'static str, text: &str, notes: &mut Vec<String>) -> Result<Named, Unclear> {
        if let Ok(address) = text.parse::<IpAddr>() {
            let frontend = self.index.services().find(|service| service.cluster_ips.contains(&address));
            return Ok(match frontend {
                Some(service) => Named::Service(Arc::clone(service)),
                None => Named::Ends(vec![self.end_at(address)]),
            });
        }
        let parts: Vec<&str> = text.split('/').collect();
        match parts[..] {
            ["world"] => Ok(Named::Ends(vec![End::vague(AnyPeer::World, text)])),
            ["host"] => Ok(Named::OwnNode),
            ["remote-node"] => Ok(Named::Ends(vec![End::vague(AnyPeer::Node, text)])),
            ["kube-apiserver"] => match self.index.api_server() {
                addresses if addresses.is_empty() => {
                    Err(Unclear::new(flag, "the service default/kubernetes has no endpoints: name an address"))
                }
                addresses => Ok(Named::Ends(addresses.iter().map(|net| self.end_at(net.addr())).collect())),
            },
            ["node", name] => match self.index.node(name) {
                Some(_) => Ok(Named::Ends(vec![self.node(name)])),
                None => Err(Unclear::new(flag, format!("there is no node {name}"))),
            },
            ["service" | "svc", namespace, name] => match self.index.service(&Name::new(namespace, name)) {
                Some(service) => Ok(Named::Service(Arc::clone(service))),
                None => Err(Unclear::new(flag, format!("there is no service {namespace}/{name}"))),
            },
            ["pod", namespace, name] | [namespace, name] => {
                let name = Name::new(namespace, name);
                if let Some(entry) = self.index.pod(&name) {
                    return Ok(Named::Ends(vec![self.pod(flag, entry, notes)?]));
                }
                match self.index.service(&name).filter(|_| parts.len() == 2) {
                    Some(service) => Ok(Named::Service(Arc::clone(service))),
                    None => Err(Unclear::new(flag, format!("there is no pod {name}"))),
                }
            }
            _ => Err(Unclear::new(
                flag,
                format!(
                    "{text:?} is nobody; write NAMESPACE/POD, service/NAMESPACE/NAME, node/NAME, an address, or world, host, \
                     remote-node or kube-apiserver"
                ),
            )),
        }
    }

    fn pod(&self, flag: &'static str, entry: &PodEntry, notes: &mut Vec<String>) -> Result<End, Unclear> {
        let name = &entry.pod.name;
        let Some(node) = &entry.pod.node else {
            return Err(Unclear::new(flag, format!("pod {name} is not bound to a node yet")));
        };
        if entry.pod.host_network {
            notes.push(format!("pod {name} has the network of its node and counts as node {node}"));
            return Ok(self.node(node));
        }
        if entry.pod.finished {
            return Err(Unclear::new(flag, format!("pod {name} has ended")));
        }
        let Some(identity) = self.index.identity_of(entry) else {
            return Err(Unclear::new(flag, format!("pod {name} has no identity yet")));
        };
        Ok(End {
            scope: AnyPeer::Pod,
            name: name.to_string(),
            addresses: self.index.addresses_of(entry),
            identity: Some(identity),
            node: Some(Arc::clone(node)),
            pod: Some(name.clone()),
        })
    }

    fn node(&self, name: &str) -> End {
        let node = self.index.node(name);
        let addresses = node.map(|node| node.internal_ips.to_vec()).unwrap_or_default();
        End { addresses, node: Some(name.into()), ..End::vague(AnyPeer::Node, name) }
    }

    /// The node that runs `other`.
    pub(super) fn own_node(&self, flag: &'static str, other: &End) -> Result<End, Unclear> {
        match other.pod.as_ref().and(other.node.as_deref()) {
            Some(node) => Ok(self.node(node)),
            None => Err(Unclear::new(flag, "\"host\" is the node of a pod, and the other end is none")),
        }
    }

    /// Who has an address, as the kernel sees it.
    fn end_at(&self, address: IpAddr) -> End {
        if let Some(entry) = self.index.pod_at(address)
            && let Some(identity) = self.index.identity_of(entry)
        {
            return End {
                scope: AnyPeer::Pod,
                name: entry.pod.name.to_string(),
                addresses: vec![address],
                identity: Some(identity),
                node: entry.pod.node.clone(),
                pod: Some(entry.pod.name.clone()),
            };
        }
        let own = |name: &Arc<str>| self.index.addresses_of_node(name).any(|own| own == address);
        if let Some(node) = self.index.nodes().find(|node| own(&node.name)) {
            return End { addresses: vec![address], ..self.node(&node.name) };
        }
        let of_pods = self.index.ledgers().any(|ledger| ledger.cidrs().any(|cidr| cidr.contains(&address)));
        let scope = if of_pods { AnyPeer::Pod } else { AnyPeer::World };
        End { addresses: vec![address], ..End::vague(scope, &address.to_string()) }
    }

    /// The endpoints that packets to a service are sent to, with their ports.
    pub(super) fn backends(
        &self,
        service: &Service,
        port: Port,
        notes: &mut Vec<String>,
    ) -> Result<Vec<(End, Port)>, Unclear> {
        let name = &service.name;
        if service.kind == ServiceKind::ExternalName {
            return Err(Unclear::new(
                "to",
                format!("service {name} is a name for something outside: give its address"),
            ));
        }
        let asked =
            |known: &&crate::object::ServicePort| known.protocol.number() == port.protocol && known.port == port.number;
        let Some(known) = service.ports.iter().find(asked) else {
            let all: Vec<_> = service.ports.iter().map(|port| format!("{}/{}", port.port, port.protocol)).collect();
            return Err(Unclear::new("port", format!("service {name} has {}", all.join(", "))));
        };
        let mut backends = Vec::new();
        for slice in self.index.slices_of(name) {
            let Some(target) = slice.ports.iter().find(|port| port.name == known.name) else { continue };
            let target = Port { protocol: target.protocol.number(), number: target.port };
            let ready = slice.endpoints.iter().filter(|endpoint| endpoint.ready || service.publish_not_ready);
            let addresses = ready.filter_map(|endpoint| endpoint.addresses.first());
            backends.extend(addresses.map(|address| (self.end_at(*address), target)));
        }
        if backends.is_empty() {
            notes.push(format!("service {name} has no endpoint that is ready: nobody answers"));
        }
        if backends.len() > BACKENDS {
            notes.push(format!("service {name} has {} endpoints: the first {BACKENDS} are told", backends.len()));
            backends.truncate(BACKENDS);
        }
        Ok(backends)
    }
}
