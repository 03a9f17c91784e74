//! Nodes as subjects of policies.

use std::sync::Arc;

use super::{Index, PolicyPart};
use crate::compile::policy::{HOST, ParsedPolicy, Source, Subject, SubjectPolicy, Subjects};
use crate::object::{Labels, Node};

impl Index {
    /// A node came, went or has other labels: policies may select it now that did not before, or the other way.
    pub(super) fn host_changed(&mut self, name: &Arc<str>, before: Option<&Node>, now: Option<&Node>) {
        if before.map(|node| &node.labels) == now.map(|node| &node.labels) {
            return;
        }
        let both = [before, now].into_iter().flatten();
        let selecting = both.flat_map(|node| self.selecting_node(&node.labels)).map(|(part, _)| part.policy.clone());
        let selecting: Vec<_> = selecting.collect();
        if !selecting.is_empty() {
            self.dirty.hosts.insert(Arc::clone(name));
            self.dirty.policies.extend(selecting);
        }
    }

    /// The parts of policies that select nodes with these labels, sorted.
    fn selecting_node(&self, labels: &Labels) -> impl Iterator<Item = (&PolicyPart, &ParsedPolicy)> {
        let of_nodes = self.policies.of_nodes.iter().filter_map(|part| Some((part, self.policies.part(part)?)));
        of_nodes.filter(|(_, parsed)| matches!(&parsed.subjects, Subjects::Nodes(nodes) if nodes.matches(labels)))
    }

    /// A node with the policies that select it, after what stays open whatever they say; `None` when none does.
    #[must_use]
    pub fn host_subject(&self, node: &str) -> Option<Subject<'_>> {
        let node = self.node(node)?;
        let emergency = SubjectPolicy { source: Source::Emergency, parsed: self.emergency.as_ref()? };
        let policy = |(part, parsed)| SubjectPolicy { source: Source::Part(part), parsed };
        let mut selecting = self.selecting_node(&node.labels).map(policy).peekable();
        selecting.peek()?;
        Some(Subject { identity: HOST, policies: std::iter::once(emergency).chain(selecting).collect() })
    }
}
