//! A cluster as a set of objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::object::{Kind, Labels, Name, Namespace, Object, ObjectKey};
use crate::watch::{self, DecodeError};

/// The objects that policies are about, and policies.
#[derive(Clone, Debug, Default)]
pub struct State {
    objects: BTreeMap<ObjectKey, Object>,
    /// What annotations say that objects are for.
    descriptions: BTreeMap<ObjectKey, Box<str>>,
}

/// Why a manifest changes nothing.
#[derive(Debug, thiserror::Error)]
pub enum NotApplied {
    /// Its kind says nothing of who reaches whom.
    #[error("kind {0} has nothing to do with policies")]
    Kind(String),
    /// It cannot be understood.
    #[error("{object}: {source}")]
    Shape {
        /// Its kind and name.
        object: String,
        /// Why.
        source: DecodeError,
    },
    /// It cannot be understood in this field.
    #[error("{object}: {field}: {message}")]
    Problem {
        /// Its kind and name.
        object: String,
        /// Path of the field.
        field: Box<str>,
        /// What is wrong.
        message: Box<str>,
    },
}

impl State {
    /// An object exists with this content. Of what makes pods (Deployments and so on) the pod of its template does, under its
    /// name; the namespaces of pods exist.
    ///
    /// # Errors
    /// When it is of no kind that counts, or cannot be understood.
    pub fn apply(&mut self, manifest: &Value) -> Result<(), NotApplied> {
        let manifest = &placed(manifest);
        let kind = manifest["kind"].as_str().unwrap_or_default();
        let object = || {
            let of = |field: &str| manifest["metadata"][field].as_str().unwrap_or_default();
            format!("{kind} {}", [of("namespace"), of("name")].join("/").trim_start_matches('/'))
        };
        let (decoded, problems) = match watch::decode(manifest) {
            Ok(decoded) => decoded,
            Err(DecodeError::Kind(kind)) => return Err(NotApplied::Kind(kind)),
            Err(source) => return Err(NotApplied::Shape { object: object(), source }),
        };
        if let Some(object) = decoded {
            let key = object.key();
            self.insert(object);
            match description(manifest) {
                Some(text) => self.descriptions.insert(key, text.into()),
                None => self.descriptions.remove(&key),
            };
        }
        match problems.into_iter().next() {
            Some(watch::Problem { field, message }) => Err(NotApplied::Problem { object: object(), field, message }),
            None => Ok(()),
        }
    }

    /// An object exists with this content.
    pub fn insert(&mut self, object: Object) {
        if let Object::Pod(pod) = &object {
            self.namespace(&pod.name.namespace);
        }
        self.objects.insert(object.key(), object);
    }

    /// An object is gone; whether it was there.
    pub fn delete(&mut self, key: &ObjectKey) -> bool {
        self.descriptions.remove(key);
        self.objects.remove(key).is_some()
    }

    /// Gives a label of a namespace or node a value, or (none) takes it away; whether there is such an object.
    pub fn label(&mut self, object: &ObjectKey, key: &str, value: Option<&str>) -> bool {
        let labels = match self.objects.get_mut(object) {
            Some(Object::Namespace(namespace)) => &mut Arc::make_mut(namespace).labels,
            Some(Object::Node(node)) => &mut Arc::make_mut(node).labels,
            _ => return false,
        };
        let others = labels.iter().filter(|(have, _)| *have != key);
        let changed: Labels = others.chain(value.map(|value| (key, value))).collect();
        *labels = changed;
        true
    }

    /// All objects, sorted.
    pub(crate) fn objects(&self) -> impl Iterator<Item = (&ObjectKey, &Object)> {
        self.objects.iter()
    }

    /// What objects there are, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.objects.keys()
    }

    /// An object.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<&Object> {
        self.objects.get(key)
    }

    /// What an annotation says that an object is for: `kubernetes.io/description`, or one of another prefix or of none.
    #[must_use]
    pub fn description(&self, key: &ObjectKey) -> Option<&str> {
        self.descriptions.get(key).map(|text| &**text)
    }

    /// How many pods there are.
    #[must_use]
    pub fn pods(&self) -> usize {
        self.objects.keys().filter(|key| key.kind == Kind::Pod).count()
    }

    /// Whether some policy is about nodes, and there are none that it could be about.
    #[must_use]
    pub fn lacks_nodes(&self) -> bool {
        let of_nodes = |object: &Object| match object {
            Object::CiliumClusterwideNetworkPolicy(policy) => policy
                .rules
                .iter()
                .any(|rule| rule.rule.endpoint_selector.is_none() && rule.rule.node_selector.is_some()),
            _ => false,
        };
        !self.objects.keys().any(|key| key.kind == Kind::Node) && self.objects.values().any(of_nodes)
    }

    /// A namespace that nothing else is said of.
    fn namespace(&mut self, name: &Arc<str>) {
        let labels = [("kubernetes.io/metadata.name", &**name)].into_iter().collect();
        let namespace = Namespace { name: Arc::clone(name), labels, ..Namespace::default() };
        let key = ObjectKey { kind: Kind::Namespace, name: Name::new("", Arc::clone(name)) };
        self.objects.entry(key).or_insert_with(|| Object::Namespace(Arc::new(namespace)));
    }
}

/// What an annotation says that it is for.
fn description(manifest: &Value) -> Option<&str> {
    let annotations = manifest["metadata"]["annotations"].as_object()?;
    let named = |key: &str| key.rsplit('/').next() == Some("description");
    annotations.iter().find(|(key, _)| named(key)).and_then(|(_, value)| value.as_str())
}

/// A manifest as the API server would have it: in a namespace, labelled with its name; the pod of a template.
fn placed(manifest: &Value) -> Value {
    let mut manifest = template(manifest).unwrap_or_else(|| manifest.clone());
    let kind = manifest["kind"].as_str().unwrap_or_default().to_owned();
    let clusterwide =
        ["Namespace", "Node", "CiliumClusterwideNetworkPolicy", "ClusterNetworkPolicy", "CiliumCIDRGroup"];
    let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) else { return manifest };
    if kind == "Namespace" {
        let name = metadata.get("name").cloned().unwrap_or_default();
        let labels = metadata.entry("labels").or_insert_with(|| Value::Object(Map::new()));
        if let Some(labels) = labels.as_object_mut() {
            labels.insert("kubernetes.io/metadata.name".to_owned(), name);
        }
    }
    if let Some(spec) = manifest.get_mut("spec").and_then(Value::as_object_mut).filter(|_| kind == "Pod") {
        spec.entry("serviceAccountName").or_insert_with(|| "default".into());
    }
    let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) else { return manifest };
    if !clusterwide.contains(&&*kind) {
        metadata.entry("namespace").or_insert_with(|| "default".into());
    }
    // Pods are told from each other by it.
    let uid =
        ["namespace", "name"].map(|part| metadata.get(part).and_then(Value::as_str).unwrap_or_default()).join("/");
    metadata.entry("uid").or_insert_with(|| uid.into());
    manifest
}

/// The pod that a Deployment, StatefulSet, DaemonSet, ReplicaSet, Job or CronJob makes, once.
fn template(manifest: &Value) -> Option<Value> {
    let spec = match manifest["kind"].as_str()? {
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "Job" => {
            &manifest["spec"]
        }
        "CronJob" => &manifest["spec"]["jobTemplate"]["spec"],
        _ => return None,
    };
    let (template, metadata) = (&spec["template"], &manifest["metadata"]);
    Some(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata.get("namespace").cloned().unwrap_or_else(|| "default".into()),
            "labels": template["metadata"]["labels"],
        },
        "spec": template.get("spec").cloned().unwrap_or_else(|| json!({})),
    }))
}
