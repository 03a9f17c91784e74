//! Whether packets of a flow would pass, and why: the question and the answer.

use serde::{Deserialize, Serialize};

/// A flow that is asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    /// Who opens it: NAMESPACE/POD, node/NAME, an address, or one of world, host, remote-node, kube-apiserver
    #[cfg_attr(feature = "clap", arg(long))]
    pub from: String,
    /// To whom: as --from, or service/NAMESPACE/NAME
    #[cfg_attr(feature = "clap", arg(long))]
    pub to: String,
    /// The destination's port, like 80, 53/UDP or 8/ICMP (there the message's type); a service's own port
    #[cfg_attr(feature = "clap", arg(long, value_name = "N/PROTO"))]
    pub port: String,
}

impl Flow {
    /// What is asked of an operator.
    ///
    /// # Errors
    /// Never: a flow is three texts.
    pub fn subject(&self) -> Result<String, serde_urlencoded::ser::Error> {
        Ok(format!("{}?{}", super::operator::subject::EXPLAIN, serde_urlencoded::to_string(self)?))
    }

    /// The flow that a question's query names.
    ///
    /// # Errors
    /// When it names none.
    pub fn from_query(query: &str) -> Result<Self, serde_urlencoded::de::Error> {
        serde_urlencoded::from_str(query)
    }
}

/// What becomes of a flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Explanation {
    /// It passes, whichever way it takes.
    pub allowed: bool,
    /// The operator's newest revision, which this answer is of.
    pub revision: u64,
    /// The ways that it may take: one, or one for each endpoint of a service.
    pub ways: Vec<Way>,
    /// What else is to be known.
    pub notes: Vec<String>,
}

/// One way that a flow may take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Way {
    /// Who opens it.
    pub from: End,
    /// Who is reached, behind services.
    pub to: End,
    /// As Kubernetes writes it.
    pub protocol: String,
    /// The destination's port, behind services; of ICMP the message's type.
    pub port: u16,
    /// Both sides let it pass.
    pub allowed: bool,
    /// What policies say of packets from `from`; none: no policy is about it.
    pub egress: Option<Side>,
    /// What policies say of packets to `to`; none: no policy is about it.
    pub ingress: Option<Side>,
}

/// One end of a way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct End {
    /// `pod`, `node` or `world`.
    pub kind: String,
    /// Its name: a pod's with its namespace, a node's, or an address.
    pub name: String,
    /// Its address; none: no address in particular.
    pub address: Option<String>,
    /// Its identity, where it has one.
    pub identity: Option<u32>,
    /// Its security labels, like `k8s:app=web`.
    pub labels: Vec<String>,
    /// Its node.
    pub node: Option<String>,
}

/// What the policies of one end say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Side {
    /// It passes.
    pub allowed: bool,
    /// Why, in words.
    pub because: String,
    /// The policy that decides, or the first of those that isolate the pod or node, like `networkpolicy:shop/deny`; none: no policy
    /// does.
    pub policy: Option<String>,
    /// The field of the rule that decides; none: no rule does.
    pub rule: Option<String>,
    /// The rules that are about this flow, in the order in which they count.
    pub rules: Vec<Rule>,
    /// Why it would be denied if policies that only audit were enforced, in words; none: it would not.
    pub audited: Option<String>,
    /// Where it is enforced, and whether it is.
    pub enforced: Enforced,
}

/// A rule that is about a flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// `admin`, `normal` or `baseline`.
    pub tier: String,
    /// Within a tier the lowest counts; at the same order a rule that denies.
    pub order: u32,
    /// Its policy.
    pub policy: String,
    /// Path of its field there.
    pub field: String,
    /// `allow`, `deny` or `pass`.
    pub action: String,
    /// What it says counts.
    pub decides: bool,
}

/// What a node has of what decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Enforced {
    /// The node that runs the pod, or the node itself.
    pub node: String,
    /// The newest revision of what decides: the policy, the pod itself and its peer.
    pub revision: u64,
    /// The revision that the node's kernel has, all of it; none: it says nothing to this operator.
    pub applied: Option<u64>,
    /// The node's kernel decides as this explanation does.
    pub in_force: bool,
}
