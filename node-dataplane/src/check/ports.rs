//! Ports that daemon, operator and tunnel need.

use axoneme_admin::check::Finding;

use super::{Host, Probe};

/// The state of a listening TCP socket in /proc/net/tcp.
const LISTEN: &str = "0A";
/// Devices that use the tunnel's port, by the network that makes them.
const TUNNELS: &[&str] = &["axoneme_vxlan", "flannel.1", "flannel-v6.1", "cilium_vxlan", "vxlan.calico"];
/// Of the operator, where it runs.
const OPERATOR: &[(u16, &str)] =
    &[(4246, "the operator's stream"), (9234, "the operator's health"), (9963, "the operator's metrics")];
const TUNNEL: u16 = 8472;

impl<P: Probe> Host<P> {
    pub(super) fn ports(&self) -> Vec<Finding> {
        const CHECK: &str = "ports";
        let (tcp, udp) = (self.used("tcp", Some(LISTEN)), self.used("udp", None));
        let own =
            [(self.config.health_port, "the daemon's health"), (self.config.metrics_port, "the daemon's metrics")];
        let mut findings = Vec::new();
        let advice = |port: u16| format!("find who listens there with: ss -lntup sport = :{port}");
        for (port, what) in own {
            if tcp.contains(&port) && !self.installed {
                let found = format!("{port}/tcp, for {what}, is in use");
                findings.push(Finding::bad(CHECK, found, advice(port)));
            }
        }
        for (port, what) in OPERATOR {
            if tcp.contains(port) && !self.installed {
                let found = format!("{port}/tcp is in use: {what} cannot run here, if nobody of this network uses it");
                findings.push(Finding::warning(CHECK, found, advice(*port)));
            }
        }
        let devices = self.names(&self.path("sys/class/net"));
        let tunnel = TUNNELS.iter().find(|device| devices.iter().any(|name| name == *device));
        if udp.contains(&TUNNEL) && tunnel != Some(&"axoneme_vxlan") {
            let by = tunnel.map(|device| format!(" by the device {device}")).unwrap_or_default();
            let remove = tunnel.map_or_else(|| advice(TUNNEL), |device| format!("ip link delete {device}"));
            findings.push(Finding::bad(
                CHECK,
                format!("{TUNNEL}/udp, for the tunnel, is in use{by}"),
                format!("{remove}; or install with --set tunnelPort=ANOTHER, or --set routingMode=native"),
            ));
        }
        if findings.is_empty() {
            findings.push(Finding::good(CHECK, "those of daemon, operator and tunnel are free or ours"));
        }
        findings
    }

    /// Whether somebody listens on a TCP port.
    pub(super) fn listens(&self, port: u16) -> bool {
        self.used("tcp", Some(LISTEN)).contains(&port)
    }

    /// Ports that somebody has, in this state if one is given.
    fn used(&self, protocol: &str, state: Option<&str>) -> Vec<u16> {
        let families = [String::from(protocol), format!("{protocol}6")];
        let tables: Vec<String> =
            families.iter().filter_map(|table| self.read(&format!("proc/net/{table}")).ok()).collect();
        let rows = tables.iter().flat_map(|table| table.lines().skip(1));
        let ports = rows.filter_map(|row| {
            // "0: 00000000:1096 00000000:0000 0A ..."
            let mut fields = row.split_whitespace().skip(1);
            let (local, _, found) = (fields.next()?, fields.next()?, fields.next()?);
            let wanted = state.is_none_or(|state| state == found);
            let port = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
            wanted.then_some(port)
        });
        ports.collect()
    }
}
