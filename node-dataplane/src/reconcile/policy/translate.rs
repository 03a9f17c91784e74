//! A policy row as map entries. Pure: no slot, no generation, no kernel.

use std::hash::Hasher;

use axoneme_bpf::inet::Direction;
use axoneme_bpf::policy::{
    Action, Policy, PolicyClass, PolicyClassKey, PolicyFlags, PolicyRuleKey, RulePeer, RulePorts, TIERS, TierVerdict,
    Verdicts,
};
use axoneme_proto::tables::{self, AnyPeer, PortRule, peer_rules::Peer};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::desired::rows::{InvalidRow, narrow, prefix};

/// Entries of one subject under slot 0; [`Compiled::rules`] and [`Compiled::classes`] are given another one when written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// What is enforced.
    pub flags: PolicyFlags,
    /// Cookie of the policy that isolates ingress.
    pub ingress_cookie: u32,
    /// Cookie of the policy that isolates egress.
    pub egress_cookie: u32,
    /// Entries of `ax_policy_rules`.
    pub rules: Vec<(PolicyRuleKey, Verdicts)>,
    /// Entries of `ax_policy_classes`.
    pub classes: Vec<(PolicyClassKey, PolicyClass)>,
    /// Identities that are listed as peers, sorted.
    pub listed: Vec<u32>,
}

/// The number by which the kernel knows a policy; it has a name for people in the policy reconciler.
#[must_use]
pub fn cookie(policy: &str) -> u32 {
    // 0 means none.
    (xxh3_64(policy.as_bytes()) as u32).max(1)
}

/// Translates a row.
///
/// # Errors
/// When it makes no sense: then nothing of it is to be applied.
pub fn compile(row: &tables::Policy) -> Result<Compiled, InvalidRow> {
    let cookies: Vec<u32> = row.policies.iter().map(|name| cookie(name)).collect();
    let mut out = Compiled::default();
    let mut classes = 0;
    let directions = [(Direction::INGRESS, row.ingress.as_ref()), (Direction::EGRESS, row.egress.as_ref())];
    for (direction, rules) in directions {
        let Some(rules) = rules else { continue };
        let isolated_by = match rules.isolated_by {
            0 => 0,
            index => cookie_at(&cookies, index - 1)?,
        };
        let flag = if direction == Direction::INGRESS {
            out.ingress_cookie = isolated_by;
            PolicyFlags::ENFORCE_INGRESS
        } else {
            out.egress_cookie = isolated_by;
            PolicyFlags::ENFORCE_EGRESS
        };
        if rules.enforced {
            out.flags |= flag;
        }
        for peer in &rules.peers {
            out.peer(direction, peer, &cookies)?;
        }
        for class in &rules.classes {
            out.class(direction, class, &cookies, &mut classes)?;
        }
    }
    out.listed.sort_unstable();
    out.listed.dedup();
    Ok(out)
}

impl Compiled {
    fn peer(&mut self, direction: Direction, row: &tables::PeerRules, cookies: &[u32]) -> Result<(), InvalidRow> {
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
        cookies: &[u32],
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
        cookies: &[u32],
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
        Policy {
            slot,
            generation,
            flags: self.flags,
            ingress_cookie: self.ingress_cookie,
            egress_cookie: self.egress_cookie,
            reserved: [0; 3],
        }
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

fn verdicts(rule: &PortRule, cookies: &[u32]) -> Result<Verdicts, InvalidRow> {
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
        let cookie = cookie_at(cookies, verdict.policy)?;
        out.tiers[tier] = TierVerdict { order: verdict.order, cookie, action, ..TierVerdict::default() };
    }
    Ok(out)
}

fn cookie_at(cookies: &[u32], index: u32) -> Result<u32, InvalidRow> {
    let cookie = usize::try_from(index).ok().and_then(|index| cookies.get(index));
    cookie.copied().ok_or(InvalidRow::Range { field: "policy index", value: index })
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
