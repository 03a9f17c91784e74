//! What the kernel's maps hold, in words; numbers that only this node knows are left out.

use std::collections::BTreeMap;

use axoneme_bpf::address::{Address, AddressKind, AddressPath, CidrKey};
use axoneme_bpf::inet::{Direction, Family, Inet};
use axoneme_bpf::policy::{Action, PolicyFlags, PolicyRuleKey, RulePeer, Verdicts};
use axoneme_bpf::service::{BackendKey, ServiceFlags};
use axoneme_bpf::uplink::Uplink;
use axoneme_node::reconcile::Engine;

use super::kernel::Machine;

/// All sections by name.
pub fn dump(machine: &Machine, engine: &Engine) -> BTreeMap<&'static str, Vec<String>> {
    let mut out = BTreeMap::new();
    let mut add = |section, mut lines: Vec<String>| {
        lines.sort();
        out.insert(section, lines);
    };
    let addresses = machine.addresses.entries();
    add("addresses", addresses.iter().map(|(k, v)| format!("{} {}", ip(k.address, k.family), owner(v))).collect());
    let cidrs = machine.cidrs.entries();
    add(
        "cidrs",
        cidrs
            .iter()
            .map(|(k, v)| format!("{}/{} {}", ip(k.address, k.family), k.prefixlen - CidrKey::STATIC_BITS, owner(v)))
            .collect(),
    );
    add("services", services(machine));
    add("policies", policies(machine, engine));
    let attached = machine.pods.0.lock().unwrap();
    let indexes = engine.indexes();
    let pod = |pod: &axoneme_node::reconcile::ops::AttachedEndpoint| {
        let subject = indexes.iter().find(|(_, index)| **index == pod.enforcement.policy_index);
        let policy = subject.map_or("none".to_owned(), |(identity, _)| identity.to_string());
        format!("{} identity {} policy {policy}", pod.pod_uid, pod.enforcement.identity)
    };
    add("endpoints", attached.iter().map(pod).collect());
    let routes = machine.routes.lock().unwrap();
    add(
        "routes",
        routes
            .iter()
            .map(|r| match r.via {
                Some(via) => format!("{} via {} dev {}", r.cidr, via.address, via.device),
                None => format!("{} overlay", r.cidr),
            })
            .collect(),
    );
    let neighbours = machine.neighbours.lock().unwrap();
    add("neighbours", neighbours.iter().map(|hop| format!("{} dev {}", hop.address, hop.device)).collect());
    let exclusions = machine.no_masquerade.entries();
    let net = |k: &CidrKey| format!("{}/{}", ip(k.address, k.family), k.prefixlen - CidrKey::STATIC_BITS);
    add("noMasquerade", exclusions.keys().map(net).collect());
    let uplinks = machine.uplinks.entries();
    let held = |(inet, family): (Inet, Family)| if inet == Inet::ZERO { "-".into() } else { ip(inet, family) };
    let uplink = |(device, v): (&u32, &Uplink)| {
        format!("{device} {} {}", held((v.ipv4, Family::IPV4)), held((v.ipv6, Family::IPV6)))
    };
    add("uplinks", uplinks.iter().map(uplink).collect());
    let config = machine.config.entries()[&0];
    add(
        "config",
        vec![format!(
            "flags {:#x} tunnel {} port {} uplink {} mtu {} pods {} node {}",
            config.flags.0,
            config.tunnel_ifindex,
            config.tunnel_port.get(),
            config.uplink_ifindex,
            config.uplink_mtu,
            config.pod_mtu,
            ip(config.node_ipv4, Family::IPV4),
        )],
    );
    let status = engine.status();
    add("failures", status.failures.iter().map(|(id, f)| format!("{} {} {:?}", id.scope, id.key, f.code())).collect());
    add("problems", status.problems);
    out
}

fn ip(inet: Inet, family: Family) -> String {
    inet.to_ip(family).map_or("-".into(), |ip| ip.to_string())
}

fn owner(row: &Address) -> String {
    let mut tunnel = ip(row.tunnel, row.tunnel_family);
    if row.path == AddressPath::DIRECT {
        tunnel = format!("{tunnel} dev {}", row.ifindex);
    }
    match row.kind {
        AddressKind::ENDPOINT => format!("endpoint {}", row.ifindex),
        AddressKind::POD => format!("pod {} via {tunnel}", row.identity),
        AddressKind::NODE_OVERLAY => format!("node-overlay via {tunnel}"),
        kind => kind.to_string(),
    }
}

fn services(machine: &Machine) -> Vec<String> {
    let mut backends = machine.backends.entries();
    let mut lines = Vec::new();
    for (key, service) in machine.services.entries() {
        let mut targets = Vec::new();
        for index in 0..service.backends {
            let backend = machine.backends.entries()[&BackendKey { service: service.id, index }];
            backends.remove(&BackendKey { service: service.id, index });
            targets.push(format!("{}:{}", ip(backend.address, backend.family), backend.port.get()));
        }
        let targets = if targets.is_empty() { "nobody".into() } else { targets.join(" ") };
        let targets = match service.affinity {
            0 => targets,
            seconds => format!("{targets} for {seconds}s"),
        };
        let for_whom = [
            (key.is_apart(), " from outside"),
            (!key.is_apart() && service.flags.contains(ServiceFlags::OUTSIDE), " open"),
            (service.flags.contains(ServiceFlags::APART), " apart"),
        ];
        let for_whom: String = for_whom.iter().filter(|(is, _)| *is).map(|(_, text)| *text).collect();
        let at = format!("{}:{}/{}", ip(key.address, key.family), key.port.get(), key.transport());
        lines.push(format!("{at}{for_whom} -> {targets}"));
    }
    lines.extend(backends.keys().map(|key| format!("backend {} of no service", key.index)));
    lines
}

fn policies(machine: &Machine, engine: &Engine) -> Vec<String> {
    let name = |wanted: u32| match wanted {
        0 => "nobody".to_owned(),
        _ => engine.names().get(wanted).map_or_else(|| "unknown".into(), |origin| origin.policy.to_string()),
    };
    let mut slots = BTreeMap::new();
    let mut lines = Vec::new();
    for (identity, index) in engine.indexes() {
        let policy = machine.policies.entries()[&index];
        if policy.generation == 0 {
            continue;
        }
        slots.insert(policy.slot, identity.to_string());
        let enforced = |flag: PolicyFlags, cookie| {
            if policy.flags.0 & flag.0 == 0 { "open".to_owned() } else { format!("closed by {}", name(cookie)) }
        };
        let ingress = enforced(PolicyFlags::ENFORCE_INGRESS, policy.ingress_cookie);
        let egress = enforced(PolicyFlags::ENFORCE_EGRESS, policy.egress_cookie);
        lines.push(format!("{identity} ingress {ingress}, egress {egress}"));
    }
    let subject = |slot| slots.get(&slot).cloned().unwrap_or_else(|| "orphan".into());
    for (key, value) in machine.rules.entries() {
        let (direction, peer) = (way(key.direction), key.peer);
        lines.push(format!("{} {direction} {peer:?} {} {}", subject(key.slot), ports(&key), verdict(&value, &name)));
    }
    for (key, value) in machine.classes.entries() {
        let length = key.prefixlen - axoneme_bpf::policy::PolicyClassKey::STATIC_BITS;
        let (address, direction) = (ip(key.address, key.family), way(key.direction));
        let of = |class: u32| if class == 0 { "-".into() } else { format!("{:?}", RulePeer::class(class)) };
        lines.push(format!(
            "{} {direction} {address}/{length} pod {} node {} world {}",
            subject(key.slot),
            of(value.if_pod),
            of(value.if_node),
            of(value.if_world)
        ));
    }
    lines
}

fn way(direction: Direction) -> &'static str {
    if direction == Direction::INGRESS { "from" } else { "to" }
}

fn ports(key: &PolicyRuleKey) -> String {
    match key.prefixlen.checked_sub(PolicyRuleKey::PROTOCOL_BITS) {
        None => "any".into(),
        Some(0) => format!("{}", key.protocol),
        Some(16) => format!("{}:{}", key.protocol, key.port.get()),
        Some(bits) => format!("{}:{}/{bits}", key.protocol, key.port.get()),
    }
}

fn verdict(value: &Verdicts, name: &impl Fn(u32) -> String) -> String {
    let said = value.tiers.iter().filter(|tier| tier.action != Action::NONE);
    let said: Vec<String> = said.map(|tier| format!("{} {}", tier.action, name(tier.cookie))).collect();
    if said.is_empty() { "nothing".into() } else { said.join(", ") }
}
