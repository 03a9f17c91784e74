//! How full maps are. Counting asks the kernel for every entry, so it is done now and then, not at every scrape.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use axoneme_admin::node::MapUse;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

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
    latest: Arc<Mutex<BTreeMap<&'static str, Pressure>>>,
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
                self.latest.lock().unwrap_or_else(PoisonError::into_inner).insert(map.name(), pressure);
            }
            Err(err) => tracing::warn!(%err, "entries of a map cannot be counted"),
        }
    }

    /// What was counted last.
    #[must_use]
    pub fn latest(&self) -> Vec<MapUse> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let told = latest.iter().map(|(name, pressure)| {
            let Pressure { entries, capacity } = *pressure;
            MapUse { name: (*name).to_owned(), entries, capacity }
        });
        told.collect()
    }
}
