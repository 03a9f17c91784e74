use std::collections::BTreeSet;

use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::kinds::{WORKING, unimplemented};
use super::object::Slim;
use super::report::{AGAIN, Report};
use super::*;

fn object(uid: &str, status: Value) -> Slim {
    serde_json::from_value(json!({"metadata": {"name": "x", "namespace": "a", "uid": uid}, "status": status})).unwrap()
}

fn conditions(kind: &str) -> Value {
    json!({"conditions": [
        {"type": "Valid", "status": "True"},
        {"type": "Implemented", "status": "False", "reason": "NotImplemented", "message": message(kind),
         "lastTransitionTime": "2026-11-21T00:00:00Z"},
    ]})
}

fn index(kinds: &[CustomKind], kind: &str) -> usize {
    kinds.iter().position(|known| known.resource.kind == kind).unwrap()
}

#[test]
fn every_kind_works_or_its_owners_are_told() {
    let kinds: BTreeSet<String> = unimplemented().into_iter().map(|kind| kind.resource.kind).collect();
    assert_eq!(kinds.len() + WORKING.len(), axoneme_crds::all().len());
    assert!(WORKING.iter().all(|working| !kinds.contains(*working)));
    let with: Vec<String> =
        unimplemented().into_iter().filter(|kind| kind.conditions).map(|kind| kind.resource.plural).collect();
    let expected = [
        "ciliumbgpclusterconfigs",
        "ciliumbgpnodeconfigs",
        "ciliumbgppeerconfigs",
        "ciliumgatewayclassconfigs",
        "ciliuml2announcementpolicies",
        "ciliumloadbalancerippools",
    ];
    assert_eq!(with, expected, "kinds with conditions; RBAC of the chart names them, too");
}

#[test]
fn an_object_is_told_of_once_and_again_after_an_hour() {
    let kinds = unimplemented();
    let group = index(&kinds, "CiliumEgressGatewayPolicy");
    let (mut report, start) = (Report::new(&kinds), Instant::now());
    report.event(group, Event::Apply(object("1", Value::Null)));
    report.event(group, Event::Apply(object("1", Value::Null)));
    let told = report.next(start).unwrap();
    assert_eq!((told.about.uid.as_str(), told.condition), ("1", false), "its kind has no conditions");
    assert!(!report.waits());
    report.event(group, Event::Apply(object("1", Value::Null)));
    report.look(start + AGAIN / 2);
    assert!(!report.waits());
    report.look(start + AGAIN);
    assert!(report.next(start + AGAIN).is_some());
}

#[test]
fn an_object_that_was_made_anew_is_another_one_and_one_that_is_gone_is_none() {
    let kinds = unimplemented();
    let (mut report, now) = (Report::new(&kinds), Instant::now());
    report.event(0, Event::Apply(object("1", Value::Null)));
    report.next(now).unwrap();
    report.event(0, Event::Apply(object("2", Value::Null)));
    assert_eq!(report.next(now).unwrap().about.uid, "2");

    report.event(0, Event::Apply(object("3", Value::Null)));
    report.event(0, Event::Delete(object("3", Value::Null)));
    assert!(report.next(now).is_none());

    report.event(0, Event::Apply(object("4", Value::Null)));
    report.event(0, Event::Init);
    report.event(0, Event::InitDone);
    assert!(report.next(now).is_none(), "a list without it");
}

#[test]
fn a_condition_is_written_until_it_is_there_in_this_releases_words() {
    let kinds = unimplemented();
    let pool = index(&kinds, "CiliumLoadBalancerIPPool");
    let (mut report, now) = (Report::new(&kinds), Instant::now());
    report.event(pool, Event::Apply(object("1", json!({"conditions": [{"type": "Valid", "status": "True"}]}))));
    let told = report.next(now).unwrap();
    assert!(told.condition && told.since.is_none());
    report.look(now);
    assert!(report.next(now).unwrap().condition, "it could not be written");
    report.event(pool, Event::Apply(object("1", conditions("CiliumLoadBalancerIPPool"))));
    report.look(now);
    assert!(!report.waits());

    report.event(pool, Event::Apply(object("2", conditions("an earlier release"))));
    let told = report.next(now).unwrap();
    assert_eq!((told.condition, told.since.as_deref()), (true, Some("2026-11-21T00:00:00Z")));
}
