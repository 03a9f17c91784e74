//! How long ADD takes when 50 pods come at once, where the time goes, and how long a pod's data path takes: run by hand, on a
//! machine with nothing else to do.
//!
//!     cargo test --release -p axoneme-node --test speed -- --ignored --nocapture

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on shall say where")]

mod common;
#[path = "common/daemon.rs"]
mod daemon;

use std::time::{Duration, Instant};

use axoneme_proto::{Scope, Table, tables};
use common::host::Cgroup;
use common::{Pod, block_on, ip, on_node, privileged};
use daemon::operator::{Authority, Behaviour, Network};
use daemon::{Daemon, OPERATOR, everything, get, prepare, row};

const PODS: u8 = 50;

#[test]
#[ignore = "measures; see above"]
fn fifty_pods_at_once() {
    if !privileged("speed") {
        return;
    }
    on_node(|bottle| {
        let (cgroup, authority) = (Cgroup::new("speed"), Authority::new());
        let folder = prepare(bottle, &cgroup, &authority);
        block_on(async {
            let network = Network::default();
            let mut operator = network.operator(OPERATOR, Behaviour::good(&authority));
            let _reachable = network.listen(OPERATOR).await;
            let mut daemon = Daemon::start(folder);
            let mut session = operator.sessions.recv().await.unwrap();
            session.welcome(1, false).await;
            let mut all = everything();
            for i in 0..PODS {
                let endpoint = tables::Endpoint {
                    identity: 100,
                    addresses: vec![axoneme_proto::address::to_bytes(ip(&format!("10.1.0.{}", 100 + i)))],
                    ..tables::Endpoint::default()
                };
                let own = Scope::Node("n1".into());
                all.upserts.push(row(&own, Table::Endpoint, &format!("pod-{i}"), 10 + u64::from(i), &endpoint));
                all.to_revision = 10 + u64::from(i);
            }
            let last = all.to_revision;
            session.delta(all).await;
            for i in 0..PODS {
                session.told(&format!("pod-{i}"), last).await;
            }
            while session.ack().await.attempted < last {}
            daemon.ready().await;
            for round in 1..=rounds() {
                let before = Sums::read().await;
                let pods: Vec<Pod> = (0..PODS).map(|_| Pod::new()).collect();
                let processor = daemon.processor();
                let started = Instant::now();
                let adds = (0..PODS).map(|i| {
                    let (daemon, netns) = (&daemon, pods[usize::from(i)].path());
                    async move {
                        let started = Instant::now();
                        daemon.plugin("ADD", &format!("pod-{i}"), &netns).await.unwrap();
                        started.elapsed()
                    }
                });
                let mut took = futures::future::join_all(adds).await;
                let all = started.elapsed();
                took.sort();
                let sums = Sums::read().await.since(&before);
                println!(
                    "round {round}: {PODS} ADDs at once in {all:?}; a plugin's run: median {:?}, longest {:?}",
                    took[25], took[49]
                );
                println!("  in the daemon: {sums}");
                let (user, kernel) = daemon.processor();
                println!("  processor: {:?} user, {:?} kernel", user - processor.0, kernel - processor.1);
                let started = Instant::now();
                let dels = (0..PODS).map(|i| {
                    let daemon = &daemon;
                    async move {
                        let started = Instant::now();
                        daemon.plugin("DEL", &format!("pod-{i}"), "").await.unwrap();
                        started.elapsed()
                    }
                });
                let mut took = futures::future::join_all(dels).await;
                let all = started.elapsed();
                took.sort();
                println!(
                    "  {PODS} DELs at once in {all:?}; a plugin's run: median {:?}, longest {:?}",
                    took[25], took[49]
                );
            }
            // One after the other: what a data path costs alone.
            let before = Sums::read().await;
            let pods: Vec<Pod> = (0..PODS).map(|_| Pod::new()).collect();
            for (i, pod) in pods.iter().enumerate() {
                daemon.plugin("ADD", &format!("pod-{i}"), &pod.path()).await.unwrap();
            }
            println!("one after the other, in the daemon: {}", Sums::read().await.since(&before));
        });
    });
}

/// Histograms' buckets, counted.
struct Sums(Vec<(String, f64)>);

impl Sums {
    async fn read() -> Self {
        let page = get(9962, "/metrics").await;
        let lines = page.lines().filter(|line| line.starts_with("axoneme_cni_"));
        let number = |line: &str| line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.parse().unwrap()));
        Self(lines.filter_map(number).collect())
    }

    fn since(&self, before: &Self) -> Self {
        let old = |name: &str| before.0.iter().find(|(other, _)| other == name).map_or(0.0, |(_, value)| *value);
        Self(self.0.iter().map(|(name, value)| (name.clone(), value - old(name))).collect())
    }

    fn value(&self, name: &str) -> f64 {
        self.0.iter().find(|(other, _)| other == name).map_or(0.0, |(_, value)| *value)
    }

    /// Mean, and the bucket's end below which 99 of 100 are.
    fn line(&self, name: &str, labels: &str) -> String {
        let braces = |labels: &str| if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let count = self.value(&format!("{name}_count{}", braces(labels)));
        let mean = self.value(&format!("{name}_sum{}", braces(labels))) / count;
        let within = |end: &str| {
            let comma = if labels.is_empty() { "" } else { "," };
            self.value(&format!("{name}_bucket{{le=\"{end}\"{comma}{labels}}}"))
        };
        let ends = [
            "0.001", "0.002", "0.004", "0.006", "0.008", "0.01", "0.015", "0.025", "0.05", "0.1", "0.2", "0.5", "1.0",
            "2.5",
        ];
        let p99 = ends.into_iter().find(|end| within(end) >= count * 0.99).unwrap_or("more");
        format!("mean {:?}, 99 of 100 within {p99} s", Duration::from_secs_f64(mean.max(0.0)))
    }
}

impl std::fmt::Display for Sums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "ADD without the barrier's wait: {}; data path: {}; waiting for rows: {}",
            self.line("axoneme_cni_add_seconds", "barrier=\"excluded\""),
            self.line("axoneme_cni_datapath_seconds", ""),
            self.line("axoneme_cni_row_wait_seconds", ""),
        )
    }
}

/// How often 50 come at once; AXONEME_ROUNDS, for those who trace what comes after.
fn rounds() -> u32 {
    std::env::var("AXONEME_ROUNDS").map_or(4, |text| text.parse().unwrap())
}
