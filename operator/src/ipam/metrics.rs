//! Counts of IPAM, named as Cilium's operator names them where it has the same.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetNode {
    target_node: String,
}

/// Counts of IPAM.
#[derive(Clone, Debug, Default)]
pub struct IpamMetrics {
    needed: Family<TargetNode, Gauge>,
    used: Family<TargetNode, Gauge>,
    pub(super) assigned: Counter,
    pub(super) released: Counter,
    pub(super) conflicts: Counter,
    pub(super) failed: Counter,
}

impl IpamMetrics {
    /// Registers them; `registry` carries the prefix.
    pub fn register(registry: &mut Registry) -> Self {
        let own = Self::default();
        registry.register("ipam_needed_ips", "Addresses that pods wait for and the node lacks", own.needed.clone());
        registry.register("ipam_used_ips", "Addresses of the node that are assigned", own.used.clone());
        registry.register("ipam_ip_allocation_ops", "Addresses assigned to pods", own.assigned.clone());
        registry.register("ipam_ip_release_ops", "Addresses given back", own.released.clone());
        registry.register(
            "ipam_write_conflicts",
            "Ledgers planned anew because they had changed",
            own.conflicts.clone(),
        );
        registry.register("ipam_write_failures", "Writes that the API server refused", own.failed.clone());
        own
    }

    pub(super) fn needed(&self, node: &str, count: usize) {
        let label = TargetNode { target_node: node.to_owned() };
        if count == 0 {
            self.needed.remove(&label);
        } else {
            self.needed.get_or_create(&label).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    pub(super) fn used(&self, node: &str, count: usize) {
        let gauge = self.used.get_or_create(&TargetNode { target_node: node.to_owned() });
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
