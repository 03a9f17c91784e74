//! The pair of devices between a pod and its node: host side.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoVeth, LinkAttribute};
use rtnetlink::{LinkUnspec, LinkVeth};

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
    /// Makes the pair, the pod's side directly in its namespace. Both are down.
    ///
    /// # Errors
    /// When the kernel refuses, for one because either name is taken.
    pub async fn create_veth(&self, spec: &VethSpec, namespace: &Namespace) -> Result<Device, LinkError> {
        use std::os::fd::AsFd;
        let peer = LinkUnspec::new_with_index(0)
            .name(spec.pod_name.clone())
            .address(spec.pod_mac.0.to_vec())
            .mtu(spec.mtu)
            .setns_by_fd(namespace.as_fd().as_raw_fd())
            .build();
        let message = LinkVeth::new(&spec.host_name, &spec.pod_name)
            .address(spec.host_mac.0.to_vec())
            .mtu(spec.mtu)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        let created = self.handle.link().add(message).execute().await;
        created.map_err(LinkError::netlink(
            Operation::Create,
            format_args!("veth {} with {} in the pod", spec.host_name, spec.pod_name),
        ))?;
        self.device(&spec.host_name).await?.ok_or_else(|| LinkError::NoDevice(spec.host_name.clone()))
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
        let mut change = LinkUnspec::new_with_index(device.index).alias(spec.alias.clone()).up();
        if sysctl::get(&["ipv6", "conf", &device.name, "disable_ipv6"]).is_some() {
            // The host side needs no address of its own; a link-local one would only be announced to the pod.
            let no_link_local = vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)])];
            change = change.append_extra_attribute(LinkAttribute::AfSpecUnspec(no_link_local));
        }
        self.set_device(&device.name, change).await?;
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

    /// Leads the host's packets for a pod to its device, away from an earlier device of the same pod.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn set_pod_routes(&self, device: u32, pod_mac: Mac, addresses: &[IpAddr]) -> Result<(), LinkError> {
        for &address in addresses {
            self.set_neighbour(device, address, pod_mac).await?;
            self.set_route(&RouteEntry::direct(IpNet::from(address), device), Owner::Pod).await?;
        }
        Ok(())
    }
}
