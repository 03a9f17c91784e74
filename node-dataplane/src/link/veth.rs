//! The pair of devices between a pod and its node: host side.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::device::Device;
use super::filter::Direction;
use super::netns::Namespace;
use super::route::{Owner, RouteEntry};
use super::{LinkError, Links, Mac, Operation, sysctl};

/// What a pair shall be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VethSpec {
    /// Name of the host side.
    pub host_name: String,
    /// Name of the pod's side.
    pub pod_name: String,
    /// Ethernet address of the host side.
    pub host_mac: Mac,
    /// Ethernet address of the pod's side.
    pub pod_mac: Mac,
    /// MTU of both.
    pub mtu: u32,
    /// For people: what `ip link` shows beside the host side.
    pub alias: String,
}

/// The programs of a pod's host side.
#[derive(Clone, Copy, Debug)]
pub struct PodPrograms<'a> {
    /// What the pod sends.
    pub from_pod: BorrowedFd<'a>,
    /// What the host's stack delivers.
    pub to_pod: BorrowedFd<'a>,
}

impl Links {
    /// Makes the pair, the pod's side directly in its namespace. Both are down: a veth cannot be up before it has its peer.
    ///
    /// # Errors
    /// When the kernel refuses, for one because either name is taken.
    pub async fn create_veth(&self, spec: &VethSpec, namespace: &Namespace) -> Result<Device, LinkError> {
        use std::os::fd::AsFd;
        let peer = LinkUnspec::new_with_index(0)
            .name(spec.pod_name.clone())
            .address(spec.pod_mac.0.to_vec())
            .mtu(spec.mtu)
            .setns_by_fd(namespace.as_fd().as_raw_fd());
        let message = LinkVeth::new(&spec.host_name, &spec.pod_name)
            .address(spec.host_mac.0.to_vec())
            .mtu(spec.mtu)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(one_queue(peer).build())));
        let message = one_queue(message).build();
        let created = self.handle.link().add(message).execute().await;
        created.map_err(LinkError::netlink(
            Operation::Create,
            format_args!("veth {} with {} in the pod", spec.host_name, spec.pod_name),
        ))?;
        let index = super::device::index(&spec.host_name)?;
        let (name, mac) = (spec.host_name.clone(), Some(spec.host_mac));
        Ok(Device { index, name, mac, mtu: spec.mtu, ..Device::default() })
    }

    /// Brings the host side up, with its programs, before there is a route by which packets could come.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn configure_host_side(
        &self,
        device: &Device,
        spec: &VethSpec,
        addresses: &[IpAddr],
        programs: PodPrograms<'_>,
    ) -> Result<(), LinkError> {
        self.set_pod_programs(device.index, programs).await?;
        sysctl::prepare_device(&device.name)?;
        if addresses.iter().any(IpAddr::is_ipv6) {
            sysctl::enable_ipv6(&device.name)?;
        }
        self.bring_up(device, LinkUnspec::new_with_index(device.index).alias(spec.alias.clone())).await?;
        self.set_pod_routes(device.index, spec.pod_mac, addresses).await
    }

    /// Puts the programs of pods on the host side of a pair, whoever made it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn set_pod_programs(&self, device: u32, programs: PodPrograms<'_>) -> Result<(), LinkError> {
        self.ensure_clsact(device).await?;
        self.set_filter(device, Direction::Ingress, axoneme_bpf::programs::FROM_POD, programs.from_pod).await?;
        self.set_filter(device, Direction::Egress, axoneme_bpf::programs::TO_POD, programs.to_pod).await
    }

    /// The host's route to a pod.
    ///
    /// It says which address the host sends from: the node's, by which pods know it. Else a server of the host that listens on
    /// all addresses would answer a datagram from whichever address the kernel finds first, and the pod's socket would not take
    /// it. (A datagram to another address of the host is still answered from this one, unless the server minds itself.)
    #[must_use]
    pub fn pod_route(&self, device: u32, address: IpAddr) -> RouteEntry {
        RouteEntry { source: self.source(address), ..RouteEntry::direct(IpNet::from(address), device) }
    }

    /// Leads the host's packets for a pod to its device, away from an earlier device of the same pod.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn set_pod_routes(&self, device: u32, pod_mac: Mac, addresses: &[IpAddr]) -> Result<(), LinkError> {
        for &address in addresses {
            self.set_neighbour(device, address, pod_mac).await?;
            let route = self.pod_route(device, address);
            // At a start the node's addresses are not known yet, while what is there was made when they were.
            if route.source.is_some() || !self.has_route(&route, Owner::Pod).await? {
                self.set_route(&route, Owner::Pod).await?;
            }
        }
        Ok(())
    }
}

/// A veth uses one queue each way unless told otherwise. One that is made with as many as there are CPUs, which is what the kernel does when
/// it is not told, waits for a grace period to go down to it.
fn one_queue<T>(message: LinkMessageBuilder<T>) -> LinkMessageBuilder<T> {
    message.append_extra_attribute(LinkAttribute::NumTxQueues(1)).append_extra_attribute(LinkAttribute::NumRxQueues(1))
}
