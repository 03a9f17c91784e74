//! Devices, pinned objects and programs of other networks.

use axoneme_admin::check::Finding;

use super::catalogue::{NETWORKS, Network};
use super::{Attached, Host, Probe};

/// So many names of a kind are told in a sentence; all of them where all is asked for.
const NAMED: usize = 4;

impl<P: Probe> Host<P> {
    pub(super) fn links(&self) -> Vec<Finding> {
        let names = self.names(&self.path("sys/class/net"));
        let bridges = self.configured_bridges();
        let mut findings = Vec::new();
        for network in NETWORKS.iter().filter(|network| !self.runs_beside(network)) {
            let is_bridge = |name: &String| network.plugins.contains(&"bridge") && bridges.contains(name);
            let mut own: Vec<String> =
                names.iter().filter(|name| network.has_link(name) || is_bridge(name)).cloned().collect();
            // What hangs on a bridge is named at random.
            let ports: Vec<String> = own
                .iter()
                .flat_map(|bridge| self.names(&self.path("sys/class/net").join(bridge).join("brif")))
                .filter(|port| !own.contains(port))
                .collect();
            own.extend(ports);
            let removal = own.first().map(|name| format!("ip link delete {name}, and so on")).unwrap_or_default();
            findings.extend(left(network, "devices", "", own, &removal));
        }
        findings
    }

    pub(super) fn pins(&self) -> Vec<Finding> {
        let root = self.path("sys/fs/bpf");
        let of = |network: &Network| -> Vec<String> {
            let there = network.pins.iter().flat_map(|pin| match pin.rsplit_once('/') {
                Some((folder, star)) => {
                    let beginning = star.trim_end_matches('*');
                    let names = self.names(&root.join(folder)).into_iter();
                    names.filter(|name| name.starts_with(beginning)).map(|name| format!("{folder}/{name}")).collect()
                }
                None if root.join(pin).exists() => vec![(*pin).to_owned()],
                None => Vec::new(),
            });
            there.map(|pin: String| format!("/sys/fs/bpf/{pin}")).collect()
        };
        let found = NETWORKS.iter().filter_map(|network| {
            let removal: Vec<String> = network.pins.iter().map(|pin| format!("/sys/fs/bpf/{pin}")).collect();
            left(network, "pinned programs and maps", "", of(network), &format!("rm -r {}", removal.join(" ")))
        });
        found.collect()
    }

    /// Programs that judge packets, whoever runs or does not.
    pub(super) fn programs(&self) -> Vec<Finding> {
        const CHECK: &str = "programs";
        let attached = match self.probe.attached(&self.configured(&self.config.cgroup_root)) {
            Ok(attached) => attached,
            Err(error) => {
                let advice =
                    "look from a privileged container, or as root; or see \"bpftool net\" and \"bpftool cgroup tree\"";
                return vec![Finding::warning(CHECK, format!("cannot be listed: {error}"), advice)];
            }
        };
        let found = NETWORKS.iter().filter_map(|network| {
            let of_it = |attached: &&Attached| network.programs.iter().any(|start| attached.program.starts_with(start));
            let own: Vec<&Attached> = attached.iter().filter(of_it).collect();
            let names = own.iter().map(|attached| format!("{} at {}", attached.program, attached.place)).collect();
            let mut removals: Vec<&str> = own.iter().map(|attached| attached.removal.as_str()).collect();
            removals.sort_unstable();
            removals.dedup();
            left(network, CHECK, "", names, &removals.join("; "))
        });
        found.collect()
    }
}

/// What a network has left, if it has.
pub(super) fn left(network: &Network, check: &str, place: &str, names: Vec<String>, removal: &str) -> Option<Finding> {
    if names.is_empty() {
        return None;
    }
    let more = if names.len() > NAMED { format!(" and {} more", names.len() - NAMED) } else { String::new() };
    let listed = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    let found = format!("left by {}{place}: {listed}{more}", network.name);
    let advice = format!("{}; then, for what is left: {removal}", network.removal);
    let finding =
        if network.acts { Finding::bad(check, found, advice) } else { Finding::warning(check, found, advice) };
    Some(finding.of(names))
}
