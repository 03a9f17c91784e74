//! Arbitrary events of an engine.

use axoneme_crds::meta::LabelSelector;

use super::*;

#[derive(Clone, Debug)]
pub(super) enum Event {
    Upsert(Object),
    Delete(Pick),
    /// Gives a number to one of the label sets that have none.
    Number(u32, Pick),
    /// A node tells all that it has attached: (pod UID, address, from the reserve).
    Attached(&'static str, Vec<(String, IpAddr, bool)>),
    Commit,
}

fn uid() -> impl Strategy<Value = String> {
    arbitrary::pod_uid().prop_map(|(namespace, number, generation)| format!("{namespace}-{number}-{generation}"))
}

fn ip() -> impl Strategy<Value = IpAddr> {
    (1..4_u8, 2..4_u8).prop_map(|(node, host)| IpAddr::from([10, 0, node, host]))
}

fn ledger() -> impl Strategy<Value = Object> {
    let entry =
        (ip(), uid()).prop_map(|(ip, uid)| (ip, PoolEntry { owner: uid.as_str().into(), resource: uid.into() }));
    (select(arbitrary::NODES.to_vec()), vec(entry, 0..6), any::<bool>(), any::<bool>()).prop_map(
        |(name, pool, has_cidr, has_overlay)| {
            let number = name.bytes().last().map_or(0, |b| b - b'0');
            let overlay = LedgerAddress { kind: "CiliumInternalIP".into(), ip: IpAddr::from([10, 0, number, 1]) };
            let cidr = format!("10.0.{number}.0/24").parse().unwrap();
            let blue = NodePool {
                name: "blue".into(),
                cidrs: ["10.9.0.0/26".parse().unwrap()].into(),
                allow_first_ip: has_overlay,
                allow_last_ip: false,
            };
            Object::CiliumNode(Arc::new(CiliumNode {
                name: name.into(),
                uid: "u".into(),
                resource_version: "1".into(),
                pod_cidrs: has_cidr.then_some(cidr).into_iter().collect(),
                pool: pool.into_iter().collect(),
                addresses: has_overlay.then_some(overlay).into_iter().collect(),
                pools: (!has_cidr).then_some(blue).into_iter().collect(),
                ..CiliumNode::default()
            }))
        },
    )
}

fn service() -> impl Strategy<Value = Object> {
    let number = 0..3_u8;
    let service = (number.clone(), any::<bool>(), arbitrary::service()).prop_map(|(number, headless, service)| {
        let cluster_ips = [IpAddr::from([10, 96, 0, number])].into();
        Object::Service(Arc::new(Service { cluster_ips, headless, ..service }))
    });
    let of = prop_oneof![3 => number.clone().prop_map(|of| ("red", format!("service-{of}"))), 1 => Just(("default", "kubernetes".to_owned()))];
    let slice = (number, of, ip(), any::<bool>()).prop_map(|(number, (namespace, of), ip, ready)| {
        let endpoint = Endpoint {
            addresses: [ip].into(),
            ready,
            serving: ready,
            terminating: !ready,
            node: None,
            zone: None,
            for_zones: [].into(),
            for_nodes: [].into(),
        };
        Object::EndpointSlice(Arc::new(EndpointSlice {
            name: Name::new(namespace, format!("slice-{number}")),
            service: of.into(),
            ports: [].into(),
            endpoints: [endpoint].into(),
        }))
    });
    prop_oneof![service, slice]
}

fn pool() -> impl Strategy<Value = Object> {
    let cidrs = vec(select(vec!["10.0.0.0/16", "10.0.1.0/24", "10.0.2.0/24", "10.9.0.0/24"]), 0..3);
    let selectors =
        (prop::option::of(arbitrary::pod_selector()), prop::option::weighted(0.1, arbitrary::pod_selector()));
    (select(vec!["default", "blue"]), cidrs, 0..2_i64, selectors).prop_map(|(name, cidrs, created, selectors)| {
        let cidrs = cidrs.into_iter().map(|cidr| cidr.parse().unwrap()).collect();
        Object::CiliumPodIPPool(Arc::new(PodIpPool {
            name: name.into(),
            created,
            ipv4: PoolCidrs { cidrs, mask: 26 },
            pod_selector: selectors.0,
            namespace_selector: selectors.1,
            ..PodIpPool::default()
        }))
    })
}

/// Rules of clusterwide ones are about the nodes of a zone now and then.
fn cilium() -> impl Strategy<Value = Object> {
    let zones = vec(prop::option::of(select(vec!["a", "b"])), 3);
    (arbitrary::cilium_policy(), zones).prop_map(|(mut policy, zones)| {
        if !policy.name.namespace.is_empty() {
            return Object::CiliumNetworkPolicy(Arc::new(policy));
        }
        for (rule, zone) in policy.rules.iter_mut().zip(zones).filter(|(_, zone)| zone.is_some()) {
            let labels = zone.map(|zone| ("zone".to_owned(), zone.to_owned())).into_iter().collect();
            rule.rule.endpoint_selector = None;
            rule.rule.node_selector = Some(LabelSelector { match_labels: Some(labels), match_expressions: None });
        }
        Object::CiliumClusterwideNetworkPolicy(Arc::new(policy))
    })
}

pub(super) fn ipam() -> impl Strategy<Value = IpamMode> {
    prop_oneof![
        3 => Just(IpamMode::ClusterPool),
        2 => Just(IpamMode::MultiPool),
        1 => Just(IpamMode::Kubernetes),
        1 => Just(IpamMode::DelegatedPlugin),
    ]
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    let namespace = select(arbitrary::NAMESPACES.to_vec()).prop_flat_map(arbitrary::namespace);
    let node = select(arbitrary::NODES.to_vec()).prop_flat_map(arbitrary::node);
    let attached = (select(arbitrary::NODES.to_vec()), vec((uid(), ip(), any::<bool>()), 0..3));
    prop_oneof![
        8 => arbitrary::pod().prop_map(|pod| Event::Upsert(Object::Pod(Arc::new(pod)))),
        3 => namespace.prop_map(|namespace| Event::Upsert(Object::Namespace(Arc::new(namespace)))),
        3 => node.prop_map(|node| Event::Upsert(Object::Node(Arc::new(node)))),
        5 => arbitrary::policy().prop_map(|policy| Event::Upsert(Object::NetworkPolicy(Arc::new(policy)))),
        4 => cilium().prop_map(Event::Upsert),
        2 => arbitrary::cluster_network_policy().prop_map(|p| Event::Upsert(Object::ClusterNetworkPolicy(Arc::new(p)))),
        1 => arbitrary::cidr_group().prop_map(|group| Event::Upsert(Object::CiliumCIDRGroup(Arc::new(group)))),
        4 => ledger().prop_map(Event::Upsert),
        2 => service().prop_map(Event::Upsert),
        2 => pool().prop_map(Event::Upsert),
        6 => (256..264_u32, any::<Pick>()).prop_map(|(id, pick)| Event::Number(id, pick)),
        2 => attached.prop_map(|(node, pods)| Event::Attached(node, pods)),
        5 => any::<Pick>().prop_map(Event::Delete),
        6 => Just(Event::Commit),
    ]
}
