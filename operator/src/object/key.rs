//! Names of objects.

use std::fmt;
use std::sync::Arc;

/// Namespace and name of a namespaced object; written `namespace/name`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name there.
    pub name: Arc<str>,
}

impl Name {
    /// A name from its two parts.
    #[must_use]
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The kinds that the operator watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "named as Kubernetes names them")]
pub enum Kind {
    Namespace,
    Node,
    Pod,
    Service,
    EndpointSlice,
    NetworkPolicy,
    CiliumNetworkPolicy,
    CiliumClusterwideNetworkPolicy,
    ClusterNetworkPolicy,
    CiliumCIDRGroup,
    CiliumIdentity,
    CiliumNode,
    CiliumPodIPPool,
    CiliumNodeConfig,
    ConfigMap,
}

impl Kind {
    /// All kinds: nothing is served before each of them is synced.
    pub const ALL: [Self; 15] = [
        Self::Namespace,
        Self::Node,
        Self::Pod,
        Self::Service,
        Self::EndpointSlice,
        Self::NetworkPolicy,
        Self::CiliumNetworkPolicy,
        Self::CiliumClusterwideNetworkPolicy,
        Self::ClusterNetworkPolicy,
        Self::CiliumCIDRGroup,
        Self::CiliumIdentity,
        Self::CiliumNode,
        Self::CiliumPodIPPool,
        Self::CiliumNodeConfig,
        Self::ConfigMap,
    ];

    /// `kind` and `apiVersion` as events refer to the object.
    #[must_use]
    pub const fn reference(self) -> (&'static str, &'static str) {
        match self {
            Self::Namespace => ("Namespace", "v1"),
            Self::Node => ("Node", "v1"),
            Self::Pod => ("Pod", "v1"),
            Self::Service => ("Service", "v1"),
            Self::EndpointSlice => ("EndpointSlice", "discovery.k8s.io/v1"),
            Self::NetworkPolicy => ("NetworkPolicy", "networking.k8s.io/v1"),
            Self::CiliumNetworkPolicy => ("CiliumNetworkPolicy", "cilium.io/v2"),
            Self::CiliumClusterwideNetworkPolicy => ("CiliumClusterwideNetworkPolicy", "cilium.io/v2"),
            Self::ClusterNetworkPolicy => ("ClusterNetworkPolicy", "policy.networking.k8s.io/v1alpha2"),
            Self::CiliumCIDRGroup => ("CiliumCIDRGroup", "cilium.io/v2"),
            Self::CiliumIdentity => ("CiliumIdentity", "cilium.io/v2"),
            Self::CiliumNode => ("CiliumNode", "cilium.io/v2"),
            Self::CiliumPodIPPool => ("CiliumPodIPPool", "cilium.io/v2alpha1"),
            Self::CiliumNodeConfig => ("CiliumNodeConfig", "cilium.io/v2"),
            Self::ConfigMap => ("ConfigMap", "v1"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reference().0)
    }
}

/// An object of any kind by name: what a delete or a diagnostic refers to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// The kind.
    pub kind: Kind,
    /// Namespace (empty for cluster-scoped kinds) and name.
    pub name: Name,
}

impl ObjectKey {
    /// The key of a namespaced object.
    #[must_use]
    pub fn namespaced(kind: Kind, name: &Name) -> Self {
        Self { kind, name: name.clone() }
    }

    /// The key of a cluster-scoped object. A `CiliumIdentity` is named by its decimal number.
    #[must_use]
    pub fn cluster(kind: Kind, name: &Arc<str>) -> Self {
        Self { kind, name: Name { namespace: Arc::from(""), name: Arc::clone(name) } }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name.name)
        } else {
            write!(f, "{} {}", self.kind, self.name)
        }
    }
}
