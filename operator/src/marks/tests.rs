//! Nodes and daemons come and go; what is written.

use std::time::Duration;

use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::board::Board;
use super::decide::GRACE;
use super::write::Write;
use super::{Marks, Node, Pod};

const TAINT: &str = "node.cilium.io/agent-not-ready";

fn marks() -> Marks {
    Marks {
        namespace: "kube-system".into(),
        selector: "app=axoneme".into(),
        taint: TAINT.into(),
        remove: true,
        set: true,
        condition: true,
    }
}

/// Node `n`.
fn node(version: &str, taints: &[&str], condition: Option<&str>) -> Event<Node> {
    let taints: Vec<Value> = taints.iter().map(|key| json!({"key": key, "effect": "NoSchedule"})).collect();
    let conditions: Vec<Value> = condition
        .iter()
        .map(|reason| json!({"type": "NetworkUnavailable", "status": "False", "reason": reason}))
        .collect();
    let node = json!({
        "metadata": {"name": "n", "resourceVersion": version},
        "spec": {"taints": taints},
        "status": {"conditions": conditions},
    });
    Event::Apply(serde_json::from_value(node).unwrap())
}

fn daemon(name: &str, ready: bool) -> Pod {
    let status = if ready { "True" } else { "False" };
    let conditions = json!([{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": status}]);
    let pod = json!({"metadata": {"name": name}, "spec": {"nodeName": "n"}, "status": {"conditions": conditions}});
    serde_json::from_value(pod).unwrap()
}

/// The taints that are written, and whether the condition is.
fn keys(write: Option<(String, Write)>) -> Option<(Option<Vec<String>>, bool)> {
    let (node, write) = write?;
    assert_eq!(node, "n");
    Some((write.taints.map(|taints| taints.into_iter().map(|taint| taint.key).collect()), write.available))
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_daemon_becomes_ready_loses_the_taint_and_has_a_network() {
    let mut board = Board::new(marks());
    board.node(node("7", &[TAINT, "dedicated"], None));
    assert_eq!(board.next(Instant::now()), None, "no daemon is known");
    board.pod(Event::Apply(daemon("a", false)), Instant::now());
    assert_eq!(board.next(Instant::now()), None, "tainted already");
    board.pod(Event::Apply(daemon("a", true)), Instant::now());
    let (name, write) = board.next(Instant::now()).expect("a write");
    assert_eq!(write.version, "7", "guarded by what was judged");
    assert_eq!(keys(Some((name, write))), Some((Some(vec!["dedicated".into()]), true)));

    // One write at a time; what it did is judged when it comes back.
    board.node(node("8", &["dedicated"], None));
    assert_eq!(board.next(Instant::now()), None);
    board.written("n".into(), Ok(()));
    assert_eq!(keys(board.next(Instant::now())), Some((None, true)));
    board.written("n".into(), Ok(()));
    board.node(node("9", &["dedicated"], Some("CiliumIsUp")));
    assert_eq!(board.next(Instant::now()), None);
}

#[tokio::test(start_paused = true)]
async fn a_condition_of_somebody_else_is_not_ours() {
    let mut board = Board::new(marks());
    board.node(node("1", &[], Some("RouteCreated")));
    board.pod(Event::Apply(daemon("a", true)), Instant::now());
    assert_eq!(keys(board.next(Instant::now())), Some((None, true)));
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_was_ready_has_time_to_come_back() {
    let mut board = Board::new(marks());
    board.node(node("1", &[], Some("CiliumIsUp")));
    let start = Instant::now();
    board.pod(Event::Apply(daemon("a", true)), start);
    // An update: the old pod goes, the new one comes.
    board.pod(Event::Delete(daemon("a", false)), start);
    assert_eq!(board.next(start), None, "without a daemon nothing is known");
    board.pod(Event::Apply(daemon("b", false)), start + Duration::from_secs(1));
    assert_eq!(board.next(start + GRACE - Duration::from_millis(1)), None);
    board.pod(Event::Apply(daemon("b", true)), start + GRACE);
    assert_eq!(board.next(start + GRACE * 2), None, "in time");

    board.pod(Event::Apply(daemon("b", false)), start + GRACE * 2);
    assert_eq!(board.next(start + GRACE * 2), None);
    assert_eq!(keys(board.next(start + GRACE * 3)), Some((Some(vec![TAINT.into()]), false)));
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_daemon_never_was_ready_is_tainted_at_once() {
    let mut board = Board::new(marks());
    board.node(node("1", &[], None));
    board.pod(Event::Apply(daemon("a", false)), Instant::now());
    assert_eq!(keys(board.next(Instant::now())), Some((Some(vec![TAINT.into()]), false)));
    let mut board = Board::new(Marks { set: false, ..marks() });
    board.node(node("1", &[], None));
    board.pod(Event::Apply(daemon("a", false)), Instant::now());
    assert_eq!(board.next(Instant::now()), None, "setNodeTaints is false");
}

#[tokio::test(start_paused = true)]
async fn while_daemons_are_listed_anew_nodes_stay_as_they_are() {
    let mut board = Board::new(marks());
    board.node(node("1", &[], Some("CiliumIsUp")));
    board.pod(Event::Apply(daemon("a", true)), Instant::now());
    board.pod(Event::Init, Instant::now());
    board.node(node("2", &[], Some("CiliumIsUp")));
    assert_eq!(board.next(Instant::now() + GRACE * 2), None);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_failed_is_tried_again() {
    let mut board = Board::new(marks());
    board.node(node("1", &[TAINT], Some("CiliumIsUp")));
    board.pod(Event::Apply(daemon("a", true)), Instant::now());
    let write = keys(board.next(Instant::now()));
    board.written("n".into(), Err(kube::Error::LinesCodecMaxLineLengthExceeded));
    assert_eq!(board.next(Instant::now()), None);
    assert_eq!(keys(board.next(Instant::now() + Duration::from_secs(5))), write);
}
