//! Rules and routes of other networks: policy routing outlives the devices that it was made for.

use std::collections::BTreeSet;
use std::io;

use axoneme_admin::check::Finding;
use nix::sys::socket::SockProtocol;

use super::catalogue::NETWORKS;
use super::leftovers::left;
use super::{Family, Host, Probe};
use crate::netlink::{attributes, first, list, number};

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWRULE: u16 = 32;
const RTM_GETRULE: u16 = 34;
/// Of both `struct rtmsg` and `struct fib_rule_hdr`: family, lengths, tos, table, ...
const HEADER: usize = 12;
const HEADER_TABLE: usize = 4;
/// Of `struct rtmsg` alone.
const HEADER_PROTOCOL: usize = 5;
/// Of routes and rules alike.
const TABLE: u16 = 15;
const PRIORITY: u16 = 6;
/// The table of the host's own addresses.
const LOCAL: u32 = 255;
/// Where Cilium moves the rule for that table to, to have its own before it.
const MOVED_TO: u32 = 100;
const CHECK: &str = "rules and routes";

/// A rule of policy routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Whose packets.
    pub family: Family,
    /// Lower ones are asked first.
    pub priority: u32,
    /// Where it looks.
    pub table: u32,
}

/// A route, as far as it tells who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Whose packets.
    pub family: Family,
    /// The table in which it is.
    pub table: u32,
    /// The number of who made it.
    pub protocol: u8,
}

/// All rules of the network namespace.
pub(super) fn rules() -> io::Result<BTreeSet<Rule>> {
    let rule = |body: &[u8]| {
        let (family, table) = family_and_table(body)?;
        // The kernel leaves a priority of 0 out.
        let priority = attribute(body, PRIORITY).unwrap_or_default();
        Some(Rule { family, priority, table })
    };
    ask(RTM_GETRULE, RTM_NEWRULE, rule)
}

/// All routes of the network namespace.
pub(super) fn routes() -> io::Result<BTreeSet<Route>> {
    let route = |body: &[u8]| {
        let (family, table) = family_and_table(body)?;
        Some(Route { family, table, protocol: *body.get(HEADER_PROTOCOL)? })
    };
    ask(RTM_GETROUTE, RTM_NEWROUTE, route)
}

/// Each once: hosts may have a million routes, which are few kinds.
fn ask<T: Ord>(request: u16, answer: u16, read: impl Fn(&[u8]) -> Option<T>) -> io::Result<BTreeSet<T>> {
    let mut all = BTreeSet::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut header = [0; HEADER];
        header[0] = family as u8;
        match list(SockProtocol::NetlinkRoute, request, &header, answer, |body| all.extend(read(body))) {
            Ok(()) => {}
            // A kernel without this family, or without policy routing.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

fn family_and_table(body: &[u8]) -> Option<(Family, u32)> {
    let [family, ..]: [u8; HEADER] = first(body)?;
    let family = match libc::c_int::from(family) {
        libc::AF_INET => Family::V4,
        libc::AF_INET6 => Family::V6,
        _ => return None,
    };
    Some((family, attribute(body, TABLE).unwrap_or_else(|| u32::from(body[HEADER_TABLE]))))
}

fn attribute(body: &[u8], wanted: u16) -> Option<u32> {
    attributes(body.get(HEADER..)?).find(|(kind, _)| *kind == wanted).and_then(|(_, value)| number(value))
}

impl<P: Probe> Host<P> {
    pub(super) fn routing(&self) -> Vec<Finding> {
        let (rules, routes) = match self.probe.rules().and_then(|rules| Ok((rules, self.probe.routes()?))) {
            Ok(listed) => listed,
            Err(error) => {
                let advice = "look on the host's network, with: ip rule; ip route show table all";
                return vec![Finding::warning(CHECK, format!("cannot be listed: {error}"), advice)];
            }
        };
        let mut findings = Vec::new();
        for network in NETWORKS {
            let mut found: Vec<(String, String)> = Vec::new();
            for rule in rules.iter().filter(|rule| network.tables.contains(&rule.table)) {
                let Rule { family, priority, table } = rule;
                let ip = family.ip();
                found.push((
                    format!("{ip} rule {priority} to table {table}"),
                    format!("{ip} rule delete pref {priority} table {table}"),
                ));
            }
            for Route { family, table, .. } in routes.iter().filter(|route| network.tables.contains(&route.table)) {
                let ip = family.ip();
                found.push((format!("{ip} routes in table {table}"), format!("{ip} route flush table {table}")));
            }
            for Route { family, protocol, .. } in
                routes.iter().filter(|route| Some(route.protocol) == network.route_protocol)
            {
                let ip = family.ip();
                found.push((
                    format!("{ip} routes of protocol {protocol}"),
                    format!("{ip} route flush table all proto {protocol}"),
                ));
            }
            found.dedup();
            let (names, commands): (Vec<_>, Vec<_>) = found.into_iter().unzip();
            findings.extend(left(network, CHECK, "", names, &commands.join("; ")));
        }
        findings.extend([Family::V4, Family::V6].into_iter().filter_map(|family| moved(family, &rules)));
        findings
    }
}

/// The rule that finds the host's own addresses is not where the kernel puts it.
fn moved(family: Family, rules: &BTreeSet<Rule>) -> Option<Finding> {
    let at = |priority| rules.contains(&Rule { family, priority, table: LOCAL });
    if !at(MOVED_TO) {
        return None;
    }
    let ip = family.ip();
    // Without one of the two, the host does not know its own addresses.
    let first = if at(0) { String::new() } else { format!("{ip} rule add pref 0 table local && ") };
    Some(Finding::warning(
        CHECK,
        format!("{ip} rule {MOVED_TO} to table local is where Cilium moves it to"),
        format!("in this order: {first}{ip} rule delete pref {MOVED_TO} table local"),
    ))
}
