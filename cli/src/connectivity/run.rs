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
/// The service of a cluster's DNS, as kubeadm and everybody else calls it, whatever serves there.
const DNS: &str = "kube-dns";
const DNS_NAMESPACE: &str = "kube-system";

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
    check.names(&running, &service).await;
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
                let check = format!("pod to pod, {}, {how}", way(from, server));
                self.each(&check, from, server, how, true).await;
            }
        }
    }

    async fn services(&mut self, running: &[Running], service: &[IpAddr]) {
        let from = client(running);
        for ip in service {
            let target = SocketAddr::new(*ip, SERVICE_PORT);
            for how in [How::Tcp, How::Udp] {
                self.one(&format!("pod to service, {how}"), from, "service", target, how, Some("server")).await;
            }
        }
        let Ok(Some(kubernetes)) = self.service("default", "kubernetes").await else { return };
        let port = kubernetes.spec.as_ref().and_then(|spec| spec.ports.as_ref()?.first());
        let port = port.and_then(|port| u16::try_from(port.port).ok()).unwrap_or(443);
        for ip in cluster_ips(&kubernetes) {
            let target = SocketAddr::new(ip, port);
            self.one("pod to API server", from, "kubernetes", target, How::Connect, Some("")).await;
        }
    }

    /// A pod finds services by their names, where the cluster has its DNS at the usual place.
    async fn names(&mut self, running: &[Running], service: &[IpAddr]) {
        let skip = match self.service(DNS_NAMESPACE, DNS).await {
            Ok(Some(_)) => None,
            Ok(None) => Some(format!("no DNS service {DNS_NAMESPACE}/{DNS}")),
            Err(error) => Some(format!("service {DNS_NAMESPACE}/{DNS} cannot be read: {error}")),
        };
        if let Some(why) = skip {
            self.report.skipped.push(format!("cluster DNS: {why}"));
            return;
        }
        let kubernetes = match self.service("default", "kubernetes").await {
            Ok(Some(kubernetes)) => cluster_ips(&kubernetes),
            _ => Vec::new(),
        };
        let own = format!("server.{}.svc", self.place.namespace);
        for (name, expected) in [("kubernetes.default.svc", &kubernetes[..]), (&own, service)] {
            self.name(client(running), name, expected).await;
        }
    }

    async fn service(&self, namespace: &str, name: &str) -> kube::Result<Option<Service>> {
        Api::namespaced(self.place.cluster.client.clone(), namespace).get_opt(name).await
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
            let name = to.place();
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
        let ask = async || {
            let answer = self.place.ask(&from.name, target, how).await;
            let passed = match &answer {
                Ok(who) => expected.is_some_and(|name| who.starts_with(name)),
                Err(why) => expected.is_none() && is_silence(why),
            };
            (passed, answer.unwrap_or_else(|why| why))
        };
        let row = until(ask).await;
        let to = format!("{to} {target}");
        self.report.checks.push(Row {
            check: check.to_owned(),
            from: from.place(),
            to,
            expected: expected.is_some(),
            ..row
        });
    }

    /// Looks a name up until it has at least these addresses.
    async fn name(&mut self, from: &Running, name: &str, expected: &[IpAddr]) {
        let ask = async || match self.place.resolve(&from.name, name).await {
            Ok(found) => {
                let passed = !found.is_empty() && expected.iter().all(|address| found.contains(address));
                let listed =
                    |addresses: &[IpAddr]| addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ");
                let missing = if passed { String::new() } else { format!(", expected {}", listed(expected)) };
                (passed, format!("{}{missing}", listed(&found)))
            }
            Err(why) => (false, why),
        };
        let row = until(ask).await;
        let check = "pod resolves a service's name".to_owned();
        self.report.checks.push(Row { check, from: from.place(), to: name.to_owned(), expected: true, ..row });
    }
}

/// Asks until the answer is as it should be, and says how that went.
async fn until(ask: impl AsyncFn() -> (bool, String)) -> Row {
    let start = Instant::now();
    let (passed, answer) = loop {
        let (passed, answer) = ask().await;
        if passed || start.elapsed() > PATIENCE {
            break (passed, answer);
        }
        tokio::time::sleep(PAUSE).await;
    };
    let milliseconds = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    Row { passed, answer, milliseconds, ..Row::default() }
}

fn cluster_ips(service: &Service) -> Vec<IpAddr> {
    let ips = service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
    ips.filter_map(|ip| ip.parse().ok()).collect()
}

/// Whether nobody answered; not that nobody could be asked, nor that somebody refused.
fn is_silence(why: &str) -> bool {
    why.contains("timed out") || why.contains("temporarily unavailable")
}
