//! A kernel in memory that fails one operation of ten, and in which what must hold at every moment is checked at every moment.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use axoneme_bpf::address::{Address, AddressKey, CidrKey};
use axoneme_bpf::config::{Config, ConfigFlags};
use axoneme_bpf::maps;
use axoneme_bpf::nat::Exclusion;
use axoneme_bpf::policy::{Policy, PolicyClass, PolicyClassKey, PolicyIndex, PolicyRuleKey, Verdicts};
use axoneme_bpf::service::{Backend, BackendKey, Service, ServiceKey};
use axoneme_bpf::uplink::Uplink;
use axoneme_node::maps::{Faulty, MemoryMap};
use axoneme_node::reconcile::Kernel;
use axoneme_node::reconcile::ops::{
    AttachedEndpoint, DeviceError, DeviceOps, EndpointApplyError, EndpointOps, Enforcement, MapError, MapKey, MapOps,
    MapValue, NetworkSpec, NetworkState, NextHop, OnLink, Route, Routing, UplinkAddresses,
};
use axoneme_node::reconcile::policy::PolicyMaps;
use futures::FutureExt;
use futures::future::BoxFuture;

/// What outlives a restart of the daemon.
#[derive(Clone)]
pub struct Machine {
    pub config: MemoryMap<u32, Config>,
    pub addresses: MemoryMap<AddressKey, Address>,
    pub cidrs: MemoryMap<CidrKey, Address>,
    pub policies: MemoryMap<u32, Policy>,
    pub generation: MemoryMap<u32, u64>,
    pub rules: MemoryMap<PolicyRuleKey, Verdicts>,
    pub classes: MemoryMap<PolicyClassKey, PolicyClass>,
    pub services: MemoryMap<ServiceKey, Service>,
    pub backends: MemoryMap<BackendKey, Backend>,
    pub no_masquerade: MemoryMap<CidrKey, Exclusion>,
    pub uplinks: MemoryMap<u32, Uplink>,
    pub routes: Arc<Mutex<Vec<Route>>>,
    pub neighbours: Arc<Mutex<Vec<NextHop>>>,
    /// Sysctls that cannot be set, in words.
    pub refused: Arc<Mutex<Vec<String>>>,
    pub host_addresses: Arc<Mutex<Vec<IpAddr>>>,
    /// What is sent from by uplinks.
    pub sources: Arc<Mutex<Vec<UplinkAddresses>>>,
    pub pods: Arc<Pods>,
    /// Successful writes since somebody last looked.
    pub writes: Arc<Mutex<Vec<String>>>,
}

/// Attached pods.
#[derive(Default)]
pub struct Pods(pub Mutex<Vec<AttachedEndpoint>>);

impl EndpointOps for Pods {
    fn attached(&self) -> Vec<AttachedEndpoint> {
        self.0.lock().unwrap().clone()
    }

    fn follow(&self, _pod_mtu: u32) {}

    fn enforce(&self, pod_uid: &str, enforcement: &Enforcement) -> Result<(), EndpointApplyError> {
        for pod in self.0.lock().unwrap().iter_mut().filter(|pod| pod.pod_uid == pod_uid) {
            pod.enforcement = enforcement.clone();
        }
        Ok(())
    }
}

struct Devices(Machine);

impl DeviceOps for Devices {
    fn apply<'a>(&'a mut self, spec: &'a NetworkSpec) -> BoxFuture<'a, Result<NetworkState, DeviceError>> {
        let vxlan = matches!(spec.routing, Routing::Vxlan { .. });
        let prefix = |text: &str| OnLink { prefix: text.parse().unwrap(), device: 2 };
        let state = NetworkState {
            tunnel_ifindex: if vxlan { 7 } else { 0 },
            uplink_ifindex: 2,
            uplink_mtu: 1500,
            pod_mtu: if vxlan { 1450 } else { 1500 },
            host_addresses: self.0.host_addresses.lock().unwrap().clone(),
            uplinks: self.0.sources.lock().unwrap().clone(),
            on_link: vec![prefix("fd00:168::/64"), prefix("192.168.0.0/24")],
            gateways: vec![NextHop { address: "192.168.0.254".parse().unwrap(), device: 2 }],
            refused: self.0.refused.lock().unwrap().clone(),
            warnings: Vec::new(),
        };
        async { Ok(state) }.boxed()
    }

    fn routes<'a>(&'a mut self, routes: &'a [Route]) -> BoxFuture<'a, Vec<(Route, DeviceError)>> {
        *self.0.routes.lock().unwrap() = routes.to_vec();
        async { Vec::new() }.boxed()
    }

    fn neighbours<'a>(&'a mut self, next_hops: &'a [NextHop]) -> BoxFuture<'a, Result<(), DeviceError>> {
        *self.0.neighbours.lock().unwrap() = next_hops.to_vec();
        async { Ok(()) }.boxed()
    }
}

impl Machine {
    /// An empty kernel; `rules`: how many policy rules fit.
    pub fn new(rules: u32) -> Self {
        Self {
            config: MemoryMap::array(maps::CONFIG, [0]),
            addresses: MemoryMap::hash(maps::ADDRESSES, 1024),
            cidrs: MemoryMap::hash(maps::CIDRS, 1024),
            policies: MemoryMap::array(maps::POLICIES, 0..=PolicyIndex::HOST.0),
            generation: MemoryMap::array(maps::GENERATION, [0]),
            rules: MemoryMap::hash(maps::POLICY_RULES, rules),
            classes: MemoryMap::hash(maps::POLICY_CLASSES, 1024),
            services: MemoryMap::hash(maps::SERVICES, 1024),
            backends: MemoryMap::hash(maps::SERVICE_BACKENDS, 1024),
            no_masquerade: MemoryMap::hash(maps::NO_MASQUERADE, 1024),
            uplinks: MemoryMap::hash(maps::UPLINKS, 256),
            routes: Arc::default(),
            neighbours: Arc::default(),
            refused: Arc::default(),
            host_addresses: Arc::default(),
            sources: Arc::default(),
            pods: Arc::default(),
            writes: Arc::default(),
        }
    }

    /// The kernel as one run of the daemon sees it.
    pub fn kernel(&self, seed: u64, percent: u64) -> Kernel {
        Kernel {
            config: self.watched(&self.config, seed, percent),
            addresses: self.watched(&self.addresses, seed + 1, percent),
            cidrs: self.watched(&self.cidrs, seed + 2, percent),
            policies: PolicyMaps {
                policies: self.watched(&self.policies, seed + 3, percent),
                generation: self.watched(&self.generation, seed + 4, percent),
                rules: self.watched(&self.rules, seed + 5, percent),
                classes: self.watched(&self.classes, seed + 6, percent),
            },
            no_masquerade: self.watched(&self.no_masquerade, seed + 9, percent),
            uplinks: self.watched(&self.uplinks, seed + 10, percent),
            services: self.watched(&self.services, seed + 7, percent),
            backends: self.watched(&self.backends, seed + 8, percent),
            devices: Box::new(Devices(self.clone())),
            endpoints: self.pods.clone(),
        }
    }

    fn watched<K: MapKey + Sync, V: MapValue + Sync>(
        &self,
        map: &MemoryMap<K, V>,
        seed: u64,
        percent: u64,
    ) -> Box<dyn MapOps<K, V>> {
        let watched = Watched { inner: map.clone(), machine: self.clone() };
        Box::new(Faulty::with_rate(watched, seed, percent))
    }

    /// What a packet may rely on at any moment.
    fn check(&self) {
        // A program that looks and finds nothing, or that does not look, masquerades with the node's address.
        let flags = self.config.entries()[&0].flags;
        let flagged =
            |flag, entries: usize| assert!(!flags.contains(flag) || entries > 0, "{flag:?} is set without entries");
        flagged(ConfigFlags::EXCLUSIONS, self.no_masquerade.entries().len());
        flagged(ConfigFlags::UPLINKS, self.uplinks.entries().len());
        let backends = self.backends.entries();
        for (key, service) in self.services.entries() {
            for index in 0..service.backends {
                let backend = BackendKey { service: service.id, index };
                assert!(
                    backends.contains_key(&backend),
                    "{key:?} counts {} backends, {index} is missing",
                    service.backends
                );
            }
        }
    }

    /// Rows that a packet may read do not change under it.
    fn not_in_use(&self, slot: u32, what: &str) {
        for (index, policy) in self.policies.entries() {
            assert!(policy.generation == 0 || policy.slot != slot, "{what} of slot {slot}, which policy {index} uses");
        }
    }
}

/// A map that checks what is done with it.
struct Watched<K, V> {
    inner: MemoryMap<K, V>,
    machine: Machine,
}

impl<K: MapKey, V: MapValue> Watched<K, V> {
    fn slot(key: &K) -> Option<u32> {
        let key: &dyn std::any::Any = key;
        let rule = key.downcast_ref::<PolicyRuleKey>().map(|key| key.slot);
        rule.or_else(|| key.downcast_ref::<PolicyClassKey>().map(|key| key.slot))
    }

    fn wrote(&self, text: String) {
        if self.inner.name() != maps::GENERATION {
            self.machine.writes.lock().unwrap().push(text);
        }
        self.machine.check();
    }
}

impl<K: MapKey, V: MapValue> MapOps<K, V> for Watched<K, V> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capacity(&self) -> u32 {
        self.inner.capacity()
    }

    fn get(&self, key: &K) -> Result<Option<V>, MapError> {
        self.inner.get(key)
    }

    fn update(&mut self, key: &K, value: &V) -> Result<(), MapError> {
        if let Some(slot) = Self::slot(key) {
            self.machine.not_in_use(slot, "a row is written");
        }
        self.inner.update(key, value)?;
        self.wrote(format!("{} {key:?}", self.inner.name()));
        Ok(())
    }

    fn delete(&mut self, key: &K) -> Result<(), MapError> {
        if let Some(slot) = Self::slot(key) {
            self.machine.not_in_use(slot, "a row is deleted");
        }
        let existed = self.inner.get(key)?.is_some();
        self.inner.delete(key)?;
        if existed {
            self.wrote(format!("{} -{key:?}", self.inner.name()));
        }
        Ok(())
    }

    fn dump(&self, visit: &mut dyn FnMut(K, V)) -> Result<(), MapError> {
        self.inner.dump(visit)
    }
}
