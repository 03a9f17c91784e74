//! Whom a rule names.

use std::net::IpAddr;
use std::sync::Arc;

use axoneme_crds::meta::LabelSelector;
use axoneme_crds::v2::policy::{CidrRule, ServiceSelector};
use axoneme_proto::tables::AnyPeer;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::clause::Clause;
use super::{CLOUD, DNS, Parser};
use crate::compile::policy::parsed::{
    CidrGroups, HOST, Mentioned, Owners, ParsedPeer, REMOTE_NODE, ServiceBy, ServiceRef,
};
use crate::engine::Reason;
use crate::index::labels;
use crate::object::{Operator, Requirement, Selector};

/// Sources of labels that mean those of Kubernetes here.
const SOURCES: [&str; 2] = [labels::SOURCE, "any:"];
/// Source of the labels of entities.
const RESERVED: &str = "reserved:";

impl Parser<'_> {
    /// All peers of a rule. One that names none is about everybody if it names ports, else about nobody.
    pub(super) fn peers(&mut self, clause: &Clause<'_>) -> Vec<ParsedPeer> {
        let side = clause.side();
        let lists = [
            ("Endpoints", clause.endpoints.map(<[_]>::len)),
            ("Nodes", clause.nodes.map(<[_]>::len)),
            ("Entities", clause.entities.map(<[_]>::len)),
            ("CIDR", clause.cidr.map(<[_]>::len)),
            ("CIDRSet", clause.cidr_set.map(<[_]>::len)),
            ("Groups", clause.groups.map(<[_]>::len)),
            ("Services", clause.services.map(<[_]>::len)),
            ("FQDNs", clause.fqdns.map(<[_]>::len)),
            ("Requires", clause.requires.map(<[_]>::len)),
        ];
        if lists.iter().all(|(_, length)| length.is_none()) {
            let all = !clause.ports.is_empty() || !clause.icmps.is_empty();
            return if all { vec![ParsedPeer::Everything] } else { Vec::new() };
        }
        let mut named = lists.iter().filter(|(_, length)| length.is_some_and(|length| length > 0));
        if let (Some((first, _)), Some((second, _))) = (named.next(), named.next()) {
            let message = format!("cannot stand beside {side}{first} in one rule");
            self.invalid(clause, format_args!("{side}{second}"), message);
            if !clause.denies {
                return Vec::new();
            }
        }
        let mut peers = Vec::new();
        for (i, selector) in clause.endpoints.into_iter().flatten().enumerate() {
            peers.extend(self.endpoints(clause, &format!("{side}Endpoints[{i}]"), selector));
        }
        for selector in clause.nodes.into_iter().flatten() {
            peers.push(ParsedPeer::Nodes(Selector { requirements: of_nodes(selector).into() }));
        }
        for (i, entity) in clause.entities.into_iter().flatten().enumerate() {
            peers.extend(self.entity(clause, &format!("{side}Entities[{i}]"), entity));
        }
        for (i, cidr) in clause.cidr.into_iter().flatten().enumerate() {
            peers.extend(self.block(clause, &format!("{side}CIDR[{i}]"), cidr, &[]));
        }
        for (i, rule) in clause.cidr_set.into_iter().flatten().enumerate() {
            peers.extend(self.cidr_rule(clause, &format!("{side}CIDRSet[{i}]"), rule));
        }
        for (i, service) in clause.services.into_iter().flatten().enumerate() {
            peers.extend(self.services(clause, &format!("{side}Services[{i}]"), service));
        }
        let has = |list: Option<usize>| list.is_some_and(|length| length > 0);
        let later = [
            (has(clause.groups.map(<[_]>::len)), "Groups", CLOUD, ParsedPeer::Scope(AnyPeer::World)),
            (has(clause.fqdns.map(<[_]>::len)), "FQDNs", DNS, ParsedPeer::Scope(AnyPeer::World)),
        ];
        for (_, list, what, widest) in later.into_iter().filter(|(named, ..)| *named) {
            self.later(clause, format_args!("{side}{list}"), what);
            peers.extend(clause.denies.then_some(widest));
        }
        if has(clause.requires.map(<[_]>::len)) {
            self.invalid(clause, format_args!("{side}Requires"), "is not supported any more");
            peers.extend(clause.denies.then_some(ParsedPeer::Everything));
        }
        peers
    }

    fn endpoints(&mut self, clause: &Clause<'_>, field: &str, selector: &LabelSelector) -> Vec<ParsedPeer> {
        let mut all = requirements(selector);
        if let [one] = &*all
            && let Some(entity) = one.key.strip_prefix(RESERVED)
            && one.operator != Operator::DoesNotExist
        {
            let entity = entity.to_owned();
            return self.entity(clause, field, &entity);
        }
        let mut understood = true;
        for requirement in &all {
            if let Operator::Unknown(text) = &requirement.operator {
                self.invalid(clause, field, format_args!("{text:?} is no operator"));
                understood = false;
            }
            self.check(&clause.path(field), requirement);
        }
        if !understood {
            return if clause.denies { vec![ParsedPeer::Scope(AnyPeer::Pod)] } else { Vec::new() };
        }
        let names_namespace = all.iter().any(|r| is_namespace(r) || is_namespace_label(r));
        all.extend(self.namespace.filter(|_| !names_namespace).map(in_namespace));
        all.sort();
        if all.is_empty() {
            return vec![ParsedPeer::Scope(AnyPeer::Pod)];
        }
        vec![ParsedPeer::Selected(Arc::new(Selector { requirements: all.into() }))]
    }

    /// Tells of a label that a selector can never see.
    pub(super) fn check(&mut self, field: &str, requirement: &Requirement) {
        let key = &*requirement.key;
        if key.strip_prefix(labels::SOURCE).is_some_and(labels::is_relevant) || key.starts_with(RESERVED) {
            return;
        }
        let message = format!("label {key:?} is not part of identities, so the selector takes it as absent everywhere");
        self.tell(Reason::LabelNotInIdentity, field, message);
    }

    fn entity(&mut self, clause: &Clause<'_>, field: &str, entity: &str) -> Vec<ParsedPeer> {
        let world =
            |everything: IpNet| vec![ParsedPeer::Block { cidr: everything, except: Vec::new(), of: Owners::World }];
        match entity {
            "all" => vec![ParsedPeer::Everything],
            "world" => vec![ParsedPeer::Scope(AnyPeer::World)],
            "world-ipv4" => world(Ipv4Net::default().into()),
            "world-ipv6" => world(Ipv6Net::default().into()),
            "cluster" => vec![ParsedPeer::Scope(AnyPeer::Pod), ParsedPeer::Scope(AnyPeer::Node)],
            "host" => vec![ParsedPeer::Node(HOST)],
            "remote-node" => vec![ParsedPeer::Node(REMOTE_NODE)],
            "kube-apiserver" => vec![ParsedPeer::ApiServer],
            // Nothing here has one of these identities: every pod has its own, and there is no proxy and no health endpoint.
            "init" | "ingress" | "unmanaged" | "health" | "none" => Vec::new(),
            other => {
                self.invalid(clause, field, format_args!("{other:?} is no entity"));
                clause.denies.then_some(ParsedPeer::Everything).into_iter().collect()
            }
        }
    }

    fn services(&mut self, clause: &Clause<'_>, field: &str, services: &ServiceSelector) -> Option<ParsedPeer> {
        let (namespace, by) = match (&services.k8s_service, &services.k8s_service_selector) {
            (Some(one), _) => (&one.namespace, one.service_name.as_deref().map(|name| ServiceBy::Name(name.into()))),
            (None, Some(some)) => (&some.namespace, labelled(&some.selector).map(ServiceBy::Labels)),
            (None, None) => (&None, None),
        };
        let Some(by) = by else {
            self.invalid(clause, field, "names no Service, or names some by an unknown operator");
            return clause.denies.then_some(ParsedPeer::Everything);
        };
        let namespace: Option<Arc<str>> = namespace.as_deref().filter(|n| !n.is_empty()).map(Arc::from);
        if let ServiceBy::Name(name) = &by {
            let service = Mentioned::Service(namespace.clone(), Arc::clone(name));
            self.mention(clause, format_args!("{field}.k8sService"), service);
        }
        Some(ParsedPeer::Services(ServiceRef { namespace, by }))
    }

    fn cidr_rule(&mut self, clause: &Clause<'_>, field: &str, rule: &CidrRule) -> Vec<ParsedPeer> {
        if let Some(cidr) = &rule.cidr {
            return self.block(clause, field, cidr, rule.except.as_deref().unwrap_or_default());
        }
        let groups = match (&rule.cidr_group_ref, &rule.cidr_group_selector) {
            (Some(name), _) => {
                let name: Arc<str> = name.as_str().into();
                let group = Mentioned::CidrGroup(Arc::clone(&name));
                self.mention(clause, format_args!("{field}.cidrGroupRef"), group);
                CidrGroups::Named(name)
            }
            (None, Some(selector)) => CidrGroups::Labelled(selector.clone().into()),
            (None, None) => {
                self.invalid(clause, field, "names no CIDR and no group");
                return self.any_address(clause);
            }
        };
        let except = self.excepted(clause, field, None, rule.except.as_deref().unwrap_or_default());
        let groups = |except| ParsedPeer::Groups { groups, except, of: self.options.cidrs_of };
        except.map(groups).into_iter().collect()
    }

    fn block(&mut self, clause: &Clause<'_>, field: &str, cidr: &str, except: &[String]) -> Vec<ParsedPeer> {
        let Some(cidr) = prefix(cidr) else {
            self.invalid(clause, field, format_args!("{cidr:?} is no CIDR"));
            return self.any_address(clause);
        };
        let except = self.excepted(clause, field, Some(cidr), except);
        except.map(|except| ParsedPeer::Block { cidr, except, of: self.options.cidrs_of }).into_iter().collect()
    }

    /// All that a prefix may mean, in a rule that denies.
    fn any_address(&self, clause: &Clause<'_>) -> Vec<ParsedPeer> {
        let nodes = self.options.cidrs_of == Owners::WorldAndNodes;
        let scopes = [Some(AnyPeer::World), nodes.then_some(AnyPeer::Node)];
        scopes.into_iter().flatten().filter(|_| clause.denies).map(ParsedPeer::Scope).collect()
    }

    /// What is not meant of `within`, or of any prefix. None: nobody knows, so that nothing is meant.
    fn excepted(
        &mut self,
        clause: &Clause<'_>,
        field: &str,
        within: Option<IpNet>,
        except: &[String],
    ) -> Option<Vec<IpNet>> {
        let mut kept = Vec::new();
        for (i, text) in except.iter().enumerate() {
            match (prefix(text), within) {
                (Some(net), Some(cidr)) if !cidr.contains(&net) => {
                    let path = clause.path(format_args!("{field}.except[{i}]"));
                    self.tell(Reason::InvalidField, path, format!("{net} is not inside {cidr}: excepts nothing"));
                }
                (Some(net), _) => kept.push(net),
                // Nobody can know what should not be meant. Of a deny that is less than the rest.
                (None, _) => {
                    self.invalid(clause, format_args!("{field}.except[{i}]"), format_args!("{text:?} is no CIDR"));
                    if !clause.denies {
                        return None;
                    }
                }
            }
        }
        kept.sort();
        kept.dedup();
        Some(kept)
    }
}

/// A prefix, or an address as the prefix of itself alone.
fn prefix(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().map(|net| net.trunc()).ok().or_else(|| Some(text.parse::<IpAddr>().ok()?.into()))
}

/// What a selector asks for, of security labels: a key without a source means any.
pub(super) fn requirements(selector: &LabelSelector) -> Vec<Requirement> {
    let own = |requirement: Requirement| Requirement { key: with_source(&requirement.key), ..requirement };
    Selector::from(selector.clone()).requirements.into_iter().map(own).collect()
}

/// What a selector asks for of the labels of nodes, which have no sources.
pub(super) fn of_nodes(selector: &LabelSelector) -> Vec<Requirement> {
    let own = |r: Requirement| match r.key.strip_prefix(labels::SOURCE) {
        Some(key) => Requirement { key: key.into(), ..r },
        None => r,
    };
    requirements(selector).into_iter().map(own).collect()
}

/// A selector of objects' own labels, which have no sources. None: nobody knows what it asks for.
fn labelled(selector: &LabelSelector) -> Option<Selector> {
    let own = |r: Requirement| {
        let key = SOURCES.iter().find_map(|source| r.key.strip_prefix(source)).map(Box::from);
        Requirement { key: key.unwrap_or(r.key), ..r }
    };
    let requirements: Box<[_]> = Selector::from(selector.clone()).requirements.into_iter().map(own).collect();
    let known = requirements.iter().all(|r| !matches!(r.operator, Operator::Unknown(_)));
    known.then_some(Selector { requirements })
}

fn with_source(key: &str) -> Box<str> {
    let own = SOURCES.iter().find_map(|source| key.strip_prefix(source));
    match own.or((!key.contains(':')).then_some(key)) {
        Some(key) => format!("{}{key}", labels::SOURCE).into(),
        None => key.into(),
    }
}

/// That a pod is of this namespace.
pub(super) fn in_namespace(namespace: &str) -> Requirement {
    let key = format!("{}{}", labels::SOURCE, labels::NAMESPACE).into();
    Requirement { key, operator: Operator::In, values: [namespace.into()].into() }
}

/// Whether it is about a pod's namespace.
pub(super) fn is_namespace(requirement: &Requirement) -> bool {
    requirement.key.strip_prefix(labels::SOURCE) == Some(labels::NAMESPACE)
}

fn is_namespace_label(requirement: &Requirement) -> bool {
    requirement.key.strip_prefix(labels::SOURCE).is_some_and(|key| key.starts_with(labels::NAMESPACE_LABELS))
}
