//! The pods, their service, and the policy.

use std::fmt;
use std::net::IpAddr;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;

use super::PAUSE;
use crate::cluster::{Cluster, NODE_BINARY};

/// Where pods serve; hosts do at another port, which is hardly anybody's.
pub(super) const PORT: u16 = 8080;
/// Where pods on the host's network serve.
pub(super) const HOST_PORT: u16 = 41_680;
/// The service's port.
pub(super) const SERVICE_PORT: u16 = 80;
const POLICY: &str = "only-client";

/// A pod that shall be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) name: &'static str,
    pub(super) node: &'a str,
    pub(super) host: bool,
}

/// One that runs.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) name: String,
    pub(super) node: String,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) host: bool,
}

impl Running {
    /// Who it is, and where.
    pub(super) fn place(&self) -> String {
        format!("{}@{}", self.name, self.node)
    }
}

/// The namespace in which all are.
pub(super) struct Place<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) namespace: &'a str,
}

impl Place<'_> {
    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.cluster.client.clone(), self.namespace)
    }

    /// Makes a pod.
    pub(super) async fn make(&self, wanted: Wanted<'_>, image: &str) -> Result<()> {
        let Wanted { name, node, host } = wanted;
        let port = if host { HOST_PORT } else { PORT };
        let role = name.split('-').next().unwrap_or(name);
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"app": "axoneme-connectivity", "role": role}},
            "spec": {
                "nodeName": node,
                "hostNetwork": host,
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "probe",
                    "image": image,
                    "command": [NODE_BINARY, "probe", "serve", port.to_string(), name],
                    "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}},
                }],
            },
        }))?;
        self.api::<Pod>()
            .create(&PostParams::default(), &pod)
            .await
            .with_context(|| format!("cannot make pod {name}"))?;
        Ok(())
    }

    /// The pod, when it is ready.
    pub(super) async fn ready(&self, wanted: Wanted<'_>, deadline: Instant) -> Result<Running> {
        loop {
            let pod = self.api::<Pod>().get(wanted.name).await?;
            let status = pod.status.unwrap_or_default();
            let conditions = status.conditions.unwrap_or_default();
            let addresses: Vec<IpAddr> = status.pod_ips.iter().flatten().filter_map(|ip| ip.ip.parse().ok()).collect();
            if conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True") {
                let Wanted { name, node, host } = wanted;
                return Ok(Running { name: name.to_owned(), node: node.to_owned(), addresses, host });
            }
            if Instant::now() > deadline {
                let container = status.container_statuses.iter().flatten().next();
                let waiting = container.and_then(|container| container.state.as_ref()?.waiting.clone());
                let why = waiting.map(|w| [w.reason, w.message].into_iter().flatten().collect::<Vec<_>>().join(": "));
                bail!(
                    "pod {} on node {} is not ready: {}; see: kubectl -n {} describe pod {}",
                    wanted.name,
                    wanted.node,
                    why.unwrap_or_else(|| "it was not started".to_owned()),
                    self.namespace,
                    wanted.name
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Makes the service of all pods whose role is `server`, and gives its addresses.
    pub(super) async fn service(&self) -> Result<Vec<IpAddr>> {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "server"},
            "spec": {
                "selector": {"role": "server"},
                "ipFamilyPolicy": "PreferDualStack",
                "ports": [
                    {"name": "tcp", "protocol": "TCP", "port": SERVICE_PORT, "targetPort": PORT},
                    {"name": "udp", "protocol": "UDP", "port": SERVICE_PORT, "targetPort": PORT},
                ],
            },
        }))?;
        let made = self.api::<Service>().create(&PostParams::default(), &service).await?;
        let ips = made.spec.and_then(|spec| spec.cluster_ips).unwrap_or_default();
        Ok(ips.iter().filter_map(|ip| ip.parse().ok()).collect())
    }

    /// From now on, of all pods only `client` may reach `server-...`.
    pub(super) async fn isolate(&self) -> Result<()> {
        let policy: NetworkPolicy = serde_json::from_value(json!({
            "metadata": {"name": POLICY},
            "spec": {
                "podSelector": {"matchLabels": {"role": "server"}},
                "policyTypes": ["Ingress"],
                "ingress": [{"from": [{"podSelector": {"matchLabels": {"role": "client"}}}]}],
            },
        }))?;
        self.api::<NetworkPolicy>().create(&PostParams::default(), &policy).await?;
        Ok(())
    }

    /// And from now on everybody may again.
    pub(super) async fn open(&self) -> Result<()> {
        self.api::<NetworkPolicy>().delete(POLICY, &DeleteParams::default()).await?;
        Ok(())
    }

    /// What comes of asking: the name of who answers, or why nobody does.
    pub(super) async fn ask(&self, from: &str, target: std::net::SocketAddr, how: How) -> Result<String, String> {
        let target = target.to_string();
        let mut command = vec![NODE_BINARY, "probe", "ask", &target];
        match how {
            How::Tcp => {}
            How::Udp => command.push("--udp"),
            How::Connect => command.push("--connect"),
        }
        match self.cluster.run(self.namespace, from, &command).await {
            Ok((_, name)) => Ok(name.trim().to_owned()),
            Err(error) => Err(said(&error)),
        }
    }

    /// The addresses of a name, as a program in the pod finds them, or why there are none.
    pub(super) async fn resolve(&self, from: &str, name: &str) -> Result<Vec<IpAddr>, String> {
        match self.cluster.run(self.namespace, from, &[NODE_BINARY, "probe", "resolve", name]).await {
            Ok((_, lines)) => Ok(lines.lines().filter_map(|line| line.trim().parse().ok()).collect()),
            Err(error) => Err(said(&error)),
        }
    }
}

/// What the probe says of its failure, if it could be run: who asked whom stands beside it.
fn said(error: &anyhow::Error) -> String {
    let line = crate::error::line(error);
    match line.rsplit_once("axoneme-node: ") {
        Some((_, said)) => said.to_owned(),
        None => line,
    }
}

/// How somebody is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Tcp,
    Udp,
    /// Only whether a connection comes about.
    Connect,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp | Self::Connect => "TCP",
            Self::Udp => "UDP",
        })
    }
}
