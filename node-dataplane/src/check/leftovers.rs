//! Devices and pinned programs of other networks.

use axoneme_admin::check::Finding;

use super::catalogue::{NETWORKS, Network};
use super::{Host, Probe};

/// So many names of a kind are told.
const NAMED: usize = 4;

impl<P: Probe> Host<P> {
    pub(super) fn links(&self) -> Vec<Finding> {
        let names = self.names(&self.path("sys/class/net"));
        let of = |network: &Network| -> Vec<String> {
            let known = |name: &&String| network.links.iter().any(|beginning| name.starts_with(beginning));
            names.iter().filter(known).cloned().collect()
        };
        found(of, "devices", |name| format!("ip link delete {name}"))
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
        found(of, "pinned programs and maps", |pin| format!("rm -r {pin}"))
    }
}

/// A finding for each network that has some.
pub(super) fn found(
    of: impl Fn(&Network) -> Vec<String>,
    what: &str,
    removal: impl Fn(&str) -> String,
) -> Vec<Finding> {
    let found = NETWORKS.iter().filter_map(|network| {
        let names = of(network);
        let first = names.first()?;
        let more = if names.len() > NAMED { format!(" and {} more", names.len() - NAMED) } else { String::new() };
        let listed = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        let text = format!("left by {}: {listed}{more}", network.name);
        let removal = removal(first);
        let each = if removal.is_empty() { String::new() } else { format!("; then, for each that is left: {removal}") };
        let advice = format!("{}{each}", network.removal);
        Some(if network.acts { Finding::bad(what, text, advice) } else { Finding::warning(what, text, advice) })
    });
    found.collect()
}
