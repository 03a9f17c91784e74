//! Whether packets of a flow would pass, and why: asked of the same index that rows are compiled from.

mod ends;
mod port;

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use axoneme_admin::explain::{Enforced, Explanation, Flow, Rule, Side, Way};
use axoneme_proto::tables::{Action, AnyPeer, PolicyMode, Tier};

use crate::compile::policy::{
    Because, Dealings, Decision, HOST, PacketPeer, REMOTE_NODE, Reading, RuleAsked, Subject, WORLD, host_row_id,
    policy_label, row_id,
};
use crate::index::Index;
use crate::object::{Direction, Name};
use crate::publish::acks::Acks;
use crate::publish::journal::Journal;
use crate::table::RowId;
use ends::{End, Named};
use port::Port;

/// More policies that isolate a pod or node are counted.
const ISOLATING: usize = 3;

/// A question that cannot be answered, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--{flag}: {message}")]
pub struct Unclear {
    /// What of the flow.
    pub flag: &'static str,
    /// What is wrong with it, and what would do.
    pub message: String,
}

impl Unclear {
    fn new(flag: &'static str, message: impl Into<String>) -> Self {
        Self { flag, message: message.into() }
    }
}

/// What an explanation is made of.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// All inputs.
    pub index: &'a Index,
    /// What becomes of pods that no policy isolates.
    pub mode: PolicyMode,
    /// Revisions of rows.
    pub journal: &'a Journal,
    /// Revisions that nodes have.
    pub acks: &'a Acks,
    /// Each pod's rows: its node's, and its peers'.
    pub published: &'a HashMap<Name, [Option<RowId>; 2]>,
}

impl Known<'_> {
    /// What becomes of a flow, and why.
    ///
    /// # Errors
    /// When it names what there is not, or what cannot be an end of a flow.
    pub fn explain(&self, flow: &Flow) -> Result<Explanation, Unclear> {
        let mut notes = Vec::new();
        let port = Port::parse(&flow.port).map_err(|message| Unclear::new("port", message))?;
        let from = self.named("from", &flow.from, &mut notes)?;
        let to = self.named("to", &flow.to, &mut notes)?;
        let mut pairs: Vec<(End, End, Port)> = Vec::new();
        match (from, to) {
            (Named::Service(_), _) => return Err(Unclear::new("from", "a service opens no connections: name a pod")),
            (Named::OwnNode, Named::Ends(to)) => {
                for to in to {
                    pairs.push((self.own_node("from", &to)?, to, port));
                }
            }
            (Named::OwnNode, _) => return Err(Unclear::new("from", "\"host\" is the node of the pod that --to names")),
            (Named::Ends(from), Named::OwnNode) => {
                for from in from {
                    pairs.push((from.clone(), self.own_node("to", &from)?, port));
                }
            }
            (Named::Ends(from), Named::Ends(to)) => {
                let all = from.iter().flat_map(|from| to.iter().map(move |to| (from.clone(), to.clone(), port)));
                pairs.extend(all);
            }
            (Named::Ends(from), Named::Service(service)) => {
                let behind = self.backends(&service, port, &mut notes)?;
                let all =
                    from.iter().flat_map(|from| behind.iter().map(move |(to, port)| (from.clone(), to.clone(), *port)));
                pairs.extend(all);
            }
        }
        let mut ways = Vec::new();
        for (from, to, port) in pairs {
            ways.push(self.way(&from, &to, port, &mut notes)?);
        }
        notes.dedup();
        let allowed = !ways.is_empty() && ways.iter().all(|way| way.allowed);
        Ok(Explanation { allowed, revision: self.journal.revision(), ways, notes })
    }

    fn way(&self, from: &End, to: &End, port: Port, notes: &mut Vec<String>) -> Result<Way, Unclear> {
        let (source, destination) = addresses(from, to, port)?;
        if (from.scope, to.scope) != (AnyPeer::Pod, AnyPeer::Pod) && [source, destination].contains(&None) {
            let message = "rules that name addresses, nodes by labels, the API server or services without selectors are not \
                           asked about an end without an address: give one to ask them";
            notes.push(message.to_owned());
        }
        let (egress, ingress) = if from.is(to) {
            let what = if from.pod.is_some() { "pod" } else { "node" };
            notes.push(format!("policies have no say in what a {what} sends to itself"));
            (None, None)
        } else {
            (
                self.side(from, to, destination, Direction::Egress, port),
                self.side(to, from, source, Direction::Ingress, port),
            )
        };
        let allowed = egress.iter().chain(&ingress).all(|side| side.allowed);
        let protocol = port.to_string();
        let (from, to) = (from.show(self.index, source), to.show(self.index, destination));
        Ok(Way { from, to, protocol, port: port.number, allowed, egress, ingress })
    }

    /// What the policies of `subject` say of a packet between it and `other`; none: no policy is about it.
    fn side(
        &self,
        subject: &End,
        other: &End,
        address: Option<IpAddr>,
        direction: Direction,
        port: Port,
    ) -> Option<Side> {
        let (policies, row) = self.policies(subject)?;
        let identity_of_other = match other.scope {
            AnyPeer::Node if other.node.is_some() && other.node == subject.node => Some(HOST),
            AnyPeer::Node => Some(REMOTE_NODE),
            AnyPeer::World => Some(WORLD),
            _ => other.identity,
        };
        let peer = PacketPeer { scope: other.scope, identity: identity_of_other, address };
        let decide = |reading| {
            let dealings = if direction == Direction::Egress && subject.runs(other) {
                Dealings::of_own_node()
            } else {
                Dealings::of(&policies, self.index, self.mode, direction, peer, reading)
            };
            dealings.decide(port.protocol, port.number)
        };
        let decision = decide(Reading::Enforced);
        let audits = policies.policies.iter().any(|policy| policy.parsed.audits);
        let audited = audits.then(|| decide(Reading::Audited)).filter(|audited| decision.allowed && !audited.allowed);
        let decisive = decision.rules.iter().find(|asked| asked.decides);
        let policy = match decision.because {
            Because::Isolated => decision.isolating.first().map(|part| policy_label(&part.policy)),
            _ => decisive.map(|asked| asked.source.label()),
        };
        Some(Side {
            allowed: decision.allowed,
            because: because(&decision, subject),
            policy,
            rule: decisive.map(|asked| asked.rule.field.to_string()),
            rules: decision.rules.iter().map(shown).collect(),
            audited: audited.as_ref().map(|audited| because(audited, subject)),
            enforced: self.enforced(subject, other, row),
        })
    }

    /// The policies of a pod or of a named node, and the row that they make.
    fn policies(&self, subject: &End) -> Option<(Subject<'_>, RowId)> {
        match (&subject.pod, subject.identity, &subject.node) {
            (Some(_), Some(identity), _) => Some((self.index.subject(identity)?, row_id(identity))),
            (None, _, Some(node)) if self.mode != PolicyMode::Never => {
                Some((self.index.host_subject(node)?, host_row_id(node)))
            }
            _ => None,
        }
    }

    fn enforced(&self, subject: &End, other: &End, policy: RowId) -> Enforced {
        let row = |end: &End, row: usize| self.published.get(end.pod.as_ref()?)?[row].clone();
        let rows = [Some(policy), row(subject, 0), row(other, 1)];
        let revision = rows.iter().flatten().filter_map(|id| self.journal.revision_of(id)).max().unwrap_or(0);
        let node = subject.node.as_deref().unwrap_or_default();
        let follower = self.acks.followers(Instant::now()).into_iter().find(|follower| follower.node == node);
        let applied = follower.filter(|follower| follower.connected).map(|follower| follower.applied);
        let in_force = applied.is_some_and(|applied| revision > 0 && applied >= revision);
        Enforced { node: node.to_owned(), revision, applied, in_force }
    }
}

/// The addresses that the two ends have in a packet: of one family.
fn addresses(from: &End, to: &End, port: Port) -> Result<(Option<IpAddr>, Option<IpAddr>), Unclear> {
    let fits = |address: &&IpAddr| port.family_v6().is_none_or(|v6| v6 == address.is_ipv6());
    let (sources, destinations) = (&from.addresses, &to.addresses);
    let mut pairs = destinations.iter().filter(fits).filter_map(|to| {
        let same = sources.iter().find(|from| from.is_ipv6() == to.is_ipv6()).copied();
        (same.is_some() || sources.is_empty()).then_some((same, Some(*to)))
    });
    match pairs.next() {
        Some(pair) => Ok(pair),
        None if destinations.is_empty() => Ok((sources.iter().find(fits).copied(), None)),
        None => {
            let message = format!("{} and {} have no addresses of one family for {port}", from.name, to.name);
            Err(Unclear::new("to", message))
        }
    }
}

fn because(decision: &Decision<'_>, subject: &End) -> String {
    let what = if subject.pod.is_some() { "pod" } else { "node" };
    match decision.because {
        Because::Rule => {
            let said = |asked: &RuleAsked<'_>| {
                let verb = if decision.allowed { "allows" } else { "denies" };
                format!("{} of {} {verb} it", asked.rule.field, asked.source.label())
            };
            decision.rules.iter().find(|asked| asked.decides).map(said).unwrap_or_default()
        }
        Because::Isolated => {
            let mut names: Vec<_> = decision.isolating.iter().map(|part| policy_label(&part.policy)).collect();
            names.dedup();
            let (more, verb) =
                (names.len().saturating_sub(ISOLATING), if names.len() == 1 { "isolates" } else { "isolate" });
            names.truncate(ISOLATING);
            names.extend((more > 0).then(|| format!("{more} more")));
            format!("{} {verb} the {what}, and no rule allows it", names.join(" and "))
        }
        Because::Always => "policyEnforcementMode is always, and no rule allows it".to_owned(),
        Because::NotIsolated => format!("no policy isolates the {what}"),
        Because::Never => "policyEnforcementMode is never".to_owned(),
        Because::OwnNode => "a node always reaches the pods that it runs".to_owned(),
    }
}

fn shown(asked: &RuleAsked<'_>) -> Rule {
    let verdict = asked.rule.verdict;
    let tier = match verdict.tier {
        Tier::Admin => "admin",
        Tier::Normal => "normal",
        Tier::Baseline => "baseline",
    };
    let action = match verdict.action {
        Action::Allow => "allow",
        Action::Deny => "deny",
        Action::Pass => "pass",
        Action::None => "none",
    };
    Rule {
        tier: tier.to_owned(),
        order: verdict.order,
        policy: asked.source.label(),
        field: asked.rule.field.to_string(),
        action: action.to_owned(),
        decides: asked.decides,
    }
}
