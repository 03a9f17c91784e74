//! Policies of all kinds in one form: whom they are about, and what their rules say.

use std::collections::BTreeSet;
use std::sync::Arc;

use axoneme_proto::tables::{Action, AnyPeer, Tier};
use ipnet::IpNet;

use super::ports::{PortSet, rank};
use crate::object::{Direction, Selector, Service};

/// Rules about the same subjects, in the terms of identities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedPolicy {
    /// Whom it is about.
    pub subjects: Subjects,
    /// Path of the field that says so, like `spec.endpointSelector`.
    pub field: Box<str>,
    /// What it says of packets to them.
    pub ingress: ParsedDirection,
    /// What it says of packets from them.
    pub egress: ParsedDirection,
    /// It only reports what it would drop; what it allows is allowed.
    pub audits: bool,
    /// What is to be said with its verdicts.
    pub log: Option<Box<str>>,
}

/// Whom a policy is about: never both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subjects {
    /// Pods of identities with these security labels.
    Pods(Arc<Selector>),
    /// Nodes themselves, with these labels of their own, which have no sources.
    Nodes(Selector),
}

/// What a policy says of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParsedDirection {
    /// What no rule of any policy allows is dropped.
    pub isolates: bool,
    /// Rules, in no order: their verdicts say which counts.
    pub rules: Vec<ParsedRule>,
}

/// A rule: of these peers on these ports, this is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedRule {
    /// Path of its field in the policy, like `spec.ingress[0]`.
    pub field: Box<str>,
    /// What is to become of it.
    pub verdict: Verdict,
    /// Any of them.
    pub peers: Vec<ParsedPeer>,
    /// Any of them.
    pub ports: PortSet,
}

/// What a rule decides, and before which others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Earlier tiers go first.
    pub tier: Tier,
    /// Within a tier the lowest goes first; at the same order a deny before an allow.
    pub order: u32,
    /// What it decides.
    pub action: Action,
}

impl Verdict {
    /// What all rules say whose kinds know no order.
    pub const ALLOW: Self = Self { tier: Tier::Normal, order: 0, action: Action::Allow };
    /// As [`Verdict::ALLOW`], and it goes before that.
    pub const DENY: Self = Self { action: Action::Deny, ..Self::ALLOW };

    /// Of rules that are about a packet the one goes first whose weight is the least.
    #[must_use]
    pub const fn weight(self) -> (Tier, u32, u8) {
        (self.tier, self.order, rank(self.action))
    }
}

/// A peer of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParsedPeer {
    /// Pods, nodes and the world.
    Everything,
    /// All of one scope.
    Scope(AnyPeer),
    /// Pods of identities with these labels.
    Selected(Arc<Selector>),
    /// Of the scope of nodes only those with this number: see [`HOST`] and [`REMOTE_NODE`].
    Node(u32),
    /// Addresses of nodes with these labels.
    Nodes(Selector),
    /// Addresses of the API server.
    ApiServer,
    /// The pods behind Services, and the endpoints of those that select none.
    Services(ServiceRef),
    /// Addresses of CiliumCIDRGroups.
    Groups {
        /// In these,
        groups: CidrGroups,
        /// but in none of these.
        except: Vec<IpNet>,
        /// Who has them.
        of: Owners,
    },
    /// Addresses.
    Block {
        /// In here,
        cidr: IpNet,
        /// but in none of these.
        except: Vec<IpNet>,
        /// Who has them.
        of: Owners,
    },
}

/// CiliumCIDRGroups that a policy means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CidrGroups {
    /// The one of this name.
    Named(Arc<str>),
    /// Those with these labels.
    Labelled(Selector),
}

/// Services that a policy means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRef {
    /// Their namespace; none: any.
    pub namespace: Option<Arc<str>>,
    /// Which of them.
    pub by: ServiceBy,
}

/// How a policy names Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceBy {
    /// The one of this name.
    Name(Arc<str>),
    /// Those with these labels.
    Labels(Selector),
}

impl ServiceRef {
    /// Whether `service` is one of them.
    #[must_use]
    pub fn means(&self, service: &Service) -> bool {
        let of_namespace = self.namespace.as_ref().is_none_or(|namespace| *namespace == service.name.namespace);
        of_namespace
            && match &self.by {
                ServiceBy::Name(name) => *name == service.name.name,
                ServiceBy::Labels(selector) => selector.matches(&service.labels),
            }
    }
}

/// An object that a policy names: it may not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    /// Path of the field that names it.
    pub field: Box<str>,
    /// What it is.
    pub object: Mentioned,
}

/// An object that is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mentioned {
    /// A CiliumCIDRGroup.
    CidrGroup(Arc<str>),
    /// A Service; without a namespace: one of some.
    Service(Option<Arc<str>>, Arc<str>),
}

/// Number of the local host.
pub const HOST: u32 = 1;
/// Number of all other nodes.
pub const REMOTE_NODE: u32 = 6;
/// Number of what is outside the cluster.
pub const WORLD: u32 = 2;

/// What beside identities and their labels policies depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependency {
    /// Named ports of the peers' pods.
    PortsOfPeers,
    /// Labels and addresses of nodes.
    Nodes,
    /// Addresses of the API server.
    ApiServer,
    /// CiliumCIDRGroups.
    CidrGroups,
    /// Services and their endpoints.
    Services,
}

/// Whose addresses a block means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// Anybody's.
    All,
    /// Those of nodes.
    Nodes,
    /// Those outside the cluster.
    World,
    /// All but those of pods.
    WorldAndNodes,
}

impl ParsedPolicy {
    /// What it says of a direction.
    #[must_use]
    pub const fn direction(&self, direction: Direction) -> &ParsedDirection {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// Whether it is about nodes.
    #[must_use]
    pub const fn is_about_nodes(&self) -> bool {
        matches!(self.subjects, Subjects::Nodes(_))
    }

    /// Selectors of peers, of both directions; one may occur more than once.
    pub fn peer_selectors(&self) -> impl Iterator<Item = &Arc<Selector>> {
        self.peers().filter_map(|peer| match peer {
            ParsedPeer::Selected(selector) => Some(selector),
            _ => None,
        })
    }

    /// The Services among its peers.
    pub fn services(&self) -> impl Iterator<Item = &ServiceRef> {
        self.peers().filter_map(|peer| match peer {
            ParsedPeer::Services(services) => Some(services),
            _ => None,
        })
    }

    /// Whether a port by name depends on the subject's pods.
    #[must_use]
    pub fn names_ports_of_subjects(&self) -> bool {
        self.ingress.rules.iter().any(|rule| !rule.ports.named.is_empty())
    }

    /// On what its rows depend beside identities and their labels.
    #[must_use]
    pub fn depends_on(&self) -> BTreeSet<Dependency> {
        let named = self.egress.rules.iter().any(|rule| !rule.ports.named.is_empty());
        let by_peer = self.peers().filter_map(|peer| match peer {
            ParsedPeer::Nodes(_) => Some(Dependency::Nodes),
            ParsedPeer::ApiServer => Some(Dependency::ApiServer),
            ParsedPeer::Groups { .. } => Some(Dependency::CidrGroups),
            ParsedPeer::Services(_) => Some(Dependency::Services),
            _ => None,
        });
        // A way to the API server stays open to nodes.
        let emergency = self.is_about_nodes().then_some(Dependency::ApiServer);
        by_peer.chain(named.then_some(Dependency::PortsOfPeers)).chain(emergency).collect()
    }

    fn peers(&self) -> impl Iterator<Item = &ParsedPeer> {
        self.ingress.rules.iter().chain(&self.egress.rules).flat_map(|rule| &rule.peers)
    }
}
