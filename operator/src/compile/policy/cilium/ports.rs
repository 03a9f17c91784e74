//! Which packets a rule names.

use axoneme_crds::v2::policy::PortProtocol;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::clause::Clause;
use super::{LAYER_7, Parser};
use crate::compile::policy::icmp;
use crate::compile::policy::ports::{NamedPort, PortKey, PortSet};
use crate::object::{Direction, Protocol};

/// What a port may stand beside.
enum Protocols {
    /// Absent or `ANY`.
    Any,
    /// One with ports.
    Ports(Protocol),
    /// One without, by its IANA number.
    Bare(u8),
}

impl Protocols {
    fn of(text: Option<&str>) -> Option<Self> {
        let bare = |number| Some(Self::Bare(number));
        match text.unwrap_or("ANY") {
            "" | "ANY" => Some(Self::Any),
            "IGMP" => bare(2),
            "IPIP" => bare(4),
            "IPV6" => bare(41),
            "GRE" => bare(47),
            "ESP" => bare(50),
            "AH" => bare(51),
            "VRRP" => bare(112),
            other => Protocol::from_kubernetes(other).map(Self::Ports),
        }
    }

    /// Those of them that have ports.
    fn with_ports(&self) -> Vec<Protocol> {
        match self {
            Self::Any => Protocol::ALL.to_vec(),
            Self::Ports(protocol) => vec![*protocol],
            Self::Bare(_) => Vec::new(),
        }
    }

    /// All packets of them.
    const fn all(&self) -> PortKey {
        match self {
            Self::Any => PortKey::ANY,
            Self::Ports(protocol) => PortKey::all(*protocol),
            Self::Bare(number) => PortKey { protocol: *number, port: 0, bits: 0 },
        }
    }
}

impl Parser<'_> {
    /// All that a rule names; everything if it names nothing.
    pub(super) fn ports(&mut self, clause: &Clause<'_>) -> PortSet {
        let mut set = PortSet::default();
        if clause.ports.is_empty() && clause.icmps.is_empty() {
            set.keys.push(PortKey::ANY);
            return set;
        }
        if !clause.ports.is_empty() && !clause.icmps.is_empty() {
            self.invalid(clause, "icmps", "cannot stand beside toPorts in one rule");
            if !clause.denies {
                return set;
            }
        }
        for (i, ports) in clause.ports.iter().enumerate() {
            if let Some(field) = ports.beyond {
                self.later(clause, format_args!("toPorts[{i}].{field}"), LAYER_7);
            } else if ports.ports.is_empty() {
                set.keys.push(PortKey::ANY);
            }
            for (j, port) in ports.ports.iter().enumerate().filter(|_| ports.beyond.is_none()) {
                if !self.port(clause, &format!("toPorts[{i}].ports[{j}]"), port, &mut set) && clause.denies {
                    set.keys.push(PortKey::ANY);
                }
            }
        }
        self.icmps(clause, &mut set);
        set.keys.sort_unstable();
        set.keys.dedup();
        set.named.sort_unstable();
        set.named.dedup();
        set
    }

    /// Adds a port to the set; false if it has no meaning.
    fn port(&mut self, clause: &Clause<'_>, field: &str, port: &PortProtocol, set: &mut PortSet) -> bool {
        let Some(protocols) = Protocols::of(port.protocol.as_deref()) else {
            let text = port.protocol.as_deref().unwrap_or_default();
            self.invalid(clause, format_args!("{field}.protocol"), format_args!("{text:?} is no protocol"));
            return false;
        };
        let text = port.port.as_deref().filter(|text| !matches!(*text, "" | "0"));
        let Some(text) = text else {
            set.keys.push(protocols.all());
            return true;
        };
        if let Protocols::Bare(_) = protocols {
            self.invalid(clause, format_args!("{field}.port"), "this protocol has no ports");
            return false;
        }
        let Ok(first) = text.parse::<u32>() else {
            if clause.of_nodes && clause.direction == Direction::Ingress {
                self.invalid(clause, format_args!("{field}.port"), "a port by name means a pod's, and nodes have none");
                return false;
            }
            let name = |protocol| NamedPort { name: text.to_ascii_lowercase().into(), protocol };
            set.named.extend(protocols.with_ports().into_iter().map(name));
            return true;
        };
        let last = port.end_port.filter(|last| *last != 0).map_or(Ok(first), u32::try_from);
        let number = |port: u32| u16::try_from(port).ok().filter(|port| *port > 0);
        let (first, last) = (number(first), last.ok().and_then(number));
        let (Some(first), Some(last)) = (first, last.filter(|last| Some(*last) >= first)) else {
            self.invalid(clause, field, "is no range of ports from 1 to 65535");
            return false;
        };
        set.keys.extend(protocols.with_ports().into_iter().flat_map(|protocol| PortKey::range(protocol, first, last)));
        true
    }

    fn icmps(&mut self, clause: &Clause<'_>, set: &mut PortSet) {
        for (i, rule) in clause.icmps.iter().enumerate() {
            for (j, message) in rule.fields.iter().flatten().enumerate() {
                let v6 = message.family.as_deref() == Some("IPv6");
                let number = match &message.type_ {
                    IntOrString::Int(number) => u8::try_from(*number).ok(),
                    IntOrString::String(text) => text.parse().ok().or_else(|| icmp::number(text, v6)),
                };
                match number {
                    Some(number) => set.keys.push(PortKey::icmp(number, v6)),
                    None => {
                        let field = format!("icmps[{i}].fields[{j}].type");
                        self.invalid(clause, field, "is no type of ICMP messages of this family");
                        set.keys.extend(clause.denies.then(|| PortKey::all_icmp(v6)));
                    }
                }
            }
        }
    }
}
