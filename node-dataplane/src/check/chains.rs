//! Firewall chains of other networks.

use axoneme_admin::check::Finding;

use super::catalogue::Network;
use super::leftovers::found;
use super::{Host, Probe};

const CHECK: &str = "firewall chains";

impl<P: Probe> Host<P> {
    pub(super) fn firewall(&self) -> Vec<Finding> {
        let mut findings = match self.probe.chains() {
            Ok(chains) => {
                let of = |network: &Network| -> Vec<String> {
                    let known = |name: &String| network.chains.iter().any(|beginning| name.starts_with(beginning));
                    let mut names: Vec<String> = chains.iter().map(|chain| chain.name.clone()).filter(known).collect();
                    names.sort();
                    names.dedup();
                    names
                };
                found(of, CHECK, |name| {
                    format!("iptables -t TABLE -F {name} && iptables -t TABLE -X {name} (iptables-save tells TABLE)")
                })
            }
            // One without nftables has none of its chains.
            Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => Vec::new(),
            Err(error) => {
                let advice = "look from a privileged container, or as root";
                vec![Finding::warning(CHECK, format!("cannot be listed: {error}"), advice)]
            }
        };
        // Chains of the older interface are not told by name.
        let tables: Vec<String> = ["ip_tables_names", "ip6_tables_names"]
            .iter()
            .filter_map(|file| self.read(&format!("proc/net/{file}")).ok())
            .flat_map(|tables| tables.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        if !tables.is_empty() {
            findings.push(Finding::warning(
                CHECK,
                format!("iptables-legacy has tables ({}) that are not looked at here", tables.join(", ")),
                "look for chains of other networks with: iptables-legacy-save | grep -E '^:(CILIUM_|FLANNEL-|cali-|CNI-)'",
            ));
        }
        findings
    }
}
