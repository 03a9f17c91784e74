//! The cluster: its API server by the kubeconfig that kubectl would use, and this project's pods, which are asked by running
//! their own binary in them. Images hold nothing else, so nothing else is needed there.

use std::error::Error as _;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams, ListParams};
use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt;

/// Pods that are asked at a time: each is a stream through the API server.
const AT_ONCE: usize = 16;

/// How long the API server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a pod may take to answer; its own binary gives up earlier, the way to it may not.
const ANSWER: Duration = Duration::from_secs(40);

/// Objects that are listed at a time.
pub const PAGE: u32 = 500;

/// Labels of the daemons' pods.
pub const DAEMONS: &str = "app.kubernetes.io/name=axoneme";
/// Labels of the operators' pods.
pub const OPERATORS: &str = "app.kubernetes.io/name=axoneme-operator";
/// The daemon's binary in its image.
pub const NODE_BINARY: &str = "/usr/bin/axoneme-node";
/// The operator's binary in its image.
pub const OPERATOR_BINARY: &str = "/usr/bin/axoneme-operator";

/// Which cluster, and where in it.
#[derive(Clone, Debug, clap::Args)]
pub struct Access {
    /// The context of the kubeconfig; the current one if none is given
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// The namespace that Axoneme is installed in
    #[arg(short, long, global = true, default_value = "kube-system")]
    pub namespace: String,
}

/// A cluster.
#[derive(Clone)]
pub struct Cluster {
    /// Speaks with its API server.
    pub client: Client,
    /// Where this project is installed.
    pub namespace: String,
}

/// One of this project's pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub pod: String,
    /// Name of its node.
    pub node: String,
    /// Its container runs, so that it can be asked.
    pub running: bool,
    /// It says that it is ready.
    pub ready: bool,
    /// What its container waits for or ended with, as the kubelet says it; empty: nothing.
    pub waiting: String,
    /// How often its container was started anew.
    pub restarts: i32,
    /// What it runs.
    pub image: String,
}

impl Access {
    /// The cluster's address and credentials, as kubectl would find them.
    ///
    /// # Errors
    /// When no kubeconfig is found, or it makes no sense.
    pub async fn config(&self) -> Result<Config> {
        let mut config = match &self.context {
            None => Config::infer().await.map_err(|error| {
                // What a pod would have is no news to somebody at a terminal.
                let of_kubeconfig = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                anyhow!(of_kubeconfig).context("no cluster is configured as for kubectl (KUBECONFIG, ~/.kube/config)")
            })?,
            Some(context) => {
                let options = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
                let config = Config::from_kubeconfig(&options).await;
                config.with_context(|| {
                    format!("context {context} (\"kubectl config get-contexts\" tells which there are)")
                })?
            }
        };
        config.connect_timeout = Some(CONNECT);
        Ok(config)
    }
}

impl Cluster {
    /// Speaks with the API server as kubectl would.
    ///
    /// # Errors
    /// When no kubeconfig is found, or it makes no sense.
    pub async fn connect(access: &Access) -> Result<Self> {
        let config = access.config().await?;
        let client = Client::try_from(config).context("the kubeconfig cannot be used")?;
        Ok(Self { client, namespace: access.namespace.clone() })
    }

    /// Objects of a kind where this project is installed.
    pub fn own<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Objects of a kind everywhere.
    pub fn all<K: kube::Resource>(&self) -> Api<K>
    where
        K::DynamicType: Default,
    {
        Api::all(self.client.clone())
    }

    /// The pods with these labels, by name of their nodes.
    ///
    /// # Errors
    /// When the API server does not tell.
    pub async fn members(&self, labels: &str) -> Result<Vec<Member>> {
        let pods = self.own::<Pod>().list(&ListParams::default().labels(labels)).await;
        let pods = pods.with_context(|| format!("cannot list pods of namespace {}", self.namespace))?;
        let mut members: Vec<Member> = pods.items.iter().map(member).collect();
        members.sort_by(|one, other| (&one.node, &one.pod).cmp(&(&other.node, &other.pod)));
        Ok(members)
    }

    /// Runs `command` in a pod, and reads the JSON that it writes.
    ///
    /// # Errors
    /// When it cannot be run, fails, takes too long, or writes something else.
    pub async fn ask<T: DeserializeOwned>(&self, pod: &str, command: &[&str]) -> Result<T> {
        let answer = tokio::time::timeout(ANSWER, self.run(&self.namespace, pod, command)).await;
        let (_, text) = answer.with_context(|| format!("pod {pod} has not answered within {ANSWER:?}"))??;
        serde_json::from_str(&text).with_context(|| format!("{} said something else than expected", command.join(" ")))
    }

    /// Runs `command` in a pod; whether it succeeded, and what it wrote. What it said of an error is one.
    ///
    /// # Errors
    /// When it cannot be run, or fails without having written anything.
    pub async fn run(&self, namespace: &str, pod: &str, command: &[&str]) -> Result<(bool, String)> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let parameters = AttachParams::default().stdin(false).stdout(true).stderr(true);
        let mut process = pods
            .exec(pod, command.iter().copied(), &parameters)
            .await
            .map_err(|error| Error::new(error).context(format!("cannot run a command in pod {pod}")))?;
        let (mut out, mut err) = (String::new(), String::new());
        let status = process.take_status();
        let (stdout, stderr) = (process.stdout(), process.stderr());
        let read_out = async {
            if let Some(mut stdout) = stdout {
                stdout.read_to_string(&mut out).await?;
            }
            std::io::Result::Ok(())
        };
        let read_err = async {
            if let Some(mut stderr) = stderr {
                stderr.read_to_string(&mut err).await?;
            }
            std::io::Result::Ok(())
        };
        futures::try_join!(read_out, read_err).with_context(|| format!("the answer of pod {pod} broke off"))?;
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        let success = status.as_ref().is_some_and(|status| status.status.as_deref() == Some("Success"));
        if !success && out.is_empty() {
            let said = status.and_then(|status| status.message).unwrap_or_default();
            bail!("{} in pod {pod}: {}", command.join(" "), if err.trim().is_empty() { &said } else { err.trim() });
        }
        Ok((success, out))
    }

    /// Asks many pods; each with its answer, in the order that they came in.
    pub async fn ask_all<T: DeserializeOwned>(
        &self,
        members: Vec<Member>,
        command: &[&str],
    ) -> Vec<(Member, Result<T>)> {
        let asked = members.into_iter().map(|member| async move {
            let answer = if member.running {
                self.ask(&member.pod, command).await
            } else {
                let state = if member.waiting.is_empty() { "it has not started" } else { &member.waiting };
                Err(anyhow!("pod {} does not run: {state}", member.pod))
            };
            (member, answer)
        });
        stream::iter(asked).buffered(AT_ONCE).collect().await
    }

    /// All objects of a kind, page by page.
    ///
    /// # Errors
    /// When the API server does not tell.
    pub async fn list<K>(&self) -> Result<Vec<K>>
    where
        K: kube::Resource + Clone + DeserializeOwned + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let api = self.all::<K>();
        let mut items = Vec::new();
        let mut parameters = ListParams::default().limit(PAGE);
        loop {
            let page = api.list(&parameters).await?;
            items.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = ListParams::default().limit(PAGE).continue_token(&token),
                None => return Ok(items),
            }
        }
    }
}

fn member(pod: &Pod) -> Member {
    let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
    let container = status.and_then(|status| status.container_statuses.as_ref()?.first());
    let state = container.and_then(|container| container.state.as_ref());
    let waiting = state.and_then(|state| state.waiting.as_ref()).map(|waiting| {
        let parts = [waiting.reason.as_deref(), waiting.message.as_deref()];
        parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
    });
    let ended =
        state.and_then(|state| state.terminated.as_ref()).map(|ended| format!("ended with {}", ended.exit_code));
    Member {
        pod: pod.metadata.name.clone().unwrap_or_default(),
        node: spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        running: state.is_some_and(|state| state.running.is_some()),
        ready: container.is_some_and(|container| container.ready),
        waiting: waiting.or(ended).unwrap_or_default(),
        restarts: container.map_or(0, |container| container.restart_count),
        image: spec.and_then(|spec| spec.containers.first()?.image.clone()).unwrap_or_default(),
    }
}
