//! CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy.

use std::sync::Arc;

use axoneme_crds::v2::policy::Rule;

use super::Name;

/// A policy of either kind. Its rules stay as they were written, so that the compiler can say which field is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CiliumPolicy {
    /// Namespace, empty for a clusterwide policy, and name.
    pub name: Name,
    /// `metadata.resourceVersion`.
    pub resource_version: Arc<str>,
    /// It only reports what it would drop.
    pub audits: bool,
    /// `spec` and all of `specs`.
    pub rules: Box<[CiliumRule]>,
    /// Its condition `Valid`, if it has one.
    pub valid: Option<Validity>,
}

/// One rule, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CiliumRule {
    /// Path of its field: `spec`, or `specs[0]`.
    pub field: Box<str>,
    /// What it says.
    pub rule: Rule,
    /// Where it could not be read and why; then `rule` isolates all that it selects, as far as that could be read.
    pub unreadable: Option<(Box<str>, Box<str>)>,
}

/// Type of the condition that [`Validity`] is.
pub const VALID: &str = "Valid";

/// Condition [`VALID`] of a policy: whether all of it was understood and is enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Whether it is.
    pub valid: bool,
    /// What is not, for people.
    pub message: Box<str>,
}
