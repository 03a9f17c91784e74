//! Sessions against a node that does what the protocol says.

use axoneme_proto::tables;

use super::*;
use crate::object::Kind;
use crate::publish::journal::Batch;
use crate::table::{EncodedRow, RowId};

mod node;

pub(crate) use node::TestNode;

const NODE: &str = "node-1";

fn scope(text: &str) -> Scope {
    text.parse().unwrap()
}

/// One commit: rows as `scope key=value` or `scope -key`, then the node's scopes.
fn commit(journal: &mut Journal, rows: &[&str], scopes: &[&str]) {
    let mut batch = Batch::default();
    for text in rows {
        let (in_scope, row) = text.split_once(' ').unwrap();
        let (key, value) = match row.strip_prefix('-') {
            Some(key) => (key, None),
            None => row.split_once('=').map(|(key, value)| (key, Some(value))).unwrap(),
        };
        let id = RowId::new(scope(in_scope), Table::Namespace, key);
        let message = |name: &str| tables::Namespace { name: name.to_owned(), has_policy: false };
        let row = value.map(|value| EncodedRow::new(&id, &message(value), 0));
        batch.rows.insert(id, row);
    }
    if !scopes.is_empty() {
        batch.grants.insert(NODE.into(), Some(scopes.iter().map(|text| scope(text)).collect()));
    }
    journal.commit(batch);
}

fn open(journal: &Journal, node: &mut TestNode) -> (SessionState, Rung) {
    let (session, welcome, rung) = SessionState::open(journal, &NODE.into(), &node.hello(NODE)).unwrap();
    node.welcome(&welcome);
    (session, rung)
}

/// Delivers everything; gives back how many rows came.
fn sync(journal: &Journal, session: &mut SessionState, node: &mut TestNode) -> usize {
    let before = node.received;
    while let Some(chunk) = session.next(journal).unwrap() {
        if let Some(revision) = node.receive(chunk) {
            session.acked(revision);
        }
    }
    node.received - before
}

fn started() -> (Journal, TestNode, SessionState) {
    let mut journal = Journal::new([1; 16], 100);
    commit(&mut journal, &["cluster a=1", "cluster b=1", "policy/7 p=1", "peers/8 x=1"], &["cluster", "policy/7"]);
    let mut node = TestNode::default();
    let (mut session, rung) = open(&journal, &mut node);
    assert_eq!(rung, Rung::Snapshot);
    assert_eq!(sync(&journal, &mut session, &mut node), 3);
    node.assert_equals(&journal, NODE);
    (journal, node, session)
}

#[test]
fn a_live_session_is_told_differences_of_its_own_scopes() {
    let (mut journal, mut node, mut session) = started();
    commit(&mut journal, &["cluster a=2", "peers/8 x=2"], &[]);
    assert_eq!(sync(&journal, &mut session, &mut node), 1);
    commit(&mut journal, &["peers/8 x=3"], &[]);
    assert_eq!(session.next(&journal), Ok(None), "nothing for this node");
    commit(&mut journal, &["cluster -a", "cluster b=3", "cluster b=4"], &[]);
    assert_eq!(sync(&journal, &mut session, &mut node), 1);
    node.assert_equals(&journal, NODE);
}

#[test]
fn a_scope_comes_whole_with_the_policy_that_needs_it_and_goes_after_it() {
    let (mut journal, mut node, mut session) = started();
    commit(&mut journal, &["policy/7 p=2"], &["cluster", "policy/7", "peers/8"]);
    let chunk = session.next(&journal).unwrap().unwrap();
    assert_eq!((chunk.snapshots.clone(), chunk.upserts.len(), chunk.last), (vec!["peers/8".to_owned()], 2, true));
    node.receive(chunk);
    commit(&mut journal, &["policy/7 p=3"], &["cluster", "policy/7"]);
    let chunk = session.next(&journal).unwrap().unwrap();
    assert_eq!((chunk.upserts.len(), chunk.dropped_scopes.clone()), (1, vec!["peers/8".to_owned()]));
    node.receive(chunk);
    node.assert_equals(&journal, NODE);
}

#[test]
fn the_same_epoch_resumes_with_differences() {
    let (mut journal, mut node, _) = started();
    commit(&mut journal, &["cluster -a", "peers/8 x=9"], &["cluster", "peers/8"]);
    let (mut session, rung) = open(&journal, &mut node);
    assert_eq!(rung, Rung::Deltas);
    assert_eq!(sync(&journal, &mut session, &mut node), 1);
    node.assert_equals(&journal, NODE);
    let (mut session, _) = open(&journal, &mut node);
    assert_eq!(session.next(&journal), Ok(None), "nothing has changed");
}

#[test]
fn another_epoch_resumes_with_the_scopes_that_differ() {
    let (_, mut node, _) = started();
    let mut other = Journal::new([2; 16], 100);
    commit(&mut other, &["cluster a=1", "cluster b=1", "policy/7 p=5"], &["cluster", "policy/7", "services"]);
    let (mut session, rung) = open(&other, &mut node);
    assert_eq!(rung, Rung::Scopes(1));
    commit(&mut other, &["cluster b=2"], &[]);
    assert_eq!(sync(&other, &mut session, &mut node), 2, "the changed policy, and what changed since the Hello");
    node.assert_equals(&other, NODE);
}

#[test]
fn a_first_delta_comes_even_if_there_is_nothing_to_say() {
    let (journal, mut node, _) = started();
    let mut other = Journal::new([2; 16], 100);
    commit(&mut other, &["cluster a=1", "cluster b=1", "policy/7 p=1"], &["cluster", "policy/7"]);
    assert_eq!(journal.scope_hash(&Scope::Cluster), other.scope_hash(&Scope::Cluster));
    let (mut session, _) = open(&other, &mut node);
    let chunk = session.next(&other).unwrap().unwrap();
    assert_eq!((chunk.from_revision, chunk.upserts.len(), chunk.last), (0, 0, true));
    node.receive(chunk);
    let (_, rung) = open(&other, &mut node);
    assert_eq!(rung, Rung::Deltas);
}

#[test]
fn behind_the_horizon_scopes_are_compared_or_sent_whole() {
    let mut journal = Journal::new([1; 16], 1);
    commit(&mut journal, &["cluster a=1", "cluster b=1", "cluster c=1", "policy/7 p=1"], &["cluster", "policy/7"]);
    let mut node = TestNode::default();
    let (mut session, _) = open(&journal, &mut node);
    sync(&journal, &mut session, &mut node);
    commit(&mut journal, &["cluster -a", "cluster -b"], &[]);
    assert_eq!(session.next(&journal), Err(Refused::Behind(journal.horizon())), "a live session that was too slow");
    let (mut session, rung) = open(&journal, &mut node);
    assert_eq!((rung, sync(&journal, &mut session, &mut node)), (Rung::Scopes(1), 1), "the scope that differs");
    node.assert_equals(&journal, NODE);
    commit(&mut journal, &["cluster a=1", "cluster b=1"], &[]);
    commit(&mut journal, &["cluster -a", "cluster -b", "cluster d=1"], &[]);
    let (mut session, rung) = open(&journal, &mut node);
    assert_eq!(rung, Rung::Scopes(1));
    assert_eq!(sync(&journal, &mut session, &mut node), 2);
    node.assert_equals(&journal, NODE);
}

/// A scope of 3,000 rows, and a node that has it as another replica had it.
fn large() -> (Journal, TestNode) {
    let rows: Vec<String> = (0..3_000).map(|key| format!("services {key}=1")).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let (mut one, mut other) = (Journal::new([1; 16], 100), Journal::new([2; 16], 100));
    for journal in [&mut one, &mut other] {
        commit(journal, &rows, &["cluster", "services"]);
    }
    let mut node = TestNode::default();
    let (mut session, _) = open(&one, &mut node);
    assert_eq!(sync(&one, &mut session, &mut node), 3_000);
    (other, node)
}

#[test]
fn of_a_large_scope_only_the_buckets_that_differ_are_sent() {
    let (mut other, mut node) = large();
    commit(&mut other, &["services -7", "services 8=2", "services new=1"], &[]);
    let (mut session, rung) = open(&other, &mut node);
    assert_eq!(rung, Rung::Scopes(2));
    // What changes between Hello and the first delta comes with it, be it in a bucket that differs or in another one.
    commit(&mut other, &["services 8=3", "services 9=2", "services -10", "services -11", "services newer=1"], &[]);
    let rows = sync(&other, &mut session, &mut node);
    assert!((4..400).contains(&rows), "{rows} rows for eight changes");
    node.assert_equals(&other, NODE);
    assert_eq!(session.next(&other), Ok(None));
}

#[test]
fn a_large_scope_that_has_nothing_in_common_or_an_old_node_is_sent_whole() {
    let (mut other, node) = large();
    let rows: Vec<String> = (0..3_000).map(|key| format!("services {key}=2")).collect();
    commit(&mut other, &rows.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    let snapshots = |hello: &Hello| {
        let (mut session, ..) = SessionState::open(&other, &NODE.into(), hello).unwrap();
        session.next(&other).unwrap().unwrap().snapshots
    };
    assert_eq!(snapshots(&node.hello(NODE)), ["services"]);
    let (mut other, node) = large();
    commit(&mut other, &["services 8=2"], &[]);
    let old = Hello { protocol_max: 1, ..node.hello(NODE) };
    let (mut session, welcome, _) = SessionState::open(&other, &NODE.into(), &old).unwrap();
    let first = session.next(&other).unwrap().unwrap();
    assert_eq!((welcome.protocol, first.snapshots, first.buckets), (1, vec!["services".to_owned()], vec![]));
    // Nonsense is no division.
    let mut strange = node.hello(NODE);
    strange.scopes[1].buckets.push(0);
    let (mut session, ..) = SessionState::open(&other, &NODE.into(), &strange).unwrap();
    assert_eq!(session.next(&other).unwrap().unwrap().snapshots, ["services"]);
}

#[test]
fn a_node_is_told_what_its_rows_are_made_of_once() {
    let (mut journal, mut node, _) = started();
    let seen = |journal: &mut Journal, pods, rows: &[(&str, &str)]| {
        let mut batch = Batch::default();
        batch.inputs.raise(Kind::Pod, pods);
        batch.inputs.raise(Kind::Service, 4);
        for (key, value) in rows {
            let id = RowId::new(Scope::Cluster, Table::Namespace, *key);
            let row = EncodedRow::new(&id, &tables::Namespace { name: (*value).into(), has_policy: false }, 0);
            batch.rows.insert(id, Some(row));
        }
        journal.commit(batch);
    };
    let told = |delta: Delta| delta.inputs.into_iter().map(|input| (input.kind, input.version)).collect::<Vec<_>>();
    seen(&mut journal, 7, &[]);
    let (mut session, _) = open(&journal, &mut node);
    assert_eq!(session.next(&journal), Ok(None), "no row depends on it");
    seen(&mut journal, 8, &[("a", "2")]);
    let delta = session.next(&journal).unwrap().unwrap();
    assert_eq!(told(delta), [("Pod".to_owned(), 8), ("Service".to_owned(), 4)]);
    seen(&mut journal, 9, &[("a", "3")]);
    assert_eq!(told(session.next(&journal).unwrap().unwrap()), [("Pod".to_owned(), 9)]);
    seen(&mut journal, 9, &[("a", "4")]);
    assert_eq!(told(session.next(&journal).unwrap().unwrap()), []);
}

#[test]
fn large_deltas_are_cut_and_a_cut_stream_leaves_no_trace() {
    let mut journal = Journal::new([1; 16], 10);
    let long = "x".repeat(10_000);
    let rows: Vec<String> = (0..200).map(|i| format!("cluster {i}={long}")).collect();
    commit(&mut journal, &rows.iter().map(String::as_str).collect::<Vec<_>>(), &["cluster"]);
    let mut node = TestNode::default();
    let (mut session, _) = open(&journal, &mut node);
    let first = session.next(&journal).unwrap().unwrap();
    assert!(!first.last && first.snapshots == ["cluster"] && prost::Message::encoded_len(&first) <= chunk::CHUNK);
    assert_eq!(node.receive(first), None);
    let (mut session, rung) = open(&journal, &mut node);
    assert_eq!(rung, Rung::Snapshot, "the chunk was staged only");
    assert_eq!(sync(&journal, &mut session, &mut node), 200);
    node.assert_equals(&journal, NODE);
}

#[test]
fn a_node_that_does_not_acknowledge_is_not_sent_more_than_the_window() {
    let (mut journal, _, mut session) = started();
    let long = "x".repeat(1 << 20);
    let mut sent = 0;
    for round in 0..10 {
        commit(&mut journal, &[&format!("cluster a={round}{long}")], &[]);
        sent += usize::from(session.next(&journal).unwrap().is_some());
    }
    assert_eq!(sent, 4);
    session.acked(journal.revision());
    assert!(session.next(&journal).unwrap().is_some(), "one delta with all that was held back");
    assert_eq!(session.next(&journal), Ok(None));
}

#[test]
fn a_barrier_brings_every_session_to_its_revision() {
    let (mut journal, mut node, mut session) = started();
    commit(&mut journal, &["peers/8 -x"], &[]);
    assert_eq!(session.next(&journal), Ok(None));
    assert!(journal.raise_barrier(journal.revision()));
    let chunk = session.next(&journal).unwrap().unwrap();
    assert!(chunk.ack_at_once && chunk.upserts.is_empty());
    assert_eq!(node.receive(chunk), Some(journal.revision()));
    assert_eq!(session.next(&journal), Ok(None), "once");
}

#[test]
fn who_cannot_be_served_is_told_why() {
    let (mut journal, node, mut session) = started();
    let open = |journal: &Journal, name: &str, hello: &Hello| {
        SessionState::open(journal, &name.into(), hello).map(|_| ()).unwrap_err()
    };
    assert_eq!(open(&journal, "node-2", &node.hello(NODE)), Refused::OtherNode(NODE.into()));
    assert_eq!(open(&journal, "node-2", &node.hello("node-2")), Refused::UnknownNode("node-2".into()));
    let newer = Hello { protocol_min: 3, protocol_max: 4, ..node.hello(NODE) };
    assert_eq!(open(&journal, NODE, &newer), Refused::Protocol { min: 3, max: 4 });
    for (min, max, chosen) in [(1, 1, 1), (1, 2, 2), (2, 3, 2)] {
        let hello = Hello { protocol_min: min, protocol_max: max, ..node.hello(NODE) };
        let (_, welcome, _) = SessionState::open(&journal, &NODE.into(), &hello).unwrap();
        assert_eq!(welcome.protocol, chosen, "the newest that both speak");
    }
    let mut gone = Batch::default();
    gone.grants.insert(NODE.into(), None);
    journal.commit(gone);
    assert_eq!(session.next(&journal), Err(Refused::UnknownNode(NODE.into())));
}
