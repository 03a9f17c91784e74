//! Who asks whom.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Result;
use k8s_openapi::api::core::v1::Service;
use kube::api::Api;

use super::Options;
use super::pods::{HOST_PORT, How, PORT, Place, Running, SERVICE_PORT, Wanted};
use super::report::{Report, Row};
use crate::cluster::Cluster;

/// How long something may take to come about: a new pod's listener, a service's backends, a policy.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// Asks, and gathers answers.
struct Check<'a> {
    place: Place<'a>,
    report: Report,
}

pub(super) async fn run(cluster: &Cluster, options: &Options, nodes: &[String], image: &str) -> Result<Report> {
    let place = Place { cluster, namespace: &options.test_namespace };
    let here = &nodes[0];
    let mut wanted = vec![
        Wanted { name: "client", node: here, host: false },
        Wanted { name: "stranger", node: here, host: false },
        Wanted { name: "server-near", node: here, host: false },
        Wanted { name: "host-near", node: here, host: true },
    ];
    let mut report = Report::default();
    match nodes.get(1) {
        Some(there) => wanted.extend([
            Wanted { name: "server-far", node: there, host: false },
            Wanted { name: "host-far", node: there, host: true },
        ]),
        None => report.skipped.push("between nodes: only one is ready for pods".to_owned()),
    }
    for wanted in &wanted {
        place.make(*wanted, image).await?;
    }
    let service = place.service().await?;
    let deadline = Instant::now() + options.timeout;
    let mut running = Vec::new();
    for wanted in &wanted {
        running.push(place.ready(*wanted, deadline).await?);
    }
    if options.outside.is_empty() {
        report.skipped.push("the outside: name somebody there with --outside ADDRESS:PORT".to_owned());
    }
    let mut check = Check { place, report };
    check.pods(&running).await;
    check.services(&running, &service).await;
    check.hosts(&running).await;
    check.outside(&running, &options.outside).await;
    check.policy(&running).await?;
    check.report.passed = check.report.checks.iter().all(|row| row.passed);
    Ok(check.report)
}

fn named<'a>(running: &'a [Running], role: &str) -> impl Iterator<Item = &'a Running> {
    let prefix = format!("{role}-");
    running.iter().filter(move |pod| pod.name.starts_with(&prefix))
}

fn client(running: &[Running]) -> &Running {
    &running[0]
}

fn stranger(running: &[Running]) -> &Running {
    &running[1]
}

fn way(from: &Running, to: &Running) -> &'static str {
    if from.node == to.node { "same node" } else { "other node" }
}

impl Check<'_> {
    async fn pods(&mut self, running: &[Running]) {
        let from = client(running);
        for server in named(running, "server") {
            for how in [How::Tcp, How::Udp] {
                let check = format!("pod to pod, {}, {how:?}", way(from, server));
                self.each(&check, from, server, how, true).await;
            }
        }
    }

    async fn services(&mut self, running: &[Running], service: &[IpAddr]) {
        let from = client(running);
        for ip in service {
            let target = SocketAddr::new(*ip, SERVICE_PORT);
            for how in [How::Tcp, How::Udp] {
                self.one(&format!("pod to service, {how:?}"), from, "service", target, how, Some("server")).await;
            }
        }
        let kubernetes: Api<Service> = Api::namespaced(self.place.cluster.client.clone(), "default");
        let Ok(kubernetes) = kubernetes.get("kubernetes").await else { return };
        let spec = kubernetes.spec.unwrap_or_default();
        let port = spec.ports.iter().flatten().next().and_then(|port| u16::try_from(port.port).ok()).unwrap_or(443);
        for ip in spec.cluster_ips.iter().flatten().filter_map(|ip| ip.parse().ok()) {
            let target = SocketAddr::new(ip, port);
            self.one("pod to API server", from, "kubernetes", target, How::Connect, Some("")).await;
        }
    }

    async fn hosts(&mut self, running: &[Running]) {
        let from = client(running);
        for host in named(running, "host") {
            self.each(&format!("pod to host, {}", way(from, host)), from, host, How::Tcp, true).await;
        }
        let Some(host) = named(running, "host").next() else { return };
        for server in named(running, "server") {
            self.each(&format!("host to pod, {}", way(host, server)), host, server, How::Tcp, true).await;
        }
    }

    async fn outside(&mut self, running: &[Running], outside: &[SocketAddr]) {
        for target in outside {
            self.one("pod to outside", client(running), "outside", *target, How::Connect, Some("")).await;
        }
    }

    /// A policy takes effect, for those that it names and for those that it does not, and ceases to.
    async fn policy(&mut self, running: &[Running]) -> Result<()> {
        let (friend, stranger) = (client(running), stranger(running));
        self.place.isolate().await?;
        for server in named(running, "server") {
            let way = way(stranger, server);
            self.each(&format!("policy applied: stranger, {way}"), stranger, server, How::Tcp, false).await;
            self.each(&format!("policy applied: friend, {way}"), friend, server, How::Tcp, true).await;
        }
        self.place.open().await?;
        for server in named(running, "server") {
            let check = format!("policy removed: stranger, {}", way(stranger, server));
            self.each(&check, stranger, server, How::Tcp, true).await;
        }
        Ok(())
    }

    /// Asks a pod at each of its addresses.
    async fn each(&mut self, check: &str, from: &Running, to: &Running, how: How, expected: bool) {
        let port = if to.host { HOST_PORT } else { PORT };
        for ip in &to.addresses {
            let name = format!("{}@{}", to.name, to.node);
            let by = expected.then_some(&*to.name);
            self.one(check, from, &name, SocketAddr::new(*ip, port), how, by).await;
        }
    }

    /// Asks until the answer is as expected: by somebody whose name begins so, or none.
    async fn one(
        &mut self,
        check: &str,
        from: &Running,
        to: &str,
        target: SocketAddr,
        how: How,
        expected: Option<&str>,
    ) {
        let start = Instant::now();
        let (passed, answer) = loop {
            let answer = self.place.ask(&from.name, target, how).await;
            let passed = match &answer {
                Ok(who) => expected.is_some_and(|name| who.starts_with(name)),
                Err(why) => expected.is_none() && is_silence(why),
            };
            if passed || start.elapsed() > PATIENCE {
                break (passed, answer.unwrap_or_else(|why| why));
            }
            tokio::time::sleep(PAUSE).await;
        };
        self.report.checks.push(Row {
            check: check.to_owned(),
            from: format!("{}@{}", from.name, from.node),
            to: format!("{to} {target}"),
            expected: expected.is_some(),
            passed,
            answer,
            milliseconds: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
    }
}

/// Whether nobody answered; not that nobody could be asked, nor that somebody refused.
fn is_silence(why: &str) -> bool {
    why.contains("timed out") || why.contains("temporarily unavailable")
}
