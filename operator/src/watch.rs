//! Kubernetes events become [`Object`]s and [`Input`]s.
//!
//! One task a kind. Types are slim: what nobody compiles is never built, `managedFields` above all. Deletes are explicit, also
//! those that happened while the watch was down (see `follow`). An object that cannot be understood becomes a [`Problem`] and,
//! where leaving it out would open something, a closed stand-in; it never stops a watch.

mod cilium_identity;
mod cilium_node;
mod cilium_node_config;
mod config_map;
mod context;
mod decode;
mod endpoint_slice;
mod follow;
mod guard;
mod metadata;
mod namespace;
mod network_policy;
mod node;
mod pod;
mod pod_ip_pool;
mod quantity;
mod service;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;

use kube::runtime::watcher;
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::engine::Input;
use crate::object::{Kind, Object, ObjectKey};
use context::Context;
use guard::Guarded;

pub use cilium_node::Ledger;
pub use decode::{DecodeError, decode};

/// Where inputs go.
pub trait Sink: Clone + Send + Sync + 'static {
    /// Delivers one; false when nobody listens any more.
    fn deliver(&self, input: Input) -> impl Future<Output = bool> + Send;
}

/// What cannot be understood of an object: all of it at once, none when it is fine again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The object.
    pub object: ObjectKey,
    /// Its UID, if it has one.
    pub uid: Arc<str>,
    /// Field and what is wrong with it.
    pub problems: Vec<Problem>,
}

/// One thing that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field.
    pub field: Box<str>,
    /// What is wrong with it.
    pub message: Box<str>,
}

/// A kind that is watched, as its slim type.
trait Watched: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static {
    /// The kind.
    const KIND: Kind;

    /// The object that is compiled; none if it has no meaning at all. What is wrong is said to `context`.
    fn convert(self, context: &mut Context) -> Option<Object>;

    /// Stands in for an object of which only the metadata can be read.
    fn stand_in(_metadata: &kube::api::ObjectMeta, _context: &mut Context) -> Option<Object> {
        None
    }
}

/// Watches all kinds until the sink is closed. In `namespace` are CiliumNodeConfigs and, if it is wanted (`agent`), the ConfigMap
/// `ip-masq-agent`.
/// Problems are sent for as long as their receiver lives.
pub fn spawn_all<S: Sink>(
    client: &Client,
    namespace: &str,
    agent: bool,
    sink: &S,
    problems: &mpsc::UnboundedSender<Problems>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for kind in Kind::ALL {
        match kind {
            Kind::Namespace => spawn::<namespace::Namespace, S>(&mut tasks, client, sink, problems),
            Kind::Node => spawn::<node::Node, S>(&mut tasks, client, sink, problems),
            Kind::Pod => spawn::<pod::Pod, S>(&mut tasks, client, sink, problems),
            Kind::Service => spawn::<service::Service, S>(&mut tasks, client, sink, problems),
            Kind::EndpointSlice => spawn::<endpoint_slice::Slice, S>(&mut tasks, client, sink, problems),
            Kind::NetworkPolicy => spawn::<network_policy::Policy, S>(&mut tasks, client, sink, problems),
            Kind::CiliumIdentity => spawn::<cilium_identity::Identity, S>(&mut tasks, client, sink, problems),
            Kind::CiliumNode => spawn::<cilium_node::Ledger, S>(&mut tasks, client, sink, problems),
            Kind::CiliumPodIPPool => spawn::<pod_ip_pool::Pool, S>(&mut tasks, client, sink, problems),
            Kind::CiliumNodeConfig => {
                let api = Api::<Guarded<cilium_node_config::NodeConfig>>::namespaced(client.clone(), namespace);
                tasks.spawn(follow::follow(api, watcher::Config::default(), sink.clone(), problems.clone()));
            }
            Kind::ConfigMap => {
                let namespace = agent.then_some(namespace);
                spawn_config_map(&mut tasks, client, namespace, sink, problems);
            }
        }
    }
    tasks
}

fn spawn<K: Watched, S: Sink>(
    tasks: &mut JoinSet<()>,
    client: &Client,
    sink: &S,
    problems: &mpsc::UnboundedSender<Problems>,
) {
    let api = Api::<Guarded<K>>::all(client.clone());
    tasks.spawn(follow::follow::<K, S>(api, watcher::Config::default(), sink.clone(), problems.clone()));
}

/// One ConfigMap, by name: that is what the operator may see.
fn spawn_config_map<S: Sink>(
    tasks: &mut JoinSet<()>,
    client: &Client,
    namespace: Option<&str>,
    sink: &S,
    problems: &mpsc::UnboundedSender<Problems>,
) {
    let sink = sink.clone();
    let Some(namespace) = namespace else {
        // Nothing of a kind that is not wanted exists.
        tasks.spawn(async move {
            sink.deliver(Input::Synced(Kind::ConfigMap)).await;
            std::future::pending().await
        });
        return;
    };
    let api = Api::<Guarded<config_map::ConfigMap>>::namespaced(client.clone(), namespace);
    let selected = watcher::Config::default().fields(&format!("metadata.name={}", config_map::NAME));
    tasks.spawn(follow::follow(api, selected, sink, problems.clone()));
}
