//! Scopes: the unit in which rows are given to nodes.

use std::fmt;
use std::str::FromStr;

/// A set of rows that a node holds completely or not at all.
///
/// On the wire and in keys it is written as `cluster`, `services`, `policy/<identity>`, `peers/<identity>` or `node/<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Nodes, CIDRs, settings: held by every node.
    Cluster,
    /// Services and their backends: held by every node.
    Services,
    /// What is enforced on pods of this identity.
    Policy(u32),
    /// The addresses of this identity.
    Peers(u32),
    /// Endpoints and pools of one node, which alone may hold it.
    Node(String),
}

/// Text that is not a scope.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a scope: {0:?}")]
pub struct InvalidScope(pub String);

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("cluster"),
            Self::Services => f.write_str("services"),
            Self::Policy(identity) => write!(f, "policy/{identity}"),
            Self::Peers(identity) => write!(f, "peers/{identity}"),
            Self::Node(name) => write!(f, "node/{name}"),
        }
    }
}

impl FromStr for Scope {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidScope(text.to_owned());
        match text.split_once('/') {
            None if text == "cluster" => Ok(Self::Cluster),
            None if text == "services" => Ok(Self::Services),
            Some(("policy", id)) => id.parse().map(Self::Policy).map_err(|_| invalid()),
            Some(("peers", id)) => id.parse().map(Self::Peers).map_err(|_| invalid()),
            Some(("node", name)) if !name.is_empty() => Ok(Self::Node(name.to_owned())),
            _ => Err(invalid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        for scope in
            [Scope::Cluster, Scope::Services, Scope::Policy(256), Scope::Peers(65_535), Scope::Node("worker-1".into())]
        {
            assert_eq!(scope.to_string().parse(), Ok(scope));
        }
    }

    #[test]
    fn text_that_is_no_scope_is_refused() {
        for text in ["", "cluster/x", "policy/", "policy/-1", "peers/abc", "node/", "nodes/a"] {
            assert_eq!(text.parse::<Scope>(), Err(InvalidScope(text.into())));
        }
    }
}
