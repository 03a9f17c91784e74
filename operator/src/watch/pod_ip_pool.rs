//! CiliumPodIPPools.

use std::sync::Arc;

use axoneme_crds::meta::LabelSelector;
use axoneme_crds::v2alpha1;
use ipnet::IpNet;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::Deserialize;

use super::Watched;
use super::context::{Context, text};
use super::metadata::slim;
use crate::object::{Kind, Object, PodIpPool, PoolCidrs};

#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = v2alpha1::CiliumPodIPPool)]
pub(super) struct Pool {
    #[serde(deserialize_with = "slim")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    ipv4: Option<Family>,
    ipv6: Option<Family>,
    #[serde(rename = "allowFirstIP")]
    allow_first_ip: bool,
    #[serde(rename = "allowLastIP")]
    allow_last_ip: bool,
    pod_selector: Option<LabelSelector>,
    namespace_selector: Option<LabelSelector>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Family {
    cidrs: Vec<String>,
    mask_size: u8,
}

impl Watched for Pool {
    const KIND: Kind = Kind::CiliumPodIPPool;

    fn convert(self, context: &mut Context) -> Option<Object> {
        let created = self.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second());
        Some(Object::CiliumPodIPPool(Arc::new(PodIpPool {
            name: text(self.metadata.name.as_deref()),
            created,
            ipv4: family(self.spec.ipv4, false, context),
            ipv6: family(self.spec.ipv6, true, context),
            allow_first_ip: self.spec.allow_first_ip,
            allow_last_ip: self.spec.allow_last_ip,
            pod_selector: self.spec.pod_selector.map(Into::into),
            namespace_selector: self.spec.namespace_selector.map(Into::into),
        })))
    }
}

/// What makes sense of one family. A CIDR that does not is left out, and the others count.
fn family(family: Option<Family>, v6: bool, context: &mut Context) -> PoolCidrs {
    let Some(family) = family else { return PoolCidrs::default() };
    let (name, version, longest) = if v6 { ("ipv6", "IPv6", 128) } else { ("ipv4", "IPv4", 32) };
    let mask = family.mask_size;
    let mut cidrs: Vec<IpNet> = Vec::new();
    for (i, cidr) in family.cidrs.iter().enumerate() {
        let field = format!("spec.{name}.cidrs[{i}]");
        let Some(net) = context.parse::<IpNet>(&field, cidr, "CIDR") else { continue };
        let net = net.trunc();
        if net.addr().is_ipv6() != v6 {
            context.problem(field, format!("{cidr} is no {version} prefix; it is not used"));
        } else if mask < net.prefix_len() || mask > longest {
            let field = format!("spec.{name}.maskSize");
            let range = format!("{} (of {net}) to {longest}", net.prefix_len());
            context.problem(field, format!("{mask} is not within {range}; nodes are given nothing of {net}"));
        } else if let Some(other) = cidrs.iter().find(|other| other.contains(&net) || net.contains(*other)) {
            context.problem(field, format!("{net} and {other} overlap; it is not used"));
        } else {
            cidrs.push(net);
        }
    }
    PoolCidrs { cidrs: cidrs.into(), mask }
}
