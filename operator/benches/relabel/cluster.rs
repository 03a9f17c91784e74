//! The cluster of the measurement: an API server, the operator's own program, and objects.

use std::fs;
use std::io::Error;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use axoneme_e2e::api_server::ApiServer;
use axoneme_operator::leader::OPERATORS_CONFIG_MAP;
use axoneme_proto::TOKEN_AUDIENCE;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt};
use rustls::ClientConfig;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::dial::join;
use crate::node::Started;
use crate::{APPS, NAMESPACE, NODES, PODS};

const SYSTEM: &str = "kube-system";
const ACCOUNT: &str = "axoneme-node";
const OPERATOR: &str = "system:serviceaccount:kube-system:axoneme-operator";
/// Requests at the same time.
const CONCURRENT: usize = 16;
const LOOK: Duration = Duration::from_millis(100);

async fn create<K>(api: Api<K>, object: Value) -> Result<K>
where
    K: Clone + std::fmt::Debug + serde::Serialize + DeserializeOwned,
{
    let object: K = serde_json::from_value(object)?;
    Ok(api.create(&PostParams::default(), &object).await?)
}

/// The operator's process; it ends with this value, or with this process where that is killed and drops nothing.
struct Operator(Child);

impl Operator {
    /// Starts it with the rights that the chart gives it; what it reads and writes is in `folder`.
    fn start(kubeconfig: &Path, folder: &Path, port: u16, others: [u16; 2]) -> Result<Self> {
        let mut config: Value = serde_yaml::from_slice(&fs::read(kubeconfig)?)?;
        config["users"][0]["user"]["as"] = json!(OPERATOR);
        let kubeconfig = folder.join("operator.kubeconfig");
        fs::write(&kubeconfig, config.to_string())?;
        let settings = json!({"operator": {"port": port, "healthPort": others[0], "metricsPort": others[1]}});
        let file = folder.join("operator.yaml");
        fs::write(&file, settings.to_string())?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_axoneme-operator"));
        command.arg("--config").arg(&file).arg("--admin-socket").arg(folder.join("operator.sock"));
        command.args(["--pod-name=axoneme-operator", "--pod-namespace=kube-system", "--pod-uid=operator"]);
        command.args(["--node-name=node-0", "--host-ip=127.0.0.1", "--log=error"]);
        command.env("KUBECONFIG", kubeconfig).stdin(Stdio::null()).stdout(Stdio::null());
        // SAFETY: it takes two integers.
        let with_parent = || match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(Error::last_os_error()),
        };
        // SAFETY: prctl is async-signal-safe and touches no memory.
        unsafe { command.pre_exec(with_parent) };
        Ok(Self(command.spawn().context("cannot start the operator")?))
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// All that runs, and how it is reached.
pub struct Cluster {
    // Before the API server that it speaks with.
    _operator: Operator,
    _server: ApiServer,
    pub client: Client,
    /// Where nodes find the operator.
    pub address: String,
    /// What they trust.
    ca: String,
}

impl Cluster {
    pub async fn start(server: ApiServer) -> Result<Self> {
        let kubeconfig = server.kubeconfig();
        let read = Kubeconfig::read_from(&kubeconfig)?;
        let client =
            Client::try_from(kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?)?;
        give_rights(&client).await?;
        create(Api::<ServiceAccount>::namespaced(client.clone(), SYSTEM), json!({"metadata": {"name": ACCOUNT}}))
            .await?;
        let [port, health, metrics] = free_ports()?;
        let folder: PathBuf = kubeconfig.parent().context("a kubeconfig without a folder")?.to_owned();
        let operator = Operator::start(&kubeconfig, &folder, port, [health, metrics])?;
        let directory: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM);
        let ca = loop {
            let found = directory.get_opt(OPERATORS_CONFIG_MAP).await?.and_then(|found| found.data);
            if let Some(ca) = found.and_then(|mut data| data.remove("ca.crt")) {
                break ca;
            }
            tokio::time::sleep(LOOK).await;
        };
        Ok(Self { _operator: operator, _server: server, client, address: format!("127.0.0.1:{port}"), ca })
    }

    /// A Node, and the certificate of its daemon.
    pub async fn node(&self, number: usize) -> Result<(String, ClientConfig)> {
        let name = format!("node-{number}");
        let nodes: Api<Node> = Api::all(self.client.clone());
        create(nodes.clone(), json!({"metadata": {"name": name}})).await?;
        let address = Ipv4Addr::new(192, 0, 2, 1 + u8::try_from(number)?);
        let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": address}],
                                       "capacity": {"pods": "110"}}});
        nodes.patch_status(&name, &PatchParams::default(), &Patch::Strategic(status)).await?;
        let token = self.token(&name).await?;
        // The operator prepares itself before it listens, and looks at Nodes by its watch.
        for _ in 0..300 {
            if let Ok(tls) = join(&self.address, &self.ca, token.clone()).await {
                return Ok((name, tls));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok((name, join(&self.address, &self.ca, token).await.context("a node cannot join")?))
    }

    /// The token that the kubelet gives to the daemon's pod on a node.
    async fn token(&self, node: &str) -> Result<String> {
        let name = format!("axoneme-{node}");
        let spec = json!({"nodeName": node, "hostNetwork": true, "serviceAccountName": ACCOUNT,
                          "containers": [{"name": "c", "image": "i"}]});
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), SYSTEM);
        let pod = create(pods, json!({"metadata": {"name": name}, "spec": spec})).await?;
        let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": pod.uid()});
        let request: TokenRequest =
            serde_json::from_value(json!({"spec": {"audiences": [TOKEN_AUDIENCE], "boundObjectRef": bound}}))?;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), SYSTEM);
        let answer = accounts.create_token_request(ACCOUNT, &PostParams::default(), &request).await?;
        answer.status.and_then(|status| status.token).context("no token")
    }

    /// The namespace, a policy by which each of its pods is a peer of all, and its pods, bound to nodes.
    pub async fn pods(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        create(namespaces, json!({"metadata": {"name": NAMESPACE}})).await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), NAMESPACE);
        create(accounts, json!({"metadata": {"name": "default"}})).await?;
        let spec = json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]});
        let policies: Api<NetworkPolicy> = Api::namespaced(self.client.clone(), NAMESPACE);
        create(policies, json!({"metadata": {"name": "each-other"}, "spec": spec})).await?;
        let pod = |number: usize| {
            let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
            let labels = json!({"app": format!("app-{}", (number / NODES) % APPS)});
            let spec = json!({"nodeName": format!("node-{}", number % NODES),
                              "containers": [{"name": "c", "image": "i"}]});
            create(pods, json!({"metadata": {"name": format!("pod-{number}"), "labels": labels}, "spec": spec}))
        };
        stream::iter(0..PODS).map(pod).buffer_unordered(CONCURRENT).try_for_each(|_| async { Ok(()) }).await
    }

    /// What kubelets write when pods have started, until all have.
    pub async fn kubelets(&self, mut started: mpsc::UnboundedReceiver<Started>) -> Result<()> {
        let started = stream::poll_fn(move |context| started.poll_recv(context)).take(PODS);
        let status = |pod: Started| async move {
            let addresses: Vec<Value> = pod.addresses.iter().map(|ip| json!({"ip": ip})).collect();
            let status = json!({"status": {"phase": "Running", "podIP": pod.addresses.first(), "podIPs": addresses,
                                           "conditions": [{"type": "Ready", "status": "True"}]}});
            let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
            pods.patch_status(&pod.name, &PatchParams::default(), &Patch::Strategic(status)).await.map(drop)
        };
        Ok(started.map(status).buffer_unordered(CONCURRENT).try_for_each(|()| async { Ok(()) }).await?)
    }
}

/// What the chart lets the operator do.
async fn give_rights(client: &Client) -> Result<()> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/tests/default.golden.yaml");
    for document in serde_yaml::Deserializer::from_str(&fs::read_to_string(chart)?) {
        let document = Value::deserialize(document)?;
        match document["kind"].as_str() {
            Some("ClusterRole") => drop(create(Api::<ClusterRole>::all(client.clone()), document).await?),
            Some("ClusterRoleBinding") => drop(create(Api::<ClusterRoleBinding>::all(client.clone()), document).await?),
            Some("Role") => drop(create(Api::<Role>::namespaced(client.clone(), SYSTEM), document).await?),
            Some("RoleBinding") => {
                drop(create(Api::<RoleBinding>::namespaced(client.clone(), SYSTEM), document).await?)
            }
            _ => {}
        }
    }
    Ok(())
}

/// Ports that nobody has now.
fn free_ports() -> Result<[u16; 3]> {
    let listeners = [(); 3].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(listeners) {
        *port = listener?.local_addr()?.port();
    }
    Ok(ports)
}
