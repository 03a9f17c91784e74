//! The scope `cluster`: settings and nodes.

use std::collections::BTreeSet;

use axoneme_proto::Scope;
use axoneme_proto::nodesync::Table;
use axoneme_proto::tables;
use axoneme_proto::tables::Prefix;
use ipnet::IpNet;

use super::{Output, bytes_of, output};
use crate::index::Index;
use crate::object::{MasqueradeAgent, Override};
use crate::table::RowId;

/// `spec.addresses[].type` of a node's own address in the overlay.
pub const OVERLAY: &str = "CiliumInternalIP";

/// Label of nodes: where they stand.
const ZONE: &str = "topology.kubernetes.io/zone";

/// Destinations that see pods' own addresses where `ip-masq-agent` is asked for and lists none: Cilium's defaults.
const NOT_MASQUERADED: [&str; 11] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "240.0.0.0/4",
];

/// Link-local destinations, per family.
const LINK_LOCAL: [&str; 2] = ["169.254.0.0/16", "fe80::/10"];

/// The id of a node's own settings.
#[must_use]
pub fn node_settings_id(name: &str) -> RowId {
    RowId::new(Scope::Node(name.into()), Table::Settings, "")
}

/// A node's own settings, in place of the cluster's; none: it has the cluster's.
#[must_use]
pub fn node_settings(settings: &tables::Settings, index: &Index, agent: bool, name: &str) -> Option<Output> {
    let node = index.node(name)?;
    let mut configs = index.node_configs(node).peekable();
    configs.peek()?;
    let mut row = merged(settings, index, agent);
    configs.flat_map(|config| &config.overrides).for_each(|one| put(one, &mut row));
    Some(output(node_settings_id(name), &row))
}

/// Puts a setting in place of the cluster's. A family that pods do not have is not masqueraded.
fn put(one: &Override, settings: &mut tables::Settings) {
    match one {
        Override::Mtu(mtu) => settings.mtu = *mtu,
        Override::MasqueradeIpv4(on) => settings.masquerade_ipv4 = *on && settings.ipv4,
        Override::MasqueradeIpv6(on) => settings.masquerade_ipv6 = *on && settings.ipv6,
        Override::DirectRoutes(on) => settings.auto_direct_node_routes = *on,
        Override::SkipUnreachable(on) => settings.direct_routes_skip_unreachable = *on,
        Override::NoMasquerade(net) => {
            let net = prefix(net);
            if !settings.no_masquerade.contains(&net) {
                settings.no_masquerade.push(net);
            }
        }
    }
}

/// The settings row; with `agent`, the ConfigMap `ip-masq-agent` adds to what is not masqueraded to.
#[must_use]
pub fn settings(settings: &tables::Settings, index: &Index, agent: bool) -> Output {
    output(RowId::new(Scope::Cluster, Table::Settings, ""), &merged(settings, index, agent))
}

fn merged(settings: &tables::Settings, index: &Index, agent: bool) -> tables::Settings {
    let mut row = settings.clone();
    if agent {
        let all = row.no_masquerade.iter().filter_map(net).chain(not_masqueraded(index.masquerade()));
        let enabled = |net: &IpNet| if net.addr().is_ipv6() { settings.ipv6 } else { settings.ipv4 };
        let all: BTreeSet<IpNet> = all.filter(enabled).collect();
        row.no_masquerade = all.iter().map(prefix).collect();
    }
    row
}

fn not_masqueraded(agent: Option<&MasqueradeAgent>) -> Vec<IpNet> {
    let parsed = |list: &[&str]| list.iter().filter_map(|cidr| cidr.parse().ok()).collect::<Vec<IpNet>>();
    let mut cidrs = match agent {
        Some(agent) if !agent.cidrs.is_empty() => agent.cidrs.to_vec(),
        _ => parsed(&NOT_MASQUERADED),
    };
    let masqueraded = agent.map_or([false; 2], |agent| [agent.link_local, agent.link_local_ipv6]);
    for (cidr, masqueraded) in LINK_LOCAL.iter().zip(masqueraded) {
        if !masqueraded {
            cidrs.extend(parsed(&[cidr]));
        }
    }
    cidrs
}

/// The id of a node's row.
#[must_use]
pub fn node_id(name: &str) -> RowId {
    RowId::new(Scope::Cluster, Table::Node, name)
}

/// A node's row: its Node joined with its ledger.
#[must_use]
pub fn node(index: &Index, name: &str) -> Option<Output> {
    let node = index.node(name)?;
    let ledger = index.ledger(name);
    let row = tables::Node {
        name: name.to_owned(),
        uid: node.uid.to_string(),
        addresses: bytes_of(node.internal_ips.iter().copied()),
        overlay_addresses: bytes_of(ledger.iter().flat_map(|ledger| ledger.addresses_of(OVERLAY))),
        pod_cidrs: ledger.iter().flat_map(|ledger| ledger.cidrs()).map(prefix).collect(),
        external_addresses: bytes_of(node.external_ips.iter().copied()),
        zone: node.labels.get(ZONE).unwrap_or_default().to_owned(),
    };
    Some(output(node_id(name), &row))
}

fn net(prefix: &Prefix) -> Option<IpNet> {
    let (address, length) = prefix.parse().ok()?;
    IpNet::new(address, length).ok()
}

/// A CIDR as rows carry it.
#[must_use]
pub fn prefix(net: &IpNet) -> Prefix {
    Prefix::new(net.network(), net.prefix_len())
}
