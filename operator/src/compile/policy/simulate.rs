//! The kernel's lookups on a policy row, as ARCHITECTURE.md describes them.

use std::net::IpAddr;

use axoneme_proto::tables::{Action, AnyPeer, CidrClass, Policy, PortRule, Tier, TierVerdict, peer_rules};
use ipnet::IpNet;

use super::explain::PacketPeer;
use super::ports::{PortKey, rank};
use crate::object::Direction;

/// Whether a packet of this protocol (IANA number) and port (or ICMP type) passes.
pub fn passes(policy: &Policy, direction: Direction, peer: PacketPeer, protocol: u8, port: u16) -> bool {
    let row = match direction {
        Direction::Ingress => policy.ingress.as_ref(),
        Direction::Egress => policy.egress.as_ref(),
    };
    let row = row.expect("both directions are always there");
    let rules_of =
        |wanted: peer_rules::Peer| row.peers.iter().find(|peer| peer.peer == Some(wanted)).map(|p| &*p.rules);
    let listed = peer.identity.and_then(|identity| rules_of(peer_rules::Peer::Identity(identity)));
    let by_identity = listed.or_else(|| rules_of(peer_rules::Peer::Any(peer.scope.into()))).unwrap_or_default();
    let by_class =
        peer.address.and_then(|address| class_of(&row.classes, address)).map_or(&[][..], |class| match peer.scope {
            AnyPeer::Pod => &class.if_pod,
            AnyPeer::Node => &class.if_node,
            _ => &class.if_world,
        });
    let rows = [by_identity, by_class].into_iter().filter_map(|rules| longest(rules, protocol, port));
    let verdicts: Vec<TierVerdict> = rows.flat_map(|rule| rule.verdicts.clone()).collect();
    let decided = [Tier::Admin, Tier::Normal, Tier::Baseline].into_iter().find_map(|tier| {
        let of_tier = verdicts.iter().filter(|verdict| verdict.tier() == tier);
        let action = of_tier.min_by_key(|verdict| (verdict.order, rank(verdict.action())))?.action();
        matches!(action, Action::Allow | Action::Deny).then_some(action)
    });
    decided.map_or(!row.enforced, |action| action == Action::Allow)
}

fn longest(rules: &[PortRule], protocol: u8, port: u16) -> Option<&PortRule> {
    let packet = PortKey { protocol, port, bits: 16 };
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
