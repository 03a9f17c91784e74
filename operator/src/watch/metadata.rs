//! Metadata without what nobody reads.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::api::ObjectMeta;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::context::Context;
use crate::object::{IP_POOL, IPV4_POOL, IPV6_POOL, PoolChoice, REQUIRE_POOL_MATCH};

/// Annotation of a static pod's mirror.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";

/// How fast a pod may send, in bits per second.
pub(super) const EGRESS_BANDWIDTH: &str = "kubernetes.io/egress-bandwidth";

/// How fast a pod may get, in bits per second.
pub(super) const INGRESS_BANDWIDTH: &str = "kubernetes.io/ingress-bandwidth";

/// Of a CiliumNode, "true": it is not deleted when its Node is gone.
pub(super) const DO_NOT_GC: &str = "cilium.io/do-not-gc";

/// Of a policy of any kind, "true": what it would drop is only reported.
const AUDIT: &str = "policy.axoneme.io/audit";

/// Annotations that are read; all others are skipped while parsing.
const ANNOTATIONS: [&str; 9] =
    [MIRROR, EGRESS_BANDWIDTH, INGRESS_BANDWIDTH, IP_POOL, IPV4_POOL, IPV6_POOL, REQUIRE_POOL_MATCH, DO_NOT_GC, AUDIT];

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Slim {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    #[serde(deserialize_with = "annotations")]
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
}

/// For `#[serde(deserialize_with)]` of a slim type's `metadata`.
pub(super) fn slim<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let slim = Slim::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: slim.name,
        namespace: slim.namespace,
        uid: slim.uid,
        resource_version: slim.resource_version,
        creation_timestamp: slim.creation_timestamp,
        deletion_timestamp: slim.deletion_timestamp,
        labels: slim.labels,
        annotations: slim.annotations,
        owner_references: slim.owner_references,
        ..ObjectMeta::default()
    })
}

/// What annotations say of pools.
pub(super) fn pool_choice(annotations: &mut BTreeMap<String, String>, context: &mut Context) -> PoolChoice {
    let match_required = annotations.remove(REQUIRE_POOL_MATCH).is_some_and(|value| {
        value.parse().unwrap_or_else(|_| {
            let problem = format!("{value:?} is neither true nor false: the default pool may be taken");
            context.problem(format!("metadata.annotations[{REQUIRE_POOL_MATCH}]"), problem);
            false
        })
    });
    let mut name = |key: &str| annotations.remove(key).filter(|name| !name.is_empty()).map(Arc::from);
    PoolChoice { any: name(IP_POOL), ipv4: name(IPV4_POOL), ipv6: name(IPV6_POOL), match_required }
}

/// Whether a policy only reports what it would drop.
pub(super) fn audits(metadata: &ObjectMeta, context: &mut Context) -> bool {
    let Some(value) = metadata.annotations.as_ref().and_then(|all| all.get(AUDIT)) else { return false };
    value.parse().unwrap_or_else(|_| {
        let problem = format!("{value:?} is neither true nor false: the policy is enforced");
        context.problem(format!("metadata.annotations[{AUDIT}]"), problem);
        false
    })
}

fn annotations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    struct Known;

    impl<'de> Visitor<'de> for Known {
        type Value = Option<BTreeMap<String, String>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of strings")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = BTreeMap::new();
            while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                if ANNOTATIONS.contains(&&*key) {
                    found.insert(key.into_owned(), map.next_value()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok((!found.is_empty()).then_some(found))
        }
    }

    deserializer.deserialize_any(Known)
}
