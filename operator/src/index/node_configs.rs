//! Which nodes have settings of their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Index;
use crate::object::{Name, Node, NodeConfig};

/// CiliumNodeConfigs, in the order in which they count.
#[derive(Debug, Default)]
pub(super) struct NodeConfigs(BTreeMap<Arc<str>, Arc<NodeConfig>>);

impl Index {
    pub(super) fn set_node_config(&mut self, name: &Name, config: Option<Arc<NodeConfig>>) {
        let known = &mut self.node_configs.0;
        let old = match &config {
            Some(config) => known.insert(Arc::clone(&name.name), Arc::clone(config)),
            None => known.remove(&name.name),
        };
        for config in old.iter().chain(&config) {
            let selected = self.nodes.values().filter(|node| config.selector.matches(&node.labels));
            self.dirty.node_settings.extend(selected.map(|node| Arc::clone(&node.name)));
        }
    }

    /// What selects a node; those that come later win.
    pub fn node_configs<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a NodeConfig> {
        let all = self.node_configs.0.values().map(|config| &**config);
        all.filter(move |config| config.selector.matches(&node.labels))
    }

    /// Nodes that something selects.
    pub fn nodes_with_configs(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values().filter(|node| self.node_configs(node).next().is_some())
    }
}
