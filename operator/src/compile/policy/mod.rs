//! NetworkPolicies to policy rows.
//!
//! [`parse`] reads one policy: selectors become selectors on identities, ports become prefixes, CIDRs become numbers, and what
//! makes no sense becomes a diagnostic and stays closed. [`compile`] merges all policies that select one identity into its row.

mod cidr;
mod merge;
mod parse;
mod ports;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod property;
#[cfg(test)]
mod simulate;
#[cfg(test)]
mod tests;

pub use merge::{PeerView, Subject, SubjectPolicy, compile, listed};
pub use parse::{ParsedPeer, ParsedPolicy, ParsedRule, parse};
pub use ports::{NamedPort, PortKey, PortSet};

use axoneme_proto::Scope;
use axoneme_proto::nodesync::Table;
use axoneme_proto::tables;
use axoneme_proto::tables::PolicyMode;

use super::{Output, output};
use crate::index::Index;
use crate::object::Name;
use crate::table::RowId;

/// The id of an identity's policy row.
#[must_use]
pub fn row_id(identity: u32) -> RowId {
    RowId::new(Scope::Policy(identity), Table::Policy, identity.to_string())
}

/// The policy row of an identity that some pod has; also when nothing selects it, because an endpoint without one is closed.
#[must_use]
pub fn row(index: &Index, identity: u32, mode: PolicyMode) -> Option<(Output, tables::Policy)> {
    let policy = compile(&index.subject(identity)?, index, mode);
    Some((output(row_id(identity), &policy), policy))
}

/// How policies of this kind are named in rows, and so in drop reasons and verdict events.
#[must_use]
pub fn policy_label(name: &Name) -> String {
    format!("networkpolicy:{name}")
}
