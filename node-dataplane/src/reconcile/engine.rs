//! All reconcilers together: the order of a round, and progress.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axoneme_bpf::address::{Address, AddressKey, CidrKey};
use axoneme_bpf::config::Config;
use axoneme_bpf::nat::Exclusion;
use axoneme_bpf::service::{Backend, BackendKey, Service, ServiceKey};
use axoneme_bpf::uplink::Uplink;
use tokio::time::Instant;

use super::adopt;
use super::endpoints::Endpoints;
use super::network::Network;
use super::ops::{DeviceOps, EndpointOps, MapOps};
use super::peers::{LocalAddresses, PeerKey, Peers};
use super::policy::names::Names;
use super::policy::{PeerChange, Policies, PolicyMaps};
use super::queue::Work;
use super::services::Services;
use super::status::Status;
use crate::desired::{Change, Desired, Dirty, HOST};

/// Keys of one kind that are looked at before progress is told again.
const ROUND: usize = 1000;
/// The kernel, as the reconcilers see it.
#[allow(missing_debug_implementations, reason = "holds trait objects")]
pub struct Kernel {
    /// `ax_config`.
    pub config: Box<dyn MapOps<u32, Config>>,
    /// `ax_no_masquerade`.
    pub no_masquerade: Box<dyn MapOps<CidrKey, Exclusion>>,
    /// `ax_uplinks`.
    pub uplinks: Box<dyn MapOps<u32, Uplink>>,
    /// `ax_addresses`.
    pub addresses: Box<dyn MapOps<AddressKey, Address>>,
    /// `ax_cidrs`.
    pub cidrs: Box<dyn MapOps<CidrKey, Address>>,
    /// Policies.
    pub policies: PolicyMaps,
    /// `ax_services`.
    pub services: Box<dyn MapOps<ServiceKey, Service>>,
    /// `ax_service_backends`.
    pub backends: Box<dyn MapOps<BackendKey, Backend>>,
    /// Devices and routes.
    pub devices: Box<dyn DeviceOps>,
    /// Attached pods.
    pub endpoints: Arc<dyn EndpointOps>,
}

/// What a round did, for metrics.
#[derive(Debug, Default)]
pub struct Round {
    /// Identities whose policy is in force now.
    pub enforced: Vec<u32>,
    /// Entries that were not as they had been written.
    pub drifted: usize,
}

/// Desired state and reconcilers.
#[allow(missing_debug_implementations, reason = "holds trait objects")]
pub struct Engine {
    pub(super) desired: Desired,
    pub(super) network: Network,
    pub(super) peers: Peers,
    pub(super) policies: Policies,
    pub(super) services: Services,
    pub(super) endpoints: Endpoints,
    /// Identities that CNI was told of and whose pod may not be attached yet.
    pub(super) granted: BTreeMap<u32, Instant>,
    /// Policy indexes of the checkpoint, until they are adopted.
    pub(super) indexes: Option<BTreeMap<u32, u32>>,
    /// What attached pods are enforced with, to know it when they are gone.
    pub(super) identities: BTreeMap<Box<str>, u32>,
    /// Pods whose kernel state is written even if nothing changed: once after a start.
    pub(super) forced: BTreeSet<Box<str>>,
    pub(super) prune_due: Option<Instant>,
    pub(super) refresh_due: Instant,
    pub(super) devices_due: Instant,
    pub(super) garbage_due: Option<Instant>,
    pub(super) adopt_due: Instant,
    pub(super) problem: Option<String>,
}

impl Engine {
    /// Continues from `desired`, with the policy indexes of the checkpoint that it came from.
    #[must_use]
    pub fn new(desired: Desired, indexes: BTreeMap<u32, u32>, kernel: Kernel, now: Instant) -> Self {
        let policies = Policies::new(kernel.policies);
        // What programs told while there was no daemon is read before any policy is looked at.
        for identity in desired.policies() {
            policies.names().set(identity, desired.policy(identity).map(|(row, _)| row).as_ref());
        }
        Self {
            desired,
            network: Network::new(kernel.devices, kernel.config, kernel.no_masquerade, kernel.uplinks),
            peers: Peers::new(kernel.addresses, kernel.cidrs),
            policies,
            services: Services::new(kernel.services, kernel.backends),
            endpoints: Endpoints::new(kernel.endpoints),
            granted: BTreeMap::new(),
            indexes: Some(indexes),
            identities: BTreeMap::new(),
            forced: BTreeSet::new(),
            prune_due: Some(now),
            refresh_due: now + adopt::REFRESH,
            devices_due: now + adopt::DEVICES,
            garbage_due: None,
            adopt_due: now,
            problem: None,
        }
    }

    /// What is desired.
    #[must_use]
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// What the kernel's numbers of policies and rules mean.
    #[must_use]
    pub fn names(&self) -> Names {
        self.policies.names()
    }

    /// Policy indexes, for the checkpoint.
    #[must_use]
    pub fn indexes(&self) -> BTreeMap<u32, u32> {
        self.indexes.clone().unwrap_or_else(|| self.policies.indexes().collect())
    }

    /// Whether what the kernel had was taken over.
    #[must_use]
    pub fn is_adopted(&self) -> bool {
        self.indexes.is_none()
    }

    /// Something about the node's devices, addresses or routes may have changed.
    pub fn devices_changed(&mut self) {
        self.network.queue.mark((), self.desired.revision());
    }

    /// Takes a delta in; returns the identities whose policy it may change.
    pub fn commit(&mut self, change: Change) -> Vec<u32> {
        let dirty = self.desired.commit(change);
        let policies = dirty.policies.keys().copied().collect();
        self.mark(dirty);
        policies
    }

    fn mark(&mut self, dirty: Dirty) {
        if dirty.new_epoch {
            self.network.queue.forget_revisions();
            self.peers.queue.forget_revisions();
            self.policies.queue.forget_revisions();
            self.services.queue.forget_revisions();
            self.endpoints.queue.forget_revisions();
        }
        self.network.queue.mark_all(dirty.network.map(|since| ((), since)));
        self.peers.queue.mark_all(dirty.addresses.into_iter().map(|(a, since)| (PeerKey::Address(a), since)));
        self.peers.queue.mark_all(dirty.cidrs.into_iter().map(|(c, since)| (PeerKey::Cidr(c), since)));
        self.policies.queue.mark_all(dirty.policies);
        self.services.queue.mark_all(dirty.services);
        self.endpoints.queue.mark_all(dirty.endpoints);
    }

    /// A pod was attached with what it was granted; that may have changed meanwhile.
    pub fn attached(&mut self, pod_uid: &str, identity: u32) {
        self.endpoints.queue.mark(pod_uid.into(), self.desired.revision());
        self.identities.insert(pod_uid.into(), identity);
        self.address_changed(identity);
    }

    /// A pod was detached: its addresses are others' now, and its policy may go.
    pub fn detached(&mut self, pod_uid: &str, addresses: &[std::net::IpAddr]) {
        let since = self.desired.revision();
        for &address in addresses {
            self.peers.queue.mark(PeerKey::Address(address), since);
        }
        if let Some(identity) = self.identities.remove(pod_uid) {
            self.policies.queue.mark(identity, since);
            self.address_changed(identity);
        }
    }

    fn address_changed(&mut self, identity: u32) {
        let change = PeerChange { identities: vec![identity], of_scope: false };
        self.policies.peer_changed(&change, self.desired.revision());
    }

    /// Brings a bounded number of keys to what is desired. To be called again at [`Engine::next_due`].
    pub async fn round(&mut self, now: Instant) -> Round {
        let mut round = Round::default();
        if !self.adopt(now) {
            return round;
        }
        self.refresh(now, &mut round);
        self.network(now).await;
        let removals = self.addresses(now);
        let policies = self.subjects(now, &mut round);
        for work in self.services.queue.take(now, ROUND) {
            let result = self.services.reconcile(&work.key, &self.desired);
            self.services.queue.settle(work, result, now);
        }
        self.pods(now);
        // Removals in reverse: who still needs a policy or an address is gone by now.
        for work in policies {
            self.subject(work, now, &mut round);
        }
        for work in removals {
            self.address(work, now);
        }
        self.garbage_due = self.policies.collect(now);
        self.prune(now);
        round
    }

    async fn network(&mut self, now: Instant) {
        for work in self.network.queue.take(now, 1) {
            let result = self.network.reconcile(&self.desired).await;
            if let Some((_, state)) = self.network.state() {
                let host = state.host_addresses.iter().copied().collect();
                self.peers.set_local(LocalAddresses { host, on_link: state.on_link.clone() }, &self.desired);
                self.endpoints.ops().follow(state.pod_mtu);
            }
            self.network.queue.settle(work, result, now);
            if self.network.is_refused() {
                self.devices_due = self.devices_due.min(now + adopt::BROKEN);
            }
        }
    }

    /// Writes addresses; returns those that are to be removed.
    fn addresses(&mut self, now: Instant) -> Vec<Work<PeerKey>> {
        let work = self.peers.queue.take(now, ROUND);
        let (there, gone): (Vec<_>, Vec<_>) =
            work.into_iter().partition(|work| self.peers.is_desired(work.key, &self.desired));
        there.into_iter().for_each(|work| self.address(work, now));
        gone
    }

    fn address(&mut self, work: Work<PeerKey>, now: Instant) {
        let result = self.peers.reconcile(work.key, &self.desired);
        if let Ok(Some(change)) = &result {
            self.policies.peer_changed(change, self.desired.revision());
        }
        self.peers.settle(work, result.map(drop), now);
    }

    /// Writes policies; returns those that are to be removed.
    fn subjects(&mut self, now: Instant, round: &mut Round) -> Vec<Work<u32>> {
        self.granted.retain(|_, until| *until > now);
        let work = self.policies.queue.take(now, ROUND);
        let (there, gone): (Vec<_>, Vec<_>) = work.into_iter().partition(|work| self.desired.has_policy(work.key));
        there.into_iter().for_each(|work| self.subject(work, now, round));
        gone
    }

    fn subject(&mut self, work: Work<u32>, now: Instant, round: &mut Round) {
        let identity = work.key;
        let known = self.policies.applied_index(identity);
        let (endpoints, granted) = (&self.endpoints, &self.granted);
        // The node's own policy goes when it is known that there is none.
        let host = |identity| identity == HOST && !self.desired.is_complete();
        let used = |identity| granted.contains_key(&identity) || endpoints.uses(identity) || host(identity);
        let result = self.policies.reconcile(identity, &self.desired, used, now);
        if result.is_ok() {
            round.enforced.push(identity);
            if known != self.policies.applied_index(identity) {
                self.endpoints.mark_attached(self.desired.revision());
            }
        }
        self.policies.queue.settle(work, result, now);
    }

    fn pods(&mut self, now: Instant) {
        for work in self.endpoints.queue.take(now, ROUND) {
            let uid = work.key.clone();
            let forced = self.forced.contains(&uid);
            let result = self.endpoints.reconcile(&uid, &self.desired, &self.policies, forced);
            if result.is_ok() {
                self.forced.remove(&uid);
            }
            if let Ok(Some(change)) = &result {
                let since = self.desired.revision();
                self.policies.peer_changed(change, since);
                self.identities.extend(change.identities.last().map(|&now| (uid.clone(), now)));
                change.identities.iter().for_each(|&identity| self.policies.queue.mark(identity, since));
            }
            self.endpoints.queue.settle(work, result.map(drop), now);
        }
    }

    pub(super) fn lowest_pending(&self) -> Option<u64> {
        let queues = [
            self.network.queue.lowest_pending(),
            self.peers.queue.lowest_pending(),
            self.policies.queue.lowest_pending(),
            self.services.queue.lowest_pending(),
            self.endpoints.queue.lowest_pending(),
        ];
        queues.into_iter().flatten().min()
    }

    pub(super) fn lowest_failing(&self) -> Option<u64> {
        let queues = [
            self.network.queue.lowest_failing(),
            self.peers.queue.lowest_failing(),
            self.policies.queue.lowest_failing(),
            self.services.queue.lowest_failing(),
            self.endpoints.queue.lowest_failing(),
        ];
        queues.into_iter().flatten().min()
    }

    /// When the next round is due.
    #[must_use]
    pub fn next_due(&self, now: Instant) -> Instant {
        if !self.is_adopted() {
            return self.adopt_due;
        }
        let prune = self.prune_due.filter(|_| self.desired.is_complete());
        let queues = [
            self.network.queue.next_due(now),
            self.peers.queue.next_due(now),
            self.policies.queue.next_due(now),
            self.services.queue.next_due(now),
            self.endpoints.queue.next_due(now),
            self.garbage_due,
            prune,
        ];
        queues.into_iter().flatten().fold(self.refresh_due.min(self.devices_due), Instant::min)
    }

    /// How far the kernel follows.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::of(self, self.problem.as_deref())
    }
}
