//! Settings of some nodes only.

use std::sync::Arc;

use ipnet::IpNet;

use super::{Name, Selector};

/// What a CiliumNodeConfig says of the nodes that it selects. Where several select a node, the one whose name comes last wins, setting
/// by setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// The object.
    pub name: Name,
    /// `spec.nodeSelector`; empty: all nodes.
    pub selector: Selector,
    /// What is set.
    pub overrides: Box<[Override]>,
    /// `metadata.resourceVersion`.
    pub resource_version: Arc<str>,
}

/// A setting that nodes may have for themselves, named as Cilium's agent names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Override {
    /// `mtu`: of pods; 0: derived.
    Mtu(u32),
    /// `enable-ipv4-masquerade`.
    MasqueradeIpv4(bool),
    /// `enable-ipv6-masquerade`.
    MasqueradeIpv6(bool),
    /// `auto-direct-node-routes`.
    DirectRoutes(bool),
    /// `direct-routing-skip-unreachable`.
    SkipUnreachable(bool),
    /// `ipv4-native-routing-cidr` and `ipv6-native-routing-cidr`: beside the cluster's.
    NoMasquerade(IpNet),
}

impl Override {
    /// The settings that there are.
    pub const NAMES: [&str; 7] = [
        "mtu",
        "enable-ipv4-masquerade",
        "enable-ipv6-masquerade",
        "auto-direct-node-routes",
        "direct-routing-skip-unreachable",
        "ipv4-native-routing-cidr",
        "ipv6-native-routing-cidr",
    ];

    /// Reads a setting.
    ///
    /// # Errors
    /// Saying what is wrong with the value, or that there is no such setting of single nodes.
    pub fn parse(name: &str, value: &str) -> Result<Self, String> {
        let flag = || value.parse::<bool>().map_err(|_| format!("{value:?} is neither true nor false"));
        let cidr = |ipv4: bool| {
            let net = value.parse::<IpNet>().ok().filter(|net| net.addr().is_ipv4() == ipv4);
            net.map(|net| Self::NoMasquerade(net.trunc())).ok_or_else(|| format!("{value:?} is no CIDR of its family"))
        };
        match name {
            "mtu" => match value.parse() {
                Ok(mtu) if mtu == 0 || (1280..=65_535).contains(&mtu) => Ok(Self::Mtu(mtu)),
                _ => Err(format!("{value:?} is neither 0 nor within 1280 to 65535")),
            },
            "enable-ipv4-masquerade" => flag().map(Self::MasqueradeIpv4),
            "enable-ipv6-masquerade" => flag().map(Self::MasqueradeIpv6),
            "auto-direct-node-routes" => flag().map(Self::DirectRoutes),
            "direct-routing-skip-unreachable" => flag().map(Self::SkipUnreachable),
            "ipv4-native-routing-cidr" => cidr(true),
            "ipv6-native-routing-cidr" => cidr(false),
            _ => Err(format!("is no setting of single nodes; there are {}", Self::NAMES.join(", "))),
        }
    }
}
