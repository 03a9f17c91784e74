//! What became of single flows, and which rule of which policy decided it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What became of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was dropped.
    #[default]
    Dropped,
    /// It passed, and policies that only audit would have dropped it.
    Audited,
    /// It began a flow, because a rule allows it.
    Allowed,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Dropped => "dropped",
            Self::Audited => "audited",
            Self::Allowed => "allowed",
        })
    }
}

/// What became of a packet on a node, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Verdict {
    /// Counts what this daemon has read since its start.
    pub number: u64,
    /// When it was read, as RFC 3339 has it.
    pub time: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it was dropped or would have been, in the words of the metrics; empty: it was allowed.
    pub reason: String,
    /// `ingress` or `egress`, of the pod whose policy was asked; empty: not known.
    pub direction: String,
    /// The packet answers the flow that was judged.
    pub reply: bool,
    /// As Kubernetes writes it, or a number.
    pub protocol: String,
    /// Who sent it.
    pub source: End,
    /// To whom.
    pub destination: End,
    /// What decided; none: no policy did.
    pub policy: Option<Policy>,
}

/// An end of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct End {
    /// Its address.
    pub address: String,
    /// Its port; of ICMP the id of an echo; 0: none.
    pub port: u16,
    /// Its identity; 0: not known where the packet was judged.
    pub identity: u32,
    /// The pod, `namespace/name`, that has this identity and address now; none: the node knows of none.
    pub pod: Option<String>,
    /// The node that has this address, as far as it counts as one; none: it is nobody's, or a pod's.
    pub node: Option<String>,
}

/// A policy, and its rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    /// Its kind in small letters, like `networkpolicy`.
    pub kind: String,
    /// Empty: it has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Path of the rule's field; none: the policy isolates the pod, and no rule of any allows the packet.
    pub rule: Option<String>,
    /// What the policy wants to be said with its verdicts.
    pub log: Option<String>,
}

impl Policy {
    /// Reads a policy's name in rows, like `networkpolicy:shop/db`.
    #[must_use]
    pub fn named(text: &str) -> Self {
        let (kind, name) = text.split_once(':').unwrap_or(("", text));
        let (namespace, name) = name.split_once('/').unwrap_or(("", name));
        Self { kind: kind.into(), namespace: namespace.into(), name: name.into(), ..Self::default() }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.kind.is_empty() {
            write!(f, "{}:", self.kind)?;
        }
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_policies_are_read_and_written() {
        for text in ["networkpolicy:shop/db", "ciliumclusterwidenetworkpolicy:deny", "unsupported"] {
            assert_eq!(Policy::named(text).to_string(), text);
        }
        let policy = Policy::named("networkpolicy:shop/db");
        assert_eq!((&*policy.kind, &*policy.namespace, &*policy.name), ("networkpolicy", "shop", "db"));
    }
}
