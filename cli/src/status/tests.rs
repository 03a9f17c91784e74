use axoneme_admin::node::{Counts, Failure, MapUse, Progress, Stream};
use axoneme_admin::operator::Follower;
use axoneme_admin::{node, operator};

use super::facts::Facts;
use super::judge::judge;
use super::*;
use crate::cluster::Member;

fn member(pod: &str, on: &str) -> Member {
    Member { pod: pod.into(), node: on.into(), running: true, ready: true, ..Member::default() }
}

fn daemon(on: &str) -> (Member, Result<node::Status, String>) {
    let status = node::Status {
        node: on.into(),
        version: "0.1.0".into(),
        ready: true,
        stream: Stream { connected: true, ..Stream::default() },
        progress: Progress { received: 9, attempted: 9, ..Progress::default() },
        counts: Counts { endpoints: 2, ..Counts::default() },
        uptime_seconds: 61,
        ..node::Status::default()
    };
    (member(&format!("axoneme-{on}"), on), Ok(status))
}

fn operator(pod: &str, leads: bool) -> (Member, Result<operator::Status, String>) {
    let follower = |node: &str| Follower { node: node.into(), connected: true, ..Follower::default() };
    let nodes = if leads { ["n1", "n2"].map(follower).into() } else { Vec::new() };
    let status = operator::Status { version: "0.1.0".into(), ready: true, leads, nodes, ..Default::default() };
    (member(pod, "n1"), Ok(status))
}

fn good() -> Facts {
    Facts {
        namespace: "kube-system".into(),
        wanted: Some(2),
        daemons: vec![daemon("n1"), daemon("n2")],
        operators: vec![operator("operator-a", true), operator("operator-b", false)],
        holder: Some("operator-a_1".into()),
    }
}

fn change(change: impl FnOnce(&mut node::Status)) -> Vec<Problem> {
    let mut facts = good();
    change(facts.daemons[1].1.as_mut().unwrap());
    judge(facts).problems
}

/// The one problem, and whether it names all of this.
#[track_caller]
fn only(problems: &[Problem], level: Level, texts: &[&str]) {
    let [problem] = problems else { panic!("{problems:#?}") };
    assert_eq!(problem.level, level);
    let whole = format!("{} -> {}", problem.what, problem.advice);
    texts.iter().for_each(|text| assert!(whole.contains(text), "{text} is not in {whole}"));
}

#[test]
fn a_cluster_without_problems() {
    let overview = judge(good());
    assert_eq!((overview.healthy, &*overview.problems), (true, &[][..]));
    assert_eq!(
        render(&overview, false),
        "\
Axoneme    healthy
Operators  2 of 2 ready, operator-a leads
Nodes      2 of 2 ready, 2 follow the operator
Endpoints  4 attached, 0 waiting for their policy
Entries    0 not as desired

NODE  DAEMON  STREAM     REVISION  ENDPOINTS  FAILING  UP    RESTARTS
n1    ready   connected  9         2          0        1m1s  0
n2    ready   connected  9         2          0        1m1s  0
"
    );
}

#[test]
fn nothing_is_installed() {
    let overview = judge(Facts { namespace: "net".into(), ..Facts::default() });
    only(&overview.problems, Level::Bad, &["not installed in namespace net", "--namespace", "helm install"]);
    assert!(!overview.healthy);
    assert!(render(&overview, false).starts_with("Axoneme    not healthy\n\nbad   Axoneme is not installed"));
}

#[test]
fn operators_that_do_not_lead_do_not_answer_or_are_none() {
    let mut facts = good();
    facts.operators = vec![operator("operator-b", false)];
    only(
        &judge(facts).problems,
        Level::Bad,
        &["no operator serves the nodes (leader: operator-a_1 by the Lease)", "logs"],
    );

    let mut facts = good();
    facts.operators[1].1 = Err("pod operator-b does not run: ImagePullBackOff".into());
    only(&judge(facts).problems, Level::Bad, &["operator-b does not answer", "ImagePullBackOff", "logs operator-b"]);

    let facts = Facts { operators: Vec::new(), ..good() };
    only(&judge(facts).problems, Level::Bad, &["there is no operator", "describe deployment axoneme-operator"]);
}

#[test]
fn daemons_in_trouble() {
    let facts = Facts { wanted: Some(3), ..good() };
    only(&judge(facts).problems, Level::Bad, &["1 nodes have no daemon yet", "describe daemonset axoneme"]);

    let mut facts = good();
    facts.daemons[0].1 = Err("it crashes".into());
    facts.daemons[0].0.restarts = 3;
    only(&judge(facts).problems, Level::Bad, &["node n1 does not answer: it crashes", "logs axoneme-n1 --previous"]);

    let problems = change(|status| (status.ready, status.problems) = (false, vec!["node: no settings yet".into()]));
    only(&problems, Level::Bad, &["node n2 is not ready for pods: node: no settings yet", "logs axoneme-n2"]);

    let stream = Stream { error: "connection refused".into(), ..Stream::default() };
    let problems = change(|status| status.stream = stream);
    only(&problems, Level::Bad, &["node n2 has no operator: connection refused", "TCP port 4246"]);

    let mut facts = good();
    facts.operators.clear();
    for (_, status) in &mut facts.daemons {
        status.as_mut().unwrap().stream = Stream::default();
    }
    only(&judge(facts).problems, Level::Bad, &["there is no operator", "describe deployment"]);

    let failure = |code: &str| Failure {
        table: "service".into(),
        key: "shop/web".into(),
        code: code.into(),
        message: "map ax_services is full".into(),
        ..Failure::default()
    };
    let problems = change(|status| status.failures = vec![failure("capacity")]);
    only(
        &problems,
        Level::Bad,
        &["node n2: service shop/web is not applied: map ax_services is full", "raise its size"],
    );

    let problems = change(|status| status.maps = vec![MapUse { name: "ax_x".into(), entries: 95, capacity: 100 }]);
    only(&problems, Level::Warning, &["node n2: map ax_x has 95 of 100 entries"]);

    let problems = change(|status| status.version = "0.2.0".into());
    only(&problems, Level::Warning, &["several versions run: 0.1.0, 0.2.0", "axoneme version"]);
}

#[test]
fn of_many_nodes_with_the_same_trouble_a_few_are_named() {
    let mut facts = good();
    let silent = |number| (member("axoneme", &format!("n{number}")), Err("no route".to_owned()));
    facts.daemons = (0..1_000).map(silent).collect();
    facts.wanted = Some(1_000);
    let said: Vec<_> = judge(facts).problems.into_iter().map(|problem| problem.what).collect();
    assert_eq!(said.len(), 4, "{said:?}");
    assert_eq!(
        said[2..],
        ["the daemon of node n2 does not answer: no route", "no answer from the daemons of 997 more nodes"]
    );
}

#[test]
fn a_node_that_the_operator_misses() {
    let mut facts = good();
    facts.operators[0].1.as_mut().unwrap().nodes[1].connected = false;
    only(&judge(facts).problems, Level::Bad, &["node n2 does not follow the operator", "logs axoneme-n2"]);
}
