//! Pods for scenarios and measurements, in a namespace that goes when they are done.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::api::Api;

/// How long a single pod may take to be ready on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Group and kind of NetworkPolicies in paths.
const POLICIES: (&str, &str) = ("networking.k8s.io/v1", "networkpolicies");

/// A namespace of its own, deleted when dropped.
#[derive(Debug)]
pub struct Workload<'a> {
    api: &'a Api,
    /// The namespace.
    pub namespace: String,
}

impl<'a> Workload<'a> {
    /// Makes the namespace `name`, waiting for one of an earlier run to be gone.
    pub fn new(api: &'a Api, name: &str) -> Result<Self> {
        let path = format!("/api/v1/namespaces/{name}");
        api.delete(&path)?;
        api.wait(&format!("namespace {name} of an earlier run to be gone"), PATIENCE, |api| {
            Ok(api.find(&path)?.is_none().then_some(()))
        })?;
        api.create("/api/v1/namespaces", &json!({"metadata": {"name": name, "labels": {"name": name}}}))?;
        let account = format!("{path}/serviceaccounts/default");
        api.wait("the namespace's service account", PATIENCE, |api| api.find(&account))?;
        Ok(Self { api, namespace: name.to_owned() })
    }

    /// The path of a kind of objects in the namespace; `group` is empty for the core group, else like `apps/v1`.
    pub fn path(&self, group: &str, kind: &str) -> String {
        let root = if group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{group}") };
        format!("{root}/namespaces/{}/{kind}", self.namespace)
    }

    /// Creates a pod with one container on a node. Its only label is `app`, with its name.
    pub fn pod(&self, name: &str, node: &str, image: &str, arguments: &[&str]) -> Result<()> {
        self.labelled_pod(name, name, node, image, arguments)
    }

    /// Creates a pod whose label `app` is not its name.
    pub fn labelled_pod(&self, name: &str, app: &str, node: &str, image: &str, arguments: &[&str]) -> Result<()> {
        let pod = json!({
            "metadata": {"name": name, "labels": {"app": app}},
            "spec": {
                "nodeName": node,
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "main", "image": image, "args": arguments}],
            },
        });
        self.api.create(&self.path("", "pods"), &pod).with_context(|| format!("cannot create pod {name}"))?;
        Ok(())
    }

    /// Waits until a pod is ready, and gives it.
    pub fn ready(&self, name: &str) -> Result<Value> {
        let path = format!("{}/{name}", self.path("", "pods"));
        self.api.wait(&format!("pod {name} to be ready"), PATIENCE, |api| {
            let pod = api.get(&path)?;
            Ok(condition(&pod, "Ready").then_some(pod))
        })
    }

    /// Creates a NetworkPolicy.
    pub fn policy(&self, name: &str, spec: &Value) -> Result<()> {
        let policy = json!({"metadata": {"name": name}, "spec": spec});
        self.api.create(&self.path(POLICIES.0, POLICIES.1), &policy).map(drop)
    }

    /// Creates the NetworkPolicy `friends`: of all pods, only `friend` may reach `server`.
    pub fn friends_policy(&self) -> Result<()> {
        let spec = json!({
            "podSelector": {"matchLabels": {"app": "server"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}],
        });
        self.policy("friends", &spec)
    }

    /// Replaces what a NetworkPolicy lets in.
    pub fn change_policy(&self, name: &str, ingress: &Value) -> Result<()> {
        let path = format!("{}/{name}", self.path(POLICIES.0, POLICIES.1));
        self.api.patch(&path, &json!({"spec": {"ingress": ingress}}))
    }

    /// Deletes a NetworkPolicy.
    pub fn remove_policy(&self, name: &str) -> Result<()> {
        self.api.delete(&format!("{}/{name}", self.path(POLICIES.0, POLICIES.1)))
    }

    /// Creates a Deployment of pods that do nothing, all on one node.
    pub fn deployment(&self, name: &str, node: &str, replicas: u32, image: &str) -> Result<()> {
        let deployment = json!({
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {
                        "nodeSelector": {"kubernetes.io/hostname": node},
                        "terminationGracePeriodSeconds": 0,
                        "containers": [{"name": "main", "image": image}],
                    },
                },
            },
        });
        self.api.create(&self.path("apps/v1", "deployments"), &deployment).map(drop)
    }

    /// A Deployment has so many pods from now on.
    pub fn scale(&self, name: &str, replicas: u32) -> Result<()> {
        let path = format!("{}/{name}", self.path("apps/v1", "deployments"));
        self.api.patch(&path, &json!({"spec": {"replicas": replicas}}))
    }

    /// Waits until a Deployment's pods are all ready.
    pub fn deployment_ready(&self, name: &str, replicas: u32, patience: Duration) -> Result<()> {
        let path = format!("{}/{name}", self.path("apps/v1", "deployments"));
        self.api.wait(&format!("{replicas} pods of {name} to be ready"), patience, |api| {
            Ok((api.get(&path)?["status"]["readyReplicas"] == replicas).then_some(()))
        })
    }

    /// Waits until no pod with the label `app` of this name is left.
    pub fn deployment_gone(&self, name: &str) -> Result<()> {
        self.api.delete(&format!("{}/{name}", self.path("apps/v1", "deployments")))?;
        let pods = format!("{}?labelSelector=app%3D{name}", self.path("", "pods"));
        self.api.wait(&format!("the pods of {name} to be gone"), PATIENCE, |api| {
            Ok(api.list(&pods)?.is_empty().then_some(()))
        })
    }
}

impl Drop for Workload<'_> {
    fn drop(&mut self) {
        let _ = self.api.delete(&format!("/api/v1/namespaces/{}", self.namespace));
    }
}

/// Whether an object's condition is true.
pub fn condition(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == kind && c["status"] == "True"))
}

/// All addresses of a pod, at most one a family.
pub fn pod_ips(pod: &Value) -> Result<Vec<std::net::IpAddr>> {
    let ips = pod["status"]["podIPs"].as_array().context("the pod has no address")?;
    let parse =
        |ip: &Value| ip["ip"].as_str().unwrap_or_default().parse().with_context(|| format!("{ip} is no address"));
    ips.iter().map(parse).collect()
}

/// A pod's first address.
pub fn pod_ip(pod: &Value) -> Result<std::net::IpAddr> {
    let ip = pod["status"]["podIP"].as_str().context("the pod has no address")?;
    ip.parse().with_context(|| format!("{ip} is no address"))
}
