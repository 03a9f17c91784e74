//! CiliumNetworkPolicies as Cilium's documentation describes them, on whole objects, one packet at a time.
//!
//! A rule without peers is about everybody if it names ports; a list that is there and empty is nobody. CIDRs and the entity
//! `world` mean what is neither a pod nor a node of the cluster.

use std::net::IpAddr;

use axoneme_crds::meta::LabelSelector;
use axoneme_crds::v2::policy::{CidrRule, IcmpRule, PortProtocol, Rule, ServiceSelector};
use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Packet, Peer, Subject, World};
use crate::compile::policy::icmp;
use crate::object::{CiliumPolicy, Direction, Node, Pod, Protocol, Service};

/// What a policy says of a packet from or to a subject.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said {
    pub(super) isolates: bool,
    pub(super) allows: bool,
    pub(super) denies: bool,
}

/// A rule without the difference between its four kinds.
struct Clause<'a> {
    endpoints: Option<&'a Vec<LabelSelector>>,
    entities: Option<&'a Vec<String>>,
    cidr: Option<&'a Vec<String>>,
    cidr_set: Option<&'a Vec<CidrRule>>,
    services: Option<&'a Vec<ServiceSelector>>,
    ports: Vec<&'a [PortProtocol]>,
    icmps: &'a [IcmpRule],
}

macro_rules! clause {
    ($rule:expr, $endpoints:ident, $entities:ident, $cidr:ident, $cidr_set:ident) => {
        Clause {
            endpoints: $rule.$endpoints.as_ref(),
            entities: $rule.$entities.as_ref(),
            cidr: $rule.$cidr.as_ref(),
            cidr_set: $rule.$cidr_set.as_ref(),
            services: None,
            ports: $rule.to_ports.iter().flatten().map(|ports| ports.ports.as_deref().unwrap_or_default()).collect(),
            icmps: $rule.icmps.as_deref().unwrap_or_default(),
        }
    };
}

/// How a clause knows a packet's peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// As a pod, a node, or what is outside.
    ByWhatItIs,
    /// By its address alone.
    ByAddress,
}

impl World {
    pub(super) fn cilium(&self, policy: &CiliumPolicy, subject: Subject<'_>, packet: &Packet<'_>) -> Said {
        let mut all = Said::default();
        for rule in policy.rules.iter().map(|rule| &rule.rule) {
            if self.is_about(policy, rule, subject) {
                let said = self.rule(policy, rule, subject, packet);
                all.isolates |= said.isolates && !policy.audits;
                all.allows |= said.allows;
                all.denies |= said.denies && !policy.audits;
            }
        }
        all
    }

    /// A rule with a selector of pods is about pods only, and one of a namespace is about no node.
    fn is_about(&self, policy: &CiliumPolicy, rule: &Rule, subject: Subject<'_>) -> bool {
        let clusterwide = policy.name.namespace.is_empty();
        match (subject, &rule.endpoint_selector, &rule.node_selector) {
            (Subject::Pod(pod), Some(selector), _) => {
                (clusterwide || policy.name.namespace == pod.name.namespace) && self.matches(selector, pod)
            }
            (Subject::Node(node), None, Some(selector)) => {
                clusterwide && self.host_firewall.is_some() && is_of(selector, node)
            }
            _ => false,
        }
    }

    fn rule(&self, policy: &CiliumPolicy, rule: &Rule, subject: Subject<'_>, packet: &Packet<'_>) -> Said {
        let wanted = rule.enable_default_deny.clone().unwrap_or_default();
        let (allowing, denying, wanted): (Vec<Clause<'_>>, Vec<Clause<'_>>, _) = match packet.direction {
            Direction::Ingress => (
                rule.ingress
                    .iter()
                    .flatten()
                    .map(|r| clause!(r, from_endpoints, from_entities, from_cidr, from_cidr_set))
                    .collect(),
                rule.ingress_deny
                    .iter()
                    .flatten()
                    .map(|r| clause!(r, from_endpoints, from_entities, from_cidr, from_cidr_set))
                    .collect(),
                wanted.ingress,
            ),
            Direction::Egress => (
                rule.egress
                    .iter()
                    .flatten()
                    .map(|r| Clause {
                        services: r.to_services.as_ref(),
                        ..clause!(r, to_endpoints, to_entities, to_cidr, to_cidr_set)
                    })
                    .collect(),
                rule.egress_deny
                    .iter()
                    .flatten()
                    .map(|r| Clause {
                        services: r.to_services.as_ref(),
                        ..clause!(r, to_endpoints, to_entities, to_cidr, to_cidr_set)
                    })
                    .collect(),
                wanted.egress,
            ),
        };
        let matches = |clause: &Clause<'_>| {
            [Known::ByWhatItIs, Known::ByAddress].into_iter().any(|known| {
                self.peer_is_named(policy, clause, packet, known) && self.port_is_named(clause, subject, packet, known)
            })
        };
        Said {
            isolates: wanted.unwrap_or(!allowing.is_empty() || !denying.is_empty()),
            allows: allowing.iter().any(matches),
            denies: denying.iter().any(matches),
        }
    }

    /// Whether a clause means the packet's peer, as far as it is known so.
    fn peer_is_named(&self, policy: &CiliumPolicy, clause: &Clause<'_>, packet: &Packet<'_>, known: Known) -> bool {
        let &Clause { endpoints, entities, cidr, cidr_set, services, .. } = clause;
        let others = cidr.is_none() && cidr_set.is_none() && services.is_none();
        if endpoints.is_none() && entities.is_none() && others {
            return !clause.ports.is_empty() || !clause.icmps.is_empty();
        }
        let has_address = match packet.peer {
            Peer::World => true,
            Peer::Host | Peer::RemoteNode => self.cidrs_mean_nodes,
            Peer::Pod(_) => false,
        };
        let within = |text: &str| text.parse::<IpNet>().is_ok_and(|net| net.contains(&packet.address));
        let endpoint = |selector: &LabelSelector| match packet.peer {
            Peer::Pod(pod) => {
                let anywhere = policy.name.namespace.is_empty() || names_namespace(selector);
                (anywhere || pod.name.namespace == policy.name.namespace) && self.matches(selector, pod)
            }
            _ => false,
        };
        let entity = |entity: &String| match (entity.as_str(), packet.peer) {
            ("all", _) | ("world", Peer::World) | ("host", Peer::Host) | ("remote-node", Peer::RemoteNode) => true,
            ("cluster", peer) => !matches!(peer, Peer::World),
            ("world-ipv4", Peer::World) => packet.address.is_ipv4(),
            ("world-ipv6", Peer::World) => packet.address.is_ipv6(),
            _ => false,
        };
        let block = |rule: &CidrRule| {
            let except = rule.except.iter().flatten();
            let group = self.groups.iter().any(|group| {
                let by_name = rule.cidr_group_ref.as_ref().is_some_and(|name| **name == *group.name);
                let labels =
                    rule.cidr_group_selector.iter().flat_map(|selector| selector.match_labels.iter().flatten());
                let by_labels = rule.cidr_group_selector.is_some()
                    && labels.into_iter().all(|(key, value)| group.labels.get(key) == Some(value));
                (by_name || by_labels) && group.cidrs.iter().any(|cidr| cidr.contains(&packet.address))
            });
            has_address
                && (group || rule.cidr.as_deref().is_some_and(within))
                && !except.into_iter().any(|net| within(net))
        };
        let api_server = |entity: &String| entity == "kube-apiserver" && self.api_server.contains(&packet.address);
        let services = services.into_iter().flatten().any(|services| self.service(services, packet, known));
        if known == Known::ByWhatItIs {
            return services
                || endpoints.into_iter().flatten().any(endpoint)
                || entities.into_iter().flatten().any(entity);
        }
        services
            || entities.into_iter().flatten().any(api_server)
            || cidr.into_iter().flatten().any(|cidr| has_address && within(cidr))
            || cidr_set.into_iter().flatten().any(block)
    }

    /// Whether the packet's peer is behind one of these services: a pod that one selects, or an endpoint of one that selects none.
    fn service(&self, services: &ServiceSelector, packet: &Packet<'_>, known: Known) -> bool {
        let meant = |service: &&(Service, Vec<IpAddr>)| {
            let Service { name, labels, .. } = &service.0;
            let namespace = |text: &Option<String>| text.as_ref().is_none_or(|text| **text == *name.namespace);
            match (&services.k8s_service, &services.k8s_service_selector) {
                (Some(one), _) => namespace(&one.namespace) && one.service_name.as_deref() == Some(&*name.name),
                (None, Some(some)) => {
                    let mut wanted = some.selector.match_labels.iter().flatten();
                    namespace(&some.namespace) && wanted.all(|(key, value)| labels.get(key) == Some(value))
                }
                (None, None) => false,
            }
        };
        self.services.iter().filter(meant).any(|(service, endpoints)| match (known, packet.peer) {
            (Known::ByWhatItIs, Peer::Pod(pod)) => {
                !service.selector.is_empty()
                    && pod.name.namespace == service.name.namespace
                    && service.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
            }
            (Known::ByWhatItIs, _) => false,
            (Known::ByAddress, _) => service.selector.is_empty() && endpoints.contains(&packet.address),
        })
    }

    fn port_is_named(&self, clause: &Clause<'_>, subject: Subject<'_>, packet: &Packet<'_>, known: Known) -> bool {
        if clause.ports.is_empty() && clause.icmps.is_empty() {
            return true;
        }
        let port = |ports: &&[PortProtocol]| {
            ports.is_empty() || ports.iter().any(|port| self.port(port, subject, packet, known))
        };
        let message = clause.icmps.iter().flat_map(|rule| rule.fields.iter().flatten()).any(|message| {
            let v6 = message.family.as_deref() == Some("IPv6");
            let number = match &message.type_ {
                IntOrString::Int(number) => u16::try_from(*number).ok(),
                IntOrString::String(name) => name.parse().ok().or_else(|| icmp::number(name, v6).map(u16::from)),
            };
            packet.protocol == if v6 { 58 } else { 1 } && number == Some(packet.port)
        });
        message || clause.ports.iter().any(port)
    }

    /// A port by name means nothing towards an address, also where a pod has that, and no port of a node.
    fn port(&self, port: &PortProtocol, subject: Subject<'_>, packet: &Packet<'_>, known: Known) -> bool {
        let wanted = port.protocol.as_deref().filter(|text| *text != "ANY");
        let number = match wanted {
            Some("VRRP") => Some(112),
            Some(text) => Some(Protocol::from_kubernetes(text).unwrap().number()),
            None => None,
        };
        if number.is_some_and(|number| number != packet.protocol) {
            return false;
        }
        let transport = Protocol::ALL.into_iter().find(|protocol| protocol.number() == packet.protocol);
        match (port.port.as_deref().unwrap_or("0"), transport) {
            ("0", _) => true,
            (_, None) => false,
            (text, Some(transport)) => match text.parse::<u16>() {
                Ok(first) => {
                    let last = port.end_port.filter(|last| *last > 0).unwrap_or(first.into());
                    (i32::from(first)..=last).contains(&packet.port.into())
                }
                Err(_) => {
                    let pod = match (packet.direction, packet.peer) {
                        (Direction::Ingress, _) => subject.pod(),
                        (Direction::Egress, Peer::Pod(pod)) if known == Known::ByWhatItIs => Some(pod),
                        (Direction::Egress, _) => None,
                    };
                    pod.is_some_and(|pod| self.has_port(pod, text, transport, packet.port))
                }
            },
        }
    }

    fn matches(&self, selector: &LabelSelector, pod: &Pod) -> bool {
        let value = |key: &str| {
            let key = key.strip_prefix("k8s:").or(key.strip_prefix("any:")).unwrap_or(key);
            if key == "io.kubernetes.pod.namespace" {
                return Some(pod.name.namespace.to_string());
            }
            match key.strip_prefix("io.cilium.k8s.namespace.labels.") {
                Some(key) => self.namespace(pod).and_then(|namespace| namespace.labels.get(key)).map(str::to_owned),
                None => pod.labels.get(key).map(str::to_owned),
            }
        };
        holds(selector, value)
    }
}

/// Whether a selector means a node, by its own labels.
fn is_of(selector: &LabelSelector, node: &Node) -> bool {
    holds(selector, |key| {
        let key = key.strip_prefix("k8s:").or(key.strip_prefix("any:")).unwrap_or(key);
        node.labels.get(key).map(str::to_owned)
    })
}

/// Whether a selector holds where labels have these values.
fn holds(selector: &LabelSelector, value: impl Fn(&str) -> Option<String>) -> bool {
    let labels = selector.match_labels.iter().flatten().all(|(key, wanted)| value(key).as_ref() == Some(wanted));
    labels
        && selector.match_expressions.iter().flatten().all(|expression| {
            let have = value(&expression.key);
            let listed = have.as_ref().is_some_and(|have| expression.values.iter().flatten().any(|v| v == have));
            match expression.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => have.is_some(),
                _ => have.is_none(),
            }
        })
}

/// Whether a selector says itself which namespaces it means.
fn names_namespace(selector: &LabelSelector) -> bool {
    let keys = selector.match_labels.iter().flatten().map(|(key, _)| key);
    let mut keys = keys.chain(selector.match_expressions.iter().flatten().map(|expression| &expression.key));
    keys.any(|key| key.contains("io.kubernetes.pod.namespace") || key.contains("io.cilium.k8s.namespace.labels."))
}
