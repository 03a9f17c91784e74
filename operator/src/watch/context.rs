//! What conversions share.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use kube::api::ObjectMeta;

use super::Problem;
use crate::object::{Labels, Name};

/// Names that are shared are kept up to this many; more than any cluster has.
const MAX_SHARED: usize = 100_000;

/// A task's memory of names, and what is wrong with the object at hand.
#[derive(Debug, Default)]
pub(super) struct Context {
    shared: HashSet<Arc<str>>,
    problems: Vec<Problem>,
}

impl Context {
    /// A name that many objects have (a namespace, a node): one allocation for all of them.
    pub(super) fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.shared.get(text) {
            return Arc::clone(known);
        }
        if self.shared.len() >= MAX_SHARED {
            self.shared.clear();
        }
        let new: Arc<str> = Arc::from(text);
        self.shared.insert(Arc::clone(&new));
        new
    }

    /// Namespace and name of a namespaced object.
    pub(super) fn name(&mut self, metadata: &ObjectMeta) -> Name {
        let namespace = self.share(metadata.namespace.as_deref().unwrap_or_default());
        Name { namespace, name: text(metadata.name.as_deref()) }
    }

    /// Says what is wrong with a field.
    pub(super) fn problem(&mut self, field: impl Into<Box<str>>, message: impl Into<Box<str>>) {
        self.problems.push(Problem { field: field.into(), message: message.into() });
    }

    /// Parses what stands in `field`, or says that it is no `what`.
    pub(super) fn parse<T: std::str::FromStr>(&mut self, field: &str, value: &str, what: &str) -> Option<T> {
        let parsed = value.parse().ok();
        if parsed.is_none() {
            self.problem(field, format!("{value:?} is no {what}"));
        }
        parsed
    }

    /// Addresses of a list, without those that are none.
    pub(super) fn addresses<'a>(&mut self, field: &str, list: impl IntoIterator<Item = &'a str>) -> Box<[IpAddr]> {
        list.into_iter().filter_map(|value| self.parse(field, value, "IP address")).collect()
    }

    /// What was wrong since the last call.
    pub(super) fn take_problems(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.problems)
    }
}

/// Absent means empty.
pub(super) fn text(value: Option<&str>) -> Arc<str> {
    Arc::from(value.unwrap_or_default())
}

/// All labels.
pub(super) fn labels(metadata: &mut ObjectMeta) -> Labels {
    metadata.labels.take().unwrap_or_default().into_iter().collect()
}
