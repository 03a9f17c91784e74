//! One ClusterNetworkPolicy, read and checked.

use std::sync::Arc;

use axoneme_proto::tables::{Action, Tier};

use super::parse::{Parser, known};
use super::parsed::{ParsedDirection, ParsedPeer, ParsedPolicy, ParsedRule, Subjects, Verdict};
use super::ports::{PortKey, PortSet};
use crate::engine::{Diagnostic, Reason};
use crate::object::{ClusterNetworkPolicy, Direction, Peer, Selector, TieredPeer, TieredRule};

/// So many rules of one direction have orders of their own; the API allows 25.
const RULES: u32 = 256;

/// Reads `policy`. A part without a meaning makes a rule that accepts match nothing, and any other deny everything: so the API has it.
#[must_use]
pub fn parse(policy: &ClusterNetworkPolicy) -> (ParsedPolicy, Vec<Diagnostic>) {
    let mut parser = Parser::clusterwide();
    let tier = match &*policy.tier {
        "Admin" => Tier::Admin,
        "Baseline" => Tier::Baseline,
        other => {
            let message = format!("{other:?} is no tier (Admin, Baseline): it counts as Admin");
            parser.invalid("spec.tier".into(), message);
            Tier::Admin
        }
    };
    let (subject, understood) = parser.clusterwide_subject("spec.subject", &policy.subject);
    let mut direction = |direction: Direction, list: &[TieredRule]| {
        let name = if direction == Direction::Ingress { "ingress" } else { "egress" };
        let rules = (0..).zip(list).map(|(i, rule)| {
            let order = order(policy.priority, i);
            self::rule(&mut parser, &format!("spec.{name}[{i}]"), direction, (tier, order), rule)
        });
        let counts = |rule: &ParsedRule| understood || rule.verdict.action != Action::Allow;
        ParsedDirection { isolates: false, rules: rules.filter(counts).collect() }
    };
    let (ingress, egress) =
        (direction(Direction::Ingress, &policy.ingress), direction(Direction::Egress, &policy.egress));
    let (subjects, field) = (Subjects::Pods(subject), "spec.subject".into());
    let parsed = ParsedPolicy { subjects, field, ingress, egress, audits: policy.audits, log: None };
    (parsed, parser.into_diagnostics())
}

/// Of a rule at this place of its list. 0 is left to what goes before all policies (see [`super::emergency`]).
fn order(priority: i32, place: u32) -> u32 {
    u32::try_from(priority).unwrap_or(0).saturating_mul(RULES).saturating_add(1 + place.min(RULES - 1))
}

fn rule(
    parser: &mut Parser<'_>,
    field: &str,
    direction: Direction,
    (tier, order): (Tier, u32),
    rule: &TieredRule,
) -> ParsedRule {
    let (side, before) = (if direction == Direction::Ingress { "from" } else { "to" }, parser.invalid_so_far());
    let action = match &*rule.action {
        "Accept" => Action::Allow,
        "Deny" => Action::Deny,
        "Pass" => Action::Pass,
        other => {
            parser.invalid(format!("{field}.action"), format!("{other:?} is no action (Accept, Deny, Pass): denied"));
            Action::Deny
        }
    };
    let mut peers = Vec::new();
    for (i, peer) in rule.peers.iter().enumerate() {
        let field = format!("{field}.{side}[{i}]");
        match peer {
            TieredPeer::Peer(peer) => peers.extend(parser.peer(&field, peer)),
            TieredPeer::Nodes(nodes) => peers.push(ParsedPeer::Nodes(nodes.clone())),
            TieredPeer::DomainNames if action != Action::Allow => {
                parser.invalid(format!("{field}.domainNames"), "only a rule that accepts may name domains");
            }
            TieredPeer::DomainNames => {
                let message = "policy by DNS names comes with release 0.2: until then this matches nothing";
                parser.tell(Reason::NotImplemented, format!("{field}.domainNames"), message);
            }
            TieredPeer::Unknown => parser.invalid(field, "names no peer that is known"),
        }
    }
    let ports = parser.ports(field, &rule.ports);
    if parser.invalid_so_far() > before && action != Action::Allow {
        let verdict = Verdict { tier, order, action: Action::Deny };
        let ports = PortSet { keys: vec![PortKey::ANY], named: Vec::new() };
        return ParsedRule { field: field.into(), verdict, peers: vec![ParsedPeer::Everything], ports };
    }
    ParsedRule { field: field.into(), verdict: Verdict { tier, order, action }, peers, ports }
}

impl Parser<'_> {
    /// Whom a clusterwide policy is about, and whether that is clear. If not, it is about whom it could mean.
    fn clusterwide_subject(&mut self, field: &str, subject: &Peer) -> (Arc<Selector>, bool) {
        let before = self.invalid_so_far();
        let selector = match self.peer(field, subject) {
            Some(ParsedPeer::Selected(selector)) => selector,
            _ => Default::default(),
        };
        (known(&selector), self.invalid_so_far() == before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_count_by_priority_and_then_by_place_and_nothing_is_at_0() {
        let orders = [order(0, 0), order(0, 1), order(0, 255), order(1, 0), order(1000, 24)];
        assert!(orders.is_sorted_by(|a, b| a < b), "{orders:?}");
        assert!(orders[0] > 0);
        assert_eq!(order(0, 300), order(0, 255), "more than the API takes count together, before those of the next");
    }
}
