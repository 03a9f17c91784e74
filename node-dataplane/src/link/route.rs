//! Routes of the main table. Ours carry a protocol number, by which they are found again.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
    RouteType, RouteVia,
};

use super::{LinkError, Links, Operation};

/// Who made a route: numbers that neither the kernel's nor iproute2's list gives to a routing daemon (186 to 192 do) nor
/// FRRouting uses. `ip route show proto 201`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The node: routes to other nodes' pods and what guards its own pod CIDRs.
    Node,
    /// An attachment: routes to one pod of this node, gone with its device.
    Pod,
}

impl Owner {
    /// The protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Node => 201,
            Self::Pod => 202,
        }
    }
}

/// A route. Equality is what [`Links::sync_routes`] compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteEntry {
    /// Where to.
    pub destination: IpNet,
    /// Through which device; `None`: packets are answered as unreachable.
    pub device: Option<u32>,
    /// Through which router; must be on the device.
    pub gateway: Option<IpAddr>,
    /// What the host sends from.
    pub source: Option<IpAddr>,
    /// MTU of the path, where it is smaller than the device's.
    pub mtu: Option<u32>,
}

impl RouteEntry {
    /// To neighbours on a device.
    #[must_use]
    pub fn direct(destination: IpNet, device: u32) -> Self {
        Self { destination, device: Some(device), gateway: None, source: None, mtu: None }
    }

    /// Answered as unreachable, unless a longer prefix says otherwise.
    #[must_use]
    pub fn unreachable(destination: IpNet) -> Self {
        Self { destination, device: None, gateway: None, source: None, mtu: None }
    }

    /// Everything of a family that no other route takes.
    #[must_use]
    pub fn default_via(gateway: IpAddr, device: u32) -> Self {
        Self { gateway: Some(gateway), ..Self::direct(any(gateway), device) }
    }
}

impl fmt::Display for RouteEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route to {}", self.destination)?;
        match self.gateway {
            Some(gateway) => write!(f, " via {gateway}"),
            None => Ok(()),
        }
    }
}

impl Links {
    /// The routes of the main table that `keep` says of.
    async fn list_routes(
        &self,
        keep: impl Fn(&RouteMessage) -> bool,
    ) -> Result<Vec<(RouteEntry, RouteMessage)>, LinkError> {
        let _listing = self.listing.lock().await;
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let listed: Result<Vec<_>, _> = self.handle.route().get(request).execute().try_collect().await;
            let listed = listed.map_err(LinkError::netlink(Operation::List, "routes"))?;
            let ours = listed
                .into_iter()
                .filter(|message| message.header.table == RouteHeader::RT_TABLE_MAIN && keep(message));
            routes.extend(ours.filter_map(|message| Some((parse(&message)?, message))));
        }
        Ok(routes)
    }

    /// The routes that `owner` made.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn routes(&self, owner: Owner) -> Result<Vec<RouteEntry>, LinkError> {
        let listed = self.list_routes(|message| owned_by(message, owner)).await?;
        Ok(listed.into_iter().map(|(route, _)| route).collect())
    }

    /// Whether there is this route, from whatever address the host sends by it.
    pub(super) async fn has_route(&self, wanted: &RouteEntry, owner: Owner) -> Result<bool, LinkError> {
        let same = |have: &RouteEntry| RouteEntry { source: wanted.source, ..*have } == *wanted;
        Ok(self.routes(owner).await?.iter().any(same))
    }

    /// The routes that others made and that say where the world and where neighbours are.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn underlay(&self) -> Result<Underlay, LinkError> {
        let others = |message: &RouteMessage| {
            let header = &message.header;
            let ours = owned_by(message, Owner::Node) || owned_by(message, Owner::Pod);
            !ours && header.kind == RouteType::Unicast
        };
        let listed = self
            .list_routes(|message| others(message) && (is_default(message) || gateway(&message.attributes).is_none()))
            .await?;
        let mut underlay = Underlay::default();
        let (mut default, on_link): (Vec<_>, Vec<_>) = listed.into_iter().partition(|(_, message)| is_default(message));
        default.sort_by_key(|(_, message)| priority(message));
        underlay.default = default.iter().flat_map(|(route, message)| hops(message, route.source)).collect();
        let global = |net: &IpNet| match net.addr() {
            IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_multicast(),
            IpAddr::V6(v6) => !v6.is_unicast_link_local() && !v6.is_multicast(),
        };
        let on_link = on_link.into_iter().filter_map(|(route, _)| Some((route.destination, route.device?)));
        underlay.on_link = on_link.filter(|(net, _)| global(net)).collect();
        // The kernel takes the longest one.
        underlay.on_link.sort_by_key(|(net, device)| (std::cmp::Reverse(net.prefix_len()), *net, *device));
        Ok(underlay)
    }

    /// Sets a route, in place of one to the same destination.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn set_route(&self, route: &RouteEntry, owner: Owner) -> Result<(), LinkError> {
        let request = self.handle.route().add(message(route, owner)).replace();
        request.execute().await.map_err(LinkError::netlink(Operation::Set, route))
    }

    /// Makes the routes of `owner` exactly these: sets what is missing or different, then removes what is left over. Routes
    /// that others made are not touched. Returns what could not be done, by route; a failed removal names the route that stays.
    ///
    /// # Errors
    /// When the routes cannot even be listed.
    pub async fn sync_routes(
        &self,
        owner: Owner,
        wanted: &[RouteEntry],
    ) -> Result<Vec<(RouteEntry, LinkError)>, LinkError> {
        let present = self.list_routes(|message| owned_by(message, owner)).await?;
        let mut failed = Vec::new();
        for route in wanted.iter().filter(|route| !present.iter().any(|(have, _)| have == *route)) {
            if let Err(error) = self.set_route(route, owner).await {
                failed.push((*route, error));
            }
        }
        for (stale, message) in present {
            if wanted.iter().any(|route| route.destination == stale.destination) {
                continue;
            }
            let deleted = self.handle.route().del(message).execute().await;
            match deleted.map_err(LinkError::netlink(Operation::Delete, stale)) {
                Err(error) if !error.is_absent() => failed.push((stale, error)),
                _ => {}
            }
        }
        Ok(failed)
    }
}

/// Where a default route leads; it may have several hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultHop {
    /// Index of the device.
    pub device: u32,
    /// The router, if it has an address.
    pub router: Option<IpAddr>,
    /// What the host sends from, where the route says so.
    pub source: Option<IpAddr>,
}

/// Where the underlay's routes lead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Underlay {
    /// Hops of default routes, preferred ones (lowest metric) first.
    pub default: Vec<DefaultHop>,
    /// Prefixes that are reached without a router, longest first: prefix and device.
    pub on_link: Vec<(IpNet, u32)>,
}

fn is_default(message: &RouteMessage) -> bool {
    message.header.destination_prefix_length == 0
}

fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Via(RouteVia::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    })
}

fn hops(message: &RouteMessage, source: Option<IpAddr>) -> Vec<DefaultHop> {
    let hop = |device, attributes: &[_]| DefaultHop { device, router: gateway(attributes), source };
    let mut hops = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(device) => hops.push(hop(*device, &message.attributes)),
            RouteAttribute::MultiPath(next) => {
                hops.extend(next.iter().map(|next| hop(next.interface_index, &next.attributes)));
            }
            _ => {}
        }
    }
    hops
}

fn owned_by(message: &RouteMessage, owner: Owner) -> bool {
    u8::from(message.header.protocol) == owner.number()
}

fn any(family_of: IpAddr) -> IpNet {
    match family_of {
        IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
        IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
    }
}

fn priority(message: &RouteMessage) -> u32 {
    let found = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Priority(priority) => Some(*priority),
        _ => None,
    });
    found.unwrap_or(0)
}

fn message(route: &RouteEntry, owner: Owner) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.table = RouteHeader::RT_TABLE_MAIN;
    header.protocol = RouteProtocol::from(owner.number());
    header.kind = if route.device.is_some() { RouteType::Unicast } else { RouteType::Unreachable };
    header.destination_prefix_length = route.destination.prefix_len();
    header.address_family = if route.destination.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    // The kernel insists on this for IPv4 and has no scopes in IPv6.
    let neighbours = route.device.is_some() && route.gateway.is_none() && route.destination.addr().is_ipv4();
    header.scope = if neighbours { RouteScope::Link } else { RouteScope::Universe };
    if route.gateway.is_some() {
        header.flags |= RouteFlags::Onlink;
    }
    if route.destination.prefix_len() > 0 {
        message.attributes.push(RouteAttribute::Destination(RouteAddress::from(route.destination.addr())));
    }
    message.attributes.extend(route.device.map(RouteAttribute::Oif));
    message.attributes.extend(route.gateway.map(|address| RouteAttribute::Gateway(address.into())));
    message.attributes.extend(route.source.map(|address| RouteAttribute::PrefSource(address.into())));
    message.attributes.extend(route.mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])));
    message
}

fn parse(message: &RouteMessage) -> Option<RouteEntry> {
    let unreachable = message.header.kind == RouteType::Unreachable;
    if !unreachable && message.header.kind != RouteType::Unicast {
        return None;
    }
    let length = message.header.destination_prefix_length;
    let unspecified = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let mut route = RouteEntry::unreachable(IpNet::new(unspecified, length).ok()?);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => route.destination = IpNet::new(ip(address)?, length).ok()?,
            RouteAttribute::Oif(index) if !unreachable => route.device = Some(*index),
            RouteAttribute::Gateway(address) => route.gateway = ip(address),
            RouteAttribute::PrefSource(address) => route.source = ip(address),
            RouteAttribute::Metrics(metrics) => {
                route.mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Some(route)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}
