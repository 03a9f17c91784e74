//! The ways to and from a node that stay open whatever policies say: no policy can cut the way by which it is taken back.
//!
//! Answers, ICMP errors, neighbour discovery and the tunnel are no matter of policies at all: the node's programs let them pass.

use std::net::IpAddr;
use std::sync::Arc;

use axoneme_proto::tables::{Action, Tier};

use super::parsed::{Owners, ParsedDirection, ParsedPeer, ParsedPolicy, ParsedRule, Subjects, Verdict};
use super::ports::{PortKey, PortSet};
use crate::object::{Protocol, Selector};

/// How rows, and so verdicts, name who keeps these ways open.
pub const LABEL: &str = "axoneme:emergency";

/// Goes before all that anybody can write: ClusterNetworkPolicies count from 1.
const FIRST: Verdict = Verdict { tier: Tier::Admin, order: 0, action: Action::Allow };

/// Ports that a DHCP client is answered at, IPv4 and IPv6.
const DHCP_CLIENT: [u16; 2] = [68, 546];
/// Ports that it asks.
const DHCP_SERVER: [u16; 2] = [67, 547];

/// Port of name servers.
const DNS: u16 = 53;

/// Ports by which nodes and their operators stay in reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emergency {
    /// TCP ports of nodes by which people and the control plane reach them.
    pub ports: Arc<[u16]>,
    /// TCP port of NodeSync: any node may be an operator's.
    pub nodesync: u16,
    /// Where the operator itself finds the API server, which may be none of the addresses behind its Service.
    pub server: Option<ApiServer>,
}

/// An API server's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiServer {
    /// At an address and TCP port.
    Address(IpAddr, u16),
    /// At a TCP port of whom a name means.
    Name(u16),
}

impl Emergency {
    /// These ways as a policy of all nodes, which isolates none.
    #[must_use]
    pub fn policy(&self) -> ParsedPolicy {
        let everybody = || vec![ParsedPeer::Everything];
        let tcp = |port| vec![PortKey::one(Protocol::Tcp, port)];
        let udp = |ports: [u16; 2]| ports.map(|port| PortKey::one(Protocol::Udp, port)).to_vec();
        let nodesync = || rule("nodesync", everybody(), tcp(self.nodesync));
        let mut ingress: Vec<_> = self.ports.iter().map(|port| rule(&name(*port), everybody(), tcp(*port))).collect();
        ingress.extend([nodesync(), rule("dhcp", everybody(), udp(DHCP_CLIENT))]);
        let api_server = rule("api-server", vec![ParsedPeer::ApiServer], vec![PortKey::all(Protocol::Tcp)]);
        let mut egress = vec![nodesync(), api_server, rule("dhcp", everybody(), udp(DHCP_SERVER))];
        match self.server {
            Some(ApiServer::Address(address, port)) => {
                let at = ParsedPeer::Block { cidr: address.into(), except: Vec::new(), of: Owners::All };
                egress.push(rule("api-server", vec![at], tcp(port)));
            }
            Some(ApiServer::Name(port)) => {
                let dns = [Protocol::Tcp, Protocol::Udp].map(|protocol| PortKey::one(protocol, DNS));
                egress.extend([rule("api-server", everybody(), tcp(port)), rule("dns", everybody(), dns.into())]);
            }
            None => {}
        }
        ParsedPolicy {
            subjects: Subjects::Nodes(Selector::default()),
            field: "".into(),
            ingress: ParsedDirection { isolates: false, rules: ingress },
            egress: ParsedDirection { isolates: false, rules: egress },
            audits: false,
            log: None,
        }
    }
}

fn rule(field: &str, peers: Vec<ParsedPeer>, keys: Vec<PortKey>) -> ParsedRule {
    ParsedRule { field: field.into(), verdict: FIRST, peers, ports: PortSet { keys, named: Vec::new() } }
}

/// What listens at a port where nobody has moved it.
fn name(port: u16) -> String {
    match port {
        22 => "ssh".to_owned(),
        6443 => "api-server".to_owned(),
        10250 => "kubelet".to_owned(),
        other => format!("tcp-{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(rules: &[ParsedRule]) -> Vec<String> {
        let port = |key: &PortKey| match key.bits {
            0 => format!("{}", key.protocol),
            _ => format!("{}/{}", key.protocol, key.port),
        };
        let ports = |rule: &ParsedRule| rule.ports.keys.iter().map(port).collect::<Vec<_>>().join(" ");
        rules.iter().map(|rule| format!("{} {}", rule.field, ports(rule))).collect()
    }

    #[test]
    fn what_stays_open_is_named_by_what_listens_there() {
        let policy = Emergency { ports: [22, 10250, 6443, 2222].into(), nodesync: 4246, server: None }.policy();
        let ports = ["ssh 6/22", "kubelet 6/10250", "api-server 6/6443", "tcp-2222 6/2222"];
        assert_eq!(said(&policy.ingress.rules), [&ports[..], &["nodesync 6/4246", "dhcp 17/68 17/546"]].concat());
        assert_eq!(said(&policy.egress.rules), ["nodesync 6/4246", "api-server 6", "dhcp 17/67 17/547"]);
        assert_eq!(policy.egress.rules[1].peers, [ParsedPeer::ApiServer]);
        assert!(!policy.ingress.isolates && !policy.egress.isolates);
    }

    #[test]
    fn the_operator_finds_its_api_server_wherever_that_is() {
        let egress =
            |server| Emergency { ports: [].into(), nodesync: 4246, server: Some(server) }.policy().egress.rules;
        let usual = ["nodesync 6/4246", "api-server 6", "dhcp 17/67 17/547"];
        let at = egress(ApiServer::Address([192, 0, 2, 10].into(), 443));
        assert_eq!(said(&at), [&usual[..], &["api-server 6/443"]].concat());
        let block =
            |peer: &ParsedPeer| matches!(peer, ParsedPeer::Block { cidr, .. } if cidr.to_string() == "192.0.2.10/32");
        assert!(at[3].peers.iter().all(block), "{:?}", at[3]);
        // Of a name nobody knows what it means; who asks for it has to be answered, too.
        let named = egress(ApiServer::Name(6443));
        assert_eq!(said(&named), [&usual[..], &["api-server 6/6443", "dns 6/53 17/53"]].concat());
        assert_eq!(named[3].peers, [ParsedPeer::Everything]);
    }

    #[test]
    fn it_goes_before_all_that_others_write() {
        let policy = Emergency { ports: [22].into(), nodesync: 4246, server: None }.policy();
        let rules = policy.ingress.rules.iter().chain(&policy.egress.rules);
        assert!(rules.clone().all(|rule| rule.verdict.action == Action::Allow));
        assert!(rules.clone().all(|rule| rule.verdict.weight() < (Tier::Admin, 1, 0)));
    }
}
