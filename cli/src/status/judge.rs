//! What is wrong, and what to do about it. Pure: facts in, an overview out.

use std::collections::{BTreeMap, BTreeSet};

use axoneme_admin::check::Level;
use axoneme_admin::{node, operator};

use super::facts::{Answer, Facts};
use super::{NodeState, OperatorState, Overview, Problem};

/// A map that is this full is worth a word, in percent.
const FULL: u64 = 90;
/// So many failing rows of a node are named, and so many nodes with the same trouble.
const NAMED: usize = 3;

/// Troubles that many nodes may have at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    Silent,
    NotReady,
    Pods,
    NoOperator,
    Unfollowing,
    Failing,
    Full,
}

impl Trouble {
    /// Of the nodes that are not named.
    fn of_more(self, nodes: usize) -> String {
        let nodes = if nodes == 1 { "1 more node".to_owned() } else { format!("{nodes} more nodes") };
        match self {
            Self::Silent => format!("no answer from the daemons of {nodes}"),
            Self::NotReady => format!("not ready for pods: {nodes}"),
            Self::Pods => format!("trouble with pods on {nodes}"),
            Self::NoOperator => format!("no operator for {nodes}"),
            Self::Unfollowing => format!("not following the operator: {nodes}"),
            Self::Failing => format!("entries that are not applied on {nodes}"),
            Self::Full => format!("maps that are nearly full on {nodes}"),
        }
    }
}

/// What is wrong with nodes, trouble by trouble: problems of the first ones, and how many more there are.
#[derive(Default)]
struct OfNodes(BTreeMap<Trouble, (Vec<Problem>, BTreeSet<String>)>);

impl OfNodes {
    fn push(&mut self, trouble: Trouble, node: &str, problem: Problem) {
        let (named, nodes) = self.0.entry(trouble).or_default();
        nodes.insert(node.to_owned());
        if nodes.len() <= NAMED {
            named.push(problem);
        }
    }

    fn problems(self) -> impl Iterator<Item = Problem> {
        self.0.into_iter().flat_map(|(trouble, (named, nodes))| {
            let more = nodes.len().saturating_sub(NAMED);
            let level = named.first().map_or(Level::Bad, |problem| problem.level);
            let advice = "see them all: axoneme node list".to_owned();
            let rest = (more > 0).then(|| Problem { level, what: trouble.of_more(more), advice });
            named.into_iter().chain(rest)
        })
    }
}

pub(super) fn judge(facts: Facts) -> Overview {
    let (mut problems, mut of_nodes) = (Vec::new(), OfNodes::default());
    let Facts { namespace, wanted, daemons, operators, holder } = facts;
    if wanted.is_none() && operators.is_empty() {
        let what = format!("Axoneme is not installed in namespace {namespace}");
        let advice =
            "say where it is with --namespace, or install it: helm install axoneme charts/axoneme -n kube-system";
        problems.push(bad(what, advice));
        return Overview { problems, ..Overview::default() };
    }
    let leading = operators.iter().find_map(|(member, status)| {
        let status = status.as_ref().ok().filter(|status| status.leads)?;
        Some((member.pod.clone(), &status.nodes))
    });
    of_operators(&namespace, &operators, leading.is_some(), holder.as_deref(), &mut problems);
    let followers = leading.iter().flat_map(|(_, nodes)| *nodes);
    for follower in followers.filter(|follower| !follower.connected) {
        of_follower(&namespace, &follower.node, &daemons, &mut of_nodes);
    }
    let missing = usize::try_from(wanted.unwrap_or(0)).unwrap_or(0).saturating_sub(daemons.len());
    if missing > 0 {
        let advice = format!("see why its pods are not made: kubectl -n {namespace} describe daemonset axoneme");
        problems.push(bad(format!("{missing} nodes have no daemon yet"), advice));
    }
    for daemon in &daemons {
        of_daemon(&namespace, daemon, leading.is_some(), &mut of_nodes);
    }
    problems.extend(of_nodes.problems());
    of_versions(&daemons, &operators, &mut problems);
    problems.sort_by_key(|problem| std::cmp::Reverse(problem.level));
    Overview {
        healthy: !problems.iter().any(|problem| problem.level == Level::Bad),
        leader: leading.map(|(pod, _)| pod),
        operators: operators.into_iter().map(operator_state).collect(),
        nodes: daemons.into_iter().map(node_state).collect(),
        problems,
    }
}

fn bad(what: impl Into<String>, advice: impl Into<String>) -> Problem {
    Problem { level: Level::Bad, what: what.into(), advice: advice.into() }
}

fn warning(what: impl Into<String>, advice: impl Into<String>) -> Problem {
    Problem { level: Level::Warning, what: what.into(), advice: advice.into() }
}

fn of_operators(
    namespace: &str,
    operators: &[Answer<operator::Status>],
    led: bool,
    holder: Option<&str>,
    problems: &mut Vec<Problem>,
) {
    let logs = |pod: &str| format!("kubectl -n {namespace} logs {pod}");
    if operators.is_empty() {
        let advice = format!("kubectl -n {namespace} describe deployment axoneme-operator");
        problems.push(bad("there is no operator: nothing new reaches the nodes; what runs goes on", advice));
    } else if !led {
        let who = holder.map_or_else(|| "nobody".to_owned(), |holder| format!("{holder} by the Lease"));
        let what = format!("no operator serves the nodes (leader: {who}); what runs goes on");
        problems.push(bad(what, format!("kubectl -n {namespace} logs -l app.kubernetes.io/name=axoneme-operator")));
    }
    for (member, status) in operators {
        match status {
            Err(error) => {
                problems.push(bad(format!("operator {} does not answer: {error}", member.pod), logs(&member.pod)))
            }
            Ok(status) if !status.ready => {
                problems.push(bad(format!("operator {}: {}", member.pod, status.phase), logs(&member.pod)));
            }
            Ok(_) => {}
        }
    }
}

/// The operator misses this node.
fn of_follower(namespace: &str, node: &str, daemons: &[Answer<node::Status>], of_nodes: &mut OfNodes) {
    let advice = match daemons.iter().find(|(member, _)| member.node == node) {
        Some((member, _)) => {
            format!("if the node is up, see what its daemon says: kubectl -n {namespace} logs {}", member.pod)
        }
        None => {
            format!("it has no daemon; if the node is up, see why: kubectl -n {namespace} describe daemonset axoneme")
        }
    };
    of_nodes.push(Trouble::Unfollowing, node, bad(format!("node {node} does not follow the operator"), advice));
}

fn of_daemon(namespace: &str, (member, status): &Answer<node::Status>, served: bool, of_nodes: &mut OfNodes) {
    let mut push = |trouble, problem| of_nodes.push(trouble, &member.node, problem);
    let node = &member.node;
    let logs = format!("kubectl -n {namespace} logs {}", member.pod);
    let status = match status {
        Ok(status) => status,
        Err(error) => {
            let advice = if member.restarts > 0 { format!("{logs} --previous") } else { logs };
            push(Trouble::Silent, bad(format!("the daemon of node {node} does not answer: {error}"), advice));
            return;
        }
    };
    if !status.ready {
        let said = status.problems.first().cloned().unwrap_or_else(|| "it is still starting".to_owned());
        push(Trouble::NotReady, bad(format!("node {node} is not ready for pods: {said}"), logs.clone()));
    } else if let Some(problem) = status.problems.iter().find(|line| !line.starts_with("operator:")) {
        let advice = format!("axoneme endpoint list --node {node} --differing; {logs}");
        push(Trouble::Pods, bad(format!("node {node}: {problem}"), advice));
    }
    // While nobody serves, that has been said, and on a thousand nodes it is not news on each.
    if !status.stream.connected && served {
        let advice = "the node must reach TCP port 4246 of the operators' nodes; what runs there goes on meanwhile";
        push(Trouble::NoOperator, bad(format!("node {node} has no operator: {}", status.stream.error), advice));
    }
    for failure in status.failures.iter().take(NAMED) {
        let advice = match failure.code.as_str() {
            "capacity" => "a map is full: see \"axoneme node list\", and raise its size in the chart's values",
            "unsupported" => "update the daemon of this node: the operator is newer",
            "dependency" => "it waits for another row and is tried again by itself",
            _ => &logs,
        };
        let what = format!("node {node}: {} {} is not applied: {}", failure.table, failure.key, failure.message);
        push(Trouble::Failing, bad(what, advice));
    }
    let full = status.maps.iter().filter(|map| u64::from(map.entries) * 100 >= u64::from(map.capacity) * FULL);
    for map in full {
        let what = format!("node {node}: map {} has {} of {} entries", map.name, map.entries, map.capacity);
        push(Trouble::Full, warning(what, "when it is full, what does not fit fails"));
    }
}

fn of_versions(daemons: &[Answer<node::Status>], operators: &[Answer<operator::Status>], problems: &mut Vec<Problem>) {
    let of_daemons = daemons.iter().filter_map(|(_, status)| Some(status.as_ref().ok()?.version.as_str()));
    let of_operators = operators.iter().filter_map(|(_, status)| Some(status.as_ref().ok()?.version.as_str()));
    let versions: BTreeSet<&str> = of_daemons.chain(of_operators).collect();
    if versions.len() > 1 {
        let all = versions.into_iter().collect::<Vec<_>>().join(", ");
        let advice = "fine while an update is under way; see \"axoneme version\"";
        problems.push(warning(format!("several versions run: {all}"), advice));
    }
}

fn operator_state((member, status): Answer<operator::Status>) -> OperatorState {
    let (status, error) = split(status);
    let crate::cluster::Member { pod, node, ready, restarts, image, .. } = member;
    OperatorState { pod, node, ready, restarts, image, status, error }
}

fn node_state((member, status): Answer<node::Status>) -> NodeState {
    let (status, error) = split(status);
    let crate::cluster::Member { pod, node, ready, restarts, image, .. } = member;
    NodeState { node, pod: Some(pod), ready, restarts, image, status, error }
}

fn split<T>(answer: Result<T, String>) -> (Option<T>, Option<String>) {
    match answer {
        Ok(status) => (Some(status), None),
        Err(error) => (None, Some(error)),
    }
}
