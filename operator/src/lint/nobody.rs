//! What of a rule means nobody that there is.

use std::collections::BTreeSet;

use axoneme_proto::tables::AnyPeer;

use super::asked::Rule;
use super::classes::outside;
use crate::compile::policy::{CidrGroups, NamedPort, ParsedPeer, PeerView, ServiceBy};
use crate::index::{Index, labels};
use crate::object::{Direction, Operator, Requirement, Selector};

/// Labels of namespaces that stand for their names.
const NAME_OF_NAMESPACE: &str = "kubernetes.io/metadata.name";

/// Peers that mean nobody, in words.
pub(super) fn peers(rule: &Rule<'_>, index: &Index) -> Vec<String> {
    rule.parsed.peers.iter().filter_map(|peer| nobody(peer, index)).collect()
}

fn nobody(peer: &ParsedPeer, index: &Index) -> Option<String> {
    match peer {
        ParsedPeer::Selected(selector) => {
            index.selected(selector).is_empty().then(|| format!("no pod {}", pods(selector)))
        }
        // Where no node is told of, nothing is known of them.
        ParsedPeer::Nodes(selector) => {
            let none = index.nodes().next().is_some() && PeerView::nodes(index, selector).is_empty();
            none.then(|| nodes(selector))
        }
        ParsedPeer::Services(services) => {
            let none = index.behind(services).is_empty() && index.endpoints(services).is_empty();
            let namespace = services.namespace.as_ref().map(|name| format!("{name}/")).unwrap_or_default();
            none.then(|| match &services.by {
                ServiceBy::Name(name) => format!("nobody is behind a Service {namespace}{name}"),
                ServiceBy::Labels(_) => "nobody is behind a Service that it selects".to_owned(),
            })
        }
        ParsedPeer::Groups { groups, except, .. } => {
            let name = match groups {
                CidrGroups::Named(name) => format!("CiliumCIDRGroup {name}"),
                CidrGroups::Labelled(_) => "any CiliumCIDRGroup that it selects".to_owned(),
            };
            let nets = index.cidrs(groups);
            match nets.iter().find_map(|net| outside(*net, except)) {
                Some(_) => None,
                None if nets.is_empty() => Some(format!("no address is in {name}")),
                None => Some(format!("its exceptions leave nothing of {name}")),
            }
        }
        ParsedPeer::Block { cidr, except, .. } => {
            outside(*cidr, except).is_none().then(|| format!("its exceptions leave nothing of {cidr}"))
        }
        ParsedPeer::Everything | ParsedPeer::Scope(_) | ParsedPeer::Node(_) | ParsedPeer::ApiServer => None,
    }
}

/// Names of ports that nobody has of whose ports they are, in words: in a rule for ingress the policy's pods, else its peers.
pub(super) fn ports(rule: &Rule<'_>, subjects: &[u32], index: &Index) -> Vec<String> {
    let (whose, owners) = match rule.direction {
        Direction::Ingress => ("that the policy selects", Some(subjects.iter().copied().collect())),
        Direction::Egress => ("that the rule names", peers_with_ports(&rule.parsed.peers, index)),
    };
    let has = |port: &NamedPort| {
        let with = index.with_port(port);
        owners.as_ref().map_or(!with.is_empty(), |owners: &BTreeSet<u32>| with.iter().any(|id| owners.contains(id)))
    };
    // A name without a protocol stands for one port of each.
    let named = &rule.parsed.ports.named;
    let names: BTreeSet<&str> = named.iter().map(|port| &*port.name).collect();
    let all = |name: &'_ str| -> Vec<&NamedPort> { named.iter().filter(|port| *port.name == *name).collect() };
    let nobodys = names.into_iter().filter(|name| !all(name).into_iter().any(has));
    nobodys.map(|name| format!("no pod {whose} has a port named {name}{}", protocol(&all(name)))).collect()
}

fn protocol(ports: &[&NamedPort]) -> String {
    match ports {
        [only] => format!(" of {}", crate::diff::protocol_name(only.protocol.number())),
        _ => String::new(),
    }
}

/// The identities of peers that are pods. None: all that there are.
fn peers_with_ports(peers: &[ParsedPeer], index: &Index) -> Option<BTreeSet<u32>> {
    let mut all = BTreeSet::new();
    for peer in peers {
        match peer {
            ParsedPeer::Everything | ParsedPeer::Scope(AnyPeer::Pod) => return None,
            ParsedPeer::Selected(selector) => all.extend(index.selected(selector)),
            ParsedPeer::Services(services) => all.extend(index.behind(services)),
            _ => {}
        }
    }
    Some(all)
}

/// That no node has what a selector asks for.
pub(super) fn nodes(selector: &Selector) -> String {
    format!("no node has {}", requirements(&selector.requirements.iter().collect::<Vec<_>>()))
}

/// Like `of namespace shop has the label app=web`.
pub(super) fn pods(selector: &Selector) -> String {
    let key = |key: &str| key.strip_prefix(labels::SOURCE).unwrap_or(key).to_owned();
    let namespaces = format!("{}.", labels::NAMESPACE_LABELS);
    let (mut of, mut own, mut inherited) = (Vec::new(), Vec::new(), Vec::new());
    for requirement in &selector.requirements {
        let key = key(&requirement.key);
        let name_of_namespace = key.strip_prefix(&namespaces) == Some(NAME_OF_NAMESPACE);
        match (&requirement.operator, &*requirement.values) {
            (Operator::In, [name]) if key == labels::NAMESPACE || name_of_namespace => of.push(&**name),
            _ if key.starts_with(&namespaces) => inherited.push(requirement),
            _ => own.push(requirement),
        }
    }
    of.dedup();
    let mut parts = Vec::new();
    if !of.is_empty() {
        parts.push(format!("is in namespace {}", of.join(" and ")));
    }
    if !inherited.is_empty() {
        parts.push(format!("is in a namespace with {}", requirements(&inherited)));
    }
    if !own.is_empty() {
        parts.push(format!("has {}", requirements(&own)));
    }
    if parts.is_empty() { "exists".to_owned() } else { parts.join(" and ") }
}

/// Like `app=web, tier in (a, b)`.
fn requirements(all: &[&Requirement]) -> String {
    let namespaces = format!("{}.", labels::NAMESPACE_LABELS);
    let told = all.iter().map(|requirement| {
        let key = requirement.key.strip_prefix(labels::SOURCE).unwrap_or(&requirement.key);
        let key = key.strip_prefix(&namespaces).unwrap_or(key);
        let values = requirement.values.join(", ");
        match (&requirement.operator, requirement.values.len()) {
            (Operator::In, 1) => format!("{key}={values}"),
            (Operator::In, _) => format!("{key} in ({values})"),
            (Operator::NotIn, 1) => format!("{key}!={values}"),
            (Operator::NotIn, _) => format!("{key} not in ({values})"),
            (Operator::Exists, _) => key.to_owned(),
            (Operator::DoesNotExist, _) => format!("!{key}"),
            (Operator::Unknown(operator), _) => format!("{key} {operator} ({values})"),
        }
    });
    told.collect::<Vec<_>>().join(", ")
}
