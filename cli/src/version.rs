//! `axoneme version`: which versions of what run.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::status::Overview;

/// Which versions of what run.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Versions {
    /// Of this command.
    pub client: String,
    /// Of the cilium.io definitions that it has.
    pub schemas: String,
    /// Of operators: how many pods run each.
    pub operators: BTreeMap<String, usize>,
    /// Of daemons: how many nodes run each.
    pub nodes: BTreeMap<String, usize>,
    /// Their images, how many pods run each.
    pub images: BTreeMap<String, usize>,
}

impl Versions {
    /// Of this command alone.
    #[must_use]
    pub fn own() -> Self {
        Self {
            client: env!("CARGO_PKG_VERSION").to_owned(),
            schemas: axoneme_crds::schema_version().to_string(),
            ..Self::default()
        }
    }

    /// With those of a cluster.
    #[must_use]
    pub fn of(overview: &Overview) -> Self {
        let mut versions = Self::own();
        for operator in &overview.operators {
            let version = operator.status.as_ref().map_or("unknown", |status| &status.version);
            *versions.operators.entry(version.to_owned()).or_default() += 1;
            *versions.images.entry(operator.image.clone()).or_default() += 1;
        }
        for node in &overview.nodes {
            let version = node.status.as_ref().map_or("unknown", |status| &status.version);
            *versions.nodes.entry(version.to_owned()).or_default() += 1;
            *versions.images.entry(node.image.clone()).or_default() += 1;
        }
        versions
    }

    /// As text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = format!("axoneme            {}\ncilium.io schemas  {}\n", self.client, self.schemas);
        for (version, pods) in &self.operators {
            out.push_str(&format!("axoneme-operator   {version} ({pods} pods)\n"));
        }
        for (version, nodes) in &self.nodes {
            out.push_str(&format!("axoneme-node       {version} ({nodes} nodes)\n"));
        }
        for (image, pods) in &self.images {
            out.push_str(&format!("image              {image} ({pods} pods)\n"));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{NodeState, OperatorState};

    #[test]
    fn versions_are_counted() {
        let node = |version: Option<&str>| NodeState {
            image: "node:1".into(),
            status: version
                .map(|version| axoneme_admin::node::Status { version: version.into(), ..Default::default() }),
            ..NodeState::default()
        };
        let overview = Overview {
            operators: vec![OperatorState { image: "operator:1".into(), ..OperatorState::default() }],
            nodes: vec![node(Some("0.1.0")), node(Some("0.1.0")), node(None)],
            ..Overview::default()
        };
        let text = Versions::of(&overview).render();
        let behind = "\
axoneme-operator   unknown (1 pods)
axoneme-node       0.1.0 (2 nodes)
axoneme-node       unknown (1 nodes)
image              node:1 (3 pods)
image              operator:1 (1 pods)
";
        assert!(
            text.starts_with(&format!("axoneme            {}\n", env!("CARGO_PKG_VERSION"))) && text.ends_with(behind),
            "{text}"
        );
    }
}
