//! NetworkPolicies, as written: what is wrong in them the compiler knows best.

use std::sync::Arc;

use axoneme_crds::meta::LabelSelector;
use k8s_openapi::api::networking::v1;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::Deserialize;

use super::Watched;
use super::context::{Context, text};
use super::metadata::{audits, slim};
use crate::object::{
    IpBlock, Kind, NetworkPolicy, Object, Peer, PolicyPort, PolicyRule, PolicyType, PortRef, Selector,
};

#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = v1::NetworkPolicy)]
pub(super) struct Policy {
    #[serde(deserialize_with = "slim")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    pod_selector: Option<LabelSelector>,
    ingress: Option<Vec<Ingress>>,
    egress: Option<Vec<Egress>>,
    policy_types: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Ingress {
    from: Option<Vec<RawPeer>>,
    ports: Option<Vec<Port>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Egress {
    to: Option<Vec<RawPeer>>,
    ports: Option<Vec<Port>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawPeer {
    pod_selector: Option<LabelSelector>,
    namespace_selector: Option<LabelSelector>,
    ip_block: Option<Block>,
}

#[derive(Clone, Debug, Deserialize)]
struct Block {
    cidr: String,
    #[serde(default)]
    except: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Port {
    protocol: Option<String>,
    port: Option<IntOrString>,
    end_port: Option<i32>,
}

impl Watched for Policy {
    const KIND: Kind = Kind::NetworkPolicy;

    fn convert(self, context: &mut Context) -> Option<Object> {
        let ingress = self.spec.ingress.unwrap_or_default().into_iter().map(|r| rule(r.from, r.ports)).collect();
        let egress = self.spec.egress.unwrap_or_default().into_iter().map(|r| rule(r.to, r.ports)).collect();
        let types = self.spec.policy_types.filter(|types| !types.is_empty());
        let policy_types = types.map(|types| types.into_iter().map(policy_type).collect());
        let selector = self.spec.pod_selector.map(Into::into).unwrap_or_default();
        Some(policy(&self.metadata, context, selector, ingress, egress, policy_types))
    }

    /// Whom it selects is not known, so its whole namespace is closed until it can be read: an error must not open anything.
    fn stand_in(metadata: &ObjectMeta, context: &mut Context) -> Option<Object> {
        metadata.name.as_ref()?;
        context.problem("spec", "cannot be read, so all pods of the namespace are isolated in both directions");
        let both = Some([PolicyType::Ingress, PolicyType::Egress].into());
        Some(policy(metadata, context, Selector::default(), [].into(), [].into(), both))
    }
}

fn policy(
    metadata: &ObjectMeta,
    context: &mut Context,
    pod_selector: Selector,
    ingress: Box<[PolicyRule]>,
    egress: Box<[PolicyRule]>,
    policy_types: Option<Box<[PolicyType]>>,
) -> Object {
    Object::NetworkPolicy(Arc::new(NetworkPolicy {
        name: context.name(metadata),
        uid: text(metadata.uid.as_deref()),
        resource_version: text(metadata.resource_version.as_deref()),
        audits: audits(metadata, context),
        pod_selector,
        ingress,
        egress,
        policy_types,
    }))
}

fn policy_type(text: String) -> PolicyType {
    match &*text {
        "Ingress" => PolicyType::Ingress,
        "Egress" => PolicyType::Egress,
        _ => PolicyType::Unknown(text.into()),
    }
}

fn rule(peers: Option<Vec<RawPeer>>, ports: Option<Vec<Port>>) -> PolicyRule {
    PolicyRule {
        peers: peers.unwrap_or_default().into_iter().map(peer).collect(),
        ports: ports.unwrap_or_default().into_iter().map(port).collect(),
    }
}

fn peer(raw: RawPeer) -> Peer {
    let block = |block: Block| IpBlock {
        cidr: block.cidr.into(),
        except: block.except.unwrap_or_default().into_iter().map(Into::into).collect(),
    };
    Peer {
        pod_selector: raw.pod_selector.map(Into::into),
        namespace_selector: raw.namespace_selector.map(Into::into),
        ip_block: raw.ip_block.map(block),
    }
}

fn port(raw: Port) -> PolicyPort {
    PolicyPort {
        protocol: raw.protocol.map(Into::into),
        port: raw.port.map(|port| match port {
            IntOrString::Int(number) => PortRef::Number(number),
            IntOrString::String(name) => PortRef::Name(name.into()),
        }),
        end_port: raw.end_port,
    }
}
