//! Firewall chains of other networks.

use std::io;

use axoneme_admin::check::Finding;

use super::catalogue::{NETWORKS, Network};
use super::leftovers::left;
use super::{Chain, Family, Host, Probe, Tool};

const CHECK: &str = "firewall chains";
const PRIVILEGES: &str = "look from a privileged container, or as root";

impl<P: Probe> Host<P> {
    pub(super) fn firewall(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut chains = match self.probe.chains() {
            Ok(chains) => chains,
            // One without nftables has none of its chains.
            Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => Vec::new(),
            Err(error) => {
                findings.push(Finding::warning(CHECK, format!("cannot be listed: {error}"), PRIVILEGES));
                Vec::new()
            }
        };
        for (family, tool, file) in [
            (Family::V4, Tool::IptablesLegacy, "ip_tables_names"),
            (Family::V6, Tool::Ip6tablesLegacy, "ip6_tables_names"),
        ] {
            for table in self.read(&format!("proc/net/{file}")).unwrap_or_default().split_whitespace() {
                match self.probe.legacy_chains(family, table) {
                    Ok(names) => {
                        chains.extend(names.into_iter().map(|name| Chain { tool, table: table.to_owned(), name }));
                    }
                    // It has gone since.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => findings.push(Finding::warning(
                        CHECK,
                        format!("table {table} of {tool} cannot be listed: {error}"),
                        PRIVILEGES,
                    )),
                }
            }
        }
        let mut tools: Vec<Tool> = chains.iter().map(|chain| chain.tool).collect();
        tools.sort();
        tools.dedup();
        for network in NETWORKS.iter().filter(|network| !self.runs_beside(network)) {
            for tool in &tools {
                let of_it = chains.iter().filter(|chain| chain.tool == *tool);
                let mut names: Vec<String> = of_it.filter_map(|chain| name(network, chain)).collect();
                names.sort();
                names.dedup();
                let removal = removal(network, *tool, &names);
                findings.extend(left(network, CHECK, &format!(" in {tool}"), names, &removal));
            }
        }
        findings
    }

    /// Whether it runs, and may.
    pub(super) fn runs_beside(&self, network: &Network) -> bool {
        network.beside.is_some_and(|port| self.listens(port))
    }
}

/// How a chain of the network is called; where a whole table is its own, that.
fn name(network: &Network, chain: &Chain) -> Option<String> {
    let begins = |beginnings: &[&str], name: &str| beginnings.iter().any(|beginning| name.starts_with(beginning));
    match chain.tool {
        Tool::Nft(family) if begins(network.nft_tables, &chain.table) => {
            Some(format!("table {family} {}", chain.table))
        }
        Tool::Nft(_) => None,
        _ if begins(network.chains, &chain.name) => Some(chain.name.clone()),
        _ => None,
    }
}

/// Takes chains away together with the rules that lead to them, without which no chain can be deleted.
fn removal(network: &Network, tool: Tool, names: &[String]) -> String {
    match tool {
        Tool::Nft(_) => names.iter().map(|name| format!("nft delete {name}")).collect::<Vec<_>>().join("; "),
        _ => {
            let program = match tool {
                Tool::Iptables => "iptables-nft",
                Tool::Ip6tables => "ip6tables-nft",
                tool => &tool.to_string(),
            };
            format!("{program}-save | grep -vE '[: ]({})' | {program}-restore", network.chains.join("|"))
        }
    }
}
