//! All maps that the daemon writes, opened by their pins.

use std::path::Path;

use axoneme_bpf::address::{Address, AddressKey, CidrKey};
use axoneme_bpf::bandwidth::{Bandwidth, BandwidthKey};
use axoneme_bpf::config::Config;
use axoneme_bpf::endpoint::Endpoint;
use axoneme_bpf::maps;
use axoneme_bpf::nat::Exclusion;
use axoneme_bpf::policy::{Policy, PolicyClass, PolicyClassKey, PolicyRuleKey, Verdicts};
use axoneme_bpf::service::{Backend, BackendKey, Service, ServiceKey};
use axoneme_bpf::uplink::Uplink;

use super::kernel::{KernelMap, OpenError};

/// All maps that the daemon writes. Each can be opened again for another owner: entries live in the kernel.
#[derive(Debug)]
pub struct Pinned {
    /// `ax_config`
    pub config: KernelMap<u32, Config>,
    /// `ax_no_masquerade`
    pub no_masquerade: KernelMap<CidrKey, Exclusion>,
    /// `ax_uplinks`
    pub uplinks: KernelMap<u32, Uplink>,
    /// `ax_endpoints`
    pub endpoints: KernelMap<u32, Endpoint>,
    /// `ax_addresses`
    pub addresses: KernelMap<AddressKey, Address>,
    /// `ax_bandwidth`
    pub bandwidth: KernelMap<BandwidthKey, Bandwidth>,
    /// `ax_cidrs`
    pub cidrs: KernelMap<CidrKey, Address>,
    /// `ax_policies`
    pub policies: KernelMap<u32, Policy>,
    /// `ax_generation`
    pub generation: KernelMap<u32, u64>,
    /// `ax_policy_rules`
    pub policy_rules: KernelMap<PolicyRuleKey, Verdicts>,
    /// `ax_policy_classes`
    pub policy_classes: KernelMap<PolicyClassKey, PolicyClass>,
    /// `ax_services`
    pub services: KernelMap<ServiceKey, Service>,
    /// `ax_service_backends`
    pub service_backends: KernelMap<BackendKey, Backend>,
}

impl Pinned {
    /// Opens the maps in `directory`, usually `/sys/fs/bpf/axoneme/maps`.
    ///
    /// # Errors
    /// When one is missing or of another version.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        Ok(Self {
            config: KernelMap::open(directory, maps::CONFIG)?,
            no_masquerade: KernelMap::open(directory, maps::NO_MASQUERADE)?,
            uplinks: KernelMap::open(directory, maps::UPLINKS)?,
            endpoints: KernelMap::open(directory, maps::ENDPOINTS)?,
            addresses: KernelMap::open(directory, maps::ADDRESSES)?,
            bandwidth: KernelMap::open(directory, maps::BANDWIDTH)?,
            cidrs: KernelMap::open(directory, maps::CIDRS)?,
            policies: KernelMap::open(directory, maps::POLICIES)?,
            generation: KernelMap::open(directory, maps::GENERATION)?,
            policy_rules: KernelMap::open(directory, maps::POLICY_RULES)?,
            policy_classes: KernelMap::open(directory, maps::POLICY_CLASSES)?,
            services: KernelMap::open(directory, maps::SERVICES)?,
            service_backends: KernelMap::open(directory, maps::SERVICE_BACKENDS)?,
        })
    }
}
