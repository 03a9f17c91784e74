//! Random worlds, and the packets of which is asked in them.
#![allow(clippy::unwrap_used, reason = "for tests")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axoneme_proto::tables::AnyPeer;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::Emergency;
use super::explain::PacketPeer;
use super::oracle::{Peer, World};
use super::parsed::{HOST, Owners, REMOTE_NODE, WORLD};
use crate::engine::Families;
use crate::index::{Config, Index, labels};
use crate::object::{CiliumIdentity, Endpoint, EndpointSlice, Name, Node, Object, Pod, Protocol, arbitrary};

/// The node from which pods see whom they have to do with.
pub const HERE: &str = "node-1";

/// Pods with addresses of both families, on three nodes and on none, policies of all kinds, of nodes too, and what they name.
pub fn world() -> impl Strategy<Value = World> {
    let namespaces = arbitrary::NAMESPACES.map(arbitrary::namespace);
    let policies = (
        vec(arbitrary::policy(), 0..5),
        vec(arbitrary::cilium_policy(), 0..5),
        vec(arbitrary::cidr_group(), 0..3),
        vec(arbitrary::cluster_network_policy(), 0..4),
        vec(arbitrary::service(), 0..4),
    );
    let nodes = (node(HERE, &["172.18.0.1"]), node("node-2", &["172.18.0.2", "fd00::1"]));
    // One that no policy names, others that policies name often.
    let emergency = Emergency { ports: [1, 443, 8080].into(), nodesync: 8081, server: None };
    let settings = (any::<bool>(), option::weighted(0.9, Just(emergency)));
    (namespaces, vec(arbitrary::pod(), 1..8), policies, nodes, settings).prop_map(
        |(namespaces, pods, (policies, cilium, groups, tiered, services), nodes, (cidrs_mean_nodes, host_firewall))| {
            // Pods without what has nothing to do with policy.
            let plain = |(number, pod): (u8, Pod)| {
                let ips = addresses(number).into();
                Pod { mirror: None, host_network: false, finished: false, ips, ..pod }
            };
            // A pod's, a node's and one of the world.
            let endpoints = || ["10.0.1.0", "172.18.0.2", "192.0.2.1"].map(|ip| ip.parse().unwrap()).into();
            World {
                namespaces: namespaces.to_vec(),
                pods: (0..).zip(by_name(pods, |pod| pod.name.clone())).map(plain).collect(),
                policies: by_name(policies, |policy| policy.name.clone()),
                cilium: by_name(cilium, |policy| policy.name.clone()),
                tiered: by_name(tiered, |policy| policy.name.clone()),
                nodes: vec![nodes.0, nodes.1],
                groups: by_name(groups, |group| group.name.clone()),
                services: by_name(services, |service| service.name.clone())
                    .into_iter()
                    .map(|service| (service, endpoints()))
                    .collect(),
                cidrs_mean_nodes,
                host_firewall,
                api_server: ["10.0.1.0", "172.18.0.2", "8.8.8.8"].map(|ip| ip.parse().unwrap()).into(),
            }
        },
    )
}

/// One object a name, sorted.
fn by_name<T, N: Ord>(objects: Vec<T>, name: impl Fn(&T) -> N) -> Vec<T> {
    let objects: BTreeMap<N, T> = objects.into_iter().map(|object| (name(&object), object)).collect();
    objects.into_values().collect()
}

/// Those of a world's pod.
fn addresses(pod: u8) -> [IpAddr; 2] {
    let net = 1 + pod % 3;
    [IpAddr::from([10, 0, net, pod]), IpAddr::from([0xfd00, 0, net.into(), 0, 0, 0, 0, pod.into()])]
}

fn node(name: &'static str, addresses: &'static [&'static str]) -> impl Strategy<Value = Node> {
    (select(vec!["a", "b"]), option::of(select(vec!["a", "b"]))).prop_map(move |(zone, role)| Node {
        name: name.into(),
        uid: name.into(),
        internal_ips: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        external_ips: [].into(),
        labels: role.map(|role| ("role", role)).into_iter().chain([("zone", zone)]).collect(),
        max_pods: 110,
        pod_cidrs: [].into(),
        resource_version: "1".into(),
    })
}

/// How the operator of a world is set up.
pub fn config(world: &World) -> Config {
    let families = Families { v4: true, v6: false };
    Config {
        cluster: "default".into(),
        families,
        ipam: Default::default(),
        reserved: [].into(),
        pre_allocation: Default::default(),
        cidrs_of: if world.cidrs_mean_nodes { Owners::WorldAndNodes } else { Owners::World },
        host_firewall: world.host_firewall.clone(),
    }
}

/// All objects of a world.
pub fn objects(world: &World) -> Vec<Object> {
    let mut objects: Vec<Object> = Vec::new();
    objects.extend(world.namespaces.iter().map(|n| Object::Namespace(Arc::new(n.clone()))));
    objects.extend(world.pods.iter().map(|p| Object::Pod(Arc::new(p.clone()))));
    objects.extend(world.policies.iter().map(|p| Object::NetworkPolicy(Arc::new(p.clone()))));
    let endpoint = |ip: &IpAddr| Endpoint {
        addresses: [*ip].into(),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        zone: None,
        for_zones: [].into(),
        for_nodes: [].into(),
    };
    let slice = |service: &Name, addresses: &[IpAddr]| {
        Object::EndpointSlice(Arc::new(EndpointSlice {
            name: service.clone(),
            service: Arc::clone(&service.name),
            ports: [].into(),
            endpoints: addresses.iter().map(endpoint).collect(),
        }))
    };
    objects.push(slice(&Name::new("default", "kubernetes"), &world.api_server));
    for (service, addresses) in &world.services {
        objects.push(Object::Service(Arc::new(service.clone())));
        objects.push(slice(&service.name, addresses));
    }
    objects.extend(world.nodes.iter().map(|n| Object::Node(Arc::new(n.clone()))));
    objects.extend(world.tiered.iter().map(|p| Object::ClusterNetworkPolicy(Arc::new(p.clone()))));
    objects.extend(world.groups.iter().map(|g| Object::CiliumCIDRGroup(Arc::new(g.clone()))));
    objects.extend(world.cilium.iter().cloned().map(Arc::new).map(|policy| match &*policy.name.namespace {
        "" => Object::CiliumClusterwideNetworkPolicy(policy),
        _ => Object::CiliumNetworkPolicy(policy),
    }));
    objects
}

/// An index of the world in which every label set has a number.
pub fn index(world: &World) -> Index {
    let mut index = Index::new(config(world));
    objects(world).into_iter().for_each(|object| index.upsert(object));
    let unnumbered: Vec<_> = index.unnumbered().map(|one| Arc::clone(one.labels)).collect();
    for (id, labels) in (256..).zip(unnumbered) {
        let (uid, resource_version) = ("".into(), "".into());
        index.upsert(Object::CiliumIdentity(Arc::new(CiliumIdentity { id, labels, uid, resource_version })));
    }
    index
}

/// The number of a pod's label set.
pub fn identity(world: &World, index: &Index, pod: &Pod) -> u32 {
    let namespace = world.namespaces.iter().find(|n| n.name == pod.name.namespace).unwrap();
    let labels = labels::security_labels(pod, namespace, &config(world));
    index.identities().find(|object| object.labels == labels).unwrap().id
}

const PORTS: [u16; 14] = [1, 2, 53, 67, 68, 79, 80, 81, 443, 8000, 8079, 8080, 8081, 65_535];

/// Protocols by IANA number, with ports or types of ICMP messages.
pub fn packets() -> impl Iterator<Item = (u8, u16)> {
    let ports = Protocol::ALL.into_iter().flat_map(|protocol| PORTS.map(|port| (protocol.number(), port)));
    ports.chain([(1, 0), (1, 8), (58, 128), (58, 8), (112, 0)])
}

/// Whom the node `here` and its pods have to do with: the pods by each of their addresses, nodes and the world.
pub fn peers<'w>(world: &'w World, identities: &[u32], here: &str) -> Vec<(Peer<'w>, PacketPeer)> {
    let peer =
        |who, identity, scope, address| (who, PacketPeer { scope, identity: Some(identity), address: Some(address) });
    let world_at = |text: &str| peer(Peer::World, WORLD, AnyPeer::World, text.parse().unwrap());
    let mut peers = Vec::new();
    for node in &world.nodes {
        let (who, identity) = if *node.name == *here { (Peer::Host, HOST) } else { (Peer::RemoteNode, REMOTE_NODE) };
        peers.extend(node.internal_ips.iter().map(|ip| peer(who, identity, AnyPeer::Node, *ip)));
    }
    let outside = ["192.0.2.1", "192.0.2.200", "10.0.1.200", "8.8.8.8", "2001:db8::1", "2002::1"];
    peers.extend(outside.map(world_at));
    for (pod, identity) in world.pods.iter().zip(identities) {
        peers.extend(pod.ips.iter().map(|ip| peer(Peer::Pod(pod), *identity, AnyPeer::Pod, *ip)));
    }
    peers
}
