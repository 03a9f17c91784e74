//! Rows in words. Identities are written as their pods' own labels, with the namespace unless it is `default`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use axoneme_admin::explain::{End, Explanation, Rule};
use axoneme_operator::index::{Index, labels};
use axoneme_operator::publish::journal::Journal;
use axoneme_operator::table::{EncodedRow, RowId};
use axoneme_proto::Scope;
use axoneme_proto::address::from_bytes;
use axoneme_proto::nodesync::Table;
use axoneme_proto::tables::{self, Action, AnyPeer, PolicyDirection, PortRule, Prefix, TierVerdict, peer_rules};
use prost::Message;

pub fn rows(journal: &Journal, index: &Index) -> BTreeSet<String> {
    journal.rows().flat_map(|(id, _, row)| lines(id, row, index)).collect()
}

pub fn scopes(node: &str, grant: &BTreeSet<Scope>, index: &Index) -> String {
    let text = |scope: &Scope| match scope {
        Scope::Policy(id) => format!("policy/{}", identity(*id, index)),
        Scope::Peers(id) => format!("peers/{}", identity(*id, index)),
        other => other.to_string(),
    };
    let needed = grant.iter().filter(|scope| matches!(scope, Scope::Policy(_) | Scope::Peers(_)));
    needed.map(text).fold(format!("scopes {node}:"), |line, scope| format!("{line} {scope}"))
}

fn lines(id: &RowId, row: &EncodedRow, index: &Index) -> Vec<String> {
    let payload = row.payload();
    match id.table {
        Table::Node => vec![node(&tables::Node::decode(payload).unwrap())],
        Table::Service => vec![service(&tables::Service::decode(payload).unwrap())],
        Table::Backends => vec![backends(&id.key, &tables::Backends::decode(payload).unwrap())],
        Table::Policy => policy(&id.scope, &tables::Policy::decode(payload).unwrap(), index),
        Table::Peer => {
            let peer = tables::Peer::decode(payload).unwrap();
            let who = identity(peer.identity, index);
            vec![format!("peer {}/{} {who} {} on {}", peer.namespace, peer.name, addresses(&peer.addresses), peer.node)]
        }
        Table::Endpoint => {
            let row = tables::Endpoint::decode(payload).unwrap();
            let who = identity(row.identity, index);
            let limit = |name: &str, bits: u64| if bits == 0 { String::new() } else { format!(" {name} {bits}") };
            let egress = limit("sends", row.egress_bits_per_second);
            let ingress = limit("gets", row.ingress_bits_per_second);
            let addresses = addresses(&row.addresses);
            vec![format!("endpoint {}/{} {who} {addresses} in {}{egress}{ingress}", row.namespace, row.name, id.scope)]
        }
        Table::Pool => {
            let pool = tables::Pool::decode(payload).unwrap();
            let cidrs: Vec<_> = pool.cidrs.iter().map(prefix).collect();
            let range = |r: &tables::AddressRange| format!("{}-{}", address(&r.first), address(&r.last));
            let reserve: Vec<_> = pool.reserve.iter().map(range).collect();
            vec![format!("pool {} in {} reserve {}", cidrs.join(" "), id.scope, reserve.join(" "))]
        }
        Table::Namespace => {
            let row = tables::Namespace::decode(payload).unwrap();
            let policy = if row.has_policy { "with policy" } else { "without policy" };
            vec![format!("namespace {} in {} {policy}", row.name, id.scope)]
        }
        Table::Settings => {
            let settings = tables::Settings::decode(payload).unwrap();
            let own = matches!(id.scope, Scope::Node(_));
            let at = if own { format!("settings in {}", id.scope) } else { "settings".to_owned() };
            let excluded = settings.no_masquerade.iter().map(|net| format!("{at} not masqueraded to {}", prefix(net)));
            let mtu = if settings.mtu == 0 { String::new() } else { format!(" MTU {}", settings.mtu) };
            let masquerades = if settings.masquerade_ipv4 { " masquerades IPv4" } else { "" };
            // Of the cluster's row, only what objects can change.
            excluded.chain(own.then(|| format!("{at}{mtu}{masquerades}"))).collect()
        }
        Table::Unspecified => Vec::new(),
    }
}

fn node(node: &tables::Node) -> String {
    let cidrs: Vec<_> = node.pod_cidrs.iter().map(prefix).collect();
    let (at, overlay) = (addresses(&node.addresses), addresses(&node.overlay_addresses));
    format!("node {} {at} overlay {overlay} pods {}", node.name, cidrs.join(" ")).trim_end().to_owned()
}

fn service(service: &tables::Service) -> String {
    let port = |port: &tables::ServicePort| {
        let at = if port.node_port == 0 { String::new() } else { format!(" at {}", port.node_port) };
        format!(" {}/{}:{}{at}", protocol(port.protocol), port.port, port.name)
    };
    let ports: String = service.ports.iter().map(port).collect();
    let mut text = format!("service {}/{} {}{ports}", service.namespace, service.name, addresses(&service.cluster_ips));
    let outside = [("external", &service.external_ips), ("load-balancer", &service.load_balancer_ips)];
    for (what, ips) in outside.into_iter().filter(|(_, ips)| !ips.is_empty()) {
        text.push_str(&format!(" {what} {}", addresses(ips)));
    }
    if service.internal_local {
        text.push_str(" local");
    }
    if service.external_local {
        text.push_str(" local outside");
    }
    if service.affinity_seconds != 0 {
        text.push_str(&format!(" for {}s", service.affinity_seconds));
    }
    text
}

fn backends(key: &str, row: &tables::Backends) -> String {
    let port = |port: &tables::BackendPort| format!(" {}/{}:{}", protocol(port.protocol), port.port, port.name);
    let backend = |b: &tables::Backend| {
        let state = format!("{:?}", b.state()).to_lowercase();
        let names = |what: &str, names: &[String]| match names {
            [] => String::new(),
            names => format!(" {what} {}", names.join("+")),
        };
        let hints = [names("for", &b.for_zones), names("near", &b.for_nodes)].concat();
        format!(" {} {state}{hints}", addresses(&b.addresses))
    };
    let ports: String = row.ports.iter().map(port).collect();
    let backends: Vec<String> = row.backends.iter().map(backend).collect();
    format!("backends {key} of {}{ports} ={}", row.service, backends.join(","))
}

fn policy(scope: &Scope, policy: &tables::Policy, index: &Index) -> Vec<String> {
    let subject = match scope {
        Scope::Node(_) => format!("policy in {scope}"),
        _ => format!("policy/{}", identity(policy.identity, index)),
    };
    assert!(policy.ingress.is_some() && policy.egress.is_some());
    let directions = [
        ("ingress", &policy.ingress),
        ("egress", &policy.egress),
        ("ingress if audited were enforced:", &policy.audited_ingress),
        ("egress if audited were enforced:", &policy.audited_egress),
    ];
    directions
        .into_iter()
        .filter_map(|(name, direction)| {
            let prefix = format!("{subject} {name}");
            Some(direction_lines(&prefix, direction.as_ref()?, &policy.policies, index))
        })
        .flatten()
        .collect()
}

fn direction_lines(start: &str, row: &PolicyDirection, policies: &[String], index: &Index) -> Vec<String> {
    let by = usize::try_from(row.isolated_by).unwrap().checked_sub(1).and_then(|at| policies.get(at));
    let mut lines = match row.enforced {
        true => vec![format!("{start} isolated by {}", by.map_or("nobody", |name| short(name)))],
        false => vec![format!("{start} open")],
    };
    for peer in &row.peers {
        let who = match peer.peer.as_ref().unwrap() {
            peer_rules::Peer::Identity(1) => "host".to_owned(),
            peer_rules::Peer::Identity(6) => "remote-nodes".to_owned(),
            peer_rules::Peer::Identity(id) => format!("pod[{}]", identity(*id, index)),
            peer_rules::Peer::Any(any) => match AnyPeer::try_from(*any).unwrap() {
                AnyPeer::Pod => "any-pod".to_owned(),
                AnyPeer::Node => "any-node".to_owned(),
                _ => "any-world".to_owned(),
            },
        };
        lines.extend(peer.rules.iter().map(|rule| format!("{start} {who} {}", rule_text(rule, policies))));
    }
    for class in &row.classes {
        for net in &class.prefixes {
            let net = prefix(net);
            let mut column = |whose: &str, rules: &[PortRule]| {
                if rules.is_empty() {
                    lines.push(format!("{start} cidr[{net}]{whose} nothing"));
                }
                lines.extend(
                    rules.iter().map(|rule| format!("{start} cidr[{net}]{whose} {}", rule_text(rule, policies))),
                );
            };
            if class.if_pod == class.if_world && class.if_node == class.if_world {
                column("", &class.if_world);
            } else {
                column(" of the world", &class.if_world);
                column(" of nodes", &class.if_node);
                column(" of pods", &class.if_pod);
            }
        }
    }
    lines
}

fn rule_text(rule: &PortRule, policies: &[String]) -> String {
    let ports = match (rule.protocol, rule.port_bits) {
        (0, _) => "any".to_owned(),
        (number, 0) => protocol(number).to_owned(),
        (number, 16) => format!("{}/{}", protocol(number), rule.port),
        (number, bits) => format!("{}/{}-{}", protocol(number), rule.port, rule.port + (1 << (16 - bits)) - 1),
    };
    let verdict = |verdict: &TierVerdict| {
        let action = match verdict.action() {
            Action::Allow => "allow",
            Action::Deny => "deny",
            Action::Pass => "pass",
            Action::None => "none",
        };
        format!("{action} {}", short(&policies[usize::try_from(verdict.policy).unwrap()]))
    };
    let verdicts: Vec<String> = rule.verdicts.iter().map(verdict).collect();
    format!("{ports} {}", verdicts.join(", then "))
}

fn short(policy: &str) -> &str {
    policy.strip_prefix("networkpolicy:").unwrap_or(policy)
}

pub fn identity(id: u32, index: &Index) -> String {
    let Some(object) = index.identity(id) else { return id.to_string() };
    let given = ["io.cilium.", "io.kubernetes."];
    let own = object.labels.iter().filter_map(|(key, value)| Some((key.strip_prefix(labels::SOURCE)?, value)));
    let own = own.filter(|(key, _)| !given.iter().any(|prefix| key.starts_with(prefix)));
    let text = own.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
    match object.labels.get("k8s:io.kubernetes.pod.namespace") {
        Some("default") | None => text,
        Some(namespace) => format!("{namespace}:{text}"),
    }
}

fn protocol(number: u32) -> &'static str {
    match number {
        1 => "icmp",
        2 => "igmp",
        58 => "icmpv6",
        6 => "tcp",
        17 => "udp",
        132 => "sctp",
        _ => "?",
    }
}

fn address(bytes: &[u8]) -> IpAddr {
    from_bytes(bytes).unwrap()
}

fn addresses(list: &[Vec<u8>]) -> String {
    list.iter().map(|bytes| address(bytes).to_string()).collect::<Vec<_>>().join(",")
}

fn prefix(prefix: &Prefix) -> String {
    let (address, length) = prefix.parse().unwrap();
    format!("{address}/{length}")
}

/// Without identities' numbers and revisions.
pub fn explanation(explanation: &Explanation) -> String {
    let verdict = |allowed| if allowed { "allowed" } else { "denied" };
    let mut lines = vec![verdict(explanation.allowed).to_owned()];
    for way in &explanation.ways {
        let address = |end: &End| end.address.clone().unwrap_or_else(|| "-".to_owned());
        let ends = [&way.from, &way.to].map(|end| format!("{} {} {}", end.kind, end.name, address(end)));
        lines.push(format!("{} -> {}, {}/{}: {}", ends[0], ends[1], way.port, way.protocol, verdict(way.allowed)));
        for (direction, side) in [("egress", &way.egress), ("ingress", &way.ingress)] {
            let Some(side) = side else { continue };
            let state = if side.enforced.in_force { "enforced" } else { "not yet enforced" };
            let (verdict, node) = (verdict(side.allowed), &side.enforced.node);
            lines.push(format!("  {direction} {verdict}, {}; {state} on {node}", side.because));
            lines.extend(side.audited.iter().map(|why| format!("    audited: {why}")));
            for Rule { tier, order, policy, field, action, decides } in &side.rules {
                let decides = if *decides { ", decides" } else { "" };
                lines.push(format!("    {tier} {order} {policy} {field} {action}{decides}"));
            }
        }
    }
    lines.extend(explanation.notes.iter().map(|note| format!("note: {note}")));
    lines.iter().map(|line| format!("{line}\n")).collect()
}
