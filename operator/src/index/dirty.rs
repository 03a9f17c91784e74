//! Which outputs a change of inputs can touch.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::object::{Name, ObjectKey};

/// Keys of outputs to be compiled again. Too many is only slow, too few is wrong.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// The settings of all nodes.
    pub settings: bool,
    /// Nodes whose own settings may differ.
    pub node_settings: BTreeSet<Arc<str>>,
    /// Nodes: their node and pool rows.
    pub nodes: BTreeSet<Arc<str>>,
    /// Services.
    pub services: BTreeSet<Name>,
    /// EndpointSlices.
    pub slices: BTreeSet<Name>,
    /// Pods: peer row, endpoint row, report.
    pub pods: BTreeSet<Name>,
    /// Pods of which only the report may differ.
    pub reports: BTreeSet<Name>,
    /// Identities: policy row.
    pub identities: BTreeSet<u32>,
    /// Nodes: their own policy row.
    pub hosts: BTreeSet<Arc<str>>,
    /// Namespaces on nodes: (node, namespace).
    pub namespaces: BTreeSet<(Arc<str>, Arc<str>)>,
    /// Nodes whose set of scopes may differ.
    pub scopes: BTreeSet<Arc<str>>,
    /// Nodes whose ledger may need something else.
    pub ledgers: BTreeSet<Arc<str>>,
    /// Identities that may have come into or gone out of use.
    pub usage: BTreeSet<u32>,
    /// Pools whose diagnostics may differ.
    pub pools: BTreeSet<Arc<str>>,
    /// Policies whose diagnostics may differ.
    pub policies: BTreeSet<ObjectKey>,
}

impl Dirty {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
