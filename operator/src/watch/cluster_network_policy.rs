//! ClusterNetworkPolicies, as written: what is wrong in them the compiler knows best.

use std::borrow::Cow;
use std::sync::Arc;

use axoneme_crds::meta::LabelSelector;
use kube::Resource;
use kube::api::ObjectMeta;
use kube::core::ClusterResourceScope;
use serde::Deserialize;

use super::Watched;
use super::context::{Context, text};
use super::metadata::{audits, slim};
use crate::object::{
    ClusterNetworkPolicy, IpBlock, Kind, Object, Peer, PolicyPort, PortRef, Protocol, Selector, TieredPeer, TieredRule,
};

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Policy {
    #[serde(deserialize_with = "slim")]
    metadata: ObjectMeta,
    spec: Spec,
}

#[derive(Clone, Debug, Deserialize)]
struct Spec {
    tier: String,
    priority: i32,
    subject: Subject,
    #[serde(default)]
    ingress: Vec<Rule>,
    #[serde(default)]
    egress: Vec<Rule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Subject {
    namespaces: Option<LabelSelector>,
    pods: Option<Pods>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pods {
    namespace_selector: LabelSelector,
    pod_selector: LabelSelector,
}

#[derive(Clone, Debug, Deserialize)]
struct Rule {
    action: String,
    #[serde(default, alias = "from", alias = "to")]
    peers: Vec<RulePeer>,
    #[serde(default)]
    protocols: Vec<RuleProtocol>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RulePeer {
    namespaces: Option<LabelSelector>,
    pods: Option<Pods>,
    nodes: Option<LabelSelector>,
    networks: Option<Vec<String>>,
    domain_names: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RuleProtocol {
    tcp: Option<Destination>,
    udp: Option<Destination>,
    sctp: Option<Destination>,
    destination_named_port: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Destination {
    destination_port: Option<Port>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Port {
    number: Option<i32>,
    range: Option<Range>,
}

#[derive(Clone, Debug, Deserialize)]
struct Range {
    start: i32,
    end: i32,
}

impl Resource for Policy {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "ClusterNetworkPolicy".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "policy.networking.k8s.io".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1alpha2".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "clusternetworkpolicies".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Watched for Policy {
    const KIND: Kind = Kind::ClusterNetworkPolicy;

    fn convert(self, context: &mut Context) -> Option<Object> {
        let Subject { namespaces, pods } = self.spec.subject;
        Some(Object::ClusterNetworkPolicy(Arc::new(ClusterNetworkPolicy {
            name: text(self.metadata.name.as_deref()),
            resource_version: text(self.metadata.resource_version.as_deref()),
            audits: audits(&self.metadata, context),
            tier: self.spec.tier.into(),
            priority: self.spec.priority,
            subject: selected(namespaces, pods).unwrap_or_default(),
            ingress: self.spec.ingress.into_iter().map(rule).collect(),
            egress: self.spec.egress.into_iter().map(rule).collect(),
        })))
    }

    /// Whom it is about and what it would say is not known: it denies everything to everybody.
    fn stand_in(metadata: &ObjectMeta, context: &mut Context) -> Option<Object> {
        metadata.name.as_ref()?;
        context.problem("spec", "cannot be read, so it denies everything to all pods until it can be");
        let deny = || TieredRule { action: "Deny".into(), peers: [TieredPeer::Unknown].into(), ports: [].into() };
        Some(Object::ClusterNetworkPolicy(Arc::new(ClusterNetworkPolicy {
            name: text(metadata.name.as_deref()),
            resource_version: text(metadata.resource_version.as_deref()),
            audits: audits(metadata, context),
            tier: "Admin".into(),
            priority: 0,
            subject: Peer { namespace_selector: Some(Selector::default()), ..Peer::default() },
            ingress: [deny()].into(),
            egress: [deny()].into(),
        })))
    }
}

fn selected(namespaces: Option<LabelSelector>, pods: Option<Pods>) -> Option<Peer> {
    let pods = pods.map(|pods| (pods.namespace_selector, Some(pods.pod_selector)));
    let (namespaces, pods) = namespaces.map(|namespaces| (namespaces, None)).or(pods)?;
    Some(Peer { namespace_selector: Some(namespaces.into()), pod_selector: pods.map(Into::into), ip_block: None })
}

fn rule(raw: Rule) -> TieredRule {
    TieredRule {
        action: raw.action.into(),
        peers: raw.peers.into_iter().flat_map(peer).collect(),
        ports: raw.protocols.into_iter().flat_map(ports).collect(),
    }
}

fn peer(raw: RulePeer) -> Vec<TieredPeer> {
    let network =
        |cidr: String| Peer { ip_block: Some(IpBlock { cidr: cidr.into(), except: [].into() }), ..Peer::default() };
    match raw {
        RulePeer { networks: Some(networks), .. } => {
            networks.into_iter().map(|cidr| TieredPeer::Peer(network(cidr))).collect()
        }
        RulePeer { nodes: Some(nodes), .. } => vec![TieredPeer::Nodes(nodes.into())],
        RulePeer { domain_names: Some(_), .. } => vec![TieredPeer::DomainNames],
        RulePeer { namespaces, pods, .. } => {
            vec![selected(namespaces, pods).map_or(TieredPeer::Unknown, TieredPeer::Peer)]
        }
    }
}

fn ports(raw: RuleProtocol) -> Vec<PolicyPort> {
    let port = |protocol: Protocol, destination: Option<Port>| {
        let (first, last) = match destination {
            Some(Port { number: Some(number), .. }) => (Some(number), None),
            Some(Port { range: Some(Range { start, end }), .. }) => (Some(start), Some(end)),
            _ => (None, None),
        };
        let protocol = Some(protocol.to_string().into());
        PolicyPort { protocol, port: first.map(PortRef::Number), end_port: last }
    };
    let by_number = [(Protocol::Tcp, raw.tcp), (Protocol::Udp, raw.udp), (Protocol::Sctp, raw.sctp)];
    let by_number = by_number.into_iter().filter_map(|(protocol, of)| Some(port(protocol, of?.destination_port)));
    let by_name = raw.destination_named_port.into_iter().flat_map(|name| {
        let name = PortRef::Name(name.into());
        Protocol::ALL.map(|protocol| {
            let protocol = Some(protocol.to_string().into());
            PolicyPort { protocol, port: Some(name.clone()), end_port: None }
        })
    });
    by_number.chain(by_name).collect()
}
