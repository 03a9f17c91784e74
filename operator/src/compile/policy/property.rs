//! Compiled rows under the kernel's lookup say the same as the reference evaluator.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axoneme_proto::tables::{AnyPeer, Policy, PolicyMode};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::oracle::{Packet, World};
use super::simulate::{PacketPeer, passes};
use crate::engine::Families;
use crate::index::{Config, Index, labels};
use crate::object::{CiliumIdentity, Direction, Object, Pod, Protocol, arbitrary};

fn world() -> impl Strategy<Value = World> {
    let namespaces = arbitrary::NAMESPACES.map(arbitrary::namespace);
    (namespaces, vec(arbitrary::pod(), 1..8), vec(arbitrary::policy(), 0..6)).prop_map(
        |(namespaces, pods, policies)| {
            // One object a name; pods without what has nothing to do with policy.
            let pods: BTreeMap<_, _> = pods.into_iter().map(|pod| (pod.name.clone(), pod)).collect();
            let plain = |pod: Pod| Pod { mirror: None, host_network: false, finished: false, ..pod };
            let policies: BTreeMap<_, _> = policies.into_iter().map(|policy| (policy.name.clone(), policy)).collect();
            World {
                namespaces: namespaces.to_vec(),
                pods: pods.into_values().map(plain).collect(),
                policies: policies.into_values().collect(),
            }
        },
    )
}

fn config() -> Config {
    let families = Families { v4: true, v6: false };
    Config {
        cluster: "default".into(),
        families,
        ipam: Default::default(),
        reserved: [].into(),
        pre_allocation: Default::default(),
    }
}

/// An index of the world in which every label set has a number.
fn index(world: &World) -> Index {
    let mut index = Index::new(config());
    world.namespaces.iter().for_each(|n| index.upsert(Object::Namespace(Arc::new(n.clone()))));
    world.pods.iter().for_each(|p| index.upsert(Object::Pod(Arc::new(p.clone()))));
    world.policies.iter().for_each(|p| index.upsert(Object::NetworkPolicy(Arc::new(p.clone()))));
    let unnumbered: Vec<_> = index.unnumbered().map(|one| Arc::clone(one.labels)).collect();
    for (id, labels) in (256..).zip(unnumbered) {
        let (uid, resource_version) = ("".into(), "".into());
        index.upsert(Object::CiliumIdentity(Arc::new(CiliumIdentity { id, labels, uid, resource_version })));
    }
    index
}

fn identity(world: &World, index: &Index, pod: &Pod) -> u32 {
    let namespace = world.namespaces.iter().find(|n| n.name == pod.name.namespace).unwrap();
    let labels = labels::security_labels(pod, namespace, &config());
    index.identities().find(|object| object.labels == labels).unwrap().id
}

const PORTS: [u16; 12] = [1, 2, 53, 79, 80, 81, 443, 8000, 8079, 8080, 8081, 65_535];

/// Addresses that are no pod's, of nodes and of the world.
fn others() -> Vec<(AnyPeer, IpAddr)> {
    let node = |text: &str| (AnyPeer::Node, text.parse().unwrap());
    let world = |text: &str| (AnyPeer::World, text.parse().unwrap());
    vec![
        node("172.18.0.1"),
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
    let mut peers: Vec<(Option<&Pod>, PacketPeer)> =
        others().into_iter().map(|(scope, address)| (None, PacketPeer { scope, identity: None, address })).collect();
    for (i, pod) in (0..).zip(&world.pods) {
        let address = IpAddr::from([10, 0, 1 + i % 3, i]);
        let identity = Some(identity(world, &index, pod));
        peers.push((Some(pod), PacketPeer { scope: AnyPeer::Pod, identity, address }));
    }
    for subject in &world.pods {
        let row = &rows[&identity(world, &index, subject)];
        for (pod, peer) in peers.iter().filter(|(pod, _)| pod.is_none_or(|pod| pod.name != subject.name)) {
            for direction in [Direction::Ingress, Direction::Egress] {
                for protocol in Protocol::ALL {
                    for port in PORTS {
                        let packet = Packet { direction, peer: *pod, address: peer.address, protocol, port };
                        let (expected, got) =
                            (world.allows(subject, &packet), passes(row, direction, *peer, protocol, port));
                        prop_assert_eq!(got, expected, "{} {:?} row {:#?}", subject.name, packet, row);
                    }
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn compiled_rows_agree_with_the_reference_evaluator(world in world()) {
        check(&world)?;
    }
}
