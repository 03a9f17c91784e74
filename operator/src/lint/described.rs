//! What rules open beyond what is said of them.
//!
//! Of ports, pods and addresses each is judged only if the description names some, and then by exactly these. A description that
//! speaks of all of them is not judged.

use std::collections::BTreeSet;
use std::sync::Arc;

use axoneme_proto::tables::{Action, AnyPeer};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::asked::Rule;
use super::classes::outside;
use super::peers::Inhabitants;
use super::words::{Said, Spoken};
use crate::compile::policy::{ParsedPeer, PeerView, PortKey};
use crate::diff::Ports;
use crate::index::{Index, labels};
use crate::object::{Labels, Name};

/// More pods are counted.
const NAMED: usize = 3;
/// Whoever opens anything by name needs this; few say so.
const DNS: u16 = 53;

/// What there is to judge by.
pub(super) struct Judge<'a> {
    pub(super) said: &'a Said,
    /// Identities that the rule's policy selects.
    pub(super) subjects: &'a [u32],
    pub(super) index: &'a Index,
    pub(super) inhabitants: &'a Inhabitants,
    pub(super) namespaces: &'a BTreeSet<Arc<str>>,
}

impl Judge<'_> {
    /// What `rule` opens that is not spoken of, each in words.
    pub(super) fn beyond(&self, rule: &Rule<'_>) -> Vec<String> {
        let direction = self.said.direction.is_none_or(|direction| direction == rule.direction);
        let keys = &rule.parsed.ports.keys;
        let dns = !keys.is_empty() && keys.iter().all(|key| key.port == DNS && key.bits == 16);
        if !direction || dns || rule.parsed.verdict.action != Action::Allow || rule.parsed.peers.is_empty() {
            return Vec::new();
        }
        [self.ports(keys), self.pods(rule), self.addresses(rule)].into_iter().flatten().collect()
    }

    fn ports(&self, keys: &[PortKey]) -> Option<String> {
        if self.said.all_ports || self.said.ports.is_empty() {
            return None;
        }
        // Who names ports does not speak of what has none.
        let keys: Vec<PortKey> = keys.iter().filter(|key| matches!(key.protocol, 0 | 6 | 17 | 132)).copied().collect();
        let spoken = || self.said.ports.iter().chain(&self.said.services);
        let is_spoken = |(of, first, last): &Spoken, protocol, port| {
            of.is_none_or(|of| of == protocol) && (*first..=*last).contains(&port)
        };
        let told = spoken().flat_map(|(of, first, last)| ranges(*of, *first, *last));
        let beyond = Ports::of(keys.iter().copied().chain(told), |protocol, port| {
            let packet = PortKey { protocol, port, bits: 16 };
            keys.iter().any(|key| key.contains(&packet)) && !spoken().any(|spoken| is_spoken(spoken, protocol, port))
        });
        (!beyond.is_empty()).then(|| format!("ports {beyond}"))
    }

    fn pods(&self, rule: &Rule<'_>) -> Option<String> {
        let own = &*rule.part.policy.name.namespace;
        let spoken: BTreeSet<&str> = self.said.namespaces.iter().map(|name| &**name).collect();
        let namespaces: BTreeSet<&str> =
            self.namespaces.iter().map(|name| &**name).filter(|name| spoken.contains(name)).collect();
        let labels: BTreeSet<&(String, String)> =
            self.said.labels.iter().filter(|label| self.of_some_peer(label)).collect();
        let judged = !labels.is_empty() || namespaces.iter().any(|name| *name != own);
        if self.said.everybody || !judged || self.subjects.is_empty() {
            return None;
        }
        let is_spoken_of = |id: &u32| {
            let Some(identity) = self.index.identity(*id) else { return true };
            let namespace =
                identity.labels.get(&format!("{}{}", labels::SOURCE, labels::NAMESPACE)).unwrap_or_default();
            let at_home = namespace == own;
            labels.iter().any(|label| has(&identity.labels, label))
                || if at_home { labels.is_empty() } else { namespaces.contains(namespace) }
        };
        let beyond = self.peers(rule).into_iter().filter(|id| !is_spoken_of(id));
        let pods: BTreeSet<&Name> = beyond.flat_map(|id| self.index.pods_of(id)).collect();
        let more = pods.len().saturating_sub(NAMED);
        let more = (more > 0).then(|| format!("{more} more"));
        let named: Vec<String> = pods.iter().take(NAMED).map(ToString::to_string).chain(more).collect();
        (!named.is_empty()).then(|| format!("pods {}", named.join(", ")))
    }

    /// Whether a label is some pod's, and not what all have whom the policy selects: that is spoken of, but not as a peer.
    fn of_some_peer(&self, label: &(String, String)) -> bool {
        let is = |id: &u32| self.index.identity(*id).is_some_and(|identity| has(&identity.labels, label));
        self.inhabitants.identities.iter().any(is) && !self.subjects.iter().all(is)
    }

    /// The identities of pods that a rule names other than by addresses.
    fn peers(&self, rule: &Rule<'_>) -> BTreeSet<u32> {
        let mut all = BTreeSet::new();
        for peer in &rule.parsed.peers {
            match peer {
                ParsedPeer::Everything | ParsedPeer::Scope(AnyPeer::Pod) => all.extend(&self.inhabitants.identities),
                ParsedPeer::Selected(selector) => all.extend(self.index.selected(selector)),
                ParsedPeer::Services(services) => all.extend(self.index.behind(services)),
                _ => {}
            }
        }
        all
    }

    fn addresses(&self, rule: &Rule<'_>) -> Option<String> {
        if self.said.everybody || self.said.nets.is_empty() {
            return None;
        }
        let everything: [IpNet; 2] = [Ipv4Net::default().into(), Ipv6Net::default().into()];
        let beyond = rule.parsed.peers.iter().find_map(|peer| {
            let (nets, except) = match peer {
                ParsedPeer::Everything | ParsedPeer::Scope(AnyPeer::World) => (everything.to_vec(), &[][..]),
                ParsedPeer::Block { cidr, except, .. } => (vec![*cidr], &**except),
                ParsedPeer::Groups { groups, except, .. } => (self.index.cidrs(groups), &**except),
                _ => return None,
            };
            let allowed: Vec<IpNet> = self.said.nets.iter().chain(except).copied().collect();
            nets.iter().any(|net| outside(*net, &allowed).is_some()).then_some(nets)
        })?;
        if beyond == everything {
            return Some("all addresses".to_owned());
        }
        let beyond: Vec<String> =
            beyond.iter().filter(|net| !self.said.nets.contains(net)).map(ToString::to_string).collect();
        Some(format!("addresses of {}", beyond.join(", ")))
    }
}

/// Whether security labels contain a label as people write it: a pod's own, or its namespace's.
fn has(labels: &Labels, (key, value): &(String, String)) -> bool {
    let key = key.strip_prefix(labels::SOURCE).unwrap_or(key);
    let own = labels.get(&format!("{}{key}", labels::SOURCE));
    [own, labels.get(&labels::namespace_key(key))].contains(&Some(value))
}

fn ranges(protocol: Option<u8>, first: u16, last: u16) -> Vec<PortKey> {
    let known = crate::object::Protocol::ALL.into_iter();
    known
        .filter(|known| protocol.is_none_or(|protocol| protocol == known.number()))
        .flat_map(|known| PortKey::range(known, first, last))
        .collect()
}
