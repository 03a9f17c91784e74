//! Which of its addresses traffic leaves with by a device.

use std::net::IpAddr;

use super::address::{DeviceAddress, Standing};
use super::device::Device;
use super::route::Underlay;
use crate::reconcile::ops::UplinkAddresses;

/// What leaves by each of these devices with an address of its own, in the order of devices; those that have none are left out.
pub(super) fn sources(
    uplinks: &[Device],
    addresses: &[DeviceAddress],
    underlay: &Underlay,
    node_addresses: &[IpAddr],
) -> Vec<UplinkAddresses> {
    let of = |device: u32| {
        let own: Vec<&DeviceAddress> = addresses.iter().filter(|address| address.device == device).collect();
        let choose = |ipv4| choose(&own, ipv4, underlay, node_addresses);
        UplinkAddresses { device, addresses: [choose(true), choose(false)].into_iter().flatten().collect() }
    };
    uplinks.iter().map(|uplink| of(uplink.index)).filter(|own| !own.addresses.is_empty()).collect()
}

/// The address by which the cluster knows the node, else what the kernel would take: what a default route names, else one that it
/// likes to use, if there are several one of the router's subnet, else the first.
fn choose(own: &[&DeviceAddress], ipv4: bool, underlay: &Underlay, node_addresses: &[IpAddr]) -> Option<IpAddr> {
    let usable = own.iter().filter(|have| have.global && have.standing != Standing::Tentative);
    let of_family = usable.filter(|have| have.prefix.addr().is_ipv4() == ipv4);
    let best = of_family.min_by_key(|have| {
        let address = have.prefix.addr();
        let hops = || underlay.default.iter().filter(|hop| hop.device == have.device);
        let known = node_addresses.iter().position(|node| *node == address).unwrap_or(usize::MAX);
        let named = hops().any(|hop| hop.source == Some(address));
        let near = hops().filter_map(|hop| hop.router).any(|router| have.prefix.contains(&router));
        (known, !named, have.standing, !near)
    });
    best.map(|have| have.prefix.addr())
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::address::AddressMessage;

    use super::super::route::DefaultHop;
    use super::*;

    fn have(prefix: &str, standing: Standing) -> DeviceAddress {
        let Ok(prefix) = prefix.parse() else { panic!("{prefix}") };
        DeviceAddress { device: 3, prefix, global: true, standing, message: AddressMessage::default() }
    }

    fn chosen(own: &[DeviceAddress], hop: DefaultHop, node_addresses: &[IpAddr]) -> String {
        let devices = [Device { index: 2, ..Device::default() }, Device { index: 3, ..Device::default() }];
        let underlay = Underlay { default: vec![hop], on_link: vec![] };
        let found = sources(&devices, own, &underlay, node_addresses);
        let words = found.iter().flat_map(|own| own.addresses.iter().map(|a| format!("{} {a}", own.device)));
        words.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_device_sends_from_what_the_kernel_would_take() {
        use Standing::{Preferred, Reluctant, Tentative};
        let ip = |text: &str| text.parse::<IpAddr>().ok();
        let hop = |router, source| DefaultHop { device: 3, router: ip(router), source: ip(source) };
        let no_hop = hop("", "");

        let link_local = DeviceAddress { global: false, ..have("fe80::1/64", Preferred) };
        assert_eq!(chosen(&[link_local], no_hop, &[]), "");
        let mut own = vec![have("192.0.2.1/24", Preferred), have("198.51.100.1/24", Preferred)];
        assert_eq!(chosen(&own, no_hop, &[]), "3 192.0.2.1", "the first");
        assert_eq!(chosen(&own, hop("198.51.100.254", ""), &[]), "3 198.51.100.1", "the router's subnet");
        assert_eq!(chosen(&own, hop("198.51.100.254", "192.0.2.1"), &[]), "3 192.0.2.1", "as the route says");
        let other = DefaultHop { device: 2, ..hop("198.51.100.254", "198.51.100.1") };
        assert_eq!(chosen(&own, other, &[]), "3 192.0.2.1", "another device's router");
        own.insert(0, have("192.0.2.77/24", Reluctant));
        own.insert(0, have("192.0.2.78/24", Tentative));
        assert_eq!(chosen(&own, hop("192.0.2.254", ""), &[]), "3 192.0.2.1", "a secondary one is the last choice");
        assert_eq!(chosen(&own[..2], no_hop, &[]), "3 192.0.2.77", "but one");

        own.push(have("2001:db8::5/64", Reluctant));
        own.push(have("2001:db8:1::5/64", Preferred));
        let both = chosen(&own, hop("2001:db8::fe", ""), &[]);
        assert_eq!(both, "3 192.0.2.1, 3 2001:db8:1::5", "a deprecated one is the last choice");
        let known: Vec<IpAddr> = ["198.51.100.1", "192.0.2.1", "2001:db8::5"].into_iter().filter_map(ip).collect();
        let both = chosen(&own, hop("192.0.2.254", "192.0.2.1"), &known);
        assert_eq!(both, "3 198.51.100.1, 3 2001:db8::5", "the cluster knows the node by it");
    }
}
