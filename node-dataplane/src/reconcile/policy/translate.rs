//! A policy row as map entries. Pure: no slot, no generation, no kernel.

use std::hash::Hasher;

use axoneme_bpf::inet::Direction;
use axoneme_bpf::policy::{
    Action, Policy, PolicyClass, PolicyClassKey, PolicyFlags, PolicyRuleKey, RulePeer, RulePorts, TIERS, TierVerdict,
    Verdicts,
};
use axoneme_proto::tables::{self, AnyPeer, PortRule, peer_rules::Peer};
use xxhash_rust::xxh3::Xxh3;

use super::names::Cookies;
use crate::desired::rows::{InvalidRow, narrow, prefix};

/// Entries of one subject under slot 0; [`Compiled::rules`] and [`Compiled::classes`] are given another one when written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// The entry of `ax_policies`, without slot and generation.
    pub entry: Policy,
    /// Entries of `ax_policy_rules`.
    pub rules: Vec<(PolicyRuleKey, Verdicts)>,
    /// Entries of `ax_policy_classes`.
    pub classes: Vec<(PolicyClassKey, PolicyClass)>,
    /// Identities that are listed as peers, sorted.
    pub listed: Vec<u32>,
}

/// Translates a row.
///
/// # Errors
/// When it makes no sense: then nothing of it is to be applied.
pub fn compile(row: &tables::Policy) -> Result<Compiled, InvalidRow> {
    let cookies = Cookies::of(row)?;
    let mut out = Compiled::default();
    let mut classes = 0;
    let directions = [
        (Direction::INGRESS, PolicyFlags::ENFORCE_INGRESS, &row.ingress),
        (Direction::EGRESS, PolicyFlags::ENFORCE_EGRESS, &row.egress),
        (Direction::AUDITED_INGRESS, PolicyFlags::AUDIT_INGRESS, &row.audited_ingress),
        (Direction::AUDITED_EGRESS, PolicyFlags::AUDIT_EGRESS, &row.audited_egress),
    ];
    for (direction, flag, rules) in directions {
        let Some(rules) = rules else { continue };
        *match direction {
            Direction::INGRESS => &mut out.entry.ingress_cookie,
            Direction::EGRESS => &mut out.entry.egress_cookie,
            Direction::AUDITED_INGRESS => &mut out.entry.audited_ingress_cookie,
            _ => &mut out.entry.audited_egress_cookie,
        } = cookies.isolating(rules.isolated_by)?;
        if rules.enforced {
            out.entry.flags |= flag;
        }
        for peer in &rules.peers {
            out.peer(direction, peer, &cookies)?;
        }
        for class in &rules.classes {
            out.class(direction, class, &cookies, &mut classes)?;
        }
    }
    if row.audited_ingress.is_some() || row.audited_egress.is_some() {
        out.entry.flags |= PolicyFlags::AUDITS;
    }
    out.listed.sort_unstable();
    out.listed.dedup();
    Ok(out)
}

impl Compiled {
    fn peer(&mut self, direction: Direction, row: &tables::PeerRules, cookies: &Cookies) -> Result<(), InvalidRow> {
        let peer = match row.peer {
            Some(Peer::Identity(identity)) if identity & RulePeer::CLASS == 0 => {
                self.listed.push(identity);
                // The kernel takes the any-row of the scope when an identity has no row that fits, but a listed identity
                // is complete: what its rules do not mention must be found, and say nothing.
                if !row.rules.iter().any(|rule| rule.protocol == 0) {
                    let key = PolicyRuleKey::new(0, RulePeer::identity(identity), direction, RulePorts::Any);
                    self.rules.push((key, Verdicts::default()));
                }
                RulePeer::identity(identity)
            }
            Some(Peer::Identity(identity)) => return Err(InvalidRow::Range { field: "identity", value: identity }),
            Some(Peer::Any(any)) => match AnyPeer::try_from(any) {
                Ok(AnyPeer::Pod) => RulePeer::ANY_POD,
                Ok(AnyPeer::Node) => RulePeer::ANY_NODE,
                Ok(AnyPeer::World) => RulePeer::ANY_WORLD,
                _ => return Err(InvalidRow::Unknown { field: "any-peer", value: any }),
            },
            None => return Err(InvalidRow::Contradiction("rules without a peer".into())),
        };
        self.rules_of(direction, peer, &row.rules, cookies)
    }

    fn class(
        &mut self,
        direction: Direction,
        row: &tables::CidrClass,
        cookies: &Cookies,
        classes: &mut u32,
    ) -> Result<(), InvalidRow> {
        let mut number = |rules: &[PortRule]| -> Result<u32, InvalidRow> {
            if rules.is_empty() {
                return Ok(0);
            }
            *classes += 1;
            self.rules_of(direction, RulePeer::class(*classes), rules, cookies)?;
            Ok(*classes)
        };
        let if_pod = number(&row.if_pod)?;
        let mut same = |rules: &Vec<PortRule>, others: &[(&Vec<PortRule>, u32)]| match others
            .iter()
            .find(|(other, _)| *other == rules)
        {
            Some((_, class)) => Ok(*class),
            None => number(rules),
        };
        let if_node = same(&row.if_node, &[(&row.if_pod, if_pod)])?;
        let if_world = same(&row.if_world, &[(&row.if_pod, if_pod), (&row.if_node, if_node)])?;
        let value = PolicyClass { if_pod, if_node, if_world, reserved: 0 };
        for net in &row.prefixes {
            let net = prefix(net)?;
            self.classes.push((PolicyClassKey::new(0, direction, net.addr(), net.prefix_len()), value));
        }
        Ok(())
    }

    fn rules_of(
        &mut self,
        direction: Direction,
        peer: RulePeer,
        rules: &[PortRule],
        cookies: &Cookies,
    ) -> Result<(), InvalidRow> {
        for rule in rules {
            self.rules.push((PolicyRuleKey::new(0, peer, direction, ports(rule)?), verdicts(rule, cookies)?));
        }
        Ok(())
    }

    /// A number that differs when what the kernel shall hold differs, whatever the slot.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let rules = self.rules.iter().map(|(key, value)| rule_fingerprint(key, value));
        let classes = self.classes.iter().map(|(key, value)| class_fingerprint(key, value));
        rules.chain(classes).fold(0, |all, one| all ^ one)
    }

    /// The entry of `ax_policies`.
    #[must_use]
    pub fn policy(&self, slot: u32, generation: u32) -> Policy {
        Policy { slot, generation, ..self.entry }
    }
}

fn ports(rule: &PortRule) -> Result<RulePorts, InvalidRow> {
    let bits: u8 = narrow("port bits", rule.port_bits)?;
    let port: u16 = narrow("port", rule.port)?;
    let protocol: u8 = narrow("protocol", rule.protocol)?;
    match (protocol, bits) {
        (0, 0) => Ok(RulePorts::Any),
        (0, _) | (_, 17..) => Err(InvalidRow::Range { field: "port bits", value: rule.port_bits }),
        _ => Ok(RulePorts::Prefix { protocol, port, bits }),
    }
}

fn verdicts(rule: &PortRule, cookies: &Cookies) -> Result<Verdicts, InvalidRow> {
    let mut out = Verdicts::default();
    for verdict in &rule.verdicts {
        let unknown_tier = InvalidRow::Unknown { field: "tier", value: verdict.tier };
        let tier = usize::try_from(verdict.tier).ok().filter(|tier| *tier < TIERS).ok_or(unknown_tier)?;
        let action = match tables::Action::try_from(verdict.action) {
            Ok(tables::Action::None) => Action::NONE,
            Ok(tables::Action::Allow) => Action::ALLOW,
            Ok(tables::Action::Deny) => Action::DENY,
            Ok(tables::Action::Pass) => Action::PASS,
            Err(_) => return Err(InvalidRow::Unknown { field: "action", value: verdict.action }),
        };
        let cookie = cookies.deciding(verdict)?;
        out.tiers[tier] = TierVerdict { order: verdict.order, cookie, action, ..TierVerdict::default() };
    }
    Ok(out)
}

/// Fingerprint of one rule, whatever its slot.
#[must_use]
pub fn rule_fingerprint(key: &PolicyRuleKey, value: &Verdicts) -> u64 {
    let mut hash = Xxh3::new();
    hash.write_u32(key.prefixlen);
    hash.write_u32(key.peer.0);
    hash.write_u8(key.direction.0);
    hash.write_u8(key.protocol);
    hash.write_u16(key.port.0);
    for tier in &value.tiers {
        hash.write_u32(tier.order);
        hash.write_u32(tier.cookie);
        hash.write_u8(tier.action.0);
    }
    hash.finish()
}

/// Fingerprint of one class, whatever its slot.
#[must_use]
pub fn class_fingerprint(key: &PolicyClassKey, value: &PolicyClass) -> u64 {
    let mut hash = Xxh3::with_seed(1);
    hash.write_u32(key.prefixlen);
    hash.write_u8(key.direction.0);
    hash.write_u8(key.family.0);
    hash.write(&key.address.bytes);
    hash.write_u32(value.if_pod);
    hash.write_u32(value.if_node);
    hash.write_u32(value.if_world);
    hash.finish()
}
