//! NetworkPolicies to policy rows.
//!
//! [`parse`] reads one policy: selectors become selectors on identities, ports become prefixes, CIDRs become numbers, and what
//! makes no sense becomes a diagnostic and stays closed. [`compile`] merges all policies that select one identity into its row.

mod cidr;
pub mod cilium;
mod emergency;
mod excepted;
mod explain;
mod features;
pub(crate) mod icmp;
mod judge;
mod merge;
mod parse;
mod parsed;
mod ports;
mod strict;
pub mod tiered;

#[cfg(any(test, feature = "testing"))]
pub mod agreement;
#[cfg(any(test, feature = "testing"))]
pub mod oracle;
#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
#[cfg(any(test, feature = "testing"))]
pub mod worlds;

pub use emergency::{ApiServer, Emergency};
pub use excepted::Excepted;
pub use explain::{Because, Dealings, Decision, PacketPeer, RuleAsked};
pub use features::required;
pub use judge::Said;
pub use merge::{PeerView, Reading, Source, Subject, SubjectPolicy, compile, listed};
pub use parse::parse;
pub use parsed::{
    CidrGroups, Dependency, HOST, Mention, Mentioned, Owners, ParsedDirection, ParsedPeer, ParsedPolicy, ParsedRule,
    REMOTE_NODE, ServiceBy, ServiceRef, Subjects, Verdict, WORLD,
};
pub use ports::{ICMP, ICMPV6, IGMP, NamedPort, PROTOCOLS, PortKey, PortSet, VRRP};
pub use strict::excepted;

use std::collections::HashMap;
use std::sync::Arc;

use axoneme_proto::Scope;
use axoneme_proto::nodesync::{Feature, Table};
use axoneme_proto::tables;
use axoneme_proto::tables::PolicyMode;
use prost::Message;

use super::Output;
use crate::index::{Index, PolicyPart};
use crate::object::{Name, ObjectKey};
use crate::table::{EncodedRow, RowId};

/// The id of an identity's policy row.
#[must_use]
pub fn row_id(identity: u32) -> RowId {
    RowId::new(Scope::Policy(identity), Table::Policy, identity.to_string())
}

/// The id of a node's own policy row.
#[must_use]
pub fn host_row_id(node: &str) -> RowId {
    RowId::new(Scope::Node(node.to_owned()), Table::Policy, HOST.to_string())
}

/// A policy row, and what others need to know of it.
#[derive(Clone, Debug)]
pub struct PolicyRow {
    /// The row.
    pub output: Output,
    /// What it has in common with the rows of others.
    pub shared: Arc<Shared>,
}

/// What is the same for all identities, or all nodes, that the same policies select.
#[derive(Debug, PartialEq, Eq)]
pub struct Shared {
    /// The message without the identity.
    body: Vec<u8>,
    /// Identities whose addresses a node needs that enforces this; sorted.
    pub listed: Vec<u32>,
    /// Identities that it treats worse than pods at large; see [`excepted`].
    pub excepted: Vec<u32>,
    /// `Feature` bits without which a node must not apply it.
    pub features: u64,
    /// Whether ingress is enforced.
    pub ingress: bool,
    /// Whether egress is enforced.
    pub egress: bool,
}

/// Compiles the rows of one state of the index. A policy that selects many identities is compiled once for all of them.
#[derive(Debug, Default)]
pub struct Rows {
    by_policies: HashMap<Vec<PolicyPart>, Arc<Shared>>,
}

impl Rows {
    /// The policy row of an identity that some pod has; also when nothing selects it, because an endpoint without one is
    /// closed.
    #[must_use]
    pub fn row(&mut self, index: &Index, identity: u32, mode: PolicyMode) -> Option<PolicyRow> {
        let subject = index.subject(identity)?;
        let own = subject.policies.iter().any(|policy| policy.parsed.names_ports_of_subjects());
        let shared = match own {
            true => Arc::new(Shared::compile(&subject, index, mode)),
            false => self.shared(&subject, index, mode),
        };
        Some(PolicyRow::new(row_id(identity), identity, shared, 0))
    }

    /// The policy row of a node; none where no policy selects it: what is said of pods in mode `always` is not said of nodes.
    #[must_use]
    pub fn host_row(&mut self, index: &Index, node: &str, mode: PolicyMode) -> Option<PolicyRow> {
        let subject = index.host_subject(node).filter(|_| mode != PolicyMode::Never)?;
        let shared = self.shared(&subject, index, PolicyMode::Default);
        Some(PolicyRow::new(host_row_id(node), subject.identity, shared, Feature::HostPolicy as u64))
    }

    /// A part is about pods or about nodes, so that the same parts never mean both.
    fn shared(&mut self, subject: &Subject<'_>, index: &Index, mode: PolicyMode) -> Arc<Shared> {
        let policies = subject.policies.iter().filter_map(|policy| policy.source.part().cloned()).collect();
        let shared = self.by_policies.entry(policies);
        Arc::clone(shared.or_insert_with(|| Arc::new(Shared::compile(subject, index, mode))))
    }
}

impl PolicyRow {
    fn new(id: RowId, identity: u32, shared: Arc<Shared>, features: u64) -> Self {
        // The identity is the message's first field, so that the rest can follow as it is.
        let mut payload = tables::Policy { identity, ..tables::Policy::default() }.encode_to_vec();
        payload.extend_from_slice(&shared.body);
        let row = EncodedRow::from_payload(&id, payload.into(), shared.features | features);
        Self { output: (id, row), shared }
    }
}

impl Shared {
    fn compile(subject: &Subject<'_>, index: &Index, mode: PolicyMode) -> Self {
        let policy = tables::Policy { identity: 0, ..compile(subject, index, mode) };
        let enforced = |direction: &Option<tables::PolicyDirection>| direction.as_ref().is_some_and(|d| d.enforced);
        Self {
            body: policy.encode_to_vec(),
            listed: listed(&policy),
            excepted: excepted(&policy),
            features: required(&policy),
            ingress: enforced(&policy.ingress),
            egress: enforced(&policy.egress),
        }
    }
}

/// How a policy is named in rows, and so in drop reasons and verdict events.
#[must_use]
pub fn policy_label(policy: &ObjectKey) -> String {
    let kind = policy.kind.to_string().to_ascii_lowercase();
    let Name { namespace, name } = &policy.name;
    if namespace.is_empty() { format!("{kind}:{name}") } else { format!("{kind}:{namespace}/{name}") }
}
