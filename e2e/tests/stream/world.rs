//! What the API server has: a cluster in which pods, policies and services come, change and go.

use std::collections::BTreeMap;
use std::sync::Arc;

use axoneme_operator::engine::{Config, Engine, Input};
use axoneme_operator::object::{Kind, Object, ObjectKey, Versions};
use axoneme_operator::watch;
use axoneme_proto::tables::{RoutingMode, Settings};
use serde_json::{Value, json};

use crate::rng::Rng;

pub const NODES: [&str; 3] = ["n1", "n2", "n3"];
const APPS: [&str; 4] = ["a", "b", "c", "d"];
const PODS: u64 = 12;
/// Pods that exist from the beginning to the end: (name, node, app, address).
const STABLE: [(&str, &str, &str, &str); 2] = [("s1", "n1", "a", "10.1.0.5"), ("s2", "n2", "b", "10.2.0.5")];
/// A node, and the address of a pod that a policy of one of its own pods lists all the time.
pub const LISTED: (&str, &str) = ("n1", "10.2.0.5");
/// A service that exists from the beginning to the end.
pub const STABLE_SERVICE: &str = "10.96.0.1";

#[derive(Clone, Debug)]
pub enum Event {
    Upsert(Object),
    Delete(ObjectKey),
}

impl Event {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Upsert(object) => object.key().kind,
            Self::Delete(key) => key.kind,
        }
    }
}

impl From<Event> for Input {
    fn from(event: Event) -> Self {
        match event {
            Event::Upsert(object) => Self::Upsert(object),
            Event::Delete(key) => Self::Delete(key),
        }
    }
}

/// Everything that has happened. A replica lists what there was at some point and follows from there.
#[derive(Debug, Default)]
pub struct Log {
    steps: Vec<Vec<Event>>,
}

impl Log {
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    pub fn step(&self, number: usize) -> Vec<Event> {
        self.steps[number].clone()
    }

    /// How new all is after the first `steps` steps: a step is a version.
    pub fn versions(&self, steps: usize) -> Versions {
        let mut versions = Versions::default();
        for (number, events) in (1..).zip(&self.steps[..steps]) {
            events.iter().for_each(|event| versions.raise(event.kind(), number));
        }
        versions
    }

    /// All objects after the first `steps` steps.
    pub fn list(&self, steps: usize) -> Vec<Object> {
        let mut objects = BTreeMap::new();
        for event in self.steps[..steps].iter().flatten() {
            match event {
                Event::Upsert(object) => drop(objects.insert(object.key(), object.clone())),
                Event::Delete(key) => drop(objects.remove(key)),
            }
        }
        objects.into_values().collect()
    }
}

#[derive(Clone, Debug)]
struct Pod {
    uid: String,
    node: usize,
    app: &'static str,
    address: String,
}

pub struct World {
    pub log: Log,
    rng: Rng,
    pods: BTreeMap<String, Pod>,
    incarnation: u64,
}

pub fn settings() -> Settings {
    Settings {
        cluster_name: "default".into(),
        routing_mode: RoutingMode::Vxlan.into(),
        tunnel_port: 8472,
        ipv4: true,
        ..Settings::default()
    }
}

fn object(manifest: Value) -> Object {
    let (object, problems) = watch::decode(&manifest).unwrap_or_else(|error| panic!("{manifest}: {error}"));
    assert!(problems.is_empty(), "{manifest}: {problems:?}");
    object.unwrap()
}

fn upsert(manifest: Value) -> Event {
    Event::Upsert(object(manifest))
}

fn delete(manifest: Value) -> Event {
    Event::Delete(object(manifest).key())
}

fn metadata(name: &str, namespace: Option<&str>) -> Value {
    let mut metadata = json!({"name": name, "uid": format!("uid-{name}"), "resourceVersion": "1"});
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    metadata
}

fn node(name: &str) -> Value {
    let number = &name[1..];
    let address = json!({"type": "InternalIP", "address": format!("192.168.0.{number}")});
    json!({"kind": "Node", "metadata": metadata(name, None), "status": {"addresses": [address]}})
}

fn pod_manifest(name: &str, uid: &str, node: &str, app: &str) -> Value {
    let mut manifest = json!({
        "kind": "Pod", "metadata": metadata(name, Some("default")),
        "spec": {"nodeName": node, "serviceAccountName": "default", "containers": [{"name": "c", "image": "i"}]},
    });
    manifest["metadata"]["uid"] = uid.into();
    manifest["metadata"]["labels"] = json!({"app": app});
    manifest
}

fn policy(name: &str, subject: &str, peer: &str, port: u64) -> Value {
    let select = |app: &str| json!({"matchLabels": {"app": app}});
    json!({
        "kind": "NetworkPolicy", "metadata": metadata(name, Some("default")),
        "spec": {
            "podSelector": select(subject), "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": select(peer)}], "ports": [{"protocol": "TCP", "port": port}]}],
        },
    })
}

fn service(name: &str, address: &str, port: u64) -> Value {
    json!({
        "kind": "Service", "metadata": metadata(name, Some("default")),
        "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address],
                 "ports": [{"name": "p", "protocol": "TCP", "port": port}]},
    })
}

fn slice(name: &str, service: &str, address: &str) -> Value {
    let mut manifest = json!({
        "kind": "EndpointSlice", "metadata": metadata(&format!("{name}-x"), Some("default")), "addressType": "IPv4",
        "ports": [{"name": "p", "protocol": "TCP", "port": 8080}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
    });
    manifest["metadata"]["labels"] = json!({"kubernetes.io/service-name": service});
    manifest
}

impl World {
    /// A cluster with its stable part; with more than a thousand slices if `large`.
    pub async fn new(rng: Rng, large: bool) -> Self {
        let mut world = Self { log: Log::default(), rng, pods: BTreeMap::new(), incarnation: 0 };
        let namespace = json!({"kind": "Namespace", "metadata": metadata("default", None)});
        let mut events = vec![upsert(namespace)];
        events.extend(NODES.map(|name| upsert(node(name))));
        events.extend(identities().await);
        for (name, at, app, address) in STABLE {
            let number = NODES.iter().position(|node| *node == at).unwrap();
            let pod = Pod {
                uid: name.into(),
                node: number,
                app: APPS.into_iter().find(|a| *a == app).unwrap(),
                address: address.into(),
            };
            events.push(upsert(pod_manifest(name, name, at, app)));
            world.pods.insert(name.into(), pod);
        }
        events.extend((0..NODES.len()).map(|node| upsert(world.ledger(node))));
        events.push(upsert(policy("stable", "a", "b", 80)));
        events.push(upsert(service("stable", STABLE_SERVICE, 80)));
        events.push(upsert(slice("stable", "stable", "10.2.0.5")));
        if large {
            // Of one service, and of few addresses: rows count here, entries of the kernel do not.
            let names = (0..1_100).map(|number| format!("many-{number}"));
            events.extend(names.map(|name| upsert(slice(&name, "stable", "10.2.0.5"))));
        }
        world.log.steps.push(events);
        world
    }

    fn ledger(&self, node: usize) -> Value {
        let here = self.pods.iter().filter(|(_, pod)| pod.node == node);
        let entry = |(name, pod): (&String, &Pod)| {
            (pod.address.clone(), json!({"owner": format!("default/{name}"), "resource": pod.uid}))
        };
        let pool: serde_json::Map<String, Value> = here.map(entry).collect();
        let number = node + 1;
        let address = |kind: &str, ip: String| json!({"type": kind, "ip": ip});
        json!({
            "kind": "CiliumNode", "metadata": metadata(NODES[node], None),
            "spec": {
                "addresses": [
                    address("InternalIP", format!("192.168.0.{number}")),
                    address("CiliumInternalIP", format!("10.{number}.0.1")),
                ],
                "ipam": {"podCIDRs": [format!("10.{number}.0.0/24")], "pool": pool},
            },
        })
    }

    /// Something happens.
    pub fn step(&mut self) {
        let events = match self.rng.below(20) {
            0..8 => self.pod(),
            8..11 => self.policies(),
            11..15 => self.services(),
            15..18 => self.slices(),
            18 => {
                // A node that nobody's daemon runs on.
                let far = node("n9");
                vec![if self.rng.permille(500) { upsert(far) } else { delete(far) }]
            }
            _ => {
                // One of ours is taken out of the cluster; its daemon does not know.
                let name = NODES[2];
                vec![if self.rng.permille(600) { upsert(node(name)) } else { delete(node(name)) }]
            }
        };
        self.log.steps.push(events);
    }

    /// Whatever was taken out is there again.
    pub fn settle(&mut self) {
        self.log.steps.push(vec![upsert(node(NODES[2]))]);
    }

    /// A pod comes, is relabelled, goes, or is followed at once by another one of its name.
    fn pod(&mut self) -> Vec<Event> {
        let number = self.rng.below(PODS);
        let name = format!("p{number}");
        let mut events = Vec::new();
        let app = *self.rng.pick(&APPS);
        match self.pods.remove(&name) {
            Some(pod) if self.rng.permille(300) => {
                events.push(upsert(pod_manifest(&name, &pod.uid, NODES[pod.node], app)));
                self.pods.insert(name, Pod { app, ..pod });
                return events;
            }
            Some(pod) => {
                events.push(delete(pod_manifest(&name, &pod.uid, NODES[pod.node], pod.app)));
                events.push(upsert(self.ledger(pod.node)));
                if self.rng.permille(500) {
                    return events;
                }
            }
            None => {}
        }
        self.incarnation += 1;
        let node = self.rng.below(NODES.len() as u64) as usize;
        let address = format!("10.{}.0.{}", node + 1, 10 + number);
        let pod = Pod { uid: format!("{name}-{}", self.incarnation), node, app, address };
        events.push(upsert(pod_manifest(&name, &pod.uid, NODES[node], app)));
        self.pods.insert(name, pod);
        events.push(upsert(self.ledger(node)));
        events
    }

    fn policies(&mut self) -> Vec<Event> {
        let name = format!("np{}", self.rng.below(4));
        let (subject, peer) = (*self.rng.pick(&APPS), *self.rng.pick(&APPS));
        let manifest = policy(&name, subject, peer, 80 + self.rng.below(3));
        vec![if self.rng.permille(700) { upsert(manifest) } else { delete(manifest) }]
    }

    fn services(&mut self) -> Vec<Event> {
        let number = self.rng.below(6);
        let manifest = service(&format!("svc{number}"), &format!("10.96.0.{}", 10 + number), 80 + self.rng.below(3));
        vec![if self.rng.permille(700) { upsert(manifest) } else { delete(manifest) }]
    }

    fn slices(&mut self) -> Vec<Event> {
        let many = |rng: &mut Rng| {
            let (name, address) = (format!("many-{}", rng.below(1_100)), format!("10.2.0.{}", 5 + rng.below(4)));
            slice(&name, "stable", &address)
        };
        let of_service = |rng: &mut Rng| {
            let name = format!("svc{}", rng.below(6));
            slice(&name, &name, &format!("10.1.0.{}", 10 + rng.below(12)))
        };
        let rng = &mut self.rng;
        let count = rng.below(3) + 1;
        let mut events = Vec::new();
        for _ in 0..count {
            let manifest = if rng.permille(500) { many(rng) } else { of_service(rng) };
            events.push(if rng.permille(800) { upsert(manifest) } else { delete(manifest) });
        }
        events
    }
}

/// The identities of all apps, as an operator asks for them.
async fn identities() -> Vec<Event> {
    let (engine, handle, mut outputs) = Engine::new(Config::new(settings()), [0; 16]);
    let running = tokio::spawn(engine.run());
    let namespace = json!({"kind": "Namespace", "metadata": metadata("default", None)});
    let pods = APPS.map(|app| object(pod_manifest(app, app, "n1", app)));
    for object in [object(namespace), object(node("n1"))].into_iter().chain(pods) {
        handle.send(Input::Upsert(object)).await.unwrap();
    }
    for kind in Kind::ALL {
        handle.send(Input::Synced(kind)).await.unwrap();
    }
    let demands = outputs.demands.wait_for(|demands| demands.identities.len() == APPS.len()).await.unwrap().clone();
    running.abort();
    let identity = |(id, labels): (u32, &Arc<axoneme_operator::object::Labels>)| {
        let labels: serde_json::Map<String, Value> =
            labels.iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
        upsert(
            json!({"kind": "CiliumIdentity", "metadata": metadata(&id.to_string(), None), "security-labels": labels}),
        )
    };
    (300..).zip(demands.identities.iter().map(|demand| &demand.labels)).map(identity).collect()
}
