//! Operators that go elsewhere: who finds them, at what price, and what a pod that starts meanwhile gets.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axoneme_node::desired::pods::{PodError, PodRef, Pods};
use axoneme_proto::address::to_bytes;
use axoneme_proto::nodesync::{Delta, Row};
use axoneme_proto::tables::{self, AddressRange, Prefix};
use axoneme_proto::{Scope, Table};
use tokio::time::{Instant, sleep, timeout};

use crate::node::{Node, ONE, TWO, delta, session};
use crate::operator::{self, Authority, Behaviour, Operator};

const SECOND: Duration = Duration::from_secs(1);
const THREE: &str = "10.0.0.3:4246";

fn row(scope: &Scope, table: Table, key: &str, revision: u64, message: &impl prost::Message) -> Row {
    Row { revision, ..Row::new(scope, table, key, message, 0) }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A delta with the nodes of these addresses.
fn nodes(addresses: impl Iterator<Item = IpAddr>) -> Delta {
    let row = |address: IpAddr| {
        let name = format!("node-{address}");
        let node = tables::Node { name: name.clone(), addresses: vec![to_bytes(address)], ..tables::Node::default() };
        row(&Scope::Cluster, Table::Node, &name, 1, &node)
    };
    let upserts = addresses.map(row).collect();
    Delta { snapshots: vec!["cluster".into()], upserts, inputs_complete: true, ..delta(0, 1) }
}

/// Serves a node until it knows these nodes.
async fn served(operator: &mut Operator, known: Delta) -> operator::Session {
    let mut session = session(operator).await;
    session.welcome(1, false).await;
    session.delta(known).await;
    while session.ack().await.received < 1 {}
    session
}

/// A node that the operator at `ONE` serves until it knows these nodes.
async fn served_by_one(known: Delta) -> (Arc<Authority>, Node, Operator, operator::Session) {
    let authority = Authority::new();
    let mut node = Node::new(&authority);
    let mut operator = node.network.operator(ONE, Behaviour::good(&authority));
    node.start();
    let session = served(&mut operator, known).await;
    (authority, node, operator, session)
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_the_stream_told_of_is_found_at_once() {
    let (authority, node, _operator, mut first) = served_by_one(delta(0, 1)).await;
    first.operators(&[ONE, THREE]).await;
    first.delta(delta(1, 2)).await;
    while first.ack().await.received < 2 {}
    let mut next = node.network.operator(THREE, Behaviour::good(&authority));
    node.network.close(ONE);
    drop(first);
    let start = Instant::now();
    session(&mut next).await;
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn operators_that_all_moved_are_found_among_the_nodes() {
    let (authority, node, _operator, first) = served_by_one(nodes((1..=20).map(|n| ip(&format!("10.0.0.{n}"))))).await;
    node.network.close(ONE);
    drop(first);
    let mut moved = node.network.operator("10.0.0.17:4246", Behaviour::good(&authority));
    let start = Instant::now();
    let found = session(&mut moved).await;
    // Patience, and three steps.
    assert!((SECOND..8 * SECOND).contains(&start.elapsed()), "{:?}", start.elapsed());
    // From now on it is known, and not searched for.
    found.welcome(2, false).await;
    node.network.dialled();
    drop(found);
    session(&mut moved).await;
    let dialled = node.network.dialled();
    assert!(dialled.iter().all(|(_, address)| address == "10.0.0.17:4246"), "{dialled:?}");
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_begins_late_is_found_by_a_later_round() {
    let (authority, node, _operator, first) = served_by_one(nodes((1..=3).map(|n| ip(&format!("10.0.1.{n}"))))).await;
    node.network.close(ONE);
    drop(first);
    sleep(120 * SECOND).await;
    let mut late = node.network.operator("10.0.1.2:4246", Behaviour::good(&authority));
    let start = Instant::now();
    session(&mut late).await;
    assert!(start.elapsed() < 7 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_search_among_thousands_of_nodes_is_slow_enough_for_all_of_them() {
    let all = (0..5000_u32).map(|n| IpAddr::from((0x0a01_0000 + n).to_be_bytes()));
    let (authority, node, _operator, first) = served_by_one(nodes(all)).await;
    node.network.close(ONE);
    node.network.dialled();
    drop(first);
    let start = Instant::now();
    sleep(100 * SECOND).await;
    let dialled = node.network.dialled();
    let searched: Vec<_> = dialled.iter().filter(|(_, address)| address.starts_with("10.1.")).collect();
    assert!(searched[0].0 - start >= SECOND, "replicas that are known were not given a second to take over");
    assert!((500..1000).contains(&searched.len()), "{} in 100 s", searched.len());
    for (at, _) in &searched {
        let within = searched.iter().filter(|(other, _)| other >= at && *other < *at + SECOND).count();
        assert!(within <= 16, "{within} within a second");
    }
    let different: BTreeSet<_> = searched.iter().map(|(_, address)| address).collect();
    assert_eq!(different.len(), searched.len(), "a node was asked again before all were asked");
    // What is known is tried as ever.
    assert!(dialled.iter().filter(|(_, address)| address == ONE).count() >= 6);
    // And the kubelet brings what was not found.
    fs::write(node.folder.path().join("operators"), format!("{TWO}\n{THREE}\n")).unwrap();
    let mut mounted = node.network.operator(THREE, Behaviour::good(&authority));
    session(&mut mounted).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_listens_on_another_node_has_to_be_the_operator() {
    let (authority, node, _operator, first) = served_by_one(nodes((4..=9).map(|n| ip(&format!("10.0.0.{n}"))))).await;
    let other = Authority::new();
    node.network.close(ONE);
    let mut impostor = node.network.operator("10.0.0.4:4246", Behaviour::good(&other));
    drop(first);
    node.fails("its certificate was not signed by the CA").await;
    // Nor does one on the old node.
    let _stranger = node.network.operator(ONE, Behaviour::good(&other));
    let mut moved = node.network.operator("10.0.0.9:4246", Behaviour::good(&authority));
    session(&mut moved).await;
    assert!(impostor.joins.try_recv().is_err() && impostor.sessions.try_recv().is_err());
    assert!(moved.joins.try_recv().is_err(), "the node's certificate was given up because of a stranger");
}

/// Real sockets: addresses of the loopback device play nodes.
#[tokio::test]
async fn operators_that_all_moved_are_found_over_tcp() {
    let authority = Authority::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (old, new) = (format!("127.0.0.1:{port}"), format!("127.0.0.7:{port}"));
    let mut node = Node::knowing(&authority, &[&old]);
    node.tcp = true;
    let mut operator = node.network.operator(&old, Behaviour::good(&authority));
    let listening = node.network.listen(&old).await;
    node.start();
    let mut first = served(&mut operator, nodes((1..=9).map(|n| ip(&format!("127.0.0.{n}"))))).await;
    first.operators(&[&old]).await;
    first.delta(delta(1, 2)).await;
    while first.ack().await.received < 2 {}
    listening.abort();
    node.network.close(&old);
    drop(first);
    let mut moved = node.network.operator(&new, Behaviour::good(&authority));
    let _listening = node.network.listen(&new).await;
    let start = Instant::now();
    let found = timeout(20 * SECOND, moved.sessions.recv()).await;
    assert!(found.is_ok(), "{:?}", node.why.lock().unwrap());
    println!("found after {:?}", start.elapsed());
}

fn pod(uid: &str) -> PodRef {
    PodRef { uid: uid.into(), namespace: "shop".into(), name: uid.into(), chained: false }
}

/// All that a node needs to attach pods, but for the pods.
fn network() -> Delta {
    let (cluster, own) = (Scope::Cluster, Scope::Node("n1".into()));
    let settings = tables::Settings {
        routing_mode: tables::RoutingMode::Vxlan.into(),
        tunnel_port: 8472,
        pod_cidrs: vec![Prefix::new(ip("10.0.0.0"), 8)],
        ipv4: true,
        ..tables::Settings::default()
    };
    let node = tables::Node {
        name: "n1".into(),
        addresses: vec![to_bytes(ip("192.168.0.1"))],
        overlay_addresses: vec![to_bytes(ip("10.1.0.1"))],
        pod_cidrs: vec![Prefix::new(ip("10.1.0.0"), 24)],
        ..tables::Node::default()
    };
    let reserve = vec![AddressRange::new(ip("10.1.0.200"), ip("10.1.0.210"))];
    let pool = tables::Pool { name: "default".into(), reserve, ..tables::Pool::default() };
    let policy = tables::Policy { identity: 100, ..tables::Policy::default() };
    Delta {
        snapshots: ["cluster", "policy/100", "node/n1"].map(str::to_owned).into(),
        upserts: vec![
            row(&cluster, Table::Settings, "", 1, &settings),
            row(&cluster, Table::Node, "n1", 1, &node),
            row(&Scope::Policy(100), Table::Policy, "100", 1, &policy),
            row(&own, Table::Pool, "default", 1, &pool),
        ],
        inputs_complete: true,
        ..delta(0, 1)
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_starts_just_after_the_loss_waits_for_what_the_next_operator_says() {
    let (authority, node, _operator, mut first) = served_by_one(network()).await;
    while first.ack().await.attempted < 1 {}
    node.network.close(ONE);
    drop(first);
    let state = node.state().clone();
    let start = Instant::now();
    let waiting = tokio::spawn(async move { state.endpoint(pod("web"), Instant::now() + 10 * SECOND).await });
    sleep(4 * SECOND).await;
    let mut next = node.network.operator(ONE, Behaviour::good(&authority));
    let second = session(&mut next).await;
    second.welcome(1, true).await;
    let endpoint =
        tables::Endpoint { identity: 100, addresses: vec![to_bytes(ip("10.1.0.5"))], ..tables::Endpoint::default() };
    let own = Scope::Node("n1".into());
    second.delta(Delta { upserts: vec![row(&own, Table::Endpoint, "web", 2, &endpoint)], ..delta(1, 2) }).await;
    let spec = waiting.await.unwrap().unwrap();
    assert_eq!((spec.identity, spec.addresses), (100, vec![ip("10.1.0.5")]));
    assert!(start.elapsed() < 10 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn without_an_operator_for_long_a_pod_goes_to_the_reserve_at_once() {
    let (_, node, _operator, mut first) = served_by_one(network()).await;
    while first.ack().await.attempted < 1 {}
    let state = node.state().clone();
    node.network.close(ONE);
    drop(first);
    let lost = Instant::now();
    let alone = |uid: &str, patience: Duration| {
        let answer = state.endpoint(pod(uid), Instant::now() + patience);
        async move {
            let answer = timeout(20 * SECOND, answer).await.expect("an answer in time");
            assert!(matches!(answer, Err(PodError::Unknown { connected: false, .. })), "{answer:?}");
        }
    };
    // No longer than ADD may wait, and no longer than an operator is expected back.
    alone("hasty", SECOND).await;
    assert_eq!(lost.elapsed().as_secs(), 1);
    sleep(3 * SECOND).await;
    alone("patient", 10 * SECOND).await;
    assert_eq!(lost.elapsed().as_secs(), 10);
    let late = Instant::now();
    alone("late", 10 * SECOND).await;
    assert!(late.elapsed() < Duration::from_millis(10), "{:?}", late.elapsed());
    let reserve = state.reserve(pod("late")).await.unwrap();
    assert_eq!(reserve.ranges, [(ip("10.1.0.200"), ip("10.1.0.210"))]);
}
