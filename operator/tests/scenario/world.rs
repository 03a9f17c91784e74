//! A cluster around the engine: it decides identities and addresses as they are demanded, so that scenarios need to say
//! nothing of them. Identities count from 256, node CIDRs from 10.244.0.0/24.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axoneme_admin::explain::Flow;
use axoneme_operator::compile::cluster::prefix;
use axoneme_operator::compile::policy::Emergency;
use axoneme_operator::config::{ClusterPool, IpamMode};
use axoneme_operator::engine::{Config, Core, Demands, Input, NodeDemand, Observed, Outcome, Report, SessionEvent};
use axoneme_operator::identity::Reserved;
use axoneme_operator::ipam::{Cidrs, Rotation, empty, plan};
use axoneme_operator::object::{CiliumIdentity, CiliumNode, Kind, Name, Object, ObjectKey};
use axoneme_operator::publish::journal::Journal;
use axoneme_operator::watch;
use axoneme_proto::address::to_bytes;
use axoneme_proto::nodesync::{Ack, AllAttached, Attached, Detached};
use axoneme_proto::tables::Settings;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::render;

/// What of the configuration a scenario may choose.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Cluster {
    ipv4: bool,
    ipv6: bool,
    ipam: IpamMode,
    bandwidth: bool,
    ip_masq_agent: bool,
    native_routing_cidr: Option<IpNet>,
    fixed_identity_mapping: BTreeMap<u32, String>,
    host_firewall: bool,
}

impl Default for Cluster {
    fn default() -> Self {
        let ipam = IpamMode::ClusterPool;
        Self {
            ipv4: true,
            ipv6: false,
            ipam,
            bandwidth: false,
            ip_masq_agent: false,
            native_routing_cidr: None,
            fixed_identity_mapping: BTreeMap::new(),
            host_firewall: false,
        }
    }
}

pub struct World {
    core: Core,
    journal: Journal,
    now: Instant,
    manifests: BTreeMap<String, Value>,
    cidrs: Cidrs,
    rotation: Rotation,
    short: BTreeSet<String>,
    problems: BTreeMap<ObjectKey, Vec<String>>,
    told: BTreeMap<String, String>,
    sessions: BTreeMap<Arc<str>, u64>,
    next_identity: u32,
    /// New identities are not given any more when these are used up.
    identities_left: u32,
    demands: Arc<Demands>,
    diagnostics: BTreeMap<ObjectKey, Vec<String>>,
    validities: BTreeMap<ObjectKey, String>,
    endpoints: BTreeMap<Name, String>,
}

impl World {
    pub fn new(cluster: Cluster) -> Self {
        let settings = Settings {
            cluster_name: "default".into(),
            ipv4: cluster.ipv4,
            ipv6: cluster.ipv6,
            no_masquerade: cluster.native_routing_cidr.iter().map(prefix).collect(),
            ..Settings::default()
        };
        let config = Config {
            ipam: cluster.ipam,
            bandwidth: cluster.bandwidth,
            masquerade_agent: cluster.ip_masq_agent,
            pre_allocation: Arc::new([("default".into(), 8)].into()),
            reserved: Reserved::fixed(&cluster.fixed_identity_mapping).into(),
            host_firewall: cluster.host_firewall.then(|| Emergency {
                ports: [22].into(),
                nodesync: 4246,
                server: None,
            }),
            ..Config::new(settings)
        };
        let pools = ClusterPool {
            ipv4_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
            ipv4_mask: 24,
            ipv6_cidrs: vec!["fd00:10::/104".parse().unwrap()],
            ipv6_mask: 125,
            ..ClusterPool::default()
        };
        let mut world = Self {
            core: Core::new(config),
            journal: Journal::new([1; 16], 1000),
            now: Instant::now(),
            manifests: BTreeMap::new(),
            cidrs: Cidrs::new(pools),
            rotation: Rotation::default(),
            short: BTreeSet::new(),
            problems: BTreeMap::new(),
            told: BTreeMap::new(),
            sessions: BTreeMap::new(),
            next_identity: 256,
            identities_left: u32::MAX,
            demands: Arc::default(),
            diagnostics: BTreeMap::new(),
            validities: BTreeMap::new(),
            endpoints: BTreeMap::new(),
        };
        for kind in Kind::ALL {
            world.tell(Input::Synced(kind));
        }
        world.settle();
        world
    }

    /// The object exists with this content.
    pub fn apply(&mut self, mut manifest: Value) {
        let kind = manifest["kind"].as_str().unwrap().to_owned();
        let metadata = manifest["metadata"].as_object_mut().expect("metadata");
        let name = metadata["name"].as_str().unwrap().to_owned();
        let cluster = [
            "Node",
            "Namespace",
            "CiliumPodIPPool",
            "CiliumIdentity",
            "CiliumNode",
            "CiliumClusterwideNetworkPolicy",
            "CiliumCIDRGroup",
            "ClusterNetworkPolicy",
        ]
        .contains(&&*kind);
        let namespace = metadata.get("namespace").and_then(Value::as_str).unwrap_or("default").to_owned();
        let full = if cluster { name.clone() } else { format!("{namespace}/{name}") };
        if cluster {
            metadata.remove("namespace");
        } else {
            metadata.insert("namespace".into(), namespace.into());
        }
        metadata.entry("uid").or_insert(format!("uid-{full}").into());
        if kind == "Namespace" {
            let labels = metadata.entry("labels").or_insert(Value::Object(Map::new())).as_object_mut().unwrap();
            labels.insert("kubernetes.io/metadata.name".into(), name.clone().into());
        }
        let (object, problems) = watch::decode(&manifest).unwrap();
        let object = object.unwrap();
        let text = |problem: &watch::Problem| format!("{}: {}", problem.field, problem.message);
        self.problems.insert(object.key(), problems.iter().map(text).collect());
        self.tell(Input::Upsert(object));
        if kind == "Node" && !self.sessions.contains_key(&*name) {
            let session = self.sessions.len() as u64 + 1;
            let node: Arc<str> = name.as_str().into();
            self.sessions.insert(Arc::clone(&node), session);
            self.settle();
            self.tell(Input::Session {
                node: Arc::clone(&node),
                session,
                event: SessionEvent::Opened { revision: 0, newest: 0 },
            });
            self.tell(Input::Observed { node, event: Observed::AllAttached(AllAttached::default()) });
        }
        self.manifests.insert(format!("{kind} {full}"), manifest);
        self.settle();
    }

    pub fn delete(&mut self, object: &str) {
        assert!(self.manifests.remove(object).is_some(), "there is no {object}");
        self.problems.remove(&key(object));
        self.tell(Input::Delete(key(object)));
        self.settle();
    }

    /// What becomes of a flow, and why, as lines.
    pub fn explain(&self, flow: &Flow) -> String {
        match self.core.known(&self.journal).explain(flow) {
            Ok(explanation) => render::explanation(&explanation),
            Err(unclear) => unclear.to_string(),
        }
    }

    pub fn relabel(&mut self, object: &str, labels: Map<String, Value>) {
        let mut manifest = self.manifests[object].clone();
        manifest["metadata"]["labels"] = Value::Object(labels);
        self.apply(manifest);
    }

    pub fn attach(&mut self, pod: &str, addresses: Option<Vec<IpAddr>>) {
        let entry = self.core.index().pod(&key(&format!("Pod {pod}")).name).expect("a pod");
        let addresses = addresses.unwrap_or_else(|| self.core.index().addresses_of(entry));
        let attached = Attached {
            pod_uid: entry.pod.endpoint_key().to_string(),
            pod_namespace: entry.pod.name.namespace.to_string(),
            pod_name: entry.pod.name.name.to_string(),
            addresses: addresses.into_iter().map(to_bytes).collect(),
            identity: self.core.index().identity_of(entry).unwrap_or_default(),
            endpoint_id: 1,
            ..Attached::default()
        };
        let node = Arc::clone(entry.pod.node.as_ref().expect("bound"));
        self.tell(Input::Observed { node, event: Observed::Attached(attached) });
        self.settle();
    }

    /// From now on the API server takes so many new identities and no more.
    pub fn identities(&mut self, left: u32) {
        self.identities_left = left;
        self.settle();
    }

    /// Works for pods that are gone, too, so the attachment is looked up by name.
    pub fn detach(&mut self, pod: &str) {
        let found = self.sessions.keys().find_map(|node| {
            let mut attached = self.core.index().attachments_on(node);
            let (endpoint, _) = attached.find(|(_, attached)| attached.pod.to_string() == pod)?;
            Some((Arc::clone(node), endpoint.to_string()))
        });
        let (node, pod_uid) = found.expect("attached");
        self.tell(Input::Observed { node, event: Observed::Detached(Detached { pod_uid, ..Detached::default() }) });
        self.settle();
    }

    pub fn acknowledge(&mut self, except: &[String]) {
        let revision = self.journal.revision();
        let ack = Ack { received: revision, attempted: revision, ..Ack::default() };
        for (node, session) in self.sessions.clone() {
            if !except.iter().any(|except| **except == *node) {
                self.tell(Input::Session { node, session, event: SessionEvent::Acked(ack.clone()) });
            }
        }
        self.wait(0);
    }

    pub fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        let (outcome, _) = self.core.tick(self.now);
        self.take(outcome);
    }

    /// All that is published, demanded and reported, a line each; sorted.
    pub fn lines(&self) -> BTreeSet<String> {
        let mut lines = render::rows(&self.journal, self.core.index());
        for node in self.sessions.keys() {
            lines.extend(self.journal.grant(node).map(|grant| render::scopes(node, grant, self.core.index())));
        }
        for demand in &self.demands.nodes {
            let release = |r: &axoneme_operator::engine::Release| format!("release {} {}", demand.node.name, r.address);
            lines.extend(demand.release.iter().map(release));
        }
        lines.extend(self.demands.orphans.iter().map(|ledger| format!("orphan {}", ledger.name)));
        for unused in &self.demands.unused_identities {
            lines.insert(format!("unused {}", render::identity(unused.id, self.core.index())));
        }
        lines.extend(self.demands.unmet.iter().map(|unmet| format!("unmet {}: {}", unmet.object, unmet.reason)));
        lines.extend(self.validities.iter().map(|(policy, text)| format!("valid {policy} {text}")));
        for (object, diagnostics) in &self.diagnostics {
            lines.extend(diagnostics.iter().map(|diagnostic| format!("diagnostic {object} {diagnostic}")));
        }
        for (object, problems) in &self.problems {
            lines.extend(problems.iter().map(|problem| format!("problem {object} {problem}")));
        }
        lines.extend(self.short.iter().cloned());
        for (key, told) in &self.told {
            let pod = self.core.index().holder(key);
            lines.extend(pod.map(|entry| format!("told {} to {told}", entry.pod.name)));
        }
        lines.extend(self.endpoints.iter().map(|(name, text)| format!("report {name} {text}")));
        lines
    }

    fn tell(&mut self, input: Input) {
        self.core.apply(input, self.now);
    }

    /// Commits, and meets demands until there are none that can be met.
    fn settle(&mut self) {
        for _ in 0..10 {
            let journal = &mut self.journal;
            let outcome = self.core.commit(self.now, |batch| journal.commit(batch));
            self.take(outcome);
            let demands = Arc::clone(&self.demands);
            let mut met = false;
            for demand in &demands.identities {
                if self.identities_left == 0 {
                    break;
                }
                self.identities_left -= 1;
                met = true;
                let (uid, resource_version) = ("".into(), "".into());
                let id = demand.lost.unwrap_or(self.next_identity);
                self.next_identity += u32::from(demand.lost.is_none());
                self.manifests.insert(format!("CiliumIdentity {id}"), Value::Null);
                let object = CiliumIdentity { id, labels: Arc::clone(&demand.labels), uid, resource_version };
                self.tell(Input::Upsert(Object::CiliumIdentity(Arc::new(object))));
            }
            for demand in &demands.nodes {
                if let Some(ledger) = self.meet(demand) {
                    met = true;
                    self.tell(Input::Upsert(Object::CiliumNode(Arc::new(ledger))));
                }
            }
            if !met {
                return;
            }
        }
        panic!("demands do not settle: {:?}", self.demands);
    }

    fn take(&mut self, outcome: Outcome) {
        for (node, telling) in outcome.barriers.told {
            let skipped = match telling.pod.skipped {
                0 => String::new(),
                skipped => format!(", {skipped} skipped"),
            };
            self.told.insert(telling.pod.pod_uid, format!("{node}{skipped}"));
        }
        for report in outcome.reports {
            match report {
                Report::Diagnostics(object, diagnostics) => {
                    let text = |d: &axoneme_operator::engine::Diagnostic| {
                        format!("{} {}: {}", d.reason.as_str(), d.field, d.message)
                    };
                    self.diagnostics.insert(object, diagnostics.iter().map(text).collect());
                }
                Report::Endpoint(name, Some(endpoint)) => {
                    let enforcing = [("ingress", endpoint.ingress_enforcing), ("egress", endpoint.egress_enforcing)];
                    let enforcing: String =
                        enforcing.iter().filter(|(_, on)| *on).map(|(name, _)| format!(" {name}")).collect();
                    self.endpoints.insert(name, format!("{}{enforcing}", endpoint.state.as_str()));
                }
                Report::Endpoint(name, None) => drop(self.endpoints.remove(&name)),
                Report::Validity(policy, Some(validity)) => {
                    let text = format!("{}: {}", validity.valid, validity.message);
                    self.validities.insert(policy, text);
                }
                Report::Validity(policy, None) => drop(self.validities.remove(&policy)),
                Report::Failures(..) | Report::Complete => {}
            }
        }
        if let Some(demands) = outcome.demands {
            self.demands = demands;
        }
    }

    /// The ledger that a node should have; `None` when nothing can be done. Releases stay, for scenarios to look at.
    fn meet(&mut self, demand: &NodeDemand) -> Option<CiliumNode> {
        let old = demand.ledger.as_deref().cloned().unwrap_or_else(|| empty(&demand.node));
        let families = [(demand.cidrs.v4, false), (demand.cidrs.v6, true)];
        let chosen = families.into_iter().filter(|(missing, _)| *missing);
        let cidrs: Vec<IpNet> = chosen.filter_map(|(_, v6)| self.cidrs.choose(v6, &demand.node.name)).collect();
        let mut cidrs = cidrs;
        if let Some(multi) = &demand.multi {
            let growth = self.cidrs.grow(multi, &old, demand.node.max_pods);
            cidrs.extend(growth.cidrs);
            let family = |v6: bool| if v6 { "IPv6" } else { "IPv4" };
            let exhausted = growth.exhausted.into_iter();
            self.short.extend(exhausted.map(|(pool, v6)| format!("short {}: {} of pool {pool}", old.name, family(v6))));
        }
        let demand = NodeDemand { release: Vec::new(), ..demand.clone() };
        let planned = plan(&old, &demand, &cidrs, &mut self.rotation);
        self.short.extend(planned.short.iter().map(|short| format!("short {}: {}", short.pod, short.message)));
        (demand.ledger.is_none() || planned.ledger != old).then_some(planned.ledger)
    }
}

/// `Kind namespace/name` or `Kind name`.
fn key(text: &str) -> ObjectKey {
    let (kind, name) = text.split_once(' ').expect("Kind name");
    let kind = *Kind::ALL.iter().find(|known| known.to_string() == kind).expect("a watched kind");
    match name.split_once('/') {
        Some((namespace, name)) => ObjectKey::namespaced(kind, &Name::new(namespace, name)),
        None => ObjectKey::cluster(kind, &name.into()),
    }
}
