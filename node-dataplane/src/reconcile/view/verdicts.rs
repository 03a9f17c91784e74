//! What programs told of single packets, in words.

use std::net::IpAddr;
use std::num::NonZero;

use axoneme_admin::verdict::{End, Outcome, Policy, Verdict};
use axoneme_bpf::event::{EventFlags, EventKind};
use axoneme_bpf::identity::Identity;
use axoneme_bpf::inet::{Direction, Family, Inet};
use axoneme_proto::{Scope, Table};
use time::OffsetDateTime;
use time::format_description::well_known::Iso8601;
use time::format_description::well_known::iso8601::{Config, EncodedConfig, TimePrecision};

use crate::observe::reason;
use crate::observe::verdicts::Told;
use crate::reconcile::Engine;
use crate::reconcile::policy::names::Origin;

/// As RFC 3339 has it, too.
const MILLISECONDS: EncodedConfig =
    Config::DEFAULT.set_time_precision(TimePrecision::Second { decimal_digits: NonZero::new(3) }).encode();

impl Engine {
    /// What was told, with the names of pods and nodes that are known now, and of policies where they were not known when it was read.
    #[must_use]
    pub fn view_verdicts(&self, told: &[Told]) -> Vec<Verdict> {
        let local: Vec<(u32, IpAddr, String)> = self.local_pods();
        let pod = |identity: u32, address: Option<IpAddr>| {
            let address = address?;
            let known = local.iter().find(|(id, of, _)| *id == identity && *of == address);
            known.map(|(_, _, name)| name.clone()).or_else(|| self.desired.peer_name(identity, address))
        };
        let node = |identity: u32, address: Option<IpAddr>| {
            let counts = [Identity::HOST.0, Identity::REMOTE_NODE.0].contains(&identity);
            let (_, name) = self.desired.index().node_address(address.filter(|_| counts)?)?;
            Some(name.to_owned())
        };
        let names = self.names();
        // A daemon that was killed before its last checkpoint learns what its programs' cookies mean from an operator.
        let origin = |told: &Told| told.origin.clone().or_else(|| names.get(told.event.cookie));
        let end = |family: Family, address: Inet, port: u16, identity: u32| {
            let address = address.to_ip(family);
            let (pod, node) = (pod(identity, address), node(identity, address));
            End { address: address.map(|address| address.to_string()).unwrap_or_default(), port, identity, pod, node }
        };
        told.iter().map(|told| verdict(told, origin(told).as_deref(), &end)).collect()
    }

    fn local_pods(&self) -> Vec<(u32, IpAddr, String)> {
        let scope = Scope::Node(self.desired.node_name().to_owned());
        let rows = self.desired.store().table(&scope, Table::Endpoint);
        let pods = rows.filter_map(|(id, _)| self.desired.endpoint(&id.key));
        pods.flat_map(|pod| {
            let name = format!("{}/{}", pod.namespace, pod.name);
            pod.addresses.into_iter().map(move |address| (pod.identity, address, name.clone()))
        })
        .collect()
    }
}

fn verdict(told: &Told, origin: Option<&Origin>, end: &impl Fn(Family, Inet, u16, u32) -> End) -> Verdict {
    let event = &told.event;
    let outcome = match event.kind {
        EventKind::ALLOW => Outcome::Allowed,
        EventKind::AUDIT => Outcome::Audited,
        _ => Outcome::Dropped,
    };
    let text = || reason::text(event.reason).map_or_else(|| event.reason.to_string(), str::to_owned);
    Verdict {
        number: told.number,
        time: OffsetDateTime::from(told.time).format(&Iso8601::<MILLISECONDS>).unwrap_or_default(),
        outcome,
        reason: if outcome == Outcome::Allowed { String::new() } else { text() },
        direction: if event.direction == Direction::NONE { String::new() } else { event.direction.to_string() },
        reply: event.flags.contains(EventFlags::REPLY),
        protocol: protocol(event.protocol),
        source: end(event.family, event.source, event.source_port.get(), event.source_identity),
        destination: end(event.family, event.destination, event.destination_port.get(), event.destination_identity),
        policy: origin.map(policy),
    }
}

fn policy(origin: &Origin) -> Policy {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Policy { rule: some(&origin.rule), log: some(&origin.log), ..Policy::named(&origin.policy) }
}

fn protocol(number: u8) -> String {
    match number {
        1 => "ICMP".to_owned(),
        2 => "IGMP".to_owned(),
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        58 => "ICMPv6".to_owned(),
        112 => "VRRP".to_owned(),
        132 => "SCTP".to_owned(),
        number => number.to_string(),
    }
}
