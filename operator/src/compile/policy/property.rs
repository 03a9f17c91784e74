//! Compiled rows under the kernel's lookup say the same as the reference evaluator.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axoneme_proto::tables::{AnyPeer, Policy, PolicyMode};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::explain::{Dealings, PacketPeer};
use super::judge::Said;
use super::merge::Reading;
use super::oracle::{Packet, Peer, World};
use super::parsed::{HOST, Owners, REMOTE_NODE};
use crate::diff::{Flip, Party, Settings, State, diff};
use crate::engine::Families;
use crate::index::{Config, Index, labels};
use crate::object::{CiliumIdentity, Direction, Endpoint, EndpointSlice, Name, Node, Object, Pod, Protocol, arbitrary};

fn world() -> impl Strategy<Value = World> {
    let namespaces = arbitrary::NAMESPACES.map(arbitrary::namespace);
    let policies = (
        vec(arbitrary::policy(), 0..5),
        vec(arbitrary::cilium_policy(), 0..5),
        vec(arbitrary::cidr_group(), 0..3),
        vec(arbitrary::cluster_network_policy(), 0..4),
        vec(arbitrary::service(), 0..4),
    );
    (namespaces, vec(arbitrary::pod(), 1..8), policies, any::<bool>()).prop_map(
        |(namespaces, pods, (policies, cilium, groups, tiered, services), cidrs_mean_nodes)| {
            // One object a name; pods without what has nothing to do with policy.
            let pods: BTreeMap<_, _> = pods.into_iter().map(|pod| (pod.name.clone(), pod)).collect();
            let plain = |pod: Pod| Pod { mirror: None, host_network: false, finished: false, ..pod };
            let policies: BTreeMap<_, _> = policies.into_iter().map(|policy| (policy.name.clone(), policy)).collect();
            let cilium: BTreeMap<_, _> = cilium.into_iter().map(|policy| (policy.name.clone(), policy)).collect();
            World {
                namespaces: namespaces.to_vec(),
                pods: pods.into_values().map(plain).collect(),
                policies: policies.into_values().collect(),
                cilium: cilium.into_values().collect(),
                tiered: tiered
                    .into_iter()
                    .map(|policy| (policy.name.clone(), policy))
                    .collect::<BTreeMap<_, _>>()
                    .into_values()
                    .collect(),
                nodes: vec![node("node-1", "a", &["172.18.0.1"]), node("node-2", "b", &["172.18.0.2", "fd00::1"])],
                groups: groups
                    .into_iter()
                    .map(|group| (group.name.clone(), group))
                    .collect::<BTreeMap<_, _>>()
                    .into_values()
                    .collect(),
                services: services
                    .into_iter()
                    .map(|service| (service.name.clone(), service))
                    .collect::<BTreeMap<_, _>>()
                    .into_values()
                    .map(|service| {
                        (service, ["10.0.1.0", "172.18.0.2", "192.0.2.1"].map(|ip| ip.parse().unwrap()).into())
                    })
                    .collect(),
                // A pod's, a node's and one of the world.
                cidrs_mean_nodes,
                api_server: ["10.0.1.0", "172.18.0.2", "8.8.8.8"].map(|ip| ip.parse().unwrap()).into(),
            }
        },
    )
}

fn node(name: &str, zone: &str, addresses: &[&str]) -> Node {
    Node {
        name: name.into(),
        uid: name.into(),
        internal_ips: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        external_ips: [].into(),
        labels: [("zone", zone)].into_iter().collect(),
        max_pods: 110,
        pod_cidrs: [].into(),
        resource_version: "1".into(),
    }
}

fn config(world: &World) -> Config {
    let families = Families { v4: true, v6: false };
    Config {
        cluster: "default".into(),
        families,
        ipam: Default::default(),
        reserved: [].into(),
        pre_allocation: Default::default(),
        cidrs_of: if world.cidrs_mean_nodes { Owners::WorldAndNodes } else { Owners::World },
    }
}

fn objects(world: &World) -> Vec<Object> {
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
fn index(world: &World) -> Index {
    let mut index = Index::new(config(world));
    objects(world).into_iter().for_each(|object| index.upsert(object));
    let unnumbered: Vec<_> = index.unnumbered().map(|one| Arc::clone(one.labels)).collect();
    for (id, labels) in (256..).zip(unnumbered) {
        let (uid, resource_version) = ("".into(), "".into());
        index.upsert(Object::CiliumIdentity(Arc::new(CiliumIdentity { id, labels, uid, resource_version })));
    }
    index
}

fn identity(world: &World, index: &Index, pod: &Pod) -> u32 {
    let namespace = world.namespaces.iter().find(|n| n.name == pod.name.namespace).unwrap();
    let labels = labels::security_labels(pod, namespace, &config(world));
    index.identities().find(|object| object.labels == labels).unwrap().id
}

const PORTS: [u16; 12] = [1, 2, 53, 79, 80, 81, 443, 8000, 8079, 8080, 8081, 65_535];

/// Protocols by IANA number, with ports or types of ICMP messages.
fn packets() -> impl Iterator<Item = (u8, u16)> {
    let ports = Protocol::ALL.into_iter().flat_map(|protocol| PORTS.map(|port| (protocol.number(), port)));
    ports.chain([(1, 0), (1, 8), (58, 128), (58, 8), (112, 0)])
}

/// Addresses that are no pod's, of nodes and of the world.
fn others() -> Vec<(Peer<'static>, PacketPeer)> {
    let peer = |who, identity, scope, text: &str| {
        let address = Some(text.parse().unwrap());
        (who, PacketPeer { scope, identity, address })
    };
    let node = |text: &str| peer(Peer::RemoteNode, Some(REMOTE_NODE), AnyPeer::Node, text);
    let world = |text: &str| peer(Peer::World, Some(2), AnyPeer::World, text);
    vec![
        peer(Peer::Host, Some(HOST), AnyPeer::Node, "172.18.0.1"),
        node("172.18.0.2"),
        node("fd00::1"),
        world("192.0.2.1"),
        world("192.0.2.200"),
        world("10.0.1.200"),
        world("8.8.8.8"),
        world("2001:db8::1"),
        world("2002::1"),
    ]
}

fn check(world: &World) -> Result<(), TestCaseError> {
    let index = index(world);
    let mut compiler = super::Rows::default();
    let mut rows: BTreeMap<u32, Policy> = BTreeMap::new();
    for object in index.identities() {
        let row = compiler.row(&index, object.id, PolicyMode::Default).unwrap();
        let (_, encoded) = row.output;
        let policy = Policy::decode(encoded.payload()).unwrap();
        prop_assert_eq!(policy.identity, object.id);
        prop_assert_eq!(policy.encode_to_vec(), encoded.payload(), "spliced bytes are canonical");
        rows.insert(object.id, policy);
    }
    let mut peers: Vec<(Peer<'_>, PacketPeer)> = others();
    for (i, pod) in (0..).zip(&world.pods) {
        let address = Some(IpAddr::from([10, 0, 1 + i % 3, i]));
        let identity = Some(identity(world, &index, pod));
        peers.push((Peer::Pod(pod), PacketPeer { scope: AnyPeer::Pod, identity, address }));
    }
    let enforcing_all = world.enforcing_all();
    for subject in &world.pods {
        let id = identity(world, &index, subject);
        let (row, policies) = (&rows[&id], index.subject(id).unwrap());
        let another = |(who, _): &&(Peer<'_>, PacketPeer)| !matches!(who, Peer::Pod(pod) if pod.name == subject.name);
        for (who, peer) in peers.iter().filter(another) {
            for direction in [Direction::Ingress, Direction::Egress] {
                let said = Said::of(row, direction, *peer);
                let audited = Said::audited(row, direction, *peer);
                let dealings =
                    |reading| Dealings::of(&policies, &index, PolicyMode::Default, direction, *peer, reading);
                let (dealings, all) = (dealings(Reading::Enforced), dealings(Reading::Audited));
                for (protocol, port) in packets() {
                    let packet = Packet { direction, peer: *who, address: peer.address.unwrap(), protocol, port };
                    let expected = world.allows(subject, &packet);
                    let got = said.passes(protocol, port);
                    prop_assert_eq!(got, expected, "{} {:?} row {:#?}", subject.name, packet, row);
                    let why = dealings.decide(protocol, port);
                    // Which nodes run which pods is no matter of policies.
                    let own_node = matches!((who, direction), (Peer::Host, Direction::Ingress));
                    prop_assert_eq!(why.allowed, expected || own_node, "{} {:?} {:#?}", subject.name, packet, why);
                    let expected = enforcing_all.allows(subject, &packet);
                    let got = audited.unwrap_or(said).passes(protocol, port);
                    prop_assert_eq!(got, expected, "audited: {} {:?} row {:#?}", subject.name, packet, row);
                    let why = all.decide(protocol, port);
                    prop_assert_eq!(
                        why.allowed,
                        expected || own_node,
                        "audited: {} {:?} {:#?}",
                        subject.name,
                        packet,
                        why
                    );
                }
            }
        }
    }
    Ok(())
}

/// Two worlds with the same pods, which have addresses: what is different between them is told for each pair of pods.
fn check_diff(mut before: World, mut after: World) -> Result<(), TestCaseError> {
    after.namespaces.clone_from(&before.namespaces);
    after.cidrs_mean_nodes = before.cidrs_mean_nodes;
    for (i, pod) in (0..).zip(&mut before.pods) {
        pod.ips = [IpAddr::from([10, 0, 1 + i % 3, i])].into();
        pod.node = Some("node-1".into());
    }
    after.pods.clone_from(&before.pods);
    let state = |world: &World| {
        let mut state = State::default();
        objects(world).into_iter().for_each(|object| state.insert(object));
        state
    };
    let settings =
        Settings { cluster: "default".into(), mode: PolicyMode::Default, cidrs_of: config(&before).cidrs_of };
    let difference = diff(&state(&before), &state(&after), &settings);
    let is = |party: &Party, pod: &Pod| matches!(party, Party::Pods { pods, .. } if pods.contains(&pod.name));
    let pairs = before.pods.iter().flat_map(|from| before.pods.iter().map(move |to| (from, to)));
    for (from, to) in pairs.filter(|(from, to)| from.name != to.name) {
        for (protocol, port) in packets() {
            let passes = |world: &World| {
                let packet = |direction, peer, address| Packet { direction, peer, address, protocol, port };
                world.allows(from, &packet(Direction::Egress, Peer::Pod(to), to.ips[0]))
                    && world.allows(to, &packet(Direction::Ingress, Peer::Pod(from), from.ips[0]))
            };
            let expected = (passes(&before), passes(&after));
            let about = |flip: &&Flip| is(&flip.from, from) && is(&flip.to, to) && flip.ports.contains(protocol, port);
            let told: Vec<bool> = difference.flips.iter().filter(about).map(|flip| flip.allowed).collect();
            let wanted: &[bool] = if expected.0 == expected.1 { &[] } else { &[expected.1] };
            prop_assert_eq!(&*told, wanted, "{} to {}, {}/{}", from.name, to.name, port, protocol);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_difference_is_what_the_reference_evaluator_finds(before in world(), after in world()) {
        check_diff(before, after)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn compiled_rows_agree_with_the_reference_evaluator(world in world()) {
        check(&world)?;
    }
}
