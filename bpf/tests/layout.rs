//! The Rust mirror is what the object's BTF says: every field of every struct, every value of every enumeration.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics")]

mod common;

use axoneme_bpf::address::{Address, AddressKey, AddressKind, AddressPath, CidrKey};
use axoneme_bpf::affinity::{Affinity, AffinityKey, ClientKind};
use axoneme_bpf::bandwidth::{Bandwidth, BandwidthKey};
use axoneme_bpf::config::{Config, ConfigFlags};
use axoneme_bpf::conntrack::{Ct, CtFlags};
use axoneme_bpf::endpoint::{Endpoint, EndpointFlags};
use axoneme_bpf::event::{Event, EventFlags, EventKind};
use axoneme_bpf::fragment::{Fragment, FragmentKey};
use axoneme_bpf::identity::Identity;
use axoneme_bpf::inet::{Direction, Family, Inet, Tuple};
use axoneme_bpf::metrics::{Metrics, Reason};
use axoneme_bpf::nat::{Exclusion, Nat, NatFlags};
use axoneme_bpf::policy::{
    Action, Policy, PolicyClass, PolicyClassKey, PolicyFlags, PolicyIndex, PolicyRuleKey, RulePeer, TIER_ADMIN,
    TIER_BASELINE, TIER_NORMAL, TIERS, TierVerdict, Verdicts,
};
use axoneme_bpf::service::{Backend, BackendKey, Service, ServiceFlags, ServiceKey};
use axoneme_bpf::sock::{SockReverse, SockReverseKey};
use axoneme_bpf::uplink::Uplink;
use common::btf;

/// Compares a struct's fields, their offsets and the whole size.
macro_rules! same_struct {
    ($layout:expr, $c:literal, $rust:ty { $($field:ident),+ }) => {
        let found = $layout.structs.get($c).unwrap_or_else(|| panic!("the object has no struct {}", $c));
        assert_eq!(
            found.fields,
            vec![$((stringify!($field).to_owned(), std::mem::offset_of!($rust, $field) as u32)),+],
            "fields of {}", $c
        );
        assert_eq!(found.size as usize, size_of::<$rust>(), "size of {}", $c);
        // Without holes, no byte of a key is left to chance.
        let sum: usize = 0 $(+ size_of_field(|value: &$rust| size_of_val(&value.$field)))+;
        assert_eq!(sum, size_of::<$rust>(), "{} has padding", $c);
    };
}

fn size_of_field<T: Default>(field: impl Fn(&T) -> usize) -> usize {
    field(&T::default())
}

/// Compares an enumeration's values, both ways.
macro_rules! same_enum {
    ($layout:expr, $rust:ty) => {
        let (size, values) =
            $layout.enums.get(<$rust>::C_NAME).unwrap_or_else(|| panic!("the object has no enum {}", <$rust>::C_NAME));
        assert_eq!(*size as usize, size_of::<$rust>(), "size of {}", <$rust>::C_NAME);
        let mirror = <$rust>::ALL
            .iter()
            .map(|(name, value)| (format!("{}{name}", <$rust>::C_PREFIX), u64::from(value.0)))
            .collect();
        assert_eq!(*values, mirror, "values of {}", <$rust>::C_NAME);
    };
}

#[test]
fn structs_have_the_layout_of_the_object() {
    let layout = btf::read(axoneme_bpf::objects::AXONEME);
    assert_eq!(layout.structs["inet"].size as usize, size_of::<Inet>());
    same_struct!(
        layout,
        "config",
        Config {
            flags,
            tunnel_ifindex,
            uplink_ifindex,
            uplink_mtu,
            tunnel_port,
            nat_port_min,
            nat_port_max,
            reserved0,
            node_ipv4,
            node_ipv6,
            pod_mtu,
            reserved
        }
    );
    same_struct!(layout, "endpoint", Endpoint { identity, policy, id, flags, ipv4, ipv6, pod_mac, host_mac, reserved });
    same_struct!(layout, "address_key", AddressKey { address, family, reserved });
    same_struct!(layout, "address", Address { identity, kind, tunnel_family, path, ifindex, tunnel, reserved });
    same_struct!(layout, "cidr_key", CidrKey { prefixlen, family, reserved, address });
    same_struct!(
        layout,
        "policy",
        Policy {
            slot,
            flags,
            ingress_cookie,
            egress_cookie,
            generation,
            audited_ingress_cookie,
            audited_egress_cookie,
            reserved
        }
    );
    same_struct!(layout, "policy_rule_key", PolicyRuleKey { prefixlen, slot, peer, direction, protocol, port });
    same_struct!(layout, "tier_verdict", TierVerdict { order, cookie, action, reserved0, reserved1 });
    same_struct!(layout, "verdicts", Verdicts { tiers, reserved });
    same_struct!(layout, "policy_class_key", PolicyClassKey { prefixlen, slot, direction, family, reserved, address });
    same_struct!(layout, "policy_class", PolicyClass { if_pod, if_node, if_world, reserved });
    same_struct!(layout, "service_key", ServiceKey { address, port, protocol, family });
    same_struct!(layout, "service", Service { id, backends, revision, flags, affinity, reserved });
    same_struct!(layout, "affinity_key", AffinityKey { client, service, family, kind, reserved });
    same_struct!(layout, "affinity", Affinity { used, address, port, reserved0, index });
    same_struct!(layout, "backend_key", BackendKey { service, index });
    same_struct!(layout, "backend", Backend { address, port, family, reserved0, reserved });
    same_struct!(
        layout,
        "tuple",
        Tuple { source, destination, source_port, destination_port, protocol, family, direction, reserved }
    );
    same_struct!(
        layout,
        "ct",
        Ct {
            expires,
            packets,
            bytes,
            generation,
            peer_identity,
            service,
            service_revision,
            service_address,
            service_port,
            flags,
            via,
            via_family,
            reserved,
            client_port
        }
    );
    same_struct!(layout, "nat", Nat { expires, address, port, flags, ifindex, reserved });
    same_struct!(layout, "uplink", Uplink { ipv4, ipv6, reserved });
    same_struct!(layout, "exclusion", Exclusion { reserved });
    same_struct!(layout, "fragment_key", FragmentKey { source, destination, id, protocol, family, reserved });
    same_struct!(layout, "fragment", Fragment { source_port, destination_port, flags, reserved });
    same_struct!(layout, "bandwidth_key", BandwidthKey { ifindex, direction, reserved });
    same_struct!(layout, "bandwidth", Bandwidth { bytes_per_second, free_at, reserved });
    same_struct!(layout, "sock_reverse_key", SockReverseKey { cookie, address, port, protocol, family, reserved });
    same_struct!(layout, "sock_reverse", SockReverse { address, port, reserved0, service, reserved });
    same_struct!(layout, "metrics", Metrics { packets, bytes });
    same_struct!(
        layout,
        "event",
        Event {
            kind,
            reason,
            direction,
            family,
            ifindex,
            source_identity,
            destination_identity,
            cookie,
            length,
            source,
            destination,
            source_port,
            destination_port,
            protocol,
            tcp_flags,
            flags,
            reserved0,
            endpoint,
            reserved
        }
    );
}

#[test]
fn enumerations_have_the_values_of_the_object() {
    let layout = btf::read(axoneme_bpf::objects::AXONEME);
    same_enum!(layout, Family);
    same_enum!(layout, Direction);
    same_enum!(layout, NatFlags);
    same_enum!(layout, AddressKind);
    same_enum!(layout, AddressPath);
    same_enum!(layout, Identity);
    same_enum!(layout, EventKind);
    same_enum!(layout, EventFlags);
    same_enum!(layout, EndpointFlags);
    same_enum!(layout, CtFlags);
    same_enum!(layout, ConfigFlags);
    same_enum!(layout, Reason);
    same_enum!(layout, Action);
    same_enum!(layout, PolicyFlags);
    same_enum!(layout, PolicyIndex);
    same_enum!(layout, ServiceFlags);
    same_enum!(layout, ClientKind);

    let tiers = &layout.enums["tier"].1;
    for (name, index) in
        [("TIER_ADMIN", TIER_ADMIN), ("TIER_NORMAL", TIER_NORMAL), ("TIER_BASELINE", TIER_BASELINE), ("TIERS", TIERS)]
    {
        assert_eq!(tiers[name], index as u64, "{name}");
    }
    let peers = &layout.enums["policy_peer"].1;
    for (name, peer) in [
        ("PEER_ANY_POD", RulePeer::ANY_POD),
        ("PEER_ANY_NODE", RulePeer::ANY_NODE),
        ("PEER_ANY_WORLD", RulePeer::ANY_WORLD),
        ("PEER_CLASS", RulePeer::class(0)),
    ] {
        assert_eq!(peers[name], u64::from(peer.0), "{name}");
    }
}
