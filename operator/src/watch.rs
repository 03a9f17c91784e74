//! Kubernetes events become [`Object`]s and [`Input`]s.
//!
//! One task a kind. Types are slim: what nobody compiles is never built, `managedFields` above all. Deletes are explicit, also
//! those that happened while the watch was down (see `follow`). An object that cannot be understood becomes a [`Problem`] and,
//! where leaving it out would open something, a closed stand-in; it never stops a watch.

mod cidr_group;
mod cilium_identity;
mod cilium_node;
mod cilium_node_config;
mod cilium_policy;
mod cluster_network_policy;
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
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::engine::Input;
use crate::object::{Kind, Object, ObjectKey, Versions};
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

/// What is watched only where it is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Optional {
    /// The ConfigMap `ip-masq-agent`.
    pub masquerade_agent: bool,
    /// ClusterNetworkPolicies.
    pub cluster_network_policies: bool,
}

/// Watches all kinds until the sink is closed. In `namespace` are CiliumNodeConfigs and the ConfigMap `ip-masq-agent`. A kind that stays behind what nodes know of it (`wanted`) is listed anew.
/// Problems are sent for as long as their receiver lives.
pub fn spawn_all<S: Sink>(
    client: &Client,
    namespace: &str,
    optional: Optional,
    wanted: watch::Receiver<Versions>,
    sink: &S,
    problems: &mpsc::UnboundedSender<Problems>,
) -> JoinSet<()> {
    let to = To { client, wanted, sink, problems };
    let mut tasks = JoinSet::new();
    for kind in Kind::ALL {
        match kind {
            Kind::Namespace => to.spawn::<namespace::Namespace>(&mut tasks),
            Kind::Node => to.spawn::<node::Node>(&mut tasks),
            Kind::Pod => to.spawn::<pod::Pod>(&mut tasks),
            Kind::Service => to.spawn::<service::Service>(&mut tasks),
            Kind::EndpointSlice => to.spawn::<endpoint_slice::Slice>(&mut tasks),
            Kind::NetworkPolicy => to.spawn::<network_policy::Policy>(&mut tasks),
            Kind::CiliumNetworkPolicy => to.spawn::<cilium_policy::Policy>(&mut tasks),
            Kind::CiliumClusterwideNetworkPolicy => to.spawn::<cilium_policy::ClusterwidePolicy>(&mut tasks),
            Kind::ClusterNetworkPolicy if optional.cluster_network_policies => {
                to.spawn::<cluster_network_policy::Policy>(&mut tasks);
            }
            Kind::ConfigMap if optional.masquerade_agent => to.spawn_config_map(&mut tasks, namespace),
            Kind::ClusterNetworkPolicy | Kind::ConfigMap => to.leave_out(&mut tasks, kind),
            Kind::CiliumCIDRGroup => to.spawn::<cidr_group::Group>(&mut tasks),
            Kind::CiliumIdentity => to.spawn::<cilium_identity::Identity>(&mut tasks),
            Kind::CiliumNode => to.spawn::<cilium_node::Ledger>(&mut tasks),
            Kind::CiliumPodIPPool => to.spawn::<pod_ip_pool::Pool>(&mut tasks),
            Kind::CiliumNodeConfig => {
                let api = Api::<Guarded<cilium_node_config::NodeConfig>>::namespaced(client.clone(), namespace);
                to.follow(&mut tasks, api, watcher::Config::default());
            }
        }
    }
    tasks
}

/// What all watches need.
struct To<'a, S> {
    client: &'a Client,
    wanted: watch::Receiver<Versions>,
    sink: &'a S,
    problems: &'a mpsc::UnboundedSender<Problems>,
}

impl<S: Sink> To<'_, S> {
    fn follow<K: Watched>(&self, tasks: &mut JoinSet<()>, api: Api<Guarded<K>>, selected: watcher::Config) {
        let (wanted, sink, problems) = (self.wanted.clone(), self.sink.clone(), self.problems.clone());
        tasks.spawn(follow::follow(api, selected, wanted, sink, problems));
    }

    fn spawn<K: Watched>(&self, tasks: &mut JoinSet<()>) {
        self.follow(tasks, Api::<Guarded<K>>::all(self.client.clone()), watcher::Config::default());
    }

    /// Nothing of a kind that is not wanted exists, whatever nodes were told by an operator that wanted it.
    fn leave_out(&self, tasks: &mut JoinSet<()>, kind: Kind) {
        let sink = self.sink.clone();
        tasks.spawn(async move {
            sink.deliver(Input::Listed(kind, u64::MAX)).await;
            sink.deliver(Input::Synced(kind)).await;
            std::future::pending().await
        });
    }

    /// One ConfigMap, by name: that is what the operator may see.
    fn spawn_config_map(&self, tasks: &mut JoinSet<()>, namespace: &str) {
        let api = Api::<Guarded<config_map::ConfigMap>>::namespaced(self.client.clone(), namespace);
        let selected = watcher::Config::default().fields(&format!("metadata.name={}", config_map::NAME));
        self.follow(tasks, api, selected);
    }
}
