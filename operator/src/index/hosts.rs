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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::compile::policy::{Emergency, Owners};
    use crate::object::{Kind, ObjectKey};
    use crate::watch;

    fn index() -> Index {
        let mut index = Index::new(crate::index::Config {
            cluster: "default".into(),
            families: Default::default(),
            ipam: Default::default(),
            reserved: [].into(),
            pre_allocation: Default::default(),
            cidrs_of: Owners::World,
            host_firewall: Some(Emergency { ports: [22].into(), nodesync: 4246, server: None }),
        });
        node(&mut index, "n1", json!({"role": "edge"}));
        node(&mut index, "n2", json!({}));
        index.take_dirty();
        index
    }

    fn upsert(index: &mut Index, manifest: &Value) {
        index.upsert(watch::decode(manifest).unwrap().0.unwrap());
    }

    fn node(index: &mut Index, name: &str, labels: Value) {
        upsert(index, &json!({"kind": "Node", "metadata": {"name": name, "uid": name, "labels": labels}}));
    }

    fn policy(index: &mut Index, name: &str, spec: Value) {
        upsert(index, &json!({"kind": "CiliumClusterwideNetworkPolicy", "metadata": {"name": name}, "spec": spec}));
    }

    fn edge() -> Value {
        json!({"nodeSelector": {"matchLabels": {"role": "edge"}}, "ingress": [{"fromEntities": ["cluster"]}]})
    }

    /// The nodes of which the row may differ since this was last asked.
    fn hosts(index: &mut Index) -> Vec<String> {
        index.take_dirty().hosts.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn only_the_nodes_that_a_policy_selects_compile_again() {
        let mut index = index();
        policy(&mut index, "edge", edge());
        assert_eq!(hosts(&mut index), ["n1"]);
        policy(&mut index, "edge", edge());
        assert_eq!(hosts(&mut index), [""; 0], "it is the same");
        index.delete(&ObjectKey::cluster(Kind::CiliumClusterwideNetworkPolicy, &"edge".into()));
        assert_eq!(hosts(&mut index), ["n1"]);
    }

    #[test]
    fn a_node_compiles_again_when_its_labels_change_who_selects_it() {
        let mut index = index();
        policy(&mut index, "edge", edge());
        index.take_dirty();
        node(&mut index, "n2", json!({"role": "core"}));
        assert_eq!(hosts(&mut index), [""; 0]);
        node(&mut index, "n2", json!({"role": "edge"}));
        assert_eq!(hosts(&mut index), ["n2"]);
        node(&mut index, "n2", json!({}));
        assert_eq!(hosts(&mut index), ["n2"]);
        node(&mut index, "n3", json!({"role": "edge"}));
        assert_eq!(hosts(&mut index), ["n3"]);
        index.delete(&ObjectKey::cluster(Kind::Node, &"n3".into()));
        assert_eq!(hosts(&mut index), ["n3"]);
        assert!(index.host_subject("n3").is_none());
    }

    #[test]
    fn what_a_policy_of_nodes_names_compiles_its_nodes_again() {
        let mut index = index();
        policy(&mut index, "edge", edge());
        let rack = json!({"nodeSelector": {"matchLabels": {"role": "edge"}}, "egressDeny": [{"toNodes": [{"matchLabels": {"rack": "1"}}]}]});
        policy(&mut index, "rack", rack);
        index.take_dirty();
        node(&mut index, "n2", json!({"rack": "1"}));
        assert_eq!(hosts(&mut index), ["n1"], "a peer of it has other labels");
        let subject = index.host_subject("n1").unwrap();
        let labels: Vec<_> = subject.policies.iter().map(|policy| policy.source.label()).collect();
        let expected =
            ["axoneme:emergency", "ciliumclusterwidenetworkpolicy:edge", "ciliumclusterwidenetworkpolicy:rack"];
        assert_eq!(labels, expected);
        assert!(index.host_subject("n2").is_none());
    }
}
