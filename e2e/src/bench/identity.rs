//! First packets of new pods that were judged by a wrong identity.
//!
//! Waves of pods come to one node, 500 in all, and reuse each other's addresses. Each pod tells from its first instruction on,
//! every 2 ms, who it is, to three peers: one on its own node and one on another, whose policy admits friends only, and a third
//! that has no policy, which shows what was sent and what got lost for other reasons. Half of the pods are friends, the others
//! strangers, and who has had an address as a friend may be followed by a stranger: all use the same ports, so that what is
//! remembered of a flow would match. A friend's first datagram that does not reach a peer, or any of a stranger's that does,
//! was judged by a wrong identity.
//!
//! The new pods are enforced too: only the warden may reach them. An intruder and the warden send datagrams to every address of
//! the node all the time, before, while and after there is a pod, and count what comes back.
//!
//! Every second wave shares two identities; in the others every pod has labels, and so an identity, of its own.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http::Method;
use ipnet::Ipv4Net;
use serde_json::{Value, json};

use super::hearing::{Ledger, PORT, QUICK, listen, lock, sweep};
use super::programs::{ANNOUNCE, Programs};
use super::throughput::two_nodes;
use super::{Goal, Options, Report, Row, Set};
use crate::api::Api;
use crate::cluster::Cluster;
use crate::images::TOOLS;
use crate::metrics::Source;
use crate::process::wait_until;
use crate::progress::{slow_step, step};
use crate::thread::join;
use crate::workload::{Workload, pod_ip};

const WAVES: usize = 10;
const PODS: usize = 50;
const PATIENCE: Duration = Duration::from_secs(300);

/// The peers of new pods.
const NEAR: &str = "near";
const FAR: &str = "far";
const OPEN: &str = "open";
/// Those whose policy admits friends only.
const ENFORCED: [&str; 2] = [NEAR, FAR];
/// Who sends to new pods: one that may, and one that may not.
const WARDEN: &str = "warden";
const INTRUDER: &str = "intruder";

/// A pod of a wave.
#[derive(Debug, Clone)]
struct Newcomer {
    name: String,
    friend: bool,
}

#[derive(Debug, Default)]
struct Tally {
    pods: usize,
    /// Friends whose first datagram an enforced peer did not get, though the open one did.
    denied: Vec<String>,
    /// Strangers of whom an enforced peer got something.
    admitted: Vec<String>,
    /// First datagrams that not even the open peer got.
    lost: Vec<String>,
    /// Of the quick datagrams of friends, those that an enforced peer did not get after the first.
    later: u32,
    addresses: Vec<IpAddr>,
}

pub(super) fn measure(cluster: &Cluster, api: &Api, options: &Options) -> Result<Report> {
    let (node, other) = two_nodes(cluster)?;
    Programs::new(&cluster.paths)?.load_announce(cluster)?;
    let workload = Workload::new(api, "bench-identity")?;
    let own = cluster.folder.node_name(node);
    for (name, index) in [(NEAR, node), (FAR, other), (OPEN, other), (WARDEN, other), (INTRUDER, other)] {
        workload.pod(name, &cluster.folder.node_name(index), TOOLS, &["infinity"])?;
    }
    let pods = step("two enforced peers, an open one, and two that probe", || {
        [NEAR, FAR, OPEN, WARDEN, INTRUDER].into_iter().map(|name| Ok((name, workload.ready(name)?))).collect()
    });
    let pods: HashMap<&str, Value> = pods?;
    let networks: HashMap<&str, File> =
        pods.iter().map(|(name, pod)| Ok((*name, cluster.pod_network(pod)?))).collect::<Result<_>>()?;
    let peers =
        [NEAR, FAR, OPEN].into_iter().map(|name| Ok((name, pod_ip(&pods[name])?))).collect::<Result<Vec<_>>>()?;
    guard(&workload)?;
    let swept = addresses_of(api, &own)?;
    let drops = || Drops::read(cluster, &[node, other]);

    let stop = AtomicBool::new(false);
    let ledgers: HashMap<&str, Ledger> = peers.iter().map(|(name, _)| (*name, Ledger::default())).collect();
    let (mut tally, echoes, dropped) = std::thread::scope(|scope| {
        let stop = &stop;
        let mut listeners = Vec::new();
        for (name, _) in &peers {
            let (network, ledger) = (&networks[name], &ledgers[name]);
            listeners.push(scope.spawn(move || listen(network, ledger, stop)));
        }
        let waves = || {
            step("the peers' policy is in force", || canary(&networks[INTRUDER], &peers, &ledgers))?;
            let before = drops()?;
            let mut sweepers = Vec::new();
            for name in [WARDEN, INTRUDER] {
                let (network, swept) = (&networks[name], &swept);
                sweepers.push(scope.spawn(move || sweep(network, name, swept, stop)));
            }
            let arguments: Vec<String> =
                [PORT.to_string()].into_iter().chain(peers.iter().map(|p| p.1.to_string())).collect();
            let mut tally = Tally::default();
            let waves = options.rounds(WAVES);
            for number in 0..waves {
                slow_step(&format!("{PODS} new pods, wave {} of {waves}", number + 1), || {
                    wave(api, &workload, &own, number, &arguments, &ledgers, &mut tally)
                })?;
            }
            anyhow::Ok((tally, sweepers, before.until(&drops()?)))
        };
        let waves = waves();
        stop.store(true, Ordering::Relaxed);
        let (tally, sweepers, dropped) = waves?;
        let mut echoes = Vec::new();
        for sweeper in sweepers {
            echoes.push(join(sweeper)?);
        }
        for listener in listeners {
            join(listener)?;
        }
        anyhow::Ok((tally, echoes, dropped))
    })?;
    // The sweep meets the peer on the swept node too, which admits neither.
    let met = [WARDEN, INTRUDER].into_iter().filter(|name| lock(&ledgers[NEAR]).contains_key(*name));
    tally.admitted.extend(met.map(|name| format!("{name} at {NEAR}")));
    let [warden, intruder] = echoes[..] else { bail!("two send to new pods") };
    if warden == 0 {
        bail!("the warden never reached a new pod: that the intruder did not says nothing");
    }
    Ok(report(&tally, warden, intruder, &dropped))
}

fn report(tally: &Tally, warden: usize, intruder: usize, dropped: &Drops) -> Report {
    let mut report = Report::new(Set::Identity);
    let none = Goal::AtMost(0.0);
    let wrong = tally.denied.len() + tally.admitted.len() + intruder;
    report.add(Row::new("judged by a wrong identity, all of the following", wrong as f64, "").reach(none));
    report.add(Row::new("friends' first packets that were dropped", tally.denied.len() as f64, "packets"));
    report.add(Row::new("strangers that were admitted", tally.admitted.len() as f64, "pods"));
    report.add(Row::new("answers of new pods to the intruder", intruder as f64, "packets"));
    report.add(Row::new("answers of new pods to the warden", warden as f64, "packets"));
    report.add(Row::new("first packets lost to the peer without a policy", tally.lost.len() as f64, "packets"));
    report.add(Row::new("friends' packets dropped after the first", f64::from(tally.later), "packets"));
    report.add(Row::new("pods created", tally.pods as f64, ""));
    let distinct = tally.addresses.iter().collect::<BTreeSet<_>>().len();
    report.add(Row::new("pods with an address that another one had had", (tally.pods - distinct) as f64, ""));
    report.remark(format!(
        "packets dropped on both nodes: {} by policy, {} for other reasons (the sweep's to addresses without a pod among them)",
        dropped.policy, dropped.other
    ));
    for (what, names) in [("dropped", &tally.denied), ("admitted", &tally.admitted), ("lost", &tally.lost)] {
        if !names.is_empty() {
            report.remark(format!("{what}: {}", names.iter().take(20).cloned().collect::<Vec<_>>().join(", ")));
        }
    }
    report
}

/// The policies: friends may reach the enforced peers, and only the warden new pods.
fn guard(workload: &Workload<'_>) -> Result<()> {
    let admit = |name: &str, subject: Value, source: Value| {
        let rule = json!({"from": [{"podSelector": {"matchLabels": source}}]});
        workload.policy(name, &json!({"podSelector": subject, "policyTypes": ["Ingress"], "ingress": [rule]}))
    };
    let enforced = json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ENFORCED}]});
    admit("friends", enforced, json!({"role": "friend"}))?;
    let newcomers = json!({"matchLabels": {"app": "newcomer"}});
    admit("warden", newcomers, json!({"app": WARDEN}))
}

/// All addresses that pods of a node may have.
fn addresses_of(api: &Api, node: &str) -> Result<Vec<Ipv4Addr>> {
    let object = api.get(&format!("/apis/cilium.io/v2/ciliumnodes/{node}"))?;
    let cidrs = object["spec"]["ipam"]["podCIDRs"].as_array().context("the node has no podCIDRs")?;
    let v4 = cidrs.iter().find_map(|cidr| cidr.as_str()?.parse::<Ipv4Net>().ok());
    Ok(v4.context("new pods are probed over IPv4, which this cluster's pods do not have")?.hosts().take(1024).collect())
}

/// Sends as somebody who may not, until the enforced peers do not hear it and the open one does.
fn canary(network: &File, peers: &[(&str, IpAddr)], ledgers: &HashMap<&str, Ledger>) -> Result<()> {
    let socket = inside_bind(network)?;
    let mut number = 0;
    let in_force = || {
        number += 1;
        let name = format!("canary-{number}");
        for (_, address) in peers {
            let _ = socket.send_to(format!("{name} 0").as_bytes(), SocketAddr::new(*address, PORT));
        }
        std::thread::sleep(Duration::from_millis(100));
        let heard = |peer: &str| lock(&ledgers[peer]).contains_key(&name);
        heard(OPEN) && !ENFORCED.into_iter().any(heard)
    };
    if !wait_until(Duration::from_secs(20), in_force) {
        bail!("a datagram reaches an enforced peer, or does not reach the open one");
    }
    Ok(())
}

fn wave(
    api: &Api,
    workload: &Workload<'_>,
    node: &str,
    number: usize,
    arguments: &[String],
    ledgers: &HashMap<&str, Ledger>,
    tally: &mut Tally,
) -> Result<()> {
    let path = workload.path("", "pods");
    let newcomers: Vec<_> = (0..PODS)
        // Who is a friend changes with the wave, and so with who has had the address.
        .map(|i| Newcomer { name: format!("wave{number}-{i}"), friend: (i + number / 2).is_multiple_of(2) })
        .collect();
    for newcomer in &newcomers {
        api.create(&path, &pod(newcomer, number, node, arguments))?;
    }
    let told =
        |newcomer: &Newcomer| lock(&ledgers[OPEN]).get(&newcomer.name).is_some_and(|h| h.quick + h.first >= QUICK);
    if !wait_until(PATIENCE, || newcomers.iter().all(told)) {
        let missing: Vec<_> = newcomers.iter().filter(|n| !told(n)).map(|n| n.name.clone()).collect();
        bail!("pods that do not speak: {}", missing.join(", "));
    }
    let selected = format!("{path}?labelSelector=wave%3D{number}");
    // Pods speak before the kubelet has written where.
    let addresses = api.wait("the wave's addresses", PATIENCE, |api| {
        Ok(api.list(&selected)?.iter().map(pod_ip).collect::<Result<Vec<_>>>().ok())
    })?;
    tally.addresses.extend(addresses);
    judge(&newcomers, ledgers, tally);
    api.send(Method::DELETE, &selected, None)?;
    api.wait("the wave's pods to be gone", PATIENCE, |api| Ok(api.list(&selected)?.is_empty().then_some(())))
}

fn pod(newcomer: &Newcomer, wave: usize, node: &str, arguments: &[String]) -> Value {
    let role = if newcomer.friend { "friend" } else { "stranger" };
    let mut labels = json!({"app": "newcomer", "role": role, "wave": wave.to_string()});
    if wave % 2 == 1 {
        labels["pod"] = json!(newcomer.name);
    }
    json!({
        "metadata": {"name": newcomer.name, "labels": labels},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": ANNOUNCE, "args": arguments}],
        },
    })
}

fn judge(newcomers: &[Newcomer], ledgers: &HashMap<&str, Ledger>, tally: &mut Tally) {
    for newcomer in newcomers {
        tally.pods += 1;
        let heard = |peer: &str| lock(&ledgers[peer]).get(&newcomer.name).copied();
        let lost = heard(OPEN).is_none_or(|open| open.first > 0);
        if lost {
            tally.lost.push(newcomer.name.clone());
        }
        for peer in ENFORCED {
            match heard(peer) {
                Some(heard) if newcomer.friend => {
                    if heard.first > 0 && !lost {
                        tally.denied.push(format!("{} at {peer}, its first {}", newcomer.name, heard.first));
                    }
                    tally.later += QUICK.saturating_sub(heard.quick + heard.first);
                }
                None if newcomer.friend => tally.denied.push(format!("{} at {peer}, all", newcomer.name)),
                Some(_) => tally.admitted.push(format!("{} at {peer}", newcomer.name)),
                None => {}
            }
        }
    }
}

/// A socket in another network namespace; the calling thread stays where it is.
fn inside_bind(network: &File) -> Result<UdpSocket> {
    crate::reach::inside(network, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?.context("cannot make a UDP socket")
}

/// Packets that nodes dropped.
#[derive(Debug)]
struct Drops {
    policy: f64,
    other: f64,
}

impl Drops {
    fn read(cluster: &Cluster, nodes: &[u8]) -> Result<Self> {
        let mut drops = Self { policy: 0.0, other: 0.0 };
        for node in nodes {
            let metrics = cluster.node_metrics(*node, Source::Daemon)?;
            let policy = metrics.sum("cilium_drop_count_total", "reason=\"Policy denied");
            drops.policy += policy;
            drops.other += metrics.sum("cilium_drop_count_total", "") - policy;
        }
        Ok(drops)
    }

    fn until(&self, now: &Self) -> Self {
        Self { policy: now.policy - self.policy, other: now.other - self.other }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::hearing::Heard;
    use super::*;

    fn judged(friend: bool, near: Option<u32>, far: Option<u32>, open: Option<u32>) -> Tally {
        let ledger = |first: Option<u32>| {
            let heard = first.map(|first| ("a".to_owned(), Heard { first, quick: QUICK - first }));
            Mutex::new(heard.into_iter().collect())
        };
        let ledgers = HashMap::from([(NEAR, ledger(near)), (FAR, ledger(far)), (OPEN, ledger(open))]);
        let mut tally = Tally::default();
        judge(&[Newcomer { name: "a".to_owned(), friend }], &ledgers, &mut tally);
        tally
    }

    #[test]
    fn a_friend_is_heard_from_its_first_packet_on() {
        let tally = judged(true, Some(0), Some(0), Some(0));
        assert!(tally.denied.is_empty() && tally.admitted.is_empty() && tally.lost.is_empty());
        assert_eq!(judged(true, Some(3), None, Some(0)).denied, ["a at near, its first 3", "a at far, all"]);
    }

    #[test]
    fn what_nobody_heard_was_not_judged() {
        let tally = judged(true, Some(1), Some(1), Some(1));
        assert_eq!((tally.denied.len(), tally.lost.len()), (0, 1));
    }

    #[test]
    fn a_stranger_is_never_heard() {
        assert!(judged(false, None, None, Some(0)).admitted.is_empty());
        assert_eq!(judged(false, None, Some(40), Some(0)).admitted, ["a at far"]);
    }
}
