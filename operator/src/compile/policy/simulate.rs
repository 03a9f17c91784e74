//! The kernel's lookups on a policy row, as ARCHITECTURE.md describes them.

use std::net::IpAddr;

use axoneme_proto::tables::{Action, AnyPeer, CidrClass, Policy, PortRule, TierVerdict, peer_rules};
use ipnet::IpNet;

use super::ports::PortKey;
use crate::object::{Direction, Protocol};

/// The other end of a packet, as the kernel knows it.
#[derive(Clone, Copy, Debug)]
pub struct PacketPeer {
    pub scope: AnyPeer,
    pub identity: Option<u32>,
    pub address: IpAddr,
}

/// Whether the packet passes.
pub fn passes(policy: &Policy, direction: Direction, peer: PacketPeer, protocol: Protocol, port: u16) -> bool {
    let row = match direction {
        Direction::Ingress => policy.ingress.as_ref(),
        Direction::Egress => policy.egress.as_ref(),
    };
    let row = row.expect("both directions are always there");
    if !row.enforced {
        return true;
    }
    let rules_of =
        |wanted: peer_rules::Peer| row.peers.iter().find(|peer| peer.peer == Some(wanted)).map(|p| &*p.rules);
    let listed = peer.identity.and_then(|identity| rules_of(peer_rules::Peer::Identity(identity)));
    let by_identity = listed.or_else(|| rules_of(peer_rules::Peer::Any(peer.scope.into()))).unwrap_or_default();
    let by_class = class_of(&row.classes, peer.address).map_or(&[][..], |class| match peer.scope {
        AnyPeer::Pod => &class.if_pod,
        AnyPeer::Node => &class.if_node,
        _ => &class.if_world,
    });
    let verdicts: Vec<TierVerdict> = [by_identity, by_class]
        .into_iter()
        .filter_map(|rules| longest(rules, protocol, port))
        .flat_map(|rule| rule.verdicts.clone())
        .filter(|verdict| matches!(verdict.action(), Action::Allow | Action::Deny))
        .collect();
    let first = verdicts.iter().min_by_key(|v| (v.tier, v.order, v.action() != Action::Deny));
    first.is_some_and(|verdict| verdict.action() == Action::Allow)
}

fn longest(rules: &[PortRule], protocol: Protocol, port: u16) -> Option<&PortRule> {
    let packet = PortKey::one(protocol, port);
    let key = |rule: &PortRule| PortKey {
        protocol: rule.protocol.try_into().unwrap(),
        port: rule.port.try_into().unwrap(),
        bits: rule.port_bits.try_into().unwrap(),
    };
    rules.iter().filter(|rule| key(rule).contains(&packet)).max_by_key(|rule| (rule.protocol != 0, rule.port_bits))
}

fn class_of(classes: &[CidrClass], address: IpAddr) -> Option<&CidrClass> {
    let length = |class: &CidrClass| {
        let prefixes = class.prefixes.iter().map(|prefix| prefix.parse().expect("valid prefix"));
        let nets = prefixes.map(|(address, length)| IpNet::new(address, length).unwrap());
        nets.filter(|net| net.contains(&address)).map(|net| net.prefix_len()).max()
    };
    classes.iter().filter_map(|class| Some((length(class)?, class))).max_by_key(|(length, _)| *length).map(|(_, c)| c)
}
