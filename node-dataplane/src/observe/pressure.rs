//! How full maps are. Counting asks the kernel for every entry, so it is done now and then, not at every scrape.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

use crate::maps::pressure::Pressure;
use crate::reconcile::ops::{MapKey, MapOps, MapValue};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Map {
    map_name: &'static str,
}

/// Share of a map's entries that is used, 0 to 1, under Cilium's name.
#[derive(Clone, Debug, Default)]
pub struct MapPressure {
    gauges: Family<Map, Gauge<f64, AtomicU64>>,
}

impl MapPressure {
    /// Registers the gauge.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("cilium_bpf_map_pressure", "Share of a map's entries that is used", self.gauges.clone());
    }

    /// Counts the entries of a map.
    pub fn measure<K: MapKey, V: MapValue>(&self, map: &dyn MapOps<K, V>) {
        match Pressure::of(map) {
            Ok(pressure) => {
                self.gauges.get_or_create(&Map { map_name: map.name() }).set(pressure.ratio());
            }
            Err(err) => tracing::warn!(%err, "entries of a map cannot be counted"),
        }
    }
}
