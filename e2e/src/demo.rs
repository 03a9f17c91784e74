//! The demonstration: an application of three tiers, who reaches whom, and what a policy changes.

use std::fs::File;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::api::Api;
use crate::cluster::Cluster;
use crate::images;
use crate::progress::{Colour, heading, note, paint, slow_step, step};
use crate::reach::Outcome;
use crate::table::{Cell, plain, render};
use crate::{kubectl, reach};

const NAMESPACE: &str = "demo";
const TIERS: [(&str, u16); 3] = [("frontend", 80), ("backend", 8080), ("db", 5432)];
/// What policy.yaml allows, by index in [`TIERS`].
const ALLOWED: [(usize, usize); 2] = [(0, 1), (1, 2)];

/// One tier: its pods and its Service.
struct Tier {
    names: Vec<String>,
    networks: Vec<File>,
    pods: Vec<SocketAddr>,
    service: SocketAddr,
}

/// How many probes of a tier to a tier were answered: to pods directly, and to the Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reach {
    pods: (usize, usize),
    service: (usize, usize),
}

impl Reach {
    fn open(self) -> bool {
        self.pods.0 == self.pods.1 && self.service.0 == self.service.1
    }

    fn closed(self) -> bool {
        self.pods.0 == 0 && self.service.0 == 0
    }
}

type Matrix = [[Reach; TIERS.len()]; TIERS.len()];

/// Deploys the application into a cluster that runs, shows, restricts, and shows again.
pub fn run(cluster: &Cluster) -> Result<()> {
    let api = cluster.api()?;
    let folder = cluster.paths.repository.join("e2e/demo");
    heading("An application of three tiers, in namespace demo");
    slow_step("deploy frontend, backend and db with a replica on every node", || deploy(cluster, &api))?;
    let tiers = wait_for_tiers(cluster, &api)?;
    let before =
        settle(&tiers, "who reaches whom, asked from inside of every pod", |m| m.iter().flatten().all(|r| r.open()))?;
    print(&before, None);

    heading("A policy: frontend -> backend -> db, and nothing else");
    let written = Instant::now();
    step("kubectl apply -f e2e/demo/policy.yaml", || cluster.apply(&folder.join("policy.yaml"), &[]))?;
    let after = settle(&tiers, "the same questions again", as_allowed)?;
    print(&after, Some(&before));
    note(&format!("asked {} after the policy was applied", crate::progress::duration(written.elapsed())));
    if !before.iter().flatten().all(|r| r.open()) || !as_allowed(&after) {
        bail!("this is not what the application and the policy say; look at `kubectl -n kube-system logs ds/axoneme`");
    }
    next(cluster);
    Ok(())
}

fn deploy(cluster: &Cluster, api: &Api) -> Result<()> {
    let agnhost = images::agnhost_name(&cluster.paths)?;
    let replicas = cluster.nodes()?.len().to_string();
    // A second run shows the change again, so it starts without the policy.
    for (tier, _) in TIERS {
        api.delete(&format!("/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies/{tier}"))?;
    }
    cluster.apply(
        &cluster.paths.repository.join("e2e/demo/app.yaml"),
        &[("AGNHOST", &agnhost), ("REPLICAS", &replicas)],
    )?;
    for (tier, _) in TIERS {
        let mut kubectl = cluster.kubectl()?;
        kubectl::run(kubectl.args([
            "-n",
            NAMESPACE,
            "rollout",
            "status",
            "--timeout=120s",
            &format!("deployment/{tier}"),
        ]))?;
    }
    Ok(())
}

fn wait_for_tiers(cluster: &Cluster, api: &Api) -> Result<Vec<Tier>> {
    TIERS.iter().map(|(name, port)| tier(cluster, api, name, *port)).collect()
}

fn tier(cluster: &Cluster, api: &Api, name: &str, port: u16) -> Result<Tier> {
    let pods = api.list(&format!("/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app%3D{name}"))?;
    let pods: Vec<_> = pods.iter().filter(|p| p["metadata"]["deletionTimestamp"].is_null()).collect();
    let address = |ip: &Value| -> Result<SocketAddr> {
        let ip = ip.as_str().with_context(|| format!("{name} has no address"))?;
        Ok(SocketAddr::new(ip.parse()?, port))
    };
    let service = api.get(&format!("/api/v1/namespaces/{NAMESPACE}/services/{name}"))?;
    let name = |pod: &Value| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    Ok(Tier {
        names: pods.iter().map(|p| name(p)).collect(),
        networks: pods.iter().map(|p| cluster.pod_network(p)).collect::<Result<_>>()?,
        pods: pods.iter().map(|p| address(&p["status"]["podIP"])).collect::<Result<_>>()?,
        service: address(&service["spec"]["clusterIP"])?,
    })
}

/// Probes until the result is as hoped, for ten seconds at most, and gives the last result.
fn settle(tiers: &[Tier], what: &str, hoped: impl Fn(&Matrix) -> bool) -> Result<Matrix> {
    step(what, || {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let matrix = probe(tiers)?;
            if hoped(&matrix) || Instant::now() > deadline {
                return Ok(matrix);
            }
        }
    })
}

fn probe(tiers: &[Tier]) -> Result<Matrix> {
    let none = Reach { pods: (0, 0), service: (0, 0) };
    let mut matrix = [[none; TIERS.len()]; TIERS.len()];
    let networks: Vec<File> =
        tiers.iter().flat_map(|t| &t.networks).map(File::try_clone).collect::<std::io::Result<_>>()?;
    let targets: Vec<SocketAddr> = tiers.iter().flat_map(|t| t.pods.iter().copied().chain([t.service])).collect();
    let mut outcomes = reach::probe_all(&networks, &targets)?.into_iter();
    for (from, tier) in tiers.iter().enumerate() {
        for (own, outcomes) in tier.names.iter().zip(outcomes.by_ref()) {
            let mut outcomes = outcomes.iter();
            for (to, target) in tiers.iter().enumerate() {
                let cell = &mut matrix[from][to];
                for (name, outcome) in target.names.iter().zip(outcomes.by_ref()) {
                    if name != own {
                        count(&mut cell.pods, outcome);
                    }
                }
                // No policy keeps a pod from itself, so what it answers itself through its Service says nothing.
                if let Some(outcome) = outcomes.next().filter(|o| **o != Outcome::Reached(own.clone())) {
                    count(&mut cell.service, outcome);
                }
            }
        }
    }
    Ok(matrix)
}

fn count(counter: &mut (usize, usize), outcome: &Outcome) {
    counter.0 += usize::from(outcome.reached());
    counter.1 += 1;
}

fn as_allowed(matrix: &Matrix) -> bool {
    let cells = (0..TIERS.len()).flat_map(|from| (0..TIERS.len()).map(move |to| (from, to)));
    cells.into_iter().all(|(from, to)| {
        let cell = matrix[from][to];
        if ALLOWED.contains(&(from, to)) { cell.open() } else { cell.closed() }
    })
}

fn print(matrix: &Matrix, before: Option<&Matrix>) {
    let mut heads = vec!["from \\ to"];
    heads.extend(TIERS.iter().map(|(name, _)| *name));
    let row = |from: usize| -> Vec<Cell> {
        let cells = (0..TIERS.len()).map(|to| cell(matrix[from][to], before.map(|b| b[from][to])));
        [plain(TIERS[from].0)].into_iter().chain(cells).collect()
    };
    let rows: Vec<_> = (0..TIERS.len()).map(row).collect();
    println!("\n{}", render(&heads, &rows));
}

fn cell(now: Reach, before: Option<Reach>) -> Cell {
    let (sign, colour) = match now {
        n if n.open() => ("✓", Colour::Green),
        n if n.closed() => ("✗", Colour::Red),
        _ => ("~", Colour::Red),
    };
    let changed = before.is_some_and(|b| (b.open(), b.closed()) != (now.open(), now.closed()));
    let mark = if changed { " ◂ changed" } else { "" };
    let text = format!("{sign} pods {}/{} service {}/{}{mark}", now.pods.0, now.pods.1, now.service.0, now.service.1);
    (text, Some(if changed { Colour::Yellow } else { colour }))
}

fn next(cluster: &Cluster) {
    heading("Try next");
    let kubeconfig = cluster.folder.kubeconfig();
    let kubectl = crate::gobuild::KUBECTL.path(&cluster.paths).unwrap_or_default();
    for line in [
        format!(
            "export KUBECONFIG={} PATH={}:$PATH",
            kubeconfig.display(),
            kubectl.parent().unwrap_or(&kubectl).display()
        ),
        "kubectl get ciliumendpoints,ciliumidentities -n demo -o wide".to_owned(),
        "kubectl -n demo delete networkpolicy db           # then `make demo` shows it again".to_owned(),
        "kubectl -n kube-system delete pod -l app.kubernetes.io/name=axoneme-operator   # connections and policy go on"
            .to_owned(),
        "make conformance SUITE=netpol                     # Kubernetes' own NetworkPolicy suite".to_owned(),
        "make bench SET=policy                             # from kubectl apply to the first packet judged".to_owned(),
        "make cluster-down".to_owned(),
    ] {
        note(&paint(Colour::Bold, &line));
    }
}
