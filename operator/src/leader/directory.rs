//! ConfigMap `axoneme-operators`: where nodes find operators and which CA they trust. The kubelet brings it to every node, so a
//! node needs neither DNS, nor a Service, nor the API server.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::publish::tls::Authority;

/// Name of the ConfigMap: `ca.crt` and `operators`, an address ("ip:port") a line.
pub const OPERATORS_CONFIG_MAP: &str = "axoneme-operators";

/// The ConfigMap is looked at so often even if no replica comes or goes: somebody else may have changed it.
const INTERVAL: Duration = Duration::from_secs(10);

/// What happens to replicas within this time is written together.
const SETTLE: Duration = Duration::from_millis(100);

/// Why the ConfigMap is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Pods cannot be listed, or the ConfigMap not be written.
    #[error("ConfigMap {OPERATORS_CONFIG_MAP} cannot be kept")]
    Api(#[from] kube::Error),
}

/// Who the operators are.
#[derive(Clone, Debug)]
pub struct Directory {
    /// The namespace of operators and ConfigMap.
    pub namespace: String,
    /// Label selector of their pods.
    pub selector: String,
    /// This one.
    pub own: IpAddr,
    /// The port on all of them.
    pub port: u16,
    /// The CA, and those that are trusted beside it.
    pub authority: watch::Receiver<Authority>,
    /// The newest list, for the nodes that are connected.
    pub addresses: watch::Sender<Vec<String>>,
}

/// Writes the ConfigMap once and then keeps it up to date for ever; returns only if the first write fails. `watching` is for
/// requests that last.
///
/// # Errors
/// When the first write fails: no node could find an operator.
pub async fn keep_directory(client: Client, watching: Client, directory: Directory) -> Result<(), DirectoryError> {
    directory.write(&client).await?;
    tokio::spawn(async move {
        let pods: Api<Pod> = Api::namespaced(watching, &directory.namespace);
        let changes = watcher(pods, watcher::Config::default().labels(&directory.selector)).default_backoff();
        let mut changes = pin!(changes);
        loop {
            // What has happened is listed; a watch that fails is begun anew by itself.
            if timeout(INTERVAL, changes.next()).await.is_ok() {
                sleep(SETTLE).await;
                while changes.next().now_or_never().flatten().is_some() {}
            }
            if let Err(error) = directory.write(&client).await {
                warn!(%error, "the list of operators is not up to date");
            }
        }
    });
    Ok(())
}

impl Directory {
    async fn write(&self, client: &Client) -> Result<(), DirectoryError> {
        let pods: Api<Pod> = Api::namespaced(client.clone(), &self.namespace);
        let list = pods.list(&ListParams::default().labels(&self.selector)).await?;
        let addresses = addresses(self.own, self.port, list.items.iter());
        let data: BTreeMap<String, String> = [
            ("ca.crt".to_owned(), self.authority.borrow().trusted_pem().to_owned()),
            ("operators".to_owned(), addresses.iter().map(|address| format!("{address}\n")).collect()),
        ]
        .into();
        self.addresses.send_if_modified(|known| {
            let changed = *known != addresses;
            *known = addresses;
            changed
        });
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), &self.namespace);
        loop {
            let result = match api.get_opt(OPERATORS_CONFIG_MAP).await? {
                Some(found) if found.data.as_ref() == Some(&data) => return Ok(()),
                Some(mut found) => {
                    found.data = Some(data.clone());
                    found.metadata.managed_fields = None;
                    api.replace(OPERATORS_CONFIG_MAP, &PostParams::default(), &found).await
                }
                None => {
                    let metadata = ObjectMeta { name: Some(OPERATORS_CONFIG_MAP.to_owned()), ..ObjectMeta::default() };
                    let new = ConfigMap { metadata, data: Some(data.clone()), ..ConfigMap::default() };
                    api.create(&PostParams::default(), &new).await
                }
            };
            match result {
                Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {}
                Err(error) => return Err(error.into()),
                Ok(_) => {
                    info!(operators = data["operators"].trim().replace('\n', " "), "the list of operators was written");
                    return Ok(());
                }
            }
        }
    }
}

/// The own address first: it is the one that leads. The others sorted, so that the list does not change without a reason.
fn addresses<'a>(own: IpAddr, port: u16, pods: impl Iterator<Item = &'a Pod>) -> Vec<String> {
    let mut others: Vec<IpAddr> = pods
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter_map(|pod| pod.status.as_ref())
        .filter(|status| !matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")))
        .filter_map(|status| status.host_ip.as_ref()?.parse().ok())
        .filter(|address| *address != own)
        .collect();
    others.sort_unstable();
    others.dedup();
    std::iter::once(own).chain(others).map(|address| SocketAddr::new(address, port).to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_address_first_then_live_replicas() {
        let pod = |host: Option<&str>, phase: &str| {
            let status = serde_json::json!({"hostIP": host, "phase": phase});
            serde_json::from_value::<Pod>(serde_json::json!({"metadata": {"name": "x"}, "status": status})).unwrap()
        };
        let pods = [
            pod(Some("10.0.0.9"), "Running"),
            pod(Some("10.0.0.1"), "Running"),
            pod(Some("10.0.0.2"), "Failed"),
            pod(None, "Pending"),
            pod(Some("fd00::3"), "Running"),
        ];
        let list = addresses("10.0.0.1".parse().unwrap(), 4246, pods.iter());
        assert_eq!(list, ["10.0.0.1:4246", "10.0.0.9:4246", "[fd00::3]:4246"]);
    }
}
