//! The four kinds of rules that a policy has, in one shape.

use std::fmt::Display;

use axoneme_crds::meta::LabelSelector;
use axoneme_crds::v2::policy::{
    Authentication, CidrRule, DenyPortRule, EgressDenyRule, EgressRule, FqdnSelector, Group, IcmpRule, IngressDenyRule,
    IngressRule, PortProtocol, PortRule, Rule, ServiceSelector,
};

use crate::object::Direction;

/// One of `ingress`, `ingressDeny`, `egress` or `egressDeny`. Peers are lists of which at most one may have members.
#[derive(Debug)]
pub(super) struct Clause<'a> {
    /// Path of its field.
    pub(super) field: String,
    pub(super) direction: Direction,
    pub(super) denies: bool,
    /// It is about nodes, not about pods.
    pub(super) of_nodes: bool,
    pub(super) endpoints: Option<&'a [LabelSelector]>,
    pub(super) nodes: Option<&'a [LabelSelector]>,
    pub(super) entities: Option<&'a [String]>,
    pub(super) cidr: Option<&'a [String]>,
    pub(super) cidr_set: Option<&'a [CidrRule]>,
    pub(super) groups: Option<&'a [Group]>,
    pub(super) services: Option<&'a [ServiceSelector]>,
    pub(super) fqdns: Option<&'a [FqdnSelector]>,
    pub(super) requires: Option<&'a [String]>,
    pub(super) ports: Vec<Ports<'a>>,
    pub(super) icmps: &'a [IcmpRule],
    pub(super) authentication: Option<&'a Authentication>,
}

/// One of `toPorts`.
#[derive(Debug)]
pub(super) struct Ports<'a> {
    pub(super) ports: &'a [PortProtocol],
    /// The field by which it asks for more than layer 4.
    pub(super) beyond: Option<&'static str>,
}

/// What rules that allow and rules that deny have in common, of ingress.
macro_rules! from {
    ($field:expr, $rule:expr, $denies:expr, $ports:path) => {
        Clause {
            field: $field,
            direction: Direction::Ingress,
            denies: $denies,
            of_nodes: false,
            endpoints: $rule.from_endpoints.as_deref(),
            nodes: $rule.from_nodes.as_deref(),
            entities: $rule.from_entities.as_deref(),
            cidr: $rule.from_cidr.as_deref(),
            cidr_set: $rule.from_cidr_set.as_deref(),
            groups: $rule.from_groups.as_deref(),
            services: None,
            fqdns: None,
            requires: $rule.from_requires.as_deref(),
            ports: $rule.to_ports.iter().flatten().map($ports).collect(),
            icmps: $rule.icmps.as_deref().unwrap_or_default(),
            authentication: None,
        }
    };
}

/// The same of egress.
macro_rules! to {
    ($field:expr, $rule:expr, $denies:expr, $ports:path) => {
        Clause {
            field: $field,
            direction: Direction::Egress,
            denies: $denies,
            of_nodes: false,
            endpoints: $rule.to_endpoints.as_deref(),
            nodes: $rule.to_nodes.as_deref(),
            entities: $rule.to_entities.as_deref(),
            cidr: $rule.to_cidr.as_deref(),
            cidr_set: $rule.to_cidr_set.as_deref(),
            groups: $rule.to_groups.as_deref(),
            services: $rule.to_services.as_deref(),
            fqdns: None,
            requires: $rule.to_requires.as_deref(),
            ports: $rule.to_ports.iter().flatten().map($ports).collect(),
            icmps: $rule.icmps.as_deref().unwrap_or_default(),
            authentication: None,
        }
    };
}

impl<'a> Clause<'a> {
    /// All of one direction of a rule.
    pub(super) fn all_of(rule: &'a Rule, field: &str, direction: Direction) -> Vec<Self> {
        let path = |list: &str, i: usize| format!("{field}.{list}[{i}]");
        let mut all: Vec<Self> = match direction {
            Direction::Ingress => {
                let allowed = rule.ingress.iter().flatten().enumerate();
                let denied = rule.ingress_deny.iter().flatten().enumerate();
                let allowed = allowed.map(|(i, rule)| Self::ingress(path("ingress", i), rule));
                allowed.chain(denied.map(|(i, rule)| Self::ingress_deny(path("ingressDeny", i), rule))).collect()
            }
            Direction::Egress => {
                let allowed = rule.egress.iter().flatten().enumerate();
                let denied = rule.egress_deny.iter().flatten().enumerate();
                let allowed = allowed.map(|(i, rule)| Self::egress(path("egress", i), rule));
                allowed.chain(denied.map(|(i, rule)| Self::egress_deny(path("egressDeny", i), rule))).collect()
            }
        };
        let of_nodes = rule.endpoint_selector.is_none();
        all.iter_mut().for_each(|clause| clause.of_nodes = of_nodes);
        all
    }

    fn ingress(field: String, rule: &'a IngressRule) -> Self {
        let authentication = rule.authentication.as_ref();
        Self { authentication, ..from!(field, rule, false, Ports::of) }
    }

    fn ingress_deny(field: String, rule: &'a IngressDenyRule) -> Self {
        from!(field, rule, true, Ports::denied)
    }

    fn egress(field: String, rule: &'a EgressRule) -> Self {
        let (fqdns, authentication) = (rule.to_fqdns.as_deref(), rule.authentication.as_ref());
        Self { fqdns, authentication, ..to!(field, rule, false, Ports::of) }
    }

    fn egress_deny(field: String, rule: &'a EgressDenyRule) -> Self {
        to!(field, rule, true, Ports::denied)
    }

    /// Path of a field in it.
    pub(super) fn path(&self, field: impl Display) -> String {
        format!("{}.{field}", self.field)
    }

    /// What becomes of a part of it that cannot be applied.
    pub(super) const fn effect(&self) -> &'static str {
        if self.denies { "denies whatever it may mean" } else { "allows nothing" }
    }

    /// The prefix of its peers' fields.
    pub(super) const fn side(&self) -> &'static str {
        match self.direction {
            Direction::Ingress => "from",
            Direction::Egress => "to",
        }
    }
}

impl<'a> Ports<'a> {
    fn of(rule: &'a PortRule) -> Self {
        let beyond = [
            (rule.rules.is_some(), "rules"),
            (rule.terminating_tls.is_some(), "terminatingTLS"),
            (rule.originating_tls.is_some(), "originatingTLS"),
            (rule.server_names.is_some(), "serverNames"),
            (rule.listener.is_some(), "listener"),
        ];
        let beyond = beyond.into_iter().find(|(asked, _)| *asked).map(|(_, field)| field);
        Self { ports: rule.ports.as_deref().unwrap_or_default(), beyond }
    }

    fn denied(rule: &'a DenyPortRule) -> Self {
        Self { ports: rule.ports.as_deref().unwrap_or_default(), beyond: None }
    }
}
