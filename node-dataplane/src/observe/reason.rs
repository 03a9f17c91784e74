//! Why packets were dropped, as metrics say it.
//!
//! Dashboards and alerts ask for the texts of Cilium's label `reason`. Reasons of the same meaning have Cilium's numbers, and here
//! its texts; those of this project alone have texts of their own.

use axoneme_bpf::metrics::Reason;

/// The value of the label `reason`; None for a number that programs of another build count.
#[must_use]
pub fn text(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::INVALID_SOURCE_MAC => "Invalid source mac",
        Reason::INVALID_SOURCE_IP => "Invalid source ip",
        Reason::POLICY_DEFAULT_DENY => "Policy denied",
        Reason::INVALID_PACKET => "Invalid packet",
        Reason::CT_INVALID_HEADER => "CT: Truncated or invalid header",
        Reason::UNSUPPORTED_L3 => "Unsupported L3 protocol",
        Reason::WRITE_FAILED => "Error writing to packet",
        Reason::UNSUPPORTED_L4 => "Unknown L4 protocol",
        Reason::NO_TUNNEL_KEY => "Error retrieving tunnel key",
        Reason::NO_ENDPOINT => "No matching local container found",
        Reason::CT_NO_SPACE => "CT: Map insertion failed",
        Reason::INVALID_EXTENSION_HEADER => "Invalid IPv6 extension header",
        Reason::FRAG_UNSUPPORTED => "IP fragmentation not supported",
        Reason::NO_SERVICE_BACKEND => "Service backend not found",
        Reason::NO_TUNNEL_ENDPOINT => "No tunnel/encapsulation endpoint (datapath BUG!)",
        Reason::NO_CONFIG => "No configuration available to perform policy decision",
        Reason::NAT_NO_MAPPING => "No mapping for NAT masquerade",
        Reason::NAT_UNSUPPORTED_PROTOCOL => "Unsupported protocol for NAT masquerade",
        Reason::NO_ROUTE => "FIB lookup failed",
        Reason::TUNNEL_FROM_POD => "Encapsulation traffic is prohibited",
        Reason::INVALID_IDENTITY => "Invalid identity",
        Reason::UNKNOWN_SENDER => "Unknown sender",
        Reason::FRAG_NOT_FOUND => "First logical datagram fragment not found",
        Reason::FORBIDDEN_ICMPV6 => "Forbidden ICMPv6 message",
        Reason::POLICY_DENY => "Policy denied by denylist",
        Reason::TTL_EXCEEDED => "TTL exceeded",
        Reason::V4_MAPPED_IPV6 => "IPv4-mapped IPv6 address",
        Reason::NAT_NO_PORT => "No port left for NAT masquerade",
        Reason::BANDWIDTH_LIMIT => "Bandwidth limit exceeded",
        Reason::NO_SERVICE => "Service has no such port",
        Reason::NO_LOCAL_BACKEND => "Service has no backend on this node",
        Reason::TOO_LONG => "Packet too long for the tunnel",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// From here on numbers are this project's own.
    const OWN: u8 = 224;

    /// Number and text of every reason of Cilium 1.20-dev, as `pkg/monitor/api/drop.go` has them.
    fn cilium() -> BTreeMap<u8, &'static str> {
        let lines = include_str!("reason/cilium.txt").lines();
        lines.map(|line| line.split_once(' ').unwrap()).map(|(number, text)| (number.parse().unwrap(), text)).collect()
    }

    #[test]
    fn reasons_that_cilium_has_are_told_in_its_words_and_others_in_words_that_it_does_not_use() {
        let cilium = cilium();
        assert_eq!(cilium.len(), 91);
        for (name, reason) in Reason::ALL.iter().filter(|(_, reason)| reason.is_drop()) {
            let told = text(*reason).unwrap_or_else(|| panic!("{name} has no text"));
            match cilium.get(&reason.0) {
                Some(theirs) => assert_eq!(told, *theirs, "{name}"),
                None => {
                    assert!(reason.0 >= OWN, "{name} has a number that Cilium may give to another reason");
                    assert!(cilium.values().all(|theirs| *theirs != told), "{name}");
                }
            }
        }
        let texts: BTreeSet<_> = Reason::ALL.iter().filter_map(|(_, reason)| text(*reason)).collect();
        assert_eq!(texts.len(), Reason::ALL.iter().filter(|(_, reason)| reason.is_drop()).count(), "each its own");
    }
}
