//! Identities whose numbers are fixed, with Cilium's numbers: no `CiliumIdentity` stands for them.
//!
//! 1 to 10 belong to what is no pod (`host`, `world`, ...) and are the data path's. From 100 on there are *well-known* ones for
//! label sets that most clusters have (only with `wellKnownIdentities.enabled`), from 128 on those that the user names
//! (`fixedIdentityMapping`) and that pods ask for by the label `io.cilium.fixed-identity`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::object::{CiliumIdentity, Labels};

/// Numbers that a user may reserve.
pub const USER_RESERVED: RangeInclusive<u32> = 128..=255;

/// Names that are taken, in the order of their numbers from 1 on.
pub const RESERVED_NAMES: [&str; 10] = [
    "host",
    "world",
    "unmanaged",
    "health",
    "init",
    "remote-node",
    "kube-apiserver",
    "ingress",
    "world-ipv4",
    "world-ipv6",
];

/// A label set and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// The number.
    pub id: u32,
    /// The labels, whole.
    pub labels: Arc<Labels>,
}

impl Reserved {
    /// Those that the user has named.
    #[must_use]
    pub fn fixed(names: &BTreeMap<u32, String>) -> Vec<Self> {
        let fixed = |(id, name): (&u32, &String)| {
            let labels = [(format!("reserved:{name}"), "")].into_iter().collect();
            Self { id: *id, labels: Arc::new(labels) }
        };
        names.iter().map(fixed).collect()
    }

    /// The well-known ones of a cluster of this name, whose network runs in `namespace`. Each has two numbers, one with the label
    /// that Kubernetes gives to every namespace.
    #[must_use]
    pub fn well_known(cluster: &str, namespace: &str) -> Vec<Self> {
        let system = "kube-system";
        let etcd = [("io.cilium/app", "etcd-operator")];
        let dns = [("k8s-app", "kube-dns")];
        let eks = |component| [dns[0], ("eks.amazonaws.com/component", component)];
        let part = |app: &'static str, name| {
            let names = [("name", name), ("app.kubernetes.io/name", name), ("app.kubernetes.io/part-of", "cilium")];
            [("io.cilium/app", app)].into_iter().chain(names).collect::<Vec<_>>()
        };
        let all = [
            (100, 108, namespace, "cilium-etcd-sa", etcd.to_vec()),
            (101, 109, namespace, "default", vec![("app", "etcd"), ("etcd_cluster", "cilium-etcd"), etcd[0]]),
            (102, 110, system, "kube-dns", dns.to_vec()),
            (103, 111, system, "kube-dns", eks("kube-dns").to_vec()),
            (104, 112, system, "coredns", dns.to_vec()),
            (105, 113, namespace, "cilium-operator", part("operator", "cilium-operator")),
            (106, 114, system, "coredns", eks("coredns").to_vec()),
            (107, 115, namespace, "cilium-etcd-operator", part("etcd-operator", "cilium-etcd-operator")),
        ];
        let mut reserved = Vec::new();
        for (plain, labelled, namespace, account, own) in all {
            let common = [
                ("io.kubernetes.pod.namespace", namespace),
                ("io.cilium.k8s.policy.serviceaccount", account),
                ("io.cilium.k8s.policy.cluster", cluster),
            ];
            let name = [("io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name", namespace)];
            let labels = |more: &[(&str, &str)]| -> Arc<Labels> {
                let all = own.iter().chain(&common).chain(more);
                Arc::new(all.map(|(key, value)| (format!("k8s:{key}"), (*value).to_owned())).collect())
            };
            reserved.push(Self { id: plain, labels: labels(&[]) });
            reserved.push(Self { id: labelled, labels: labels(&name) });
        }
        reserved
    }

    /// Whether it is the user's of this name.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        let mut labels = self.labels.iter();
        USER_RESERVED.contains(&self.id)
            && labels.next().is_some_and(|(key, _)| key.strip_prefix("reserved:") == Some(name))
    }

    /// As if it were in the API.
    pub(crate) fn object(&self) -> CiliumIdentity {
        let (uid, resource_version) = (Arc::from(""), Arc::from(""));
        CiliumIdentity { id: self.id, labels: Arc::clone(&self.labels), uid, resource_version }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_ciliums() {
        let reserved = Reserved::well_known("default", "kube-system");
        let mut ids: Vec<u32> = reserved.iter().map(|reserved| reserved.id).collect();
        ids.sort_unstable();
        assert!(ids.into_iter().eq(100..=115));
        let coredns = reserved.iter().find(|reserved| reserved.id == 112).unwrap();
        assert_eq!(
            coredns.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>(),
            [
                "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=kube-system",
                "k8s:io.cilium.k8s.policy.cluster=default",
                "k8s:io.cilium.k8s.policy.serviceaccount=coredns",
                "k8s:io.kubernetes.pod.namespace=kube-system",
                "k8s:k8s-app=kube-dns",
            ]
        );
        let at = |name| RESERVED_NAMES.iter().position(|known| *known == name).map(|at| at + 1);
        assert_eq!([at("host"), at("world"), at("init"), at("remote-node")], [1, 2, 5, 6].map(Some));
    }
}
