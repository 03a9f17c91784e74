//! What an event costs the engine in a cluster of 10,000 pods: `cargo bench -p axoneme-operator --bench compile`.
//!
//! Prints, for each kind of event, the median and the worst of many repetitions, in microseconds, from taking the event in to
//! rows published. Figures depend on the machine; what they are compared with is 5 ms for a policy.
//!
//! With `-- --figures` it measures 1,000 policies over 5,000 identities instead, and prints one JSON object a figure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use axoneme_operator::engine::{Config, Core, Demands, Input};
use axoneme_operator::object::{
    CiliumIdentity, CiliumNode, Kind, LedgerAddress, Name, Namespace, NetworkPolicy, Node, Object, Peer, Pod,
    PolicyPort, PolicyRule, PoolEntry, PortRef, Selector,
};
use axoneme_operator::publish::journal::Journal;
use axoneme_proto::tables::Settings;
use serde_json::json;

const NODES: u32 = 100;
const NAMESPACES: u32 = 50;
const PODS: u32 = 10_000;

/// How large a cluster is.
#[derive(Clone, Copy)]
struct Size {
    pods: u32,
    /// Different ones in a namespace.
    apps: u32,
    /// NetworkPolicies that are there from the beginning, in a namespace.
    policies: u32,
}

struct Bench {
    core: Core,
    journal: Journal,
    demands: Arc<Demands>,
}

impl Bench {
    fn tell(&mut self, input: Input) {
        self.core.apply(input, Instant::now());
    }

    fn commit(&mut self) {
        let journal = &mut self.journal;
        let outcome = self.core.commit(Instant::now(), |batch| journal.commit(batch));
        if let Some(demands) = outcome.demands {
            self.demands = demands;
        }
    }

    /// Rows that one event changes, and what it takes.
    fn measure(&mut self, name: &str, events: impl Iterator<Item = Object>) {
        let mut times = Vec::new();
        let before = self.journal.revision();
        for event in events {
            let start = Instant::now();
            self.tell(Input::Upsert(event));
            self.commit();
            times.push(start.elapsed().as_micros());
        }
        times.sort_unstable();
        let changed = (self.journal.revision() - before) / times.len().max(1) as u64;
        let at = |place: usize| times.get(place).copied().unwrap_or_default();
        println!("{name:<58} {:>9} {:>9} {changed:>9}", at(times.len() / 2), at(times.len() - 1));
    }
}

fn pod(i: u32, apps: u32, node: Option<u32>) -> Object {
    let labels = [("app".to_owned(), format!("app-{}", (i / NAMESPACES) % apps)), ("tier".into(), "backend".into())];
    Object::Pod(Arc::new(Pod {
        name: Name::new(format!("ns-{}", i % NAMESPACES), format!("pod-{i}")),
        uid: format!("00000000-0000-0000-0000-{i:012}").into(),
        labels: labels.into_iter().collect(),
        node: node.map(|node| format!("node-{node}").into()),
        service_account: "default".into(),
        resource_version: "1".into(),
        ..Pod::default()
    }))
}

fn selector(labels: &[(&str, String)]) -> Selector {
    Selector::new(labels.iter().map(|(key, value)| (*key, value.as_str())), [])
}

fn policy(namespace: u32, name: &str, pods: Selector, peer: Peer, ports: impl IntoIterator<Item = i32>) -> Object {
    let port = |port| PolicyPort { protocol: None, port: Some(PortRef::Number(port)), end_port: None };
    Object::NetworkPolicy(Arc::new(NetworkPolicy {
        name: Name::new(format!("ns-{namespace}"), name),
        uid: "u".into(),
        resource_version: "1".into(),
        audits: false,
        pod_selector: pods,
        ingress: [PolicyRule { peers: [peer].into(), ports: ports.into_iter().map(port).collect() }].into(),
        egress: [].into(),
        policy_types: None,
    }))
}

fn build(size: Size) -> Bench {
    let Size { pods, apps, policies } = size;
    let settings = Settings { cluster_name: "default".into(), ipv4: true, ..Settings::default() };
    let (core, journal) = (Core::new(Config::new(settings)), Journal::new([1; 16], 100_000));
    let mut bench = Bench { core, journal, demands: Arc::default() };
    for i in 0..NAMESPACES {
        let labels =
            [("kubernetes.io/metadata.name".to_owned(), format!("ns-{i}")), ("team".into(), format!("{}", i % 5))];
        let namespace =
            Namespace { name: format!("ns-{i}").into(), labels: labels.into_iter().collect(), ..Namespace::default() };
        bench.tell(Input::Upsert(Object::Namespace(Arc::new(namespace))));
    }
    let mut pools: BTreeMap<u32, BTreeMap<IpAddr, PoolEntry>> = BTreeMap::new();
    for i in 0..pods {
        let node = i % NODES;
        let object = pod(i, apps, Some(node));
        if let Object::Pod(pod) = &object {
            let [_, _, c, d] = (2 + i / NODES).to_be_bytes();
            let entry = PoolEntry { owner: pod.name.to_string().into(), resource: Arc::clone(&pod.uid) };
            pools.entry(node).or_default().insert(IpAddr::from([10, node as u8, c, d]), entry);
        }
        bench.tell(Input::Upsert(object));
    }
    for (i, pool) in pools {
        let name: Arc<str> = format!("node-{i}").into();
        let node = Node {
            name: Arc::clone(&name),
            uid: "u".into(),
            internal_ips: [IpAddr::from([172, 18, 0, i as u8])].into(),
            external_ips: [].into(),
            labels: [("zone", "a")].into_iter().collect(),
            max_pods: 250,
            pod_cidrs: [].into(),
            resource_version: "1".into(),
        };
        let pod_cidrs = format!("10.{i}.0.0/16").parse().into_iter().collect();
        let (uid, resource_version) = ("u".into(), "1".into());
        let overlay = LedgerAddress { kind: "CiliumInternalIP".into(), ip: IpAddr::from([10, i as u8, 0, 1]) };
        let internal = LedgerAddress { kind: "InternalIP".into(), ip: IpAddr::from([172, 18, 0, i as u8]) };
        let addresses = [internal, overlay].into();
        let ledger = CiliumNode { name, uid, resource_version, pod_cidrs, pool, addresses, ..CiliumNode::default() };
        bench.tell(Input::Upsert(Object::Node(Arc::new(node))));
        bench.tell(Input::Upsert(Object::CiliumNode(Arc::new(ledger))));
    }
    for i in 0..NAMESPACES * policies {
        let pods = selector(&[("app", format!("app-{}", i / NAMESPACES))]);
        let peer = Peer { pod_selector: Some(selector(&[("tier", "backend".into())])), ..Peer::default() };
        bench.tell(Input::Upsert(policy(i % NAMESPACES, &format!("base-{i}"), pods, peer, [80])));
    }
    for kind in Kind::ALL {
        bench.tell(Input::Synced(kind));
    }
    bench.commit();
    let demands = Arc::clone(&bench.demands);
    for (id, demand) in (256..).zip(&demands.identities) {
        let (uid, resource_version) = ("u".into(), "1".into());
        let object = CiliumIdentity { id, labels: Arc::clone(&demand.labels), uid, resource_version };
        bench.tell(Input::Upsert(Object::CiliumIdentity(Arc::new(object))));
    }
    bench.commit();
    bench
}

/// One of many policies, of several shapes. `port` is what changes of it.
fn varied(i: u32, port: u32) -> Result<Object> {
    let (namespace, app) = (i % NAMESPACES, i / NAMESPACES);
    let team = json!({"matchLabels": {"k8s:io.cilium.k8s.namespace.labels.team": format!("{}", app % 5)}});
    let from = match app % 5 {
        0 => json!({"fromEndpoints": [{"matchLabels": {"app": format!("app-{}", app + 1)}}]}),
        1 => {
            json!({"fromEndpoints": [{"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["app-1"]}]}]})
        }
        2 => json!({"fromEndpoints": [team]}),
        3 => json!({"fromEntities": ["cluster"]}),
        _ => json!({"fromCIDRSet": [{"cidr": format!("192.{i}.0.0/16", i = i % 256), "except": ["192.0.2.0/24"]}]}),
    };
    let ports = json!([{"ports": [{"port": port.to_string(), "protocol": "TCP"}]}]);
    let mut ingress = from;
    ingress["toPorts"] = ports;
    let manifest = json!({
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": format!("varied-{i}"), "namespace": format!("ns-{namespace}"), "uid": "u"},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": format!("app-{}", app * 5)}},
            "ingress": [ingress],
            "egress": [{"toEndpoints": [{"matchLabels": {"tier": "backend"}}]}, {"toEntities": ["world"]}],
        },
    });
    axoneme_operator::watch::decode(&manifest)?.0.context("not a policy")
}

/// 1,000 policies over 5,000 identities: all at once, and one of them changed.
fn figures() -> Result<()> {
    let mut bench = build(Size { pods: 5_000, apps: 100, policies: 0 });
    let identities = bench.core.index().identities().count();
    let policies: Vec<Object> = (0..1_000).map(|i| varied(i, 80)).collect::<Result<_>>()?;
    let start = Instant::now();
    policies.into_iter().for_each(|policy| bench.tell(Input::Upsert(policy)));
    bench.commit();
    let whole = start.elapsed().as_secs_f64();
    let say = |name: String, value: f64, unit: &str, at_most: Option<f64>| {
        println!("{}", json!({"name": name, "value": value, "unit": unit, "at_most": at_most}));
    };
    say(format!("1,000 policies over {identities} identities, read and compiled on one core"), whole, "s", Some(1.0));

    let (mut times, mut rows) = (Vec::new(), Vec::new());
    for i in 0..1_000 {
        let changed = varied(i, 81)?;
        let (before, start) = (bench.journal.revision(), Instant::now());
        bench.tell(Input::Upsert(changed));
        bench.commit();
        times.push(start.elapsed().as_secs_f64() * 1e3);
        rows.push(bench.journal.changes_since(before).count());
    }
    times.sort_by(f64::total_cmp);
    rows.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    say("one of them changed, half of the times at most".into(), at(50), "ms", None);
    say("one of them changed, 99 of 100 at most".into(), at(99), "ms", Some(5.0));
    say("rows of one that is changed, at most".into(), rows[rows.len() - 1] as f64, "rows", None);
    Ok(())
}

fn main() -> Result<()> {
    if std::env::args().any(|argument| argument == "--figures") {
        return figures();
    }
    for apps in [20, 200] {
        let start = Instant::now();
        let mut bench = build(Size { pods: PODS, apps, policies: 10 });
        let identities = bench.core.index().identities().count();
        let (rows, _) = bench.journal.sizes();
        println!(
            "\n{PODS} pods, {identities} identities, {} policies, {NODES} nodes: {rows} rows in {} ms, {} MiB resident",
            NAMESPACES * 10,
            start.elapsed().as_millis(),
            resident() / 1024,
        );
        println!("{:<58} {:>9} {:>9} {:>9}", "event", "p50 us", "max us", "rows");
        let own = |_: u32| Peer { pod_selector: Some(selector(&[("app", "app-1".into())])), ..Peer::default() };
        bench.measure(
            "policy: one app opened to one app of its namespace",
            (0..200).map(|i| {
                policy(i % NAMESPACES, "new", selector(&[("app", "app-2".into())]), own(i), [1000 + i as i32])
            }),
        );
        let team = || Peer { namespace_selector: Some(selector(&[("team", "1".into())])), ..Peer::default() };
        bench.measure(
            "policy: one app opened to a fifth of all namespaces",
            (0..200).map(|i| {
                policy(i % NAMESPACES, "new", selector(&[("app", "app-2".into())]), team(), [1000 + i as i32])
            }),
        );
        bench.measure(
            "policy: a whole namespace opened to a fifth of all namespaces",
            (0..50).map(|i| policy(i, "new", Selector::default(), team(), [2000 + i as i32])),
        );
        bench.measure(
            "policy: a whole namespace opened to itself",
            (0..50).map(|i| {
                let peer = Peer { pod_selector: Some(Selector::default()), ..Peer::default() };
                policy(i, "new", Selector::default(), peer, [2000 + i as i32])
            }),
        );
        bench.measure(
            "policy: one app opened at 10,000 ports",
            (0..20).map(|i| {
                let ports = (1..=10_000).map(|port| i as i32 + 2 * port);
                policy(i, "ports", selector(&[("app", "app-2".into())]), own(i), ports)
            }),
        );
        bench.measure("pod: created, of a known identity", (0..500).map(|i| pod(PODS + i, apps, None)));
        bench.measure("pod: bound", (0..500).map(|i| pod(PODS + i, apps, Some(i % NODES))));
        bench.measure("pod: relabelled to another app", (0..500).map(|i| pod(i, apps, Some(i % NODES))).map(relabel));
    }
    Ok(())
}

fn relabel(object: Object) -> Object {
    match object {
        Object::Pod(pod) => {
            let labels = [("app", "app-3"), ("tier", "backend")].into_iter().collect();
            Object::Pod(Arc::new(Pod { labels, ..Pod::clone(&pod) }))
        }
        other => other,
    }
}

/// KiB of this process in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok()).unwrap_or(0)
}
