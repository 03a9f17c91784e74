//! Kubernetes events become [`Object`]s and [`Input`]s.
//!
//! One task a kind. Types are slim: what nobody compiles is never built, `managedFields` above all. Deletes are explicit, also
//! those that happened while the watch was down (see `follow`). An object that cannot be understood becomes a [`Problem`] and,
//! where leaving it out would open something, a closed stand-in; it never stops a watch.

mod cilium_identity;
mod cilium_node;
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
mod service;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;

use kube::Client;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::engine::Input;
use crate::object::{Kind, Object, ObjectKey};
use context::Context;

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

/// Watches all kinds until the sink is closed. Problems are sent for as long as their receiver lives.
pub fn spawn_all<S: Sink>(client: &Client, sink: &S, problems: &mpsc::UnboundedSender<Problems>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for kind in Kind::ALL {
        let (client, sink, problems) = (client.clone(), sink.clone(), problems.clone());
        match kind {
            Kind::Namespace => tasks.spawn(follow::follow::<namespace::Namespace, S>(client, sink, problems)),
            Kind::Node => tasks.spawn(follow::follow::<node::Node, S>(client, sink, problems)),
            Kind::Pod => tasks.spawn(follow::follow::<pod::Pod, S>(client, sink, problems)),
            Kind::Service => tasks.spawn(follow::follow::<service::Service, S>(client, sink, problems)),
            Kind::EndpointSlice => tasks.spawn(follow::follow::<endpoint_slice::Slice, S>(client, sink, problems)),
            Kind::NetworkPolicy => tasks.spawn(follow::follow::<network_policy::Policy, S>(client, sink, problems)),
            Kind::CiliumIdentity => tasks.spawn(follow::follow::<cilium_identity::Identity, S>(client, sink, problems)),
            Kind::CiliumNode => tasks.spawn(follow::follow::<cilium_node::Ledger, S>(client, sink, problems)),
        };
    }
    tasks
}
