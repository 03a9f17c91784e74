//! How a node's kernel judges by a policy row: its lookups, as ARCHITECTURE.md describes them.

use std::net::IpAddr;

use axoneme_proto::tables::{
    Action, AnyPeer, CidrClass, Policy, PolicyDirection, PortRule, Tier, TierVerdict, peer_rules,
};
use ipnet::IpNet;

use super::explain::PacketPeer;
use super::ports::{PortKey, rank};
use crate::object::Direction;

/// What a row says of one peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Said<'a> {
    rules: [&'a [PortRule]; 2],
    enforced: bool,
}

impl<'a> Said<'a> {
    /// What `policy` says of `peer`.
    #[must_use]
    pub fn of(policy: &'a Policy, direction: Direction, peer: PacketPeer) -> Self {
        let row = match direction {
            Direction::Ingress => policy.ingress.as_ref(),
            Direction::Egress => policy.egress.as_ref(),
        };
        row.map(|row| Self::of_row(row, peer)).unwrap_or_default()
    }

    /// What it would say of `peer` if policies that only audit were enforced; none: there are no such policies.
    #[must_use]
    pub fn audited(policy: &'a Policy, direction: Direction, peer: PacketPeer) -> Option<Self> {
        let row = match direction {
            Direction::Ingress => policy.audited_ingress.as_ref(),
            Direction::Egress => policy.audited_egress.as_ref(),
        };
        row.map(|row| Self::of_row(row, peer))
    }

    fn of_row(row: &'a PolicyDirection, peer: PacketPeer) -> Self {
        let listed = peer.identity.and_then(|identity| rules_of(row, peer_rules::Peer::Identity(identity)));
        let by_identity = listed.or_else(|| rules_of(row, peer_rules::Peer::Any(peer.scope.into())));
        let class = peer.address.and_then(|address| class_of(&row.classes, address));
        let by_class = class.map_or(&[][..], |class| match peer.scope {
            AnyPeer::Pod => &class.if_pod,
            AnyPeer::Node => &class.if_node,
            _ => &class.if_world,
        });
        Self { rules: [by_identity.unwrap_or_default(), by_class], enforced: row.enforced }
    }

    /// Whether a packet of this protocol (IANA number) and port (or ICMP type) passes.
    #[must_use]
    pub fn passes(&self, protocol: u8, port: u16) -> bool {
        let rows = self.rules.iter().filter_map(|rules| longest(rules, protocol, port));
        let verdicts: Vec<TierVerdict> = rows.flat_map(|rule| rule.verdicts.iter().copied()).collect();
        let decided = [Tier::Admin, Tier::Normal, Tier::Baseline].into_iter().find_map(|tier| {
            let of_tier = verdicts.iter().filter(|verdict| verdict.tier() == tier);
            let action = of_tier.min_by_key(|verdict| (verdict.order, rank(verdict.action())))?.action();
            matches!(action, Action::Allow | Action::Deny).then_some(action)
        });
        decided.map_or(!self.enforced, |action| action == Action::Allow)
    }

    /// The ports that it distinguishes.
    pub fn keys(&self) -> impl Iterator<Item = PortKey> + use<'a> {
        let [one, other] = self.rules;
        one.iter().chain(other).filter_map(key)
    }
}

/// The rules of a listed peer. Those with identities come first, sorted.
fn rules_of(row: &PolicyDirection, wanted: peer_rules::Peer) -> Option<&[PortRule]> {
    let place = |peer: peer_rules::Peer| match peer {
        peer_rules::Peer::Identity(identity) => (0, i64::from(identity)),
        peer_rules::Peer::Any(scope) => (1, i64::from(scope)),
    };
    let at = row.peers.binary_search_by_key(&Some(place(wanted)), |rules| rules.peer.map(place)).ok()?;
    row.peers.get(at).map(|rules| &*rules.rules)
}

fn key(rule: &PortRule) -> Option<PortKey> {
    Some(PortKey {
        protocol: rule.protocol.try_into().ok()?,
        port: rule.port.try_into().ok()?,
        bits: rule.port_bits.try_into().ok()?,
    })
}

fn longest(rules: &[PortRule], protocol: u8, port: u16) -> Option<&PortRule> {
    let packet = PortKey { protocol, port, bits: 16 };
    let about = rules.iter().filter(|rule| key(rule).is_some_and(|key| key.contains(&packet)));
    about.max_by_key(|rule| (rule.protocol != 0, rule.port_bits))
}

fn class_of(classes: &[CidrClass], address: IpAddr) -> Option<&CidrClass> {
    let length = |class: &CidrClass| {
        let prefixes = class.prefixes.iter().filter_map(|prefix| prefix.parse().ok());
        let nets = prefixes.filter_map(|(address, length)| IpNet::new(address, length).ok());
        nets.filter(|net| net.contains(&address)).map(|net| net.prefix_len()).max()
    };
    classes.iter().filter_map(|class| Some((length(class)?, class))).max_by_key(|(length, _)| *length).map(|(_, c)| c)
}
