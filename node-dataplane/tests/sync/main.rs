//! The stream, seen by an operator: joining, resuming, cuts, wrong certificates, acks, observations. No test sleeps: the clock
//! is paused and moves when nothing else can happen.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[allow(dead_code)]
#[path = "../scenarios/kernel.rs"]
mod kernel;
mod moves;
mod node;
mod operator;

use std::fs;
use std::time::Duration;

use axoneme_node::desired::FEATURES;
use axoneme_node::desired::pods::{Pods, Told};
use axoneme_node::observe::outbox::Reports;
use axoneme_proto::nodesync::observation::Event;
use axoneme_proto::nodesync::{
    AllAttached, Attached, Delta, Detached, FailureCode, HeldScope, Row, RowKey, node_message,
};
use axoneme_proto::{Scope, Table, tables};
use node::{Node, ONE, TWO, delta, peer, session, snapshot};
use operator::{Authority, Behaviour};
use tokio::time::Instant;
use tonic::Status;

#[tokio::test(start_paused = true)]
async fn a_node_joins_once_and_resumes_by_its_cursor() {
    let authority = Authority::new();
    let mut node = Node::new(&authority);
    let mut operator = node.network.operator(ONE, Behaviour::good(&authority));
    node.start();
    let mut first = session(&mut operator).await;
    assert_eq!(operator.joins.recv().await.unwrap().token, "secret");
    assert_eq!((first.hello.node.as_str(), first.hello.cursor.as_ref(), first.hello.features), ("n1", None, FEATURES));
    first.welcome(1, false).await;
    first.delta(snapshot(0, 7, vec![peer("a", 5)])).await;
    let mut ack = first.ack().await;
    while ack.attempted < 7 {
        ack = first.ack().await;
    }
    assert_eq!((ack.received, ack.attempted, ack.retry_low_watermark, ack.failing), (7, 7, 0, 0));
    drop(first);

    let second = session(&mut operator).await;
    let cursor = second.hello.cursor.clone().unwrap();
    assert_eq!((cursor.epoch, cursor.revision), (vec![1; 16], 7));
    assert_eq!(
        second.hello.scopes,
        [HeldScope { scope: "peers/200".into(), hash: peer("a", 5).hash, buckets: Vec::new() }]
    );
    drop(second);

    // The key and its certificate are kept.
    node.start();
    let third = session(&mut operator).await;
    assert_eq!(third.hello.cursor, None);
    assert!(operator.joins.try_recv().is_err());
    let mode = fs::metadata(node.folder.path().join("node.key")).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_cut_within_a_snapshot_leaves_no_trace() {
    let authority = Authority::new();
    let mut node = Node::new(&authority);
    let mut operator = node.network.operator(ONE, Behaviour::good(&authority));
    node.start();
    let first = session(&mut operator).await;
    first.welcome(1, false).await;
    first.delta(snapshot(0, 7, vec![peer("a", 5)])).await;
    first.delta(Delta { last: false, ..snapshot(7, 9, Vec::new()) }).await;
    drop(first);
    let second = session(&mut operator).await;
    assert_eq!(second.hello.cursor.clone().unwrap().revision, 7);
    assert_eq!(second.hello.scopes[0].hash, peer("a", 5).hash);
    // What was staged is not continued by another stream.
    second.welcome(1, true).await;
    second.delta(Delta { upserts: vec![peer("b", 9)], ..delta(7, 9) }).await;
    drop(second);
    let third = session(&mut operator).await;
    assert_eq!(third.hello.scopes[0].hash, peer("a", 5).hash ^ peer("b", 9).hash);
}

#[tokio::test(start_paused = true)]
async fn a_delta_that_does_not_continue_what_is_held_ends_the_stream() {
    let authority = Authority::new();
    let mut node = Node::new(&authority);
    let mut operator = node.network.operator(ONE, Behaviour::good(&authority));
    node.start();
    let first = session(&mut operator).await;
    first.welcome(1, false).await;
    first.delta(delta(0, 7)).await;
    first.delta(delta(8, 9)).await;
    node.fails("a delta continues revision 8, but 7 is held").await;
    let second = session(&mut operator).await;
    assert_eq!(second.hello.cursor.unwrap().revision, 7);
}

#[tokio::test(start_paused = true)]
async fn acks_are_coalesced_but_a_barrier_is_told_at_once() {
    let authority = Authority::new();
    let mut node = Node::new(&authority);
    // Without faults, so that times can be told.
    node.machine = kernel::Machine::new(1024);
    let mut operator = node.network.operator(ONE, Behaviour::good(&authority));
    node.start();
    let mut session = session(&mut operator).await;
    session.welcome(1, false).await;
    session.delta(delta(0, 1)).await;
    while session.ack().await.attempted < 1 {}
    let start = Instant::now();
    for revision in 1..40 {
        session.delta(delta(revision, revision + 1)).await;
    }
    let mut acks = 1;
    while session.ack().await.attempted < 40 {
        acks += 1;
    }
    assert!(acks <= 2 && start.elapsed() <= Duration::from_millis(200), "{acks} acks in {:?}", start.elapsed());
    let start = Instant::now();
    session.delta(Delta { ack_at_once: true, ..delta(40, 41) }).await;
    assert_eq!(session.ack().await.attempted, 41);
    assert!(start.elapsed() < Duration::from_millis(5), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_barrier_hears_what_the_operator_says() {
    let authority = Authority::new();
    let mut node = Node::new(&authority);
    let mut operator = node.network.operator(ONE, Behaviour::good(&authority));
    node.start();
    let mut first = session(&mut operator).await;
    first.welcome(1, false).await;
    first.delta(delta(0, 7)).await;
    while first.ack().await.attempted < 7 {}
    first.told("a", 0).await;
    let state = node.state().clone();
    let barrier =
        |uid: &str, revision| state.told(uid.to_owned(), revision, Instant::now() + Duration::from_millis(100));
    // As it was when the session began; later; never.
    assert_eq!(barrier("a", 7).await, Told::Told { skipped: 1 });
    let newer = barrier("a", 9);
    first.told("a", 9).await;
    assert_eq!(newer.await, Told::Told { skipped: 1 });
    let start = Instant::now();
    assert_eq!(barrier("b", 3).await, Told::Timeout);
    assert_eq!(start.elapsed(), Duration::from_millis(100));
    // Nobody is left who could say so; what was said still holds.
    let waiting = barrier("b", 3);
    node.network.close(ONE);
    drop(first);
    assert_eq!(waiting.await, Told::Disconnected);
    assert_eq!(barrier("a", 9).await, Told::Told { skipped: 1 });
}

#[tokio::test(start_paused = true)]
async fn rows_that_cannot_be_applied_are_told_once_and_again_when_they_can() {
    let authority = Authority::new();
    let mut node = Node::new(&authority);
    let mut operator = node.network.operator(ONE, Behaviour::good(&authority));
    node.start();
    let mut session = session(&mut operator).await;
    session.welcome(1, false).await;
    let policy = |revision, features| {
        let message = tables::Policy { identity: 100, ..tables::Policy::default() };
        Row { revision, ..Row::new(&Scope::Policy(100), Table::Policy, "100", &message, features) }
    };
    session.delta(Delta { upserts: vec![policy(3, 1 << 63)], ..delta(0, 3) }).await;
    let mut failures = Vec::new();
    while failures.is_empty() {
        failures = session.ack().await.failures;
    }
    let key = RowKey { scope: "policy/100".into(), table: Table::Policy.into(), key: "100".into() };
    assert_eq!((failures[0].key.as_ref(), failures[0].revision), (Some(&key), 3));
    assert_eq!(failures[0].code(), FailureCode::Unsupported);
    session.delta(Delta { upserts: vec![policy(4, 0)], ..delta(3, 4) }).await;
    let cleared = loop {
        let ack = session.ack().await;
        if !ack.failures.is_empty() {
            break ack.failures;
        }
    };
    assert_eq!((cleared[0].key.as_ref(), cleared[0].code()), (Some(&key), FailureCode::None));
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_said_and_tried_again() {
    let authority = Authority::new();
    let mut node = Node::new(&authority);
    let refusal = Status::unauthenticated("the token is of no node daemon");
    let behaviour = Behaviour { join: Some(refusal), ..Behaviour::good(&authority) };
    let _refusing = node.network.operator(ONE, behaviour);
    node.start();
    node.fails("operator 10.0.0.1:4246 does not let this node join: the token is of no node daemon").await;
    let mut operator = node.network.operator(ONE, Behaviour::good(&authority));
    session(&mut operator).await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_of_another_ca_is_not_believed_until_the_ca_is_mounted() {
    let (authority, other) = (Authority::new(), Authority::new());
    let mut node = Node::new(&authority);
    let mut operator = node.network.operator(ONE, Behaviour::good(&other));
    node.start();
    node.fails("its certificate was not signed by the CA in ConfigMap axoneme-operators").await;
    assert!(operator.joins.try_recv().is_err(), "the token went to a stranger");
    fs::write(node.folder.path().join("ca.crt"), &other.pem).unwrap();
    session(&mut operator).await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_of_another_name_is_not_believed() {
    let authority = Authority::new();
    let mut node = Node::new(&authority);
    let _impostor = node.network.operator(ONE, Behaviour { name: "node-7".into(), ..Behaviour::good(&authority) });
    node.start();
    node.fails("its certificate is not for operator.axoneme.internal").await;
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_certificate_is_refused_joins_again() {
    let (authority, renewed) = (Authority::new(), Authority::new());
    let mut node = Node::new(&authority);
    let mut operator = node.network.operator(ONE, Behaviour::good(&authority));
    node.start();
    let first = session(&mut operator).await;
    assert!(operator.joins.try_recv().is_ok());
    // The operator's CA for nodes is another one from now on.
    let behaviour = Behaviour { trusted: renewed.clone(), ..Behaviour::good(&authority) };
    let mut operator = node.network.operator(ONE, behaviour);
    drop(first);
    node.fails("operator 10.0.0.1:4246 refuses this node's certificate").await;
    session(&mut operator).await;
    assert!(operator.joins.try_recv().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_does_not_lead_is_passed_over() {
    let authority = Authority::new();
    let mut node = Node::new(&authority);
    let follower = Behaviour { join: Some(Status::unavailable("not the leader")), ..Behaviour::good(&authority) };
    let _follower = node.network.operator(ONE, follower);
    let mut leader = node.network.operator(TWO, Behaviour::good(&authority));
    let start = Instant::now();
    node.start();
    session(&mut leader).await;
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_certificate_is_renewed_over_the_stream() {
    let authority = Authority::new();
    let mut node = Node::new(&authority);
    let mut operator = node.network.operator(ONE, Behaviour { renew_in: 300, ..Behaviour::good(&authority) });
    node.start();
    let mut session = session(&mut operator).await;
    session.welcome(1, false).await;
    let csr = loop {
        if let node_message::Message::RenewCsrDer(csr) = session.next().await.unwrap() {
            break csr;
        }
    };
    let before = fs::read(node.folder.path().join("node-certificate.json")).unwrap();
    session.certificate(authority.sign(&csr, 7200)).await;
    session.delta(delta(0, 1)).await;
    while !matches!(session.next().await, Some(node_message::Message::Ack(ack)) if ack.received == 1) {}
    assert_ne!(fs::read(node.folder.path().join("node-certificate.json")).unwrap(), before);
}

#[tokio::test(start_paused = true)]
async fn a_drained_node_comes_back_within_the_bounds() {
    let authority = Authority::new();
    let mut node = Node::new(&authority);
    let mut operator = node.network.operator(ONE, Behaviour::good(&authority));
    node.start();
    let first = session(&mut operator).await;
    first.welcome(1, false).await;
    let start = Instant::now();
    first.drain(3000, 4000).await;
    session(&mut operator).await;
    let after = start.elapsed();
    assert!((Duration::from_secs(3)..Duration::from_millis(4100)).contains(&after), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn observations_are_repeated_until_they_are_acknowledged() {
    let authority = Authority::new();
    let mut node = Node::new(&authority);
    let mut operator = node.network.operator(ONE, Behaviour::good(&authority));
    let running = node.start();
    let attached = |uid: &str| Attached { pod_uid: uid.into(), container_id: uid.into(), ..Attached::default() };
    running.reporter.attached(attached("a"));
    running.reporter.attached(attached("b"));
    let first = session(&mut operator).await;
    let mut observed = operator.observed.recv().await.unwrap();
    let told = [observed.next().await, observed.next().await];
    assert_eq!(told[0].event, Some(Event::Attached(attached("a"))));
    assert!(told[0].sequence < told[1].sequence);
    observed.ack(told[0].sequence).await;
    first.welcome(1, false).await;
    // A journal that the node does not know may not know of its pods: they are told again, all at once.
    let again = observed.next().await;
    let all = AllAttached { attached: vec![attached("a"), attached("b")] };
    assert_eq!(again.event, Some(Event::AllAttached(all)));
    running.reporter.detached(Detached { pod_uid: "a".into(), ..Detached::default() }).await.unwrap();
    drop((first, observed));

    // The daemon dies before the detachment was acknowledged.
    node.start();
    let _second = session(&mut operator).await;
    let mut observed = operator.observed.recv().await.unwrap();
    let repeated = loop {
        let one = observed.next().await;
        if matches!(one.event, Some(Event::Detached(_))) {
            break one;
        }
    };
    assert!(repeated.sequence > again.sequence);
    assert!(node.state().held().await.unwrap().cursor.is_none());
}
