//! Events: what users see with `kubectl describe`.
//!
//! Anyone in the operator may say something about an object at any rate. The same thing about the same object is said once an
//! hour at most, and all together slowly enough for the API server.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry as Metrics;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::object::{Kind, ObjectKey};

/// The same notice is not repeated within this time.
const REPEAT: Duration = Duration::from_secs(3600);

/// Pause between two events.
const PACE: Duration = Duration::from_millis(50);

/// More are not remembered; then the oldest may be repeated.
const REMEMBERED: usize = 20_000;

/// Something to be said about an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Notice {
    /// About what.
    pub about: Regarding,
    /// Whether it is a warning.
    pub warning: bool,
    /// CamelCase, for filters.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// What a notice is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Regarding {
    /// An object of a watched kind; its UID is looked up.
    Object(ObjectKey),
    /// An object of any kind, whose UID is known.
    Known(Reference),
}

/// An object as events name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Its `apiVersion`.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace, if it has one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// Where notices go. Never blocks.
#[derive(Clone, Debug)]
pub struct Notices(mpsc::UnboundedSender<Notice>);

impl Notices {
    /// A new channel and its end for [`publish_notices`].
    #[must_use]
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Notice>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Says something.
    pub fn say(&self, notice: Notice) {
        // Nobody listens only while the process ends.
        self.0.send(notice).ok();
    }

    /// A warning about an object.
    pub fn warn(&self, object: ObjectKey, reason: &'static str, message: String) {
        self.say(Notice { about: Regarding::Object(object), warning: true, reason, message });
    }
}

/// Counts of events.
#[derive(Clone, Debug, Default)]
pub struct NoticeMetrics {
    published: Counter,
    failed: Counter,
}

impl NoticeMetrics {
    /// Registers them; `metrics` carries the prefix.
    pub fn register(metrics: &mut Metrics) -> Self {
        let own = Self::default();
        metrics.register("events_published", "Kubernetes events written", own.published.clone());
        metrics.register("events_failed", "Kubernetes events that could not be written", own.failed.clone());
        own
    }
}

/// Publishes notices until their channel is closed.
pub async fn publish_notices(client: Client, mut notices: mpsc::UnboundedReceiver<Notice>, metrics: NoticeMetrics) {
    let reporter = Reporter { controller: "axoneme-operator".into(), instance: None };
    let recorder = Recorder::new(client.clone(), reporter);
    let mut memory = Memory::default();
    while let Some(notice) = notices.recv().await {
        if !memory.is_news(&notice, Instant::now()) {
            continue;
        }
        let Some(reference) = reference(&client, &notice.about).await else {
            debug!(?notice, "about an object that is gone");
            continue;
        };
        let event = Event {
            type_: if notice.warning { EventType::Warning } else { EventType::Normal },
            reason: notice.reason.to_owned(),
            note: Some(shortened(&notice.message)),
            action: "Compile".into(),
            secondary: None,
        };
        match recorder.publish(&event, &reference).await {
            Ok(()) => metrics.published.inc(),
            Err(error) => {
                warn!(reason = notice.reason, %error, "an event could not be written");
                metrics.failed.inc()
            }
        };
        tokio::time::sleep(PACE).await;
    }
}

#[derive(Default)]
struct Memory(HashMap<Arc<Notice>, Instant>);

impl Memory {
    fn is_news(&mut self, notice: &Notice, now: Instant) -> bool {
        if self.0.get(notice).is_some_and(|said| now.duration_since(*said) < REPEAT) {
            return false;
        }
        if self.0.len() >= REMEMBERED {
            self.0.retain(|_, said| now.duration_since(*said) < REPEAT);
            if self.0.len() >= REMEMBERED {
                self.0.clear();
            }
        }
        self.0.insert(Arc::new(notice.clone()), now);
        true
    }
}

/// `kubectl describe` finds an event by its object's UID.
async fn reference(client: &Client, about: &Regarding) -> Option<ObjectReference> {
    let key = match about {
        Regarding::Known(Reference { api_version, kind, namespace, name, uid }) => {
            return Some(ObjectReference {
                api_version: Some(api_version.clone()),
                kind: Some(kind.clone()),
                namespace: namespace.clone(),
                name: Some(name.clone()),
                uid: Some(uid.clone()),
                ..ObjectReference::default()
            });
        }
        Regarding::Object(key) => key,
    };
    let (kind, api_version) = key.kind.reference();
    let namespace = Some(key.name.namespace.to_string()).filter(|namespace| !namespace.is_empty());
    let found = api_of(client, key).get_metadata_opt(&key.name.name).await.ok()??;
    Some(ObjectReference {
        api_version: Some(api_version.into()),
        kind: Some(kind.into()),
        namespace,
        name: Some(key.name.name.to_string()),
        // The kubelet refers to nodes by name in place of the UID, and `kubectl describe node` looks for that.
        uid: if key.kind == Kind::Node { Some(key.name.name.to_string()) } else { found.metadata.uid },
        ..ObjectReference::default()
    })
}

/// How the API server is asked for an object.
pub(super) fn api_of(client: &Client, key: &ObjectKey) -> Api<DynamicObject> {
    let (kind, api_version) = key.kind.reference();
    let resource = ApiResource::from_gvk_with_plural(&gvk(kind, api_version), plural(key.kind));
    match &*key.name.namespace {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    }
}

fn gvk(kind: &str, api_version: &str) -> GroupVersionKind {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    GroupVersionKind::gvk(group, version, kind)
}

fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Namespace => "namespaces",
        Kind::Node => "nodes",
        Kind::Pod => "pods",
        Kind::Service => "services",
        Kind::EndpointSlice => "endpointslices",
        Kind::NetworkPolicy => "networkpolicies",
        Kind::CiliumNetworkPolicy => "ciliumnetworkpolicies",
        Kind::CiliumClusterwideNetworkPolicy => "ciliumclusterwidenetworkpolicies",
        Kind::ClusterNetworkPolicy => "clusternetworkpolicies",
        Kind::CiliumCIDRGroup => "ciliumcidrgroups",
        Kind::CiliumIdentity => "ciliumidentities",
        Kind::CiliumNode => "ciliumnodes",
        Kind::CiliumPodIPPool => "ciliumpodippools",
        Kind::CiliumNodeConfig => "ciliumnodeconfigs",
        Kind::ConfigMap => "configmaps",
    }
}

/// An event's note has 1024 bytes at most.
fn shortened(message: &str) -> String {
    let mut end = message.len().min(1000);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    if end == message.len() { message.to_owned() } else { format!("{}...", &message[..end]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Name;

    #[test]
    fn the_same_thing_is_said_once_an_hour() {
        let notice = |message: &str| Notice {
            about: Regarding::Object(ObjectKey::namespaced(Kind::Pod, &Name::new("a", "x"))),
            warning: true,
            reason: "FailedAddressAllocation",
            message: message.into(),
        };
        let (mut memory, start) = (Memory::default(), Instant::now());
        assert!(memory.is_news(&notice("full"), start));
        assert!(!memory.is_news(&notice("full"), start + REPEAT / 2));
        assert!(memory.is_news(&notice("other"), start));
        assert!(memory.is_news(&notice("full"), start + REPEAT));
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        assert_eq!(shortened("short"), "short");
        assert!(shortened(&"ä".repeat(600)).len() <= 1024);
    }
}
