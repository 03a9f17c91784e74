//! Security labels: which labels of a pod and its namespace make up its identity.
//!
//! Keys carry their source (`k8s:app`). What is left out follows the default filter that Cilium documents under
//! "identity-relevant labels": expressions are anchored at the key's start; a label is kept when no exclusion matches it, or
//! when the longest inclusion that matches is longer than the shortest exclusion.

use std::sync::Arc;

use super::Config;
use crate::object::{Labels, Namespace, Pod};

/// Source prefix of labels that come from Kubernetes.
pub const SOURCE: &str = "k8s:";
/// The pod's namespace.
pub const NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Prefix of the namespace's labels; a dot and the key follow.
pub const NAMESPACE_LABELS: &str = "io.cilium.k8s.namespace.labels";
/// The cluster's name.
pub const CLUSTER: &str = "io.cilium.k8s.policy.cluster";
/// Label of pods that asks for one of the identities of `fixedIdentityMapping`, by name.
pub const FIXED_IDENTITY: &str = "io.cilium.fixed-identity";
/// The pod's service account.
pub const SERVICE_ACCOUNT: &str = "io.cilium.k8s.policy.serviceaccount";

const INCLUDED: [&str; 5] = [NAMESPACE, NAMESPACE_LABELS, CLUSTER, SERVICE_ACCOUNT, "app.kubernetes.io"];

const EXCLUDED: [&str; 14] = [
    "io.kubernetes",
    "kubernetes.io",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/job-completion-index",
    "batch.kubernetes.io/controller-uid",
    "k8s.io",
    "pod-template-generation",
    "pod-template-hash",
    "controller-revision-hash",
    "controller-uid",
    "annotation",
    "etcd_node",
    "topology.kubernetes.io",
];

/// Excluded wherever the key contains it: the one expression that starts with a wildcard.
const EXCLUDED_ANYWHERE: &str = "beta.kubernetes.io";

/// Whether a label of this key (without source) is part of identities.
#[must_use]
pub fn is_relevant(key: &str) -> bool {
    let included = INCLUDED.iter().filter(|prefix| key.starts_with(**prefix)).map(|prefix| prefix.len()).max();
    let prefixes = EXCLUDED.iter().filter(|prefix| key.starts_with(**prefix)).map(|prefix| prefix.len());
    let anywhere = key.rfind(EXCLUDED_ANYWHERE).map(|at| at + EXCLUDED_ANYWHERE.len());
    match prefixes.chain(anywhere).min() {
        None => true,
        Some(excluded) => included.is_some_and(|included| included > excluded),
    }
}

/// The key (with source) under which a namespace's label stands in identities.
#[must_use]
pub fn namespace_key(key: &str) -> String {
    format!("{SOURCE}{NAMESPACE_LABELS}.{key}")
}

/// The security labels of `pod`: the content of its `CiliumIdentity`. Labels with which a pod claims what only the cluster may
/// say are ignored. One that asks for an identity that the user has reserved has that one's.
#[must_use]
pub fn security_labels(pod: &Pod, namespace: &Namespace, config: &Config) -> Arc<Labels> {
    if let Some(name) = pod.labels.get(FIXED_IDENTITY)
        && let Some(fixed) = config.reserved.iter().find(|reserved| reserved.is_named(name))
    {
        return Arc::clone(&fixed.labels);
    }
    let cluster = &*config.cluster;
    let own = pod.labels.iter().filter(|(key, _)| !is_reserved(key) && is_relevant(key));
    let own = own.map(|(key, value)| (format!("{SOURCE}{key}"), value.to_owned()));
    let inherited = namespace.labels.iter().filter(|(key, _)| is_relevant(&format!("{NAMESPACE_LABELS}.{key}")));
    let inherited = inherited.map(|(key, value)| (namespace_key(key), value.to_owned()));
    let account = (!pod.service_account.is_empty()).then_some((SERVICE_ACCOUNT, &*pod.service_account));
    let given = [(NAMESPACE, &*namespace.name), (CLUSTER, cluster)].into_iter().chain(account);
    let given = given.map(|(key, value)| (format!("{SOURCE}{key}"), value.to_owned()));
    Arc::new(own.chain(inherited).chain(given).collect())
}

fn is_reserved(key: &str) -> bool {
    key == NAMESPACE || key == CLUSTER || key == SERVICE_ACCOUNT || key.starts_with(NAMESPACE_LABELS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Reserved;
    use crate::object::Name;

    #[test]
    fn default_filter() {
        let table = [
            ("app", true),
            ("id.lizards", true),
            ("app.kubernetes.io/name", true),
            ("io.kubernetes.pod.namespace", true),
            ("io.kubernetes.pod.name", false),
            ("io.cilium.k8s.policy.serviceaccount", true),
            ("io.cilium.k8s.policy.cluster", true),
            ("io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name", true),
            ("io.cilium.k8s.namespace.labels.team", true),
            ("io.cilium.k8s.namespace.labels.beta.kubernetes.io/arch", false),
            ("kubernetes.io/metadata.name", false),
            ("kubernetes.io.foo", false),
            ("k8s.io/any", false),
            ("my.k8s.io/any", true),
            ("beta.kubernetes.io/os", false),
            ("failure-domain.beta.kubernetes.io/zone", false),
            ("statefulset.kubernetes.io/pod-name", false),
            ("apps.kubernetes.io/pod-index", false),
            ("batch.kubernetes.io/job-completion-index", false),
            ("batch.kubernetes.io/controller-uid", false),
            ("batch.kubernetes.io/job-name", true),
            ("pod-template-hash", false),
            ("pod-template-generation", false),
            ("controller-revision-hash", false),
            ("controller-uid", false),
            ("annotation.kubectl", false),
            ("etcd_node", false),
            ("topology.kubernetes.io/zone", false),
            ("my-pod-template-hash", true),
        ];
        for (key, relevant) in table {
            assert_eq!(is_relevant(key), relevant, "{key}");
        }
    }

    #[test]
    fn labels_of_a_pod() {
        let pod = Pod {
            name: Name::new("shop", "web-0"),
            uid: "u".into(),
            mirror: None,
            labels: [
                ("app", "web"),
                ("pod-template-hash", "5d4"),
                ("io.kubernetes.pod.namespace", "kube-system"),
                ("io.cilium.k8s.namespace.labels.admin", "yes"),
            ]
            .into_iter()
            .collect(),
            node: None,
            host_network: false,
            service_account: "default".into(),
            ports: [].into(),
            bandwidth: Default::default(),
            pools: Default::default(),
            ips: [].into(),
            deleting: false,
            finished: false,
            resource_version: "1".into(),
        };
        let labels = [("kubernetes.io/metadata.name", "shop"), ("team", "a")].into_iter().collect();
        let namespace = Namespace { name: "shop".into(), labels, ..Namespace::default() };
        let fixed = Reserved::fixed(&[(129, "dns".into())].into());
        let config = Config {
            cluster: "default".into(),
            families: Default::default(),
            ipam: Default::default(),
            reserved: fixed.into(),
            pre_allocation: Default::default(),
            cidrs_of: crate::compile::policy::Owners::World,
            host_firewall: None,
        };
        let labels = security_labels(&pod, &namespace, &config);
        let text: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            text,
            [
                "k8s:app=web",
                "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=shop",
                "k8s:io.cilium.k8s.namespace.labels.team=a",
                "k8s:io.cilium.k8s.policy.cluster=default",
                "k8s:io.cilium.k8s.policy.serviceaccount=default",
                "k8s:io.kubernetes.pod.namespace=shop",
            ]
        );
        let mut asking = pod;
        asking.labels = [("app", "web"), (FIXED_IDENTITY, "dns")].into_iter().collect();
        assert_eq!(*security_labels(&asking, &namespace, &config), [("reserved:dns", "")].into_iter().collect());
        asking.labels = [(FIXED_IDENTITY, "nobody")].into_iter().collect();
        assert!(security_labels(&asking, &namespace, &config).get("k8s:io.cilium.fixed-identity").is_some());
    }
}
