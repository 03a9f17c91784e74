use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axoneme_crds::v2::CiliumEndpoint;
use axoneme_proto::nodesync::{FailureCode, RowFailure, RowKey, Table};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::endpoint::{object, patch, says};
use super::problems::Problems;
use super::validity::Policies;
use super::writer::Endpoints;
use super::*;
use crate::engine::{Diagnostic, EndpointReport, EndpointState, Reason, Report, Unmet, UnmetReason};
use crate::leader::Tenure;
use crate::object::{Kind, Name, ObjectKey, Validity};

/// Between two comparisons.
const COMPARE: Duration = Duration::from_secs(300);

fn name(text: &str) -> Name {
    Name::new("a", text)
}

fn endpoint(identity: u32) -> Arc<EndpointReport> {
    Arc::new(EndpointReport {
        pod_uid: "uid".into(),
        identity: Some(identity),
        labels: Arc::new([("k8s:app", "web")].into_iter().collect()),
        addresses: ["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()].into(),
        node_ip: Some("192.0.2.1".parse().unwrap()),
        named_ports: [].into(),
        service_account: "default".into(),
        endpoint_id: 7,
        state: EndpointState::Ready,
        ingress_enforcing: true,
        egress_enforcing: false,
    })
}

#[derive(Clone, Default)]
struct Fake {
    objects: Arc<Mutex<BTreeMap<Name, CiliumEndpoint>>>,
    writes: Arc<Mutex<u32>>,
    failing: Arc<Mutex<u32>>,
    said: Arc<Mutex<Vec<(Name, bool)>>>,
}

impl Endpoints for Fake {
    async fn list(&self, _: Option<String>) -> Result<(Vec<CiliumEndpoint>, Option<String>), kube::Error> {
        Ok((self.objects.lock().unwrap().values().cloned().collect(), None))
    }

    async fn write(&self, name: &Name, wanted: &CiliumEndpoint, _exists: bool) -> Result<(), kube::Error> {
        let mut failing = self.failing.lock().unwrap();
        if *failing > 0 {
            *failing -= 1;
            return Err(kube::Error::LinesCodecMaxLineLengthExceeded);
        }
        *self.writes.lock().unwrap() += 1;
        self.objects.lock().unwrap().insert(name.clone(), wanted.clone());
        Ok(())
    }

    async fn delete(&self, name: &Name) -> Result<(), kube::Error> {
        *self.writes.lock().unwrap() += 1;
        self.objects.lock().unwrap().remove(name);
        Ok(())
    }
}

impl Policies for Fake {
    async fn write(&self, policy: &ObjectKey, wanted: &Validity) -> Result<(), kube::Error> {
        self.said.lock().unwrap().push((policy.name.clone(), wanted.valid));
        Ok(())
    }
}

#[test]
fn a_report_becomes_what_users_know() {
    let object = object(&name("x"), &endpoint(300));
    let json = serde_json::to_value(&object).unwrap();
    assert_eq!(json["metadata"]["ownerReferences"][0]["uid"], "uid");
    let status = &json["status"];
    assert_eq!((&status["id"], &status["identity"]["id"], &status["state"]), (&7.into(), &300.into(), &"ready".into()));
    assert_eq!(status["networking"]["addressing"][0]["ipv6"], "fd00::2");
    assert_eq!(status["identity"]["labels"][0], "k8s:app=web");
    assert_eq!(status["policy"]["ingress"]["state"], "enforcing");
    assert_eq!(status["policy"]["egress"]["enforcing"], false);
}

#[test]
fn a_patch_names_what_is_gone_and_foreign_fields_do_not_count() {
    let mut without = (*endpoint(300)).clone();
    without.identity = None;
    let wanted = object(&name("x"), &without);
    assert!(patch(&wanted)["status"]["identity"].is_null());
    assert!(patch(&wanted)["status"].get("log").is_none());
    let mut found = object(&name("x"), &endpoint(300));
    assert!(!says(&found, &wanted));
    found.status = wanted.status.clone();
    found.status.as_mut().unwrap().health = Some(Default::default());
    assert!(says(&found, &wanted));
    found.metadata.owner_references = None;
    assert!(!says(&found, &wanted));
}

#[tokio::test(start_paused = true)]
async fn a_leader_writes_what_differs_once_and_deletes_the_rest() {
    let fake = Fake::default();
    for (pod, identity) in [("same", 300), ("old", 1), ("gone", 2)] {
        fake.objects.lock().unwrap().insert(name(pod), object(&name(pod), &endpoint(identity)));
    }
    *fake.failing.lock().unwrap() = 1;
    let (reports, receiver) = mpsc::unbounded_channel();
    let (_problems, problems) = mpsc::unbounded_channel();
    let (lead, leading) = watch::channel(None);
    let (notices, _said) = Notices::channel();
    let metrics = StatusMetrics::default();
    let (_demands, demands) = watch::channel(Default::default());
    let feeds = Feeds { reports: receiver, problems, demands, lead: leading };
    let task = tokio::spawn(board::run(fake.clone(), COMPARE, feeds, notices, metrics.clone()));
    for (pod, identity) in [("same", 300), ("old", 299), ("old", 300), ("new", 300)] {
        reports.send(Report::Endpoint(name(pod), Some(endpoint(identity)))).unwrap();
    }
    let policy = ObjectKey::namespaced(Kind::CiliumNetworkPolicy, &name("p"));
    let validity = Validity { valid: true, message: "".into() };
    reports.send(Report::Validity(policy, Some(Arc::new(validity)))).unwrap();
    reports.send(Report::Complete).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(*fake.writes.lock().unwrap(), 0, "a replica writes nothing");
    assert!(fake.said.lock().unwrap().is_empty());
    lead.send_replace(Some(Tenure::fresh()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((*fake.writes.lock().unwrap(), metrics.failed.get()), (3, 1));
    let identities: Vec<_> = fake.objects.lock().unwrap().values().map(identity_of).collect();
    assert_eq!(identities, [300, 300, 300]);
    assert_eq!(*fake.said.lock().unwrap(), [(name("p"), true)]);
    reports.send(Report::Endpoint(name("new"), None)).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!fake.objects.lock().unwrap().contains_key(&name("new")));
    drop(reports);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_starts_quickly_is_written_once() {
    let fake = Fake::default();
    let (reports, receiver) = mpsc::unbounded_channel();
    let (_problems, problems) = mpsc::unbounded_channel();
    let (_lead, leading) = watch::channel(Some(Tenure::fresh()));
    let (notices, _said) = Notices::channel();
    let (_demands, demands) = watch::channel(Default::default());
    let feeds = Feeds { reports: receiver, problems, demands, lead: leading };
    tokio::spawn(board::run(fake.clone(), COMPARE, feeds, notices, StatusMetrics::default()));
    reports.send(Report::Complete).unwrap();
    // What is there already is compared once, and all of it written.
    tokio::time::sleep(Duration::from_millis(10)).await;
    let creating = || Arc::new(EndpointReport { state: EndpointState::Creating, ..(*endpoint(300)).clone() });
    for pod in ["quick", "slow"] {
        reports.send(Report::Endpoint(name(pod), Some(creating()))).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(*fake.writes.lock().unwrap(), 0);
    reports.send(Report::Endpoint(name("quick"), Some(endpoint(300)))).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(fake.objects.lock().unwrap().keys().cloned().collect::<Vec<_>>(), [name("quick")]);
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!((fake.objects.lock().unwrap().len(), *fake.writes.lock().unwrap()), (2, 2));
}

fn identity_of(endpoint: &CiliumEndpoint) -> i64 {
    endpoint.status.as_ref().unwrap().identity.as_ref().unwrap().id.unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_said_only_if_it_lasts() {
    let mut problems = Problems::default();
    let (object, start) = (ObjectKey::namespaced(Kind::Pod, &name("x")), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    let diagnostic = |reason| Diagnostic { reason, field: "spec.x".into(), message: "no".into() };
    let count = |problems: &Problems, seconds| problems.due(at(seconds)).count();
    problems.compiled(&object, &[diagnostic(Reason::InvalidField), diagnostic(Reason::Waiting)], at(0));
    assert_eq!((count(&problems, 0), count(&problems, 9), count(&problems, 10)), (1, 1, 2));
    problems.compiled(&object, &[diagnostic(Reason::Waiting)], at(5));
    assert_eq!(count(&problems, 10), 1, "said again, it still waits since the start");
    problems.compiled(&object, &[], at(6));
    assert_eq!(count(&problems, 60), 0);

    let unmet = Unmet { object, reason: UnmetReason::NoCidr("n3".into()) };
    problems.unmet(std::slice::from_ref(&unmet), at(0));
    assert_eq!((count(&problems, 9), count(&problems, 10)), (0, 1));
    problems.unmet(&[], at(11));
    assert_eq!(count(&problems, 60), 0);

    let failure = |code: FailureCode| RowFailure {
        key: Some(RowKey { scope: "services".into(), table: Table::Service.into(), key: "a/s".into() }),
        code: code.into(),
        ..RowFailure::default()
    };
    let node: Arc<str> = "n1".into();
    problems.failed(&node, None, &failure(FailureCode::Kernel), at(0));
    assert_eq!((count(&problems, 0), count(&problems, 10)), (0, 1));
    problems.failed(&node, None, &failure(FailureCode::Capacity), at(1));
    assert_eq!(count(&problems, 1), 1);
    // Each of the objects that a row was made of is told, until it is applied.
    let others = ["a", "b"].map(|name| ObjectKey::cluster(Kind::CiliumClusterwideNetworkPolicy, &name.into()));
    others.iter().for_each(|object| problems.failed(&node, Some(object), &failure(FailureCode::Capacity), at(1)));
    assert_eq!(count(&problems, 1), 3);
    problems.failed(&node, None, &failure(FailureCode::None), at(2));
    assert_eq!(count(&problems, 60), 0);
}
